//! Merging of named entries: drives and network cards.

use std::collections::HashSet;

use maqet_domain::config::{Node, Value};
use maqet_domain::network::default_card_name;

use super::raw::merge_forwards;
use super::{append, join, merge_by, merge_nested};
use crate::config::without_name;

/// Merges the values of `storage` or `network`, each a list or a single entry.
///
/// Entries merge by name, and a card without one has its default name; `{NAME: null}` deletes the earlier entry. A single
/// card that is a mode replaces what was before, and is replaced.
pub(super) fn merge_entries(list: &str, base: Node, over: Node) -> Node {
    match (&base.value, &over.value) {
        (Value::Map(_), Value::Map(_)) if is_same_entry(&base, &over) => merge_entry(base, over),
        (Value::Map(_) | Value::List(_), Value::Map(_) | Value::List(_)) => {
            let [base, over] = [base, over].map(|node| in_a_list(list, node));
            join(base, over, |base, over| merge_lists(list, base, over), merge_nested)
        }
        (_, _) => over,
    }
}

/// Returns whether two single entries are the same one, which has no name or the same in both.
fn is_same_entry(base: &Node, over: &Node) -> bool {
    match (name_of(base), name_of(over)) {
        (Some(base), Some(over)) => base == over,
        (_, _) => true,
    }
}

fn merge_entry(base: Node, over: Node) -> Node {
    join(base, over, append, |key, base, over| match key {
        "forward" => join(base, over, merge_forwards, merge_nested),
        _ => merge_nested(key, base, over),
    })
}

fn name_of(entry: &Node) -> Option<String> {
    entry.get("name").and_then(Node::written)
}

/// Returns a single entry as a list of it, with its default name; a list is unchanged.
fn in_a_list(list: &str, node: Node) -> Node {
    if !matches!(node.value, Value::Map(_)) {
        return node;
    }
    let item = Node { key_location: None, ..node.clone() };
    let item = if list == "network" { with_name(item, 0) } else { item };
    node.map_value(|_| Value::List(vec![item]))
}

/// Returns a card with its name, which is the default of its position if it has none.
fn with_name(card: Node, index: usize) -> Node {
    let mut entries = match &card.value {
        Value::Text(_) => vec![("mode".to_owned(), card.clone())],
        Value::Map(entries) if name_of(&card).is_none() => entries.clone(),
        Value::Map(_) | Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::List(_) => return card,
    };
    entries.retain(|(key, _)| key != "name");
    entries.insert(0, ("name".to_owned(), Node::text(default_card_name(index))));
    card.map_value(|_| Value::Map(entries))
}

/// Merges entries by name; that of the first layer stays, with its location.
fn merge_lists(list: &str, base: Vec<Node>, over: Vec<Node>) -> Vec<Node> {
    let base = if list == "network" { with_names(base, &over) } else { base };
    let known: HashSet<String> = base.iter().filter_map(name_of).collect();
    let kept: HashSet<String> = base.iter().filter_map(Node::deletion).map(str::to_owned).collect();

    let mut deleted = HashSet::new();
    let mut above = Vec::with_capacity(over.len());
    for item in over {
        match item.deletion() {
            Some(name) if known.contains(name) => drop(deleted.insert(name.to_owned())),
            // It may delete one of a lower layer.
            Some(name) if kept.contains(name) => {}
            Some(_) | None => above.push(item),
        }
    }
    let left = base.into_iter().filter(|entry| name_of(entry).is_none_or(|name| !deleted.contains(&name)));
    merge_by(left.collect(), above, name_of, |below, entry| merge_entry(below, without_name(entry)))
}

