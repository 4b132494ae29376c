//! `arch`: guests of other architectures have defaults that work, on the QEMU of the system.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use maqet_testkit::{TestHome, serial};
use serde_json::{Value, json};

use crate::start_failures::check_with;

/// Longer than anything here takes on a busy host.
const LONG: Duration = Duration::from_secs(90);

/// Returns the VM `name` without a machine type, a CPU model and interfaces.
fn yaml(home: &TestHome, name: &str, more: &str) -> String {
    let iso = home.write("cd.iso", vec![0; 1 << 20]);
    format!(
        "name: {name}\narch: {name}\naccel: tcg\nmemory: 256M\nnetwork: user\ntpm: true\n{more}storage:\n  \
         - {{name: hdd, size: 1M}}\n  - {{name: cd, type: iso, file: {}}}\n",
        iso.display()
    )
}

/// Starts the VM, waits for a text of its firmware, and returns the name of its machine type and its block devices.
fn started(home: &TestHome, name: &str, text: &str) -> (String, Vec<Value>) {
    let started = home.json(&["start", name]);
    serial::wait_for(Path::new(started["serial_log"].as_str().unwrap()), text, LONG);
    let machine = home.json(&["qmp", name, "qom-get", "path=/machine", "property=type"]);
    let devices = home.json(&["qmp", name, "query-block"]);
    let devices = devices.as_array().unwrap().iter().map(|device| device["qdev"].clone()).collect();
    (machine.as_str().unwrap_or_default().to_owned(), devices)
}

#[test]
fn test_aarch64_with_uefi_and_tpm_boots_from_its_defaults() {
    let home = TestHome::new();
    home.add(&yaml(&home, "aarch64", "firmware: {secure_boot: true}\n"));

    let (machine, devices) = started(&home, "aarch64", "BdsDxe: failed to load Boot0002");

    let path = home.json(&["qmp", "aarch64", "query-cpus-fast"])[0]["qom-path"].clone();
    let path = format!("path={}", path.as_str().unwrap());
    let cpu = home.json(&["qmp", "aarch64", "qom-get", &path, "property=type"]);
    let tpm = home.json(&["qmp", "aarch64", "query-tpm"])[0]["model"].clone();
    assert!(machine.starts_with("virt-"), "{machine}");
    assert_eq!((cpu, tpm), (json!("max-arm-cpu"), json!("tpm-tis")));
    assert!(devices.contains(&json!("cd")), "{devices:?}");
    home.json(&["stop", "aarch64", "--force"]);
}

#[test]
fn test_riscv64_boots_from_its_defaults() {
    let home = TestHome::new();
    home.add(&yaml(&home, "riscv64", ""));

    let (machine, devices) = started(&home, "riscv64", "OpenSBI");

    assert!(machine.starts_with("virt-") || machine == "virt-machine", "{machine}");
    assert!(devices.contains(&json!("cd")), "{devices:?}");
    home.json(&["stop", "riscv64", "--force"]);
}

/// A link with another name, and a copy, of which only its user knows what it is.
#[test]
fn test_architecture_of_a_renamed_binary_is_that_of_its_link() {
    let home = TestHome::new();
    let qemu = fs::canonicalize("/usr/bin/qemu-system-aarch64").unwrap();
    symlink(&qemu, home.path("mine")).unwrap();
    home.write("wrapper", format!("#!/bin/sh\nexec {} \"$@\"\n", qemu.display()));
    fs::set_permissions(home.path("wrapper"), Permissions::from_mode(0o700)).unwrap();
    let yaml = |name: &str, binary: &str| {
        format!(
            "name: {name}\nbinary: {binary}\nmachine: virt\naccel: tcg\nmemory: 64M\nfirmware: uefi\nnetwork: user\n"
        )
    };
    home.add(&yaml("link", "./mine"));
    home.add(&yaml("wrapper", "./wrapper"));

    let linked = home.json(&["info", "link", "--command-line"])["command_line"].to_string();
    let wrapped = home.json_error(&["start", "wrapper"], 69);
    home.json(&["start", "link", "--paused"]);
    home.json(&["stop", "link", "--force"]);

    assert!(linked.contains("AAVMF") && linked.contains("max"), "{linked}");
    assert_eq!(wrapped["code"], "host.firmware-not-found");
    assert_eq!(wrapped["hints"][0], "set `arch: aarch64`, which the name of the `binary` does not say");
}

