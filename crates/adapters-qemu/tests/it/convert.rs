//! Creating images from the content of others.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use maqet_adapters_qemu::QemuImg;
use maqet_domain::port::{DiskImages, ImageError};
use tempfile::TempDir;

use crate::images::names_in;
use crate::kit::{environment, folder, script, wait, with_path};

/// The size of the variable store of Debian's `ovmf`: 528 KiB, not a round number.
const VARIABLES_BYTES: usize = 540_672;

fn template(folder: &TempDir, bytes: usize) -> PathBuf {
    let path = folder.path().join("a,b: vars.fd");
    let content: Vec<u8> = (0..=250).cycle().take(bytes).collect();
    std::fs::write(&path, content).unwrap();
    path
}

/// Compares the content of a raw and a qcow2 image as `qemu-img` does, sizes too.
fn is_same(raw: &Path, qcow2: &Path) -> bool {
    let compared =
        Command::new("qemu-img").args(["compare", "-s", "-f", "raw", "-F", "qcow2"]).args([raw, qcow2]).output();
    compared.unwrap().status.success()
}

#[test]
fn test_convert_variable_store_keeps_content_and_is_private() {
    wait(async {
        let folder = folder();
        let from = template(&folder, VARIABLES_BYTES);
        let to = folder.path().join("new/web/uefi-vars.qcow2");
        let images = QemuImg::new(environment());

        images.convert(&from, "raw", &to).await.unwrap();

        let info = images.info(&to).await.unwrap();
        assert_eq!((info.format.as_str(), info.virtual_size.bytes()), ("qcow2", VARIABLES_BYTES as u64));
        assert!(is_same(&from, &to));
        assert_eq!(std::fs::metadata(&to).unwrap().mode() & 0o777, 0o600);
        assert_eq!(names_in(to.parent().unwrap()), ["uefi-vars.qcow2"]);
    });
}

#[test]
fn test_convert_qcow2_template_is_read_as_qcow2() {
    wait(async {
        let folder = folder();
        let from = template(&folder, VARIABLES_BYTES);
        let (between, to) = (folder.path().join("between"), folder.path().join("to"));
        let images = QemuImg::new(environment());
        images.convert(&from, "raw", &between).await.unwrap();

        images.convert(&between, "qcow2", &to).await.unwrap();

        assert!(is_same(&from, &to));
    });
}

#[test]
fn test_convert_existing_image_is_kept() {
    wait(async {
        let folder = folder();
        let from = template(&folder, 512);
        let to = folder.path().join("vars.qcow2");
        std::fs::write(&to, "precious").unwrap();

        QemuImg::new(environment()).convert(&from, "raw", &to).await.unwrap();

        assert_eq!(std::fs::read(&to).unwrap(), b"precious");
    });
}

#[test]
fn test_convert_concurrently_creates_once() {
    wait(async {
        let folder = folder();
        let from = template(&folder, VARIABLES_BYTES);
        let to = folder.path().join("new/vars.qcow2");
        let images = QemuImg::new(environment());
        let convert = || images.convert(&from, "raw", &to);

        let made = tokio::join!(convert(), convert(), convert());

        made.0.and(made.1).and(made.2).unwrap();
        assert!(is_same(&from, &to));
        assert_eq!(names_in(to.parent().unwrap()), ["vars.qcow2"]);
    });
}

#[test]
fn test_convert_missing_template_fails_and_creates_nothing() {
    wait(async {
        let folder = folder();
        let from = folder.path().join("vars.fd");

        let refused = QemuImg::new(environment()).convert(&from, "raw", &folder.path().join("new/to")).await;

        assert!(matches!(&refused, Err(ImageError::NotFound { path }) if *path == from), "{refused:?}");
        assert_eq!(names_in(folder.path()), [""; 0]);
    });
}

#[test]
fn test_convert_refused_by_tool_shows_message_leaves_no_file() {
    wait(async {
        let folder = folder();
        let from = template(&folder, 512);
        let to = folder.path().join("new/to.qcow2");

        let refused = QemuImg::new(environment()).convert(&from, "qcow2", &to).await.unwrap_err();

        let ImageError::Refused { stderr, path, .. } = refused else { panic!("{refused:?}") };
        assert_eq!(path, to);
        assert!(stderr.contains("qcow2") && !stderr.contains(".partial"), "{stderr}");
        assert_eq!(names_in(to.parent().unwrap()), [""; 0]);
    });
}

#[test]
fn test_convert_on_full_disk_is_reported_and_leaves_nothing() {
    wait(async {
        let (tools, folder) = (folder(), folder());
        let from = template(&folder, 512);
        let to = folder.path().join("new/to.qcow2");
        script(tools.path(), "qemu-img", "echo 'qemu-img: error while writing: No space left on device' >&2; exit 1");
        let images = QemuImg::new(with_path(&format!("{}:/bin", tools.path().display())));

        let refused = images.convert(&from, "raw", &to).await;

        assert!(matches!(&refused, Err(ImageError::Full { path }) if *path == to), "{refused:?}");
        assert_eq!(names_in(to.parent().unwrap()), [""; 0]);
    });
}