/// Returns cards with their default names if the later layer needs them: if it changes or deletes any by name.
fn with_names(cards: Vec<Node>, over: &[Node]) -> Vec<Node> {
    let default_names: Vec<Option<String>> = cards
        .iter()
        .scan(0, |index, card| {
            let name = default_card_name(*index);
            *index += usize::from(card.deletion().is_none());
            Some((name_of(card).is_none() && card.deletion().is_none()).then_some(name))
        })
        .collect();
    let is_known = |name: &str| cards.iter().any(|card| name_of(card).as_deref() == Some(name));
    let is_default = |name: &str| default_names.iter().flatten().any(|default| default == name);
    let is_needed = over.iter().any(|item| match item.deletion() {
        Some(name) => is_known(name) || is_default(name),
        None => name_of(item).is_some_and(|name| is_default(&name)),
    });
    if !is_needed {
        return cards;
    }
    let mut index = 0;
    let named = cards.into_iter().map(|card| {
        if card.deletion().is_some() {
            return card;
        }
        index += 1;
        with_name(card, index - 1)
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::merge;

    #[track_caller]
    fn check(key: &str, base: &str, over: &str, expected: &str) {
        let parse = |value: &str| serde_json::from_str::<Node>(&format!(r#"{{"{key}":{value}}}"#)).unwrap();

        let merged = merge(parse(base), parse(over));

        assert_eq!(serde_json::to_string(merged.get(key).unwrap()).unwrap(), expected, "{base} and {over}");
    }

    #[test]
    fn test_merge_card_as_a_map_or_in_a_list_is_the_same_card() {
        let map =
            [r#"{"forward":["1:2"]}"#, r#"{"name":"net0","forward":["1:2"]}"#, r#"{"forward":["1:2"],"name":"net0"}"#];
        let lists = [r#"[{"name":"net0","model":"e1000"}]"#];
        let both = r#"[{"name":"net0","forward":["1:2"],"model":"e1000"}]"#;

        check("network", map[0], lists[0], both);
        check("network", map[1], lists[0], both);
        check("network", map[2], lists[0], r#"[{"forward":["1:2"],"name":"net0","model":"e1000"}]"#);
        for map in map {
            check("network", lists[0], map, r#"[{"name":"net0","model":"e1000","forward":["1:2"]}]"#);
        }
        check("network", map[0], r#"{"model":"e1000"}"#, r#"{"forward":["1:2"],"model":"e1000"}"#);
        check("network", r#"{"model":"e1000"}"#, map[0], r#"{"model":"e1000","forward":["1:2"]}"#);
        check("network", lists[0], r#"[{"name":"net0","mac":"a"}]"#, r#"[{"name":"net0","model":"e1000","mac":"a"}]"#);
    }

    #[test]
    fn test_merge_cards_with_different_names_are_both_kept() {
        let (net0, lan) = (r#"{"name":"net0","model":"a"}"#, r#"{"name":"lan","model":"b"}"#);
        let both = format!("[{net0},{lan}]");

        for (base, over) in [(net0.to_owned(), format!("[{lan}]")), (format!("[{net0}]"), lan.to_owned())] {
            check("network", &base, &over, &both);
        }
        check("network", net0, lan, &both);
        check("network", r#"{"model":"a"}"#, &format!("[{lan}]"), &both);
        check("network", &format!("[{lan}]"), r#"{"model":"a"}"#, &format!("[{lan},{net0}]"));
    }

    #[test]
    fn test_merge_card_without_a_name_has_its_default_name() {
        let over = r#"[{"name":"net1","mac":"m"}]"#;
        let merged = r#"[{"name":"net0","mode":"user"},{"name":"net1","model":"a","mac":"m"}]"#;

        check("network", r#"["user",{"model":"a"}]"#, over, merged);
        check("network", r#"["user"]"#, r#"{"model":"a"}"#, r#"[{"name":"net0","mode":"user","model":"a"}]"#);
        check("network", r#"["user"]"#, r#"[{"model":"a"}]"#, r#"["user",{"model":"a"}]"#);
        check("network", r#"[{"lan":null},"user",{"model":"a"}]"#, over, &merged.replacen('[', r#"[{"lan":null},"#, 1));
    }

    #[test]
    fn test_merge_mode_alone_replaces_and_is_replaced() {
        for other in [r#"{"model":"a"}"#, r#"[{"name":"net0"}]"#, r#""user""#] {
            check("network", r#""none""#, other, other);
            check("network", other, r#""none""#, r#""none""#);
        }
    }

    #[test]
    fn test_merge_drive_as_a_map_or_in_a_list_is_the_same_drive() {
        let (size, file) = (r#"{"name":"a","size":"1G"}"#, r#"{"name":"a","file":"f"}"#);
        let both = r#"[{"name":"a","size":"1G","file":"f"}]"#;

        check("storage", &format!("[{size}]"), &format!("[{file}]"), both);
        check("storage", size, &format!("[{file}]"), both);
        check("storage", &format!("[{size}]"), file, both);
        check("storage", size, file, &both[1..both.len() - 1]);
        let other = r#"{"name":"b"}"#;
        for (base, over) in [(size.to_owned(), format!("[{other}]")), (format!("[{size}]"), other.to_owned())] {
            check("storage", &base, &over, &format!("[{size},{other}]"));
        }
        check("storage", size, other, &format!("[{size},{other}]"));
        // The check reports it.
        check(
            "storage",
            r#"{"hdd":{"size":"1G"}}"#,
            &format!("[{other}]"),
            &format!(r#"[{{"hdd":{{"size":"1G"}}}},{other}]"#),
        );
    }

    #[test]
    fn test_merge_null_deletes_an_entry_by_name() {
        let drives = r#"[{"name":"a"},{"name":7},{"name":"c"}]"#;

        check("storage", drives, r#"[{"a":null},{"7":null}]"#, r#"[{"name":"c"}]"#);
        check(
            "storage",
            drives,
            r#"[{"c":null},{"name":"c","size":"1G"}]"#,
            r#"[{"name":"a"},{"name":7},{"name":"c","size":"1G"}]"#,
        );
        check("storage", r#"{"name":"a"}"#, r#"[{"a":null}]"#, "[]");
        // It may delete one of the defaults.
        let kept = r#"[{"b":null}]"#;
        check("storage", r#"[{"name":"a"}]"#, kept, r#"[{"name":"a"},{"b":null}]"#);
        check("storage", kept, kept, kept);
        check("network", r#"["user",{"model":"a"}]"#, r#"[{"net0":null}]"#, r#"[{"name":"net1","model":"a"}]"#);
        check("network", r#"{"model":"a"}"#, r#"[{"net0":null},{"name":"lan"}]"#, r#"[{"name":"lan"}]"#);
    }

    #[test]
    fn test_merge_null_deletes_an_option_of_an_entry() {
        let entry = r#"[{"name":"a","size":"1G","options":{"x":1,"y":2}}]"#;
        let over = r#"[{"name":"a","size":null,"options":{"x":null}}]"#;

        check("storage", entry, over, r#"[{"name":"a","options":{"y":2}}]"#);
        check(
            "network",
            r#"{"mac":"m","model":"a"}"#,
            r#"[{"name":"net0","mac":null}]"#,
            r#"[{"name":"net0","model":"a"}]"#,
        );
        let forward = r#"{"forward":["1:2","3:4"]}"#;
        check("network", forward, r#"{"forward":[{"1:2":null}]}"#, r#"{"forward":["3:4"]}"#);
        check("network", forward, r#"{"forward":null}"#, "{}");
    }
}
