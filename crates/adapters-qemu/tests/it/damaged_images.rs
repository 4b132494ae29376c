//! Images that QEMU could not open, as `qemu-img` made them and then damaged: each is recognized by its header.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use maqet_adapters_qemu::QemuImg;
use maqet_domain::error::Explain;
use maqet_domain::port::{DiskImages, ImageError, ImageSummary, ImageUse};
use maqet_domain::size::ByteSize;
use maqet_domain::storage::{ImageAccess, ImageProblem};
use tempfile::TempDir;

use crate::kit::{environment, folder, wait};

fn qemu_img(folder: &Path, arguments: &[&str]) {
    let output = Command::new("qemu-img").args(arguments).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Creates an image of 64 MiB in which 40 MiB hold data.
fn filled(folder: &TempDir, name: &str) -> PathBuf {
    fs::write(folder.path().join("data.raw"), vec![7; 40 << 20]).unwrap();
    qemu_img(folder.path(), &["convert", "-f", "raw", "-O", "qcow2", "data.raw", name]);
    qemu_img(folder.path(), &["resize", "-q", name, "64M"]);
    folder.path().join(name)
}

fn empty(folder: &TempDir, name: &str) -> PathBuf {
    qemu_img(folder.path(), &["create", "-q", "-f", "qcow2", name, "64M"]);
    folder.path().join(name)
}

fn overlay(folder: &TempDir, name: &str, backing: &str, format: &str) -> PathBuf {
    qemu_img(folder.path(), &["create", "-q", "-f", "qcow2", "-u", "-b", backing, "-F", format, name, "64M"]);
    folder.path().join(name)
}

fn patch(path: &Path, offset: u64, bytes: &[u8]) {
    OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
}

fn truncate(path: &Path, bytes: u64) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(bytes).unwrap();
}

fn examine_as(path: &Path, format: &str, access: ImageAccess) -> Result<ImageSummary, ImageError> {
    let image = ImageUse { path: path.to_owned(), format: Some(format.to_owned()), access };
    wait(QemuImg::new(environment()).examine(&image))
}

fn examine(path: &Path) -> Result<ImageSummary, ImageError> {
    examine_as(path, "qcow2", ImageAccess::Write)
}

#[track_caller]
fn problem(examined: Result<ImageSummary, ImageError>) -> ImageProblem {
    match examined {
        Err(ImageError::Unusable(unusable)) => unusable.problem,
        other => panic!("{other:?}"),
    }
}

#[test]
fn test_examine_good_images_have_no_problem() {
    let folder = folder();
    let full = filled(&folder, "full.qcow2");
    let over = overlay(&folder, "over.qcow2", "full.qcow2", "qcow2");
    qemu_img(folder.path(), &["create", "-q", "-f", "qcow2", "-o", "compat=0.10", "old.qcow2", "64M"]);
    qemu_img(folder.path(), &["create", "-q", "-f", "qcow2", "-o", "preallocation=metadata", "allocated.qcow2", "64M"]);
    qemu_img(
        folder.path(),
        &["create", "-q", "-f", "qcow2", "-o", "extended_l2=on,cluster_size=128k", "l2.qcow2", "64M"],
    );
    qemu_img(folder.path(), &["convert", "-c", "-f", "raw", "-O", "qcow2", "data.raw", "compressed.qcow2"]);
    qemu_img(folder.path(), &["create", "-q", "-f", "qcow2", "-o", "data_file=other.raw", "beside.qcow2", "64M"]);
    qemu_img(folder.path(), &["snapshot", "-c", "first", "full.qcow2"]);

    let summary = examine(&over).unwrap();

    let size = Some(ByteSize::from_mib(64));
    assert_eq!((summary.virtual_size, summary.backing), (size, Some(full.clone())));
    for name in ["old", "allocated", "l2", "beside", "full"] {
        let summary = examine(&folder.path().join(name).with_extension("qcow2")).unwrap();
        let has_data_file = name == "beside";
        assert_eq!(summary, ImageSummary { virtual_size: size, has_data_file, ..ImageSummary::default() }, "{name}");
    }
    assert!(examine(&folder.path().join("compressed.qcow2")).is_ok());
    let raw = examine_as(&folder.path().join("data.raw"), "raw", ImageAccess::Write).unwrap();
    assert_eq!((raw.virtual_size, raw.resembles), (Some(ByteSize::from_mib(40)), None));
    let mistaken = examine_as(&full, "raw", ImageAccess::Write).unwrap();
    assert_eq!(mistaken.resembles, Some("qcow2"));
}

