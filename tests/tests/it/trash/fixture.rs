//! A home with VMs whose disks are on two file systems.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use maqet_testkit::{TestHome, guest};
use serde_json::Value;

/// Runs `qemu-io` on an image, and asserts success.
#[track_caller]
pub(super) fn qemu_io(image: &Path, command: &str) {
    let done = Command::new("qemu-io").args(["-f", "qcow2", "-c", command]).arg(image).output().unwrap();
    // It succeeds even if a pattern is not verified.
    let printed = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success() && !printed.contains("failed"), "{command}: {printed}{done:?}");
}

/// A home with VMs, and a directory on another file system.
pub(super) struct Fixture {
    pub(super) home: TestHome,
    pub(super) other: tempfile::TempDir,
}

impl Fixture {
    pub(super) fn new() -> Self {
        Self::in_home(TestHome::new())
    }

    pub(super) fn in_home(home: TestHome) -> Self {
        let fixture = Self { home, other: tempfile::tempdir_in("/dev/shm").unwrap() };
        let device = |path: &Path| fs::metadata(path).unwrap().dev();
        assert_ne!(device(fixture.home.root()), device(fixture.other.path()), "the test needs two file systems");
        fixture
    }

    /// Defines a VM, and starts and kills it once, so that its images exist.
    pub(super) fn create(&self, name: &str, storage: &str) {
        self.home.add(&format!("{}storage:\n{storage}", guest::paused_yaml(name)));
        self.home.json(&["start", name]);
        self.home.json(&["stop", name, "--force"]);
    }

    /// Defines a VM with a disk in its storage directory and one on another file system; returns both.
    pub(super) fn create_web(&self) -> [PathBuf; 2] {
        let data = self.other.path().join("vms/data.qcow2");
        let storage = format!("  - {{name: hdd, size: 4M}}\n  - {{name: data, file: {}, size: 4M}}\n", data.display());
        self.create("web", &storage);
        [self.image("web"), data]
    }

    pub(super) fn image(&self, vm: &str) -> PathBuf {
        self.home.data().join("storage").join(vm).join("hdd.qcow2")
    }

    /// Returns the only entry of the trash.
    pub(super) fn entry(&self) -> Value {
        let entries = self.home.json(&["storage", "trash", "ls"]);
        assert_eq!(entries.as_array().unwrap().len(), 1, "{entries}");
        entries[0].clone()
    }

    /// Returns what is left of the trash, on both file systems.
    pub(super) fn remains(&self) -> Vec<PathBuf> {
        let mut found = self.home.files();
        found.retain(|path| path.starts_with(self.home.data().join("trash")));
        let beside = self.other.path().join("vms/.maqet-trash");
        found.extend(beside.exists().then_some(beside));
        found
    }
}

pub(super) fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

pub(super) fn message(error: &Value) -> &str {
    error["message"].as_str().unwrap()
}
