use std::os::unix::fs::MetadataExt;

use maqet_domain::checkpoint::{
    CheckpointMethod, CheckpointQemu, CheckpointVm, MANIFEST_FORMAT, MemoryFile, RAM_FILE, STATE_FILE, StateFile,
};
use maqet_domain::config::Node;
use maqet_domain::vm::RunPaths;

use super::*;

const MIB: usize = 1 << 20;

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn name(text: &str) -> CheckpointName {
    CheckpointName::parse(text).unwrap()
}

/// A stream of a machine with 2 MiB of memory; `pages` are its pages that are not zeros, each with its content.
fn stream(pages: &[(u64, u8)]) -> Vec<u8> {
    let mut stream = [b"QEVM".as_slice(), &[0, 0, 0, 3, 7, 0, 0, 0, 2], b"pc"].concat();
    let mut put = |bytes: &[&[u8]]| stream.extend(bytes.concat());
    let size = (2 * MIB) as u64;
    put(&[&[1, 0, 0, 0, 2, 3], b"ram", &[0; 4], &[0, 0, 0, 4], &(size | 4).to_be_bytes()]);
    put(&[&[6], b"pc.ram", &size.to_be_bytes(), &16_u64.to_be_bytes(), &[0x7e, 0, 0, 0, 2]]);
    put(&[&[2, 0, 0, 0, 2]]);
    for page in 0..512 {
        put(&[&((page * 4096) | 2_u64).to_be_bytes(), &[6], b"pc.ram", &[0]]);
    }
    for (page, fill) in pages {
        put(&[&((page * 4096) | 0x28).to_be_bytes(), &[*fill; 4096]]);
    }
    let description = br#"{"devices": [{"name": "cpu", "instance_id": 0}]}"#;
    let length = u32::try_from(description.len()).unwrap().to_be_bytes();
    put(&[
        &16_u64.to_be_bytes(),
        &[0x7e, 0, 0, 0, 2],
        &[4, 0, 0, 0, 3, 3],
        b"cpu",
        &[0; 4],
        &[0, 0, 0, 1],
        b"registers",
    ]);
    put(&[&[0, 6], &length, description]);
    stream
}

struct Checkpoint {
    folder: tempfile::TempDir,
    unfinished: UnfinishedCheckpoint,
}

impl Checkpoint {
    fn begin() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let unfinished = wait(LocalCheckpoints.begin(&folder.path().join("vm"), &name("booted"))).unwrap();
        Self { folder, unfinished }
    }

    fn taken_apart(pages: &[(u64, u8)]) -> (Self, TakenApart) {
        let checkpoint = Self::begin();
        fs::write(&checkpoint.unfinished.stream, stream(pages)).unwrap();
        let taken = wait(LocalCheckpoints.take_apart(&checkpoint.unfinished.directory, "pc.ram", &|_| {})).unwrap();
        (checkpoint, taken)
    }

    fn vm(&self) -> PathBuf {
        self.folder.path().join("vm")
    }

    fn publish(&self, taken: TakenApart) -> Result<PathBuf, CheckpointFileError> {
        let manifest = manifest(taken.ram, taken.state);
        wait(LocalCheckpoints.publish(&self.unfinished.directory, &manifest, true))
    }

    fn found(&self) -> FoundCheckpoint {
        wait(LocalCheckpoints.list(&self.vm())).unwrap().checkpoints.remove(0)
    }
}

fn manifest(ram: MemoryFile, state: StateFile) -> CheckpointManifest {
    CheckpointManifest {
        format: MANIFEST_FORMAT,
        name: name("booted"),
        description: None,
        taken_at: jiff::Timestamp::UNIX_EPOCH,
        vm: CheckpointVm { id: "0d9f2ac3-58b1-4c3e-9a5e-2f1f6f0f7a11".parse().unwrap(), name: "web".parse().unwrap() },
        definition: Node::empty_map(),
        qemu: CheckpointQemu {
            binary: "/usr/bin/qemu-system-x86_64".into(),
            version: "7.2.22".parse().unwrap(),
            package: String::new(),
            arguments: Vec::new(),
            paths: RunPaths { sockets: "/r".into(), records: "/s".into() },
            accelerator: "tcg".to_owned(),
            machine_type: "pc".to_owned(),
            host_cpu_flags: None,
        },
        ram,
        state,
        disks: Vec::new(),
        uefi_variables: None,
        method: CheckpointMethod::StopAndSave,
        reason: String::new(),
        pause_ms: 0,
        has_generation_id: false,
        added_devices: Vec::new(),
        is_temporary: false,
        template: None,
        parent: None,
    }
}

fn check(checkpoint: &FoundCheckpoint, is_thorough: bool) -> Result<(), String> {
    wait(LocalCheckpoints.check(checkpoint, is_thorough, &|_| {})).map_err(|error| error.to_string())
}

