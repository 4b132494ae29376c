//! Devices of QEMU whose code is in modules, which QEMU loads when it is asked about them.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Write, stderr};
use std::path::{Path, PathBuf};
use std::process::Command;

use maqet_domain::qmp::versions::Difference;
use maqet_testkit::qemu::Unpacked;
use maqet_testkit::{TestHome, guest, namespaces, qemu};
use serde_json::{Value, json};

use crate::versions;

/// The modules of the system's QEMU (Debian).
const SYSTEM_MODULES: &str = "/usr/lib/x86_64-linux-gnu/qemu";

/// A VM that has something for every command; its CPU never runs.
const VM: &str = "  - {device: virtio-balloon-pci}
vga: std
storage: [{name: cd, type: iso, file: disk.iso}]
network: {name: net}
";

/// Commands that only read, or change something that QEMU has without a module.
const COMMANDS: &[&str] = &[
    "status web",
    "ls",
    "info web",
    "inspect web",
    "events web",
    "doctor",
    "qmp run web query-status",
    "qmp run web device_add driver=virtio-rng-pci id=by-hand max-bytes=1024",
    "qmp device-add web virtio-rng-pci --id rng max-bytes=1024",
    "qmp device-add web virtio-blk --id data --file disk.iso --readonly",
    "qmp device-add web virtio-net-pci --id card --netdev user",
    "qmp eject web cd",
    "qmp insert web cd disk.iso",
    "qmp balloon web",
    "qmp nmi web",
    "qmp set-link web net down",
    "screenshot web screen.png",
    "reset web",
    "resume web",
    "keys web a",
    "type web abc",
    "pause web",
    "cleanup --dry-run",
];

/// Puts the modules of another build of QEMU in the place of those that the tests run on; returns whether there are any.
///
/// In a mount namespace of the test's own.
fn exchange_modules() -> bool {
    let Some(unpacked) = Unpacked::found() else {
        let written = writeln!(stderr(), "SKIPPED: there are no modules of another QEMU (`cargo xtask qemu`)");
        written.unwrap();
        return false;
    };
    let (system, other) = (PathBuf::from(SYSTEM_MODULES), unpacked.modules());
    let is_system = qemu::emulator().canonicalize().unwrap() != unpacked.emulator().canonicalize().unwrap();
    let (own, foreign) = if is_system { (system, other) } else { (other, system) };
    let mounted = Command::new("mount").arg("--bind").args([&foreign, &own]).status().unwrap();
    assert!(mounted.success());
    true
}

/// Returns the modules that a QEMU has loaded or tried to load.
fn loaded_modules(pid: &Value) -> BTreeSet<String> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let paths = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
    paths.filter(|path| path.contains(".so") && path.contains("/qemu/")).map(str::to_owned).collect()
}

fn output_of_qemu(home: &TestHome) -> String {
    home.maqet(["logs", "web", "--qemu"]).run().ok().stdout
}

fn started(home: &TestHome) -> Value {
    home.write("disk.iso", vec![0; 1 << 20]);
    home.add(&format!("{}{VM}", guest::paused_yaml("web")));
    home.json(&["start", "web"])["pid"].clone()
}

/// As after an upgrade of QEMU's package while the VM runs: QEMU would load modules of another build, and abort.
#[test]
fn test_commands_with_modules_of_another_build_harm_no_guest() {
    namespaces::within("qemu_modules::test_commands_with_modules_of_another_build_harm_no_guest", || {
        let home = TestHome::new();
        let pid = started(&home);
        let before = loaded_modules(&pid);
        if !exchange_modules() {
            return;
        }

        for command in COMMANDS {
            let run = home.maqet(command.split(' ')).run().ok();
            assert!(Path::new(&format!("/proc/{pid}/fd/0")).exists(), "{command} ended QEMU: {run}");
            assert_eq!(loaded_modules(&pid), before, "{command}");
        }

        let output = output_of_qemu(&home);
        assert!(!output.contains("module"), "{output}");
        assert_eq!(home.json(&["status", "web"])["pid"], pid);
    });
}

#[test]
fn test_device_add_unknown_types_are_left_to_qemu() {
    namespaces::within("qemu_modules::test_device_add_unknown_types_are_left_to_qemu", || {
        let home = TestHome::new();
        started(&home);
        // As after an upgrade: the running build is no longer there.
        let own = home.path("qemu-system-x86_64");
        fs::copy(qemu::emulator(), &own).unwrap();
        let mounted = Command::new("mount").arg("--bind").args([&own, &qemu::emulator()]).status().unwrap();
        assert!(mounted.success());

        let added =
            home.json(&["qmp", "device-add", "web", "virtio-blk", "--file", "disk.iso", "--readonly", "share-rw=on"]);
        let text = home.maqet(["qmp", "device-add", "web", "virtio-rng-pci", "max-bytes=1024"]).run().ok();
        let unknown = home.json_error(&["qmp", "device-add", "web", "virtio-rng-pic"], 1);
        let property = home.json_error(&["qmp", "device-add", "web", "virtio-rng-pci", "max-bites=1"], 1);
        let by_hand = home.json_error(&["qmp", "web", "device_add", "driver=virtio-rng-pci", "max-bites=1"], 1);

        let reason = added["unchecked"].as_str().unwrap();
        assert!(reason.ends_with("was removed or replaced since it was started"), "{reason}");
        assert!(text.stderr.starts_with("warning: the device was not checked: "), "{text}");
        assert_eq!(
            [unknown, property, by_hand].map(|error| error["code"].clone()),
            ["qmp.refused"; 3].map(|code| json!(code))
        );
    });
}

/// QEMU aborts when it is queried for the properties of a card whose module is missing.
#[test]
fn test_device_add_missing_qemu_module_is_refused_by_qemu() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    home.json(&["start", "web"]);
    let pid = home.json(&["status", "web"])["pid"].clone();
    let is_type = !versions::has(Difference::MissingModuleIsNoType);
    let (exit, code) = if is_type { (1, "qmp.refused") } else { (2, "device.driver-not-found") };

    for driver in ["virtio-gpu-gl-pci", "virtio-vga-gl"] {
        let error = home.json_error(&["qmp", "device-add", "web", driver, "xres=800", "--allow-dangerous"], exit);
        assert_eq!(error["code"], code, "{error}");
        let through_run = ["device_add", &format!("driver={driver}"), "xres=800", "--allow-dangerous"];
        let error = home.json_error(&[&["qmp", "web"], &through_run[..]].concat(), 1);
        assert_eq!(error["code"], "qmp.refused", "{error}");
    }

    assert_eq!(home.json(&["status", "web"])["pid"], pid);
}
