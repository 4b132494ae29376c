//! Merging of two switches with the same name and `id`.

use maqet_domain::config::{Node, Value};

/// A key and its value.
type MapEntry = (String, Node);

/// Returns the name and the `id` of a switch that has one, in either of its forms.
pub(super) fn identity(node: &Node) -> Option<(String, String)> {
    let (name, value) = node.entries().first()?;
    let id = node.get("id").or_else(|| value.get("id"))?.scalar()?;
    Some((name.trim_start_matches('-').to_owned(), id))
}

/// Merges the options of two switches; a null is an option without a value and deletes nothing.
///
/// `- {netdev: user, id: n0}` and `- {netdev: {user: null, id: n0}}` are the same switch; the result of merging both
/// forms has a map. A string such as `e1000,id=n0` is not split: it replaces, or is replaced.
pub(super) fn merge_switch(base: Node, over: Node) -> Node {
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
    let Some(text) = value.scalar().filter(|text| !text.contains([',', '='])) else { return switch };
    let head = (text, value.clone().map_value(|_| Value::Null));
    let options = std::iter::once(head).chain(beside.iter().cloned()).collect();
    let entries = vec![(name.clone(), value.clone().map_value(|_| Value::Map(options)))];
    switch.map_value(|_| Value::Map(entries))
}

/// Merges the values of two switches.
///
/// The first option, if it has no value, as `user` in `{user: null, id: n0}`, is the type: the later one replaces it.
fn options(below: &Node, above: &Node) -> Node {
    if !matches!((&below.value, &above.value), (Value::Map(_), Value::Map(_))) {
        return above.clone();
    }
    let (below_head, below_rest) = head(below.entries());
    let (above_head, above_rest) = head(above.entries());
    let mut entries = overlaid(below_rest, above_rest);
    if let Some(head) = above_head.or(below_head) {
        entries.retain(|(key, _)| *key != head.0);
        entries.insert(0, head.clone());
    }
    above.clone().map_value(|_| Value::Map(entries))
}

fn head(entries: &[MapEntry]) -> (Option<&MapEntry>, &[MapEntry]) {
    match entries.split_first() {
        Some((first, rest)) if first.1.is_null() => (Some(first), rest),
        Some(_) | None => (None, entries),
    }
}

/// Merges two lists of entries; the later value of a key wins.
fn overlaid(base: &[MapEntry], over: &[MapEntry]) -> Vec<MapEntry> {
    let mut entries = base.to_vec();
    for (key, node) in over {
        match entries.iter_mut().find(|(known, _)| known == key) {
            Some((_, slot)) => *slot = node.clone(),
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
    fn test_switch_string_of_options_is_not_merged() {
        let (text, map) = (r#"{"device":"e1000,mac=x","id":"d"}"#, r#"{"device":{"e1000":null,"id":"d"}}"#);

        check(text, map, map);
        check(map, text, text);
    }
}
