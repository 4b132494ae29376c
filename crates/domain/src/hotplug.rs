//! Devices that are plugged in and unplugged while a VM runs: IDs, backends, and the order of the steps.
//!
//! [`plan_device_add`] and [`plan_device_del`] decide from what QEMU reported; the application carries the plans out.
//! The name of a backend that maqet creates identifies its device ([`backend_name`]), so that any process can find and
//! remove it, even after the one that created it was killed.

mod add;
mod boot_devices;
mod del;
mod device_id;
mod error;
mod netdev;
mod network_info;
mod program;
mod property;

pub use self::add::{
    BackendSpec, DevicePlan, DeviceRequest, FreePort, VmDevices, is_pci_by_name, limited_drive, limited_drive_id,
    plan_device_add,
};
pub use self::boot_devices::{Backend, BootDevices};
pub use self::del::{UnplugStep, device_not_found, plan_device_del};
pub use self::device_id::{DeviceId, InvalidDeviceId, backend_name};
pub use self::error::{DeviceError, DeviceOrigin};
pub use self::netdev::{InvalidNetdev, Netdev};
pub use self::network_info::{
    Card, cards, failed_backends, link_names, pending_backends, unused_hotplug_netdevs, unused_netdevs,
};
pub use self::program::{may_start_programs, starts_program};
pub use self::property::{InvalidProperty, find_driver};

/// A device of a running VM that has an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluggedDevice {
    /// The id.
    pub id: String,
    /// The driver.
    pub driver: String,
}

/// Returns an address on a PCI bus as `lspci` shows it: `04.0`.
pub fn pci_address(devfn: u8) -> String {
    format!("{:02x}.{}", devfn >> 3, devfn & 7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_pci_address_is_slot_and_function() {
        assert_eq!([pci_address(0), pci_address(0x20), pci_address(0xe3)], ["00.0", "04.0", "1c.3"]);
    }
}
