//! Values of a definition as they are written, on real QEMU.

use std::fs::{self, File};
use std::process::{Command, Stdio};

use maqet_domain::qemu::{switches, takes_value};
use maqet_testkit::{TestHome, guest, parallel, qemu};
use serde_json::{Value, json};

/// Returns whether the QEMU in use requires a value for a switch; `None` if it has no such switch.
fn requires_value(home: &TestHome, switch: &str) -> Option<bool> {
    let name = format!("-{switch}");
    // The machine type is refused once the switches are read.
    let mut command = Command::new(qemu::emulator());
    command.args(["-machine", "none,x=y", &name]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // `-jitdump` writes there.
    let child = command.current_dir(home.root()).spawn().unwrap();
    let by_perfmap = format!("/tmp/perf-{}.map", child.id());
    let output = child.wait_with_output().unwrap();
    let _ = fs::remove_file(by_perfmap);
    let text = String::from_utf8_lossy(&output.stderr);
    let first = text.lines().next().unwrap_or_default();
    if first.contains("invalid option") { None } else { Some(first.contains("requires an argument")) }
}

#[test]
fn test_switches_take_a_value_as_this_qemu_says() {
    let home = TestHome::new();
    let names: Vec<&str> = switches().map(|(name, _)| name).collect();

    parallel::in_threads(2, &names, |name| {
        let required = requires_value(&home, name);
        assert!(required.is_none() || required == takes_value(name), "-{name}: {required:?}");
    });

    let known = names.iter().filter(|name| matches!(**name, "usb" | "device")).count();
    assert_eq!((known, requires_value(&home, "usb"), requires_value(&home, "device")), (2, Some(false), Some(true)));
}

/// Returns the slot of a device.
fn slot(home: &TestHome, vm: &str, id: &str) -> Value {
    let buses = home.json(&["qmp", vm, "query-pci"]);
    let mut devices = buses.as_array().unwrap().iter().flat_map(|bus| bus["devices"].as_array().unwrap());
    devices.find(|device| device["qdev_id"] == id).map(|device| device["slot"].clone()).unwrap_or_default()
}

#[test]
fn test_scalars_reach_qemu_as_written() {
    let home = TestHome::new();
    home.write(
        "config/maqet/maqet.conf",
        "defaults: {arguments: [{device: virtio-rng-pci, id: by-default, addr: 0x13}]}\n",
    );
    let yaml = "  - {device: virtio-rng-pci, id: rng, addr: 0x10}\n  - {usb: true}\n  - no-reboot\n  - {no-reboot: false}\n  \
        - {netdev: user, id: u0, hostfwd: [\"tcp:127.0.0.1:0-:22\", \"udp:127.0.0.1:0-:53\"]}\n  \
        - {device: e1000, netdev: u0}\nstorage: {name: data, size: 1M, serial: 1e5}\nmachine: pc\n\
        labels: {a: 0x10, b: 1.0, c: yes, d: 2026-01-01, e: True}\n";
    let file = home.write("vm.yaml", guest::paused_yaml("24.10") + yaml);
    home.maqet(["add", "--set", "labels.f=+1"]).arg(file).run().ok();

    home.json(&["start", "24.10"]);
    home.json(&["qmp", "device-add", "24.10", "virtio-rng-pci", "addr=0x12", "--id", "plugged"]);

    let slots = ["rng", "by-default", "plugged"].map(|id| slot(&home, "24.10", id));
    assert_eq!(slots, [json!(0x10), json!(0x13), json!(0x12)]);
    let property = |path: &str, name: &str| {
        home.json(&["qmp", "24.10", "qom-get", &format!("path={path}"), &format!("property={name}")])
    };
    assert_eq!(property("/machine/peripheral/data", "serial"), json!("1e5"));
    assert_eq!(property("/machine", "usb"), json!(true));
    let forwards = home.json(&["qmp", "24.10", "human-monitor-command", "command-line=info usernet"]).to_string();
    assert_eq!(forwards.matches("[HOST_FORWARD]").count(), 2, "{forwards}");
    let info = home.json(&["info", "24.10", "--command-line"]);
    assert!(!info["argv"].as_array().unwrap().contains(&json!("-no-reboot")), "{info}");
    let labels = json!({"a": "0x10", "b": "1.0", "c": "yes", "d": "2026-01-01", "e": "True", "f": "+1"});
    assert_eq!(info["definition"]["labels"], labels);
    home.json(&["stop", "24.10", "--force"]);
}

#[test]
fn test_scalars_of_json_input_are_kept_as_written() {
    let home = TestHome::new();
    let json = r#"{"name": "web", "labels": {"a": 1.0, "b": 1e5, "c": 2.50}, "arguments": [{"smbios": {"type": 1, "version": 1.10}}]}"#;
    let file = home.write("vm.json", json);
    home.maqet(["add", "-"]).stdin(File::open(file).unwrap()).run().ok();

    let info = home.json(&["info", "web", "--command-line"]);
    let again = home.maqet(["apply", "web", "-", "--format", "json"]).stdin(File::open(home.path("vm.json")).unwrap());

    assert_eq!(info["definition"]["labels"], json!({"a": "1.0", "b": "1e5", "c": "2.50"}));
    assert!(info["argv"].as_array().unwrap().contains(&json!("type=1,version=1.10")), "{info}");
    assert_eq!(again.run().ok().json_value()["changed"], json!(false));
}

#[test]
fn test_scalars_boolean_as_a_name_is_a_text() {
    let home = TestHome::new();
    home.add("name: true\nstorage: [{name: false, size: 1M}]\n");

    let listed = home.json(&["ls"]);
    let info = home.json(&["info", "true", "--command-line"]).to_string();

    assert_eq!(listed[0]["name"], json!("true"), "{listed}");
    assert!(info.contains("virtio-blk-pci,drive=false,id=false"), "{info}");
}

#[test]
fn test_merged_card_and_drives_start_without_loss() {
    let home = TestHome::new();
    let base = guest::paused_yaml("web")
        + "network: {forward: [\"0:22\"]}\nstorage: {name: data, size: 1M}\nmachine: pc\ncpu: 2\n";
    let over = "machine: {usb: on}\ncpu: {threads: 2}\nnetwork: [{name: net0, model: e1000}]\nstorage: [{name: more, size: 1M}, {name: gone, size: 1M}]\n";
    let last = "storage: [{gone: null}, {typo: null}]\narguments: [{S: true}, {chardev: null, id: c}, {chardev: \"null\", id: \
                d}]\n";
    let files = [("base.yaml", base.as_str()), ("over.yaml", over), ("last.yaml", last)];
    let files = files.map(|(name, text)| home.write(name, text));
    let added = home.maqet(["add", "--format", "json"]).args(files).run().ok().json_value();

    home.json(&["start", "web"]);

    // A scalar of one file and a map of another are about the same machine.
    let usb = home.json(&["qmp", "web", "qom-get", "path=/machine", "property=usb"]);
    let kind = home.json(&["qmp", "web", "qom-get", "path=/machine", "property=type"]);
    assert_eq!((usb, kind.as_str().map(|kind| kind.starts_with("pc-i440fx"))), (json!(true), Some(true)));
    assert_eq!(home.json(&["qmp", "web", "query-cpus-fast"]).as_array().map(Vec::len), Some(4));
    let devices = home.json(&["qmp", "web", "qom-list", "path=/machine/peripheral"]);
    let kinds =
        devices.as_array().unwrap().iter().map(|one| (one["name"].as_str().unwrap(), one["type"].as_str().unwrap()));
    let kinds: Vec<_> = kinds.filter(|(name, _)| !matches!(*name, "type")).collect();
    assert!(kinds.contains(&("net0-card", "child<e1000>")), "{kinds:?}");
    assert!(["data", "more"].iter().all(|drive| kinds.iter().any(|(name, _)| name == drive)), "{kinds:?}");
    assert!(kinds.iter().all(|(name, _)| *name != "gone"), "{kinds:?}");
    assert_eq!(home.json(&["status", "web"])["forwards"][0]["guest_port"], json!(22));
    let message = "`typo` is not in `storage`: the null deletes nothing";
    assert_eq!(added["warnings"][0]["message"], json!(message), "{added}");
    let message = "no earlier `-chardev` has the ID `c`: the null deletes nothing";
    assert_eq!(added["warnings"][1]["message"], json!(message), "{added}");
    let backends = home.json(&["qmp", "web", "query-chardev"]).to_string();
    assert!(backends.contains("\"d\"") && !backends.contains("\"c\""), "{backends}");
    home.json(&["stop", "web", "--force"]);
    home.json(&["apply", "web", "--set", "storage.more=null"]);
    let storage = &home.json(&["info", "web"])["definition"]["storage"];
    assert_eq!(storage, &json!([{"name": "data", "size": "1M"}, {"typo": null}]));
}
