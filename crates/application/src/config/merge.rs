//! Merging of layers.

mod precedence;
mod switch;

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use maqet_domain::config::{Node, Value};
use maqet_domain::machine::SINGLE_ARGUMENTS;

use self::precedence::without_replaced;
use self::switch::{identity, merge_switch};

/// Lists of things that have a `name`: an entry of a later layer changes the one of that name.
pub(super) const NAMED_LISTS: [&str; 2] = ["storage", "network"];

/// The list of switches, whose entries are told apart by their switch and their `id`.
const SWITCHES: &str = "arguments";

/// The map whose values are taken whole: half of one command and half of another make none.
const WHOLE_VALUES: &str = "hooks";

/// Returns `base` with `over` laid over it.
///
/// Maps merge key by key; lists of named things merge by `name`, other lists append; of anything
/// else the later wins; `null` deletes. A key keeps the place it first had, because order matters. A key
/// takes out the switches of `base` that would be given in its stead.
pub fn merge(base: Node, over: Node) -> Node {
    merge_at("", without_replaced(base, &over), over)
}

fn merge_at(key: &str, base: Node, over: Node) -> Node {
    match (base.value, over.value) {
        (Value::Map(base_entries), Value::Map(entries)) if key == WHOLE_VALUES => Node {
            value: Value::Map(merge_maps(base_entries, entries, |_, _, above| above)),
            place: over.place.or(base.place),
            key: over.key,
        },
        (Value::Map(base_entries), Value::Map(entries)) => Node {
            value: Value::Map(merge_maps(base_entries, entries, merge_at)),
            place: over.place.or(base.place),
            key: over.key,
        },
        (Value::List(items), Value::List(more)) => {
            let items = match key {
                key if NAMED_LISTS.contains(&key) => merge_named(items, more),
                SWITCHES => merge_switches(items, more),
                _ => appended(items, more),
            };
            Node { value: Value::List(items), place: over.place.or(base.place), key: over.key }
        }
        (Value::Map(entries), Value::Null) if key.is_empty() => {
            Node { value: Value::Map(entries), place: base.place, key: base.key }
        }
        (_, value) => Node { value, place: over.place, key: over.key },
    }
}

/// Lays the entries of one map over those of another; `join` says what becomes of a key that stands in both.
fn merge_maps(
    base: Vec<(String, Node)>,
    over: Vec<(String, Node)>,
    join: impl Fn(&str, Node, Node) -> Node,
) -> Vec<(String, Node)> {
    let mut paths: HashMap<String, usize> = base.iter().map(|(key, _)| key.clone()).zip(0..).collect();
    let mut entries: Vec<Option<(String, Node)>> = base.into_iter().map(Some).collect();
    for (key, node) in over {
        let below = paths.get(&key).and_then(|index| entries[*index].take());
        match (below, node.is_null()) {
            (Some(_), true) => drop(paths.remove(&key)),
            (Some((key, below)), false) => {
                let index = paths[&key];
                let merged = join(&key, below, node);
                entries[index] = Some((key, merged));
            }
            (None, _) => {
                paths.insert(key.clone(), entries.len());
                entries.push(Some((key, node)));
            }
        }
    }
    entries.into_iter().flatten().collect()
}

fn merge_named(base: Vec<Node>, over: Vec<Node>) -> Vec<Node> {
    let name = |node: &Node| node.get("name").and_then(Node::scalar);
    merge_by(base, over, name, |below, node| merge_at("[]", below, without_name(node)))
}

/// Takes out the name by which an entry was found: it stays as the first layer wrote it, where that wrote it.
fn without_name(node: Node) -> Node {
    node.map_value(|value| match value {
        Value::Map(entries) => Value::Map(entries.into_iter().filter(|(key, _)| key != "name").collect()),
        other => other,
    })
}

/// Lays switches of a later layer over those of the same name and `id`; the others follow.
///
/// A second switch of a name that may stand once stays beside the first, to be told as the mistake it is. As null it
/// deletes that of the layer below; where there is none, it stays for what it may be laid over yet.
fn merge_switches(mut base: Vec<Node>, mut over: Vec<Node>) -> Vec<Node> {
    let deletions: HashSet<String> = over.iter().filter_map(deletion).map(str::to_owned).collect();
    let mut met = HashSet::new();
    base.retain(|node| match switch_name(node).filter(|name| deletions.contains(*name)) {
        Some(name) => {
            met.insert(name.to_owned());
            deletion(node).is_some()
        }
        None => true,
    });
    over.retain(|node| deletion(node).is_none_or(|name| !met.contains(name)));
    merge_by(base, over, identity, merge_switch)
}

