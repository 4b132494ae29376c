//! Merging of two switches with the same name and `id`.

use std::collections::HashSet;

use maqet_domain::config::{Node, Value};
use maqet_domain::qemu::{canonical, takes_value};

use super::merge_by;

/// A key and its value.
type MapEntry = (String, Node);

/// Merges switches of a later layer into those with the same name and `id`, or of the same name if it takes no value; the
/// others are appended.
///
/// A second switch that can be given only once is kept, to be reported as an error. A [`Deletion`] deletes those of the
/// lower layer; if there are none, it is kept for the layers this one is merged over.
pub(super) fn merge_switches(mut base: Vec<Node>, mut over: Vec<Node>) -> Vec<Node> {
    let deletions: Vec<Deletion> = over.iter().filter_map(Deletion::of).collect();
    let mut applied = HashSet::new();
    if !deletions.is_empty() {
        base.retain(|node| match deletions.iter().find(|deletion| deletion.covers(node)) {
            Some(deletion) => {
                applied.insert(deletion.clone());
                Deletion::of(node).is_some()
            }
            None => true,
        });
        over.retain(|node| Deletion::of(node).is_none_or(|deletion| !applied.contains(&deletion)));
    }
    merge_by(base, over, identity, merge_switch)
}

/// An item that deletes switches of a lower layer: `- {kernel: null}` all of this name, `- {netdev: null, id: n0}` one.
///
/// Switches without a value are not deleted: `- {enable-kvm: null}` is one, and `- {enable-kvm: false}` leaves it out.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Deletion {
    name: String,
    id: Option<String>,
}

impl Deletion {
    fn of(node: &Node) -> Option<Self> {
        let (name, value, id) = match node.entries() {
            [(name, value)] => (name, value, None),
            [(name, value), (key, id)] if key == "id" => (name, value, Some(id.scalar()?)),
            _ => return None,
        };
        let name = canonical(name.trim_start_matches('-'));
        (value.is_null() && takes_value(name) == Some(true)).then(|| Self { name: name.to_owned(), id })
    }

    fn covers(&self, node: &Node) -> bool {
        switch_name(node) == Some(&self.name) && self.id.as_ref().is_none_or(|id| id_of(node).as_ref() == Some(id))
    }
}

/// Returns the name of a switch, without its hyphens.
pub(super) fn switch_name(node: &Node) -> Option<&str> {
    let name = node.as_text().or_else(|| node.entries().first().map(|(name, _)| name.as_str()));
    name.map(|name| canonical(name.trim_start_matches('-')))
}

fn id_of(node: &Node) -> Option<String> {
    let (_, value) = node.entries().first()?;
    node.get("id").or_else(|| value.get("id"))?.scalar()
}

/// Returns the name and the `id` of a switch that has one, in either of its forms, or the name of one without a value.
fn identity(node: &Node) -> Option<(String, String)> {
    let name = switch_name(node)?;
    if takes_value(name) == Some(false) {
        return Some((name.to_owned(), String::new()));
    }
    let id = id_of(node).filter(|_| Deletion::of(node).is_none())?;
    Some((name.to_owned(), id))
}

/// Merges the options of two switches.
///
/// `- {netdev: user, id: n0}` and `- {netdev: {user: null, id: n0}}` are the same switch; the result of merging both
/// forms has a map. A string such as `e1000,id=n0` is not split: it replaces, or is replaced.
fn merge_switch(base: Node, over: Node) -> Node {
    let (base, over) = if has_map(&base) == has_map(&over) { (base, over) } else { (in_a_map(base), in_a_map(over)) };
    if has_map(&base) != has_map(&over) {
        return over;
    }
    // The names of the two may differ in a dash.
    let (Some(((name, below), beside)), Some(((_, above), beside_over))) =
        (base.entries().split_first(), over.entries().split_first())
    else {
        return over;
    };
    let mut entries = vec![(name.clone(), options(below, above))];
    entries.extend(overlaid(beside, beside_over));
    over.map_value(|_| Value::Map(entries))
}

fn has_map(switch: &Node) -> bool {
    switch.entries().first().is_some_and(|(_, value)| matches!(value.value, Value::Map(_)))
}

/// Returns a switch in the form with a map, unless its first value is a string of options.
fn in_a_map(switch: Node) -> Node {
    let Some(((name, value), beside)) = switch.entries().split_first() else { return switch };
    let head = match value.scalar() {
        Some(text) if text.contains([',', '=']) => return switch,
        Some(text) => Some((text, value.clone().map_value(|_| Value::Null))),
        // Options alone.
        None if value.is_null() => None,
        None => return switch,
    };
    let options = head.into_iter().chain(beside.iter().cloned()).collect();
    let entries = vec![(name.clone(), value.clone().map_value(|_| Value::Map(options)))];
    switch.map_value(|_| Value::Map(entries))
}

/// Merges the values of two switches; without a value, the later one only changes options.
///
/// The first option, if it has no value, as `user` in `{user: null, id: n0}`, is the type: the later one replaces it.
fn options(below: &Node, above: &Node) -> Node {
    if above.is_null() {
        return below.clone();
    }
    if !matches!((&below.value, &above.value), (Value::Map(_), Value::Map(_))) {
        return above.clone();
    }
    let (below_head, below_rest) = head(below.entries(), &[]);
    let (above_head, above_rest) = head(above.entries(), below_rest);
    let mut entries = overlaid(below_rest, above_rest);
    if let Some(head) = above_head.or(below_head) {
        entries.retain(|(key, _)| *key != head.0);
        entries.insert(0, head.clone());
    }
    above.clone().map_value(|_| Value::Map(entries))
}

