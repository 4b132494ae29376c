//! Snapshots while the disk has too little space, for each amount of it: nothing is changed, and nothing is left behind.

use std::fs;
use std::path::Path;
use std::process::Command;

use maqet_testkit::{TestHome, namespaces};
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use serde_json::json;

use super::Pair;

/// How much more space there is at each attempt: a page.
const STEP: u64 = 4 << 10;

impl Pair {
    /// Returns a pair whose images are on a small file system.
    fn on_small_disk() -> Self {
        let home = TestHome::new();
        let storage = home.data().join("storage/web");
        home.mount_tmpfs(&storage, "8m");
        Self::new(home)
    }

    fn folder(&self) -> std::path::PathBuf {
        self.home.data().join("storage/web")
    }

    /// Fills the file system but for some bytes.
    fn fill(&self, free: u64) {
        let path = self.folder().join("filler");
        let filler = fs::File::create(&path).unwrap();
        let space = statvfs(self.folder()).unwrap();
        let bytes = (space.f_bavail * space.f_frsize).saturating_sub(free);
        fallocate(&filler, FallocateFlags::empty(), 0, bytes).unwrap();
    }

    /// Returns a PATH with a `qemu-img` that fills the file system but for some bytes before it changes the second drive.
    fn fill_before_second(&self, free: u64) -> String {
        let filler = self.folder().join("filler");
        self.tool(&format!(
            "case \"$*\" in *' -c '*ssd.qcow2) cat /dev/zero > '{0}' 2>/dev/null; truncate -s -{free} '{0}';; esac",
            filler.display()
        ))
    }

    /// Asserts that the images are free of errors; clusters that are lost to a failed write are no error.
    fn check_sound(&self) {
        for drive in super::DRIVES {
            let checked = Command::new("qemu-img").args(["check", "-q"]).arg(self.image(drive)).output().unwrap();
            assert!(matches!(checked.status.code(), Some(0 | 3)), "{drive}: {checked:?}");
        }
    }
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Runs a command with more and more space for the second drive until it succeeds; returns how often it failed.
fn with_more_space(pair: &Pair, command: &[&str], value: u8) -> usize {
    let before = pair.list();
    for step in 0..40 {
        let free = step * STEP;
        fs::write(pair.folder().join("filler"), "").unwrap();
        let path = pair.fill_before_second(free);
        let done = pair.home.maqet(["snapshot"]).args(command).args(["--format", "json"]).env("PATH", path).run();
        assert_eq!(pair.values(), [value; 2], "{command:?} with {free} bytes");
        assert_eq!(files(&pair.folder()), ["filler", "hdd.qcow2", "ssd.qcow2"]);
        pair.check_sound();
        if done.code == Some(0) {
            fs::write(pair.folder().join("filler"), "").unwrap();
            return usize::try_from(step).unwrap();
        }
        let error = done.code(69).json_error();
        assert_eq!(error["error"]["code"], "storage.full", "{command:?} with {free} bytes: {error}");
        assert_eq!(pair.list(), before, "{command:?} with {free} bytes");
    }
    panic!("{command:?} always fails");
}

#[test]
fn test_full_disk_leaves_images_and_snapshots() {
    namespaces::within_mounts("snapshots::full_disk::test_full_disk_leaves_images_and_snapshots", || {
        let pair = Pair::on_small_disk();
        pair.write_both(1);

        let created = with_more_space(&pair, &["create", "web", "all", "one"], 1);
        pair.write_both(2);
        let replaced = with_more_space(&pair, &["create", "web", "all", "one", "--overwrite"], 2);

        assert!(created >= 2 && replaced >= 2, "{created} and {replaced} failures");
        assert_eq!(pair.list(), ["hdd one disk", "hdd zero disk", "ssd one disk", "ssd zero disk"]);
        pair.write_both(3);
        pair.home.json(&["snapshot", "load", "web", "all", "one", "--no-safety"]);
        assert_eq!(pair.values(), [2, 2]);
        let diagnosis = pair.home.json(&["doctor"]);
        assert!(!diagnosis.to_string().contains("interrupted"), "{diagnosis}");
    });
}

/// A command that finds too little space before it begins.
#[test]
fn test_full_disk_is_found_before_the_first_change() {
    namespaces::within_mounts("snapshots::full_disk::test_full_disk_is_found_before_the_first_change", || {
        let pair = Pair::on_small_disk();
        pair.write_both(1);
        pair.fill(0);
        let before = (pair.list(), fs::read(pair.image("hdd")).unwrap());

        let checked = pair.home.maqet(["snapshot", "check", "web", "--format", "json"]).run().code(1).json_value();
        let refused = pair.home.json_error(&["snapshot", "create", "web", "all", "one"], 69);
        let load = pair.home.json_error(&["snapshot", "load", "web", "all", "zero"], 69);

        assert_eq!((&checked["ready"], &checked["obstacles"][0]["drive"]), (&json!(false), &json!("hdd")));
        assert_eq!(checked["obstacles"][0]["reason"], refused["message"]);
        assert_eq!([&refused["code"], &load["code"]], ["storage.full"; 2]);
        assert_eq!((pair.list(), fs::read(pair.image("hdd")).unwrap()), before);
        assert_eq!(pair.values(), [1, 1]);
        pair.check_sound();
    });
}
