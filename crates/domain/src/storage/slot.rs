//! How a drive is attached to the machine, and how many fit.

use super::StorageSpec;
use crate::qemu::Switch;

/// How a drive is attached to the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Interface {
    /// `virtio-blk-pci`.
    Virtio,
    /// `scsi-hd` on a `virtio-scsi-pci` controller shared by all of the machine's.
    Scsi,
    /// `ide-hd` on an AHCI controller shared by all of the machine's.
    Sata,
    /// `ide-hd` on the machine's own buses.
    Ide,
    /// A controller of its own, `nvme`.
    Nvme,
    /// Not attached; the block node is there for `arguments` to use by its name.
    None,
}

impl Interface {
    /// The interface of a drive that names none: the fastest that every current guest supports.
    pub const DEFAULT: Self = Self::Virtio;
}

/// Where on its bus a drive sits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DriveSlot {
    /// Which of the machine's drives with this interface it is, from 0.
    pub position: usize,
    /// Whether the machine is a `q35`, whose IDE buses hold one drive each.
    pub is_q35: bool,
}

/// The places on the IDE buses of `pc` that QEMU's own CD-ROM leaves free (7.2, tried).
const PC_IDE: [(u8, u8); 3] = [(0, 0), (0, 1), (1, 1)];

/// The same for `q35`.
const Q35_IDE: [(u8, u8); 5] = [(0, 0), (1, 0), (3, 0), (4, 0), (5, 0)];

/// How many devices fit beside those that `pc` and `q35` have by themselves (QEMU 7.2, tried).
const PCI_SLOTS: usize = 28;

/// How many drives an AHCI controller takes.
const AHCI_PORTS: usize = 6;

/// How many targets a virtio SCSI controller has (QEMU 7.2, tried).
const SCSI_TARGETS: usize = 256;

impl Interface {
    /// The words of the configuration.
    pub const WORDS: [(&'static str, Self); 6] = [
        ("virtio", Self::Virtio),
        ("scsi", Self::Scsi),
        ("sata", Self::Sata),
        ("ide", Self::Ide),
        ("nvme", Self::Nvme),
        ("none", Self::None),
    ];

    /// Returns the word of the configuration.
    pub fn as_str(self) -> &'static str {
        Self::WORDS.iter().find(|(_, interface)| *interface == self).map_or("none", |(word, _)| word)
    }

    /// Returns how many drives a machine takes on this interface; `None` for any number.
    pub const fn most(self, is_q35: bool) -> Option<usize> {
        match self {
            Self::Virtio | Self::Nvme => Some(PCI_SLOTS),
            Self::Scsi => Some(SCSI_TARGETS),
            Self::Sata => Some(AHCI_PORTS),
            Self::Ide if is_q35 => Some(Q35_IDE.len()),
            Self::Ide => Some(PC_IDE.len()),
            Self::None => None,
        }
    }

    /// Returns the controller that this interface needs once a machine.
    pub fn controller(self) -> Option<Switch> {
        match self {
            Self::Scsi => Some(Switch::new("device").head("virtio-scsi-pci").option("id", "scsi")),
            Self::Sata => Some(Switch::new("device").head("ich9-ahci").option("id", "sata")),
            Self::Virtio | Self::Ide | Self::Nvme | Self::None => None,
        }
    }

    /// Returns the device that shows the block node of a drive to the guest; `medium` is `hd` or `cd`.
    pub fn device(self, storage: &StorageSpec, seat: DriveSlot, medium: &str) -> Option<Switch> {
        let device = Switch::new("device");
        let name = storage.name.as_str();
        let device = match self {
            Self::Virtio => device.head("virtio-blk-pci"),
            Self::Scsi => device.head(&format!("scsi-{medium}")).option("bus", "scsi.0"),
            Self::Sata => device.head(&format!("ide-{medium}")).option("bus", format!("sata.{}", seat.position)),
            Self::Ide => ide(device.head(&format!("ide-{medium}")), seat),
            Self::Nvme => device.head("nvme"),
            Self::None => return None,
        };
        let device = device.option("drive", name).option("id", name);
        // A controller needs a serial number; the name is as good as any.
        let serial = storage.serial.as_deref().or((self == Self::Nvme).then_some(name));
        let device = serial.map_or(device.clone(), |serial| device.option("serial", serial));
        let device = match storage.bootindex {
            Some(index) => device.option("bootindex", index.to_string()),
            None => device,
        };
        Some(if storage.writes_through() { device.flag("write-cache", false) } else { device })
    }
}

fn ide(device: Switch, seat: DriveSlot) -> Switch {
    let paths: &[(u8, u8)] = if seat.is_q35 { &Q35_IDE } else { &PC_IDE };
    match paths.get(seat.position) {
        Some((bus, unit)) => device.option("bus", format!("ide.{bus}")).option("unit", unit.to_string()),
        None => device,
    }
}
