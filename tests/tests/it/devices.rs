//! Optional devices, and cards that connect VMs, on paused QEMUs.

use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use maqet_domain::qmp::versions::Difference;
use maqet_testkit::{TestHome, guest, port, wait};
use serde_json::{Value, json};

use crate::versions;

const DEADLINE: Duration = Duration::from_mins(1);

/// Returns the types of the devices of maqet, by their ids, in order.
fn own_devices(home: &TestHome, vm: &str) -> Vec<(String, String)> {
    let listed = home.json(&["qmp", vm, "qom-list", "path=/machine/peripheral"]);
    let children = listed.as_array().unwrap().iter().map(|one| [&one["name"], &one["type"]].map(Value::as_str));
    let own = children.filter_map(|[name, kind]| Some((name?.strip_prefix("maqet-")?, kind?)));
    let kind = |text: &str| text.trim_start_matches("child<").trim_end_matches('>').to_owned();
    // The channels to the guest are the same everywhere.
    let own = own
        .filter(|(_, text)| !["virtserialport", "virtconsole", "virtio-serial"].iter().any(|one| text.contains(one)));
    let mut own: Vec<(String, String)> = own.map(|(name, text)| (name.to_owned(), kind(text))).collect();
    own.sort_unstable();
    own
}

/// Returns the PCI slots of the devices with an id, by it.
fn slots(home: &TestHome, vm: &str) -> Vec<(String, i64)> {
    let buses = home.json(&["qmp", vm, "query-pci"]);
    let devices = buses[0]["devices"].as_array().unwrap().iter();
    let slot =
        |one: &Value| Some((one["qdev_id"].as_str().filter(|id| !id.is_empty())?.to_owned(), one["slot"].as_i64()?));
    devices.filter_map(slot).collect()
}

const ALL: &str = "rng: true\nballoon: true\nwatchdog: {action: pause}\npanic: pause\n\
                   usb: [tablet, mouse, keyboard, \"1d6b:9999\", 1-1.2]\nsound: {model: hda}\n";

/// Every device is accepted by real QEMU, on the machine types that have the bus.
#[test]
fn test_devices_of_keys_are_in_the_vm() {
    let home = TestHome::new();
    for machine in ["pc", "q35"] {
        home.add(&(guest::paused_yaml(machine) + &format!("machine: {machine}\nnetwork: none\n{ALL}")));
        home.json(&["start", machine]);

        let hda = if machine == "q35" { "ich9-intel-hda" } else { "intel-hda" };
        let expected = [
            ("balloon", "virtio-balloon-pci"),
            ("panic", "pvpanic"),
            ("rng", "virtio-rng-pci"),
            ("sound", hda),
            ("sound-codec", "hda-duplex"),
            ("usb", "qemu-xhci"),
            ("usb0", "usb-tablet"),
            ("usb1", "usb-mouse"),
            ("usb2", "usb-kbd"),
            ("usb3", "usb-host"),
            ("usb4", "usb-host"),
            ("vmgenid", "vmgenid"),
            ("watchdog", "i6300esb"),
        ];
        let expected = expected.map(|(id, kind)| (id.to_owned(), kind.to_owned()));
        assert_eq!(own_devices(&home, machine), expected);
        let property = |id: &str, name: &str| {
            home.json(&[
                "qmp",
                machine,
                "qom-get",
                &format!("path=/machine/peripheral/maqet-{id}"),
                &format!("property={name}"),
            ])
        };
        assert_eq!([property("usb3", "vendorid"), property("usb3", "productid")], [json!(0x1d6b), json!(0x9999)]);
        assert_eq!([property("usb4", "hostbus"), property("usb4", "hostport")], [json!(1), json!("1.2")]);
        let controller = home.json_error(&["qmp", "device-del", machine, "maqet-usb"], 4);
        assert_eq!(controller["code"], "device.unplug-unsupported", "{controller}");
        assert_eq!(home.json(&["qmp", "balloon", machine])["actual_bytes"], 32 << 20);
        home.json(&["stop", machine, "--force"]);
    }
}

/// Returns the PCI slots of virtio drives, by their block nodes or, of `-drive if=virtio`, their backends.
fn drive_slots(home: &TestHome, vm: &str) -> Vec<i64> {
    let buses = home.json(&["qmp", vm, "query-pci"]);
    let devices = buses[0]["devices"].as_array().unwrap().iter();
    let drives = devices.filter(|one| one["id"]["device"] == json!(0x1001) && one["id"]["vendor"] == json!(0x1af4));
    drives.filter_map(|one| one["slot"].as_i64()).collect()
}

