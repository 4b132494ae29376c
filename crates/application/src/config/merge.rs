//! Merging of layers.

mod precedence;
mod switch;

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use maqet_domain::config::{Node, Value};
use maqet_domain::machine::{SINGLE_ARGUMENTS, canonical};

use self::precedence::without_overridden;
use self::switch::{identity, merge_switch};
use super::without_name;

/// Lists of named entries: an entry of a later layer is merged into the one with the same `name`.
pub(super) const NAMED_LISTS: [&str; 2] = ["storage", "network"];

/// The list of switches, whose entries are identified by name and `id`.
const SWITCHES: &str = "arguments";

/// The map whose values are replaced as a whole: commands are not merged.
const WHOLE_VALUES: &str = "hooks";

/// Merges `over` into `base`.
///
/// Maps merge key by key; lists of named entries merge by `name`, other lists append; any other value replaces the
/// earlier one; `null` deletes it. A key keeps its first position, because order matters. A key of `over` removes the
/// switches of `base` that would override it.
pub fn merge(base: Node, over: Node) -> Node {
    merge_at("", without_overridden(base, &over), over)
}

fn merge_at(key: &str, base: Node, over: Node) -> Node {
    let value = match (base.value, over.value) {
        (Value::Map(base_entries), Value::Map(entries)) if key == WHOLE_VALUES => {
            Value::Map(merge_maps(base_entries, entries, |_, _, above| above))
        }
        (Value::Map(base_entries), Value::Map(entries)) => Value::Map(merge_maps(base_entries, entries, merge_at)),
        (Value::List(items), Value::List(more)) if NAMED_LISTS.contains(&key) => Value::List(merge_named(items, more)),
        (Value::List(items), Value::List(more)) if key == SWITCHES => Value::List(merge_switches(items, more)),
        (Value::List(items), Value::List(more)) => Value::List(items.into_iter().chain(more).collect()),
        (value @ Value::Map(_), Value::Null) if key.is_empty() => return Node { value, ..base },
        (_, value) => return Node { value, ..over },
    };
    Node { value, value_location: over.value_location.or(base.value_location), key_location: over.key_location }
}

/// Merges the entries of two maps; `join` merges the values of a key in both.
fn merge_maps(
    base: Vec<(String, Node)>,
    over: Vec<(String, Node)>,
    join: impl Fn(&str, Node, Node) -> Node,
) -> Vec<(String, Node)> {
    let mut indices: HashMap<String, usize> = base.iter().map(|(key, _)| key.clone()).zip(0..).collect();
    let mut entries: Vec<Option<(String, Node)>> = base.into_iter().map(Some).collect();
    for (key, node) in over {
        let below = indices.get(&key).and_then(|index| entries[*index].take());
        match (below, node.is_null()) {
            (Some(_), true) => drop(indices.remove(&key)),
            (Some((key, below)), false) => {
                let index = indices[&key];
                let merged = join(&key, below, node);
                entries[index] = Some((key, merged));
            }
            (None, _) => {
                indices.insert(key.clone(), entries.len());
                entries.push(Some((key, node)));
            }
        }
    }
    entries.into_iter().flatten().collect()
}

/// Merges entries by name; that of the first layer stays, with its location.
fn merge_named(base: Vec<Node>, over: Vec<Node>) -> Vec<Node> {
    let name = |node: &Node| node.get("name").and_then(Node::scalar);
    merge_by(base, over, name, |below, node| merge_at("[]", below, without_name(node)))
}

/// Merges switches of a later layer into those with the same name and `id`; the others are appended.
///
/// A second switch that can be given only once is kept, to be reported as an error. With null it deletes that of the
/// lower layer; if there is none, it is kept for the layers this one is merged over.
fn merge_switches(mut base: Vec<Node>, mut over: Vec<Node>) -> Vec<Node> {
    let deletions: HashSet<String> = over.iter().filter_map(deletion).map(str::to_owned).collect();
    let mut applied = HashSet::new();
    base.retain(|node| match switch_name(node).filter(|name| deletions.contains(*name)) {
        Some(name) => {
            applied.insert(name.to_owned());
            deletion(node).is_some()
        }
        None => true,
    });
    over.retain(|node| deletion(node).is_none_or(|name| !applied.contains(name)));
    merge_by(base, over, identity, merge_switch)
}

/// Joins each item of `over` with the first of `base` that has the same key; the others are appended.
fn merge_by<K: Hash + Eq>(
    mut base: Vec<Node>,
    over: Vec<Node>,
    key_of: impl Fn(&Node) -> Option<K>,
    join: impl Fn(Node, Node) -> Node,
) -> Vec<Node> {
    let mut indices: HashMap<K, usize> = HashMap::new();
    for (index, node) in base.iter().enumerate() {
        if let Some(key) = key_of(node) {
            indices.entry(key).or_insert(index);
        }
    }
    for node in over {
        let key = key_of(&node);
        if let Some(index) = key.as_ref().and_then(|key| indices.get(key)) {
            let below = std::mem::replace(&mut base[*index], Node::new(Value::Null));
            base[*index] = join(below, node);
        } else {
            indices.extend(key.map(|key| (key, base.len())));
            base.push(node);
        }
    }
    base
}

/// Returns the name of the switch that this deletes, as in `- {kernel: null}`.
///
/// Switches that can be given several times are not deleted: `- {enable-kvm: null}` is one without a value.
fn deletion(node: &Node) -> Option<&str> {
    let [(_, value)] = node.entries() else { return None };
    switch_name(node).filter(|name| value.is_null() && SINGLE_ARGUMENTS.contains(name))
}

