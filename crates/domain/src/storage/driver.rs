//! The interface of storage types, built-in or not.

use std::fmt;
use std::path::Path;

use super::{DriveSlot, HostFile, Interface, Preparation, StorageFeatures, StorageSpec};
use crate::config::{Diagnostics, KeyPath, Node};
use crate::qemu::Switch;
use crate::registry::Named;

/// A storage type: the keys it accepts, what it needs, and its switches for QEMU.
pub trait StorageDriver: fmt::Debug + Send + Sync {
    /// Returns its name, the value of `type`, as in `qcow2`.
    fn type_name(&self) -> &'static str;

    /// Returns a one-line description.
    fn summary(&self) -> &'static str;

    /// Returns the extension, without dot, of files that maqet names itself.
    fn extension(&self) -> &'static str;

    /// Returns the keys that only this type has.
    fn own_keys(&self) -> &'static [&'static str] {
        &[]
    }

    /// Returns which of its own keys hold a path.
    fn own_path_keys(&self) -> &'static [&'static str] {
        &[]
    }

    /// Returns the default of `interface`.
    fn default_interface(&self) -> Interface {
        Interface::DEFAULT
    }

    /// Reports settings that do not fit this type; `entry` is the entry as written.
    fn check(&self, storage: &StorageSpec, at: &KeyPath, entry: &Node, report: &mut Diagnostics);

    /// Returns what it needs before QEMU is started.
    fn preparation(&self, storage: &StorageSpec, path: &Path) -> Preparation;

    /// Returns the switches of the backend; the last block node has the name of the drive.
    fn backend(&self, storage: &StorageSpec, file: HostFile<'_>) -> Vec<Switch>;

    /// Returns the switches of the device that the guest sees.
    fn frontend(&self, storage: &StorageSpec, slot: DriveSlot) -> Vec<Switch> {
        storage.interface.device(storage, slot, "hd").into_iter().collect()
    }

    /// Returns the format of its image, as QEMU names it; `None` if it has no image, or its format is not checked.
    fn image_format(&self) -> Option<&'static str> {
        None
    }

    /// Returns whether the guest cannot write to it.
    fn is_readonly(&self, storage: &StorageSpec) -> bool {
        storage.readonly
    }

    /// Returns the tag by which the guest mounts it, if it is a share with one.
    fn mount_tag(&self, _storage: &StorageSpec) -> Option<String> {
        None
    }

    /// Returns its capabilities and requirements.
    fn features(&self) -> StorageFeatures {
        StorageFeatures::default()
    }
}

impl Named for dyn StorageDriver {
    fn name(&self) -> &'static str {
        self.type_name()
    }
}
