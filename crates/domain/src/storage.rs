//! Storage of a VM as its definition describes it.

mod driver;
mod image_driver;
mod share;
mod slot;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use self::driver::StorageDriver;
pub use self::image_driver::{Iso, Nvme, Qcow2, Raw, builtin_drivers};
pub use self::share::{Virtfs, Virtiofs};
pub use self::slot::{DriveSlot, Interface};

use crate::config::Node;
use crate::qemu::NodeName;
use crate::size::ByteSize;

/// How writes and reads of a drive pass the host's cache, by QEMU's names (`qemu-system-x86_64(1)`, `cache=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cache {
    /// Through the host's page cache; flushed when the guest says so. The default.
    Writeback,
    /// Past the host's page cache.
    None,
    /// Through the host's page cache, every write flushed.
    Writethrough,
    /// Past the host's page cache, every write flushed.
    Directsync,
    /// Flushes are ignored: fast, and lost when the host crashes.
    Unsafe,
}

impl Cache {
    /// The words of the configuration.
    pub const WORDS: [(&'static str, Self); 5] = [
        ("writeback", Self::Writeback),
        ("none", Self::None),
        ("writethrough", Self::Writethrough),
        ("directsync", Self::Directsync),
        ("unsafe", Self::Unsafe),
    ];
}

/// The size of a disk that is created without one being named; it takes space only as it fills.
pub const DEFAULT_SIZE: ByteSize = ByteSize::from_mib(10 * 1024);

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
    /// Which entry of `storage` it was read from, counted from 0; entries that mean nothing count too.
    pub index: usize,
    /// Unique in the machine; also the name of its block node and its device.
    pub name: NodeName,
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
    /// How it passes the host's cache; QEMU's default if nothing is said.
    pub cache: Option<Cache>,
    /// Whether what the guest discards is given back to the host; QEMU's default if nothing is said.
    pub discard: Option<bool>,
    /// The serial number the guest sees, if any.
    pub serial: Option<String>,
    /// The place in the order of booting, if any.
    pub bootindex: Option<u16>,
    /// What stands under the keys of the storage type's own.
    pub own: Vec<(String, Node)>,
}

/// What a storage type can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StorageFeatures {
    /// It can hold snapshots inside itself.
    pub internal_snapshots: bool,
    /// A process beside QEMU reads the guest's memory, which must therefore be shared.
    pub shared_memory: bool,
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
    /// Nothing.
    Nothing,
    /// This file must be there already.
    Existing(PathBuf),
    /// This folder must be there already.
    Folder(PathBuf),
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

    /// Returns whether the device hands every write on before it tells the guest that it is done.
    pub fn writes_through(&self) -> bool {
        matches!(self.cache, Some(Cache::Writethrough | Cache::Directsync))
    }

    /// Returns what stands under a key of the storage type's own.
    pub fn own(&self, key: &str) -> Option<&Node> {
        self.own.iter().find(|(known, _)| known == key).map(|(_, node)| node)
    }
}
