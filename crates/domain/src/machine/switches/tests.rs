mod conflicts;

use serde_json::{Value, json};

use super::{Machine, SWITCHES, Treatment};
use crate::config::Problem;
use crate::machine::builtin_handlers;
use crate::qemu::takes_value;
use crate::storage::builtin_drivers;

fn read(definition: &Value) -> (Machine, Vec<Problem>) {
    let handlers = builtin_handlers(&builtin_drivers().unwrap()).unwrap();
    Machine::read(&serde_json::from_value(definition.clone()).unwrap(), &handlers)
}

/// Asserts the only problem of a definition: its path, and a part of its message.
#[track_caller]
fn check_refused(definition: &Value, path: &str, message: &str) {
    let (_, problems) = read(definition);

    let found: Vec<_> = problems.iter().map(|problem| (problem.path.as_str(), problem.message.as_str())).collect();
    assert!(matches!(found[..], [(at, text)] if at == path && text.contains(message)), "{definition}: {problems:?}");
}

#[track_caller]
fn check_accepted(definition: &Value) {
    assert_eq!(read(definition).1, [], "{definition}");
}

/// Returns the definition with a switch under `arguments`, and with the same one under `args`.
fn both_forms(rest: &Value, name: &str, argument: Option<&str>) -> [(Value, &'static str); 2] {
    let with = |key: &str, list: Value| {
        let mut definition = rest.clone();
        definition[key] = list;
        definition
    };
    let raw = std::iter::once(format!("-{name}")).chain(argument.map(str::to_owned)).collect::<Vec<_>>();
    [(with("arguments", json!([{ name: argument }])), "arguments[0]"), (with("args", json!(raw)), "args[0]")]
}

#[track_caller]
fn check_switch(rest: &Value, name: &str, argument: Option<&str>, expected: Option<&str>) {
    for (definition, path) in both_forms(rest, name, argument) {
        match expected {
            Some(message) => check_refused(&definition, path, message),
            None => check_accepted(&definition),
        }
    }
}

/// A value, if the switch takes one.
fn value_of(name: &str) -> Option<&'static str> {
    takes_value(name).expect("all switches of the table are known").then_some("x")
}

#[test]
fn test_switches_refused_are_errors_with_their_reason() {
    let mut refused = 0;
    for (name, treatment) in SWITCHES {
        if let Treatment::Refused(reason) = treatment {
            refused += 1;
            check_switch(&json!({}), name, value_of(name), Some(&format!("`{name}` is not allowed: {reason}")));
        }
    }
    assert!(refused > 8, "{refused}");
    check_accepted(&json!({"args": ["-append", "help"]}));
}

#[test]
fn test_switches_passed_are_accepted() {
    for (name, treatment) in SWITCHES {
        if *treatment == Treatment::Passed {
            check_switch(&json!({"storage": [{"name": "a"}]}), name, value_of(name), None);
        }
    }
}

#[test]
fn test_snapshot_beside_a_writable_node_is_refused() {
    let with = |device: &str, node: Value| json!({"arguments": ["snapshot", {"blockdev": node}, {"device": device}]});
    let ignored = "`-snapshot` has no effect on the node `z` of a `-blockdev`";
    check_refused(&with("virtio-blk-pci,drive=z", json!("raw,node-name=z,file=f")), "arguments[0]", ignored);
    check_refused(&with("nvme,drive=z", json!({"driver": "raw", "node-name": "z"})), "arguments[0]", ignored);
    check_accepted(&with("virtio-blk-pci,drive=z", json!("raw,node-name=z,file=f,read-only=on")));
    check_accepted(&with("scsi-cd,drive=z", json!("raw,node-name=z,file=f")));
}

#[test]
fn test_snapshot_beside_a_writable_drive_is_refused() {
    let drives = |drives: Value| json!({ "storage": drives });
    let ignored = Some("`-snapshot` has no effect on drive `a`");

    check_switch(&drives(json!([{"name": "a"}])), "snapshot", None, ignored);
    check_switch(
        &drives(json!([{"name": "b", "file": "/b", "readonly": true}, {"name": "a", "type": "raw"}])),
        "snapshot",
        None,
        ignored,
    );
    check_switch(&drives(json!([{"name": "a", "interface": "none"}])), "snapshot", None, ignored);
    check_switch(
        &drives(json!([{"name": "a", "file": "/b", "readonly": true}, {"name": "c", "type": "iso", "file": "/c"}])),
        "snapshot",
        None,
        None,
    );
    check_switch(&drives(json!([{"name": "a", "type": "virtfs", "path": "/s"}])), "snapshot", None, None);
    check_switch(&json!({}), "snapshot", None, None);
    check_switch(&drives(json!([{"name": "a", "snapshot": true}])), "snapshot", None, None);
    check_switch(
        &drives(json!([{"name": "b", "snapshot": true}, {"name": "a", "snapshot": false}])),
        "snapshot",
        None,
        ignored,
    );
}

