//! The key of what maqet does inside the guest: `guest`.

use super::KeySpec;
use super::table::doc;
use crate::config::{Diagnostics, KeyPath, Node, schema};
use crate::machine::Machine;

/// The key `guest`, as a table of one.
pub(super) const GUEST_KEYS: &[KeySpec] = &[KeySpec::new(
    "guest",
    doc(
        "the channels to the guest: its agent, and streams of commands",
        "a map with agent: `true` (the default where the machine has a bus for it) or `false`",
    ),
    || schema::map(vec![("agent", schema::boolean())]),
    guest,
)];

fn guest(path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Diagnostics) {
    for (key, value) in report.map(path, node).unwrap_or_default() {
        let at = path.key(key);
        match key.as_str() {
            "agent" if value.is_null() => {}
            "agent" => machine.agent = report.boolean(&at, value),
            _ => report.unknown_key(&at, value, &["agent"]),
        }
    }
}
