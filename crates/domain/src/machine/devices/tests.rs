//! The switches of optional devices, and the values of their keys.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::command_line::{Accelerator, CommandLine, LaunchContext};
use crate::config::{Node, Problem};
use crate::machine::{Machine, builtin_handlers, models_of};
use crate::qmp::versions::TESTED;
use crate::storage::builtin_drivers;
use crate::vm::{BootNumber, RunPaths, VmName};

fn command_line(definition: &str, binary: &str) -> Result<CommandLine, Vec<Problem>> {
    let handlers = builtin_handlers(&builtin_drivers().unwrap()).unwrap();
    let definition: Node = serde_json::from_str(definition).unwrap();
    // The channels to the guest have tests of their own.
    let machine = Machine { agent: Some(false), ..Machine::check(&definition, &handlers)? };
    let context = LaunchContext {
        name: VmName::parse("web").unwrap(),
        id: "0d9f2ac3-58b1-4c3e-9a5e-2f1f6f0f7a11".parse().unwrap(),
        binary: PathBuf::from(binary),
        accelerator: Accelerator::Tcg,
        vm_storage: PathBuf::from("/d/storage/web"),
        paths: RunPaths::new(Path::new("/r/web"), Path::new("/s/web"), BootNumber(1)),
        uefi: None,
        tpm: None,
        architecture: machine.arch.unwrap_or("x86_64").to_owned(),
        version: TESTED[0],
        is_root: false,
        credentials: Vec::new(),
        file_kinds: crate::storage::FileKinds::default(),
    };
    Ok(CommandLine::new(&machine, &context).unwrap())
}