#[test]
fn test_boot_order_beside_a_bootindex_is_refused() {
    let indexed = json!({"storage": [{"name": "a", "bootindex": 1}]});
    for (argument, shown) in [("c", "-boot c"), ("order=dc", "-boot dc"), ("menu=on,once=d", "-boot d")] {
        let message = format!("`{shown}` has no effect beside the `bootindex` of drive `a`");
        check_switch(&indexed, "boot", Some(argument), Some(&message));
        check_switch(&json!({"storage": [{"name": "a"}]}), "boot", Some(argument), None);
    }
    check_switch(&indexed, "boot", Some("menu=on,strict=on"), None);
    check_switch(&json!({"arguments": [], "args": []}), "boot", Some("c"), None);

    let by_key = |boot: Value| json!({"boot": boot, "storage": [{"name": "a", "bootindex": 1}]});
    check_refused(&by_key(json!("d")), "boot", "`boot: d` has no effect beside");
    check_refused(&by_key(json!({"order": "dc", "menu": "on"})), "boot", "`boot: dc` has no effect beside");
    check_accepted(&by_key(json!({"menu": "on"})));
    let card = json!({"boot": "n", "network": {"bootindex": 1}});
    check_refused(&card, "boot", "beside the `bootindex` of network card `net0`");
    let device = json!({"boot": "c", "arguments": [{"device": "e1000,bootindex=1"}]});
    check_refused(&device, "boot", "beside the `bootindex` of a `-device`");
}

#[test]
fn test_action_of_a_key_and_of_a_switch_is_refused() {
    let both = json!({"watchdog": {"action": "pause"}, "panic": "none"});
    let beside = [
        ("action", "watchdog=reset", "has no effect beside `watchdog: {action: pause}`"),
        ("action", "reboot=shutdown,panic=pause", "has no effect beside `panic: none`"),
        ("watchdog-action", "reset", "has no effect beside `watchdog: {action: pause}`"),
    ];
    for (name, argument, expected) in beside {
        check_switch(&both, name, Some(argument), Some(expected));
        // The action of the switch is that of the device of the key.
        check_switch(&json!({"watchdog": true, "panic": true}), name, Some(argument), None);
    }
    check_switch(&both, "action", Some("reboot=shutdown,shutdown=pause"), None);
    for switch in ["no-reboot", "no-shutdown"] {
        check_switch(&both, switch, None, None);
    }
}

