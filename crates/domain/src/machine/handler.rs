//! The interface of configuration keys, built-in or not.

use std::fmt;
use std::path::Path;

use super::Machine;
use crate::config::{Diagnostics, KeyPath, Node};
use crate::registry::Named;

/// The documentation of a configuration key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyDoc {
    /// What it is for, in one sentence without full stop.
    pub summary: &'static str,
    /// Its value, as in `a size such as 2G`.
    pub value: &'static str,
}

/// A top-level key of the configuration: its documentation, its check and its effect.
pub trait ConfigHandler: fmt::Debug + Send + Sync {
    /// Returns the key, as in `memory`.
    fn key(&self) -> &'static str;

    /// Returns its documentation.
    fn documentation(&self) -> KeyDoc;

    /// Returns the JSON Schema of the value, without a description; by default any value.
    fn schema(&self) -> serde_json::Value {
        serde_json::json!({})
    }

    /// Returns the value with its relative paths joined to `folder`, the one of its file.
    fn rebase(&self, node: Node, _folder: &Path) -> Node {
        node
    }

    /// Returns the map that a value other than a map stands for, as `{type: q35}` for `machine: q35`, or `None` if it stands
    /// for none.
    ///
    /// A value with a map is merged with maps of other layers, and otherwise replaces them, or is replaced.
    fn as_map(&self, _node: &Node) -> Option<Node> {
        None
    }

    /// Checks the value and stores it in the machine, or reports what is wrong with it.
    fn apply(&self, path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Diagnostics);
}

impl Named for dyn ConfigHandler {
    fn name(&self) -> &'static str {
        self.key()
    }
}
