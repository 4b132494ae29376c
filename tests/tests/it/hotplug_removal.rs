//! What is kept and what is removed when devices are removed from running VMs.

use std::fs;
use std::net::TcpStream;
use std::time::Duration;

use maqet_testkit::{TestHome, guest, wait};
use serde_json::{Value, json};

/// A VM whose CPUs never run, with buses that unplug devices without the guest's help.
fn started(home: &TestHome, arguments: &str, keys: &str) {
    let board = "machine: {type: pc, usb: on}\n";
    home.add(&format!("{}{arguments}{board}{keys}", guest::paused_yaml("web")));
    home.json(&["start", "web"]);
}

fn del(home: &TestHome, device: &str) -> Value {
    home.json(&["qmp", "device-del", "web", device])
}

fn refused(home: &TestHome, device: &str, exit: i32, code: &str) -> Value {
    let error = home.json_error(&["qmp", "device-del", "web", device], exit);
    assert_eq!(error["code"], code, "{error}");
    error
}

/// Runs a QMP command directly.
fn qmp(home: &TestHome, arguments: &[&str]) -> Value {
    home.json(&[&["qmp", "web"], arguments].concat())
}

fn nodes(home: &TestHome) -> Vec<String> {
    let nodes = qmp(home, &["query-named-block-nodes"]);
    nodes.as_array().unwrap().iter().map(|node| node["node-name"].as_str().unwrap().to_owned()).collect()
}

fn has(home: &TestHome, id: &str) -> bool {
    let devices = qmp(home, &["qom-list", "path=/machine/peripheral"]);
    devices.as_array().unwrap().iter().any(|device| device["name"] == id)
}

const LAN: &str = "network: {name: lan, model: usb-net, forward: ['0:22']}\n";

#[test]
fn test_device_add_id_of_definition_is_refused() {
    let home = TestHome::new();
    started(&home, "", &format!("{LAN}storage: [{{name: spare, interface: none, size: 4M}}]\n"));

    for id in ["lan", "spare", "spare-file"] {
        let error = home.json_error(&["qmp", "device-add", "web", "usb-tablet", "--id", id], 4);
        assert_eq!((&error["code"], &error["hints"]), (&json!("device.id-exists"), &json!(["choose another ID"])));
    }
    del(&home, "lan");
    home.json_error(&["qmp", "device-add", "web", "usb-tablet", "--id", "lan-card"], 4);
}

/// Left by a version that used such ids, or created by hand.
#[test]
fn test_device_del_prefers_stale_backend_over_card_name() {
    let home = TestHome::new();
    started(&home, "", LAN);
    qmp(&home, &["blockdev-add", "driver=null-co", "node-name=hotplug-lan"]);

    let out = del(&home, "lan");

    assert_eq!((&out["changed"], &out["backend"]), (&json!(false), &json!("hotplug-lan")));
    assert!(has(&home, "lan-card"));
}

#[test]
fn test_device_del_defined_card_frees_its_ports() {
    let home = TestHome::new();
    started(&home, "", LAN);
    let port = home.json(&["status", "web"])["forwards"][0]["host_port"].as_u64().unwrap();
    let connects = || TcpStream::connect(("127.0.0.1", u16::try_from(port).unwrap())).is_ok();
    assert!(connects());

    let out = del(&home, "lan");

    assert_eq!((&out["device"], &out["backend"]), (&json!("lan-card"), &json!("lan")));
    assert!(!connects());
    assert!(home.json(&["status", "web"])["forwards"].as_array().is_none_or(Vec::is_empty));
    refused(&home, "lan", 3, "device.not-found");
}

#[test]
fn test_device_del_drive_without_device_reports_its_user() {
    let home = TestHome::new();
    let drives = "storage: [{name: spare, interface: none, size: 4M}, {name: hdd, interface: scsi, size: 4M}]\n";
    started(&home, "", drives);
    qmp(&home, &["blockdev-add", "driver=null-co", "node-name=foo-file"]);
    qmp(&home, &["blockdev-add", "driver=raw", "node-name=foo", "file=foo-file", "--allow-dangerous"]);
    let all = nodes(&home);

    let idle = refused(&home, "spare", 3, "device.backend-unsupported");
    refused(&home, "foo", 3, "device.backend-unsupported");
    qmp(&home, &["device_add", "driver=scsi-hd", "id=d1", "drive=spare", "bus=scsi.0"]);
    let used = refused(&home, "spare", 3, "device.backend-unsupported");

    assert_eq!(nodes(&home), all);
    assert!(idle["hints"][0].as_str().unwrap().starts_with("check whether a block job uses it"), "{idle}");
    assert!(used["message"].as_str().unwrap().ends_with("(used by `d1`)"), "{used}");
    let file = refused(&home, "spare-file", 3, "device.backend-unsupported");
    assert!(file["message"].as_str().unwrap().ends_with("(used by `d1`)"), "{file}");
    assert_eq!(used["hints"][0], "remove the device with `maqet qmp device-del web d1`");
    assert_eq!(del(&home, "d1")["backend"], Value::Null, "it was not `device-add` that opened its file");
    assert_eq!(nodes(&home), all);
}

