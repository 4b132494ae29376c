//! Precedence of keys over switches of a lower layer.
//!
//! Within a layer a switch overrides the key (docs/adr/0023). Across layers the higher one wins: `vga` of a VM overrides
//! the switch in the defaults of `maqet.conf`, and `--memory` the one in the definition.

use maqet_domain::config::Node;

use super::raw::{raw_name, without_raw};
use super::switch::switch_name;

/// The keys, and the switches that override them.
const SWITCHES_OF_KEYS: [(&str, &[&str]); 10] = [
    ("memory", &["m"]),
    ("cpu", &["smp"]),
    ("cpu_model", &["cpu"]),
    ("display", &["display", "nographic"]),
    ("vga", &["vga"]),
    ("machine", &["machine"]),
    ("boot", &["boot"]),
    ("serial", &["serial"]),
    ("accel", &["accel", "enable-kvm"]),
    ("sandbox", &["sandbox"]),
];

/// Removes the switches of `base` for which `over` has the key and not the switch.
pub(super) fn without_overridden(base: Node, over: &Node) -> Node {
    let keys = SWITCHES_OF_KEYS.iter().filter(|(key, _)| over.get(key).is_some_and(|node| !node.is_null()));
    let overridden: Vec<&str> =
        keys.flat_map(|(_, names)| *names).copied().filter(|name| !has_switch(over, name)).collect();
    if overridden.is_empty() {
        return base;
    }
    let without_overridden = |(key, node): (String, Node)| {
        let node = match key.as_str() {
            "arguments" => filtered(node, |items| structured(items, &overridden)),
            "args" => filtered(node, |items| without_raw(items, |name| overridden.contains(&name))),
            _ => Some(node),
        };
        node.map(|node| (key, node))
    };
    base.map_entries(|entries| entries.into_iter().filter_map(without_overridden).collect())
}

/// Returns whether a layer has the switch.
fn has_switch(layer: &Node, name: &str) -> bool {
    let items = |key| layer.get(key).map(Node::items).unwrap_or_default().iter();
    items("arguments").any(|item| switch_name(item) == Some(name))
        || items("args").any(|item| raw_name(item) == Some(name))
}

/// Returns the list after `filter`; `None` if it becomes empty.
fn filtered(node: Node, filter: impl FnOnce(Vec<Node>) -> Vec<Node>) -> Option<Node> {
    let before = node.items().len();
    let node = node.map_items(filter);
    Some(node).filter(|node| before == 0 || !node.items().is_empty())
}

fn structured(mut items: Vec<Node>, overridden: &[&str]) -> Vec<Node> {
    items.retain(|item| switch_name(item).is_none_or(|name| !overridden.contains(&name)));
    items
}

#[cfg(test)]
mod tests {
    use crate::config::merge::merge_builtin as merge;

    #[track_caller]
    fn check(base: &str, over: &str, expected: &str) {
        let read = |text: &str| serde_json::from_str(text).unwrap();

        let merged = merge(read(base), read(over));

        assert_eq!(serde_json::to_string(&merged).unwrap(), expected);
    }

    #[test]
    fn test_merge_key_overrides_a_switch_of_a_lower_layer() {
        check(r#"{"arguments":[{"vga":"std"}]}"#, r#"{"vga":"virtio"}"#, r#"{"vga":"virtio"}"#);
        check(
            r#"{"arguments":[{"m":512},"enable-kvm",{"device":"x"}],"args":["-a","-smp","2","--nographic","-b"]}"#,
            r#"{"memory":"1G","cpu":4,"display":"gtk","accel":"tcg"}"#,
            r#"{"arguments":[{"device":"x"}],"args":["-a","-b"],"memory":"1G","cpu":4,"display":"gtk","accel":"tcg"}"#,
        );
        check(
            r#"{"args":["-M","pc","-nographic"]}"#,
            r#"{"machine":"q35","serial":"none"}"#,
            r#"{"args":["-nographic"],"machine":"q35","serial":"none"}"#,
        );
    }

    #[test]
    fn test_merge_switch_without_a_key_above_stays() {
        let base = r#"{"arguments":[{"cpu":"max"},{"m":512}]}"#;

        check(base, r#"{"cpu":4}"#, r#"{"arguments":[{"cpu":"max"},{"m":512}],"cpu":4}"#);
        check(base, r#"{"memory":null}"#, r#"{"arguments":[{"cpu":"max"},{"m":512}],"memory":null}"#);
        // The check reports the duplicate.
        check(
            base,
            r#"{"memory":"1G","arguments":[{"m":256}]}"#,
            r#"{"arguments":[{"cpu":"max"},{"m":512},{"m":256}],"memory":"1G"}"#,
        );
        check(r#"{"memory":"1G"}"#, r#"{"arguments":[{"m":256}]}"#, r#"{"memory":"1G","arguments":[{"m":256}]}"#);
        check(r#"{"arguments":[]}"#, r#"{"cpu":4}"#, r#"{"arguments":[],"cpu":4}"#);
    }
}
