//! `doctor` where this user cannot use files of maqet, or cannot enter its directories.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use maqet_testkit::{TestHome, guest};
use serde_json::{Value, json};

use crate::damaged_disks::command_without_override;
use crate::health::restricted_findings;

/// As after a use of `sudo`: the lock is there, and nothing can be locked.
#[test]
fn test_doctor_file_that_cannot_be_used_is_a_problem() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    let id = home.json(&["status", "web"])["id"].as_str().unwrap().to_owned();
    let lock = home.data().join(format!("locks/vm-{id}.lock"));
    fs::create_dir_all(lock.parent().unwrap()).unwrap();
    fs::write(&lock, "").unwrap();
    fs::set_permissions(&lock, fs::Permissions::from_mode(0o000)).unwrap();

    let (code, findings) = restricted_findings(&home, &[]);
    let start = command_without_override(&home, &["start", "web"]).output().unwrap();

    let message = format!("`{}` has mode 0000: maqet cannot use it", lock.display());
    let found = findings.iter().find(|finding| finding["message"] == message.as_str());
    let hint = format!("run `chmod u+rw {}`", lock.display());
    assert_eq!((code, found.map(|found| &found["hint"])), (Some(1), Some(&json!(hint))), "{findings:#?}");
    let error: Value = serde_json::from_slice(&start.stderr).unwrap();
    assert_eq!(error["error"]["message"], format!("cannot lock `{}`", lock.display()));
    assert_eq!((start.status.code(), &error["error"]["code"]), (Some(69), &json!("lock.failed")));
}

/// Those of a run, such as a log, which `sudo maqet` created.
#[test]
fn test_doctor_records_that_cannot_be_used_are_a_problem() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    let id = home.json(&["status", "web"])["id"].as_str().unwrap().to_owned();
    let records = home.state().join(&id);
    let closed = [records.join("journal.log"), records.join("boot-1/qemu.log"), records.join("boot-1/too/deep")];
    for file in &closed {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "").unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o000)).unwrap();
    }

    let (code, findings) = restricted_findings(&home, &[]);

    let is_of = |file: &Path| {
        findings.iter().any(|finding| finding["message"].as_str().unwrap().contains(&*file.to_string_lossy()))
    };
    assert_eq!((code, closed.each_ref().map(|file| is_of(file))), (Some(1), [true, true, false]), "{findings:#?}");
}

#[test]
fn test_doctor_cache_or_configuration_that_is_closed_is_a_problem() {
    let home = TestHome::new();
    let cache = home.path("home/.cache");
    for directory in [&cache.join("maqet"), &home.config()] {
        fs::create_dir_all(directory).unwrap();
    }
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();

    mode(&cache, 0o000);
    let (code, findings) = restricted_findings(&home, &[]);
    mode(&cache, 0o700);
    mode(&home.config(), 0o000);
    // Which database is meant is not known without the settings.
    let refused = command_without_override(&home, &["doctor"]).output().unwrap();
    mode(&home.config(), 0o700);

    let message = format!("cannot enter `{}`: permission denied", cache.display());
    let is_it = |finding: &&Value| finding["message"].as_str().unwrap().contains(&message);
    assert_eq!((code, &findings.iter().find(is_it).unwrap()["severity"]), (Some(1), &json!("problem")));
    let error: Value = serde_json::from_slice(&refused.stderr).unwrap();
    let file = home.config().join("maqet.conf").display().to_string();
    assert!(!refused.status.success() && error.to_string().contains(&file), "{error}");
}