/// Devices of keys are the last ones, so that those of VMs that were defined before keep their addresses; QEMU creates
/// the devices of `-drive if=virtio` after others.
#[test]
fn test_rng_does_not_move_other_devices() {
    let home = TestHome::new();
    let raw = home.path("raw.img");
    fs::File::create(&raw).unwrap().set_len(1 << 20).unwrap();
    let devices = format!(
        "  - {{device: e1000, id: nic}}\n  - {{device: ich9-ahci, id: ahci}}\n  \
         - {{drive: {{if: virtio, format: raw, file: {raw}}}}}\n",
        raw = raw.display()
    );
    let others = "network: user\nstorage: [{name: hdd, size: 1M}, {name: b, size: 1M, interface: scsi}]\n";
    let mut found = Vec::new();
    for machine in ["pc", "q35"] {
        let all = "balloon: true\nwatchdog: true\nusb: [tablet]\nsound: true\n";
        for own in ["rng: false\nguest: {agent: false}\n", "", all] {
            let vm = format!("{machine}-{}", own.len());
            home.add(&(guest::paused_yaml(&vm) + &devices + &format!("machine: {machine}\n{own}{others}")));
            home.json(&["start", &vm]);
            found.push((slots(&home, &vm), drive_slots(&home, &vm)));
            home.json(&["stop", &vm, "--force"]);
        }
    }

    for of_machine in found.chunks(3) {
        let (before, drives) = &of_machine[0];
        assert!(before.len() >= 5 && drives.len() == 2, "{of_machine:?}");
        for ((after, drives_after), count) in of_machine[1..].iter().zip([2, 6]) {
            let (own, others): (Vec<_>, Vec<_>) = after.iter().cloned().partition(|(id, _)| id.starts_with("maqet-"));
            assert_eq!((own.len(), &others, drives_after), (count, before, drives));
        }
    }
}

/// A VM that fills its bus starts, without the devices that it did not ask for.
#[test]
fn test_rng_and_spare_ports_give_way_on_a_full_bus() {
    let home = TestHome::new();
    let drives = |count: usize| "  - {drive: {if: virtio, file.driver: null-co}}\n".repeat(count);
    for machine in ["pc", "q35"] {
        // A generation ID takes no slot.
        for (count, own) in [(20, 2), (28, 1)] {
            let vm = format!("{machine}-{count}");
            home.add(&(guest::paused_yaml(&vm) + &drives(count) + &format!("machine: {machine}\n")));
            home.json(&["start", &vm]);
            assert_eq!((own_devices(&home, &vm).len(), drive_slots(&home, &vm).len()), (own, count));
            home.json(&["stop", &vm, "--force"]);
        }
    }
}

#[test]
fn test_rng_is_on_machines_without_pci_too() {
    let home = TestHome::new();
    home.add(&(guest::paused_yaml("micro") + "machine: microvm\nwatchdog: true\nballoon: true\npanic: true\n"));
    home.add(&(guest::paused_yaml("isa") + "machine: isapc\nnetwork: none\n"));
    home.json(&["start", "micro", "isa"]);

    let expected = [
        ("balloon", "virtio-balloon-device"),
        ("panic", "pvpanic"),
        ("rng", "virtio-rng-device"),
        ("watchdog", "ib700"),
    ];
    assert_eq!(own_devices(&home, "micro"), expected.map(|(id, kind)| (id.to_owned(), kind.to_owned())));
    assert_eq!(own_devices(&home, "isa"), Vec::new());
    home.json(&["stop", "micro", "isa", "--force"]);
}

/// Each model of a sound card is one that QEMU has; `virtio` is newer than 7.2.
#[test]
fn test_sound_cards_are_accepted_by_qemu() {
    let home = TestHome::new();
    for (model, kind) in [("ac97", "AC97"), ("es1370", "ES1370"), ("sb16", "sb16"), ("usb", "usb-audio")] {
        home.add(&(guest::paused_yaml(model) + &format!("sound: {model}\nrng: false\n")));
        home.json(&["start", model]);
        let devices = own_devices(&home, model);
        home.json(&["stop", model, "--force"]);
        assert!(devices.contains(&("sound".to_owned(), kind.to_owned())), "{devices:?}");
    }
    home.add(&(guest::paused_yaml("virtio") + "sound: virtio\n"));
    if versions::version().major > 7 {
        home.json(&["start", "virtio"]);
        home.json(&["stop", "virtio", "--force"]);
    } else {
        let error = home.json_error(&["start", "virtio"], 2);
        assert!(error.to_string().contains("virtio-sound-pci"), "{error}");
    }
}

/// Returns the line of `info network` about the backend `net0`.
fn backend(home: &TestHome, vm: &str) -> String {
    let command = ["qmp", vm, "human-monitor-command", "command-line=info network", "--allow-dangerous"];
    let text = home.json(&command).as_str().unwrap().to_owned();
    text.lines().find(|line| line.contains("net0: ")).unwrap_or_default().to_owned()
}

#[test]
fn test_user_network_is_restricted_in_its_subnet() {
    let home = TestHome::new();
    let network = "network: {restrict: true, subnet: 192.168.76.0/24, forward: [\"0:22\"], bootindex: 3}\n";
    home.add(&(guest::paused_yaml("web") + network));

    let started = home.json(&["start", "web"]);

    assert!(backend(&home, "web").contains("net=192.168.76.0,restrict=on"), "{}", backend(&home, "web"));
    assert_ne!(started["forwards"][0]["host_port"], 0);
    let card = ["qmp", "web", "qom-get", "path=/machine/peripheral/net0-card", "property=bootindex"];
    assert_eq!(home.json(&card), 3);
    home.json(&["stop", "web", "--force"]);
}

