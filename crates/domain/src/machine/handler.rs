//! Configuration keys: the interface through which each one, built in or not, is known.

use std::fmt;
use std::path::Path;

use super::Machine;
use crate::config::{Diagnostics, KeyPath, Node};
use crate::registry::Named;

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
    fn apply(&self, path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Diagnostics);
}

impl Named for dyn ConfigHandler {
    fn name(&self) -> &'static str {
        self.key()
    }
}