#[test]
fn test_examine_image_of_another_format_names_the_formats() {
    let folder = folder();
    let image = folder.path().join("disk");
    for (start, format, found) in [
        (&b"\0"[..], "vdi", None),
        (b"\0", "vhdx", None),
        (b"KDMV", "vhdx", Some("vmdk")),
        (b"WithoutFreeSpace", "vmdk", Some("parallels")),
        (b"QFI\xfb\0\0\0\x01", "qcow2", Some("qcow")),
    ] {
        fs::write(&image, [start, &[0; 1024]].concat()).unwrap();

        let expected = format.to_owned();
        assert_eq!(
            problem(examine_as(&image, format, ImageAccess::Read)),
            ImageProblem::Format { expected, found },
            "{format}"
        );
    }
}

#[test]
fn test_examine_missing_image_names_missing_directory() {
    let folder = folder();
    let image = folder.path().join("volume/vms/a.qcow2");

    let without_volume = problem(examine(&image));
    fs::create_dir_all(image.parent().unwrap()).unwrap();
    let without_image = problem(examine(&image));

    assert_eq!(without_volume, ImageProblem::NotFound { directory: Some(folder.path().join("volume")) });
    assert_eq!(without_image, ImageProblem::NotFound { directory: None });
    assert_eq!(problem(examine(folder.path())), ImageProblem::IsDirectory);
}

#[test]
fn test_examine_missing_backing_file_offers_rebase() {
    let folder = folder();
    let base = empty(&folder, "base.qcow2");
    overlay(&folder, "middle.qcow2", "base.qcow2", "qcow2");
    let over = overlay(&folder, "over.qcow2", "middle.qcow2", "qcow2");
    fs::rename(&base, folder.path().join("moved.qcow2")).unwrap();

    let error = examine(&over).unwrap_err();

    let explained = error.explain();
    assert_eq!(explained.code, "storage.backing-not-found");
    let middle = folder.path().join("middle.qcow2");
    let message = format!("backing file `{}` of `{}` not found", base.display(), middle.display());
    assert_eq!(error.to_string(), message);
    let hint = format!("qemu-img rebase -u -b NEW_PATH -F FORMAT {}", middle.display());
    assert!(explained.hints[0].contains(&hint), "{explained:?}");
    qemu_img(folder.path(), &["rebase", "-u", "-b", "moved.qcow2", "-F", "qcow2", "middle.qcow2"]);
    assert!(examine(&over).is_ok());
}

#[test]
fn test_examine_other_references_of_image_are_checked() {
    let folder = folder();
    qemu_img(folder.path(), &["create", "-q", "-f", "qcow2", "-o", "data_file=other.raw", "beside.qcow2", "64M"]);
    let other = folder.path().join("other.raw");
    fs::remove_file(&other).unwrap();
    fs::write(folder.path().join("base.raw"), vec![0; 1 << 20]).unwrap();
    let wrong = overlay(&folder, "wrong.qcow2", "base.raw", "qcow2");
    let right = overlay(&folder, "right.qcow2", "base.raw", "raw");
    let remote = overlay(&folder, "remote.qcow2", "nbd://127.0.0.1:1/x", "raw");
    let circle = overlay(&folder, "circle.qcow2", "ring.qcow2", "qcow2");
    overlay(&folder, "ring.qcow2", "circle.qcow2", "qcow2");

    let beside = problem(examine(&folder.path().join("beside.qcow2")));

    assert_eq!(beside, ImageProblem::DataFileNotFound { path: other });
    let expected = "qcow2".to_owned();
    assert_eq!(problem(examine(&wrong)), ImageProblem::Format { expected, found: None });
    assert!(examine(&right).is_ok() && examine(&remote).is_ok());
    assert_eq!(problem(examine(&circle)), ImageProblem::BackingLoop);
}

#[test]
fn test_examine_flags_of_header_decide_by_access() {
    let folder = folder();
    let (corrupt, dirty) = (empty(&folder, "corrupt.qcow2"), empty(&folder, "dirty.qcow2"));
    patch(&corrupt, 79, &[2]);
    patch(&dirty, 79, &[1]);

    assert_eq!(problem(examine(&corrupt)), ImageProblem::Corrupt);
    assert!(examine_as(&corrupt, "qcow2", ImageAccess::Read).unwrap().is_corrupt);
    let over = overlay(&folder, "over.qcow2", "corrupt.qcow2", "qcow2");
    assert!(examine(&over).is_ok(), "QEMU opens backing files for reading");
    assert!(examine(&dirty).unwrap().is_dirty);
    qemu_img(folder.path(), &["check", "-q", "-r", "all", "corrupt.qcow2"]);
    assert!(!examine(&corrupt).unwrap().is_corrupt);
}

#[test]
fn test_examine_wrong_format_names_the_one_found() {
    let folder = folder();
    let format = |found| ImageProblem::Format { expected: "qcow2".to_owned(), found };
    for kind in ["vmdk", "vdi", "vhdx", "qed"] {
        qemu_img(folder.path(), &["create", "-q", "-f", kind, kind, "1M"]);
        assert_eq!(problem(examine(&folder.path().join(kind))), format(Some(kind)));
    }
    let (zeros, nothing) = (folder.path().join("zeros"), folder.path().join("nothing"));
    fs::write(&zeros, vec![0; 1 << 20]).unwrap();
    File::create(&nothing).unwrap();
    let newer = empty(&folder, "newer.qcow2");
    patch(&newer, 7, &[9]);

    assert_eq!([problem(examine(&zeros)), problem(examine(&nothing))], [format(None), format(None)]);
    assert_eq!(problem(examine(&newer)), ImageProblem::Unsupported);
}

