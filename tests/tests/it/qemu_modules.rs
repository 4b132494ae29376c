//! Devices of QEMU whose code is in modules, which QEMU loads when it is asked about them.

use maqet_domain::qmp::versions::Difference;
use maqet_testkit::{TestHome, guest};

use crate::versions;

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