/// Joins each item of `over` with the first of `base` that is known by the same; the others follow.
fn merge_by<K: Hash + Eq>(
    mut base: Vec<Node>,
    over: Vec<Node>,
    known_by: impl Fn(&Node) -> Option<K>,
    join: impl Fn(Node, Node) -> Node,
) -> Vec<Node> {
    let mut paths: HashMap<K, usize> = HashMap::new();
    for (index, node) in base.iter().enumerate() {
        if let Some(known) = known_by(node) {
            paths.entry(known).or_insert(index);
        }
    }
    for node in over {
        let known = known_by(&node);
        if let Some(index) = known.as_ref().and_then(|known| paths.get(known)) {
            let below = std::mem::replace(&mut base[*index], Node::new(Value::Null));
            base[*index] = join(below, node);
        } else {
            paths.extend(known.map(|known| (known, base.len())));
            base.push(node);
        }
    }
    base
}

/// Returns the name of the switch that a null deletes, as in `- {kernel: null}`.
///
/// Of other switches a null is one without a value, as in `- {enable-kvm: null}`.
fn deletion(node: &Node) -> Option<&str> {
    let [(_, value)] = node.entries() else { return None };
    switch_name(node).filter(|name| value.is_null() && SINGLE_ARGUMENTS.contains(name))
}

fn switch_name(node: &Node) -> Option<&str> {
    let name = node.as_text().or_else(|| node.entries().first().map(|(name, _)| name.as_str()));
    name.map(|name| name.trim_start_matches('-'))
}

fn appended(mut items: Vec<Node>, more: Vec<Node>) -> Vec<Node> {
    items.extend(more);
    items
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
    fn test_merge_maps_key_by_key_keeps_the_order() {
        check(r#"{"b":1,"a":{"x":1}}"#, r#"{"a":{"y":2},"c":3}"#, r#"{"b":1,"a":{"x":1,"y":2},"c":3}"#);
    }

    #[test]
    fn test_merge_null_deletes_what_was_there() {
        check(r#"{"a":1,"b":2}"#, r#"{"a":null}"#, r#"{"b":2}"#);
    }

    #[test]
    fn test_merge_null_without_a_base_stays() {
        check("{}", r#"{"enable-kvm":null}"#, r#"{"enable-kvm":null}"#);
    }

    #[test]
    fn test_merge_hooks_take_commands_whole() {
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
    fn test_merge_arguments_of_the_same_name_and_id_become_one() {
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
    fn test_merge_null_of_a_switch_that_stands_once_deletes_the_earlier_one() {
        let list = |items: &str| format!(r#"{{"arguments":[{items}]}}"#);
        let (old, new) = (r#"{"kernel":"/a"}"#, r#"{"kernel":"/b"}"#);
        let (null, other) = (r#"{"kernel":null}"#, r#"{"append":"x"}"#);

        check(&list(&format!("{old},{other}")), &list(r#"{"-kernel":null}"#), &list(other));
        check(&list(r#"{"-cpu":{"max":null}}"#), &list(r#"{"cpu":null}"#), &list(""));
        check(&list(&format!("{old},{other}")), &list(&format!("{null},{new}")), &list(&format!("{other},{new}")));
        check(&list(old), &list(&format!("{new},{null}")), &list(new));
        // What it may delete comes later still, as defaults do.
        check(&list(other), &list(null), &list(&format!("{other},{null}")));
        check(&list(null), &list(null), &list(null));
        check(&list(&format!("{null},{old}")), &list(null), &list(null));
        // A switch that has options or stands alone is none.
        check(&list(old), &list(r#"{"kernel":null,"x":1}"#), &list(&format!(r#"{old},{{"kernel":null,"x":1}}"#)));
        check(&list(r#""enable-kvm""#), &list(r#"{"enable-kvm":null}"#), &list(r#""enable-kvm",{"enable-kvm":null}"#));
    }

    #[test]
    fn test_merge_arguments_null_deletes_all_of_them() {
        check(r#"{"arguments":[{"m":1},"S"],"args":["-a"]}"#, r#"{"arguments":null}"#, r#"{"args":["-a"]}"#);
    }

    #[test]
    fn test_merge_entry_found_by_its_name_keeps_that_name_and_its_place() {
        let base: Node = serde_json::from_str(r#"{"storage":[{"name":7,"size":"1G"}]}"#).unwrap();

        let merged = crate::config::set(base, "storage.7.size=2G").unwrap();

        assert_eq!(serde_json::to_string(&merged).unwrap(), r#"{"storage":[{"name":7,"size":"2G"}]}"#);
        let drive = &merged.get("storage").unwrap().items()[0];
        assert_eq!(drive.get("name").unwrap().place, None);
        assert_eq!(drive.get("size").unwrap().place.as_ref().unwrap().to_string(), "flag `--set storage.7.size`");
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
