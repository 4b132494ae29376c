//! `tpm: true`: swtpm starts and ends with QEMU, and its state is kept with the VM.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use maqet_testkit::{TestHome, guest, wait};
use serde_json::{Value, json};

/// Longer than anything here takes on a busy host.
const LONG: Duration = Duration::from_secs(90);

fn with_tpm(home: &TestHome, more: &str) {
    home.add(&(guest::paused_yaml("web") + "machine: q35\ntpm: true\n" + more));
}

fn state(home: &TestHome) -> PathBuf {
    home.data().join("storage/web/tpm2-00.permall")
}

/// Returns how many swtpm processes of VMs of this home run.
fn swtpms(home: &TestHome) -> usize {
    let program = |pid: i32| fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    home.processes().into_iter().filter(|process| program(process.pid).ends_with("swtpm")).count()
}

#[test]
fn test_tpm_runs_with_the_vm_and_keeps_its_state() {
    let home = TestHome::new();
    with_tpm(&home, "");

    home.json(&["start", "web"]);
    let running = (swtpms(&home), home.json(&["qmp", "web", "query-tpm"])[0]["model"].clone());
    home.json(&["stop", "web", "--force"]);
    let made = fs::read(state(&home)).unwrap();

    assert_eq!((running, swtpms(&home)), ((1, json!("tpm-crb")), 0));
    for file in [state(&home), state(&home).with_file_name(".lock")] {
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
    }
    // A new TPM would have new keys.
    home.json(&["start", "web"]);
    home.json(&["stop", "web", "--force"]);
    assert_eq!(fs::read(state(&home)).unwrap(), made);
    assert_eq!(home.stale_files().into_iter().filter(|path| path.starts_with(home.runtime())).count(), 0);
}