/// Makes a file writable, as only a person does.
fn writable(path: &Path) -> File {
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    OpenOptions::new().write(true).open(path).unwrap()
}

#[test]
fn test_memory_is_sparse_and_the_rest_is_a_stream() {
    let (checkpoint, taken) = Checkpoint::taken_apart(&[(3, 7), (4, 8), (300, 9)]);

    let ram = fs::read(checkpoint.unfinished.directory.join(RAM_FILE)).unwrap();
    let page = |page: usize| &ram[page * 4096..][..4096];
    assert_eq!((page(3), page(4), page(300)), (&[7; 4096][..], &[8; 4096][..], &[9; 4096][..]));
    assert_eq!(ram.iter().filter(|byte| **byte != 0).count(), 3 * 4096);
    assert_eq!((taken.ram.bytes, taken.ram.used_bytes), (2 * MIB as u64, 3 * 4096));
    let found = fs::metadata(checkpoint.unfinished.directory.join(RAM_FILE)).unwrap();
    assert!(found.blocks() * 512 < MIB as u64 && found.mode() & 0o777 == 0o600, "{found:?}");
    let state = fs::read(checkpoint.unfinished.directory.join(STATE_FILE)).unwrap();
    assert_eq!(state.len() as u64, taken.state.bytes);
    assert_eq!(taken.state.crc32, crc32fast::hash(&state));
    // Without its pages and their headers.
    assert_eq!(state.len(), stream(&[]).len() - 512 * 16);
}

#[test]
fn test_page_that_is_sent_again_has_its_last_content() {
    let (checkpoint, taken) = Checkpoint::taken_apart(&[(3, 7), (4, 8), (3, 9), (5, 5), (4, 0), (6, 0)]);

    let ram = fs::read(checkpoint.unfinished.directory.join(RAM_FILE)).unwrap();
    let firsts: Vec<u8> = (2..8).map(|page| ram[page * 4096 + 4095]).collect();
    assert_eq!(firsts, [0, 9, 0, 5, 0, 0]);
    assert_eq!(taken.ram.used_bytes, 2 * 4096);
    let (_, other) = Checkpoint::taken_apart(&[(5, 5), (3, 9)]);
    assert_eq!(taken.ram.crc32, other.ram.crc32);
}

#[test]
fn test_taking_apart_again_replaces_what_was_left() {
    let (checkpoint, first) = Checkpoint::taken_apart(&[(3, 7)]);

    let again = wait(LocalCheckpoints.take_apart(&checkpoint.unfinished.directory, "pc.ram", &|_| {})).unwrap();

    assert_eq!((again.ram.crc32, again.state), (first.ram.crc32, first.state));
}

#[test]
fn test_truncated_stream_is_refused() {
    let checkpoint = Checkpoint::begin();
    let whole = stream(&[(3, 7)]);
    fs::write(&checkpoint.unfinished.stream, &whole[..whole.len() - 1]).unwrap();

    let error = wait(LocalCheckpoints.take_apart(&checkpoint.unfinished.directory, "pc.ram", &|_| {})).unwrap_err();

    assert!(matches!(error, CheckpointFileError::Stream(_)), "{error}");
}

#[test]
fn test_checkpoint_is_listed_once_it_is_published() {
    let (checkpoint, taken) = Checkpoint::taken_apart(&[(3, 7)]);
    let before = wait(LocalCheckpoints.list(&checkpoint.vm())).unwrap();

    let published = checkpoint.publish(taken).unwrap();

    assert_eq!(before.unfinished, [checkpoint.vm().join("booted.partial")]);
    let after = wait(LocalCheckpoints.list(&checkpoint.vm())).unwrap();
    assert_eq!((after.checkpoints.len(), after.unusable, after.unfinished), (1, vec![], vec![]));
    assert_eq!(published, checkpoint.vm().join("booted"));
    let mut files: Vec<_> = entries(&published).unwrap().unwrap().map(|entry| entry.file_name()).collect();
    files.sort();
    assert_eq!(files, [MANIFEST_FILE, RAM_FILE, STATE_FILE]);
    assert_eq!(wait(LocalCheckpoints.vms(checkpoint.folder.path())).unwrap(), ["vm"]);
}

#[test]
fn test_publish_that_was_killed_before_the_rename_is_repeated() {
    let (checkpoint, taken) = Checkpoint::taken_apart(&[(3, 7)]);
    let published = checkpoint.publish(taken.clone()).unwrap();
    let unfinished = checkpoint.vm().join("booted.partial");
    fs::rename(&published, &unfinished).unwrap();

    let again = wait(LocalCheckpoints.take_apart(&unfinished, "pc.ram", &|_| {})).unwrap();

    assert_eq!(again, taken);
    assert_eq!(checkpoint.publish(taken).unwrap(), published);
    assert_eq!(check(&checkpoint.found(), true), Ok(()));
}

