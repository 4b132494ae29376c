//! What a VM must have in common with the one whose memory a snapshot holds.
//!
//! QEMU itself refuses some snapshots of another machine, after it has reverted the disks, and loads others into the
//! wrong devices: it ignores a device that the snapshot has no state of (7.2, 10.0). So a snapshot of the memory is stored
//! with the command line that its QEMU ran with, less what makes no difference to the guest's devices, and its hot-plugged
//! devices.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::guest::CONTROLLER;
use crate::hotplug::{BootDevices, PluggedDevice};
use crate::machine::GENERATION_ID;
use crate::qemu::{LIMITS_PREFIX, OptionString, QemuVersion, RawPart, raw_parts, without_options};

/// Switches that no device of a guest depends on: connections, files and logs of the host, what the guest does on its own,
/// and backends, which can be replaced by others of any kind.
const IRRELEVANT: [&str; 36] = [
    "D", "L", "S", "T", "action", "append", "audiodev", "blockdev", "boot", "chardev", "d", "daemonize", "display",
    "fsdev", "incoming", "initrd", "k", "kernel", "loadvm", "mon", "monitor", "msg", "name", "netdev", "no-reboot",
    "no-shutdown", "pidfile", "qmp", "qmp-pretty", "run-with", "runas", "sandbox", "seed", "spice", "uuid", "vnc",
];

/// Options of other switches that make no difference to a device either.
const IRRELEVANT_OPTIONS: [&str; 18] = [
    "aio", "audiodev", "bootindex", "cache", "chardev", "detect-zeroes", "discard", "drive", "file", "filename",
    "fsdev", "mem-path", "netdev", "path", "prealloc", "rerror", "share", "werror",
];

/// Switches whose argument only says where a device of the machine is connected to.
const CONNECTIONS: [&str; 3] = ["serial", "parallel", "debugcon"];

/// What the memory of a guest depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// The version of QEMU, without its last number.
    pub qemu: String,
    /// The arguments of QEMU that its devices depend on, as on its command line.
    pub arguments: Vec<String>,
    /// The devices that were hot-plugged, as in `d1 (virtio-blk-pci)`.
    pub hot_plugged: Vec<String>,
}

/// Something in which two fingerprints differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FingerprintDifference {
    /// What differs, as in `argument`.
    pub kind: &'static str,
    /// What the snapshot has, and the VM does not.
    pub snapshot: Option<String>,
    /// What the VM has, and the snapshot does not.
    pub vm: Option<String>,
}

impl fmt::Display for FingerprintDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind;
        match (&self.snapshot, &self.vm) {
            (Some(snapshot), Some(vm)) => write!(f, "{kind} `{snapshot}` in the snapshot, `{vm}` now"),
            (Some(snapshot), None) => write!(f, "{kind} `{snapshot}` only in the snapshot"),
            (None, Some(vm)) => write!(f, "{kind} `{vm}` only in the VM"),
            (None, None) => write!(f, "order of the {kind}s"),
        }
    }
}

impl FingerprintDifference {
    /// Returns the setting that removes a device which is there by default, if the VM has that device and the snapshot
    /// does not.
    pub fn default_device(&self) -> Option<&'static str> {
        let setting_of = |side: &Option<String>| {
            let id = device_option(side.as_ref()?, "id")?;
            match id.as_str() {
                "maqet-rng" => Some("rng: false"),
                GENERATION_ID => Some("generation_id: false"),
                CONTROLLER => Some("guest: {agent: false}"),
                _ => None,
            }
        };
        setting_of(&self.vm).filter(|_| setting_of(&self.snapshot).is_none())
    }

    /// Returns whether it is about a device that has an option with this value.
    fn is_about(&self, option: &str, value: &str) -> bool {
        let sides = [&self.snapshot, &self.vm].into_iter().flatten();
        sides.filter_map(|text| device_option(text, option)).any(|found| found == value)
    }
}

