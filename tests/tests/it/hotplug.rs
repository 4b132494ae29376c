//! Devices added to running VMs, used there, and removed.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use insta::assert_snapshot;
use maqet_testkit::{Running, TestHome, guest, serial, wait};
use serde_json::{Value, json};

use crate::output::failure;

const BOOT: Duration = Duration::from_secs(90);

/// A guest without disks and cards, booted on a board of this type.
fn boot(board: &str) -> (TestHome, guest::Shell) {
    let home = TestHome::new();
    home.add(&format!("{}machine: {board}\nnetwork: none\n", guest::linux_yaml("web", &guest::Files::built())));
    let started = home.json(&["start", "web"]);
    serial::wait_for(Path::new(started["serial_log"].as_str().unwrap()), guest::READY, BOOT);
    let shell = guest::Shell::of(&home);
    (home, shell)
}

/// A VM whose CPUs never run, on a board of this type.
fn paused(home: &TestHome, board: &str) {
    home.add(&format!("{}machine: {board}\n", guest::paused_yaml("web")));
    home.json(&["start", "web"]);
}

fn image(home: &TestHome, name: &str) -> String {
    let file = home.path(name);
    let made = Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&file).arg("16M").status();
    assert!(made.unwrap().success());
    file.to_str().unwrap().to_owned()
}

/// Returns the backends that were created for devices.
fn backends(home: &TestHome) -> Vec<String> {
    let nodes = home.json(&["qmp", "web", "query-named-block-nodes"]);
    let nodes = nodes.as_array().unwrap().iter().map(|node| node["node-name"].as_str().unwrap().to_owned());
    let network = home.json(&["qmp", "web", "human-monitor-command", "command-line=info network"]);
    let network = network.as_str().unwrap().lines().filter_map(|line| line.split_once(": index"));
    let cards = network.map(|(name, _)| name.trim_start_matches([' ', '\\']).to_owned());
    nodes.chain(cards).filter(|name| name.starts_with("hotplug-")).collect()
}

fn device_add(home: &TestHome, arguments: &[&str]) -> Value {
    home.json(&[&["qmp", "device-add", "web"], arguments].concat())
}

fn refused(home: &TestHome, arguments: &[&str], exit: i32, code: &str) -> Value {
    let error = home.json_error(&[&["qmp", "device-add", "web"], arguments].concat(), exit);
    assert_eq!(error["code"], code, "{error}");
    error
}

fn is_in_use(file: &str) -> bool {
    !Command::new("qemu-img").args(["check", "-q", file]).status().unwrap().success()
}

