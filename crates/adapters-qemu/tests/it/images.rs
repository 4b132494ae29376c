//! Creating and reading real images.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use maqet_adapters_qemu::QemuImg;
use maqet_domain::port::{DiskImages, ImageError};
use maqet_domain::size::ByteSize;
use maqet_domain::storage::{Backing, ImagePlan};

use crate::kit::{environment, folder, script, wait, with_path};

pub(crate) fn qcow2(path: PathBuf) -> ImagePlan {
    ImagePlan { path, format: "qcow2".to_owned(), size: Some(ByteSize::from_mib(1)), backing: None }
}

pub(crate) fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into()).collect();
    names.sort();
    names
}

#[test]
fn test_create_image_is_private_in_a_private_folder() {
    wait(async {
        let folder = folder();
        let path = folder.path().join("a/b/disk.qcow2");
        let images = QemuImg::new(environment());

        images.create(&qcow2(path.clone())).await.unwrap();

        let info = images.info(&path).await.unwrap();
        assert_eq!((info.format.as_str(), info.virtual_size), ("qcow2", ByteSize::from_mib(1)));
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
        assert_eq!(names_in(path.parent().unwrap()), ["disk.qcow2"]);
    });
}

#[test]
fn test_create_names_with_special_characters_work() {
    wait(async {
        let folder = folder();
        let images = QemuImg::new(environment());
        let odd: [&[u8]; 9] =
            [b"a,b", b"a:b", b"json:{}", b"a'\"b", b"a b", "ü".as_bytes(), b"-x", b"file,readonly=on", b"\xff"];
        for name in odd {
            let base = folder.path().join(OsStr::from_bytes(name));
            let overlay = base.with_extension("over");
            let backing = Backing { file: base.clone(), format: None };

            images.create(&qcow2(base.clone())).await.unwrap();
            let over = ImagePlan { size: None, backing: Some(backing), ..qcow2(overlay.clone()) };
            if std::str::from_utf8(name).is_ok() {
                images.create(&over).await.unwrap();
                assert_eq!(images.info(&overlay).await.unwrap().virtual_size, ByteSize::from_mib(1), "{name:?}");
            }
            assert_eq!(images.info(&base).await.unwrap().format, "qcow2", "{name:?}");
        }
    });
}

#[test]
fn test_create_existing_image_is_kept() {
    wait(async {
        let folder = folder();
        let path = folder.path().join("disk.qcow2");
        std::fs::write(&path, "precious").unwrap();

        QemuImg::new(environment()).create(&qcow2(path.clone())).await.unwrap();

        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    });
}

#[test]
fn test_create_concurrently_creates_once() {
    wait(async {
        let folder = folder();
        let images = QemuImg::new(environment());
        let plan = qcow2(folder.path().join("disk.qcow2"));

        let made = tokio::join!(images.create(&plan), images.create(&plan), images.create(&plan));

        made.0.and(made.1).and(made.2).unwrap();
        assert_eq!(names_in(folder.path()), ["disk.qcow2"]);
    });
}

#[test]
fn test_create_with_missing_backing_file_names_it() {
    wait(async {
        let folder = folder();
        let backing = Backing { file: folder.path().join("base"), format: None };
        let plan = ImagePlan { backing: Some(backing), ..qcow2(folder.path().join("disk.qcow2")) };

        let refused = QemuImg::new(environment()).create(&plan).await.unwrap_err();

        assert!(matches!(&refused, ImageError::NotFound { path } if path.ends_with("base")), "{refused:?}");
        assert_eq!(names_in(folder.path()), [""; 0]);
    });
}

#[test]
fn test_create_refused_by_tool_shows_message_and_leaves_nothing() {
    wait(async {
        let folder = folder();
        let plan = ImagePlan { format: "nonsense".to_owned(), ..qcow2(folder.path().join("disk")) };

        let refused = QemuImg::new(environment()).create(&plan).await.unwrap_err();

        let ImageError::Refused { stderr, .. } = refused else { panic!("{refused:?}") };
        assert!(stderr.contains("nonsense") && !stderr.contains(".partial"), "{stderr}");
        assert_eq!(names_in(folder.path()), [""; 0]);
    });
}

#[test]
fn test_create_cancelled_leaves_nothing() {
    wait(async {
        let (tools, folder) = (folder(), folder());
        script(tools.path(), "qemu-img", "exec sleep 1000");
        let images = QemuImg::new(with_path(&format!("{}:/bin", tools.path().display())));
        let plan = qcow2(folder.path().join("disk.qcow2"));

        let dropped = tokio::time::timeout(Duration::from_millis(100), images.create(&plan)).await;

        assert!(dropped.is_err());
        assert_eq!(names_in(folder.path()), [""; 0]);
    });
}

#[test]
fn test_image_tool_missing_is_named() {
    wait(async {
        let folder = folder();

        let refused = QemuImg::new(with_path("/nonexistent")).create(&qcow2(folder.path().join("d"))).await;

        assert!(matches!(&refused, Err(ImageError::ToolNotFound { tool }) if tool == "qemu-img"), "{refused:?}");
    });
}

#[test]
fn test_info_missing_image_is_not_found() {
    wait(async {
        let refused = QemuImg::new(environment()).info(Path::new("/nonexistent/disk")).await;

        assert!(matches!(refused, Err(ImageError::NotFound { .. })), "{refused:?}");
    });
}

#[test]
fn test_info_broken_image_is_refused_with_message() {
    wait(async {
        let folder = folder();
        let path = folder.path().join("disk.qcow2");
        std::fs::write(&path, b"QFI\xfb\0\0\0\x03 and then nonsense".repeat(100)).unwrap();

        let refused = QemuImg::new(environment()).info(&path).await;

        assert!(matches!(&refused, Err(ImageError::Refused { stderr, .. }) if !stderr.is_empty()), "{refused:?}");
    });
}