#[test]
fn test_failures_of_aarch64_are_explained_for_its_boards() {
    let home = TestHome::new();
    home.write("small.fd", [0; 4096]);
    let small = home.path("small.fd");
    let small = small.display();
    for case in [
        (
            "cpu_model: host\n",
            69,
            "host.kvm-unavailable",
            "CPU model `host` requires KVM",
            "set `cpu_model: max` for all features that TCG emulates",
        ),
        (
            "cpu_model: cortex-a75\n",
            2,
            "qemu.cpu-model-not-found",
            "`cortex-a75`",
            "did you mean `cortex-a57`, `cortex-a7` or `cortex-a15`?",
        ),
        (
            "cpu_model: cortex-a57,+colour\n",
            2,
            "qemu.option-invalid",
            "`+colour` is not of the form",
            "write a CPU feature as `feature=on` or `feature=off` for this architecture",
        ),
        (
            "cpu_model: cortex-a57,colour=on\n",
            2,
            "qemu.option-not-found",
            "`cortex-a57` has no feature",
            "list the features with `qemu-system-aarch64 -cpu help`",
        ),
        (
            "machine: virt-99\n",
            2,
            "qemu.machine-not-found",
            "no machine type `virt-99`",
            "did you mean `virt` or `virt-…",
        ),
        ("machine: raspi3b\n", 2, "qemu.cpus-invalid", "`raspi3b` requires at least 4 CPUs", "set `cpu: 4` or more"),
        ("machine: raspi3b\ncpu: 4\n", 2, "qemu.option-invalid", "has 1 GiB of memory", "set `memory` to it"),
        (
            "arguments: [{accel: hvf}]\n",
            69,
            "qemu.accelerator-not-found",
            "no accelerator `hvf`",
            "set `accel: tcg` for software emulation, or `accel: auto` to use KVM where it works",
        ),
        (
            "arguments: [{kernel: /none}]\n",
            3,
            "qemu.file-not-found",
            "kernel `/none` does not exist",
            "correct the path of `kernel`",
        ),
        (
            "arguments: [{kernel: /etc/passwd}, {dtb: /none}]\n",
            3,
            "qemu.file-not-found",
            "tree `/none`",
            "correct the path of `dtb`",
        ),
        (
            "arguments: [{kernel: /etc/passwd}, {initrd: /none}]\n",
            3,
            "qemu.file-not-found",
            "`/none`",
            "correct the path of `initrd`",
        ),
        (
            "arguments: [{bios: none.fd}]\n",
            3,
            "qemu.firmware-not-found",
            "`none.fd` does not exist",
            "write `./none.fd` for a file beside the YAML file: QEMU runs in `/`, and looks for names among its own files",
        ),
        (
            &format!("arguments: [{{drive: \"if=pflash,format=raw,file={small}\"}}]\n"),
            2,
            "firmware.image-invalid",
            "requires 67108864",
            "set `firmware: uefi` to have one found",
        ),
        (
            "arguments: [{device: ide-hd}]\n",
            2,
            "device.bus-not-found",
            "no IDE bus",
            "set `interface: virtio` or `interface: scsi` for the drive",
        ),
        ("arguments: [{smp: 9999}]\n", 2, "qemu.cpus-too-large", "at most 512 CPUs", "set `cpu: 512` or less"),
    ] {
        check_with("arch: aarch64\naccel: tcg\nmemory: 64M\nnetwork: none\n", &home, case);
    }
}