fn switch_name(node: &Node) -> Option<&str> {
    let name = node.as_text().or_else(|| node.entries().first().map(|(name, _)| name.as_str()));
    name.map(|name| canonical(name.trim_start_matches('-')))
}

#[cfg(test)]
mod property;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(base: &str, over: &str, expected: &str) {
        let parse = |text| serde_json::from_str::<Node>(text).unwrap();

        let merged = merge(parse(base), parse(over));

        assert_eq!(serde_json::to_string(&merged).unwrap(), expected);
    }

    #[test]
    fn test_merge_maps_keeps_the_order() {
        check(r#"{"b":1,"a":{"x":1}}"#, r#"{"a":{"y":2},"c":3}"#, r#"{"b":1,"a":{"x":1,"y":2},"c":3}"#);
    }

    #[test]
    fn test_merge_null_deletes() {
        check(r#"{"a":1,"b":2}"#, r#"{"a":null}"#, r#"{"b":2}"#);
    }

    #[test]
    fn test_merge_null_without_a_base_stays() {
        check("{}", r#"{"enable-kvm":null}"#, r#"{"enable-kvm":null}"#);
    }

    #[test]
    fn test_merge_hooks_replaces_commands() {
        check(
            r#"{"hooks":{"vm.started":["a","b"],"vm.stopped":["c"]}}"#,
            r#"{"hooks":{"vm.started":["d"],"vm.stopped":null,"vm.reset":["e"]}}"#,
            r#"{"hooks":{"vm.started":["d"],"vm.reset":["e"]}}"#,
        );
    }

    #[test]
    fn test_merge_storage_by_name_changes_the_entry() {
        check(
            r#"{"storage":[{"name":"a","size":"1G"},{"name":"b"}]}"#,
            r#"{"storage":[{"name":"b","size":"2G"},{"name":"c"}]}"#,
            r#"{"storage":[{"name":"a","size":"1G"},{"name":"b","size":"2G"},{"name":"c"}]}"#,
        );
    }

    #[test]
    fn test_merge_arguments_by_name_and_id() {
        check(
            r#"{"arguments":[{"netdev":{"user":null,"id":"n0"}},"enable-kvm",{"m":1}]}"#,
            r#"{"arguments":[{"netdev":{"user":null,"id":"n0","hostfwd":"x"}},{"m":2},{"netdev":"user","id":"n1"}]}"#,
            concat!(
                r#"{"arguments":[{"netdev":{"user":null,"id":"n0","hostfwd":"x"}},"enable-kvm",{"m":1},{"m":2},"#,
                r#"{"netdev":"user","id":"n1"}]}"#
            ),
        );
    }

    #[test]
    fn test_merge_null_deletes_a_single_switch() {
        let list = |items: &str| format!(r#"{{"arguments":[{items}]}}"#);
        let (old, new) = (r#"{"kernel":"/a"}"#, r#"{"kernel":"/b"}"#);
        let (null, other) = (r#"{"kernel":null}"#, r#"{"append":"x"}"#);

        check(&list(&format!("{old},{other}")), &list(r#"{"-kernel":null}"#), &list(other));
        check(&list(r#"{"-cpu":{"max":null}}"#), &list(r#"{"cpu":null}"#), &list(""));
        check(&list(&format!("{old},{other}")), &list(&format!("{null},{new}")), &list(&format!("{other},{new}")));
        check(&list(old), &list(&format!("{new},{null}")), &list(new));
        // It may delete one of a lower layer, as of the defaults.
        check(&list(other), &list(null), &list(&format!("{other},{null}")));
        check(&list(null), &list(null), &list(null));
        check(&list(&format!("{null},{old}")), &list(null), &list(null));
        // A switch with options, or without a value, is not a deletion.
        check(&list(old), &list(r#"{"kernel":null,"x":1}"#), &list(&format!(r#"{old},{{"kernel":null,"x":1}}"#)));
        check(&list(r#""enable-kvm""#), &list(r#"{"enable-kvm":null}"#), &list(r#""enable-kvm",{"enable-kvm":null}"#));
    }

    #[test]
    fn test_merge_arguments_null_deletes_all_of_them() {
        check(r#"{"arguments":[{"m":1},"S"],"args":["-a"]}"#, r#"{"arguments":null}"#, r#"{"args":["-a"]}"#);
    }

    #[test]
    fn test_merge_named_entry_keeps_its_name_and_location() {
        let base: Node = serde_json::from_str(r#"{"storage":[{"name":7,"size":"1G"}]}"#).unwrap();

        let merged = crate::config::set(base, "storage.7.size=2G").unwrap();

        assert_eq!(serde_json::to_string(&merged).unwrap(), r#"{"storage":[{"name":7,"size":"2G"}]}"#);
        let drive = &merged.get("storage").unwrap().items()[0];
        assert_eq!(drive.get("name").unwrap().value_location, None);
        assert_eq!(
            drive.get("size").unwrap().value_location.as_ref().unwrap().to_string(),
            "option `--set storage.7.size`"
        );
    }

    #[test]
    fn test_merge_other_lists_append() {
        check(r#"{"args":["-a"]}"#, r#"{"args":["-b"]}"#, r#"{"args":["-a","-b"]}"#);
    }

    #[test]
    fn test_merge_empty_document_changes_nothing() {
        check(r#"{"a":1}"#, "null", r#"{"a":1}"#);
    }
}
