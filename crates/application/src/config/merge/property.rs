//! Properties of merging, for any layers.
//!
//! A key has the same type of value in all layers here, or one that stands for it: with different types or `null`, the
//! order of merging matters.

use proptest::prelude::*;
use proptest::sample::subsequence;

use super::merge_builtin as merge;
use super::{Node, Value};

fn map(entries: Vec<(String, Node)>) -> Node {
    Node::new(Value::Map(entries))
}

fn scalar() -> impl Strategy<Value = Node> {
    prop_oneof![
        (0_i64..9).prop_map(|number| Node::new(Value::Int(number))),
        any::<bool>().prop_map(|claim| Node::new(Value::Bool(claim))),
        "[a-c]{1,2}".prop_map(Node::text),
    ]
}

/// A subset of these keys, in any order, with scalars.
fn scalars(keys: &'static [&'static str]) -> impl Strategy<Value = Vec<(String, Node)>> {
    let some = subsequence(keys, 0..=keys.len()).prop_shuffle();
    some.prop_flat_map(|keys| {
        let keys: Vec<_> = keys.into_iter().map(|key| (Just(key.to_owned()), scalar())).collect();
        keys
    })
}

/// Entries with different names; the name is not always the first key.
fn named() -> impl Strategy<Value = Node> {
    let names = subsequence(&["hdd", "cd", "data", "0"][..], 0..=4).prop_shuffle();
    let list = names.prop_flat_map(|names| {
        let things: Vec<_> = names
            .into_iter()
            .map(|name| {
                (scalars(&["size", "file", "serial"]), any::<prop::sample::Index>()).prop_map(move |(mut keys, at)| {
                    keys.insert(at.index(keys.len() + 1), ("name".to_owned(), Node::text(name)));
                    map(keys)
                })
            })
            .collect();
        things
    });
    list.prop_map(|things| Node::new(Value::List(things)))
}

/// Switches with an `id`, in either form, most of them with a type.
fn switches() -> impl Strategy<Value = Node> {
    let all = [("netdev", "n0"), ("netdev", "n1"), ("device", "n0"), ("chardev", "c0")];
    let some = subsequence(all.to_vec(), 0..=4).prop_shuffle();
    let list = some.prop_flat_map(|some| {
        let switches: Vec<_> = some
            .into_iter()
            .map(|(switch, id)| {
                let word = prop_oneof![Just(None), Just(Some("user")), Just(Some("tap"))];
                (scalars(&["script", "path", "mac"]), word, any::<bool>()).prop_map(
                    move |(mut options, word, is_map)| {
                        options.push(("id".to_owned(), Node::text(id)));
                        switch_of(switch, word, options, is_map)
                    },
                )
            })
            .collect();
        switches
    });
    list.prop_map(|switches| Node::new(Value::List(switches)))
}

fn switch_of(name: &str, word: Option<&str>, options: Vec<(String, Node)>, is_map: bool) -> Node {
    let head = |word: &str, value| std::iter::once((word.to_owned(), value)).chain(options.clone()).collect();
    match word {
        Some(word) if is_map => map(vec![(name.to_owned(), map(head(word, Node::new(Value::Null))))]),
        Some(word) => map(head(name, Node::text(word))),
        None => map(vec![(name.to_owned(), map(options))]),
    }
}

/// A value that is a scalar, or a map of the same options.
fn machine() -> impl Strategy<Value = Node> {
    let scalar = prop_oneof![Just("pc"), Just("q35")].prop_map(Node::text);
    prop_oneof![scalar, scalars(&["type", "usb"]).prop_map(map)]
}

