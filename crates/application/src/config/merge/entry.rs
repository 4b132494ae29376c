//! Merging of named entries: drives and network cards.

use std::collections::HashSet;

use maqet_domain::config::{Node, Value};
use maqet_domain::network::{NetworkMode, default_card_name};

use super::raw::merge_forwards;
use super::{append, join, merge_by, merge_nested};
use crate::config::without_name;

/// Merges the values of `storage` or `network`, each a list or a single entry.
///
/// Entries merge by name; `{NAME: null}` deletes the earlier entry. A single entry without a name is the only one of the
/// other layer; a card beside several has its default name. A card that is only a mode keeps the options of the only card
/// that this mode has; `none`, and a mode beside several cards, replaces what was before, and is replaced.
pub(super) fn merge_entries(list: &str, base: Node, over: Node) -> Node {
    let (base, over) = match (mode_of(list, &base), mode_of(list, &over)) {
        (Some(_), None) if is_one(&over) => (mode_as_map(base), over),
        (None, Some(mode)) if is_one(&base) => (with_mode(base, mode), mode_as_map(over)),
        (_, _) => (base, over),
    };
    match (&base.value, &over.value) {
        (Value::Map(_), Value::Map(_)) if is_same_entry(&base, &over) => merge_entry(base, over),
        (Value::Map(_) | Value::List(_), Value::Map(_) | Value::List(_)) => {
            let (name_below, name_above) = (name_beside(list, &over), name_beside(list, &base));
            let (base, over) = (in_a_list(base, name_below), in_a_list(over, name_above));
            join(base, over, |base, over| merge_lists(list, base, over), merge_nested)
        }
        (_, _) => over,
    }
}

/// Returns the mode of a network card that is nothing but that.
fn mode_of(list: &str, node: &Node) -> Option<NetworkMode> {
    let mode = node.as_text().filter(|_| list == "network")?.parse().ok()?;
    Some(mode).filter(|mode| *mode != NetworkMode::None)
}

/// Returns whether this is a single entry, on its own or in a list.
fn is_one(node: &Node) -> bool {
    matches!(node.value, Value::Map(_)) || only_entry(node).is_some()
}

/// Returns the entry of a list that has no other one.
fn only_entry(list: &Node) -> Option<&Node> {
    let mut entries = list.items().iter().filter(|item| item.deletion().is_none());
    entries.next().filter(|_| entries.next().is_none())
}

fn mode_as_map(mode: Node) -> Node {
    let entry = ("mode".to_owned(), mode.clone());
    mode.map_value(|_| Value::Map(vec![entry]))
}