/// Splits off the type; a null that deletes one of the `known` options is none.
fn head<'a>(entries: &'a [MapEntry], known: &[MapEntry]) -> (Option<&'a MapEntry>, &'a [MapEntry]) {
    match entries.split_first() {
        Some((first, rest)) if first.1.is_null() && !has_value(known, &first.0) => (Some(first), rest),
        Some(_) | None => (None, entries),
    }
}

fn has_value(entries: &[MapEntry], key: &str) -> bool {
    entries.iter().any(|(known, node)| known == key && !node.is_null())
}

/// Merges two lists of entries; the later value of a key wins.
///
/// A null deletes an earlier value; if there is none, it is an option without a value.
fn overlaid(base: &[MapEntry], over: &[MapEntry]) -> Vec<MapEntry> {
    let mut entries = base.to_vec();
    for (key, node) in over {
        match entries.iter().position(|(known, _)| known == key) {
            Some(index) if node.is_null() && !entries[index].1.is_null() => drop(entries.remove(index)),
            Some(index) => entries[index].1 = node.clone(),
            None => entries.push((key.clone(), node.clone())),
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(base: &str, over: &str, expected: &str) {
        let parse = |text| serde_json::from_str::<Node>(text).unwrap();

        let merged = merge_switch(parse(base), parse(over));

        assert_eq!(serde_json::to_string(&merged).unwrap(), expected);
    }

    #[test]
    fn test_switch_equivalent_forms_merge() {
        let (word, map) =
            (r#"{"netdev":"user","id":"n0","hostfwd":"x"}"#, r#"{"netdev":{"user":null,"id":"n0","hostfwd":"x"}}"#);
        let both = r#"{"netdev":{"user":null,"id":"n0","hostfwd":"x","restrict":"on"}}"#;

        check(map, r#"{"netdev":{"user":null,"id":"n0","restrict":"on"}}"#, both);
        check(map, r#"{"netdev":"user","id":"n0","restrict":"on"}"#, both);
        check(word, r#"{"netdev":{"user":null,"id":"n0","restrict":"on"}}"#, both);
        check(word, r#"{"netdev":{"id":"n0","restrict":"on"}}"#, both);
        let words = r#"{"netdev":"user","id":"n0","hostfwd":"x","restrict":"on"}"#;
        check(word, r#"{"-netdev":"user","id":"n0","restrict":"on"}"#, words);
        check(
            r#"{"device":{"a":null},"id":"d"}"#,
            r#"{"device":{"a":null},"id":"d","x":1}"#,
            r#"{"device":{"a":null},"id":"d","x":1}"#,
        );
    }

    #[test]
    fn test_switch_later_type_replaces_the_earlier() {
        let tap = r#"{"netdev":{"tap":null,"id":"n0","ifname":"t"}}"#;

        check(r#"{"netdev":{"user":null,"id":"n0"}}"#, tap, tap);
        check(r#"{"netdev":"user","id":"n0"}"#, tap, tap);
        check(r#"{"netdev":"user","id":"n0"}"#, r#"{"netdev":"tap","id":"n0"}"#, r#"{"netdev":"tap","id":"n0"}"#);
    }

    #[test]
    fn test_switch_null_deletes_an_option() {
        let word = r#"{"netdev":"user","id":"n0","hostfwd":"x","restrict":"on"}"#;
        let map = r#"{"netdev":{"user":null,"id":"n0","hostfwd":"x","restrict":"on"}}"#;
        let (word_left, map_left) =
            (r#"{"netdev":"user","id":"n0","restrict":"on"}"#, r#"{"netdev":{"user":null,"id":"n0","restrict":"on"}}"#);

        for over in [
            r#"{"netdev":{"id":"n0","hostfwd":null}}"#,
            r#"{"netdev":{"hostfwd":null,"id":"n0"}}"#,
            r#"{"netdev":{"user":null,"id":"n0","hostfwd":null}}"#,
            r#"{"netdev":"user","id":"n0","hostfwd":null}"#,
            r#"{"netdev":null,"id":"n0","hostfwd":null}"#,
        ] {
            check(map, over, map_left);
        }
        check(word, r#"{"netdev":"user","id":"n0","hostfwd":null}"#, word_left);
        check(word, r#"{"netdev":null,"id":"n0","hostfwd":null}"#, word_left);
        check(word, r#"{"netdev":{"id":"n0","hostfwd":null}}"#, map_left);
        // Without an earlier value it is an option without one.
        let flag = r#"{"drive":{"file":"a","id":"d","readonly":null}}"#;
        check(r#"{"drive":{"file":"a","id":"d"}}"#, flag, flag);
        check(flag, flag, flag);
    }

    #[test]
    fn test_switch_string_of_options_is_not_merged() {
        let (text, map) = (r#"{"device":"e1000,mac=x","id":"d"}"#, r#"{"device":{"e1000":null,"id":"d"}}"#);

        check(text, map, map);
        check(map, text, text);
    }
}