impl Fingerprint {
    /// Makes the fingerprint of a QEMU that runs with `args`, without the binary, and now has the devices `devices`.
    pub fn new(version: QemuVersion, args: &[String], devices: &[PluggedDevice]) -> Self {
        let boot = BootDevices::from_args(args);
        let plugged = devices.iter().filter(|device| !boot.has_device(&device.id));
        let mut hot_plugged: Vec<String> = plugged.map(|one| format!("{} ({})", one.id, one.driver)).collect();
        hot_plugged.sort_unstable();
        Self { qemu: format!("{}.{}", version.major, version.minor), arguments: relevant(args), hot_plugged }
    }

    /// Returns in what the VM with the fingerprint `now` differs from the one that was saved; empty if its memory can be
    /// loaded.
    pub fn differences(&self, now: &Self) -> Vec<FingerprintDifference> {
        let mut all = Vec::new();
        if self.qemu != now.qemu {
            let (snapshot, vm) = (Some(self.qemu.clone()), Some(now.qemu.clone()));
            all.push(FingerprintDifference { kind: "QEMU version", snapshot, vm });
        }
        let only = |these: &[String], others: &[String]| -> Vec<String> {
            let mut others = others.to_vec();
            let is_extra = |one: &&String| match others.iter().position(|other| other == *one) {
                Some(found) => {
                    others.swap_remove(found);
                    false
                }
                None => true,
            };
            these.iter().filter(is_extra).cloned().collect()
        };
        let mut snapshot = only(&self.arguments, &now.arguments);
        let mut vm = only(&now.arguments, &self.arguments);
        if snapshot.is_empty() && vm.is_empty() && self.arguments != now.arguments {
            all.push(FingerprintDifference { kind: "argument", snapshot: None, vm: None });
        }
        // Two values of one switch are one difference.
        snapshot.retain(|argument| {
            let Some(found) = vm.iter().position(|other| switch_of(other) == switch_of(argument)) else { return true };
            let (snapshot, vm) = (Some(argument.clone()), Some(vm.swap_remove(found)));
            all.push(FingerprintDifference { kind: "argument", snapshot, vm });
            false
        });
        let one_sided = |kind, snapshot: Vec<String>, vm: Vec<String>| {
            let snapshot = snapshot.into_iter().map(|one| (Some(one), None));
            let sides = snapshot.chain(vm.into_iter().map(|one| (None, Some(one))));
            sides.map(move |(snapshot, vm)| FingerprintDifference { kind, snapshot, vm })
        };
        all.extend(one_sided("argument", snapshot, vm));
        // Without their controller, there are no channels either.
        if all.iter().any(|difference| difference.is_about("id", CONTROLLER)) {
            all.retain(|difference| !difference.is_about("bus", &format!("{CONTROLLER}.0")));
        }
        let (plugged, now_plugged) = (&self.hot_plugged, &now.hot_plugged);
        all.extend(one_sided("hot-plugged device", only(plugged, now_plugged), only(now_plugged, plugged)));
        all
    }
}

/// Returns an option of an argument such as `-device virtio-rng-pci,id=x`, in either form.
fn device_option(argument: &str, option: &str) -> Option<String> {
    let properties = argument.strip_prefix("-device ")?;
    if let Ok(serde_json::Value::Object(properties)) = serde_json::from_str(properties) {
        return properties.get(option)?.as_str().map(str::to_owned);
    }
    properties.split(',').find_map(|part| part.strip_prefix(option)?.strip_prefix('=')).map(str::to_owned)
}

fn switch_of(argument: &str) -> &str {
    argument.split(' ').next().unwrap_or_default()
}

