//! Switches beside parts of maqet, or beside each other.

use super::*;

#[test]
fn test_set_of_a_part_of_maqet_is_refused() {
    let definition =
        json!({"network": "user", "storage": [{"name": "a"}, {"name": "s", "type": "virtfs", "path": "/s"}]});
    for (argument, owner) in [
        ("chardev.qmp.path=/x", "`qmp` is that of a part that maqet adds"),
        ("chardev.events.path=/x", "`events` is that of a part"),
        ("device.a.drive=b", "`a` is that of drive `a`"),
        ("device.a.id=b", "`a` is that of drive `a`"),
        ("netdev.net0.restrict=on", "`net0` is that of network card `net0`"),
        ("fsdev.s.path=/etc", "`s` is that of drive `s`"),
    ] {
        check_switch(&definition, "set", Some(argument), Some(owner));
    }
    for argument in ["device.a.serial=x", "chardev.mine.path=/x", "device.mine.drive=a", "x"] {
        check_switch(&definition, "set", Some(argument), None);
    }
}

#[test]
fn test_character_devices_of_maqet_are_not_connected_again() {
    for (name, argument) in [
        ("serial", "chardev:qmp"),
        ("monitor", "chardev:events"),
        ("parallel", "chardev:serial0"),
        ("mon", "qmp-free"),
        ("device", "virtserialport,chardev=qmp-s1"),
    ] {
        check_switch(&json!({}), name, Some(argument), Some("is that of a part that maqet adds"));
    }
    check_refused(&json!({"serial": "chardev:qmp"}), "serial", "the ID `qmp` is that of a part");
    check_accepted(
        &json!({"args": ["-chardev", "null,id=c", "-parallel", "chardev:c", "-device", "isa-serial,chardev=c"]}),
    );
}

#[test]
fn test_second_device_of_a_key_is_refused() {
    let keys = json!({"balloon": true, "panic": true});
    check_switch(&keys, "device", Some("virtio-balloon-pci"), Some("is a second one beside that of `balloon`"));
    check_switch(&keys, "device", Some("pvpanic"), Some("is a second one beside that of `panic`"));
    for (rest, driver) in [(&keys, "virtio-rng-pci"), (&json!({"balloon": false}), "virtio-balloon-pci")] {
        check_switch(rest, "device", Some(driver), None);
    }
}

#[test]
fn test_numa_nodes_beside_other_memory_are_refused() {
    let numa = json!({"numa": 2, "cpu": 2});
    for (name, argument, message) in [
        ("numa", "type=node,nodeid=2", "cannot be combined with `-numa node`"),
        ("machine", "memory-backend=m", "cannot be combined with a `memory-backend`"),
    ] {
        for (definition, _) in both_forms(&numa, name, Some(argument)) {
            check_refused(&definition, "numa", message);
        }
    }
    check_switch(&numa, "numa", Some("dist,src=0,dst=1,val=20"), None);
}

#[test]
fn test_mount_tag_or_address_of_two_devices_is_refused() {
    let definition = json!({"network": {"mac": "52:54:00:00:00:01"}, "storage": [
        {"name": "s", "type": "virtfs", "path": "/s", "options": {"mount_tag": "t"}},
        {"name": "v", "type": "virtiofs", "socket": "/v"}]});
    for (name, argument, message) in [
        ("device", "virtio-9p-pci,fsdev=f,mount_tag=t", "the mount tag `t` is that of drive `s`"),
        ("virtfs", "local,path=/x,mount_tag=t,security_model=none,id=f", "the mount tag `t` is that of drive `s`"),
        ("device", "vhost-user-fs-pci,chardev=c,tag=v", "the mount tag `v` is that of drive `v`"),
        ("device", "e1000,mac=52-54-00-00-00-01", "address 52:54:00:00:00:01 is that of network card `net0`"),
        ("nic", "user,mac=52:54:00:00:00:01", "is that of network card `net0`"),
        ("net", "nic,macaddr=52:54:00:00:00:01", "is that of network card `net0`"),
    ] {
        check_switch(&definition, name, Some(argument), Some(message));
    }
    for (name, argument) in [
        ("device", "virtio-9p-pci,fsdev=f,mount_tag=v"),
        ("device", "vhost-user-fs-pci,chardev=c,tag=t"),
        ("device", "e1000,mac=52:54:00:00:00:02"),
    ] {
        check_switch(&definition, name, Some(argument), None);
    }
    let two = json!({"args": ["-device", "e1000,mac=52:54:00:00:00:09", "-nic", "user,mac=52:54:00:00:00:09"]});
    check_refused(&two, "args[2]", "is that of another `-device`");
    check_switch(&json!({}), "device", Some("e1000,mac=00-00-00-00-00-00"), Some("00:00:00:00:00:00"));
}

