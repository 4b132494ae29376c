//! `arch`: guests of other architectures have defaults that work, on the QEMU of the system.

use std::path::Path;
use std::time::Duration;

use maqet_testkit::{TestHome, serial};
use serde_json::{Value, json};

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
