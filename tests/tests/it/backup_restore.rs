//! `maqet backup restore`: which files it replaces, and which it leaves as they are.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use maqet_testkit::{TestHome, guest, wait};

use super::backups::{content, create, disk, left_over, run, stopped_vm, write};

/// A program that has an image open as a VM has its disk.
struct ImageUser(Child);

impl ImageUser {
    fn open(image: &Path) -> Self {
        // Its input stays open, and so does the image.
        let mut command = Command::new("qemu-io");
        command.args(["-f", "qcow2"]).arg(image).stdin(Stdio::piped()).stdout(Stdio::null());
        let user = Self(command.spawn().unwrap());
        wait::until_locked(image);
        user
    }
}

impl Drop for ImageUser {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A VM with a backup, whose disk `a` was written to since; returns the two contents of that.
fn changed_vm(home: &TestHome) -> (Vec<u8>, Vec<u8>) {
    stopped_vm(home);
    create(home);
    let old = content(home, &disk(home, "a"));
    write(home, "a", "write -P 9 0 4M");
    (old, content(home, &disk(home, "a")))
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

#[test]
fn test_restore_leaves_files_that_it_did_not_make() {
    let home = TestHome::new();
    let (old, _) = changed_vm(&home);
    // What a user kept of another restore, by its usual name.
    let names = ["", "-2"].map(|number| beside(&disk(&home, "a"), &format!(".before-restore{number}")));
    for name in &names {
        fs::write(name, "of the user").unwrap();
    }

    home.json(&["backup", "restore", "web", "latest"]);

    assert!(content(&home, &disk(&home, "a")) == old);
    for name in &names {
        assert_eq!(fs::read_to_string(name).unwrap(), "of the user");
    }
    assert_eq!(fs::read_dir(disk(&home, "a").parent().unwrap()).unwrap().count(), 4);
}

/// After an interruption, the files at the recorded paths may be others.
#[test]
fn test_restore_that_was_killed_removes_only_its_own_files() {
    let home = TestHome::with_fault_points();
    let (_, new) = changed_vm(&home);
    let kill = |point: &str| {
        let variable = maqet_fault_points::VARIABLE;
        let killed = home.maqet(["backup", "restore", "web", "latest", "a"]).env(variable, point).run();
        assert_eq!(killed.code, None, "{point}: it was not killed:\n{killed}");
    };
    let image = disk(&home, "a");
    let kept = beside(&image, ".before-restore");

    // Copied, and nothing was renamed yet.
    kill("backup.restore.marked");
    fs::write(&kept, "of the user").unwrap();
    home.json(&["start", "web"]);
    home.json(&["stop", "web", "--force"]);
    assert!(content(&home, &image) == new, "the disk was replaced by the file of the user");
    assert_eq!(fs::read_to_string(&kept).unwrap(), "of the user");

    // In place; the old image was replaced by the user.
    fs::remove_file(&kept).unwrap();
    kill("restore.in-place");
    fs::write(beside(&kept, ".new"), "of the user").unwrap();
    fs::rename(beside(&kept, ".new"), &kept).unwrap();
    home.json(&["start", "web"]);
    home.json(&["stop", "web", "--force"]);
    assert_eq!(fs::read_to_string(&kept).unwrap(), "of the user");
}

#[test]
fn test_restore_of_image_that_is_open_is_refused() {
    let home = TestHome::new();
    let (old, new) = changed_vm(&home);
    let user = ImageUser::open(&disk(&home, "a"));

    let refused = home.json_error(&["backup", "restore", "web", "latest"], 75);
    drop(user);

    assert_eq!(refused["code"], "storage.in-use", "{refused}");
    assert!(content(&home, &disk(&home, "a")) == new);
    home.json(&["backup", "restore", "web", "latest"]);
    assert!(content(&home, &disk(&home, "a")) == old);
}

#[test]
fn test_restore_of_image_that_others_build_on_is_refused() {
    let home = TestHome::new();
    let (old, new) = changed_vm(&home);
    let image = disk(&home, "a");
    let storage = format!("storage: [{{name: o, backing_file: {}}}]\n", image.display());
    home.add(&(guest::paused_yaml("overlay") + &storage));
    home.json(&["start", "overlay"]);
    home.json(&["stop", "overlay", "--force"]);

    let refused = home.json_error(&["backup", "restore", "web", "latest", "a"], 4);
    let elsewhere = home.path("restored");
    home.json(&["backup", "restore", "web", "latest", "a", "--output", elsewhere.to_str().unwrap()]);
    home.json(&["rm", "overlay"]);
    // Its image is still there.
    let unused = home.json_error(&["backup", "restore", "web", "latest", "a"], 4);

    assert_eq!(refused["code"], "backup.disk-in-use", "{refused}");
    assert!(refused["message"].as_str().unwrap().contains("drive `o` of VM `overlay`"), "{refused}");
    assert!(unused["message"].as_str().unwrap().contains("storage/overlay/o.qcow2"), "{unused}");
    assert!(content(&home, &image) == new);
    assert!(content(&home, &elsewhere.join("a.qcow2")) == old);
    fs::remove_dir_all(home.data().join("storage/overlay")).unwrap();
    home.json(&["backup", "restore", "web", "latest", "a"]);
    assert!(content(&home, &image) == old);
}

#[test]
fn test_restore_follows_symbolic_links() {
    let home = TestHome::new();
    let (old, _) = changed_vm(&home);
    let (image, volume) = (disk(&home, "a"), home.path("volume"));
    fs::create_dir(&volume).unwrap();
    let target = volume.join("real.qcow2");
    fs::rename(&image, &target).unwrap();
    symlink(&target, &image).unwrap();

    home.json(&["backup", "restore", "web", "latest", "a"]);

    assert_eq!(fs::read_link(&image).unwrap(), target);
    assert!(content(&home, &target) == old);
    // A link to an image that is gone stays, too.
    fs::remove_file(&target).unwrap();
    home.json(&["backup", "restore", "web", "latest", "a"]);
    assert_eq!(fs::read_link(&image).unwrap(), target);
    assert!(content(&home, &target) == old);
    assert_eq!(fs::read_dir(&volume).unwrap().count(), 1);
    assert_eq!(left_over(&home), Vec::<String>::new());
    run("qemu-img", &["check", "-q", image.to_str().unwrap()]);
}
