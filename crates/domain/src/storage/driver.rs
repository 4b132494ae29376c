//! Storage types: the interface through which each one, built in or not, is known.

use std::fmt;
use std::path::Path;

use super::{DriveSlot, Interface, Preparation, StorageFeatures, StorageSpec};
use crate::config::{Diagnostics, KeyPath, Node};
use crate::qemu::Switch;
use crate::registry::Named;

/// One storage type: what it accepts, what it needs, and how QEMU is told of it.
pub trait StorageDriver: fmt::Debug + Send + Sync {
    /// Returns the word under `type`, as in `qcow2`.
    fn type_name(&self) -> &'static str;

    /// Returns what the type is, in a phrase.
    fn summary(&self) -> &'static str;

    /// Returns the ending of a file that maqet names itself, without its dot.
    fn extension(&self) -> &'static str;

    /// Returns the keys of an entry that only this type has.
    fn own_keys(&self) -> &'static [&'static str] {
        &[]
    }

    /// Returns those of its own keys that hold a path.
    fn own_path_keys(&self) -> &'static [&'static str] {
        &[]
    }

    /// Returns how a drive is attached that does not say it.
    fn default_interface(&self) -> Interface {
        Interface::DEFAULT
    }

    /// Notes in `report` what does not go with this type; `entry` is the entry as written.
    fn check(&self, storage: &StorageSpec, at: &KeyPath, entry: &Node, report: &mut Diagnostics);

    /// Returns what must be there before QEMU is started.
    fn preparation(&self, storage: &StorageSpec, path: &Path) -> Preparation;

    /// Returns the switches that open the storage; the last block node carries the drive's name.
    fn back_end(&self, storage: &StorageSpec, path: &str) -> Vec<Switch>;

    /// Returns the switches that show it to the guest.
    fn front_end(&self, storage: &StorageSpec, seat: DriveSlot) -> Vec<Switch> {
        storage.interface.device(storage, seat, "hd").into_iter().collect()
    }

    /// Returns whether QEMU keeps the guest from writing to it.
    fn is_readonly(&self, storage: &StorageSpec) -> bool {
        storage.readonly
    }

    /// Returns what the type can do.
    fn features(&self) -> StorageFeatures {
        StorageFeatures::default()
    }
}

impl Named for dyn StorageDriver {
    fn name(&self) -> &'static str {
        self.type_name()
    }
}
