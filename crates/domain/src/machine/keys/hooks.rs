//! `hooks`: programs that run when something happened.

use std::path::Path;

use serde_json::json;

use crate::config::{Diagnostics, KeyPath, Node};
use crate::hook::Hook;
use crate::machine::Machine;
use crate::machine::{ConfigHandler, KeyDoc};

/// `hooks`: programs that run when something happened to the VM.
#[derive(Debug)]
pub(super) struct Hooks;

impl ConfigHandler for Hooks {
    fn key(&self) -> &'static str {
        "hooks"
    }

    fn documentation(&self) -> KeyDoc {
        KeyDoc {
            summary: "programs that run when something happened to the VM",
            form: "a map of types of events, as `vm.started`, each with the words of a command or a list of commands",
        }
    }

    fn schema(&self) -> serde_json::Value {
        let command = json!({ "type": "array", "minItems": 1, "items": { "type": ["string", "number", "boolean"] } });
        let commands = json!({ "type": "array", "minItems": 1, "items": command });
        json!({ "type": "object", "additionalProperties": { "anyOf": [command, commands] } })
    }

    fn rebase(&self, node: Node, folder: &Path) -> Node {
        Hook::rebase(node, folder)
    }

    fn apply(&self, path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Diagnostics) {
        machine.hooks.extend(Hook::read_all(path, node, report));
    }
}