/// Returns the switches after those of an empty definition without default devices, as one text each.
#[track_caller]
fn added(definition: &str, binary: &str) -> Vec<String> {
    let args = |definition: &str| command_line(definition, binary).unwrap().args().to_vec();
    let common = args(r#"{"rng": false, "generation_id": false, "arguments": ["nodefaults"]}"#).len() - 1;
    args(definition)[common..].chunks(2).map(shown).collect()
}

/// Returns a switch as one text, a device that QEMU creates last as `last driver,key=value`.
fn shown(switch: &[String]) -> String {
    let Some(Ok(Value::Object(device))) = switch.get(1).map(|argument| serde_json::from_str(argument)) else {
        return switch.join(" ");
    };
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let options = device.iter().skip(1).map(|(key, value)| format!(",{key}={}", text(value)));
    format!("last {}{}", text(&device["driver"]), options.collect::<String>())
}

const X86: &str = "/usr/bin/qemu-system-x86_64";

/// Returns the switches of a `pc`, without the default ones.
#[track_caller]
fn on_pc(keys: &str) -> Vec<String> {
    added(&format!(r#"{{"rng": false, "generation_id": false, {keys}}}"#), X86)
}

fn problems(definition: &str) -> Vec<String> {
    let problems = command_line(definition, X86).unwrap_err();
    problems.into_iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect()
}

#[test]
fn test_rng_is_the_default_on_machines_with_a_bus() {
    let rng = |definition: &str, binary: &str| added(definition, binary).pop();

    for (definition, binary, expected) in [
        ("{}", X86, Some("last virtio-rng-pci,id=maqet-rng")),
        (r#"{"machine": "q35", "hotplug_ports": 0}"#, X86, Some("last virtio-rng-pci,id=maqet-rng")),
        (r#"{"machine": "microvm"}"#, X86, Some("last virtio-rng-device,id=maqet-rng")),
        (r#"{"machine": "isapc"}"#, X86, None),
        (r#"{"machine": "none"}"#, X86, None),
        (r#"{"arch": "riscv64"}"#, X86, Some("last virtio-rng-pci,id=maqet-rng")),
        (r#"{"arch": "s390x"}"#, X86, Some("last virtio-rng-ccw,id=maqet-rng")),
        (r#"{"arch": "sparc64"}"#, X86, None),
        (r#"{"rng": false}"#, X86, None),
        (r#"{"rng": true}"#, "/opt/qemu", Some("last virtio-rng-pci,id=maqet-rng")),
    ] {
        let found = rng(definition, binary).filter(|last| last.contains("maqet-rng"));
        assert_eq!(found.as_deref(), expected, "{definition} {binary}");
    }
}

#[test]
fn test_rng_default_gives_way_to_the_user() {
    let last = |definition: &str| {
        let definition = format!(r#"{{"generation_id": false, {}"#, &definition[1..]);
        command_line(&definition, X86).unwrap().args().last().cloned().unwrap()
    };

    assert_eq!(last(r#"{"arguments": [{"device": "virtio-rng-pci", "rng": "r"}]}"#), "virtio-rng-pci,rng=r");
    assert_eq!(last(r#"{"args": ["-device", "virtio-rng-pci-transitional"]}"#), "virtio-rng-pci-transitional");
    assert_eq!(last(r#"{"arguments": ["nodefaults"]}"#), "-nodefaults");
    assert!(last(r#"{"rng": true, "arguments": ["nodefaults"]}"#).contains("maqet-rng"));
}

#[test]
fn test_generation_id_is_the_default_on_pcs() {
    let has_generation_id = |definition: &str| {
        let line = command_line(definition, X86).unwrap();
        line.args().iter().any(|argument| argument.contains("maqet-vmgenid"))
    };

    assert!(added("{}", X86).contains(&"last vmgenid,id=maqet-vmgenid,guid=auto".to_owned()));
    for (definition, is_there) in [
        ("{}", true),
        (r#"{"machine": "q35"}"#, true),
        (r#"{"machine": "pc-q35-7.2"}"#, true),
        (r#"{"machine": "pc-i440fx-2.5"}"#, true),
        (r#"{"machine": "pc-i440fx-10.0"}"#, true),
        // QEMU refuses it.
        (r#"{"machine": "pc-i440fx-2.4"}"#, false),
        (r#"{"machine": "microvm"}"#, false),
        (r#"{"machine": "isapc"}"#, false),
        (r#"{"machine": "none"}"#, false),
        (r#"{"arch": "aarch64"}"#, false),
        (r#"{"arch": "s390x"}"#, false),
        (r#"{"generation_id": false}"#, false),
        (r#"{"arguments": ["nodefaults"]}"#, false),
        (r#"{"generation_id": true, "arguments": ["nodefaults"]}"#, true),
        (r#"{"arguments": [{"device": "vmgenid", "guid": "auto"}]}"#, false),
        (r#"{"args": ["-device", "vmgenid"]}"#, false),
    ] {
        assert_eq!(has_generation_id(definition), is_there, "{definition}");
    }
}

/// A VM that fills its bus goes on to start.
#[test]
fn test_rng_default_is_left_out_on_a_full_bus() {
    let has_rng = |definition: &str| {
        let line = command_line(definition, X86).unwrap();
        line.args().last().is_some_and(|last| last.contains("maqet-rng"))
    };
    let list = |count: usize, item: &str| vec![item; count].join(",");
    let drives =
        |count: usize| (0..count).map(|index| format!(r#"{{"name": "d{index}"}}"#)).collect::<Vec<_>>().join(",");

    for (definition, limit) in [
        (&(|count| format!(r#"{{"storage": [{}]}}"#, drives(count))) as &dyn Fn(usize) -> String, 24),
        (&|count| format!(r#"{{"args": [{}]}}"#, list(count, r#""-drive", "if=virtio""#)), 24),
        (&|count| format!(r#"{{"args": [{}]}}"#, list(count, r#""-virtfs", "local""#)), 24),
        (&|count| format!(r#"{{"arguments": [{}]}}"#, list(count, r#"{"nic": "user"}"#)), 24),
        (&|count| format!(r#"{{"arguments": [{}]}}"#, list(count, r#"{"device": "e1000"}"#)), 24),
        (&|count| format!(r#"{{"machine": "microvm", "args": [{}]}}"#, list(count, r#""-device", "x""#)), 22),
        (
            &|count| format!(r#"{{"machine": "microvm,ioapic2=off", "args": [{}]}}"#, list(count, r#""-device", "x""#)),
            6,
        ),
        (
            &|count| {
                format!(
                    r#"{{"balloon": true, "usb": ["tablet"], "sound": true, "watchdog": true, "storage": [
                    {{"name": "s", "interface": "scsi"}}, {{"name": "t", "interface": "scsi"}},
                    {{"name": "v", "interface": "sata"}}, {}]}}"#,
                    drives(count)
                )
            },
            18,
        ),
    ] {
        let count = [limit, limit + 1].map(|count| has_rng(&definition(count)));
        assert_eq!(count, [true, false], "{}", definition(limit));
    }
    let elsewhere = list(40, r#""-device", "scsi-hd,bus=scsi.0""#);
    assert!(has_rng(&format!(r#"{{"args": [{elsewhere}]}}"#)), "not on the bus of the machine");
}

/// The guest numbers devices in their order.
#[test]
fn test_devices_do_not_move_those_of_the_user() {
    let definition = |keys: &str| format!(r#"{{{keys} "network": "user", "arguments": [{{"device": "e1000"}}]}}"#);
    let devices = |keys: &str| {
        let line = command_line(&definition(keys), X86).unwrap();
        let args = line.args().windows(2).filter(|pair| pair[0] == "-device").map(shown);
        args.map(|device| device.split(',').next().unwrap().to_owned()).collect::<Vec<_>>()
    };

    let before = ["-device virtio-net-pci", "-device e1000"];
    assert_eq!(devices(r#""rng": false, "generation_id": false,"#), before);
    let all = devices(r#""balloon": true, "watchdog": true, "panic": true, "sound": "ac97", "usb": ["tablet"],"#);
    let added =
        ["qemu-xhci", "usb-tablet", "AC97", "i6300esb", "pvpanic", "virtio-balloon-pci", "vmgenid", "virtio-rng-pci"];
    assert_eq!(all, [before.map(str::to_owned).to_vec(), added.map(|one| format!("last {one}")).to_vec()].concat());
}

#[test]
fn test_balloon_is_on_the_bus_of_the_machine() {
    assert_eq!(on_pc(r#""balloon": true"#), ["last virtio-balloon-pci,id=maqet-balloon"]);
    assert!(on_pc(r#""balloon": false"#).is_empty());
    let on_microvm = added(r#"{"rng": false, "machine": "microvm", "balloon": true}"#, X86);
    assert_eq!(on_microvm.last().unwrap(), "last virtio-balloon-device,id=maqet-balloon");
}

#[test]
fn test_watchdog_every_form_becomes_its_switches() {
    let i6300esb = "last i6300esb,id=maqet-watchdog";
    assert_eq!(on_pc(r#""watchdog": true"#), [i6300esb]);
    assert_eq!(on_pc(r#""watchdog": {}"#), [i6300esb]);
    assert!(on_pc(r#""watchdog": false"#).is_empty());
    assert_eq!(on_pc(r#""watchdog": {"action": "pause"}"#), [i6300esb, "-action watchdog=pause"]);
    assert_eq!(
        on_pc(r#""watchdog": {"model": "ib700", "action": "inject-nmi"}"#),
        ["last ib700,id=maqet-watchdog", "-action watchdog=inject-nmi"]
    );
    let itco = added(r#"{"rng": false, "generation_id": false, "machine": "q35", "watchdog": {"model": "itco"}}"#, X86);
    assert_eq!(itco.last().unwrap(), "-global ICH9-LPC.noreboot=off");
    let on_microvm = added(r#"{"rng": false, "machine": "microvm", "watchdog": true}"#, X86);
    assert_eq!(on_microvm.last().unwrap(), "last ib700,id=maqet-watchdog");
}

#[test]
fn test_watchdog_and_panic_wrong_values_are_errors() {
    assert_eq!(
        problems(r#"{"watchdog": {"model": "itco"}, "panic": "reboot"}"#),
        [
            "panic: expected one of `true`, `false`, `shutdown`, `pause`, `exit-failure`, `none`, found the string `reboot`",
            "watchdog.model: only `q35` machines have `itco`",
        ]
    );
    assert_eq!(
        problems(r#"{"watchdog": {"model": "i6300", "actions": "pause"}}"#),
        [
            "watchdog.actions: unknown key `actions`",
            "watchdog.model: expected one of `i6300esb`, `ib700`, `itco`, `diag288`, found the string `i6300`",
        ]
    );
}

#[test]
fn test_panic_device_depends_on_the_machine() {
    assert_eq!(on_pc(r#""panic": true"#), ["last pvpanic,id=maqet-panic"]);
    assert_eq!(on_pc(r#""panic": "pause""#), ["last pvpanic,id=maqet-panic", "-action panic=pause"]);
    assert_eq!(on_pc(r#""panic": "none""#), ["last pvpanic,id=maqet-panic", "-action panic=none"]);
    assert!(on_pc(r#""panic": "off""#).is_empty());
    let on_arm = added(r#"{"arch": "aarch64", "rng": false, "panic": true}"#, X86);
    assert_eq!(on_arm.last().unwrap(), "last pvpanic-pci,id=maqet-panic");
}

#[test]
fn test_usb_devices_are_on_one_controller() {
    let controller = "qemu-xhci,id=maqet-usb,p2=15,p3=15";
    let tablet = "usb-tablet,id=maqet-usb0,bus=maqet-usb.0";
    let host = "usb-host,id=maqet-usb1,vendorid=1133,productid=50475,bus=maqet-usb.0";
    let last = [controller, tablet, host].map(|device| format!("last {device}"));
    assert_eq!(on_pc(r#""usb": ["tablet", "046d:c52b"]"#), last);
    assert!(on_pc(r#""usb": []"#).is_empty());
}

/// QEMU puts a USB device on a controller that is there already.
#[test]
fn test_usb_controller_is_before_the_devices_of_the_user() {
    let controller = "-device qemu-xhci,id=maqet-usb,p2=15,p3=15";
    let port = "-device usb-host,id=maqet-usb0,hostbus=1,hostport=2.3,bus=maqet-usb.0";
    for device in ["usb-mouse", "u2f-passthru", "canokey", "id=a,driver=usb-mouse", "e1000,bus=maqet-usb.0"] {
        let found = on_pc(&format!(r#""usb": ["1-2.3"], "arguments": [{{"device": "{device}"}}]"#));
        assert_eq!(found, [controller, port, &format!("-device {device}")]);
    }
}

/// Only the driver and the bus tell, and no other option.
#[test]
fn test_devices_kind_depends_on_driver_and_bus_only() {
    for device in ["e1000,netdev=usb0", "e1000,id=canokey", r#"{\"driver\":\"e1000\",\"id\":\"usb\"}"#] {
        let found = on_pc(&format!(r#""usb": ["tablet"], "arguments": [{{"device": "{device}"}}]"#));
        assert!(found[1].starts_with("last qemu-xhci,id=maqet-usb"), "{device}: {found:?}");
    }
    let rng = command_line(r#"{"arguments": [{"device": "e1000,id=virtio-rng"}]}"#, X86).unwrap();
    assert!(rng.args().last().unwrap().contains("maqet-rng"));
}

#[test]
fn test_usb_too_many_or_equal_devices_are_errors() {
    let list = |count: usize| {
        let ports: Vec<String> = (1..=count).map(|port| format!(r#""1-{port}""#)).collect();
        format!(r#"{{"usb": [{}]}}"#, ports.join(","))
    };

    assert!(command_line(&list(14), X86).is_ok());
    assert_eq!(problems(&list(15)), ["usb[14]: too many USB devices: 15, the limit is 14"]);
    assert!(on_pc(r#""usb": [{"tablet": null}]"#).is_empty(), "a null that deletes nothing");
    let twice = r#"{"usb": ["tablet", "1-2", "046D:C52B", "046d:c52b", "1.2", "disk"]}"#;
    let found = problems(twice);
    assert_eq!(found[..2], ["usb[3]: `046d:c52b` is listed already", "usb[4]: `1-2` is listed already"]);
    assert!(found[2].starts_with("usb[5]: invalid USB device `disk`: expected `tablet`"), "{found:?}");
}

#[test]
fn test_sound_every_form_becomes_its_switches() {
    let silent = "-audiodev none,id=maqet-sound";
    let hda = [
        "last intel-hda,id=maqet-sound",
        "last hda-duplex,id=maqet-sound-codec,bus=maqet-sound.0,audiodev=maqet-sound",
    ];
    assert_eq!(on_pc(r#""sound": true"#), [&[silent], &hda[..]].concat());
    assert_eq!(on_pc(r#""sound": {"backend": "pa"}"#), [&["-audiodev pa,id=maqet-sound"], &hda[..]].concat());
    assert!(on_pc(r#""sound": false"#).is_empty());
    assert_eq!(on_pc(r#""sound": "es1370""#), [silent, "last ES1370,id=maqet-sound,audiodev=maqet-sound"]);
    assert_eq!(
        on_pc(r#""sound": {"model": "virtio", "backend": "spice"}"#),
        ["-audiodev spice,id=maqet-sound", "last virtio-sound-pci,id=maqet-sound,audiodev=maqet-sound"]
    );
    let on_q35 = added(r#"{"rng": false, "generation_id": false, "machine": "q35", "sound": true}"#, X86);
    assert_eq!(on_q35[on_q35.len() - 2], "last ich9-intel-hda,id=maqet-sound");
    assert_eq!(
        on_pc(r#""sound": "usb""#),
        [
            "last qemu-xhci,id=maqet-usb,p2=15,p3=15",
            silent,
            "last usb-audio,id=maqet-sound,bus=maqet-usb.0,audiodev=maqet-sound"
        ]
    );
}

#[test]
fn test_sound_wrong_values_are_errors() {
    let found = problems(r#"{"sound": {"model": "speaker", "backend": "wav", "volume": 3}}"#);

    assert_eq!(found[0], "sound.volume: unknown key `volume`");
    assert!(found[1].starts_with("sound.model: expected one of `hda`, "), "{found:?}");
    assert!(found[2].starts_with("sound.backend: expected one of `none`, "), "{found:?}");
}

#[test]
fn test_models_of_a_key_are_those_that_qemu_has() {
    let listed = ["i6300esb", "ib700", "AC97", "intel-hda", "virtio-rng-pci"];
    let models = |id: &str| models_of(id, |driver| listed.contains(&driver));

    assert_eq!(models("maqet-watchdog"), Some(("watchdog", vec!["i6300esb", "ib700"])));
    assert_eq!(models("maqet-sound"), Some(("sound", vec!["hda", "ac97"])));
    assert_eq!(models("maqet-sound-codec").map(|(key, _)| key), Some("sound"));
    assert_eq!(models("maqet-rng"), None);
}
