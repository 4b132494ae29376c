//! Items of `args`, as QEMU reads them.

use crate::config::Node;
use crate::qemu::{RawPart, RawReader};

/// An item of `args`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RawItem<'n> {
    /// It is passed to QEMU.
    Passed(RawPart<'n>),
    /// It deletes an item of an earlier file.
    Deletion,
}

/// A switch in `args`.
#[derive(Debug, Clone, Copy)]
pub struct RawSwitch<'n> {
    /// The index of its item.
    pub index: usize,
    /// Its item.
    pub node: &'n Node,
    /// Its name, without hyphens and aliases.
    pub name: &'n str,
    /// The item with its value.
    pub value: Option<&'n Node>,
    /// The index of that item.
    pub value_index: Option<usize>,
}

/// Returns what QEMU takes each item of `args` for.
pub fn raw_items(items: &[Node]) -> impl Iterator<Item = RawItem<'_>> {
    let mut reader = RawReader::default();
    items.iter().map(move |item| match item.deletion() {
        Some(_) => RawItem::Deletion,
        None => RawItem::Passed(reader.read(item.as_text())),
    })
}

/// Returns the switches in `args`.
pub fn raw_switches(items: &[Node]) -> Vec<RawSwitch<'_>> {
    let mut switches: Vec<RawSwitch<'_>> = Vec::new();
    for (index, (node, item)) in items.iter().zip(raw_items(items)).enumerate() {
        match item {
            RawItem::Passed(RawPart::Switch(name)) => {
                switches.push(RawSwitch { index, node, name, value: None, value_index: None });
            }
            RawItem::Passed(RawPart::Value(_)) => {
                if let Some(switch) = switches.last_mut() {
                    (switch.value, switch.value_index) = (Some(node), Some(index));
                }
            }
            RawItem::Passed(RawPart::Other) | RawItem::Deletion => {}
        }
    }
    switches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_raw_switches_have_their_values() {
        let items: Vec<Node> =
            serde_json::from_str(r#"["-m", 512, "-append", {"-foo": null}, "-nographic", "-S", "x", "--M", "pc"]"#)
                .unwrap();

        let found: Vec<(usize, &str, Option<String>)> =
            raw_switches(&items).iter().map(|one| (one.index, one.name, one.value.and_then(Node::written))).collect();

        let value = |text: &str| Some(text.to_owned());
        let expected =
            [(0, "m", value("512")), (2, "append", value("-nographic")), (5, "S", None), (7, "machine", value("pc"))];
        assert_eq!(found, expected);
    }
}