/// Fetches the first page of the guest's web server.
fn fetched(port: u64) -> std::io::Result<String> {
    let mut connection = TcpStream::connect(("127.0.0.1", u16::try_from(port).unwrap()))?;
    connection.set_read_timeout(Some(Duration::from_secs(5)))?;
    connection.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The guest writes to a disk and reads it back.
fn use_disk(home: &TestHome, shell: &mut guest::Shell, data: &str, bus: &str) {
    let disk = device_add(home, &["virtio-blk-pci", "serial=DATA-1", "--file", data]);

    assert_eq!((&disk["device"], &disk["backend"]), (&json!("virtio-blk-0"), &json!("hotplug-virtio-blk-0")));
    assert!(disk["bus"].as_str().unwrap().starts_with(bus) && disk["addr"].is_string(), "{disk}");
    let output = shell.run(&[
        "until [ -e /dev/vda ]; do sleep 0.1; done; cat /sys/block/vda/serial /sys/block/vda/size",
        "printf 'written by the guest' | dd of=/dev/vda bs=512 seek=8 conv=sync,fsync; sync",
        "echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/vda bs=512 skip=8 count=1 | tr -d '\\0'",
    ]);
    for expected in ["DATA-1", "32768", "written by the guest"] {
        assert!(output.contains(expected), "{expected}: {output}");
    }
}

/// A client on the host reaches a web server in the guest.
fn use_card(home: &TestHome, shell: &mut guest::Shell) {
    let card = device_add(home, &["virtio-net-pci", "--id", "card", "--netdev", "user,forward=0:80"]);

    shell.run(&[
        "load virtio_net; until [ -e /sys/class/net/eth0 ]; do sleep 0.1; done",
        "ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up; ping -c 1 -W 30 10.0.2.2",
        "mkdir /www; echo 'the guest answers' >/www/index.html; httpd -h /www",
    ]);
    let port = card["forwards"][0]["host_port"].as_u64().unwrap();
    let mac = home.json(&["qmp", "web", "qom-get", "path=/machine/peripheral/card", "property=mac"]);
    assert_ne!(mac, "52:54:00:12:34:56", "QEMU's own default, the same for every machine");
    wait::until(BOOT, "the guest's page", || fetched(port).ok().filter(|page| page.contains("guest answers")));
}

/// The guest releases both, and what it wrote is in the image.
fn remove_disk_and_card(home: &TestHome, shell: &mut guest::Shell, data: &str) {
    assert_eq!(backends(home).len(), 2);
    for (device, name) in [("virtio-blk-0", "hotplug-virtio-blk-0"), ("card", "hotplug-card")] {
        let removed = home.json(&["qmp", "device-del", "web", device, "--timeout", "60s"]);
        assert_eq!((&removed["changed"], &removed["backend"]), (&json!(true), &json!(name)), "{removed}");
    }

    let output = shell.run(&["echo left: $(ls /sys/block /sys/class/net | grep -E 'vda|eth')."]);
    assert!(output.contains("left: ."), "{output}");
    assert_eq!(backends(home), Vec::<String>::new());
    assert!(!is_in_use(data));
    let read = Command::new("qemu-io").args(["-f", "qcow2", "-c", "read -v 4096 20", data]).output().unwrap();
    assert!(String::from_utf8_lossy(&read.stdout).contains("written.by.the.g"), "{read:?}");
}

/// Two clients remove the same device: both see it go, or the second one is too late.
fn remove_read_only_disk_twice(home: &TestHome, shell: &mut guest::Shell, data: &str) {
    device_add(home, &["virtio-blk-pci", "--file", data, "--readonly"]);
    let output = shell.run(&["until [ -e /dev/vda ]; do sleep 0.1; done; cat /sys/block/vda/ro"]);
    assert!(output.lines().any(|line| line.trim() == "1"), "{output}");

    let running = [0, 1].map(|_| home.maqet(["qmp", "device-del", "web", "virtio-blk-0", "--timeout", "60s"]).spawn());
    let finished = running.map(Running::wait);

    let mut codes = finished.each_ref().map(|one| one.code.unwrap());
    codes.sort_unstable();
    assert!([[0, 0], [0, 3]].contains(&codes), "{}\n{}", finished[0], finished[1]);
    assert_eq!(backends(home), Vec::<String>::new());
}

fn check_devices_of_linux(board: &str, bus: &str) {
    let (home, mut shell) = boot(board);
    let data = image(&home, "data.qcow2");

    use_disk(&home, &mut shell, &data, bus);
    use_card(&home, &mut shell);
    remove_disk_and_card(&home, &mut shell, &data);
    remove_read_only_disk_twice(&home, &mut shell, &data);

    let events = home.json(&["events", "--type", "device.*"]);
    let types: Vec<&str> = events.as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(types[..5], ["device.added", "device.added", "device.removed", "device.removed", "device.added"]);
}

#[test]
fn test_device_add_and_del_on_pc_are_seen_by_linux() {
    check_devices_of_linux("pc", "pci.0");
}

#[test]
fn test_device_add_and_del_on_q35_use_spare_ports() {
    check_devices_of_linux("q35", "hotplug-port");
}

/// QEMU has opened the backend when it refuses the device.
#[test]
fn test_device_add_refused_device_closes_its_backend() {
    for board in ["pc", "q35"] {
        let home = TestHome::new();
        paused(&home, board);
        let data = image(&home, "data.qcow2");

        refused(&home, &["virtio-blk-pci", "logical_block_size=3", "--file", &data], 1, "qmp.refused");
        refused(&home, &["virtio-net-pci", "mac=nonsense", "--netdev", "user"], 1, "qmp.refused");

        assert_eq!(backends(&home), Vec::<String>::new(), "{board}");
        assert!(!is_in_use(&data), "{board}");
    }
}

#[test]
fn test_device_add_q35_uses_ports_until_none_is_free() {
    let home = TestHome::new();
    home.add(&format!("{}machine: q35\nhotplug_ports: 2\n", guest::paused_yaml("web")));
    home.json(&["start", "web"]);

    let buses = [0, 1].map(|_| device_add(&home, &["virtio-rng-pci"])["bus"].clone());

    assert_eq!(buses, [json!("hotplug-port0"), json!("hotplug-port1")]);
    let error = refused(&home, &["virtio-rng-pci"], 4, "device.port-unavailable");
    assert!(error["message"].as_str().unwrap().ends_with("all 2 are in use"), "{error}");
    home.add(&format!("{}machine: q35\nhotplug_ports: 0\n", guest::paused_yaml("none")));
    home.json(&["start", "none"]);
    let error = home.json_error(&["qmp", "device-add", "none", "virtio-rng-pci"], 4);
    assert!(error["message"].as_str().unwrap().ends_with("it was started with none"), "{error}");
}

#[test]
fn test_device_add_several_at_once_get_distinct_ids_and_ports() {
    let home = TestHome::new();
    paused(&home, "q35");

    let add = ["--format", "json", "qmp", "device-add", "web", "virtio-rng-pci"];
    let running: Vec<_> = (0..4).map(|_| home.maqet(add).spawn()).collect();
    let added: Vec<Value> = running.into_iter().map(|one| one.wait().ok().json_value()).collect();

    for field in ["device", "bus"] {
        let mut values: Vec<&str> = added.iter().map(|one| one[field].as_str().unwrap()).collect();
        values.sort_unstable();
        values.dedup();
        assert_eq!(values.len(), 4, "{field}: {added:?}");
    }
}

#[test]
fn test_device_add_errors_suggest_names_and_leave_nothing() {
    let home = TestHome::new();
    paused(&home, "pc");
    let data = image(&home, "data.qcow2");

    let failures = [
        ["virtio-blk-pc"].as_slice(),
        &["virtio-blk", "seriel=x", "--file", &data],
        &["virtio-blk", "share-rw=perhaps", "--file", &data],
        &["virtio-blk"],
        &["virtio-rng-pci", "--file", &data],
        &["virtio-blk", "drive=x", "--file", &data],
        &["virtio-net-pci", "--netdev", "usr"],
        &["virtio-blk", "--id", "1st", "--file", &data],
        &["virtio-blk", "id=1st", "--file", &data],
        &["virtio-rng-pci", "bus=nowhere"],
        &["e1000", "romfile=/etc/passwd"],
        &["vfio-pci", "host=0000:00:01.0"],
        &["vfio-pci", "host=ffff:ff:1f.7", "--allow-dangerous"],
    ]
    .map(|arguments| failure(&home, &[&["qmp", "device-add", "web"], arguments].concat()));

    assert_snapshot!(failures.join("\n"), @"
    device.driver-not-found, exit code 2
    error: unknown device `virtio-blk-pc`
      hint: did you mean `virtio-blk-pci`, `virtio-blk-device` or `virtio-tablet-pci`?

    device.property-not-found, exit code 2
    error: `virtio-blk-pci` has no property `seriel`
      hint: did you mean `serial`?

    device.property-invalid, exit code 2
    error: invalid property `share-rw=perhaps`: expected `on` or `off`

    device.file-required, exit code 2
    error: `virtio-blk-pci` requires a file
      hint: pass one with `--file`

    device.backend-invalid, exit code 2
    error: `virtio-rng-pci` does not take a file
      hint: remove it, or choose another device

    device.argument-conflict, exit code 2
    error: a backend and a property that names another one cannot be combined

    device.netdev-invalid, exit code 2
    error: invalid network backend `usr`: the type must be `user`, `tap` or `bridge`, not `usr`

    usage.invalid, exit code 2
    error: invalid value '1st' for '--id <ID>': invalid device ID `1st`: it must begin with a letter (a to z)

    For more information, try '--help'.

    device.id-invalid, exit code 2
    error: invalid device ID `1st`: it must begin with a letter (a to z)

    qmp.refused, exit code 1
    error: QEMU refused `device_add`: Bus 'nowhere' not found

    qmp.host-access-refused, exit code 2
    error: `device_add` of `e1000` with the property `romfile` can give the guest hardware, files or services of the host
      hint: pass `--allow-dangerous` to run it anyway

    qmp.host-access-refused, exit code 2
    error: `device_add` of `vfio-pci` with the property `host` can give the guest hardware, files or services of the host
      hint: pass `--allow-dangerous` to run it anyway

    qmp.refused, exit code 1
    error: QEMU refused `device_add`: vfio /sys/bus/pci/devices/ffff:ff:1f.7: no such host device: No such file or directory
    ");
    assert_eq!(backends(&home), Vec::<String>::new());
    assert!(!is_in_use(&data));
}

#[test]
fn test_device_add_reports_forwards_of_its_own_network_only() {
    let home = TestHome::new();
    home.add(&format!("{}network: {{forward: ['0.0.0.0:0:22', '0:22']}}\n", guest::paused_yaml("web")));
    let port = |forward: &Value| u16::try_from(forward["host_port"].as_u64().unwrap()).unwrap();

    let started = home.json(&["start", "web"]);
    let with_maqets = device_add(&home, &["virtio-net-pci", "--netdev", "user,forward=0:22"]);
    let with_qemus = device_add(&home, &["virtio-net-pci", "--netdev", "user,hostfwd=tcp::0-:22"]);

    let all =
        [&started["forwards"][0], &started["forwards"][1], &with_maqets["forwards"][0], &with_qemus["forwards"][0]];
    let mut ports = all.map(port);
    for port in ports {
        TcpStream::connect(("127.0.0.1", port)).unwrap();
    }
    ports.sort_unstable();
    assert!(ports[0] != 0 && ports.windows(2).all(|two| two[0] != two[1]), "{all:?}");
    assert_eq!(with_qemus["forwards"][0]["host_address"], "0.0.0.0");
}

#[test]
fn test_device_add_system_or_used_file_is_refused() {
    let home = TestHome::new();
    paused(&home, "pc");
    let data = image(&home, "data.qcow2");
    // A guest could have written this into its raw disk.
    std::fs::copy(&data, home.path("posing.img")).unwrap();
    std::fs::create_dir(home.path(".ssh")).unwrap();
    std::fs::copy(&data, home.path(".ssh/key.qcow2")).unwrap();
    let blk = |file: &str, exit, code| refused(&home, &["virtio-blk", "--file", file], exit, code);

    blk(home.path("missing.qcow2").to_str().unwrap(), 3, "device.file-not-found");
    blk(home.root().to_str().unwrap(), 2, "device.file-invalid");
    blk("/dev/null", 2, "config.path-refused");
    blk("/etc/passwd", 2, "config.path-refused");
    blk(home.path(".ssh/key.qcow2").to_str().unwrap(), 2, "config.path-refused");
    let posing = blk(home.path("posing.img").to_str().unwrap(), 2, "device.format-ambiguous");
    assert!(posing["message"].as_str().unwrap().contains("looks like `qcow2`"), "{posing}");

    home.add(&format!("name: holder\naccel: tcg\narguments: [S]\nstorage: [{{name: d, file: {data:?}}}]\n"));
    let pid = home.json(&["start", "holder"])["pid"].clone();
    let held = blk(&data, 75, "storage.in-use")["message"].clone();
    assert!(held.as_str().unwrap().ends_with(&format!(" by `qemu-system-x86` (process {pid})")), "{held}");
    home.json(&["stop", "holder", "--force"]);

    // Relative to the caller's folder, not to QEMU's.
    let added = home.maqet(["--format", "json", "qmp", "device-add", "web", "virtio-blk", "--file", "data.qcow2"]);
    let added = added.in_folder(home.root()).run().ok().json_value();
    assert_eq!(added["driver"], "virtio-blk-pci");
    refused(&home, &["virtio-blk", "--id", added["device"].as_str().unwrap()], 4, "device.id-exists");
    blk(&data, 75, "storage.in-use");
    assert_eq!(backends(&home), [added["backend"].as_str().unwrap()]);
}

#[test]
fn test_device_del_unresponsive_guest_can_be_retried() {
    let home = TestHome::new();
    paused(&home, "q35");
    let data = image(&home, "data.qcow2");
    device_add(&home, &["virtio-blk", "--id", "data", "--file", &data]);
    let del = ["qmp", "device-del", "web", "data", "--timeout", "1s"];

    let first = home.json_error(&del, 124);
    let again = home.json_error(&del, 124);

    for error in [first, again] {
        assert_eq!(error["code"], "device.unplug-timed-out");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("the paused guest") && message.contains("to release `data`"), "{message}");
        assert!(error["hints"][0].as_str().unwrap().contains("maqet resume web"), "{error}");
    }
    assert_eq!(backends(&home), ["hotplug-data"], "the guest may use it still");
    let missing = home.json_error(&["qmp", "device-del", "web", "dat"], 3);
    assert_eq!((&missing["code"], &missing["hints"][0]), (&json!("device.not-found"), &json!("did you mean `data`?")));
    // Waiting for a guest does not keep others from stopping the VM.
    let waiting = home.maqet(["qmp", "device-del", "web", "data", "--timeout", "5m"]).spawn();
    wait::until(BOOT, "the session of the one who waits", || {
        let sessions = home.json(&["inspect", "web"])["sockets"].clone();
        sessions.to_string().contains("\"connected\":true").then_some(())
    });
    home.json(&["stop", "web", "--force"]);
    assert_ne!(waiting.wait().code, Some(0));
}

#[test]
fn test_device_add_killed_is_recovered_by_later_commands() {
    let home = TestHome::with_fault_points();
    paused(&home, "pc");
    let data = image(&home, "data.qcow2");
    let add = ["qmp", "device-add", "web", "virtio-blk", "--id", "data", "--file", &data];
    let add_card = ["qmp", "device-add", "web", "e1000", "--id", "card", "--netdev", "user"];
    let kill = |arguments: &[&str]| {
        let killed = home.maqet(arguments).env("MAQET_FAULT_POINT", "device.backend-added").run();
        assert_eq!(killed.code, None, "{killed}");
    };

    kill(&add);
    kill(&add_card);
    assert_eq!(backends(&home), ["hotplug-card"], "the second one removed what the first one left");
    let out = home.json(&["qmp", "device-del", "web", "card"]);
    assert_eq!((&out["changed"], &out["backend"]), (&json!(false), &json!("hotplug-card")));
    kill(&add);
    let found = home.json(&["cleanup", "--dry-run"])["items"].clone();
    assert_eq!(
        (&found[0]["kind"], &found[0]["outcome"], &found[1]),
        (&json!("backend"), &json!("removed"), &Value::Null)
    );
    assert_eq!(home.json(&["cleanup"])["items"][0]["outcome"], "removed");
    assert!(backends(&home).is_empty());
    kill(&add);
    home.json(&add);
    assert_eq!(home.json(&["cleanup", "--dry-run"])["items"], json!([]), "a device has it");

    assert_eq!(backends(&home), ["hotplug-data"]);
}

/// A USB device is unplugged without the guest's help.
#[test]
fn test_device_del_killed_after_unplug_can_be_repeated() {
    let home = TestHome::with_fault_points();
    let drive = "storage: [{name: hdd, interface: scsi, size: 4M}]\n";
    home.add(&format!("{}  - {{device: qemu-xhci}}\n{drive}", guest::paused_yaml("web")));
    home.json(&["start", "web"]);
    let data: PathBuf = home.write("stick.raw", vec![0; 1 << 20]);
    let data = data.to_str().unwrap();
    let stick = device_add(&home, &["usb-storage", "--id", "stick", "--file", data]);
    assert_eq!((&stick["bus"], &stick["addr"]), (&json!("usb-bus.0"), &Value::Null), "{stick}");
    let del = ["qmp", "device-del", "web", "stick"];

    let killed = home.maqet(del).env("MAQET_FAULT_POINT", "device.gone").run();
    assert_eq!(killed.code, None, "{killed}");

    assert_eq!(backends(&home), ["hotplug-stick"]);
    assert_eq!(home.json(&del)["backend"], "hotplug-stick");
    assert_eq!(home.json_error(&del, 3)["code"], "device.not-found");
    device_add(&home, &["usb-storage", "--id", "stick", "--file", data]);
    assert_eq!(home.json(&del)["changed"], true);
    assert!(backends(&home).is_empty());

    let del = ["qmp", "device-del", "web", "hdd"];
    let killed = home.maqet(del).env("MAQET_FAULT_POINT", "device.gone").run();
    assert_eq!(killed.code, None, "{killed}");
    let out = home.json(&del);
    assert_eq!((&out["changed"], &out["backend"]), (&json!(false), &json!("hdd")), "that of the definition, too");
}

/// All of these are unplugged without the guest's help.
#[test]
fn test_device_del_defined_drive_and_card_by_name_works() {
    let home = TestHome::new();
    home.add(&format!(
        "{}machine: {{type: pc, usb: on}}\nnetwork: {{name: lan, model: usb-net}}\n\
         storage: [{{name: hdd, interface: scsi, size: 4M}}, {{name: other, interface: scsi, size: 4M}}]\n",
        guest::paused_yaml("web")
    ));
    home.json(&["start", "web"]);
    let info = home.json(&["info", "web"]);
    let file = info["storage"][0]["file"].as_str().unwrap_or_else(|| panic!("{info}")).to_owned();
    assert!(is_in_use(&file));

    let drive = home.json(&["qmp", "device-del", "web", "hdd"]);
    let card = home.json(&["qmp", "device-del", "web", "lan"]);

    assert_eq!((&drive["device"], &drive["backend"]), (&json!("hdd"), &json!("hdd")));
    assert!(!is_in_use(&file));
    assert_eq!((&card["device"], &card["changed"]), (&json!("lan-card"), &json!(true)));
    let added = device_add(&home, &["scsi-hd", "--id", "again", "--file", &file]);
    assert_eq!(added["backend"], "hotplug-again");
}

#[test]
fn test_device_del_errors_list_existing_devices() {
    let home = TestHome::new();
    home.add(&format!(
        "{}  - {{device: qemu-xhci}}\n  - {{device: usb-tablet}}\nmachine: q35\nnetwork: {{name: lan}}\n\
         storage: [{{name: hdd, size: 4M}}]\n",
        guest::paused_yaml("web")
    ));
    home.json(&["start", "web"]);
    let hint = |device: &str, exit: i32, code: &str| {
        let error = home.json_error(&["qmp", "device-del", "web", device], exit);
        assert_eq!(error["code"], code, "{error}");
        error["hints"][0].as_str().unwrap().to_owned()
    };

    assert_eq!(hint("lam", 3, "device.not-found"), "did you mean `lan`?");
    assert_eq!(hint("nonsense", 3, "device.not-found"), "use one of the devices: `hdd`, `lan`, `maqet-rng`");
    for fixed in ["hdd", "lan", "lan-card"] {
        assert!(hint(fixed, 4, "device.unplug-unsupported").contains("maqet stop web"));
    }
    let by_path = hint("usb-tablet", 3, "device.id-required");

    let (_, path) = by_path.split_once("'id=").unwrap();
    home.json(&["qmp", "web", "device_del", &format!("id={}", path.split('\'').next().unwrap())]);
    hint("usb-tablet", 3, "device.not-found");
}
