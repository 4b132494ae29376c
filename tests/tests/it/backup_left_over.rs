//! What a backup that fails leaves, and what removes it.

use std::fs;
use std::path::Path;
use std::process::Command;

use maqet_fault_points::VARIABLE;
use maqet_testkit::{Finished, TestHome, guest, process, wait};
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
    let home = TestHome::with_fault_points();
    stopped_vm(&home);
    home.json(&["start", "web"]);
    let first = create(&home);
    let pid = u32::try_from(home.qemu_pids()[0]).unwrap();
    let settings = home.write("config/maqet/maqet.conf", "timeouts: {qmp: 1s}\n");

    let backup = home.maqet(["backup", "create", "web"]).env(VARIABLE, "backup.images-created:stop").spawn();
    process::until_suspended(backup.pid());
    // The other commands may take as long as they need.
    fs::remove_file(settings).unwrap();
    process::suspend(pid);
    process::resume(backup.pid());
    let failed = backup.wait();
    process::resume(pid);

    assert!(!matches!(failed.code, Some(0) | None), "QEMU was not stopped: {failed}");
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

/// No later command ends it.
#[test]
fn test_qemu_of_killed_backup_ends_and_stores_the_bitmaps() {
    let home = TestHome::with_fault_points();
    stopped_vm(&home);
    let first = create(&home);
    write(&home, "a", "write -P 3 1M 64k");

    let killed = home.maqet(["backup", "create", "web"]).env(VARIABLE, "backup.started").run();
    assert_eq!(killed.code, None, "it was not killed:\n{killed}");
    wait::until(DEADLINE, "QEMU to end", || home.processes().is_empty().then_some(()));

    assert_eq!(left_over(&home).len(), 2, "the images of the backup: {:?}", left_over(&home));
    let next = create(&home);
    assert_eq!(next["drives"][0]["base"], first["name"], "{next}");
    assert!(content(&home, &image_of(&next, "a")) == content(&home, &disk(&home, "a")));
    home.json(&["backup", "verify", "web"]);
    assert_eq!(left_over(&home), Vec::<String>::new());
}

/// Kills the QEMU that copies, once the backup has begun; returns how the command ended.
fn kill_qemu_in_backup(home: &TestHome, is_copier: impl Fn(&str) -> bool) -> Finished {
    let backup = home.maqet(["backup", "create", "web", "--format", "json"]);
    let backup = backup.env(VARIABLE, "backup.started:stop").spawn();
    process::until_suspended(backup.pid());
    let found = home.processes().into_iter().find(|found| is_copier(&found.command)).unwrap();
    process::end(found.pid.try_into().unwrap());
    process::resume(backup.pid());
    backup.wait()
}

/// QEMU dies while it copies, and maqet does not.
#[test]
fn test_backup_whose_qemu_dies_says_so_and_is_undone() {
    let home = TestHome::with_fault_points();
    home.add(&(guest::paused_yaml("web") + "storage: [{name: a, size: 96M}]\n"));
    home.json(&["start", "web"]);
    home.json(&["stop", "web", "--force"]);
    let first = create(&home);
    write(&home, "a", "write -P 4 0 96M");
    let before = content(&home, &disk(&home, "a"));

    let offline = kill_qemu_in_backup(&home, |command| command.contains("-machine none"));
    home.json(&["start", "web"]);
    let live =
        kill_qemu_in_backup(&home, |command| command.contains("qemu-system") && !command.contains("-machine none"));

    for (failed, code) in [(offline, "backup.copy-failed"), (live, "vm.run-interrupted")] {
        assert!(!matches!(failed.code, Some(0) | None), "{failed}");
        assert_eq!(failed.json_error()["error"]["code"], code, "{failed}");
    }
    assert_eq!(home.json(&["status", "web"])["status"], "stopped");
    let next = create(&home);
    assert_eq!((&next["drives"][0]["kind"], &next["drives"][0]["reason"]), (&json!("full"), &json!("bitmap-invalid")));
    assert!(content(&home, &disk(&home, "a")) == before, "the disk changed");
    assert!(content(&home, &image_of(&next, "a")) == before, "the backup is not of the disk");
    assert_eq!(home.json(&["backup", "ls", "web"])["backups"].as_array().unwrap().len(), 2, "{first}");
    home.json(&["backup", "verify", "web"]);
    assert_eq!(left_over(&home), Vec::<String>::new());
    let checked = Command::new("qemu-img").args(["check", "-q", disk(&home, "a").to_str().unwrap()]).status().unwrap();
    // Leaked clusters (3) are no damage.
    assert!([Some(0), Some(3)].contains(&checked.code()), "{checked}");
}