#[test]
fn test_name_in_use_is_refused() {
    let (checkpoint, taken) = Checkpoint::taken_apart(&[]);
    let begin = || wait(LocalCheckpoints.begin(&checkpoint.vm(), &name("booted")));

    assert!(matches!(begin().unwrap_err(), CheckpointFileError::Exists { .. }));
    checkpoint.publish(taken).unwrap();
    assert!(matches!(begin().unwrap_err(), CheckpointFileError::Exists { .. }));
    fs::create_dir(checkpoint.vm().join("booted.partial")).unwrap();
    let manifest = checkpoint.found().manifest;
    let again = wait(LocalCheckpoints.publish(&checkpoint.vm().join("booted.partial"), &manifest, false));
    assert!(matches!(again.unwrap_err(), CheckpointFileError::Exists { .. }));
}

#[test]
fn test_check_finds_every_changed_file() {
    let (checkpoint, taken) = Checkpoint::taken_apart(&[(3, 7), (400, 8)]);
    let directory = checkpoint.publish(taken).unwrap();
    let found = checkpoint.found();
    let (ram, state) = (directory.join(RAM_FILE), directory.join(STATE_FILE));
    assert_eq!((check(&found, false), check(&found, true)), (Ok(()), Ok(())));

    // Restored from an archive: another time, and the same content.
    let time = |at: std::time::SystemTime| writable(&ram).set_modified(at).unwrap();
    let then = fs::metadata(&ram).unwrap().modified().unwrap();
    time(std::time::UNIX_EPOCH);
    assert_eq!(check(&found, false), Ok(()));
    rustix::io::pwrite(writable(&ram), b"x", 400 * 4096).unwrap();
    assert_eq!(
        check(&found, false),
        Err("checkpoint `booted` is damaged: the content of `ram` has changed".to_owned())
    );
    // Not noticed before it is read, as the time says that nothing was written.
    time(then);
    assert_eq!(check(&found, false), Ok(()));
    assert!(check(&found, true).is_err());
    writable(&ram).set_len(MIB as u64).unwrap();
    time(then);
    assert!(check(&found, false).is_err());

    rustix::io::pwrite(writable(&state), b"x", 30).unwrap();
    assert_eq!(
        check(&found, false),
        Err("checkpoint `booted` is damaged: the content of `state` has changed".to_owned())
    );
    fs::remove_file(&state).unwrap();
    assert_eq!(check(&found, false), Err("checkpoint `booted` is damaged: `state` is missing".to_owned()));
}

#[test]
fn test_copy_is_checked_with_the_checkpoint() {
    let (checkpoint, taken) = Checkpoint::taken_apart(&[]);
    let original = checkpoint.folder.path().join("vars.fd");
    fs::write(&original, b"variables").unwrap();
    let directory = checkpoint.unfinished.directory.clone();

    let copy = wait(LocalCheckpoints.copy(&directory, &original, "raw", "uefi-vars")).unwrap();
    let mut manifest = manifest(taken.ram, taken.state);
    manifest.uefi_variables = Some(copy);
    let directory = wait(LocalCheckpoints.publish(&directory, &manifest, false)).unwrap();

    assert_eq!(check(&checkpoint.found(), false), Ok(()));
    rustix::io::pwrite(writable(&directory.join("uefi-vars")), b"x", 3).unwrap();
    assert!(check(&checkpoint.found(), false).is_err());
}

#[test]
fn test_removed_checkpoint_leaves_nothing() {
    let (checkpoint, taken) = Checkpoint::taken_apart(&[(3, 7)]);
    let directory = checkpoint.publish(taken).unwrap();

    wait(LocalCheckpoints.remove(&directory)).unwrap();
    wait(LocalCheckpoints.remove(&directory)).unwrap();

    assert!(!checkpoint.vm().exists());
    // One that was killed while it removed.
    let left = checkpoint.vm().join(".booted.removed");
    fs::create_dir_all(&left).unwrap();
    assert_eq!(wait(LocalCheckpoints.list(&checkpoint.vm())).unwrap().unfinished, std::slice::from_ref(&left));
    wait(LocalCheckpoints.remove(&left)).unwrap();
    assert!(!checkpoint.vm().exists());
}

#[test]
fn test_directory_without_manifest_is_unfinished() {
    let (checkpoint, taken) = Checkpoint::taken_apart(&[]);
    let directory = checkpoint.publish(taken).unwrap();

    fs::write(directory.join(MANIFEST_FILE), b"{").unwrap();
    let damaged = wait(LocalCheckpoints.list(&checkpoint.vm())).unwrap();
    fs::remove_file(directory.join(MANIFEST_FILE)).unwrap();
    let unfinished = wait(LocalCheckpoints.list(&checkpoint.vm())).unwrap();

    assert!(matches!(damaged.unusable.as_slice(), [(_, CheckpointProblem::Damaged { .. })]));
    assert_eq!(unfinished.unfinished, [directory]);
}
