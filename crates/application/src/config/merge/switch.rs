//! Merging of two switches with the same name and `id`.

use std::collections::HashSet;

use maqet_domain::config::{Node, Value};
use maqet_domain::qemu::{OptionString, canonical, takes_value};

use super::merge_by;

/// Switches with options, among which is an ID.
const WITH_ID: [&str; 12] = [
    "audiodev", "blockdev", "chardev", "device", "drive", "fsdev", "mon", "netdev", "nic", "object", "tpmdev", "virtfs",
];

/// A switch and its ID; of one without a value, the ID is empty.
pub(in crate::config) type Identity = (String, String);

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
            [(name, value), (key, id)] if key == id_key(canonical(name.trim_start_matches('-'))) => {
                (name, value, Some(id.scalar()?))
            }
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

/// Returns the key of the ID of a switch.
fn id_key(switch: &str) -> &'static str {
    if switch == "blockdev" { "node-name" } else { "id" }
}

fn id_of(node: &Node) -> Option<String> {
    let (_, value) = node.entries().first()?;
    let name = switch_name(node)?;
    let key = id_key(name);
    let written = node.get(key).or_else(|| value.get(key)).and_then(Node::scalar);
    written.or_else(|| id_in_string(name, value.as_text()?))
}

/// Returns the ID in an argument such as `e1000,id=n0`.
pub(super) fn id_in_string(switch: &str, argument: &str) -> Option<String> {
    let options = WITH_ID.contains(&switch).then(|| OptionString::parse(switch, argument))?;
    options.get(id_key(switch)).map(str::to_owned)
}

/// Returns the name and the `id` of a switch that has one, in any of its forms, or the name of one without a value.
fn identity(node: &Node) -> Option<Identity> {
    let name = switch_name(node)?;
    if takes_value(name) == Some(false) {
        return Some((name.to_owned(), String::new()));
    }
    let id = id_of(node).filter(|_| Deletion::of(node).is_none())?;
    Some((name.to_owned(), id))
}

/// Returns which switch with an ID an item deletes, if it does.
pub(in crate::config) fn deleted(node: &Node) -> Option<Identity> {
    let Deletion { name, id } = Deletion::of(node)?;
    Some((name, id?))
}

/// Returns which switch with an ID an item defines, changes or deletes.
pub(super) fn identity_of_any(node: &Node) -> Option<Identity> {
    Some((switch_name(node)?.to_owned(), id_of(node)?))
}

/// Merges the options of two switches.
///
/// `- {netdev: user, id: n0}`, `- {netdev: {user: null, id: n0}}` and `- {netdev: "user,id=n0"}` are the same switch; the
/// result of merging different forms has a map. JSON with lists is not split: it replaces, or is replaced.
fn merge_switch(base: Node, over: Node) -> Node {
    if base == over {
        return over;
    }
    let (Some(base), Some(over_split)) = (split(base), split(over.clone())) else { return over };
    let over = over_split;
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
    let head_key = OptionString::parse(canonical(name.trim_start_matches('-')), "").head_key();
    let mut entries = vec![(name.clone(), options(head_key, below, above))];
    entries.extend(overlaid(beside, beside_over));
    over.map_value(|_| Value::Map(entries))
}

/// Returns a switch whose value is a string of options in the form with a map, others unchanged; `None` for one that has
/// no such form.
fn split(switch: Node) -> Option<Node> {
    let Some(((name, value), beside)) = switch.entries().split_first() else { return Some(switch) };
    let Some(text) = value.as_text().filter(|text| text.contains([',', '='])) else { return Some(switch) };
    let parsed = OptionString::parse(canonical(name.trim_start_matches('-')), text);
    let (head, head_key) = (parsed.head(), parsed.head_key());
    if parsed.iter().next().is_none() || head.contains([',', '=']) {
        return None;
    }
    let part = |content| value.clone().map_value(|_| content);
    let mut options: Vec<MapEntry> = Vec::new();
    if !head.is_empty() {
        options.push((head.to_owned(), part(Value::Null)));
    }
    for option in parsed.iter().filter(|option| option.key != head_key) {
        // An item of a list in JSON, or a first value that has no key.
        if option.key.is_empty() || option.key.split('.').any(|part| part.parse::<usize>().is_ok()) {
            return None;
        }
        let item = part(Value::Text(option.value.clone()));
        match options.iter_mut().find(|(key, known)| *key == option.key && !known.is_null()) {
            None => options.push((option.key.clone(), item)),
            // QEMU gets it as often as it is written.
            Some((_, known)) => {
                let mut items = known.items().to_vec();
                if items.is_empty() {
                    items.push(known.clone());
                }
                items.push(item);
                *known = part(Value::List(items));
            }
        }
    }
    options.extend(beside.iter().cloned());
    let entries = vec![(name.clone(), part(Value::Map(options)))];
    Some(switch.map_value(|_| Value::Map(entries)))
}

fn has_map(switch: &Node) -> bool {
    switch.entries().first().is_some_and(|(_, value)| matches!(value.value, Value::Map(_)))
}

