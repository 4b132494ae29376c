//! Merging of layers.

use std::collections::HashMap;
use std::hash::Hash;

use maqet_domain::config::{Node, Value};

/// Lists of things that have a `name`: an entry of a later layer changes the one of that name.
pub(super) const NAMED_LISTS: [&str; 2] = ["storage", "network"];

/// The list of switches, whose entries are told apart by their switch and their `id`.
const SWITCHES: &str = "arguments";

/// The map whose values are taken whole: half of one command and half of another make none.
const WHOLE_VALUES: &str = "hooks";

/// Returns `base` with `over` laid over it.
///
/// Maps merge key by key; lists of named things merge by `name`, other lists append; of anything
/// else the later wins; `null` deletes. A key keeps the place it first had, because order matters.
pub fn merge(base: Node, over: Node) -> Node {
    merge_at("", base, over)
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
    let mut places: HashMap<String, usize> = base.iter().map(|(key, _)| key.clone()).zip(0..).collect();
    let mut entries: Vec<Option<(String, Node)>> = base.into_iter().map(Some).collect();
    for (key, node) in over {
        let below = places.get(&key).and_then(|index| entries[*index].take());
        match (below, node.is_null()) {
            (Some(_), true) => drop(places.remove(&key)),
            (Some((key, below)), false) => {
                let index = places[&key];
                let merged = join(&key, below, node);
                entries[index] = Some((key, merged));
            }
            (None, _) => {
                places.insert(key.clone(), entries.len());
                entries.push(Some((key, node)));
            }
        }
    }
    entries.into_iter().flatten().collect()
}

fn merge_named(base: Vec<Node>, over: Vec<Node>) -> Vec<Node> {
    let name = |node: &Node| node.get("name").and_then(Node::scalar);
    merge_by(base, over, name, |below, node| merge_at("[]", below, node))
}

/// Lays switches of a later layer over those of the same name and `id`; the others follow.
///
/// A second switch of a name that may stand once stays beside the first, to be told as the mistake it is.
fn merge_switches(base: Vec<Node>, over: Vec<Node>) -> Vec<Node> {
    merge_by(base, over, identity, |below, node| merge_switch(&below, node))
}

/// Joins each item of `over` with the first of `base` that is known by the same; the others follow.
fn merge_by<K: Hash + Eq>(
    mut base: Vec<Node>,
    over: Vec<Node>,
    known_by: impl Fn(&Node) -> Option<K>,
    join: impl Fn(Node, Node) -> Node,
) -> Vec<Node> {
    let mut places: HashMap<K, usize> = HashMap::new();
    for (index, node) in base.iter().enumerate() {
        if let Some(known) = known_by(node) {
            places.entry(known).or_insert(index);
        }
    }
    for node in over {
        let known = known_by(&node);
        if let Some(index) = known.as_ref().and_then(|known| places.get(known)) {
            let below = std::mem::replace(&mut base[*index], Node::new(Value::Null));
            base[*index] = join(below, node);
        } else {
            places.extend(known.map(|known| (known, base.len())));
            base.push(node);
        }
    }
    base
}

/// Returns the name and the `id` of a switch that has one, in either of its forms.
fn identity(node: &Node) -> Option<(String, String)> {
    let (name, value) = node.entries().first()?;
    let id = node.get("id").or_else(|| value.get("id"))?.scalar()?;
    Some((name.clone(), id))
}

/// Lays the options of one switch over those of another; a null is an option without a value and deletes nothing.
fn merge_switch(base: &Node, over: Node) -> Node {
    let same_form = |a: &Node, b: &Node| a.entries().is_empty() == b.entries().is_empty();
    let fits = match (base.entries().first(), over.entries().first()) {
        (Some((_, base)), Some((_, over))) => same_form(base, over),
        (_, _) => false,
    };
    if !fits {
        return over;
    }
    let entries = overlaid(base.entries(), over.entries(), |below, above| {
        if below.entries().is_empty() || above.entries().is_empty() {
            return above.clone();
        }
        let options = overlaid(below.entries(), above.entries(), |_, above| above.clone());
        above.clone().map_value(|_| Value::Map(options))
    });
    over.map_value(|_| Value::Map(entries))
}

/// Lays entries over others; `join` says what becomes of a key that stands in both.
fn overlaid(
    base: &[(String, Node)],
    over: &[(String, Node)],
    join: impl Fn(&Node, &Node) -> Node,
) -> Vec<(String, Node)> {
    let mut entries = base.to_vec();
    for (key, node) in over {
        match entries.iter_mut().find(|(known, _)| known == key) {
            Some((_, slot)) => *slot = join(slot, node),
            None => entries.push((key.clone(), node.clone())),
        }
    }
    entries
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
    fn test_merge_other_lists_append() {
        check(r#"{"args":["-a"]}"#, r#"{"args":["-b"]}"#, r#"{"args":["-a","-b"]}"#);
    }

    #[test]
    fn test_merge_empty_document_changes_nothing() {
        check(r#"{"a":1}"#, "null", r#"{"a":1}"#);
    }
}
