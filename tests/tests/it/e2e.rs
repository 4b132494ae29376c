//! The main workflow on real QEMU, each command in its own process.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use maqet_testkit::{TestHome, guest, serial, wait};
use serde_json::{Value, json};

/// Returns the ids of all processes of this home except the one given.
fn processes_beside(home: &TestHome, pid: &Value) -> Vec<i32> {
    let pid = i32::try_from(pid.as_i64().unwrap()).unwrap();
    home.processes().iter().map(|found| found.pid).filter(|found| *found != pid).collect()
}

#[test]
fn test_linux_guest_full_lifecycle_works() {
    let home = TestHome::new();
    let linux = guest::linux_yaml("web", &guest::Files::built());
    home.add(&format!("{linux}storage:\n  - {{name: hdd, size: 64M}}\n"));

    let started = home.json(&["start", "web"]);
    assert_eq!((&started["status"], &started["changed"]), (&json!("running"), &json!(true)));
    let log = started["serial_log"].as_str().unwrap().to_owned();
    serial::wait_for(log.as_ref(), guest::READY, Duration::from_secs(90));
    let reported = serial::text(log.as_ref());
    assert!(reported.contains("disks=vda:67108864"), "{reported}");
    assert_eq!(processes_beside(&home, &started["pid"]), Vec::<i32>::new());

    let answer = home.json(&["qmp", "web", "query-status"]);
    assert_eq!(answer["status"], "running");
    let refused = home.json_error(&["snapshot", "create", "web", "hdd", "clean"], 4);
    assert_eq!(refused["code"], "snapshot.live-required");
    let refused = home.json_error(&["rm", "web"], 4);
    assert_eq!(refused["code"], "vm.status-conflict");

    let stopped = home.json(&["stop", "web"]);
    assert_eq!((&stopped["status"], &stopped["method"]), (&json!("stopped"), &json!("power-down")));
    assert_eq!(stopped["reason"], "guest-shutdown");

    let removed = home.json(&["rm", "web"]);
    let disk = removed["kept_storage"][0].as_str().unwrap();
    assert!(disk.ends_with("storage/web/hdd.qcow2"), "{disk}");
    assert!(fs::exists(disk).unwrap());
    assert_eq!(home.json(&["ls"]), json!([]));
    assert_eq!(home.stale_files(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn test_snapshot_load_on_stopped_vm_restores_content() {
    let home = TestHome::new();
    home.add("name: web\naccel: tcg\nstorage: [{name: hdd, size: 4M}, {name: raw, type: raw, size: 1M}]\n");

    let made = home.json(&["snapshot", "create", "web", "hdd", "clean"]);
    assert_eq!((&made["drive"], &made["snapshot"]), (&json!("hdd"), &json!("clean")));
    let disk = home.json(&["info", "web"])["storage"][0]["file"].as_str().unwrap().to_owned();
    let qemu_io = |command: &str| {
        let done = std::process::Command::new("qemu-io").args(["-f", "qcow2", "-c", command, &disk]).output().unwrap();
        assert!(done.status.success() && !String::from_utf8_lossy(&done.stdout).contains("failed"), "{done:?}");
    };
    qemu_io("write -P 7 0 64k");

    let listed = home.json(&["snapshot", "ls", "web", "hdd"]);
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!((&listed[0]["name"], &listed[0]["drive"]), (&json!("clean"), &json!("hdd")));
    assert_eq!(listed[0]["vm_state_bytes"], 0);
    assert!(listed[0]["created_at"].as_str().unwrap().ends_with('Z'));

    let taken = home.json_error(&["snapshot", "create", "web", "hdd", "clean"], 4);
    assert_eq!(taken["code"], "snapshot.exists");
    home.json(&["snapshot", "load", "web", "hdd", "clean"]);
    qemu_io("read -P 0 0 64k");

    home.json(&["snapshot", "rm", "web", "hdd", "clean"]);
    home.json(&["snapshot", "rm", "web", "hdd", "before-load"]);
    assert_eq!(home.json(&["snapshot", "ls", "web"]), json!([]));
    let missing = home.json_error(&["snapshot", "load", "web", "hdd", "clean"], 3);
    assert_eq!(missing["code"], "snapshot.not-found");
    let drive = home.json_error(&["snapshot", "ls", "web", "hd"], 3);
    assert_eq!(drive["code"], "drive.not-found");
    let raw = home.json_error(&["snapshot", "create", "web", "raw", "clean"], 4);
    assert_eq!(raw["code"], "snapshot.unsupported");
}

#[test]
fn test_qemu_killed_is_stopped_with_reason_and_restarts() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    let pid = home.json(&["start", "web"])["pid"].as_i64().unwrap();

    let killed = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    assert!(killed.success());
    let status = wait::until(wait::LONG, "the VM to be stopped", || {
        let status = home.json(&["status", "web"]);
        (status["status"] == "stopped").then_some(status)
    });

    assert_eq!((&status["reason"], &status["pid"]), (&json!("crashed"), &Value::Null));
    let again = home.json(&["start", "web"]);
    assert_eq!((&again["changed"], &again["boot"]), (&json!(true), &json!(2)));
    assert_ne!(again["pid"].as_i64().unwrap(), pid);
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_triple_fault_unobserved_has_reason_and_time() {
    let home = TestHome::new();
    // lidt [0x7c20]; int3: without interrupt vectors a CPU resets, and `-no-reboot` makes that an end.
    let mut sector = [0; 512];
    sector[..6].copy_from_slice(&[0x0f, 0x01, 0x1e, 0x20, 0x7c, 0xcc]);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    home.write("boot.img", sector);
    home.add(
        "name: web\naccel: tcg\nmemory: 32M\narguments: [no-reboot]\n\
         storage: [{name: hdd, type: raw, file: boot.img, interface: ide}]\n",
    );
    home.json(&["start", "web"]);

    let status = wait::until(wait::LONG, "the VM to be stopped", || {
        let status = home.json(&["status", "web"]);
        (status["status"] == "stopped").then_some(status)
    });

    assert_eq!(status["reason"], "triple-fault");
    assert!(status["stopped_at"].is_string(), "{status}");
}

#[test]
fn test_qemu_quit_by_other_client_is_stopped_by_host() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    home.json(&["start", "web"]);

    home.json(&["qmp", "run", "web", "quit"]);
    let status = wait::until(wait::LONG, "the VM to be stopped", || {
        let status = home.json(&["status", "web"]);
        (status["status"] == "stopped").then_some(status)
    });

    assert_eq!(status["reason"], "host-quit");
    assert!(status["stopped_at"].is_string(), "{status}");
}

#[test]
fn test_start_running_vm_changes_nothing() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));

    let first = home.json(&["start", "web"]);
    let second = home.json(&["start", "web"]);

    assert_eq!((&first["changed"], &second["changed"]), (&json!(true), &json!(false)));
    assert_eq!(first["pid"], second["pid"]);
    assert_eq!(second["status"], "paused");
    home.json(&["stop", "web"]);
}

