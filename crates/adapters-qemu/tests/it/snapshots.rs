//! Snapshots inside real images.

use std::path::{Path, PathBuf};
use std::process::Command;

use maqet_adapters_qemu::{QemuHypervisor, QemuImg};
use maqet_domain::port::{DiskImages, Guard, Hypervisor, ImageError};

use crate::images::qcow2;
use crate::kit::{Bench, environment, folder, wait};

/// In place of the lock of a VM.
struct NoLock;

impl Guard for NoLock {
    fn retire(&mut self) {}
}

/// An image whose first byte identifies its state.
struct Image {
    _folder: tempfile::TempDir,
    path: PathBuf,
    images: QemuImg,
}

impl Image {
    async fn new() -> Self {
        let folder = folder();
        let image =
            Self { path: folder.path().join("disk.qcow2"), _folder: folder, images: QemuImg::new(environment()) };
        image.images.create(&qcow2(image.path.clone())).await.unwrap();
        image
    }

    fn qemu_io(&self, command: &str) -> bool {
        Command::new("qemu-io").args(["-c", command]).arg(&self.path).output().unwrap().status.success()
    }

    fn write(&self, byte: u8) {
        assert!(self.qemu_io(&format!("write -P {byte} 0 512")));
    }

    fn holds(&self, byte: u8) -> bool {
        let command = format!("read -P {byte} 0 512");
        let output = Command::new("qemu-io").args(["-c", &command]).arg(&self.path).output().unwrap();
        output.status.success() && !String::from_utf8_lossy(&output.stdout).contains("failed")
    }

    async fn create(&self, name: &str) {
        self.images.create_snapshot(&self.path, name, &NoLock).await.unwrap();
    }

    /// Creates a snapshot that maqet would refuse.
    fn create_outside(&self, name: &str) {
        assert!(Command::new("qemu-img").args(["snapshot", "-c", name]).arg(&self.path).status().unwrap().success());
    }

    async fn names(&self) -> Vec<String> {
        self.images.info(&self.path).await.unwrap().snapshots.into_iter().map(|snapshot| snapshot.name).collect()
    }
}

#[test]
fn test_snapshot_is_created_listed_loaded_and_removed() {
    wait(async {
        let image = Image::new().await;
        image.write(1);
        image.create("clean ü, 1").await;
        image.write(2);

        image.images.load_snapshot(&image.path, "clean ü, 1", &NoLock).await.unwrap();
        assert!(image.holds(1) && !image.holds(2));

        assert_eq!(image.names().await, ["clean ü, 1"]);
        image.images.remove_snapshot(&image.path, "clean ü, 1", &NoLock).await.unwrap();
        assert_eq!(image.names().await, [""; 0]);
    });
}

#[test]
fn test_snapshot_named_like_other_id_is_loaded() {
    wait(async {
        let image = Image::new().await;
        image.write(1);
        image.create("first").await;
        image.write(2);
        image.create_outside("1");
        image.write(3);

        image.images.load_snapshot(&image.path, "1", &NoLock).await.unwrap();

        assert!(image.holds(2));
    });
}

#[test]
fn test_snapshot_named_like_other_id_is_removed() {
    wait(async {
        let image = Image::new().await;
        image.create("first").await;
        image.create_outside("1");

        image.images.remove_snapshot(&image.path, "1", &NoLock).await.unwrap();

        assert_eq!(image.names().await, ["first"]);
    });
}

#[test]
fn test_snapshot_duplicate_name_is_refused() {
    wait(async {
        let image = Image::new().await;
        image.create_outside("twin");
        image.create_outside("twin");

        let loaded = image.images.load_snapshot(&image.path, "twin", &NoLock).await;
        let removed = image.images.remove_snapshot(&image.path, "twin", &NoLock).await;

        assert!(matches!(loaded, Err(ImageError::Refused { .. })), "{loaded:?}");
        assert!(matches!(removed, Err(ImageError::Refused { .. })), "{removed:?}");
        assert_eq!(image.names().await, ["twin", "twin"]);
    });
}

#[test]
fn test_snapshot_unknown_name_is_refused_even_as_id() {
    wait(async {
        let image = Image::new().await;
        image.create("first").await;

        for name in ["1", "none", ""] {
            assert!(image.images.load_snapshot(&image.path, name, &NoLock).await.is_err(), "{name}");
            assert!(image.images.remove_snapshot(&image.path, name, &NoLock).await.is_err(), "{name}");
        }
        assert_eq!(image.names().await, ["first"]);
    });
}

#[test]
fn test_snapshot_of_missing_image_is_not_found() {
    wait(async {
        let images = QemuImg::new(environment());

        let refused = images.create_snapshot(Path::new("/nonexistent/disk"), "clean", &NoLock).await;

        assert!(matches!(refused, Err(ImageError::NotFound { .. })), "{refused:?}");
    });
}

#[test]
fn test_snapshot_of_image_in_use_can_only_be_listed() {
    wait(async {
        let (bench, image) = (Bench::new(), Image::new().await);
        let definition = format!(
            r#"{{"memory": "32M", "args": ["-S"], "storage": [{{"name": "hdd", "file": "{}"}}]}}"#,
            image.path.display()
        );
        let hypervisor: &QemuHypervisor = &bench.hypervisor;
        let launched = hypervisor.launch(&bench.launch_of(&definition)).await.unwrap();

        let refused = image.images.create_snapshot(&image.path, "clean", &NoLock).await;

        let Err(ImageError::InUse { by: Some(user), .. }) = &refused else { panic!("{refused:?}") };
        assert_eq!((user.pid, user.program.as_str()), (launched.process.pid, "qemu-system-x86"));
        assert_eq!(image.images.info(&image.path).await.unwrap().format, "qcow2");
    });
}

/// The table that maqet reads agrees with `qemu-img`, also while QEMU has the image open.
#[test]
fn test_snapshot_table_agrees_with_qemu_img() {
    wait(async {
        let (bench, image) = (Bench::new(), Image::new().await);
        let longest = "y".repeat(255);
        let names: Vec<String> = (0..40).map(|number| format!("snapshot ü {number} {}", "x".repeat(number))).collect();
        names
            .iter()
            .map(String::as_str)
            .chain(["1", "same", "same", &longest])
            .for_each(|name| image.create_outside(name));
        image.images.remove_snapshot(&image.path, &names[7], &NoLock).await.unwrap();
        let definition = format!(
            r#"{{"memory": "32M", "args": ["-S"], "storage": [{{"name": "hdd", "file": "{}"}}]}}"#,
            image.path.display()
        );
        let hypervisor: &QemuHypervisor = &bench.hypervisor;
        hypervisor.launch(&bench.launch_of(&definition)).await.unwrap();

        let read = image.images.snapshots(&image.path).await.unwrap();

        assert_eq!(read.len(), 43);
        assert_eq!(read, image.images.info(&image.path).await.unwrap().snapshots);
    });
}

#[test]
fn test_snapshot_table_of_raw_image_is_refused() {
    wait(async {
        let folder = folder();
        let path = folder.path().join("disk.raw");
        std::fs::write(&path, [0; 512]).unwrap();

        let refused = QemuImg::new(environment()).snapshots(&path).await;

        assert!(matches!(refused, Err(ImageError::Refused { .. })), "{refused:?}");
    });
}
