//! Keys that say what a switch of a lower layer says: what stands nearer to the VM wins.
//!
//! In one layer a switch replaces the key (docs/adr/0023). Without this, one of a lower layer would do so too, and a
//! `vga` of the VM's own lose to `arguments` of `maqet.conf`, or `--memory` to those of the definition.

use maqet_domain::config::{Node, Value};

use super::switch_name;

/// The keys, and the switches that would be given in their stead.
const SWITCHES_OF_KEYS: [(&str, &[&str]); 10] = [
    ("memory", &["m"]),
    ("cpu", &["smp"]),
    ("cpu_model", &["cpu"]),
    ("display", &["display", "nographic"]),
    ("vga", &["vga"]),
    ("machine", &["machine"]),
    ("boot", &["boot"]),
    ("serial", &["serial", "nographic"]),
    ("accel", &["accel", "enable-kvm"]),
    ("sandbox", &["sandbox"]),
];

/// Those of the switches that nothing follows.
const ALONE: [&str; 2] = ["nographic", "enable-kvm"];

/// Returns `base` without the switches in whose stead `over` has a key and no switch.
pub(super) fn without_replaced(base: Node, over: &Node) -> Node {
    let keys = SWITCHES_OF_KEYS.iter().filter(|(key, _)| over.get(key).is_some_and(|node| !node.is_null()));
    let replaced: Vec<&str> = keys.flat_map(|(_, names)| *names).copied().filter(|name| !gives(over, name)).collect();
    if replaced.is_empty() {
        return base;
    }
    base.map_value(|value| match value {
        Value::Map(entries) => Value::Map(
            entries
                .into_iter()
                .filter_map(|(key, node)| {
                    let node = match key.as_str() {
                        "arguments" => shorter(node, |items| structured(items, &replaced)),
                        "args" => shorter(node, |items| raw(items, &replaced)),
                        _ => Some(node),
                    };
                    node.map(|node| (key, node))
                })
                .collect(),
        ),
        other => other,
    })
}

/// Returns whether a layer has the switch itself.
fn gives(layer: &Node, name: &str) -> bool {
    let items = |key| layer.get(key).map(Node::items).unwrap_or_default().iter();
    items("arguments").any(|item| switch_name(item) == Some(name))
        || items("args").any(|item| raw_name(item) == Some(name))
}

/// Returns the list after `shorten`; none if that leaves nothing of it.
fn shorter(node: Node, shorten: impl FnOnce(Vec<Node>) -> Vec<Node>) -> Option<Node> {
    let before = node.items().len();
    let node = node.map_value(|value| match value {
        Value::List(items) => Value::List(shorten(items)),
        other => other,
    });
    Some(node).filter(|node| before == 0 || !node.items().is_empty())
}

fn structured(mut items: Vec<Node>, replaced: &[&str]) -> Vec<Node> {
    items.retain(|item| switch_name(item).is_none_or(|name| !replaced.contains(&name)));
    items
}

/// Takes the words out, each with the one that belongs to it.
fn raw(items: Vec<Node>, replaced: &[&str]) -> Vec<Node> {
    let mut kept = Vec::with_capacity(items.len());
    let mut items = items.into_iter();
    while let Some(item) = items.next() {
        match raw_name(&item).filter(|name| replaced.contains(name)) {
            None => kept.push(item),
            Some(name) if ALONE.contains(&name) => {}
            Some(_) => drop(items.next()),
        }
    }
    kept
}

/// Returns the name of the switch that a word of `args` is.
fn raw_name(item: &Node) -> Option<&str> {
    let word = item.as_text()?;
    word.strip_prefix("--").or_else(|| word.strip_prefix('-'))
}

#[cfg(test)]
mod tests {
    use crate::config::merge;

    #[track_caller]
    fn check(base: &str, over: &str, expected: &str) {
        let read = |text: &str| serde_json::from_str(text).unwrap();

        let merged = merge(read(base), read(over));

        assert_eq!(serde_json::to_string(&merged).unwrap(), expected);
    }

    #[test]
    fn test_merge_key_of_a_later_layer_wins_over_a_switch_of_an_earlier_one() {
        check(r#"{"arguments":[{"vga":"std"}]}"#, r#"{"vga":"virtio"}"#, r#"{"vga":"virtio"}"#);
        check(
            r#"{"arguments":[{"m":512},"enable-kvm",{"device":"x"}],"args":["-a","-smp","2","--nographic","-b"]}"#,
            r#"{"memory":"1G","cpu":4,"serial":"none","accel":"tcg"}"#,
            r#"{"arguments":[{"device":"x"}],"args":["-a","-b"],"memory":"1G","cpu":4,"serial":"none","accel":"tcg"}"#,
        );
    }

    #[test]
    fn test_merge_switch_stays_where_the_later_layer_has_no_such_key_or_the_switch_as_well() {
        let base = r#"{"arguments":[{"cpu":"max"},{"m":512}]}"#;

        check(base, r#"{"cpu":4}"#, r#"{"arguments":[{"cpu":"max"},{"m":512}],"cpu":4}"#);
        check(base, r#"{"memory":null}"#, r#"{"arguments":[{"cpu":"max"},{"m":512}],"memory":null}"#);
        // Which is told as the mistake it is.
        check(
            base,
            r#"{"memory":"1G","arguments":[{"m":256}]}"#,
            r#"{"arguments":[{"cpu":"max"},{"m":512},{"m":256}],"memory":"1G"}"#,
        );
        check(r#"{"memory":"1G"}"#, r#"{"arguments":[{"m":256}]}"#, r#"{"memory":"1G","arguments":[{"m":256}]}"#);
        check(r#"{"arguments":[]}"#, r#"{"cpu":4}"#, r#"{"arguments":[],"cpu":4}"#);
    }
}
