//! `snapshot check`: what blocks a snapshot, or is left out, before one is created.

use std::fs;

use maqet_testkit::{TestHome, guest};
use serde_json::json;

#[test]
fn test_check_names_what_blocks_or_is_left_out() {
    let home = TestHome::new();
    let storage = "storage: [{name: hdd, size: 1M}, {name: old, type: raw, size: 1M}]\n";
    home.add(&(guest::paused_yaml("web") + storage));
    home.json(&["snapshot", "create", "web", "all", "one"]);
    let incomplete = home.maqet(["snapshot", "check", "web"]).run().ok();
    fs::write(home.data().join("storage/web/hdd.qcow2"), vec![1; 4096]).unwrap();

    let blocked = home.maqet(["snapshot", "check", "web", "--format", "json"]).run().code(1).json_value();
    let refused = home.json_error(&["snapshot", "create", "web", "all", "two"], 69);

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
    let refused = home.json_error(&["snapshot", "create", "web", "all", "two"], 69);

    assert_eq!((&ready["ready"], &ready["drives"]), (&json!(true), &json!(["hdd", "uefi-vars"])));
    assert_eq!(blocked["obstacles"][0]["drive"], "uefi-vars");
    assert_eq!(refused["message"], blocked["obstacles"][0]["reason"]);
    assert_eq!(home.json(&["snapshot", "ls", "web", "hdd"]).as_array().unwrap().len(), 1, "nothing was changed");
}