/// Returns a switch in the form with a map.
fn in_a_map(switch: Node) -> Node {
    let Some(((name, value), beside)) = switch.entries().split_first() else { return switch };
    let head = match value.scalar() {
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
/// The first option, if it has no value, as `user` in `{user: null, id: n0}`, is the type: the later one replaces it, also
/// if one of them is written with its key, as in `{driver: e1000, id: n0}`.
fn options(head_key: &str, below: &Node, above: &Node) -> Node {
    if above.is_null() {
        return below.clone();
    }
    if !matches!((&below.value, &above.value), (Value::Map(_), Value::Map(_))) {
        return above.clone();
    }
    let (below_head, below_rest) = head(below.entries(), &[]);
    let (above_head, above_rest) = head(above.entries(), below_rest);
    let mut entries = overlaid(below_rest, above_rest);
    let below_head = below_head.filter(|_| !has_value(above_rest, head_key));
    if above_head.is_some() {
        entries.retain(|(key, _)| key != head_key);
    }
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
    fn test_switch_string_of_options_is_merged_as_a_map() {
        let text = r#"{"device":"e1000,id=a,addr=9"}"#;
        check(text, r#"{"device":"e1000","id":"a","addr":null}"#, r#"{"device":{"e1000":null,"id":"a"}}"#);
        check(text, r#"{"device":null,"id":"a","addr":"4"}"#, r#"{"device":{"e1000":null,"id":"a","addr":"4"}}"#);
        check(
            text,
            r#"{"device":"rtl8139,id=a,mac=x"}"#,
            r#"{"device":{"rtl8139":null,"id":"a","addr":"9","mac":"x"}}"#,
        );
        check(
            r#"{"device":{"e1000":null,"id":"a","mac":"x"}}"#,
            text,
            r#"{"device":{"e1000":null,"id":"a","mac":"x","addr":"9"}}"#,
        );
        check(text, text, text);
        check(
            r#"{"device":"{\"driver\":\"e1000\",\"id\":\"a\",\"addr\":9}"}"#,
            r#"{"device":{"id":"a","addr":null}}"#,
            r#"{"device":{"e1000":null,"id":"a"}}"#,
        );
        check(
            r#"{"netdev":"user,id=n,hostfwd=a,hostfwd=b,restrict"}"#,
            r#"{"netdev":{"id":"n","restrict":null}}"#,
            r#"{"netdev":{"user":null,"id":"n","hostfwd":["a","b"]}}"#,
        );
        check(
            r#"{"drive":"id=d,file=/a,,b"}"#,
            r#"{"drive":{"id":"d","if":"none"}}"#,
            r#"{"drive":{"id":"d","file":"/a,b","if":"none"}}"#,
        );
        check(
            r#"{"device":"e1000,mac=x","id":"d"}"#,
            r#"{"device":"e1000","id":"d","mac":null}"#,
            r#"{"device":{"e1000":null,"id":"d"}}"#,
        );
        // The type has a key.
        let keyed = r#"{"device":{"driver":"e1000","id":"a"}}"#;
        check(keyed, r#"{"device":"rtl8139,id=a"}"#, r#"{"device":{"rtl8139":null,"id":"a"}}"#);
        check(r#"{"device":"rtl8139,id=a"}"#, keyed, r#"{"device":{"id":"a","driver":"e1000"}}"#);
        // There is no map for it.
        let list = r#"{"netdev":"{\"type\":\"user\",\"id\":\"n\",\"hostfwd\":[{\"str\":\"x\"}]}"}"#;
        check(list, r#"{"netdev":"user","id":"n"}"#, r#"{"netdev":"user","id":"n"}"#);
    }

    #[test]
    fn test_switches_of_one_id_in_any_form_are_one() {
        let parse = |text: &str| serde_json::from_str::<Vec<Node>>(text).unwrap();
        let check = |base: &str, over: &str, expected: &str| {
            let merged = merge_switches(parse(base), parse(over));
            assert_eq!(serde_json::to_string(&merged).unwrap(), expected, "{base} and {over}");
        };

        let text = r#"[{"device":"e1000,id=a,addr=9"},"S"]"#;
        check(text, r#"[{"device":"e1000","id":"a","addr":null}]"#, r#"[{"device":{"e1000":null,"id":"a"}},"S"]"#);
        check(text, r#"[{"device":null,"id":"a"}]"#, r#"["S"]"#);
        check(r#"[{"netdev":"user,id=n"}]"#, r#"[{"netdev":"tap,id=n"}]"#, r#"[{"netdev":{"tap":null,"id":"n"}}]"#);
        let nodes = r#"[{"blockdev":"raw,node-name=f,file=g"}]"#;
        check(
            nodes,
            r#"[{"blockdev":{"node-name":"f","file":"h"}}]"#,
            r#"[{"blockdev":{"raw":null,"node-name":"f","file":"h"}}]"#,
        );
        check(nodes, r#"[{"blockdev":null,"node-name":"f"}]"#, "[]");
        check(nodes, r#"[{"append":"a,id=f"}]"#, r#"[{"blockdev":"raw,node-name=f,file=g"},{"append":"a,id=f"}]"#);
        check(r#"[{"append":"a,id=f"}]"#, r#"[{"append":"b,id=f"}]"#, r#"[{"append":"a,id=f"},{"append":"b,id=f"}]"#);
    }
}
