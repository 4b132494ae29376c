//! Storage of a VM as its definition describes it.

mod builtin;
mod name;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use self::builtin::{Qcow2, Raw, builtin_drivers};
pub use self::name::{DriveName, InvalidDriveName};

use crate::plugin::StorageDriver;
use crate::qemu::Switch;
use crate::size::ByteSize;

/// How a drive is attached to the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Interface {
    /// `virtio-blk-pci`.
    Virtio,
    /// `scsi-hd` on a `virtio-scsi-pci` controller shared by all of the machine's.
    Scsi,
    /// `ide-hd` on the machine's own IDE or SATA bus.
    Ide,
    /// Not attached; the block device is there for `arguments` to use by its name.
    None,
}

impl Interface {
    /// The words of the configuration.
    pub const WORDS: [(&'static str, Self); 4] =
        [("virtio", Self::Virtio), ("scsi", Self::Scsi), ("ide", Self::Ide), ("none", Self::None)];

    /// Returns the controller that this interface needs once a machine.
    pub fn controller(self) -> Option<Switch> {
        match self {
            Self::Scsi => Some(Switch::new("device").head("virtio-scsi-pci").option("id", "scsi")),
            Self::Virtio | Self::Ide | Self::None => None,
        }
    }

    /// Returns the device that shows the block node `drive` to the guest.
    pub fn device(self, drive: &DriveName) -> Option<Switch> {
        let device = Switch::new("device");
        let device = match self {
            Self::Virtio => device.head("virtio-blk-pci"),
            Self::Scsi => device.head("scsi-hd").option("bus", "scsi.0"),
            Self::Ide => device.head("ide-hd"),
            Self::None => return None,
        };
        Some(device.option("drive", drive.as_str()).option("id", drive.as_str()))
    }
}

/// The image a new image is laid over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backing {
    /// Where it is.
    pub file: PathBuf,
    /// Its format; found out when the overlay is made if it is not given.
    pub format: Option<String>,
}

/// One entry under `storage`, checked.
#[derive(Debug, Clone)]
pub struct StorageSpec {
    /// Unique in the machine; also the name of its block node and its device.
    pub name: DriveName,
    /// What kind of storage it is.
    pub driver: Arc<dyn StorageDriver>,
    /// Where it is, if the definition says so.
    pub file: Option<PathBuf>,
    /// How large it is made, if the definition says so.
    pub size: Option<ByteSize>,
    /// How it is attached.
    pub interface: Interface,
    /// Whether the guest may not write to it.
    pub readonly: bool,
    /// What it is laid over, if anything.
    pub backing: Option<Backing>,
}

/// What a storage type can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StorageFeatures {
    /// It can hold snapshots inside itself.
    pub internal_snapshots: bool,
}

/// An image that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagePlan {
    /// Where.
    pub path: PathBuf,
    /// In which format, by QEMU's name for it.
    pub format: String,
    /// How large; `None` takes the size of what it is laid over.
    pub size: Option<ByteSize>,
    /// What it is laid over.
    pub backing: Option<Backing>,
}

/// What must be there before QEMU is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Preparation {
    /// This file must be there already.
    Existing(PathBuf),
    /// This image is made unless it is there.
    Image(ImagePlan),
}

impl StorageSpec {
    /// Returns where the storage is: where the definition says, or in the VM's own folder.
    pub fn path(&self, vm_storage: &Path) -> PathBuf {
        self.file.clone().unwrap_or_else(|| {
            let file = format!("{}.{}", self.name, self.driver.extension());
            vm_storage.join(file)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_interface_scsi_drive_sits_on_the_shared_controller() {
        let name = DriveName::parse("data").unwrap();

        let device = Interface::Scsi.device(&name).unwrap();

        assert_eq!(device.argument(), Some("scsi-hd,bus=scsi.0,drive=data,id=data"));
        assert_eq!(Interface::Scsi.controller().unwrap().argument(), Some("virtio-scsi-pci,id=scsi"));
    }
}