#[test]
fn test_device_del_killed_between_nodes_is_finished_later() {
    let home = TestHome::with_fault_points();
    started(&home, "", "storage: [{name: hdd, interface: scsi, size: 4M}]\n");
    let killed = home.maqet(["qmp", "device-del", "web", "hdd"]).env("MAQET_FAULT_POINT", "device.gone").run();
    assert_eq!(killed.code, None, "{killed}");
    qmp(&home, &["blockdev-del", "node-name=hdd"]);

    let out = del(&home, "hdd");

    assert_eq!((&out["changed"], &out["backend"]), (&json!(false), &json!("hdd")));
    assert!(nodes(&home).iter().all(|node| !node.starts_with("hdd")));
    refused(&home, "hdd", 3, "device.not-found");
}

#[test]
fn test_device_del_drive_used_by_job_is_closed_on_retry() {
    let home = TestHome::new();
    started(&home, "", "storage: [{name: hdd, interface: scsi, size: 4M}]\n");
    qmp(&home, &["blockdev-add", "driver=null-co", "node-name=target", "size=4194304"]);
    qmp(&home, &["blockdev-mirror", "job-id=copy", "device=hdd", "target=target", "sync=full"]);

    let out = home.maqet(["qmp", "device-del", "web", "hdd"]).run().ok();

    assert!(out.stdout.contains("kept its backend `hdd`, which is still in use"), "{out}");
    let again = refused(&home, "hdd", 4, "device.backend-in-use");
    assert!(again["hints"][0].as_str().unwrap().contains("query-block-jobs"), "{again}");
    qmp(&home, &["block-job-cancel", "device=copy", "force=on"]);
    let closed = wait::until(Duration::from_mins(1), "the end of the job", || {
        let out = home.maqet(["--format", "json", "qmp", "device-del", "web", "hdd"]).run();
        (out.code == Some(0)).then(|| out.json_value())
    });
    assert_eq!((&closed["backend"], &closed["in_use"]), (&json!("hdd"), &Value::Null));
}

#[test]
fn test_device_del_drive_controller_is_refused_and_unlisted() {
    let home = TestHome::new();
    started(
        &home,
        "",
        "network: none\nstorage: [{name: hdd, interface: scsi, size: 4M}, {name: cd, interface: sata, type: raw, size: 4M}]\n",
    );

    let error = refused(&home, "scsi", 4, "device.unplug-unsupported");
    assert_eq!(error["hints"], json!(["remove the devices connected to it with `maqet qmp device-del web ID`"]));
    refused(&home, "sata", 4, "device.unplug-unsupported");
    let unknown = refused(&home, "nonsense", 3, "device.not-found");

    assert!(error["message"].as_str().unwrap().ends_with("other devices are connected to it"), "{error}");
    assert!(has(&home, "scsi") && has(&home, "hdd"));
    assert_eq!(unknown["hints"][0], "use one of the devices: `cd`, `hdd`, `maqet-rng`");
}

#[test]
fn test_device_del_repeated_never_removes_card_of_same_name() {
    let home = TestHome::new();
    let cards = "network: [{name: lan, model: usb-net}, {name: same, model: usb-net}]\n";
    let drive = "storage: [{name: same, interface: scsi, size: 4M}]\n";
    started(&home, "  - {device: usb-tablet, id: lan}\n", &format!("{cards}{drive}"));

    for id in ["lan", "same"] {
        assert_eq!(del(&home, id)["device"], id);
        let error = refused(&home, id, 3, "device.backend-unsupported");
        assert_eq!(error["hints"][0], format!("remove the device with `maqet qmp device-del web {id}-card`"));
        assert!(has(&home, &format!("{id}-card")));
    }
    assert_eq!(del(&home, "lan-card")["backend"], "lan");
}

#[test]
fn test_device_del_device_defined_in_json_works() {
    let home = TestHome::new();
    let device = r#"  - {device: '{"driver": "scsi-hd", "id": "no", "drive": "no", "bus": "scsi.0"}'}"#;
    let drives = "storage: [{name: no, interface: none, size: 4M}, {name: hdd, interface: scsi, size: 4M}]\n";
    started(&home, &format!("{device}\n"), drives);

    assert_eq!(del(&home, "no")["backend"], "no");

    assert!(nodes(&home).iter().all(|node| !node.starts_with("no")));
    let error = home.json_error(&["qmp", "device-add", "web", "usb-tablet", "--id", "no"], 4);
    assert_eq!(error["code"], "device.id-exists");
}

#[test]
fn test_device_del_vm_ending_meanwhile_is_a_state_error() {
    let home = TestHome::new();
    // No guest runs that could release it.
    started(&home, "", "network: {name: lan, model: e1000}\n");
    let waiting = home.maqet(["--format", "json", "qmp", "device-del", "web", "lan", "--timeout", "5m"]).spawn();
    // From then on it holds the VM's lock, until it has sent the request.
    let files = format!("/proc/{}/fd", waiting.pid());
    wait::until(Duration::from_mins(1), "its session with QEMU", || {
        let mut files = fs::read_dir(&files).unwrap().filter_map(|file| fs::read_link(file.ok()?.path()).ok());
        files.find(|file| file.to_string_lossy().contains("qmp-s"))
    });
    home.json(&["stop", "web", "--force"]);

    let error = waiting.wait().code(4).json_error()["error"].clone();

    assert_eq!(error["code"], "vm.run-interrupted", "{error}");
    assert_eq!(error["message"], "VM `web` has stopped: QEMU was terminated by a signal");
}
