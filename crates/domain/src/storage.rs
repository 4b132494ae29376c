//! Storage of a VM, as its definition describes it, and the storage types.

mod driver;
mod file_id;
mod host_file;
mod image_driver;
mod image_problem;
mod layer;
mod limits;
pub mod qcow2;
pub mod qcow2_bitmap;
mod share;
mod slot;
pub mod uefi_variables;

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use self::driver::StorageDriver;
pub use self::file_id::{FileId, SharedFileId};
pub use self::host_file::{FileKind, FileKinds, HostFile};
pub use self::image_driver::{
    ISO, ImageDriver, NVME, QCOW2, RAW, VDI, VHDX, VMDK, VPC, builtin_drivers, is_image_type,
};
pub use self::image_problem::{ImageAccess, ImageProblem, UnusableImage};
pub use self::layer::LayerNodes;
pub use self::limits::{ByteLimit, DriveLimits, InvalidLimit, Limit, RequestLimit};
pub use self::share::{Virtfs, Virtiofs};
pub use self::slot::{DriveSlot, Interface};

use crate::config::Node;
use crate::qemu::NodeName;
use crate::size::ByteSize;

/// The cache mode of a drive, by QEMU's names (`qemu-system-x86_64(1)`, `cache=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::EnumString, strum::VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum Cache {
    /// Uses the host's page cache; flushed when the guest requests it. The default.
    Writeback,
    /// Bypasses the host's page cache.
    None,
    /// Uses the host's page cache; every write is flushed.
    Writethrough,
    /// Bypasses the host's page cache; every write is flushed.
    Directsync,
    /// Ignores flushes: fast, but data is lost if the host crashes.
    Unsafe,
}

/// How QEMU reads and writes the file of a drive, by QEMU's names (`qemu-system-x86_64(1)`, `aio=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::EnumString, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum Aio {
    /// By a pool of threads; QEMU's default.
    Threads,
    /// By Linux's native asynchronous I/O, which requires a cache mode that bypasses the host's page cache.
    Native,
    /// By Linux's `io_uring`.
    IoUring,
}

/// What happens when an access to a drive fails, by QEMU's names (`qemu-system-x86_64(1)`, `werror=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::EnumString, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum ErrorPolicy {
    /// Reported to the guest.
    Report,
    /// The error is ignored: data is lost.
    Ignore,
    /// The VM is paused.
    Stop,
    /// The VM is paused if the disk of the host is full, and other errors are reported to the guest.
    Enospc,
    /// `enospc` for writes, and `report` for reads; QEMU's default.
    Auto,
}

/// The size of a new disk if none is given; it takes space only as it fills.
pub const DEFAULT_SIZE: ByteSize = ByteSize::from_mib(10 * 1024);

/// The format of overlays, as QEMU names it.
const OVERLAY: &str = "qcow2";

/// The format of the layers of drives, as QEMU names it; also the storage type that has it.
pub const LAYER_FORMAT: &str = "qcow2";

/// The backing image of an overlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backing {
    /// Where it is.
    pub file: PathBuf,
    /// Its format; detected when the overlay is created if it is not given.
    pub format: Option<String>,
}

/// One checked entry of `storage`.
#[derive(Debug, Clone)]
pub struct StorageSpec {
    /// The index of its entry in `storage`; ignored entries count too.
    pub index: usize,
    /// Its name, unique in the VM; also the id of its block node and device.
    pub name: NodeName,
    /// Its storage type.
    pub driver: Arc<dyn StorageDriver>,
    /// Its path, if the definition has one.
    pub file: Option<PathBuf>,
    /// Its size when it is created, if the definition has one.
    pub size: Option<ByteSize>,
    /// How it is attached.
    pub interface: Interface,
    /// Whether that is the default of its type, and not in the definition.
    pub is_default_interface: bool,
    /// Whether the guest may not write to it.
    pub readonly: bool,
    /// Whether what the guest writes is lost at the end of the run: it is written to a temporary overlay.
    pub snapshot: bool,
    /// Its backing image, if any.
    pub backing: Option<Backing>,
    /// Its cache mode; QEMU's default if `None`.
    pub cache: Option<Cache>,
    /// Whether discarded blocks are freed on the host; QEMU's default if `None`.
    pub discard: Option<bool>,
    /// The serial number the guest sees, if any.
    pub serial: Option<String>,
    /// Its position in the boot order, if any.
    pub bootindex: Option<u16>,
    /// How its file is read and written; QEMU's default if `None`.
    pub aio: Option<Aio>,
    /// The controller that it shares with the drives that name the same one, for `scsi` and `sata`; one for all others
    /// if `None`.
    pub controller: Option<NodeName>,
    /// Its port of the controller: the target for `scsi`; the next free one if `None`.
    pub port: Option<u8>,
    /// What happens when a write fails; QEMU's default if `None`.
    pub werror: Option<ErrorPolicy>,
    /// What happens when a read fails; QEMU's default if `None`.
    pub rerror: Option<ErrorPolicy>,
    /// How much its guest may request in a second.
    pub limits: DriveLimits,
    /// The values of the storage type's own keys.
    pub own: Vec<(String, Node)>,
}