#[test]
fn test_examine_encrypted_image_is_unsupported() {
    let folder = folder();
    let secret =
        ["--object", "secret,id=s,data=abc", "-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10"];
    let create = [&["create", "-q", "-f", "qcow2"][..], &secret, &["secret.qcow2", "1M"]].concat();
    // On a busy host, `qemu-img` may fail to measure how fast the key is derived.
    maqet_testkit::wait::until(Duration::from_mins(1), "an encrypted image", || {
        let output = Command::new("qemu-img").args(&create).current_dir(folder.path()).output().unwrap();
        output.status.success().then_some(())
    });

    assert_eq!(problem(examine(&folder.path().join("secret.qcow2"))), ImageProblem::Encrypted);
}

#[test]
fn test_examine_truncated_image_is_found_at_every_length() {
    let folder = folder();
    let image = filled(&folder, "full.qcow2");
    let whole = fs::read(&image).unwrap();

    for length in [8, 80, 70_000, 140_000, 300_000, 5 << 20, whole.len() as u64 - 70_000] {
        truncate(&image, length);
        let found = problem(examine(&image));
        match found {
            ImageProblem::HeaderTruncated => assert!(length < 100, "{length}"),
            ImageProblem::Truncated { bytes, needed } => {
                assert!(bytes == length && needed > length && needed <= 64 << 20, "{found:?}");
            }
            other => panic!("{length}: {other:?}"),
        }
        fs::write(&image, &whole).unwrap();
    }
    assert!(examine(&image).is_ok());
    truncate(&image, 5 << 20);
    let Err(ImageError::Unusable(unusable)) = examine(&image) else { panic!() };
    let ImageProblem::Truncated { needed, .. } = unusable.problem else { panic!() };
    truncate(&image, needed);
    assert!(examine(&image).is_ok(), "the hint's `truncate` helps");
}

#[test]
fn test_examine_cluster_counted_behind_the_end_is_no_damage() {
    let folder = folder();
    let image = filled(&folder, "full.qcow2");
    let clusters = fs::metadata(&image).unwrap().len().div_ceil(1 << 16);
    let number_at = |offset: u64| {
        let mut bytes = [0; 8];
        File::open(&image).unwrap().read_exact_at(&mut bytes, offset).unwrap();
        u64::from_be_bytes(bytes)
    };
    let block = number_at(number_at(48));

    // QEMU counted a cluster, and was killed before it wrote it.
    patch(&image, block + (clusters + 1) * 2, &[0, 1]);

    assert!(examine(&image).is_ok());
}

#[test]
fn test_require_unlocked_follows_locks_of_qemu() {
    let folder = folder();
    empty(&folder, "base.qcow2");
    let over = overlay(&folder, "over.qcow2", "base.qcow2", "qcow2");
    let second = overlay(&folder, "second.qcow2", "base.qcow2", "qcow2");
    let images = QemuImg::new(environment());
    let locked = |path: &Path, access| {
        let image = ImageUse { path: path.to_owned(), format: Some("qcow2".to_owned()), access };
        match wait(images.require_unlocked(&image)) {
            Ok(()) => None,
            Err(ImageError::InUse { path, by }) => Some((path, by.unwrap().pid)),
            Err(other) => panic!("{other}"),
        }
    };
    let base = folder.path().join("base.qcow2");
    assert_eq!(locked(&over, ImageAccess::Write), None);

    let mut qemu = Command::new("qemu-system-x86_64")
        .args(["-machine", "none", "-accel", "tcg", "-display", "none", "-S", "-monitor", "stdio", "-blockdev"])
        .arg(format!("driver=qcow2,node-name=a,file.driver=file,file.filename={}", over.display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = Some(qemu.id());
    let mut prompt = [0; 4];
    std::io::Read::read_exact(qemu.stdout.as_mut().unwrap(), &mut prompt).unwrap();
    let found = [
        locked(&over, ImageAccess::Write),
        locked(&over, ImageAccess::Read),
        locked(&base, ImageAccess::Write),
        locked(&base, ImageAccess::Read),
        locked(&second, ImageAccess::Write),
    ];
    qemu.kill().unwrap();
    qemu.wait().unwrap();

    let in_use = |path: &PathBuf| pid.map(|pid| (path.clone(), pid));
    assert_eq!(found, [in_use(&over), in_use(&over), in_use(&base), None, None]);
    assert_eq!(locked(&over, ImageAccess::Write), None);
}
