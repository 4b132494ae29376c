//! What strangers can add: configuration keys and storage types.
//!
//! Both are values in a [`Registry`] that is built in one place and passed down. What comes with
//! maqet is registered through the same door.

mod registry;

use std::fmt;
use std::path::Path;

pub use self::registry::{DuplicateName, Named, Registry};

use crate::config::{KeyPath, Node, Report};
use crate::machine::{Machine, defaults};
use crate::qemu::Switch;
use crate::storage::{Interface, Preparation, Seat, StorageFeatures, StorageSpec};

/// What a configuration key is, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyDoc {
    /// What it is for, in one sentence without full stop.
    pub summary: &'static str,
    /// What may stand there, as in `a size such as 2G`.
    pub form: &'static str,
}

/// One top-level key of the configuration: its documentation, its check and its effect.
pub trait ConfigHandler: fmt::Debug + Send + Sync {
    /// Returns the key, as in `memory`.
    fn key(&self) -> &'static str;

    /// Returns what the key is, for people.
    fn documentation(&self) -> KeyDoc;

    /// Returns the JSON Schema of the value, without its description; anything by default.
    fn schema(&self) -> serde_json::Value {
        serde_json::json!({})
    }

    /// Returns the value with its relative paths made absolute: they are relative to `folder`, the
    /// one of the file they stand in.
    fn rebase(&self, node: Node, _folder: &Path) -> Node {
        node
    }

    /// Checks the value and puts it into the machine, or notes in `report` what is wrong with it.
    fn apply(&self, path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Report);
}

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
        defaults::STORAGE_INTERFACE
    }

    /// Notes in `report` what does not go with this type; `entry` is the entry as written.
    fn check(&self, storage: &StorageSpec, at: &KeyPath, entry: &Node, report: &mut Report);

    /// Returns what must be there before QEMU is started.
    fn preparation(&self, storage: &StorageSpec, path: &Path) -> Preparation;

    /// Returns the switches that open the storage; the last block node carries the drive's name.
    fn back_end(&self, storage: &StorageSpec, path: &str) -> Vec<Switch>;

    /// Returns the switches that show it to the guest.
    fn front_end(&self, storage: &StorageSpec, seat: Seat) -> Vec<Switch> {
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

impl Named for dyn ConfigHandler {
    fn name(&self) -> &'static str {
        self.key()
    }
}

impl Named for dyn StorageDriver {
    fn name(&self) -> &'static str {
        self.type_name()
    }
}
