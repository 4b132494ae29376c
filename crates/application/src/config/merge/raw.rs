//! Merging of lists of texts: `args`, forwarded ports and USB devices.

use std::collections::HashSet;
use std::hash::Hash;
use std::str::FromStr;

use maqet_domain::config::Node;
use maqet_domain::machine::{RawSwitch, UsbDevice, raw_switches};
use maqet_domain::network::Forward;
use maqet_domain::qemu::canonical;

use super::merge_by;

/// Appends raw arguments. `- {-foo: null}` deletes the earlier `-foo` with its value, `- {disk.img: null}` the text.
pub(super) fn merge_raw(base: Vec<Node>, over: Vec<Node>) -> Vec<Node> {
    merge_texts(base, over, |base, deletion| {
        let Some(switch) = switch_of(deletion) else { return without(base, |item| item.as_text() == Some(deletion)) };
        without_raw(base, |raw| raw.name == switch)
    })
}

/// Adds forwarded ports that are not there, however they are written. `- {"2222:22": null}` deletes the earlier one.
pub(super) fn merge_forwards(base: Vec<Node>, over: Vec<Node>) -> Vec<Node> {
    merge_values::<Forward>(base, over)
}

/// Adds USB devices that are not there, however they are written. `- {tablet: null}` deletes the earlier one.
pub(super) fn merge_usb_devices(base: Vec<Node>, over: Vec<Node>) -> Vec<Node> {
    merge_values::<UsbDevice>(base, over)
}

fn merge_values<T: FromStr + Hash + Eq>(base: Vec<Node>, over: Vec<Node>) -> Vec<Node> {
    let parse = |text: String| text.parse::<T>().ok();
    merge_by_key(base, over, |item| item.written().and_then(parse), parse, |below, _| below)
}

/// Joins items that have the same key, and appends the others, after each deletion removed the items with its text or its
/// key.
pub(super) fn merge_by_key<K: Hash + Eq>(
    base: Vec<Node>,
    over: Vec<Node>,
    key_of: impl Fn(&Node) -> Option<K>,
    key_of_text: impl Fn(String) -> Option<K>,
    join: impl Fn(Node, Node) -> Node,
) -> Vec<Node> {
    let is_deletion = |item: &Node| item.deletion().is_some();
    let (deletions, over): (Vec<Node>, Vec<Node>) = over.into_iter().partition(is_deletion);
    let base = merge_texts(base, deletions, |base, deletion| {
        let key = key_of_text(deletion.to_owned());
        let has_key = |item: &Node| key.is_some() && key_of(item) == key;
        without(base, |item| has_key(item) || item.written().is_some_and(|text| text == deletion))
    });
    merge_by(base, over, key_of, join)
}

/// Appends items after `delete` removed those that the deletions name; deletions without effect are kept.
fn merge_texts(base: Vec<Node>, over: Vec<Node>, delete: impl Fn(Vec<Node>, &str) -> Vec<Node>) -> Vec<Node> {
    let mut items = base;
    let mut known: HashSet<String> = items.iter().filter_map(Node::deletion).map(str::to_owned).collect();
    let mut kept = Vec::with_capacity(over.len());
    for item in over {
        let Some(deletion) = item.deletion().map(str::to_owned) else {
            kept.push(item);
            continue;
        };
        let count = items.len();
        items = delete(items, &deletion);
        if items.len() == count && known.insert(deletion) {
            kept.push(item);
        }
    }
    items.extend(kept);
    items
}

fn without(mut items: Vec<Node>, is_removed: impl Fn(&Node) -> bool) -> Vec<Node> {
    items.retain(|item| !is_removed(item));
    items
}

/// Removes raw switches with their arguments.
pub(super) fn without_raw(items: Vec<Node>, is_removed: impl Fn(&RawSwitch<'_>) -> bool) -> Vec<Node> {
    let removed = raw_switches(&items).into_iter().filter(is_removed);
    let removed: HashSet<usize> =
        removed.flat_map(|switch| std::iter::once(switch.index).chain(switch.value_index)).collect();
    let kept = items.into_iter().enumerate().filter(|(index, _)| !removed.contains(index));
    kept.map(|(_, item)| item).collect()
}

fn switch_of(text: &str) -> Option<&str> {
    text.strip_prefix("--").or_else(|| text.strip_prefix('-')).map(canonical)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(json: &str) -> Vec<Node> {
        serde_json::from_str(json).unwrap()
    }

    fn text(items: &[Node]) -> String {
        serde_json::to_string(items).unwrap()
    }

    #[test]
    fn test_merge_raw_null_deletes_a_switch_with_its_value() {
        let base = r#"["-m","64","-no-reboot","disk.img","-foo","a","--foo","-S"]"#;
        let check = |over: &str, expected: &str| assert_eq!(text(&merge_raw(items(base), items(over))), expected);

        check(r#"[{"-m":null}]"#, r#"["-no-reboot","disk.img","-foo","a","--foo","-S"]"#);
        check(r#"[{"--no-reboot":null},"-x"]"#, r#"["-m","64","disk.img","-foo","a","--foo","-S","-x"]"#);
        check(r#"[{"-foo":null},{"disk.img":null}]"#, r#"["-m","64","-no-reboot","-S"]"#);
        let guest = r#"["-append","-S","-S"]"#;
        assert_eq!(text(&merge_raw(items(guest), items(r#"[{"-S":null}]"#))), r#"["-append","-S"]"#);
        assert_eq!(text(&merge_raw(items(guest), items(r#"[{"-append":null}]"#))), r#"["-S"]"#);
        let kept = r#"[{"-bar":null}]"#;
        check(kept, &format!("{},{}", base.trim_end_matches(']'), &kept[1..]));
        assert_eq!(text(&merge_raw(items(kept), items(kept))), kept);
    }

    #[test]
    fn test_merge_forwards_null_deletes_one_in_any_spelling() {
        let base = r#"["2222:22","udp:5353:53"]"#;
        let check = |over: &str, expected: &str| assert_eq!(text(&merge_forwards(items(base), items(over))), expected);

        check(r#"[{"2222:22":null},"3333:22"]"#, r#"["udp:5353:53","3333:22"]"#);
        check(r#"[{"tcp:127.0.0.1:2222:22":null}]"#, r#"["udp:5353:53"]"#);
        check(r#"[{"5353:53":null}]"#, r#"["2222:22","udp:5353:53",{"5353:53":null}]"#);
    }

    #[test]
    fn test_merge_usb_null_deletes_one_in_any_spelling() {
        let base = r#"["tablet","1-2","046d:c52b"]"#;
        let check =
            |over: &str, expected: &str| assert_eq!(text(&merge_usb_devices(items(base), items(over))), expected);

        check(r#"[{"tablet":null},"mouse"]"#, r#"["1-2","046d:c52b","mouse"]"#);
        check(r#"[{"1.2":null},{"046D:C52B":null}]"#, r#"["tablet"]"#);
        check(r#"[{"mouse":null}]"#, r#"["tablet","1-2","046d:c52b",{"mouse":null}]"#);
    }
}
