//! What a backup that fails leaves, and what removes it.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use maqet_testkit::TestHome;
use serde_json::json;

use super::backups::{DEADLINE, content, create, disk, image_of, left_over, run, stopped_vm, write};

#[test]
fn test_unfinished_backup_without_a_record_is_removed() {
    let home = TestHome::new();
    stopped_vm(&home);
    let backups = home.data().join("backups/web");
    let names = [".20261129T235304Z.unfinished", ".20261129T235305Z.removed"].map(|name| backups.join(name));
    let (of_user, new) = (backups.join(".notes.unfinished"), backups.join(".20261129T235306Z.unfinished"));
    for name in names.iter().chain([&of_user, &new]) {
        fs::create_dir_all(name).unwrap();
        fs::write(name.join("a.qcow2"), "half").unwrap();
    }
    let outdate = |path: &Path| {
        run("touch", &["-d", "1 hour ago", path.join("a.qcow2").to_str().unwrap(), path.to_str().unwrap()]);
    };
    names.iter().chain([&of_user]).for_each(|name| outdate(name));

    let doctor = home.maqet(["doctor"]).run().to_string();
    home.maqet(["doctor", "--fix"]).run().ok();

    for name in &names {
        assert!(doctor.contains(name.to_str().unwrap()), "{}: {doctor}", name.display());
        assert!(!name.exists(), "{}", name.display());
        fs::create_dir(name).unwrap();
        outdate_folder(name);
    }
    assert!(!doctor.contains(new.to_str().unwrap()), "it may be written: {doctor}");
    assert!(!doctor.contains(of_user.to_str().unwrap()), "{doctor}");
    create(&home);
    assert!(names.iter().all(|name| !name.exists()));
    assert!(of_user.exists() && new.exists());
}

fn outdate_folder(path: &Path) {
    run("touch", &["-d", "1 hour ago", path.to_str().unwrap()]);
}

/// QEMU gets a command and does not respond in time; it executes the command later.
#[test]
fn test_backup_that_could_not_be_cleaned_up_is_recovered() {
    let home = TestHome::new();
    home.write("config/maqet/maqet.conf", "timeouts: {qmp: 1s}\n");
    stopped_vm(&home);
    home.json(&["start", "web"]);
    let first = create(&home);
    let pid = home.json(&["status", "web"])["pid"].to_string();
    let backups = home.data().join("backups/web");

    let failed = thread::scope(|scope| {
        let backup = scope.spawn(|| home.maqet(["backup", "create", "web"]).run());
        let deadline = Instant::now() + DEADLINE;
        let is_unfinished = |name: &OsString| name.to_string_lossy().ends_with(".unfinished");
        let names = || fs::read_dir(&backups).unwrap().flatten().map(|entry| entry.file_name());
        // Oftener than `wait` looks: there are some 50 ms from here to the copy.
        while !names().any(|name| is_unfinished(&name)) {
            assert!(Instant::now() < deadline, "the backup did not begin");
            thread::sleep(Duration::from_millis(1));
        }
        run("kill", &["-STOP", &pid]);
        let failed = backup.join().unwrap();
        run("kill", &["-CONT", &pid]);
        failed
    });

    assert_ne!(failed.code, Some(0), "QEMU was not stopped in time: {failed}");
    let doctor = home.maqet(["doctor"]).run().to_string();
    assert!(doctor.contains("`backup.create`"), "the work is not pending: {doctor}");
    let next = create(&home);
    assert_eq!(next["drives"][0]["base"], first["name"], "{next}");
    assert_eq!(home.json(&["qmp", "web", "query-jobs"]), json!([]));
    home.json(&["stop", "web", "--force"]);
    write(&home, "a", "write -P 7 2M 64k");
    assert!(content(&home, &image_of(&next, "a")) != content(&home, &disk(&home, "a")));
    home.json(&["backup", "verify", "web"]);
    assert_eq!(left_over(&home), Vec::<String>::new());
}