/// A layer without lists that append.
fn layer() -> impl Strategy<Value = Node> {
    let labels = scalars(&["team", "use", "since"]).prop_map(map);
    let usb = subsequence(&["tablet", "mouse", "1-2"][..], 0..=3).prop_shuffle();
    let usb = usb.prop_map(|devices| Node::new(Value::List(devices.into_iter().map(Node::text).collect())));
    let parts = (scalars(&["memory", "cpu", "vga"]), labels, named(), named(), switches(), usb, machine());
    let parts = parts.prop_map(|(mut keys, labels, storage, network, arguments, usb, machine)| {
        let others = [
            ("labels", labels),
            ("storage", storage),
            ("network", network),
            ("arguments", arguments),
            ("usb", usb),
            ("machine", machine),
        ];
        keys.extend(others.map(|(key, node)| (key.to_owned(), node)));
        keys
    });
    parts.prop_flat_map(|keys| {
        let count = keys.len();
        subsequence(keys, 0..=count).prop_shuffle().prop_map(map)
    })
}

/// A layer with `args`, which append.
fn appending_layer() -> impl Strategy<Value = Node> {
    (layer(), prop::collection::vec(scalar(), 0..3)).prop_map(|(layer, words)| {
        layer.map_value(|value| match value {
            Value::Map(mut keys) => {
                keys.push(("args".to_owned(), Node::new(Value::List(words))));
                Value::Map(keys)
            }
            other => other,
        })
    })
}

fn keys(node: &Node) -> Vec<&str> {
    node.entries().iter().map(|(key, _)| key.as_str()).collect()
}

/// Returns the first, and after it what only the second has.
fn united<'a>(first: &[&'a str], second: &[&'a str]) -> Vec<&'a str> {
    let new = second.iter().filter(|key| !first.contains(key));
    first.iter().chain(new).copied().collect()
}

/// Compares as texts, for which the order of keys counts as it does for QEMU.
fn text(node: &Node) -> String {
    serde_json::to_string(node).unwrap()
}

proptest! {
    #[test]
    fn test_merge_any_layers_is_associative(
        a in appending_layer(), b in appending_layer(), c in appending_layer()
    ) {
        let left = merge(merge(a.clone(), b.clone()), c.clone());
        let right = merge(a, merge(b, c));

        prop_assert_eq!(text(&left), text(&right));
    }

    #[test]
    fn test_merge_any_layer_twice_is_once(a in layer(), b in layer()) {
        let once = merge(a, b.clone());

        prop_assert_eq!(text(&merge(once.clone(), b)), text(&once));
        prop_assert_eq!(text(&merge(once.clone(), once.clone())), text(&once));
    }

    #[test]
    fn test_merge_any_layers_keeps_the_order_of_the_first(a in layer(), b in layer()) {
        let merged = merge(a.clone(), b.clone());

        prop_assert_eq!(keys(&merged), united(&keys(&a), &keys(&b)));
        for list in ["storage", "network"] {
            let names = |layer: &Node| -> Vec<String> {
                let things = layer.get(list).map(Node::items).unwrap_or_default();
                things.iter().filter_map(|thing| thing.get("name")?.written()).collect()
            };
            let (of_a, of_b, of_merged) = (names(&a), names(&b), names(&merged));
            let [of_a, of_b] = [&of_a, &of_b].map(|names| names.iter().map(String::as_str).collect::<Vec<_>>());
            prop_assert_eq!(of_merged, united(&of_a, &of_b));
        }
    }

    #[test]
    fn test_merge_any_scalar_of_the_later_layer_wins(a in layer(), b in layer()) {
        let merged = merge(a.clone(), b.clone());

        for key in ["memory", "cpu", "vga"] {
            prop_assert_eq!(merged.get(key), b.get(key).or_else(|| a.get(key)));
        }
    }

    #[test]
    fn test_merge_any_key_set_to_null_is_gone_and_no_other(a in layer(), at in any::<prop::sample::Index>()) {
        prop_assume!(!a.entries().is_empty());
        let gone = a.entries()[at.index(a.entries().len())].0.clone();

        let merged = merge(a.clone(), map(vec![(gone.clone(), Node::new(Value::Null))]));

        let left: Vec<(String, Node)> = a.entries().iter().filter(|(key, _)| *key != gone).cloned().collect();
        prop_assert_eq!(text(&merged), text(&map(left)));
    }
}
