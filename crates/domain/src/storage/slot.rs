//! Interfaces and slots of drives, and how many there are.

use super::StorageSpec;
use crate::qemu::Switch;

/// How a drive is attached to the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[derive(strum::Display, strum::EnumString, strum::VariantArray, strum::VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum Interface {
    /// `virtio-blk-pci`.
    Virtio,
    /// `scsi-hd` on one `virtio-scsi-pci` controller.
    Scsi,
    /// `ide-hd` on one AHCI controller.
    Sata,
    /// `ide-hd` on the machine's own buses.
    Ide,
    /// An `nvme` controller per drive.
    Nvme,
    /// Not attached; `arguments` can attach the block node by its name.
    None,
}

impl Interface {
    /// The interface of a drive that names none: the fastest that every current guest supports.
    pub const DEFAULT: Self = Self::Virtio;
}

/// The position of a drive among those with the same interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DriveSlot {
    /// Its position, from 0: for a drive on a controller, its port.
    pub position: usize,
    /// Whether the port is passed to QEMU although it would choose one itself (`scsi`).
    pub is_numbered: bool,
    /// Whether the machine is a `q35`, whose IDE buses hold one drive each.
    pub is_q35: bool,
}

/// The IDE buses and units of `pc` that QEMU's own CD-ROM leaves free (tested with 7.2).
const PC_IDE: [(u8, u8); 3] = [(0, 0), (0, 1), (1, 1)];

/// The same for `q35`.
const Q35_IDE: [(u8, u8); 5] = [(0, 0), (1, 0), (3, 0), (4, 0), (5, 0)];

/// The free PCI slots of `pc` and `q35` (tested with QEMU 7.2).
const PCI_SLOTS: usize = 28;

/// The ports of an AHCI controller.
const AHCI_PORTS: usize = 6;

/// The targets of a virtio SCSI controller (tested with QEMU 7.2).
const SCSI_TARGETS: usize = 256;

impl Interface {
    /// Returns how many drives a machine can have on this interface; `None` if there is no limit.
    pub const fn max_drives(self, is_q35: bool) -> Option<usize> {
        match self {
            Self::Virtio | Self::Nvme => Some(PCI_SLOTS),
            Self::Scsi => Some(SCSI_TARGETS),
            Self::Sata => Some(AHCI_PORTS),
            Self::Ide if is_q35 => Some(Q35_IDE.len()),
            Self::Ide => Some(PC_IDE.len()),
            Self::None => None,
        }
    }

    /// Returns the number of an IDE slot, as QEMU's `-drive index` counts them.
    pub(crate) fn ide_index(position: usize, is_q35: bool) -> Option<u8> {
        if is_q35 {
            Q35_IDE.get(position).map(|(bus, _)| *bus)
        } else {
            PC_IDE.get(position).map(|(bus, unit)| bus * 2 + unit)
        }
    }

    /// Returns the ID of the controller of drives that name none.
    pub const fn default_controller(self) -> Option<&'static str> {
        match self {
            Self::Scsi => Some("scsi"),
            Self::Sata => Some("sata"),
            Self::Virtio | Self::Ide | Self::Nvme | Self::None => None,
        }
    }

    /// Returns the controller that the first drive on it needs.
    pub fn controller(self, id: &str) -> Option<Switch> {
        let model = match self {
            Self::Scsi => "virtio-scsi-pci",
            Self::Sata => "ich9-ahci",
            Self::Virtio | Self::Ide | Self::Nvme | Self::None => return None,
        };
        Some(Switch::new("device").head(model).option("id", id))
    }

    /// Returns how many ports a controller has; `None` if drives have none.
    pub const fn ports(self) -> Option<usize> {
        match self {
            Self::Scsi => Some(SCSI_TARGETS),
            Self::Sata => Some(AHCI_PORTS),
            Self::Virtio | Self::Ide | Self::Nvme | Self::None => None,
        }
    }

    /// Returns whether its device has the properties `werror` and `rerror` (7.2, 10.0).
    pub const fn has_error_policies(self) -> bool {
        match self {
            Self::Virtio | Self::Scsi | Self::Sata | Self::Ide => true,
            Self::Nvme | Self::None => false,
        }
    }

    /// Returns the device for the block node of a drive; `medium` is `hd` or `cd`.
    pub fn device(self, storage: &StorageSpec, slot: DriveSlot, medium: &str) -> Option<Switch> {
        let device = Switch::new("device");
        let name = storage.name.as_str();
        let controller = storage.controller_id().unwrap_or_default();
        let device = match self {
            Self::Virtio => device.head("virtio-blk-pci"),
            Self::Scsi => {
                let device = device.head(&format!("scsi-{medium}")).option("bus", format!("{controller}.0"));
                if slot.is_numbered { device.option("scsi-id", slot.position.to_string()) } else { device }
            }
            Self::Sata => {
                device.head(&format!("ide-{medium}")).option("bus", format!("{controller}.{}", slot.position))
            }
            Self::Ide => ide(device.head(&format!("ide-{medium}")), slot),
            Self::Nvme => device.head("nvme"),
            Self::None => return None,
        };
        let device = device.option("drive", storage.drive_id()).option("id", name);
        // An NVMe controller requires a serial number.
        let serial = storage.serial.as_deref().or((self == Self::Nvme).then_some(name));
        let device = serial.map_or(device.clone(), |serial| device.option("serial", serial));
        let device = match storage.bootindex {
            Some(index) => device.option("bootindex", index.to_string()),
            None => device,
        };
        let policies = [("werror", storage.werror), ("rerror", storage.rerror)];
        let device = policies.into_iter().fold(device, |device, (key, policy)| match policy {
            Some(policy) => device.option(key, <&str>::from(policy)),
            None => device,
        });
        Some(if storage.writes_through() { device.flag("write-cache", false) } else { device })
    }
}

fn ide(device: Switch, slot: DriveSlot) -> Switch {
    let units: &[(u8, u8)] = if slot.is_q35 { &Q35_IDE } else { &PC_IDE };
    match units.get(slot.position) {
        Some((bus, unit)) => device.option("bus", format!("ide.{bus}")).option("unit", unit.to_string()),
        None => device,
    }
}
