//! Limits of the keys of drives and cards.

use super::reading::read;
use super::{Machine, builtin_handlers};
use crate::config::Node;
use crate::storage::builtin_drivers;

#[track_caller]
fn check_drive(keys: &str, expected: &[&str]) {
    let (machine, problems) = read(&format!(r#"{{"storage": [{{"name": "a", {keys}}}]}}"#));

    assert_eq!(problems, expected, "{keys}");
    assert_eq!(machine.storage.len(), 1, "{keys}");
}

#[track_caller]
fn check_network(network: &str, expected: &[&str]) {
    assert_eq!(read(&format!(r#"{{"network": {network}}}"#)).1, expected, "{network}");
}

#[test]
fn test_drive_size_is_at_least_a_sector() {
    check_drive(r#""size": "512B""#, &[]);
    check_drive(r#""size": "513b""#, &[]);
    check_drive(r#""size": "511B""#, &["storage[0].size: a disk of 511 bytes is too small, the minimum is 512"]);
}

/// Other programs count in MiB, and a disk of 40,960 bytes is none.
#[test]
fn test_drive_size_without_unit_is_at_least_a_mebibyte() {
    check_drive(r#""size": 1048576"#, &[]);
    check_drive(r#""size": "1048576""#, &[]);
    check_drive(r#""size": "40K""#, &[]);
    for size in ["40960", r#""40960""#] {
        let message = "storage[0].size: `40960` without a unit is 40960 bytes, less than a disk needs";
        check_drive(&format!(r#""size": {size}"#), &[message]);
    }
    check_drive(r#""size": 1"#, &["storage[0].size: `1` without a unit is 1 bytes, less than a disk needs"]);
}

#[test]
fn test_shares_of_one_type_have_mount_tags_of_their_own() {
    let share = |name: &str, rest: &str| format!(r#"{{"name": "{name}", "type": "virtfs", "path": "/s"{rest}}}"#);
    let socket =
        |name: &str, rest: &str| format!(r#"{{"name": "{name}", "type": "virtiofs", "socket": "/r/{name}"{rest}}}"#);
    let problems = |one: String, other: String| read(&format!(r#"{{"storage": [{one}, {other}]}}"#)).1;
    let tagged = r#", "options": {"mount_tag": "a"}"#;
    let expected = ["storage[1]: another share has the mount tag `a`"];

    assert_eq!(problems(share("a", ""), share("b", tagged)), expected);
    assert_eq!(problems(share("b", tagged), share("c", tagged)), ["storage[1]: another share has the mount tag `a`"]);
    assert_eq!(problems(socket("a", ""), socket("b", r#", "mount_tag": "a""#)), expected);
    assert_eq!(problems(share("a", ""), share("b", "")), [""; 0]);
    // The guest mounts them with different types.
    assert_eq!(problems(share("x", tagged), socket("a", "")), [""; 0]);
}

#[test]
fn test_boot_words_of_other_programs_name_the_letter() {
    for (definition, at, message) in [
        (r#"{"boot": "cdrom,hd"}"#, "boot", "`boot: cdrom,hd` is not a boot order of QEMU"),
        (r#"{"boot": "hd cdrom"}"#, "boot", "`boot: hd,cdrom` is not a boot order of QEMU"),
        (r#"{"boot": "d,c"}"#, "boot", "`boot: d,c` is not a boot order of QEMU"),
        (r#"{"boot": "usb"}"#, "boot", "`boot: usb` is not a boot order of QEMU"),
        (r#"{"boot": "pxe"}"#, "boot", "`boot: pxe` is not a boot order of QEMU"),
        (r#"{"boot": "hd"}"#, "boot", "`boot: hd` is not a boot order of QEMU"),
        (r#"{"boot": {"order": "cdrom", "menu": "on"}}"#, "boot", "`boot: cdrom` is not a boot order of QEMU"),
        (
            r#"{"arguments": [{"boot": {"once": "network"}}]}"#,
            "arguments[0]",
            "`-boot network` is not a boot order of QEMU",
        ),
        (r#"{"args": ["-boot", "hd"]}"#, "args[0]", "`-boot hd` is not a boot order of QEMU"),
    ] {
        assert_eq!(read(definition).1, [format!("{at}: {message}")], "{definition}");
    }
    for definition in [r#"{"boot": "cd"}"#, r#"{"boot": {"order": "dc", "menu": "on"}}"#, r#"{"boot": "menu=on"}"#] {
        assert_eq!(read(definition).1, [""; 0], "{definition}");
    }
}

#[test]
fn test_mac_address_of_no_card_is_refused_everywhere() {
    for mac in ["00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01"] {
        for (definition, at) in [
            (format!(r#"{{"network": {{"mac": "{mac}"}}}}"#), "network.mac"),
            (format!(r#"{{"arguments": [{{"device": "e1000", "mac": "{mac}"}}]}}"#), "arguments[0]"),
            (format!(r#"{{"args": ["-nic", "user,mac={mac}"]}}"#), "args[0]"),
        ] {
            let problems = read(&definition).1;
            assert!(problems[0].starts_with(&format!("{at}: invalid MAC address `{mac}`: a")), "{problems:?}");
        }
    }
    // Whether QEMU takes another notation is its own matter.
    assert_eq!(read(r#"{"args": ["-device", "e1000,mac=52-54-00-12-34-56"]}"#).1, [""; 0]);
}

#[test]
fn test_drive_serial_has_at_most_twenty_bytes() {
    let serial = |length| format!(r#""serial": "{}""#, "s".repeat(length));

    check_drive(&serial(1), &[]);
    check_drive(&serial(20), &[]);
    check_drive(&serial(21), &["storage[0].serial: serial number of 21 bytes is too long, the limit is 20"]);
}

#[test]
fn test_drive_discard_is_a_boolean_or_a_qemu_value() {
    for (word, expected) in [("true", true), (r#""unmap""#, true), ("false", false), (r#""ignore""#, false)] {
        let (machine, problems) = read(&format!(r#"{{"storage": [{{"name": "a", "discard": {word}}}]}}"#));

        assert_eq!((machine.storage[0].discard, problems.len()), (Some(expected), 0), "{word}");
    }
    check_drive(r#""discard": "maybe""#, &["storage[0].discard: expected `true` or `false`, found the string `maybe`"]);
}

#[test]
fn test_drive_backing_format_requires_backing_file() {
    check_drive(r#""backing_format": "raw""#, &["storage[0].backing_format: `backing_format` requires `backing_file`"]);

    let (machine, _) = read(r#"{"storage": [{"name": "a", "backing_file": "/b", "backing_format": "raw"}]}"#);

    let backing = machine.storage[0].backing.as_ref().unwrap();
    assert_eq!((backing.file.to_str(), backing.format.as_deref()), (Some("/b"), Some("raw")));
}

#[test]
fn test_drives_with_the_same_name_are_an_error() {
    let (machine, problems) = read(r#"{"storage": [{"name": "a"}, {"name": "b"}, {"name": "a"}]}"#);

    let names: Vec<&str> = machine.storage.iter().map(|storage| storage.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "a"]);
    assert_eq!(problems, ["storage[2].name: another drive is named `a`"]);
}

#[test]
fn test_drive_relative_paths_are_rebased() {
    let handlers = builtin_handlers(&builtin_drivers().unwrap()).unwrap();
    let list: Node =
        serde_json::from_str(r#"[{"name": "a", "file": "f", "backing_file": "b", "serial": "s"}]"#).unwrap();

    let rebased = handlers.get("storage").unwrap().rebase(list, std::path::Path::new("/conf"));

    let expected = r#"[{"name":"a","file":"/conf/f","backing_file":"/conf/b","serial":"s"}]"#;
    assert_eq!(serde_json::to_string(&rebased).unwrap(), expected);
}

#[test]
fn test_cards_are_at_most_thirty_two() {
    let cards = |count| format!("[{}]", vec!["{}"; count].join(","));

    check_network(&cards(32), &[]);
    check_network(&cards(33), &["network[32]: too many network cards: 33, the limit is 32"]);
}

#[test]
fn test_cards_with_the_same_name_are_an_error() {
    check_network(
        r#"[{"name": "x"}, "user", {"name": "x"}, {"name": "net1"}]"#,
        &[
            "network[2].name: another network card is named `x`",
            "network[3].name: another network card is named `net1`",
        ],
    );
    check_network(
        r#"[{"name": "net1"}, {}]"#,
        &["network[1].name: another network card is named `net1`, the default name of this one"],
    );
}

#[test]
fn test_card_forwards_each_host_port_once() {
    check_network(r#"{"forward": ["0:22", "0:80", "1:22", "2:22", "udp:1:22", "0.0.0.0:1:22"]}"#, &[]);
    check_network(
        r#"{"forward": ["1:22", "2:22", "1:80", "x"]}"#,
        &[
            "network.forward[3]: invalid port forward `x`: expected `HOST:GUEST`, as in `2222:22`",
            "network.forward[2]: host port 1 is already forwarded",
        ],
    );
    check_network(r#"[{"forward": ["0:22", "1:22"]}, {"forward": ["0:22", "udp:1:22", "2:22"]}, "user"]"#, &[]);
    check_network(
        r#"[{"forward": ["2:22", "1:22"]}, {"forward": ["0:22", "1:22"]}]"#,
        &["network[1].forward[1]: host port 1 is already forwarded"],
    );
}

#[test]
fn test_drive_attachment_fits_its_interface() {
    let scsi = |keys: &str| format!(r#""interface": "scsi", {keys}"#);
    check_drive(&scsi(r#""controller": "c", "port": 255"#), &[]);
    check_drive(&scsi(r#""controller": "scsi""#), &[]);
    check_drive(&scsi(r#""controller": "sata""#), &["storage[0].controller: invalid name `sata`: reserved by maqet"]);
    check_drive(&scsi(r#""controller": "a""#), &["storage[0].controller: `a` is the name of a drive"]);
    check_drive(
        r#""interface": "sata", "port": 6"#,
        &["storage[0].port: expected a port from 0 to 5, found the number `6`"],
    );
    check_drive(
        r#""interface": "ide", "port": 1, "controller": "c""#,
        &[
            "storage[0].controller: `interface: ide` does not support `controller`",
            "storage[0].port: `interface: ide` does not support `port`",
        ],
    );
    check_drive(r#""aio": "native", "cache": "none""#, &[]);
    check_drive(
        r#""aio": "native""#,
        &["storage[0].aio: `aio: native` requires a cache mode without the host's cache"],
    );
}

#[test]
fn test_drive_ports_of_a_controller_are_unique() {
    let drives = |second: &str| {
        let first = r#"{"name": "a", "interface": "scsi", "controller": "c", "port": 1}"#;
        read(&format!(r#"{{"storage": [{first}, {{"name": "b", {second}}}]}}"#)).1
    };

    let none = Vec::<String>::new();
    assert_eq!(drives(r#""interface": "scsi", "port": 1"#), none);
    assert_eq!(drives(r#""interface": "scsi", "controller": "c", "port": 2"#), none);
    assert_eq!(
        drives(r#""interface": "scsi", "controller": "c", "port": 1"#),
        ["storage[1].port: another drive has port 1 of controller `c`"]
    );
    assert_eq!(
        drives(r#""interface": "sata", "controller": "c""#),
        ["storage[1].controller: controller `c` has drives with `interface: scsi`"]
    );
    let sata = |controller: &str| {
        let drives = (0..7)
            .map(|n| format!(r#"{{"name": "d{n}", "interface": "sata"{}}}"#, if n > 3 { controller } else { "" }));
        read(&format!(r#"{{"storage": [{}]}}"#, drives.collect::<Vec<_>>().join(","))).1
    };
    assert_eq!(sata(r#", "controller": "c""#), none);
    assert_eq!(sata(""), ["storage[6]: too many drives with `interface: sata`: 7, the limit is 6"]);
}

#[test]
fn test_drive_in_a_format_of_another_program_must_exist() {
    for kind in ["vmdk", "vdi", "vhdx", "vpc"] {
        let drive = |keys: &str| format!(r#""type": "{kind}"{keys}"#);
        check_drive(&drive(r#", "file": "/a""#), &[]);
        check_drive(&drive(""), &[&format!("storage[0]: `type: {kind}` requires `file`")]);
        check_drive(
            &drive(r#", "file": "/a", "size": "1G""#),
            &[&format!("storage[0].size: `type: {kind}` does not support `size`")],
        );
    }
}

#[test]
fn test_drive_bootindex_is_unique() {
    let problems = |entries: &str| read(&format!(r#"{{"storage": [{entries}]}}"#)).1;

    let apart = r#"{"name": "a", "bootindex": 0}, {"name": "b", "bootindex": 1}, {"name": "c"}, {"name": "d"}"#;
    assert_eq!(problems(apart), Vec::<String>::new());
    let twice = r#"{"name": "a", "bootindex": 1}, {"name": "b"}, {"name": "c", "bootindex": 1}"#;
    assert_eq!(problems(twice), ["storage[2].bootindex: another drive has `bootindex: 1`"]);
}

#[test]
fn test_bootindex_is_unique_among_drives_and_cards() {
    let problems = |definition: &str| read(definition).1;

    assert_eq!(
        problems(r#"{"storage": [{"name": "a", "bootindex": 0}], "network": {"bootindex": 1}}"#),
        Vec::<String>::new()
    );
    assert_eq!(
        problems(r#"{"network": {"bootindex": 0}, "storage": [{"name": "a", "bootindex": 0}]}"#),
        ["network.bootindex: a drive has `bootindex: 0`"]
    );
    assert_eq!(
        problems(r#"{"network": [{"mode": "x"}, {"bootindex": 4}, {"bootindex": 4}, {"bootindex": 70000}]}"#)[1..],
        [
            "network[3].bootindex: expected an integer from 0 to 65535, found the number `70000`",
            "network[2].bootindex: another network card has `bootindex: 4`",
        ]
    );
}

#[test]
fn test_card_link_requires_its_ends() {
    check_network(r#""stream""#, &["network: `mode: stream` requires `listen` or `connect`"]);
    check_network(
        r#"{"mode": "stream", "listen": "/a", "connect": "/b"}"#,
        &["network.connect: a stream has either `listen` or `connect`"],
    );
    check_network(r#"{"mode": "dgram", "local": "/a"}"#, &["network: `mode: dgram` requires `remote`"]);
    let local = "`mode: dgram` requires `local`, unless `remote` is a multicast address";
    check_network(r#"{"mode": "dgram", "remote": "/a"}"#, &[&format!("network: {local}")]);
    check_network(r#"{"mode": "dgram", "remote": "10.0.0.1:1"}"#, &[&format!("network: {local}")]);
    check_network(r#"{"mode": "dgram", "remote": "239.0.0.1:1"}"#, &[]);
    check_network(
        r#"[{"mode": "dgram", "local": "/a", "remote": "x:1"}, {"mode": "dgram", "local": "x:1", "remote": "x:1"}]"#,
        &[
            "network[0].local: `local` and `remote` are either both paths or both `HOST:PORT`",
            "network[1].local: `local` and `remote` are the same",
        ],
    );
    check_network(
        r#"{"mode": "stream", "connect": "lab"}"#,
        &["network.connect: invalid address `lab`: expected `HOST:PORT`, or a path with a `/`"],
    );
}

#[test]
fn test_card_mode_socket_names_the_modes_of_today() {
    let handlers = builtin_handlers(&builtin_drivers().unwrap()).unwrap();
    let definition: Node = serde_json::from_str(r#"{"network": [{"mode": "socket"}, "socket"]}"#).unwrap();

    let problems = Machine::read(&definition, &handlers).1;

    let paths: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(paths, ["network[0].mode", "network[1]"]);
    assert!(problems.iter().all(|problem| problem.help.as_ref().unwrap().contains("`mode: stream`")), "{problems:?}");
}

#[test]
fn test_card_relative_socket_paths_are_rebased() {
    let handlers = builtin_handlers(&builtin_drivers().unwrap()).unwrap();
    let rebased = |text: &str| {
        let node: Node = serde_json::from_str(text).unwrap();
        let node = handlers.get("network").unwrap().rebase(node, std::path::Path::new("/conf"));
        serde_json::to_string(&node).unwrap()
    };

    assert_eq!(rebased(r#"{"listen":"a/b","bridge":"b/c"}"#), r#"{"listen":"/conf/a/b","bridge":"b/c"}"#);
    let list = r#"[{"connect":"lab:1"},{"local":"x/a","remote":"/b"},"none"]"#;
    assert_eq!(rebased(list), r#"[{"connect":"lab:1"},{"local":"/conf/x/a","remote":"/b"},"none"]"#);
}

/// As with `size: null` of a drive: null deletes the value of another file.
#[test]
fn test_null_in_a_map_is_a_missing_key() {
    let values = |definition: &str| {
        let (machine, problems) = read(definition);
        assert_eq!(problems, Vec::<String>::new(), "{definition}");
        let switches = [machine.machine_type, machine.boot].map(|switch| switch?.argument().map(str::to_owned));
        (machine.labels.len(), machine.hooks.len(), switches)
    };

    assert_eq!(values(r#"{"labels": {"a": null, "b": 1}, "hooks": {"vm.started": null}}"#), (1, 0, [None, None]));
    assert_eq!(
        values(r#"{"machine": {"type": "q35", "usb": null}, "boot": {"menu": null, "order": "c"}}"#),
        (0, 0, [Some("type=q35".to_owned()), Some("order=c".to_owned())])
    );
    for nothing in ["{}", r#"{"x": null}"#] {
        let (machine, problems) = read(&format!(r#"{{"machine": {nothing}, "boot": {nothing}}}"#));
        assert_eq!((machine.machine_type, machine.boot, problems.len()), (None, None, 0), "{nothing}");
    }
}

#[test]
fn test_card_passt_requires_host_ports() {
    check_network(r#"{"mode": "passt", "forward": ["1:22"]}"#, &[]);
    check_network(r#"{"mode": "passt"}"#, &[]);
    check_network(
        r#"{"mode": "passt", "forward": ["1:22", "0:80"]}"#,
        &["network.forward: `mode: passt` cannot choose a free port; set the host port"],
    );
}

#[test]
fn test_card_tap_and_bridge_require_their_key() {
    check_network(r#"{"mode": "bridge"}"#, &["network: `mode: bridge` requires `bridge`"]);
    check_network(r#"{"mode": "tap"}"#, &["network: `mode: tap` requires `interface`"]);
    check_network(r#""tap""#, &["network: `mode: tap` requires `interface`"]);
    check_network(r#"[{"mode": "bridge", "bridge": "b"}, {"mode": "tap", "interface": "t"}]"#, &[]);
}

#[test]
fn test_card_problems_name_their_keys() {
    check_network(
        r#"{"mac": "x", "models": "e1000"}"#,
        &[
            "network.models: unknown key `models`",
            "network.mac: invalid MAC address `x`: expected six bytes, as in `52:54:00:12:34:56`",
        ],
    );
    let (machine, _) = read(r#"{"network": [{"mac": "52:54:00:00:00:0a", "model": "e1000", "name": "lan"}, "none"]}"#);
    let cards: Vec<String> =
        machine.network.iter().map(|card| format!("{} {} {:?}", card.name, card.model, card.mode)).collect();
    assert_eq!(cards, ["lan e1000 User", "net1 virtio-net-pci None"]);
    assert_eq!(machine.network[0].mac.unwrap().to_string(), "52:54:00:00:00:0a");
}

#[test]
fn test_drive_invalid_value_is_reported_once() {
    for (entry, expected) in [
        (r#"{"name": "a", "type": "nvme", "interface": "usb"}"#, &["interface"][..]),
        (r#"{"name": "a", "type": "iso", "file": 7}"#, &["file"]),
        (r#"{"name": "a", "type": "iso", "file": 7, "readonly": "maybe"}"#, &["file", "readonly"]),
    ] {
        let (_, problems) = read(&format!(r#"{{"storage": [{entry}]}}"#));

        let paths: Vec<&str> = problems.iter().filter_map(|problem| problem.split(": expected").next()).collect();
        let expected: Vec<String> = expected.iter().map(|key| format!("storage[0].{key}")).collect();
        assert_eq!(paths, expected, "{entry}");
    }
}
