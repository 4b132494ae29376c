//! `inspect` on real QEMU: its values match the kernel's, the disks' and other clients'.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::process::Command;

use insta::assert_snapshot;
use maqet_testkit::{TestHome, guest, process, wait};
use regex_lite::Regex;
use serde_json::{Value, json};

use crate::output::{stable, unaligned};

/// Returns the entry of a list that has this name.
fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    list.as_array().unwrap().iter().find(|entry| entry["name"] == name).unwrap()
}

/// Returns a text output of `inspect` without what differs between hosts and runs.
fn unmeasured(home: &TestHome, output: &str) -> String {
    let replacements = [
        (r"(?m)^(  (?:QEMU  |machine type|binary|uptime) +).*$", "$1[…]"),
        (r"(?m)^(  threads +)\d+$", "$1[N]"),
        (r"\b\d+% of one CPU over the last \d.\d\d s, \d+%", "[N]% of one CPU over the last [N] s, [N]%"),
        (r"\d+\.\d\d MiB resident, \d+\.\d\d MiB", "[size] resident, [size]"),
        (r"\d+\.\d\d KiB", "[size]"),
    ];
    let output = replacements.iter().fold(stable(home, output), |output, (pattern, value)| {
        Regex::new(pattern).unwrap().replace_all(&output, *value).into_owned()
    });
    unaligned(&output)
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
    assert_eq!((process["binary"].as_str(), &process["binary_deleted"]), (binary.to_str(), &json!(false)));
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
    let connected = || named(&home.json(&["inspect", "web"])["sockets"], "qmp-free")["connected"].clone();
    let before = home.json(&["inspect", "web"])["sockets"].clone();

    let stream = UnixStream::connect(named(&before, "qmp-free")["file"].as_str().unwrap()).unwrap();
    wait::until(wait::LONG, "the monitor to be taken", || (connected() == true).then_some(()));
    drop(stream);
    wait::until(wait::LONG, "the monitor to be free", || (connected() == false).then_some(()));

    let roles: Vec<&str> = before.as_array().unwrap().iter().map(|one| one["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["commands", "sessions", "sessions", "external", "serial"]);
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
    assert_eq!(named(&stopped["disks"], "new")["problem"], "created at the first start");
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

    process::suspend(u32::try_from(pid.as_u64().unwrap()).unwrap());
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
fn test_inspect_text_output_is_fields_and_tables() {
    let home = TestHome::new();
    home.add(&format!("{}storage: [{{name: hdd, size: 8M}}]\n", guest::paused_yaml("web")));
    home.json(&["start", "web"]);

    let shown = home.maqet(["inspect", "web"]).run().ok().stdout;
    home.json(&["stop", "web", "--force"]);
    let stopped = home.maqet(["inspect", "web"]).run().ok().stdout;

    assert!(!shown.contains('\u{1b}'), "{shown}");
    assert_snapshot!(unmeasured(&home, &shown), @"
    web: paused (not resumed since the start)
      QEMU  […]
      machine type  […]
      accelerator  tcg
      virtual CPUs  1
      guest memory  32.00 MiB
      pid  [pid]
      binary  […]
      uptime  […]
      threads  [N]
      CPU  [N]% of one CPU over the last [N] s, [N]% on average
      host memory  [size] resident, [size] proportional

    DISK  TYPE  SIZE  ALLOCATED  FILE  NOTE
    hdd  qcow2  8.00 MiB  [size]  [home]/data/maqet/storage/web/hdd.qcow2

    SOCKET  CONNECTED  PURPOSE  FILE
    qmp  QMP commands  [home]/run/maqet/[short-id]/b1/qmp.sock
    qmp-s1  no  QMP session  [home]/run/maqet/[short-id]/b1/qmp-s1.sock
    qmp-s2  no  QMP session  [home]/run/maqet/[short-id]/b1/qmp-s2.sock
    qmp-free  no  QMP for other programs  [home]/run/maqet/[short-id]/b1/qmp-free.sock
    serial0  serial console  [home]/run/maqet/[short-id]/b1/serial.in
    ");
    assert_snapshot!(unmeasured(&home, &stopped), @"
    web: stopped (QEMU was terminated by a signal)
      started  [time]
      stopped  [time]
      serial log  [home]/state/maqet/[id]/boot-1/serial.log
      QEMU log  [home]/state/maqet/[id]/boot-1/qemu.log

    DISK  TYPE  SIZE  ALLOCATED  FILE  NOTE
    hdd  qcow2  8.00 MiB  [size]  [home]/data/maqet/storage/web/hdd.qcow2
    ");
}