#[test]
fn test_file_that_only_a_shell_would_find_is_refused() {
    for (name, argument) in [
        ("kernel", "$HOME/vmlinuz"),
        ("initrd", "~/initrd"),
        ("D", "${HOME}/qemu.log"),
        ("drive", "file=~/a.img,format=qcow2"),
        ("bios", "~/b.bin"),
    ] {
        check_switch(&json!({}), name, Some(argument), Some("is expanded by shells only"));
    }
    check_switch(&json!({}), "append", Some("root=$HOME"), None);
    check_switch(&json!({}), "cdrom", Some("https://example.org/a.iso"), None);
    for address in ["~/a.sock", "$XDG_RUNTIME_DIR/a.sock", "/run/$USER/a"] {
        let link = json!({"network": {"mode": "stream", "listen": address}});
        check_refused(&link, "network.listen", "is expanded by shells only");
    }
}

#[test]
fn test_boot_order_in_words_names_its_letters() {
    for (boot, help) in [
        (json!("cdrom,hd"), "write `dc`: a letter for each device, in one word"),
        (json!("network disk"), "write `nc`: a letter for each device, in one word"),
        (json!({"once": "cdrom", "menu": "on"}), "write `d`: a letter for each device, in one word"),
        (
            json!("usb"),
            "write `c` for a disk, `d` for a CD, `n` for the network, `a` for a floppy; or set `bootindex` for the device",
        ),
    ] {
        let (_, problems) = read(&json!({ "boot": boot }));
        assert_eq!(problems[0].help.as_deref(), Some(help), "{boot}");
    }
    for boot in [json!("dc"), json!("order=dc,menu=on"), json!({"order": "n", "strict": "on"}), json!("menu=on")] {
        check_accepted(&json!({ "boot": boot }));
    }
}

#[test]
fn test_datagrams_over_ipv6_are_refused() {
    let card = |mode: &str, address: &str| match mode {
        "dgram" => json!({"network": {"mode": mode, "remote": address, "local": "[::1]:6"}}),
        _ => json!({"network": {"mode": mode, "listen": address}}),
    };
    for address in ["[::1]:5", "[ff02::1]:5", "127.0.0.1:5"] {
        check_refused(&card("dgram", address), "network", "`mode: dgram` does not support IPv6");
    }
    check_accepted(&card("stream", "[::1]:5"));
}

#[test]
fn test_flags_that_contradict_the_machine_are_refused() {
    for (flag, option, contrary) in [("no-acpi", "acpi", "on"), ("no-hpet", "hpet", "on"), ("usb", "usb", "off")] {
        let message = format!("`-{flag}` contradicts `{option}={contrary}` of the machine");
        check_switch(&json!({"machine": {"type": "pc", option: contrary}}), flag, None, Some(&message));
        let same = if contrary == "on" { "off" } else { "on" };
        check_switch(&json!({"machine": {"type": "pc", option: same}}), flag, None, None);
        check_switch(&json!({"machine": "pc"}), flag, None, None);
    }
    let raw = json!({"args": ["-machine", "acpi=on", "-no-acpi"]});
    check_refused(&raw, "args[2]", "`-no-acpi` contradicts `acpi=on` of the machine");
}

