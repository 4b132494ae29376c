//! Merging of layers.

use maqet_domain::config::{Node, Value};

/// Lists of things that have a `name`: an entry of a later layer changes the one of that name.
const NAMED_LISTS: [&str; 1] = ["storage"];

/// Returns `base` with `over` laid over it.
///
/// Maps merge key by key; lists of named things merge by `name`, other lists append; of anything
/// else the later wins; `null` deletes. A key keeps the place it first had, because order matters.
pub fn merge(base: Node, over: Node) -> Node {
    merge_at("", base, over)
}

fn merge_at(key: &str, base: Node, over: Node) -> Node {
    match (base.value, over.value) {
        (Value::Map(base_entries), Value::Map(entries)) => Node {
            value: Value::Map(merge_maps(base_entries, entries)),
            place: over.place.or(base.place),
            key: over.key,
        },
        (Value::List(items), Value::List(more)) => {
            let items = if NAMED_LISTS.contains(&key) { merge_named(items, more) } else { appended(items, more) };
            Node { value: Value::List(items), place: over.place.or(base.place), key: over.key }
        }
        (Value::Map(entries), Value::Null) if key.is_empty() => {
            Node { value: Value::Map(entries), place: base.place, key: base.key }
        }
        (_, value) => Node { value, place: over.place, key: over.key },
    }
}

fn merge_maps(mut base: Vec<(String, Node)>, over: Vec<(String, Node)>) -> Vec<(String, Node)> {
    for (key, node) in over {
        let position = base.iter().position(|(known, _)| *known == key);
        match (position, node.is_null()) {
            (Some(index), true) => {
                base.remove(index);
            }
            (Some(index), false) => {
                let (_, slot) = &mut base[index];
                let below = std::mem::replace(slot, Node::new(Value::Null));
                *slot = merge_at(&key, below, node);
            }
            (None, _) => base.push((key, node)),
        }
    }
    base
}

fn merge_named(mut base: Vec<Node>, over: Vec<Node>) -> Vec<Node> {
    for node in over {
        let name = node.get("name").and_then(Node::scalar);
        let position = base.iter().position(|known| name.is_some() && known.get("name").and_then(Node::scalar) == name);
        match position {
            Some(index) => {
                let below = std::mem::replace(&mut base[index], Node::new(Value::Null));
                base[index] = merge_at("[]", below, node);
            }
            None => base.push(node),
        }
    }
    base
}

fn appended(mut items: Vec<Node>, more: Vec<Node>) -> Vec<Node> {
    items.extend(more);
    items
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
    fn test_merge_storage_by_name_changes_the_entry() {
        check(
            r#"{"storage":[{"name":"a","size":"1G"},{"name":"b"}]}"#,
            r#"{"storage":[{"name":"b","size":"2G"},{"name":"c"}]}"#,
            r#"{"storage":[{"name":"a","size":"1G"},{"name":"b","size":"2G"},{"name":"c"}]}"#,
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

    fn flat_map() -> impl Strategy<Value = Node> {
        prop::collection::btree_map("[a-e]", 0_i64..9, 0..5).prop_map(|entries| {
            Node::new(Value::Map(entries.into_iter().map(|(key, n)| (key, Node::new(Value::Int(n)))).collect()))
        })
    }

    proptest! {
        #[test]
        fn test_merge_is_associative(a in flat_map(), b in flat_map(), c in flat_map()) {
            let left = merge(merge(a.clone(), b.clone()), c.clone());
            let right = merge(a, merge(b, c));

            prop_assert_eq!(left, right);
        }

        #[test]
        fn test_merge_with_itself_changes_nothing(a in flat_map()) {
            prop_assert_eq!(merge(a.clone(), a.clone()), a);
        }
    }
}