/// Capabilities and requirements of a storage type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StorageFeatures {
    /// It supports internal snapshots.
    pub internal_snapshots: bool,
    /// Another process accesses the guest's memory, which must therefore be shared.
    pub shared_memory: bool,
    /// Its backend is a drive of its own if the requests of the guest are limited, see [`StorageSpec::drive_id`].
    pub limits: bool,
}

/// An image to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagePlan {
    /// Its path.
    pub path: PathBuf,
    /// Its format, as QEMU names it.
    pub format: String,
    /// Its size; that of the backing image if `None`.
    pub size: Option<ByteSize>,
    /// Its backing image, if any.
    pub backing: Option<Backing>,
}

/// What a drive needs before QEMU is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Preparation {
    /// Nothing.
    Nothing,
    /// This file must exist.
    Existing(PathBuf),
    /// This directory must exist.
    Directory(PathBuf),
    /// This image is created unless it exists.
    Image(ImagePlan),
}

impl StorageSpec {
    /// Returns its path: that of the definition, or one in the VM's storage directory.
    pub fn path(&self, vm_storage: &Path) -> PathBuf {
        self.file.clone().unwrap_or_else(|| {
            let file = format!("{}.{}", self.name, self.driver.extension());
            vm_storage.join(file)
        })
    }

    /// Returns whether a run leaves its image as it is: the guest cannot write, or writes to a temporary overlay.
    pub fn keeps_image(&self) -> bool {
        self.snapshot || self.driver.is_readonly(self)
    }

    /// Returns the plan of the overlay that a run writes to instead of the image, if it does.
    pub fn overlay_plan(&self, image: PathBuf, overlay: PathBuf) -> Option<ImagePlan> {
        let format = self.driver.image_format().filter(|_| self.snapshot)?.to_owned();
        let backing = Some(Backing { file: image, format: Some(format) });
        Some(ImagePlan { path: overlay, format: OVERLAY.to_owned(), size: None, backing })
    }

    /// Returns the ID of its controller, if its interface has any.
    pub fn controller_id(&self) -> Option<&str> {
        self.controller.as_ref().map(NodeName::as_str).or_else(|| self.interface.default_controller())
    }

    /// Returns whether the device completes a write only once it is flushed.
    pub fn writes_through(&self) -> bool {
        matches!(self.cache, Some(Cache::Writethrough | Cache::Directsync))
    }

    /// Returns whether it is not attached to the machine, so that no guest requests anything.
    pub fn is_without_device(&self) -> bool {
        self.interface == Interface::None
    }

    /// Returns what its device has as `drive`: the block node, or the drive that limits what is requested of it.
    pub fn drive_id(&self) -> Cow<'_, str> {
        if self.limits.is_unlimited() {
            Cow::Borrowed(self.name.as_str())
        } else {
            Cow::Owned(self.name.limited_drive())
        }
    }

    /// Returns it without limits, for access that is not that of a guest.
    #[must_use]
    pub fn unlimited(&self) -> Self {
        Self { limits: DriveLimits::default(), ..self.clone() }
    }

    /// Returns the value of one of the storage type's own keys.
    pub fn own(&self, key: &str) -> Option<&Node> {
        self.own.iter().find(|(known, _)| known == key).map(|(_, node)| node)
    }
}
