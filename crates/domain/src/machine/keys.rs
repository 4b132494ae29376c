//! The built-in configuration keys.

mod arguments;
mod attachment;
mod cpu;
mod credentials;
mod devices;
pub(super) mod file_options;
mod firmware;
mod guest;
mod limits;
mod mistyped;
mod network;
mod numa;
mod raw_arguments;
mod seed;
mod ssh;
mod storage;
mod table;

use std::path::Path;
use std::sync::Arc;

pub use self::arguments::SINGLE_ARGUMENTS;
pub(super) use self::arguments::{check_allowed, left_out, switch_of as structured_argument};
pub(super) use self::file_options::{
    CHARACTER_DEVICES, file_of_character_device, files_of, listener_of_character_device, log_of_character_device,
};
pub(super) use self::table::ARCHITECTURES;

use super::{ConfigHandler, KeyDoc, Machine};
use crate::config::{Diagnostics, KeyPath, Node, Value};
use crate::registry::{DuplicateName, Registry};
use crate::storage::StorageDriver;

/// Returns a registry with the built-in keys; `storage` accepts the types in `drivers`.
pub fn builtin_handlers(drivers: &Registry<dyn StorageDriver>) -> Result<Registry<dyn ConfigHandler>, DuplicateName> {
    let mut registry: Registry<dyn ConfigHandler> = Registry::new("configuration key");
    for key in table::MACHINE_KEYS {
        registry.register(Arc::new(*key))?;
    }
    registry.register(Arc::new(storage::Storage { drivers: drivers.clone() }))?;
    let guest = guest::GUEST_KEYS.iter().chain(seed::SEED_KEYS).chain(credentials::CREDENTIAL_KEYS);
    let guest = guest.chain(ssh::SSH_KEYS);
    for key in devices::DEVICE_KEYS.iter().chain(guest).chain(table::OTHER_KEYS) {
        registry.register(Arc::new(*key))?;
    }
    Ok(registry)
}

/// Returns whether an item of a list of entries only deletes an earlier entry: its key is a name and none of the `keys`.
fn deletes(item: &Node, keys: &[&str]) -> bool {
    item.deletion().is_some_and(|name| !keys.contains(&name))
}

/// Returns a map with these values, which are where `node` is.
fn map_at<'k>(node: &Node, entries: impl IntoIterator<Item = (&'k str, Value)>) -> Node {
    let entry = |(key, value): (&str, Value)| (key.to_owned(), node.clone().map_value(|_| value));
    node.clone().map_value(|_| Value::Map(entries.into_iter().map(entry).collect()))
}

/// A built-in key, as an entry of a table.
#[derive(Debug, Clone, Copy)]
struct KeySpec {
    key: &'static str,
    doc: KeyDoc,
    schema: fn() -> serde_json::Value,
    rebase: fn(Node, &Path) -> Node,
    as_map: fn(&Node) -> Option<Node>,
    apply: fn(&KeyPath, &Node, &mut Machine, &mut Diagnostics),
}

impl KeySpec {
    const fn new(
        key: &'static str,
        doc: KeyDoc,
        schema: fn() -> serde_json::Value,
        apply: fn(&KeyPath, &Node, &mut Machine, &mut Diagnostics),
    ) -> Self {
        Self { key, doc, schema, rebase: |node, _| node, as_map: |_| None, apply }
    }

    /// Sets the function for values that hold paths.
    const fn rebased_by(mut self, rebase: fn(Node, &Path) -> Node) -> Self {
        self.rebase = rebase;
        self
    }

    /// Sets the function for values that stand for a map.
    const fn merged_as(mut self, as_map: fn(&Node) -> Option<Node>) -> Self {
        self.as_map = as_map;
        self
    }
}

impl ConfigHandler for KeySpec {
    fn key(&self) -> &'static str {
        self.key
    }

    fn documentation(&self) -> KeyDoc {
        self.doc
    }

    fn schema(&self) -> serde_json::Value {
        (self.schema)()
    }

    fn rebase(&self, node: Node, folder: &Path) -> Node {
        (self.rebase)(node, folder)
    }

    fn as_map(&self, node: &Node) -> Option<Node> {
        (self.as_map)(node)
    }

    fn apply(&self, path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Diagnostics) {
        (self.apply)(path, node, machine, report);
    }
}
