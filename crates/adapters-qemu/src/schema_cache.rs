//! The QMP schemas of QEMU binaries, cached across processes: a query takes 20 ms or more.

use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use maqet_adapters_linux::atomic_file::replace_unsynced;
use maqet_adapters_linux::private_file::private_folder;
use maqet_domain::port::Schemas;
use maqet_domain::qmp::Schema;
use maqet_domain::vm::ProcessIdentity;
use rustix::fs::OFlags;

/// The largest file that is read; one has about 35 KB.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The beginning of the first line; the number is that of the format.
const MAGIC: &str = "maqet-schema 1";

/// Schemas in a folder, with a file for each binary.
///
/// A file that is missing, corrupt, writable by other users or of another state of the binary is ignored and replaced.
#[derive(Debug)]
pub struct FileSchemas {
    folder: PathBuf,
}

/// The binary of a process, and its state.
struct Build {
    path: PathBuf,
    stamp: String,
}

impl Build {
    /// Identifies the binary of a process: the one that was started, whatever is at its path now.
    fn from_process(process: &ProcessIdentity) -> Option<Self> {
        let link = PathBuf::from(format!("/proc/{}/exe", process.pid));
        let path = fs::read_link(&link).ok()?;
        let found = fs::metadata(&link).ok()?;
        let stamp = format!(
            "{}:{} {} {}.{} {}.{}",
            found.dev(),
            found.ino(),
            found.size(),
            found.mtime(),
            found.mtime_nsec(),
            found.ctime(),
            found.ctime_nsec()
        );
        Some(Self { path, stamp })
    }
}

impl FileSchemas {
    /// Keeps schemas in `folder`, which the first one creates.
    pub const fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    fn file(&self, build: &Build) -> PathBuf {
        self.folder.join(format!("qmp-schema-{:016x}.txt", checksum(build.path.as_os_str().as_encoded_bytes())))
    }
}

impl Schemas for FileSchemas {
    fn get(&self, process: &ProcessIdentity) -> Option<Schema> {
        let build = Build::from_process(process)?;
        let content = read(&self.file(&build))?;
        let (head, text) = content.split_once('\n')?;
        (head == self::head(&build, text)).then(|| Schema::from_text(text.to_owned()).ok()).flatten()
    }

    fn put(&self, process: &ProcessIdentity, schema: &Schema) {
        let Some(build) = Build::from_process(process) else { return };
        let content = format!("{}\n{}", head(&build, schema.as_text()), schema.as_text());
        let written =
            private_folder(&self.folder).and_then(|()| replace_unsynced(&self.file(&build), content.as_bytes()));
        if let Err(error) = written {
            tracing::debug!(%error, "cannot cache the QMP schema");
        }
    }
}

/// Returns the first line of the file of a build.
fn head(build: &Build, text: &str) -> String {
    format!("{MAGIC} {:016x} {}", checksum(text.as_bytes()), build.stamp)
}

/// Reads a private file; symbolic links, pipes and files that others can write are ignored.
fn read(path: &Path) -> Option<String> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path).ok()?;
    let found = file.metadata().ok()?;
    let is_ours = found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o022 == 0;
    if !found.is_file() || !is_ours || found.size() > MAX_FILE_BYTES {
        return None;
    }
    let mut content = String::with_capacity(usize::try_from(found.size()).ok()? + 1);
    file.take(MAX_FILE_BYTES).read_to_string(&mut content).ok()?;
    Some(content)
}

/// A checksum (FNV-1a, but eight bytes at a time, since every command computes it).
fn checksum(bytes: &[u8]) -> u64 {
    const START: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let mix = |hash: u64, word: u64| (hash ^ word).wrapping_mul(PRIME).rotate_left(23);
    let (words, rest) = bytes.as_chunks::<8>();
    let whole = words.iter().fold(START, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    rest.iter().fold(whole, |hash, byte| mix(hash, u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use maqet_domain::vm::BootId;
    use serde_json::json;

    use super::*;

    fn schema(command: &str) -> Schema {
        let reply = json!([{"name": command, "meta-type": "command", "arg-type": "0", "ret-type": "0"},
            {"name": "0", "meta-type": "object", "members": []}]);
        Schema::from_reply(&reply).unwrap()
    }

    /// This process.
    fn own() -> ProcessIdentity {
        let boot_id = BootId("11111111-1111-4111-8111-111111111111".to_owned());
        ProcessIdentity { pid: std::process::id(), start_ticks: 1, boot_id }
    }

    fn only_file(folder: &Path) -> PathBuf {
        let files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        let [file] = files.as_slice() else { panic!("{files:?}") };
        file.clone()
    }

    #[test]
    fn test_put_writes_private_file() {
        let folder = tempfile::tempdir().unwrap();
        let schemas = FileSchemas::new(folder.path().join("cache"));

        let before = schemas.get(&own());
        schemas.put(&own(), &schema("query-status"));

        assert_eq!(before, None);
        assert_eq!(schemas.get(&own()), Some(schema("query-status")));
        let file = only_file(&folder.path().join("cache"));
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn test_get_corrupt_or_writable_file_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let schemas = FileSchemas::new(folder.path().to_owned());
        schemas.put(&own(), &schema("query-status"));
        let file = only_file(folder.path());
        let whole = fs::read_to_string(&file).unwrap();
        let broken = [
            String::new(),
            whole[..whole.len() - 1].to_owned(),
            whole.replace("query-status", "query-statux"),
            whole.replacen("maqet-schema 1", "maqet-schema 2", 1),
            // Of another state of the binary.
            whole.replacen(':', ":1", 1),
            "x".repeat(2 << 20),
        ];

        for content in broken {
            fs::write(&file, &content).unwrap();
            assert_eq!(schemas.get(&own()), None, "{}", &content[..content.len().min(200)]);
        }
        fs::write(&file, &whole).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(schemas.get(&own()), None);

        schemas.put(&own(), &schema("stop"));
        assert_eq!(schemas.get(&own()), Some(schema("stop")));
    }

    #[test]
    fn test_get_symbolic_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let schemas = FileSchemas::new(folder.path().to_owned());
        schemas.put(&own(), &schema("query-status"));
        let file = only_file(folder.path());
        let elsewhere = tempfile::tempdir().unwrap();
        let moved = elsewhere.path().join("moved");
        fs::rename(&file, &moved).unwrap();
        std::os::unix::fs::symlink(&moved, &file).unwrap();

        assert_eq!(schemas.get(&own()), None);
    }

    #[test]
    fn test_get_for_dead_process_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let schemas = FileSchemas::new(folder.path().to_owned());
        let gone = ProcessIdentity { pid: u32::MAX, ..own() };

        schemas.put(&gone, &schema("query-status"));

        assert_eq!(schemas.get(&gone), None);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
