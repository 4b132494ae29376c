//! `inspect` on real QEMU: its values match the kernel's, the disks' and other clients'.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use maqet_testkit::{TestHome, guest, wait};
use serde_json::{Value, json};

/// Returns the entry of a list that has this name.
fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    list.as_array().unwrap().iter().find(|entry| entry["name"] == name).unwrap()
}

fn signal(name: &str, pid: &Value) {
    let sent = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status().unwrap();
    assert!(sent.success());
}

#[test]
fn test_inspect_running_vm_has_process_disks_and_sockets() {
    let home = TestHome::new();
    home.add(&format!("{}cpu: 2\nstorage: [{{name: hdd, size: 8M}}]\n", guest::paused_yaml("web")));
    home.json(&["start", "web"]);

    let found = home.json(&["inspect", "web"]);

    let process = &found["process"];
    assert_eq!(vec![process["pid"].as_i64().unwrap()], home.qemu_pids().into_iter().map(i64::from).collect::<Vec<_>>());
    let binary = fs::read_link(format!("/proc/{}/exe", process["pid"])).unwrap();
    assert_eq!((process["binary"].as_str(), &process["binary_is_gone"]), (binary.to_str(), &json!(false)));
    let threads = fs::read_dir(format!("/proc/{}/task", process["pid"])).unwrap().count();
    assert!(process["threads"].as_u64().unwrap() > 1 && threads > 1, "{process}");
    assert!(process["rss_bytes"].as_u64() >= process["pss_bytes"].as_u64(), "{process}");
    assert!(process["pss_bytes"].as_u64().unwrap() > 1 << 20, "{process}");
    let machine = &found["machine"];
    assert_eq!((&machine["accelerator"], &machine["vcpus"]), (&json!("tcg"), &json!(2)));
    assert_eq!(machine["memory_bytes"], 32 << 20);
    assert!(machine["type"].as_str().unwrap().starts_with("pc-"), "{machine}");
    let hdd = named(&found["disks"], "hdd");
    let on_host = fs::metadata(hdd["file"].as_str().unwrap()).unwrap().blocks() * 512;
    assert_eq!((&hdd["virtual_bytes"], &hdd["allocated_bytes"]), (&json!(8 << 20), &json!(on_host)));
    assert_eq!((&hdd["format"], &hdd["attached"]), (&json!("qcow2"), &json!(true)));
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_inspect_sockets_show_connected_clients() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    home.json(&["start", "web"]);
    let connected = || named(&home.json(&["inspect", "web"])["sockets"], "serial0")["connected"].clone();
    let before = home.json(&["inspect", "web"])["sockets"].clone();

    let stream = UnixStream::connect(named(&before, "serial0")["file"].as_str().unwrap()).unwrap();
    wait::until(Duration::from_secs(10), "the serial console to be taken", || (connected() == true).then_some(()));
    drop(stream);
    wait::until(Duration::from_secs(10), "the serial console to be free", || (connected() == false).then_some(()));

    let roles: Vec<&str> = before.as_array().unwrap().iter().map(|one| one["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["commands", "sessions", "sessions", "free", "serial"]);
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_inspect_disks_separate_definition_from_machine() {
    let home = TestHome::new();
    let image = guest::BootSector::new("maqet-boot", guest::AfterMarker::Sleep).write(&home);
    fs::create_dir(home.path("shared")).unwrap();
    home.add(&guest::BootSector::yaml("web", &image));
    home.json(&["start", "web"]);
    home.write("more.yaml", "storage: [{name: new, size: 4M}, {name: home, type: virtfs, path: shared}]\n");
    home.json(&["apply", "web", "more.yaml"]);

    let running = home.json(&["inspect", "web"]);
    home.json(&["stop", "web", "--force"]);
    let stopped = home.json(&["inspect", "web"]);

    assert_eq!(named(&running["disks"], "new")["attached"], false);
    let raw = running["disks"].as_array().unwrap().iter().find(|disk| disk["file"] == image.to_str().unwrap()).unwrap();
    assert_eq!((raw.get("type"), &raw["virtual_bytes"], &raw["attached"]), (None, &json!(512), &json!(true)));
    assert_eq!(named(&stopped["disks"], "new")["problem"], "it is made at the first start");
    let share = named(&stopped["disks"], "home");
    assert_eq!(share["file"], home.path("shared").to_str().unwrap());
    assert_eq!((share.get("problem"), share.get("virtual_bytes")), (None, None));
    assert_eq!((stopped.get("process"), stopped.get("machine")), (None, None));
    assert_eq!((&stopped["sockets"], &stopped["reason"]), (&json!([]), &json!("host-signal")));
}

#[test]
fn test_inspect_stopped_process_shows_kernel_data() {
    let home = TestHome::new();
    home.add(&format!("{}storage: [{{name: hdd, size: 8M}}]\n", guest::paused_yaml("web")));
    let pid = home.json(&["start", "web"])["pid"].clone();

    signal("STOP", &pid);
    let found = home.json(&["inspect", "web"]);
    signal("CONT", &pid);

    assert_eq!((&found["status"], &found["process"]["pid"]), (&json!("busy"), &pid));
    assert_eq!(found.get("machine"), None);
    // Its image is read although the process has it open.
    let hdd = named(&found["disks"], "hdd");
    assert_eq!((&hdd["virtual_bytes"], hdd.get("attached")), (&json!(8 << 20), None));
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_inspect_text_output_has_no_control_characters() {
    let home = TestHome::new();
    home.add(&format!("{}storage: [{{name: hdd, size: 8M}}]\n", guest::paused_yaml("web")));
    home.json(&["start", "web"]);

    let shown = home.maqet(["inspect", "web"]).run().ok().stdout;

    assert!(shown.starts_with("web: paused\n"), "{shown}");
    for words in ["accelerator tcg", "of one CPU", "RSS", "8.00 MiB", "serial console", "SOCKET"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    assert!(!shown.contains('\u{1b}'), "{shown}");
    home.json(&["stop", "web", "--force"]);
}