/// Returns the arguments that the devices of a guest depend on, each switch with its argument, in their order.
fn relevant(args: &[String]) -> Vec<String> {
    let mut all = Vec::new();
    let mut parts = args.iter().zip(raw_parts(args)).peekable();
    while let Some((arg, part)) = parts.next() {
        let RawPart::Switch(name) = part else { continue };
        let argument = parts.next_if(|(_, part)| *part == RawPart::Value(name)).map(|(argument, _)| argument);
        if IRRELEVANT.contains(&name) {
            continue;
        }
        // As earlier versions stored it, with the name that it was given by.
        let switch = arg.trim_start_matches('-');
        all.push(match argument {
            None => format!("-{switch}"),
            Some(argument) => match relevant_options(switch, argument) {
                Some(argument) => format!("-{switch} {argument}"),
                None => continue,
            },
        });
    }
    all
}

/// Returns the part of an argument that matters; `None` if it does not create a device.
fn relevant_options(switch: &str, argument: &str) -> Option<String> {
    if CONNECTIONS.contains(&switch) {
        return Some(if argument == "none" { "none" } else { "connected" }.to_owned());
    }
    // As with the block nodes of a drive without limits.
    if switch == "drive" && is_limited_drive(argument) {
        return None;
    }
    // Other objects are backends.
    if switch == "object" && !argument.contains("memory-backend-") {
        return None;
    }
    let is_relevant = |key: &str| !IRRELEVANT_OPTIONS.contains(&key) && !key.starts_with("file.");
    Some(without_options(switch, argument, is_relevant))
}