/// Its last item decides, also about raw arguments.
#[test]
fn test_switch_that_is_left_out_is_not_judged() {
    let drive = |rest: Value| {
        let mut definition = json!({"storage": [{"name": "a"}]});
        definition.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        definition
    };
    check_accepted(&drive(json!({"arguments": ["snapshot", {"snapshot": false}]})));
    check_accepted(&drive(json!({"args": ["-snapshot"], "arguments": [{"snapshot": false}]})));
    check_accepted(&drive(json!({"arguments": [{"snapshot": false}], "args": ["--snapshot"]})));
    check_accepted(&json!({"arguments": ["daemonize", {"daemonize": false}]}));
    let again = drive(json!({"arguments": [{"snapshot": false}, "snapshot"]}));
    check_refused(&again, "arguments[1]", "`-snapshot` has no effect on drive `a`");

    let left = |definition: &str| {
        let (machine, problems) = crate::machine::reading::read(definition);
        assert_eq!(problems, [""; 0]);
        (machine.args, machine.arguments.len())
    };
    for keys in [
        r#""args": ["-no-reboot", "-S"], "arguments": [{"no-reboot": false}]"#,
        r#""arguments": ["no-reboot", {"no-reboot": false}], "args": ["-S", "--no-reboot"]"#,
    ] {
        assert_eq!(left(&format!("{{{keys}}}")), (vec!["-S".to_owned()], 0));
    }
    // Also one that is refused in every definition.
    check_accepted(&json!({"args": ["-daemonize", "-append", "-daemonize"], "arguments": [{"daemonize": false}]}));
    check_refused(
        &json!({"args": ["-S", "--daemonize"]}),
        "args[1]",
        "`daemonize` is not allowed: maqet already runs QEMU in the background; remove it",
    );
    check_accepted(&json!({"storage": [{"name": "a"}], "args": ["-append", "-snapshot"]}));
    let value = left(r#"{"args": ["-append", "-S"], "arguments": [{"S": false}]}"#);
    assert_eq!(value.0, ["-append", "-S"]);
}

#[test]
fn test_firmware_of_a_key_and_of_a_switch_is_refused() {
    let uefi = json!({"firmware": "uefi"});
    for (name, argument) in
        [("bios", "/b"), ("pflash", "/b"), ("drive", "if=pflash,format=raw,file=/b"), ("machine", "q35,pflash0=x")]
    {
        check_switch(&uefi, name, Some(argument), Some("sets the firmware, and so does `firmware: uefi`"));
        check_switch(&json!({"firmware": "bios"}), name, Some(argument), None);
    }
    let file = json!({"firmware": "/f.fd"});
    for (name, argument) in
        [("bios", "/b"), ("pflash", "/b"), ("drive", "file=/b,if=pflash"), ("machine", "q35,pflash0=x")]
    {
        check_switch(&file, name, Some(argument), Some("so does `firmware: /f.fd`"));
    }
    check_switch(&file, "drive", Some("file=/b,if=virtio"), None);
    check_switch(&uefi, "drive", Some("if=virtio,format=raw,file=/b"), None);
    check_switch(&uefi, "machine", Some("q35,usb=on"), None);
}

#[test]
fn test_memory_of_a_switch_beside_shared_memory_is_refused() {
    let shared = json!({"storage": [{"name": "s", "type": "virtiofs", "socket": "/r/s"}]});

    check_switch(
        &shared,
        "mem-path",
        Some("/dev/hugepages"),
        Some("`-mem-path` has no effect on memory that drive `s` shares"),
    );
    check_switch(&shared, "mem-prealloc", None, Some("`-mem-prealloc` has no effect"));
    check_switch(&json!({}), "mem-path", Some("/dev/hugepages"), None);
}

#[test]
fn test_no_network_by_switch_beside_cards_is_refused() {
    for name in ["net", "nic"] {
        check_switch(
            &json!({"network": "user"}),
            name,
            Some("none"),
            Some("none` has no effect on network card `net0`"),
        );
        check_switch(&json!({"network": "none"}), name, Some("none"), None);
        check_switch(&json!({}), name, Some("none"), None);
        check_switch(&json!({"network": "user"}), name, Some("user"), None);
    }
}

#[test]
fn test_programs_that_the_sandbox_forbids_are_refused() {
    let forbidden = Some("starts a program, which the sandbox forbids");
    for (name, argument) in [
        ("netdev", "user,id=u,smb=/srv"),
        ("netdev", "user,id=u,guestfwd=tcp:10.0.2.100:80-cmd:cat"),
        ("netdev", "bridge,id=b,br=br0"),
        ("netdev", "tap,id=t,ifname=tap0"),
        ("netdev", "tap,id=t,ifname=tap0,script=no"),
        ("nic", "tap,script=/etc/up,downscript=no"),
        ("net", "tap,helper=/usr/lib/helper"),
        ("incoming", "exec:cat /f"),
        ("incoming", "channel-type=main,addr.transport=exec,addr.args.0=cat"),
        ("incoming", r#"{"channel-type": "main", "addr": {"transport": "exec", "args": ["cat"]}}"#),
    ] {
        check_switch(&json!({}), name, Some(argument), forbidden);
        check_switch(&json!({"sandbox": false}), name, Some(argument), None);
        check_switch(&json!({"args": [], "network": {"mode": "bridge", "bridge": "b"}}), name, Some(argument), None);
    }
    for (name, argument) in [
        ("netdev", "user,id=u,hostfwd=tcp::1-:2"),
        ("netdev", "user,id=u,guestfwd=tcp:10.0.2.100:80-tcp:127.0.0.1:80"),
        ("netdev", "tap,id=t,ifname=tap0,script=no,downscript=no"),
        ("netdev", "tap,id=t,fd=3"),
        ("nic", "user,model=e1000"),
        ("incoming", "defer"),
    ] {
        check_switch(&json!({}), name, Some(argument), None);
    }
    let own = |sandbox: &str| json!({"arguments": [{"sandbox": sandbox}, {"netdev": "user,id=u,smb=/s"}]});
    check_refused(&own("on,spawn=deny"), "arguments[1]", "smb=/s` starts a program");
    check_accepted(&own("on"));
}

#[test]
fn test_terminal_of_a_switch_or_key_is_refused() {
    for (name, argument) in [
        ("serial", "stdio"),
        ("serial", "mon:stdio"),
        ("monitor", "stdio"),
        ("qmp", "stdio"),
        ("parallel", "stdio"),
        ("debugcon", "stdio"),
        ("gdb", "stdio"),
        ("chardev", "stdio,id=c,mux=on"),
        ("chardev", "backend=stdio,id=c"),
        ("display", "curses"),
    ] {
        check_switch(&json!({}), name, Some(argument), Some("requires a terminal, and QEMU runs without one"));
    }
    for (name, argument) in
        [("serial", "file:stdio"), ("monitor", "none"), ("chardev", "null,id=stdio"), ("display", "gtk")]
    {
        check_switch(&json!({}), name, Some(argument), None);
    }
    check_refused(&json!({"serial": "mon:stdio"}), "serial", "`serial: mon:stdio` requires a terminal");
    check_refused(&json!({"display": "curses,charset=x"}), "display", "`display: curses` requires a terminal");
}

#[test]
fn test_lists_of_what_qemu_supports_are_refused() {
    for (name, argument) in
        [("device", "help"), ("device", "e1000,help"), ("cpu", "?"), ("machine", "help"), ("d", "help")]
    {
        check_switch(&json!({}), name, Some(argument), Some("prints a list and exits"));
    }
    check_refused(&json!({"cpu_model": "help"}), "cpu_model", "`cpu: help` prints a list");
    check_refused(&json!({"machine": "help"}), "machine", "`machine: help` prints a list");
    check_accepted(&json!({"args": ["-name", "help", "-append", "help"]}));
}

#[test]
fn test_values_with_which_qemu_prints_and_exits_are_refused() {
    for (name, argument) in [
        ("device", "driver=help"),
        ("boot", "c,help"),
        ("smp", "help"),
        ("machine", "q35,?"),
        ("drive", "format=help"),
        ("nic", "user,model=help"),
        ("net", "nic,model=?"),
        ("L", "help"),
        ("audio", "none,help"),
        ("trace", "enable=help"),
        ("plugin", "help"),
        ("rtc", "help"),
        ("rtc", "base=utc,help"),
        ("action", "panic=none,?"),
        ("msg", "help"),
        ("overcommit", "mem-lock=off,help"),
        ("spice", "help"),
        ("vnc", "none,help"),
        ("global", "help"),
        ("fsdev", "local,help"),
        ("virtfs", "local,help"),
        ("mon", "c,help"),
        ("sandbox", "on,help"),
        ("icount", "shift=1,help"),
        ("name", "web,help"),
        ("m", "64,help"),
        ("fw_cfg", "name=opt/x,help"),
    ] {
        check_switch(&json!({}), name, Some(argument), Some("prints a list and exits"));
    }
    for (name, argument) in [("drive", "file=help"), ("netdev", "user,id=help"), ("device", "e1000,id=help")] {
        check_switch(&json!({}), name, Some(argument), None);
    }
    check_refused(&json!({"network": {"model": "help"}}), "network.model", "prints a list and exits");
    let (_, problems) = read(&json!({"arch": "aarch64", "args": ["-rtc", "help"]}));
    assert!(problems[0].help.as_deref().unwrap().contains("`qemu-system-aarch64 -rtc help`"), "{problems:?}");
}

#[test]
fn test_switches_against_tpm_and_secure_boot_are_refused() {
    let tpm = json!({"tpm": true});
    check_switch(&tpm, "tpmdev", Some("emulator,id=x,chardev=c"), Some("so does `tpm: true`"));
    check_switch(&tpm, "chardev", Some("null,id=tpm"), Some("the ID `tpm` is that of"));
    check_switch(&json!({"tpm": false}), "tpmdev", Some("emulator,id=x,chardev=tpm"), None);
    for argument in ["tpmdev.tpm.chardev=mine", "tpmdev.tpm.cancel-path=/x"] {
        check_switch(&tpm, "set", Some(argument), Some("the ID `tpm` is that of a part that maqet adds"));
    }
    check_switch(&tpm, "set", Some("tpmdev.mine.chardev=c"), None);
    let secure = json!({"machine": "q35", "firmware": {"secure_boot": true}});
    check_switch(&secure, "machine", Some("q35,smm=off"), Some("`secure_boot` requires"));
    check_switch(&secure, "machine", Some("q35,smm=on"), None);
    for argument in ["driver=cfi.pflash01,property=secure,value=off", "value=no,property=secure,driver=cfi.pflash01"] {
        check_switch(&secure, "global", Some(argument), Some("`secure_boot` requires protected flash"));
        check_switch(&json!({"firmware": "uefi"}), "global", Some(argument), None);
    }
    for argument in ["driver=cfi.pflash01,property=secure,value=on", "driver=virtio-pci,property=secure,value=off"] {
        check_switch(&secure, "global", Some(argument), None);
    }
    let map = json!([{"global": {"driver": "cfi.pflash01", "property": "secure", "value": false}}]);
    let definition = json!({"machine": "q35", "firmware": {"secure_boot": true}, "arguments": map});
    check_refused(&definition, "arguments[0]", "`secure` of `cfi.pflash01` is off");
    check_refused(
        &json!({"machine": {"type": "q35", "smm": false}, "firmware": {"secure_boot": true}}),
        "machine",
        "`smm` is off",
    );
    check_accepted(&json!({"machine": {"type": "q35", "smm": false}, "firmware": "uefi"}));
}

#[test]
fn test_ids_of_maqet_are_refused() {
    let definition = json!({
        "machine": "q35",
        "storage": [{"name": "a"}, {"name": "b", "interface": "scsi"}, {"name": "c", "interface": "none"},
            {"name": "s", "type": "virtiofs", "socket": "/r/s"}],
        "network": [{"name": "lan"}, {"name": "off", "mode": "none"}],
        "usb": ["tablet"],
    });
    for (name, argument, owner) in [
        ("chardev", "null,id=qmp", "a part that maqet adds"),
        ("chardev", "null,id=events", "a part that maqet adds"),
        ("chardev", "null,id=serial0", "a part that maqet adds"),
        ("mon", "qmp-free", "a part that maqet adds"),
        ("mon", "chardev=events,mode=control", "a part that maqet adds"),
        ("blockdev", "driver=null-co,node-name=a", "drive `a`"),
        ("blockdev", "driver=null-co,node-name=c-file", "drive `c`"),
        ("drive", "if=none,file=/x,id=a", "drive `a`"),
        ("device", "e1000,id=a", "drive `a`"),
        ("device", "e1000,id=lan-card", "network card `lan`"),
        ("device", "lsi,id=scsi", "a part that maqet adds"),
        ("device", "e1000,id=hotplug-port0", "a part that maqet adds"),
        ("device", "e1000,id=maqet-rng", "a part that maqet adds"),
        ("device", "e1000,id=maqet-usb0", "a part that maqet adds"),
        ("netdev", "user,id=lan", "network card `lan`"),
        ("object", "memory-backend-ram,id=shared-memory,size=1M", "a part that maqet adds"),
    ] {
        let id = argument.split(&['=', ','][..]).find(|part| owner.contains(&format!("`{part}`"))).unwrap_or("");
        check_switch(&definition, name, Some(argument), Some(&format!("`{id}").replace("``", "`")));
        check_switch(&definition, name, Some(argument), Some(&format!("is that of {owner}")));
    }
    for (name, argument) in [
        ("device", "virtio-blk-pci,drive=c,id=c"),
        ("chardev", "null,id=mine"),
        ("netdev", "user,id=off"),
        ("device", "e1000,id=hotplug-port4"),
        ("device", "e1000,id=maqet-usb1"),
        ("object", "memory-backend-ram,id=a,size=2G,share=on"),
    ] {
        check_switch(&definition, name, Some(argument), None);
    }
    let flash = Some("the ID `uefi-vars` is that of a part that maqet adds");
    check_switch(&json!({"firmware": "uefi"}), "blockdev", Some("driver=null-co,node-name=uefi-vars"), flash);
    check_accepted(&json!({"args": ["-chardev", "null,id=serial0", "-serial", "chardev:serial0"]}));
}

/// A doubled comma is part of a value, and a JSON object has the same options.
#[test]
fn test_options_are_split_as_qemu_splits_them() {
    let drive = json!({"firmware": "uefi", "storage": [{"name": "a", "interface": "ide"}]});
    for (name, argument) in [
        ("drive", "file=/x,,if=pflash,if=none,id=x"),
        ("drive", "file=/x,,id=a,if=none"),
        ("netdev", "user,id=u,tftp=/x,,smb=/y"),
        ("object", "rng-random,id=r,filename=/x,,id=shared-memory"),
    ] {
        check_switch(&drive, name, Some(argument), None);
    }
    check_switch(&drive, "device", Some(r#"{"driver": "e1000", "id": "a"}"#), Some("the ID `a` is that of drive `a`"));
    check_switch(&drive, "blockdev", Some(r#"{"driver": "null-co", "node-name": "a"}"#), Some("the ID `a`"));
    check_switch(&drive, "drive", Some("if=none,if=pflash,file=/x"), Some("sets the firmware"));
    check_switch(&drive, "netdev", Some(r#"{"type": "bridge", "id": "u"}"#), Some("`-netdev bridge` starts a program"));
    check_switch(&drive, "device", Some("driver=help"), Some("prints a list and exits"));
}

#[test]
fn test_ide_slots_of_drives_are_refused() {
    let drives = |machine: &str, count: usize| {
        let drives: Vec<Value> = (0..count).map(|n| json!({"name": format!("d{n}"), "interface": "ide"})).collect();
        json!({"machine": machine, "storage": drives})
    };
    for (machine, count, name, argument, drive) in [
        ("pc", 1, "hda", "/x", Some("d0")),
        ("pc", 1, "hdb", "/x", None),
        ("pc", 2, "hdb", "/x", Some("d1")),
        ("pc", 3, "cdrom", "/x", None),
        ("pc", 3, "hdd", "/x", Some("d2")),
        ("pc", 1, "drive", "file=/x", Some("d0")),
        ("pc", 1, "drive", "file=/x,if=ide,index=1", None),
        ("pc", 2, "drive", "file=/x,if=ide,bus=0,unit=1", Some("d1")),
        ("pc", 3, "drive", "file=/x,if=virtio", None),
        ("q35", 2, "hdb", "/x", Some("d1")),
        ("q35", 2, "hdc", "/x", None),
        ("q35", 3, "drive", "file=/x,index=3", Some("d2")),
    ] {
        let message = drive.map(|drive| format!("has the IDE slot of drive `{drive}`"));
        check_switch(&drives(machine, count), name, Some(argument), message.as_deref());
    }
    let two = json!({"storage": [{"name": "a", "interface": "ide"}, {"name": "b", "interface": "ide"}],
        "args": ["-drive", "file=/x,index=3", "-drive", "file=/y,index=2", "-drive", "file=/z"]});
    check_refused(&two, "args[4]", "`-drive` has the IDE slot of drive `a`");
    check_accepted(&json!({"args": ["-hda", "/x"], "storage": [{"name": "a", "interface": "sata"}]}));
}

#[test]
fn test_machine_switch_merges_with_the_key_unless_it_has_a_type() {
    let kind = |definition: &Value| {
        let (machine, problems) = read(definition);
        assert_eq!(problems, [], "{definition}");
        let key = machine.machine_switch().is_some();
        (machine.kind().map(str::to_owned), key, machine.chooses_accelerator())
    };
    let q35 = Some("q35".to_owned());

    assert_eq!(kind(&json!({"machine": "q35", "arguments": [{"machine": {"usb": "on"}}]})), (q35.clone(), true, false));
    assert_eq!(kind(&json!({"machine": "pc", "arguments": [{"M": "q35"}]})), (q35.clone(), false, false));
    assert_eq!(kind(&json!({"machine": "pc", "args": ["-M", "q35,accel=tcg"]})), (q35.clone(), false, true));
    assert_eq!(kind(&json!({"machine": "pc", "args": ["--machine", "usb=on,type=q35"]})), (q35, false, false));
    assert_eq!(kind(&json!({"args": ["-machine", "accel=tcg"]})), (None, false, true));
    // The key has no type either.
    let both = json!({"machine": {"usb": "on"}, "args": ["-machine", "q35,smm=on"]});
    assert_eq!(kind(&both), (Some("q35".to_owned()), true, false));
}