#[test]
fn test_stop_paused_guest_uses_quit_without_waiting() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    home.json(&["start", "web"]);

    // It would not be done by the deadline of a run.
    let stopped = home.maqet(["stop", "web", "--timeout", "10m", "--format", "json"]).run().ok();

    assert_eq!(stopped.json_value()["method"], "quit");
}

#[test]
fn test_stop_guest_without_acpi_uses_next_method() {
    let home = TestHome::new();
    let guest = guest::BootSector::new("maqet-boot", guest::AfterMarker::WaitForByte);
    let image = guest.write(&home);
    home.add(&guest::BootSector::yaml("web", &image));
    home.json(&["start", "web"]);

    let stopped = home.json(&["stop", "web", "--timeout", "500ms"]);

    assert_eq!((&stopped["method"], &stopped["reason"]), (&json!("quit"), &json!("host-quit")));
}

#[test]
fn test_rm_force_running_vm_leaves_nothing() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    home.json(&["start", "web"]);

    home.json(&["rm", "web", "--force"]);

    assert_eq!(home.qemu_pids(), Vec::<i32>::new());
    assert_eq!(home.stale_files(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn test_disk_path_with_special_characters_is_escaped() {
    let home = TestHome::new();
    for (index, name) in
        ["a,readonly=on", "a \"quote\" 'two'", "with space", "ümlaut", "co:lon", "-dash"].iter().enumerate()
    {
        let vm = format!("vm{index}");
        let disk = home.path(format!("{name}.qcow2"));
        let disk_yaml = serde_json::to_string(disk.to_str().unwrap()).unwrap();
        let yaml = guest::paused_yaml(&vm);
        home.add(&format!("{yaml}storage: [{{name: hdd, size: 1M, file: {disk_yaml}}}]\n"));

        home.json(&["start", &vm]);

        assert!(disk.exists(), "{name}");
        let nodes = home.json(&["qmp", &vm, "query-named-block-nodes"]);
        let node = nodes.as_array().unwrap().iter().find(|node| node["node-name"] == "hdd").unwrap();
        assert_eq!((&node["file"], &node["ro"]), (&json!(disk.to_str().unwrap()), &json!(false)), "{name}");
        home.json(&["snapshot", "ls", &vm, "hdd"]);
        home.json(&["stop", &vm, "--force"]);
        home.json(&["snapshot", "create", &vm, "hdd", "one,two 'three'"]);
        assert_eq!(home.json(&["snapshot", "ls", &vm])[0]["name"], "one,two 'three'");
    }
}

#[test]
fn test_disk_with_backing_file_is_created_as_overlay() {
    let home = TestHome::new();
    let base = home.path("base.qcow2");
    let made =
        std::process::Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&base).arg("8M").status();
    assert!(made.unwrap().success());
    let yaml = guest::paused_yaml("web");
    home.add(&format!("{yaml}storage: [{{name: hdd, backing_file: base.qcow2}}]\n"));

    home.json(&["start", "web"]);

    let nodes = home.json(&["qmp", "web", "query-named-block-nodes"]);
    let node = nodes.as_array().unwrap().iter().find(|node| node["node-name"] == "hdd").unwrap();
    assert_eq!(node["image"]["backing-filename"], base.to_str().unwrap());
    assert_eq!(node["image"]["virtual-size"], 8 << 20);
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_run_files_are_private_with_any_umask() {
    let home = TestHome::new();
    let yaml = guest::paused_yaml("web");
    home.add(&format!("{yaml}storage: [{{name: hdd, size: 1M}}]\n"));
    let start = home.maqet(["start", "web"]).into_command();
    let program = start.get_program().to_owned();
    let started = std::process::Command::new("sh")
        .args(["-c", "umask 000; exec \"$0\" start web"])
        .arg(program)
        .env_clear()
        .envs(home.environment())
        .status();
    assert!(started.unwrap().success());

    for folder in [home.data(), home.runtime(), home.state()] {
        check_private(&folder);
    }
    home.json(&["stop", "web", "--force"]);
}

fn check_private(folder: &std::path::Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.path().symlink_metadata().unwrap();
        // The mode of a link means nothing.
        if metadata.is_symlink() {
            continue;
        }
        let mode = metadata.permissions().mode() & 0o077;
        assert_eq!(mode, 0, "{} is {:o}", entry.path().display(), metadata.permissions().mode());
        if metadata.is_dir() {
            check_private(&entry.path());
        }
    }
}

#[test]
fn test_arguments_raw_and_python_forms_reach_qemu() {
    let home = TestHome::new();
    home.add(
        "name: web\naccel: tcg\nmemory: 1G\nargs: [\"-S\", \"-rtc\", \"base=utc\"]\narguments:\n  - {m: 48}\n  \
         - {netdev: {user: null, id: n0}}\n  - {device: {virtio-net-pci: null, netdev: n0}}\n",
    );

    home.json(&["start", "web"]);

    let memory = home.json(&["qmp", "web", "query-memory-size-summary"]);
    assert_eq!(memory["base-memory"], 48 << 20);
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_qmp_command_refused_by_qemu_shows_its_message() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    home.json(&["start", "web"]);

    let unknown = home.json_error(&["qmp", "web", "no-such"], 2);
    let argument = home.json_error(&["qmp", "web", "device_del", "id=nope"], 1);

    assert_eq!(unknown["code"], "qmp.command-not-found");
    assert_eq!(argument["code"], "qmp.refused");
    assert!(argument["message"].as_str().unwrap().contains("Device 'nope' not found"));
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_info_command_line_pasted_runs_same_machine() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    home.json(&["start", "web"]);
    let shown = home.json(&["info", "web", "--command-line"]);

    let pid = home.json(&["status", "web"])["pid"].as_i64().unwrap();
    let running = fs::read(format!("/proc/{pid}/cmdline")).unwrap();

    let running: Vec<String> =
        running.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    let shown: Vec<&str> = shown["argv"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    assert_eq!(running[..running.len() - 1], shown);
    home.json(&["stop", "web", "--force"]);
}

/// Locks the command monitor, as a long command of another process does.
fn hold_the_monitor(home: &TestHome) -> fs::File {
    let lock = home.files().into_iter().find(|path| path.ends_with("qmp.lock")).unwrap();
    let file = fs::File::options().write(true).open(lock).unwrap();
    file.lock().unwrap();
    file
}

/// Returns whether a process has a file of this name open.
fn has_open(pid: u32, name: &str) -> bool {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    files.filter_map(|file| fs::read_link(file.path()).ok()).any(|path| path.ends_with(name))
}

#[test]
fn test_stop_with_busy_monitor_does_not_kill() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    home.json(&["start", "web"]);
    let held = hold_the_monitor(&home);

    let stop = home.maqet(["stop", "web", "--format", "json"]).spawn();
    wait::until(wait::LONG, "`stop` to wait for the monitor", || has_open(stop.pid(), "qmp.lock").then_some(()));
    assert_eq!(home.qemu_pids().len(), 1);
    drop(held);
    let stopped = stop.wait().ok().json_value();

    assert_eq!(stopped["method"], "quit");
}

#[test]
fn test_start_wrapped_binary_leaves_no_hidden_qemu() {
    let home = TestHome::new();
    let wrapper = home.write("wrapped", "#!/bin/sh\nqemu-system-x86_64 \"$@\"\n");
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    home.add(&format!("{}binary: {}\n", guest::paused_yaml("web"), wrapper.display()));

    let started = home.json(&["start", "web"]);
    home.json(&["stop", "web", "--force"]);

    wait::until(wait::LONG, "every process to be gone", || home.processes().is_empty().then_some(()));
    assert!(started["pid"].is_number());
}

#[test]
fn test_start_failed_shows_only_its_own_output() {
    let home = TestHome::new();
    home.add(&format!("{}  - nonsense-one\n", guest::paused_yaml("web")));
    home.json_error(&["start", "web"], 2);
    let file = home.write("other.yaml", format!("{}  - nonsense-two\n", guest::paused_yaml("web")));
    home.maqet(["apply", "web"]).arg(file).run().ok();

    let error = home.json_error(&["start", "web"], 2);

    let words = error["causes"][0].as_str().unwrap();
    assert!(words.contains("nonsense-two") && !words.contains("nonsense-one"), "{words}");
}

#[test]
fn test_disk_of_removed_vm_is_reused_by_its_successor() {
    let home = TestHome::new();
    let define = || home.add("name: web\naccel: tcg\nstorage: [{name: hdd, size: 1M}]\n");
    define();
    home.json(&["snapshot", "create", "web", "hdd", "one"]);
    let first = home.json(&["rm", "web"]);
    define();

    home.json(&["snapshot", "create", "web", "hdd", "two"]);
    let second = home.json(&["rm", "web"]);

    assert_eq!(first["kept_storage"], second["kept_storage"]);
    assert_eq!(first["kept_storage"].as_array().unwrap().len(), 1);
}
