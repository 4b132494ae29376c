//! Long work whose disk is full, or fills meanwhile: the data is as it was, and nothing is left behind.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use maqet_testkit::{Finished, TestHome, guest, namespaces, qcow2, qemu};
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, setpriority_process};

use crate::backups::{content, create, disk, left_over, write};
use crate::live_snapshots::{Counting, heavy_on_small_disk, names};

/// A VM that is not running, whose disk `a` is on a small file system of its own.
fn small(home: &TestHome) -> PathBuf {
    let storage = home.data().join("storage/web");
    home.mount_tmpfs(&storage, "12m");
    home.add(&(guest::paused_yaml("web") + "storage: [{name: a, size: 8M}]\n"));
    home.json(&["start", "web"]);
    home.json(&["stop", "web", "--force"]);
    write(home, "a", "write -P 5 0 4M");
    storage
}

/// Fills a file system but for some bytes, also while others write to it.
fn fill(folder: &Path, free: u64) {
    let filler = fs::File::create(folder.join("filler")).unwrap();
    loop {
        let space = statvfs(folder).unwrap();
        let bytes = (space.f_bavail * space.f_frsize).saturating_sub(free).max(1);
        match fallocate(&filler, FallocateFlags::empty(), 0, bytes) {
            Err(Errno::NOSPC) if bytes > 1 => {}
            outcome => return outcome.unwrap_or_else(|error| assert_eq!(error, Errno::NOSPC)),
        }
    }
}

/// Returns a PATH with a `qemu-img` that fills the file system but for some bytes before it runs with such arguments.
fn fill_before(home: &TestHome, storage: &Path, arguments: &str, free: u64) -> String {
    let filler = storage.join("filler");
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in {arguments}) cat /dev/zero > '{0}' 2>/dev/null; truncate -s -{free} '{0}';; esac\n\
         exec {1} \"$@\"\n",
        filler.display(),
        qemu::image_tool().display(),
    );
    let tool = home.write("tools/qemu-img", script);
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:/usr/bin:/bin", tool.parent().unwrap().display())
}

/// Returns the names of the files beside the filler.
fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.filter(|name| name != "filler").collect();
    names.sort();
    names
}

#[test]
fn test_restore_to_full_disk_leaves_the_disk_as_it_was() {
    namespaces::within_mounts("full_disks::test_restore_to_full_disk_leaves_the_disk_as_it_was", || {
        let home = TestHome::new();
        let storage = small(&home);
        create(&home);
        let old = content(&home, &disk(&home, "a"));
        write(&home, "a", "write -P 9 0 1M");
        let before = fs::read(disk(&home, "a")).unwrap();

        // Of 4 MiB and some tables.
        for free in [0, 64 << 10, 1 << 20, 4 << 20] {
            fill(&storage, free);
            let refused = home.json_error(&["backup", "restore", "web", "latest"], 69);

            assert_eq!(refused["code"], "storage.full", "{free}: {refused}");
            assert!(fs::read(disk(&home, "a")).unwrap() == before, "{free}: the disk changed");
            assert_eq!(files(&storage), ["a.qcow2"], "{free}");
        }
        // It fills while the image is copied.
        for free in [0, 1 << 20] {
            fs::write(storage.join("filler"), "").unwrap();
            let path = fill_before(&home, &storage, "convert*", free);
            let restore = home.maqet(["backup", "restore", "web", "latest", "--format", "json"]);
            let refused = restore.env("PATH", path).run().code(69).json_error();

            assert_eq!(refused["error"]["code"], "storage.full", "{free}: {refused}");
            assert!(fs::read(disk(&home, "a")).unwrap() == before, "{free}: the disk changed");
            assert_eq!(files(&storage), ["a.qcow2"], "{free}");
        }
        fs::remove_file(storage.join("filler")).unwrap();
        home.json(&["start", "web"]);
        home.json(&["stop", "web", "--force"]);
        home.json(&["backup", "restore", "web", "latest"]);
        assert!(content(&home, &disk(&home, "a")) == old);
        assert_eq!((files(&storage), left_over(&home)), (vec!["a.qcow2".to_owned()], Vec::new()));
    });
}

