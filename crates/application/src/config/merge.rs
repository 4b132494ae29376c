//! Merging of layers.

mod entry;
mod lifted;
mod precedence;
mod raw;
mod seed;
mod switch;

use std::collections::HashMap;
use std::hash::Hash;

use maqet_domain::config::{Node, Value};
use maqet_domain::machine::ConfigHandler;
use maqet_domain::registry::Registry;

use self::entry::merge_entries;
use self::lifted::with_common_lifted;
use self::precedence::without_overridden;
use self::raw::{merge_raw, merge_usb_devices};
use self::seed::merge_seed;
pub(super) use self::switch::deleted;
use self::switch::merge_switches;

/// Lists of named entries: an entry of a later layer is merged into the one with the same `name`.
pub(super) const NAMED_LISTS: [&str; 2] = ["storage", "network"];

/// Merges `over` into `base`.
///
/// Maps merge key by key; lists of named entries merge by `name`, lists of other things by what they are, and lists
/// without such a key append; any other value replaces the earlier one, unless its key declares that it stands for a map;
/// `null` deletes it, and an item `{NAME: null}` deletes one of a list. A key keeps its first position, because order
/// matters. A key of `over` removes the switches of `base` that would override it.
pub fn merge(base: Node, over: Node, handlers: &Registry<dyn ConfigHandler>) -> Node {
    let base = without_overridden(base, &over);
    if over.is_null() && matches!(base.value, Value::Map(_)) {
        return base;
    }
    let (base, over) = with_common_lifted(base, over);
    join(base, over, append, |key, base, over| merge_key(key, base, over, handlers))
}

/// Merges the values of a top-level key.
fn merge_key(key: &str, base: Node, over: Node, handlers: &Registry<dyn ConfigHandler>) -> Node {
    match key {
        // Commands are not merged.
        "hooks" => join(base, over, append, |_, _, above| above),
        "arguments" => join(base, over, merge_switches, merge_nested),
        "args" => join(base, over, merge_raw, merge_nested),
        "usb" => join(base, over, merge_usb_devices, merge_nested),
        "seed" => merge_seed(base, over),
        // The nodes divide one machine.
        "numa" => over,
        list if NAMED_LISTS.contains(&list) => merge_entries(list, base, over),
        _ => merge_options(base, over, |node| handlers.get(key).and_then(|handler| handler.as_map(node))),
    }
}

/// Merges two values, each a map or, if `as_map` returns one, what stands for it.
fn merge_options(base: Node, over: Node, as_map: impl Fn(&Node) -> Option<Node>) -> Node {
    let is_plain = |node: &Node| matches!(node.value, Value::Null | Value::List(_) | Value::Map(_));
    if is_plain(&base) && is_plain(&over) {
        return merge_nested("", base, over);
    }
    let options = |node: &Node| if is_plain(node) { Some(node.clone()) } else { as_map(node) };
    let (Some(below), Some(above)) = (options(&base), options(&over)) else { return over };
    let merged = merge_nested("", below, above.clone());
    let is_whole = !is_plain(&over) && merged.entries().iter().all(|(key, _)| above.get(key).is_some());
    // It is shown as it was written.
    if is_whole { over } else { merged }
}

fn merge_nested(_: &str, base: Node, over: Node) -> Node {
    join(base, over, append, merge_nested)
}

/// Merges two maps with `maps` for the values of a key in both, and two lists with `lists`; else the later one stays.
fn join(
    base: Node,
    over: Node,
    lists: impl Fn(Vec<Node>, Vec<Node>) -> Vec<Node>,
    maps: impl Fn(&str, Node, Node) -> Node,
) -> Node {
    let value = match (base.value, over.value) {
        (Value::Map(below), Value::Map(above)) => Value::Map(merge_maps(below, above, maps)),
        (Value::List(items), Value::List(more)) => Value::List(lists(items, more)),
        (_, value) => return Node { value, ..over },
    };
    let value_location = over.value_location.or(base.value_location);
    Node { value_location, key_location: over.key_location, ..Node::new(value) }
}

fn append(items: Vec<Node>, more: Vec<Node>) -> Vec<Node> {
    items.into_iter().chain(more).collect()
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
            // It is taken out.
            (Some(_), true) => {}
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

/// Joins each item of `over` with the first of `base` that has the same key; the others are appended.
///
/// Of several items of `over` with one key, the first is joined: that they are the same is an error of their layer.
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
        if let Some(index) = key_of(&node).and_then(|key| indices.remove(&key)) {
            let below = std::mem::replace(&mut base[index], Node::new(Value::Null));
            base[index] = join(below, node);
        } else {
            base.push(node);
        }
    }
    base
}

/// Merges with the built-in keys.
#[cfg(test)]
pub(crate) fn merge_builtin(base: Node, over: Node) -> Node {
    let drivers = maqet_domain::storage::builtin_drivers().unwrap();
    merge(base, over, &maqet_domain::machine::builtin_handlers(&drivers).unwrap())
}

#[cfg(test)]
mod property;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    pub(super) fn check(base: &str, over: &str, expected: &str) {
        let parse = |text| serde_json::from_str::<Node>(text).unwrap();