#[test]
fn test_tpm_is_used_by_the_firmware() {
    let home = TestHome::new();
    home.add("name: web\naccel: tcg\nmemory: 64M\nnetwork: none\ntpm: true\n");
    home.json(&["start", "web", "--paused"]);
    let made = fs::read(state(&home)).unwrap();

    home.json(&["resume", "web"]);

    wait::until(LONG, "a change of the TPM by the firmware", || {
        fs::read(state(&home)).is_ok_and(|now| now != made).then_some(())
    });
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_tpm_ends_when_qemu_is_killed_or_refuses_to_start() {
    let home = TestHome::new();
    with_tpm(&home, "");
    let pid = home.json(&["start", "web"])["pid"].to_string();

    assert!(std::process::Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
    wait::until(LONG, "the end of swtpm", || (swtpms(&home) == 0).then_some(()));
    home.json(&["start", "web"]);
    home.json(&["stop", "web", "--force"]);
    home.json(&["apply", "web", "--set", "cpu_model=nonsense"]);
    let _refused = home.maqet(["start", "web"]).run();

    assert_eq!((swtpms(&home), home.qemu_pids()), (0, vec![]));
    assert_eq!(home.json(&["status", "web"])["status"], "stopped");
}

/// QEMU goes on without it.
#[test]
fn test_tpm_whose_swtpm_has_ended_is_reported() {
    let home = TestHome::new();
    with_tpm(&home, "");
    home.json(&["start", "web"]);
    let tpm = || {
        let found = home.json(&["inspect", "web"]);
        found["sockets"].as_array().unwrap().iter().find(|socket| socket["role"] == "tpm").unwrap().clone()
    };
    let before = tpm();
    let is_swtpm = |pid: i32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|path| path.ends_with("swtpm"));
    let swtpm = home.processes().into_iter().find(|process| is_swtpm(process.pid)).unwrap().pid.to_string();

    assert!(std::process::Command::new("kill").args(["-KILL", &swtpm]).status().unwrap().success());

    wait::until(LONG, "QEMU notices it", || (tpm()["connected"] == false).then_some(()));
    let doctor: Value = home.maqet(["doctor", "--format", "json"]).run().code(1).json();
    let is_it = |finding: &&Value| finding["message"].as_str().unwrap().starts_with("swtpm has ended");
    let found = doctor["findings"].as_array().unwrap().iter().find(is_it).unwrap();
    assert!(tpm()["problem"].as_str().unwrap().starts_with("swtpm has ended"), "{}", tpm());
    assert_eq!((&before["connected"], &before["problem"]), (&json!(true), &Value::Null), "{before}");
    assert_eq!((&found["severity"], &found["subject"]), (&json!("problem"), &json!("web")), "{found}");
    assert_eq!(found["hint"], "shut the guest down, and start it again: `maqet restart web`");
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_tpm_of_killed_start_ends_with_next_command() {
    let home = TestHome::new();
    with_tpm(&home, "");
    // A QEMU that never answers: its start is killed while swtpm waits for it.
    let mute = home.write(
        "bin/qemu-system-x86_64",
        "#!/bin/sh\n[ \"$1\" = --version ] && echo 'QEMU emulator version 7.2.0' && exit\nexec tail -f \"$0\"\n",
    );
    fs::set_permissions(&mute, fs::Permissions::from_mode(0o700)).unwrap();
    let path = format!("{}:{}", home.path("bin").display(), std::env::var("PATH").unwrap());
    let starter = home.maqet(["start", "web"]).env("PATH", path).spawn();
    wait::until(LONG, "an swtpm", || (swtpms(&home) == 1).then_some(()));
    let _killed = starter.kill();

    home.json(&["rm", "web", "--force"]);

    assert_eq!(swtpms(&home), 0);
}

#[test]
fn test_tpm_without_swtpm_suggests_its_package() {
    let home = TestHome::new();
    with_tpm(&home, "");

    let start = home.maqet(["start", "web", "--format", "json"]).env("PATH", home.folder_of_qemu()).run().code(69);

    let error = start.json_error()["error"].clone();
    assert_eq!(error["code"], "host.tool-not-found", "{error}");
    assert!(error["hints"][0].as_str().unwrap().contains("apt install swtpm"), "{error}");
}

#[test]
fn test_tpm_lost_state_is_refused_until_recreated() {
    let home = TestHome::new();
    with_tpm(&home, "");
    home.json(&["start", "web"]);
    home.json(&["stop", "web", "--force"]);
    let made = fs::read(state(&home)).unwrap();
    fs::remove_file(state(&home)).unwrap();

    let refused = home.json_error(&["start", "web"], 3);
    let was_created = state(&home).exists();
    home.json(&["start", "web", "--recreate", "tpm-state"]);
    home.json(&["stop", "web", "--force"]);
    let existing = home.json_error(&["start", "web", "--recreate", "tpm-state"], 4);

    assert_eq!((&refused["code"], was_created), (&json!("storage.created-image-not-found"), false), "{refused}");
    assert!(refused["hints"].to_string().contains("maqet start web --recreate tpm-state"), "{refused}");
    assert_eq!(existing["code"], "storage.image-exists");
    assert_ne!(fs::read(state(&home)).unwrap(), made);
}

#[test]
fn test_tpm_state_goes_to_the_trash_with_the_disks() {
    let home = TestHome::new();
    with_tpm(&home, "");
    home.json(&["start", "web"]);
    let made = fs::read(state(&home)).unwrap();

    home.json(&["rm", "web", "--force", "--delete-storage"]);
    let is_left = state(&home).parent().unwrap().exists();
    home.json(&["storage", "trash", "restore", "web", "--name", "other"]);

    assert!(!is_left);
    assert_eq!(fs::read(home.data().join("storage/other/tpm2-00.permall")).unwrap(), made);
    home.json(&["start", "other"]);
    home.json(&["stop", "other", "--force"]);
    home.json(&["rm", "other"]);
    let orphaned = home.json(&["storage", "orphaned"]);
    assert!(orphaned.to_string().contains("other/tpm2-00.permall"), "{orphaned}");
}

/// Returns the state of the TPM of a paused VM with a live snapshot `s`, whose firmware changed the TPM since.
fn changed_since_snapshot(home: &TestHome) -> Vec<u8> {
    home.add("name: web\naccel: tcg\nmemory: 64M\nnetwork: none\ntpm: true\nstorage: [{name: hdd, size: 4M}]\n");
    home.json(&["start", "web", "--paused"]);
    home.json(&["snapshot", "create", "web", "all", "s", "--live"]);
    let made = fs::read(state(home)).unwrap();
    home.json(&["resume", "web"]);
    wait::until(LONG, "a change of the TPM by the firmware", || {
        fs::read(state(home)).is_ok_and(|now| now != made).then_some(())
    });
    home.json(&["pause", "web"]);
    settled_state(home)
}

/// Returns the state of the TPM of a paused VM: swtpm may still carry out a command of its firmware.
fn settled_state(home: &TestHome) -> Vec<u8> {
    let read = || fs::read(state(home)).unwrap();
    let mut last = (read(), Instant::now());
    wait::until(LONG, "the TPM to be idle", || {
        if read() != last.0 {
            last = (read(), Instant::now());
        }
        (last.1.elapsed() > Duration::from_millis(300)).then_some(())
    });
    last.0
}

#[test]
fn test_tpm_state_before_live_load_comes_back_with_the_disks() {
    let home = TestHome::new();
    let changed = changed_since_snapshot(&home);
    let read = || fs::read(state(&home)).unwrap();
    let kept = || {
        let copies = ["", "~2", "~3"].map(|end| state(&home).with_extension(format!("permall.before-load{end}")));
        copies.into_iter().filter_map(|path| fs::read(path).ok()).collect::<Vec<_>>()
    };

    home.json(&["snapshot", "load", "web", "all", "s", "--live"]);
    let (loaded, kept_by_load) = (read(), kept());
    home.json(&["stop", "web", "--force"]);
    let taken_back = home.json(&["snapshot", "load", "web", "all", "before-load"]);
    let (restored, kept_by_restore) = (read(), kept());
    home.json(&["snapshot", "load", "web", "all", "s"]);
    let untouched = (read(), kept());
    let orphaned = home.json(&["storage", "orphaned"]);
    for _ in 0..3 {
        home.json(&["snapshot", "rm", "web", "all", "before-load"]);
    }

    assert!(loaded != changed);
    assert!((kept_by_load, &restored) == (vec![changed.clone()], &changed));
    assert!(kept_by_restore == [changed.clone(), loaded.clone()]);
    assert_eq!((&taken_back["drives"], &taken_back["omitted"]), (&json!(["hdd", "tpm-state"]), &json!([])));
    assert!(untouched == (changed.clone(), vec![changed.clone(), loaded, changed]));
    assert!(!orphaned.to_string().contains("before-load"), "{orphaned}");
    assert_eq!(kept(), Vec::<Vec<u8>>::new());
}

#[test]
fn test_tpm_state_of_load_that_is_cut_off_comes_back() {
    let home = TestHome::with_fault_points();
    let changed = changed_since_snapshot(&home);
    let pid = home.qemu_pids()[0].to_string();

    let load =
        home.maqet(["snapshot", "load", "web", "all", "s", "--live"]).env("MAQET_FAULT_POINT", "snapshot.loaded");
    assert_eq!(load.run().code, None);
    let loaded = fs::read(state(&home)).unwrap();
    assert!(std::process::Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
    wait::until(LONG, "the end of swtpm", || (swtpms(&home) == 0).then_some(()));
    home.json(&["doctor", "--fix"]);

    assert_ne!(loaded, changed);
    assert_eq!(fs::read(state(&home)).unwrap(), changed);
    home.json(&["snapshot", "load", "web", "all", "s"]);
    home.json(&["rm", "web", "--delete-storage"]);
    assert!(!state(&home).parent().unwrap().exists());
}

#[test]
fn test_tpm_state_is_part_of_live_snapshots_only() {
    let home = TestHome::new();
    with_tpm(&home, "storage: [{name: hdd, size: 4M}]\n");
    home.json(&["start", "web"]);

    let live = home.json(&["snapshot", "create", "web", "all", "s", "--live"]);
    home.json(&["snapshot", "load", "web", "all", "s", "--live"]);
    let check = |home: &TestHome| home.json(&["snapshot", "check", "web"])["obstacles"].clone();
    let running = check(&home);
    let backup = home.json(&["backup", "create", "web"]);
    home.json(&["stop", "web", "--force"]);
    let stopped = check(&home);
    let offline = home.json(&["snapshot", "create", "web", "all", "t"]);

    assert_eq!((&live["omitted"], &running), (&json!([]), &json!([])), "{live}");
    assert_eq!((&stopped[0]["drive"], &stopped[0]["effect"]), (&json!("tpm-state"), &json!("incomplete")), "{stopped}");
    assert_eq!(offline["omitted"][0]["drive"], "tpm-state", "{offline}");
    assert_eq!(backup["left_out"], json!([{ "drive": "tpm-state", "reason": "tpm" }]), "{backup}");
    assert_eq!(swtpms(&home), 0);
}

#[test]
fn test_tpm_with_damaged_state_is_named_and_can_be_replaced() {
    let home = TestHome::new();
    with_tpm(&home, "");
    home.json(&["start", "web"]);
    home.json(&["stop", "web", "--force"]);
    fs::write(state(&home), [0x5a; 100]).unwrap();

    let damaged = home.json_error(&["start", "web"], 69);
    fs::rename(state(&home), state(&home).with_extension("old")).unwrap();
    home.json(&["start", "web", "--recreate", "tpm-state"]);
    home.json(&["stop", "web", "--force"]);

    assert_eq!(damaged["code"], "tpm.state-corrupt", "{damaged}");
    let hints = damaged["hints"].to_string();
    assert!(
        hints.contains("put back a copy of the file") && hints.contains("maqet start web --recreate tpm-state`"),
        "{damaged}"
    );
}
