//! `snapshot check`: what blocks a snapshot, or is left out, before one is created.

use std::fs;

use maqet_domain::qmp::versions::SnapshotProblem;
use maqet_testkit::{TestHome, guest};
use serde_json::{Value, json};

use crate::versions;

#[test]
fn test_check_names_what_blocks_or_is_left_out() {
    let home = TestHome::new();
    let storage = "storage: [{name: hdd, size: 1M}, {name: old, type: raw, size: 1M}]\n";
    home.add(&(guest::paused_yaml("web") + storage));
    home.json(&["snapshot", "create", "web", "all", "one"]);
    let incomplete = home.maqet(["snapshot", "check", "web"]).run().ok();
    fs::write(home.data().join("storage/web/hdd.qcow2"), vec![1; 4096]).unwrap();

    let blocked = home.maqet(["snapshot", "check", "web", "--format", "json"]).run().code(1).json_value();
    let refused = home.json_error(&["snapshot", "create", "web", "all", "two"], 2);

    insta::assert_snapshot!(incomplete.stdout, @r"
    a snapshot of all drives of `web` can be created; it includes `hdd`
    incomplete: drive `old`: type `raw` does not support snapshots
      hint: convert it with `maqet storage convert web old qcow2`
    ");
    assert_eq!((&blocked["ready"], &blocked["obstacles"][0]["effect"]), (&json!(false), &json!("blocks")));
    assert_eq!(refused["message"], blocked["obstacles"][0]["reason"]);
}

#[test]
fn test_check_of_running_vm_names_what_keeps_it_from_being_saved() {
    let home = TestHome::new();
    let storage = "storage: [{name: hdd, size: 1M}, {name: old, type: raw, size: 1M}]\n";
    home.add(&(guest::paused_yaml("web") + storage));
    home.json(&["start", "web"]);

    let checked = home.maqet(["snapshot", "check", "web"]).run().code(1);
    let refused = home.json_error(&["snapshot", "create", "web", "all", "one", "--live"], 4);
    home.json(&["stop", "web", "--force"]);

    insta::assert_snapshot!(checked.stdout, @r"
    a snapshot of all drives of `web` cannot be created; it includes `hdd`
    blocks: drive `old` is writable and has the format `raw`
      hint: set `type: qcow2` or `readonly: true` for drive `old`
    ");
    assert!(refused["message"].as_str().unwrap().contains("drive `old` is writable"), "{refused}");
    assert_eq!(home.json(&["snapshot", "check", "web"])["ready"], true, "it is, once the VM is stopped");
}

#[test]
fn test_check_includes_the_uefi_variables() {
    let home = TestHome::new();
    home.add(&(guest::paused_yaml("web") + "firmware: uefi\nstorage: [{name: hdd, size: 1M}]\n"));
    home.json(&["snapshot", "create", "web", "all", "one"]);
    let ready = home.json(&["snapshot", "check", "web"]);
    fs::write(home.data().join("storage/web/uefi-vars.qcow2"), vec![1; 4096]).unwrap();

    let blocked = home.maqet(["snapshot", "check", "web", "--format", "json"]).run().code(1).json_value();
    let refused = home.json_error(&["snapshot", "create", "web", "all", "two"], 2);

    assert_eq!((&ready["ready"], &ready["drives"]), (&json!(true), &json!(["hdd", "uefi-vars"])));
    assert_eq!(blocked["obstacles"][0]["drive"], "uefi-vars");
    assert_eq!(refused["message"], blocked["obstacles"][0]["reason"]);
    assert_eq!(home.json(&["snapshot", "ls", "web", "hdd"]).as_array().unwrap().len(), 1, "nothing was changed");
}

/// Returns the effects and reasons of what a check found.
fn found(checked: &Value) -> Vec<(&str, &str)> {
    let obstacles = checked["obstacles"].as_array().unwrap();
    obstacles.iter().map(|one| (one["effect"].as_str().unwrap(), one["reason"].as_str().unwrap())).collect()
}

/// QEMU 7.2 and 10.0 crash over a save or load with the first of these.
#[test]
fn test_migration_capabilities_that_end_qemu_are_refused() {
    let home = TestHome::new();
    home.add(&(guest::paused_yaml("web") + "storage: [{name: hdd, size: 1M}]\n"));
    home.json(&["start", "web"]);
    home.json(&["snapshot", "create", "web", "all", "one", "--live"]);
    let turn = |name: &str, state: bool| {
        let capabilities = json!([{ "capability": name, "state": state }]);
        home.maqet(["qmp", "web", "migrate-set-capabilities", &format!("capabilities={capabilities}")]).run()
    };

    for name in ["multifd", "mapped-ram", "x-ignore-shared", "block"] {
        if turn(name, true).code != Some(0) {
            // Each version has some of them.
            continue;
        }
        let checked = home.maqet(["snapshot", "check", "web", "--format", "json"]).run().code(1).json_value();
        let created = home.json_error(&["snapshot", "create", "web", "all", "two", "--live"], 4);
        let loaded = home.json_error(&["snapshot", "load", "web", "all", "one", "--live"], 4);
        turn(name, false).ok();

        let reason = format!("the migration capability `{name}` is on");
        assert!(matches!(found(&checked)[..], [("blocks", text)] if text.starts_with(&reason)), "{checked}");
        for refused in [created, loaded] {
            assert_eq!(refused["code"], "snapshot.refused");
            assert!(refused["message"].as_str().unwrap().contains(&reason), "{refused}");
        }
    }
    home.json(&["snapshot", "load", "web", "all", "one", "--live"]);
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_check_names_what_this_version_of_qemu_does_badly() {
    let home = TestHome::new();
    let storage = "storage: [{name: hdd, size: 1M}]\n";
    home.add(&(guest::paused_yaml("web") + "firmware: uefi\n" + storage));
    home.json(&["start", "web"]);

    let paused = home.json(&["snapshot", "check", "web"]);
    home.json(&["resume", "web"]);
    let running = home.json(&["snapshot", "check", "web"]);
    home.json(&["stop", "web", "--force"]);

    let version = versions::version();
    let is_affected = SnapshotProblem::SaveAbortsOverFirmwareWrite.is_in(version);
    let reason = format!("QEMU {version} can abort if it saves while the guest writes its UEFI variables");
    assert_eq!(found(&running), if is_affected { vec![("risk", reason.as_str())] } else { Vec::new() });
    assert_eq!((&running["ready"], &paused["obstacles"]), (&json!(true), &json!([])));
}