/// Returns a single card without the options that other modes have.
fn with_mode(card: Node, mode: NetworkMode) -> Node {
    let kept = |entries: Vec<(String, Node)>| entries.into_iter().filter(|(key, _)| mode.has_key(key)).collect();
    card.map_items(|items| {
        let keep = |item: Node| if item.deletion().is_some() { item } else { item.map_entries(kept) };
        items.into_iter().map(keep).collect()
    })
    .map_entries(kept)
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

/// Returns the name that a single entry has if it is written without one beside `other`.
fn name_beside(list: &str, other: &Node) -> Option<String> {
    let default = (list == "network").then(|| default_card_name(0));
    let deletes = |name: &str| other.items().iter().any(|item| item.deletion() == Some(name));
    let is_deleted = default.as_deref().is_some_and(deletes);
    only_entry(other).and_then(name_of).filter(|_| !is_deleted).or(default)
}

/// Returns a single entry as a list of it, with a name; a list is unchanged.
fn in_a_list(node: Node, name: Option<String>) -> Node {
    if !matches!(node.value, Value::Map(_)) {
        return node;
    }
    // One of `storage` whose keys are drives is reported by the check.
    let is_entry = node.entries().iter().all(|(key, value)| {
        ["options", "iops", "bps"].contains(&key.as_str()) || !matches!(value.value, Value::Map(_))
    });
    let item = Node { key_location: None, ..node.clone() };
    let item = match name.filter(|_| is_entry) {
        Some(name) => with_name(item, name),
        None => item,
    };
    node.map_value(|_| Value::List(vec![item]))
}

/// Returns an entry with a name, unless it has one.
fn with_name(entry: Node, name: String) -> Node {
    let mut entries = match &entry.value {
        Value::Text(_) => vec![("mode".to_owned(), entry.clone())],
        Value::Map(entries) if name_of(&entry).is_none() => entries.clone(),
        Value::Map(_) | Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::List(_) => {
            return entry;
        }
    };
    entries.retain(|(key, _)| key != "name");
    entries.insert(0, ("name".to_owned(), Node::text(name)));
    entry.map_value(|_| Value::Map(entries))
}

/// Merges entries by name; that of the first layer stays, with its location.
fn merge_lists(list: &str, base: Vec<Node>, over: Vec<Node>) -> Vec<Node> {
    let (base, over) = match list {
        "network" if base.iter().any(|card| card.deletion().is_none()) => {
            let over = with_default_names(over);
            (with_names(base, &over), over)
        }
        _ => (base, over),
    };
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
    let with_all = with_default_names(cards.clone());
    let all: HashSet<String> = with_all.iter().filter_map(name_of).collect();
    let written: HashSet<String> = cards.iter().filter_map(name_of).collect();
    let is_needed = over.iter().any(|item| match item.deletion() {
        Some(name) => all.contains(name),
        None => name_of(item).is_some_and(|name| all.contains(&name) && !written.contains(&name)),
    });
    if is_needed { with_all } else { cards }
}

/// Returns cards with the default names of their positions, unless they have one.
fn with_default_names(cards: Vec<Node>) -> Vec<Node> {
    let mut index = 0;
    let named = cards.into_iter().map(|card| {
        if card.deletion().is_some() {
            return card;
        }
        index += 1;
        with_name(card, default_card_name(index - 1))
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::merge::merge_builtin as merge;

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
    }

    #[test]
    fn test_merge_card_without_a_name_is_the_only_one() {
        let (map, lan) = (r#"{"model":"a","mac":"m"}"#, r#"[{"name":"lan","model":"b"}]"#);

        check("network", map, lan, r#"[{"name":"lan","model":"b","mac":"m"}]"#);
        check("network", lan, map, r#"[{"name":"lan","model":"a","mac":"m"}]"#);
        check("network", &lan[1..lan.len() - 1], map, r#"{"name":"lan","model":"a","mac":"m"}"#);
        check("network", lan, r#""passt""#, r#"[{"name":"lan","model":"b","mode":"passt"}]"#);
        check("network", r#""passt""#, lan, r#"[{"name":"lan","mode":"passt","model":"b"}]"#);
        // Beside several it has its default name, as where the default one is deleted.
        let two = r#"[{"name":"lan"},{"name":"wan"}]"#;
        check("network", two, r#"{"model":"a"}"#, r#"[{"name":"lan"},{"name":"wan"},{"name":"net0","model":"a"}]"#);
        check("network", map, two, r#"[{"name":"net0","model":"a","mac":"m"},{"name":"lan"},{"name":"wan"}]"#);
        check("network", map, r#"[{"net0":null},{"name":"lan"}]"#, r#"[{"name":"lan"}]"#);
        check(
            "network",
            r#"[{"x":null},{"name":"lan"}]"#,
            r#"{"model":"a"}"#,
            r#"[{"x":null},{"name":"lan","model":"a"}]"#,
        );
    }

    #[test]
    fn test_merge_drive_without_a_name_is_the_only_one() {
        let (serial, a) = (r#"{"serial":"y","options":{"x":1}}"#, r#"[{"name":"a","size":"1G"}]"#);

        check("storage", a, serial, r#"[{"name":"a","size":"1G","serial":"y","options":{"x":1}}]"#);
        check("storage", serial, a, r#"[{"name":"a","serial":"y","options":{"x":1},"size":"1G"}]"#);
        check("storage", serial, r#"{"size":"1G"}"#, r#"{"serial":"y","options":{"x":1},"size":"1G"}"#);
        let limits = r#"{"iops":{"read":5},"bps":{"read":6}}"#;
        check("storage", a, limits, r#"[{"name":"a","size":"1G","iops":{"read":5},"bps":{"read":6}}]"#);
        let over = r#"[{"name":"a","iops":7,"bps":{"write":8}}]"#;
        let merged = r#"[{"name":"a","iops":7,"bps":{"read":6,"write":8}}]"#;
        check("storage", r#"[{"name":"a","iops":{"read":5},"bps":{"read":6}}]"#, over, merged);
        // The check reports these: it belongs to none of them.
        let two = r#"[{"name":"a"},{"name":"b"}]"#;
        check("storage", two, r#"{"serial":"y"}"#, r#"[{"name":"a"},{"name":"b"},{"serial":"y"}]"#);
    }

    #[test]
    fn test_merge_mode_alone_keeps_the_options_that_it_has() {
        let bridge = r#"{"mode":"bridge","bridge":"br0","mac":"m"}"#;

        check("network", r#"{"forward":["1:2"]}"#, r#""passt""#, r#"{"forward":["1:2"],"mode":"passt"}"#);
        check("network", r#""passt""#, r#"{"forward":["1:2"]}"#, r#"{"mode":"passt","forward":["1:2"]}"#);
        check("network", bridge, r#""user""#, r#"{"mode":"user","mac":"m"}"#);
        check("network", &format!("[{bridge}]"), r#""user""#, r#"[{"name":"net0","mode":"user","mac":"m"}]"#);
        check("network", r#""user""#, bridge, bridge);
        check("network", r#""user""#, r#""passt""#, r#""passt""#);
        let two = r#"["user",{"model":"a"}]"#;
        check("network", two, r#""passt""#, r#""passt""#);
        check("network", r#""passt""#, two, two);
    }

    /// That they are the same is an error of their file, with or without another one.
    #[test]
    fn test_merge_entries_with_one_name_in_a_layer_are_both_kept() {
        let twice = r#"[{"name":"a","size":"2G"},{"name":"a","file":"f"}]"#;

        for (base, expected) in [
            (r#"[{"name":"a","serial":"s"}]"#, r#"[{"name":"a","serial":"s","size":"2G"},{"name":"a","file":"f"}]"#),
            (r#"[{"name":"b"}]"#, r#"[{"name":"b"},{"name":"a","size":"2G"},{"name":"a","file":"f"}]"#),
        ] {
            check("storage", base, twice, expected);
        }
        check("storage", twice, r#"[{"name":"b"}]"#, &format!(r#"{},{{"name":"b"}}]"#, &twice[..twice.len() - 1]));
        let cards = r#"[{"name":"a"},{"name":"a","model":"m"}]"#;
        check("network", r#"[{"name":"a","mac":"x"}]"#, cards, r#"[{"name":"a","mac":"x"},{"name":"a","model":"m"}]"#);
    }

    #[test]
    fn test_merge_card_without_a_name_has_its_default_name() {
        let over = r#"[{"name":"net1","mac":"m"}]"#;
        let merged = r#"[{"name":"net0","mode":"user"},{"name":"net1","model":"a","mac":"m"}]"#;

        check("network", r#"["user",{"model":"a"}]"#, over, merged);
        check("network", r#"["user"]"#, r#"{"model":"a"}"#, r#"[{"name":"net0","mode":"user","model":"a"}]"#);
        check("network", r#"["user"]"#, r#"[{"model":"a"}]"#, r#"[{"name":"net0","mode":"user","model":"a"}]"#);
        check("network", r#"[{"lan":null},"user",{"model":"a"}]"#, over, &merged.replacen('[', r#"[{"lan":null},"#, 1));
    }

    #[test]
    fn test_merge_cards_without_names_are_those_of_their_positions() {
        let (map, list) = (r#"{"forward":["0:2"]}"#, r#"[{"model":"e1000"},{"name":"lan"}]"#);
        let both = r#"[{"name":"net0","forward":["0:2"],"model":"e1000"},{"name":"lan"}]"#;
        check("network", map, list, both);
        check("network", list, map, r#"[{"name":"net0","model":"e1000","forward":["0:2"]},{"name":"lan"}]"#);
        check("network", &format!("[{map}]"), list, both);
        // The first of two, and the second.
        let two = r#"[{"model":"e1000"},{"model":"rtl8139"}]"#;
        let first = r#"[{"name":"net0","model":"e1000","mac":"m"},{"name":"net1","model":"rtl8139"}]"#;
        check("network", two, r#"[{"mac":"m"}]"#, first);
        let second = r#"[{"name":"net0","model":"e1000","mode":"user"},{"name":"net1","model":"rtl8139","mac":"m"}]"#;
        check("network", two, r#"["user",{"mac":"m"}]"#, second);
        // It stays the first of its file.
        check(
            "network",
            r#"[{"name":"lan"}]"#,
            r#"[{"model":"a"}]"#,
            r#"[{"name":"lan"},{"name":"net0","model":"a"}]"#,
        );
        let moved = r#"[{"name":"net1","model":"rtl8139"},{"name":"net0","mac":"m"}]"#;
        check("network", two, r#"[{"net0":null},{"mac":"m"}]"#, moved);
        check("network", "[]", two, two);
    }

    #[test]
    fn test_merge_no_card_replaces_and_is_replaced() {
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