        let merged = merge_builtin(parse(base), parse(over));

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
        check(&list(r#""enable-kvm""#), &list(r#"{"enable-kvm":null}"#), &list(r#"{"enable-kvm":null}"#));
    }

    #[test]
    fn test_merge_arguments_null_deletes_all_of_them() {
        check(r#"{"arguments":[{"m":1},"S"],"args":["-a"]}"#, r#"{"arguments":null}"#, r#"{"args":["-a"]}"#);
    }

    #[test]
    fn test_merge_named_entry_keeps_its_name_and_location() {
        let base: Node = serde_json::from_str(r#"{"storage":[{"name":7,"size":"1G"}]}"#).unwrap();

        let merged = crate::config::set::set_builtin(base, "storage.7.size=2G").unwrap();

        assert_eq!(serde_json::to_string(&merged).unwrap(), r#"{"storage":[{"name":7,"size":"2G"}]}"#);
        let drive = &merged.get("storage").unwrap().items()[0];
        assert_eq!(drive.get("name").unwrap().value_location, None);
        assert_eq!(
            drive.get("size").unwrap().value_location.as_ref().unwrap().to_string(),
            "option `--set storage.7.size`"
        );
    }

    /// What a scalar stands for is merged with the options of another layer.
    #[test]
    fn test_merge_scalar_is_merged_as_a_map() {
        let check = |key: &str, base: &str, over: &str, expected: &str| {
            let of = |value: &str| format!(r#"{{"{key}":{value}}}"#);
            check(&of(base), &of(over), &of(expected));
        };

        check("machine", r#""q35""#, r#"{"usb":"on"}"#, r#"{"type":"q35","usb":"on"}"#);
        check("machine", r#"{"usb":"on"}"#, r#""q35""#, r#"{"usb":"on","type":"q35"}"#);
        check("machine", r#"{"type":"pc","usb":"on"}"#, r#""q35,smm=off""#, r#"{"type":"q35","usb":"on","smm":"off"}"#);
        check("machine", r#""q35,usb=on""#, r#""pc""#, r#"{"type":"pc","usb":"on"}"#);
        check("machine", r#"{"type":"pc"}"#, r#""q35""#, r#""q35""#);
        check("machine", r#""pc""#, r#"{"type":null,"usb":"on"}"#, r#"{"usb":"on"}"#);
        check("machine", r#""pc,x=a,,b,y""#, r#"{"usb":"on"}"#, r#"{"type":"pc","x":"a,b","y":"on","usb":"on"}"#);
        check("boot", r#""dc""#, r#"{"menu":true}"#, r#"{"order":"dc","menu":true}"#);
        check("boot", r#"{"menu":true}"#, r#""order=c,once=d""#, r#"{"menu":true,"order":"c","once":"d"}"#);
        check("sound", r#""ac97""#, r#"{"backend":"pa"}"#, r#"{"model":"ac97","backend":"pa"}"#);
        check("sound", r#"{"backend":"pa"}"#, r#""ac97""#, r#"{"backend":"pa","model":"ac97"}"#);
        check("cpu", "4", r#"{"threads":2}"#, r#"{"sockets":1,"cores":4,"threads":2}"#);
        check("cpu", r#"{"sockets":2,"threads":2}"#, "4", "4");
        check("cpu", r#""2""#, r#"{"sockets":2,"cores":4}"#, r#"{"sockets":2,"cores":4,"threads":1}"#);
        check("firmware", r#""uefi""#, r#"{"secure_boot":true}"#, r#"{"type":"uefi","secure_boot":true}"#);
        check("firmware", r#"{"secure_boot":true}"#, r#""uefi""#, r#"{"secure_boot":true,"type":"uefi"}"#);
        for (key, options) in [("sound", r#"{"backend":"pa"}"#), ("watchdog", r#"{"action":"pause"}"#)] {
            for on in ["true", r#""on""#] {
                check(key, on, options, options);
                check(key, options, on, options);
            }
        }
    }

    /// A value that stands for no map has no options.
    #[test]
    fn test_merge_other_scalar_replaces_and_is_replaced() {
        for (key, scalar, map) in [
            ("sound", "false", r#"{"backend":"pa"}"#),
            ("watchdog", "false", r#"{"action":"pause"}"#),
            ("firmware", r#""bios""#, r#"{"secure_boot":true}"#),
            ("firmware", r#""/f.bin""#, r#"{"secure_boot":true}"#),
            ("cpu", "true", r#"{"cores":2}"#),
            ("machine", r#""pc,usb=on,usb=off""#, r#"{"usb":"on"}"#),
            ("numa", "2", r#"[{"cpus":"0-1"}]"#),
            ("numa", r#"[{"cpus":"0"},{"cpus":"1"}]"#, r#"[{"cpus":"0-1"}]"#),
            ("plugin", "1", r#"{"a":1}"#),
        ] {
            let of = |value: &str| format!(r#"{{"{key}":{value}}}"#);

            check(&of(scalar), &of(map), &of(map));
            check(&of(map), &of(scalar), &of(scalar));
        }
    }

    #[test]
    fn test_merge_equal_values_of_two_layers_are_one() {
        check(
            r#"{"usb":["tablet","1-2"],"network":{"forward":["2222:22"]}}"#,
            r#"{"usb":["1.2","mouse"],"network":{"forward":["tcp:127.0.0.1:2222:22","3:3"]}}"#,
            r#"{"usb":["tablet","1-2","mouse"],"network":{"forward":["2222:22","3:3"]}}"#,
        );
        // The check reports those of one layer.
        check(r#"{"usb":["tablet"]}"#, r#"{"usb":["mouse","mouse","x"]}"#, r#"{"usb":["tablet","mouse","mouse","x"]}"#);
        check(
            r#"{"arguments":[{"device":"a","id":"d"}]}"#,
            r#"{"arguments":[{"device":"b","id":"d"},{"device":"c","id":"d"}]}"#,
            r#"{"arguments":[{"device":"b","id":"d"},{"device":"c","id":"d"}]}"#,
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