#[test]
fn test_json_in_quotes_is_refused() {
    for argument in [r#"'{"driver": "e1000"}'"#, r#" "{'driver': 'e1000'}" "#] {
        check_switch(&json!({}), "device", Some(argument), Some("QEMU does not remove the quotes around the JSON"));
        check_switch(&json!({}), "append", Some(argument), None);
    }
    check_switch(&json!({}), "device", Some(r#"{"driver": "e1000"}"#), None);
}

#[test]
fn test_snapshot_beside_memory_of_a_device_is_refused() {
    let with = |backend: &str, device: &str| {
        let object = format!("memory-backend-file,id=n,size=1G,mem-path=/d.raw,{backend}");
        json!({"arguments": [{"object": object}, {"device": device}, "snapshot"]})
    };
    let ignored = "`-snapshot` has no effect on `/d.raw`, the memory of a device, which would be written";

    for (backend, device, refusal) in [
        ("share=on", "nvdimm,memdev=n", Some(ignored)),
        ("share=on", "virtio-pmem-pci,memdev=n", Some(ignored)),
        ("share=on,readonly=on", "nvdimm,memdev=n,unarmed=on", None),
        ("share=off", "nvdimm,memdev=n", None),
        ("share=on", "nvdimm,memdev=other", None),
    ] {
        let definition = with(backend, device);
        refusal.map_or_else(|| check_accepted(&definition), |text| check_refused(&definition, "arguments[2]", text));
    }
}

/// Without the disks of the same time, a guest may not boot from its variables, or open them with its TPM.
#[test]
fn test_snapshot_beside_what_the_guest_keeps_elsewhere_is_refused() {
    let drives = json!([{"name": "a", "snapshot": true}]);
    for (definition, state) in [
        (json!({"firmware": "uefi"}), "the UEFI variables"),
        (json!({"firmware": "uefi", "storage": drives, "tpm": true}), "the UEFI variables"),
        (json!({"firmware": {"type": "uefi", "variables": "/v.fd"}}), "the UEFI variables"),
        (json!({"tpm": true, "storage": drives}), "the state of the TPM"),
    ] {
        let message = format!("`-snapshot` has no effect on {state}, which would be written");
        check_switch(&definition, "snapshot", None, Some(&message));
    }
    // Neither has flash that is written.
    check_switch(&json!({"firmware": "/f.bin", "storage": drives}), "snapshot", None, None);
    check_switch(&json!({"tpm": false}), "snapshot", None, None);
}

#[test]
fn test_other_accelerator_than_that_of_the_key_is_refused() {
    for (key, name, argument, message) in [
        ("tcg", "accel", Some("kvm"), "`-accel kvm` contradicts `accel: tcg`"),
        ("tcg", "accel", Some("kvm,kernel-irqchip=off"), "contradicts `accel: tcg`"),
        ("tcg", "enable-kvm", None, "`-enable-kvm` contradicts `accel: tcg`"),
        ("tcg", "machine", Some("q35,accel=kvm"), "`accel=kvm` of the machine contradicts `accel: tcg`"),
        ("tcg", "machine", Some("accel=kvm:tcg"), "`accel=kvm:tcg` of the machine contradicts `accel: tcg`"),
        ("kvm", "accel", Some("tcg,thread=single"), "contradicts `accel: kvm`"),
        ("kvm", "machine", Some("accel=kvm:tcg"), "contradicts `accel: kvm`"),
    ] {
        check_switch(&json!({"accel": key}), name, argument, Some(message));
        check_switch(&json!({"accel": "auto"}), name, argument, None);
        check_switch(&json!({}), name, argument, None);
    }
    let key = json!({"accel": "tcg", "machine": {"type": "q35", "accel": "kvm"}});
    check_refused(&key, "machine", "`accel=kvm` of the machine contradicts `accel: tcg`");
    for (key, argument) in [("tcg", "tcg,thread=single"), ("kvm", "kvm"), ("tcg", "hvf"), ("tcg", "qtest")] {
        check_switch(&json!({"accel": key}), "accel", Some(argument), None);
    }
}

#[test]
fn test_lists_in_options_and_items_are_refused() {
    for (name, argument) in [("d", "trace:help"), ("d", "int,trace:help"), ("audio", "none,model=help")] {
        check_switch(&json!({}), name, Some(argument), Some("prints a list and exits"));
    }
    check_switch(&json!({}), "d", Some("trace:x"), None);
}

#[test]
fn test_boolean_in_place_of_a_file_is_refused() {
    for name in ["kernel", "hda", "bios"] {
        let definition = json!({"arguments": [{ name: true }]});
        check_refused(&definition, &format!("arguments[0].{name}"), "expected a file, found");
    }
}

#[test]
fn test_boot_order_as_a_list_says_how_to_write_it() {
    for (boot, help) in [
        (json!(["hd", "cdrom"]), Some("write `boot: cd`: a letter for each device, in one word")),
        (json!(["d", "c"]), Some("write `boot: dc`: a letter for each device, in one word")),
        (json!(["usb"]), None),
        (json!(["c", {}]), None),
    ] {
        let (_, problems) = read(&json!({ "boot": boot }));
        assert_eq!(problems.iter().map(|one| one.help.as_deref()).collect::<Vec<_>>(), [help], "{boot}");
    }
    let (_, problems) = read(&json!({"machine": ["q35"]}));
    assert_eq!(problems[0].help, None);
}

/// QEMU exits with 0, as if a guest had powered off at once.
#[test]
fn test_device_tree_dump_of_the_machine_is_refused() {
    let message = "with `dumpdtb` of the machine, QEMU writes a file and exits";
    check_switch(&json!({}), "machine", Some("virt,dumpdtb=/x"), Some(message));
    check_refused(&json!({"machine": {"type": "virt", "dumpdtb": "/x"}}), "machine", message);
    check_refused(&json!({"args": ["-M", "dumpdtb=/x"]}), "args[0]", message);
}