fn is_limited_drive(argument: &str) -> bool {
    OptionString::parse("drive", argument).get("id").is_some_and(|id| id.starts_with(LIMITS_PREFIX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINE: &str = "-name guest=web -uuid 0d9f -sandbox on -chardev socket,id=command,path=/r/a.sock \
        -mon chardev=command,mode=control -pidfile /s/pid -serial chardev:serial0 -m 256M -smp 2 -accel tcg -display none \
        -blockdev driver=file,filename=/d/hdd,,x.qcow2,node-name=hdd-file -device virtio-blk-pci,drive=hdd,id=hdd \
        -netdev user,id=lan,hostfwd=tcp:127.0.0.1:2222-:22 -device e1000,netdev=lan,id=lan-card -nodefaults \
        -drive file=/d/a,,b.img,format=raw,if=ide -object rng-random,id=r,filename=/dev/urandom \
        -object memory-backend-file,id=m,size=1G,mem-path=/d/ram";

    fn fingerprint(line: &str, devices: &[(&str, &str)]) -> Fingerprint {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let device = |(id, driver): &(&str, &str)| PluggedDevice { id: (*id).to_owned(), driver: (*driver).to_owned() };
        let devices: Vec<PluggedDevice> = devices.iter().map(device).collect();
        Fingerprint::new("7.2.22".parse().unwrap(), &args, &devices)
    }

    fn differences(line: &str) -> Vec<String> {
        fingerprint(LINE, &[]).differences(&fingerprint(line, &[])).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn test_fingerprint_has_what_devices_depend_on() {
        let expected = [
            "-serial connected",
            "-m 256M",
            "-smp 2",
            "-accel tcg",
            "-device virtio-blk-pci,id=hdd",
            "-device e1000,id=lan-card",
            "-nodefaults",
            "-drive format=raw,if=ide",
            "-object memory-backend-file,id=m,size=1G",
        ];
        assert_eq!(fingerprint(LINE, &[]).arguments, expected);
    }

    #[test]
    fn test_fingerprint_paths_and_ports_make_no_difference() {
        let other = LINE.replace("/r/", "/r2/").replace("/d/", "/e/").replace("2222", "2223").replace("web", "db");

        assert_eq!(differences(&other), Vec::<String>::new());
        assert_eq!(differences(&format!("{LINE} -S -d cpu_reset -D /s/cpu.log")), Vec::<String>::new());
    }

    #[test]
    fn test_fingerprint_limits_of_drives_make_no_difference() {
        let nodes =
            "-blockdev driver=file,filename=/d/hdd,,x.qcow2,node-name=hdd-file -device virtio-blk-pci,drive=hdd";
        let drive = "-drive if=none,id=maqet-limits-hdd,driver=raw,node-name=hdd,throttling.iops-total=5 \
            -device virtio-blk-pci,drive=maqet-limits-hdd";

        assert_eq!(differences(&LINE.replace(nodes, drive)), Vec::<String>::new());
        assert_ne!(differences(&format!("{LINE} -drive if=none,id=limits-of-the-user")), Vec::<String>::new());
    }

    #[test]
    fn test_fingerprint_differences_are_named() {
        let other = LINE.replace("-m 256M", "-m 512M").replace("-nodefaults", "-device virtio-rng-pci,id=rng");

        let expected = [
            "argument `-m 256M` in the snapshot, `-m 512M` now",
            "argument `-nodefaults` only in the snapshot",
            "argument `-device virtio-rng-pci,id=rng` only in the VM",
        ];
        assert_eq!(differences(&other), expected);
    }

    #[test]
    fn test_fingerprint_default_device_differs_from_others() {
        let setting = |from: &str, to: &str| {
            let found = fingerprint(from, &[]).differences(&fingerprint(to, &[]));
            found.iter().map(FingerprintDifference::default_device).collect::<Vec<_>>()
        };
        let with = |device: &str| format!("{LINE} -device {device}");
        let rng = with(r#"{"driver":"virtio-rng-pci","id":"maqet-rng"}"#);

        assert_eq!(setting(LINE, &rng), [Some("rng: false")]);
        assert_eq!(setting(&with("e1000,id=x"), &rng), [Some("rng: false")]);
        assert_eq!(setting(&rng, LINE), [None]);
        let generation_id = with(r#"{"driver":"vmgenid","id":"maqet-vmgenid","guid":"auto"}"#);
        assert_eq!(setting(LINE, &generation_id), [Some("generation_id: false")]);
        assert_eq!(setting(LINE, &with("virtio-rng-pci,id=mine")), [None]);
        let channels = r#"{"driver":"virtio-serial-pci","id":"maqet-serial"}"#;
        let port = r#"{"driver":"virtserialport","id":"maqet-out1","bus":"maqet-serial.0","nr":4}"#;
        let both = format!("{} -device {port}", with(channels));
        assert_eq!(setting(LINE, &both), [Some("guest: {agent: false}")]);
        assert_eq!(differences(&both), [format!("argument `-device {channels}` only in the VM")]);
    }

    #[test]
    fn test_fingerprint_order_of_devices_makes_a_difference() {
        let (disk, card) = ("-device virtio-blk-pci,drive=hdd,id=hdd", "-device e1000,netdev=lan,id=lan-card");
        let swapped = LINE.replace(disk, "#").replace(card, disk).replace('#', card);

        assert_eq!(differences(&swapped), ["order of the arguments"]);
    }

    #[test]
    fn test_fingerprint_hot_plugged_devices_and_version_are_compared() {
        let boot = [("hdd", "virtio-blk-pci"), ("lan-card", "e1000")];
        let plugged = fingerprint(LINE, &[boot[0], boot[1], ("d1", "scsi-hd")]);
        let mut newer = fingerprint(LINE, &boot);
        newer.qemu = "10.0".to_owned();

        let differences: Vec<String> = plugged.differences(&newer).iter().map(ToString::to_string).collect();

        let expected = [
            "QEMU version `7.2` in the snapshot, `10.0` now",
            "hot-plugged device `d1 (scsi-hd)` only in the snapshot",
        ];
        assert_eq!(differences, expected);
    }

    proptest! {
        #[test]
        fn test_fingerprint_any_arguments_do_not_panic(args in proptest::collection::vec("[-a-z,={}\":]{0,20}", 0..20)) {
            let one = Fingerprint::new("7.2.0".parse().unwrap(), &args, &[]);

            prop_assert_eq!(one.differences(&one), Vec::new());
        }
    }
}