/// A stream in the order of starts that every QEMU supports, and after the end of one VM in both versions.
#[test]
fn test_stream_connects_two_vms() {
    let home = TestHome::new();
    home.add(&(guest::paused_yaml("first") + "network: {mode: stream, listen: ./link.sock}\n"));
    home.add(&(guest::paused_yaml("second") + "network: {mode: stream, connect: ./link.sock}\n"));
    let is_connected = |vm: &str| backend(&home, vm).contains("link.sock");

    home.json(&["start", "first"]);
    home.json(&["start", "second"]);
    wait::until(DEADLINE, "the link", || (is_connected("first") && is_connected("second")).then_some(()));

    home.json(&["stop", "second", "--force"]);
    home.json(&["start", "second"]);
    wait::until(DEADLINE, "the link again", || (is_connected("first") && is_connected("second")).then_some(()));

    home.json(&["stop", "first", "--force"]);
    home.json(&["start", "first"]);
    if versions::has(Difference::StreamReconnects) {
        wait::until(DEADLINE, "the link of a new listener", || is_connected("first").then_some(()));
    }
    home.json(&["stop", "first", "second", "--force"]);
}

/// QEMU starts without the link; of its own switches, it alone finds out.
#[test]
fn test_stream_that_cannot_listen_fails_the_start() {
    let home = TestHome::new();
    // One that no other test gets once it is free.
    let port = port::free();
    let taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let own = format!("stream,id=n,server=on,addr.type=inet,addr.host=127.0.0.1,addr.port={port}");
    let cards = [
        ("port", format!("network: {{mode: stream, listen: '127.0.0.1:{port}'}}\n"), 75),
        ("own", format!("network: none\nargs: [-netdev, '{own}', -device, 'e1000,netdev=n']\n"), 75),
        ("name", format!("network: {{mode: stream, listen: 'localhost:{port}'}}\n"), 69),
        ("path", "network: {mode: stream, listen: ./none/link.sock}\n".to_owned(), 69),
    ];
    let fail = |(name, card, code): &(&str, String, i32)| {
        home.add(&(guest::paused_yaml(name) + card));
        let error = home.json_error(&["start", name], *code);
        assert_eq!(home.json(&["status", name])["status"], "defined", "{name}");
        error
    };

    let errors: Vec<Value> = cards.iter().map(fail).collect();

    let user = format!("(process {})", std::process::id());
    for error in &errors[..2] {
        assert_eq!(error["code"], "host.port-in-use", "{error}");
        assert!(error["message"].as_str().unwrap().contains(&user), "{error}");
    }
    for error in &errors[2..] {
        assert_eq!(error["code"], "host.listen-failed", "{error}");
    }
    assert_eq!(home.qemu_pids(), Vec::<i32>::new());
    drop(taken);
    home.json(&["start", "port"]);
    home.json(&["stop", "port", "--force"]);
}

#[test]
fn test_datagrams_need_no_order_of_starts() {
    let home = TestHome::new();
    home.add(&(guest::paused_yaml("a") + "network: {mode: dgram, local: ./a.sock, remote: ./b.sock}\n"));
    home.add(&(guest::paused_yaml("group") + "network: {mode: dgram, remote: \"230.0.0.1:5007\"}\n"));

    home.json(&["start", "a", "group"]);

    let sockets = format!("{}:{}", home.path("./a.sock").display(), home.path("./b.sock").display());
    assert!(backend(&home, "a").contains(&sockets), "{}: {sockets}", backend(&home, "a"));
    assert!(backend(&home, "group").contains("mcast=230.0.0.1:5007"), "{}", backend(&home, "group"));
    home.json(&["stop", "a", "group", "--force"]);
}

/// QEMU removes what is at the path of a socket.
#[test]
fn test_link_socket_does_not_replace_a_file() {
    let home = TestHome::new();
    let notes = home.write("notes.txt", "important");
    for (card, key) in [
        ("{mode: stream, listen: ./notes.txt}", "network.listen"),
        ("[none, {mode: dgram, local: ./notes.txt, remote: ./b.sock}]", "network[1].local"),
    ] {
        let file = home.write("web.yaml", guest::paused_yaml("web") + &format!("network: {card}\n"));
        let error = home.json_error(&["add", file.to_str().unwrap()], 2);
        assert_eq!(error["problems"][0]["path"], key, "{error}");
    }
    home.add(&(guest::paused_yaml("late") + "network: {mode: stream, listen: ./late.sock}\n"));
    home.write("late.sock", "important, too");

    let error = home.json_error(&["start", "late"], 2);

    assert_eq!(error["code"], "config.path-refused", "{error}");
    let left = [notes, home.path("late.sock")].map(|path| fs::read_to_string(path).unwrap());
    assert_eq!(left, ["important", "important, too"]);
}
