//! The boot order of drives and network cards.

use std::collections::HashMap;

use super::Machine;
use crate::config::{Diagnostics, KeyPath, Node, Value};

impl Machine {
    /// Reports drives and network cards with the same position in the boot order, which QEMU refuses.
    pub(super) fn check_boot_order(&self, definition: &Node, report: &mut Diagnostics) {
        let path = KeyPath::top("storage");
        let entries = definition.get("storage").map(Node::items).unwrap_or_default();
        let drives = self.storage.iter().filter_map(|one| {
            let entry = entries.get(one.index)?;
            Some((one.bootindex?, "drive", path.index(one.index).key("bootindex"), entry.get("bootindex")?))
        });
        let cards = self.network.iter().filter_map(|card| {
            let (at, entry) = card_entry(definition.get("network")?, card.index)?;
            Some((card.bootindex?, "network card", at.key("bootindex"), entry.get("bootindex")?))
        });
        let mut used: HashMap<u16, (&str, &Node)> = HashMap::new();
        for (position, kind, at, node) in drives.chain(cards) {
            if let Some((other, first)) = used.get(&position) {
                let article = if *other == kind { "another" } else { "a" };
                report.duplicate(&at, node, first.location(), format!("{article} {other} has `bootindex: {position}`"));
            }
            used.entry(position).or_insert((kind, node));
        }
    }
}

/// Returns the entry of a card, and its path; `network` is a list, or the entry itself.
fn card_entry(network: &Node, index: usize) -> Option<(KeyPath, &Node)> {
    let path = KeyPath::top("network");
    match &network.value {
        Value::List(items) => Some((path.index(index), items.get(index)?)),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_) | Value::Map(_) => {
            Some((path, network))
        }
    }
}