#[test]
fn test_repair_on_full_disk_changes_nothing_without_a_copy() {
    namespaces::within_mounts("full_disks::test_repair_on_full_disk_changes_nothing_without_a_copy", || {
        let home = TestHome::new();
        let storage = small(&home);
        let image = disk(&home, "a");
        qcow2::leak_cluster(&image);
        let damaged = fs::read(&image).unwrap();

        for free in [0, 64 << 10, 1 << 20, 4 << 20] {
            fill(&storage, free);
            let refused = home.json_error(&["storage", "verify", "web", "a", "--repair", "all"], 69);

            assert_eq!(refused["code"], "storage.full", "{free}: {refused}");
            assert!(fs::read(&image).unwrap() == damaged, "{free}: the image changed");
            assert_eq!(files(&storage), ["a.qcow2"], "{free}");
        }
        let repair = || home.maqet(["storage", "verify", "web", "a", "--repair", "all", "--format", "json"]);
        for free in [0, 1 << 20] {
            fs::write(storage.join("filler"), "").unwrap();
            let path = fill_before(&home, &storage, "convert*", free);
            let refused = repair().env("PATH", path).run().code(69).json_error();

            assert_eq!(refused["error"]["code"], "storage.full", "{free}: {refused}");
            assert!(fs::read(&image).unwrap() == damaged, "{free}: the image changed");
            assert_eq!(files(&storage), ["a.qcow2"], "{free}");
        }
        fs::remove_file(storage.join("filler")).unwrap();
        let repaired = home.json(&["storage", "verify", "web", "a", "--repair", "all"]);
        assert_eq!(repaired["sound"], true, "{repaired}");
        assert!(fs::read(repaired["images"][0]["copy"].as_str().unwrap()).unwrap() == damaged);
    });
}

/// Begins a live save, and has the file system be full once some of the memory is written; returns how the save ended.
///
/// `None` if it was done before: QEMU 10.0 saves all of it within a tenth of a second.
fn save_and_fill(vm: &Counting, storage: &Path) -> Option<Finished> {
    const BEGUN: u64 = 1 << 20;
    // Of the 96 MiB that are not zero.
    const TOO_LATE: u64 = 64 << 20;
    let pid = Pid::from_raw(vm.home.qemu_pids()[0]).unwrap();
    let image = vm.image("one");
    let allocated = || fs::metadata(&image).unwrap().blocks() * 512;
    // So that this test, and not the save, has the CPU if the host is busy.
    setpriority_process(Some(pid), 19).unwrap();
    let before = allocated();

    let save = vm.home.maqet(["snapshot", "create", "web", "all", "s", "--live", "--format", "json"]).spawn();
    let deadline = Instant::now() + Duration::from_mins(1);
    while allocated() < before + BEGUN {
        assert!(Instant::now() < deadline, "the save did not begin");
    }
    kill_process(pid, Signal::STOP).unwrap();
    let is_in_time = allocated() < before + TOO_LATE;
    if is_in_time {
        fill(storage, 0);
    }
    kill_process(pid, Signal::CONT).unwrap();
    let finished = save.wait();
    is_in_time.then_some(finished)
}

/// Another program takes the space that was there when the save began.
#[test]
fn test_disk_that_fills_in_a_live_save_leaves_the_guest_running() {
    const NAME: &str = "full_disks::test_disk_that_fills_in_a_live_save_leaves_the_guest_running";
    namespaces::within_mounts(NAME, || {
        let attempt = |_| {
            let (vm, storage) = heavy_on_small_disk();
            let ended = save_and_fill(&vm, &storage);
            if ended.is_none() {
                // In another home: its image has the space for another save.
                vm.home.json(&["stop", "web", "--force"]);
            }
            ended.map(|ended| (vm, storage, ended))
        };
        let attempted = (0..10).find_map(attempt);
        let (vm, storage, ended) = attempted.expect("a save that is slower than this test");
        let failed = ended.code(69).json_error();

        assert_eq!(failed["error"]["code"], "storage.full", "{failed}");
        assert_eq!(names(&vm.home, "web"), Vec::<String>::new());
        fs::write(storage.join("filler"), "").unwrap();
        assert_eq!(vm.home.json(&["status", "web"])["status"], "running");
        vm.count(2);
        assert_eq!(vm.home.json(&["doctor"])["healthy"], true);
        vm.home.json(&["snapshot", "create", "web", "all", "s", "--live"]);
        vm.home.json(&["stop", "web", "--force"]);
        let checked = Command::new("qemu-img").args(["check", "-q"]).arg(vm.image("one")).output().unwrap();
        // Clusters that QEMU lost to a failed write (3) are no error.
        assert!(matches!(checked.status.code(), Some(0 | 3)), "{checked:?}");
    });
}
