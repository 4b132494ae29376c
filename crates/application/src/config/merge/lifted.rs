//! Switches with an ID under `args` that another layer has as well.
//!
//! Both would be passed to QEMU, which refuses the second ID. They become items of `arguments`, which merge by ID.

use std::collections::HashSet;

use maqet_domain::config::{Node, Value};
use maqet_domain::machine::{RawSwitch, raw_switches};

use super::raw::without_raw;
use super::switch::{Identity, id_in_string, identity_of_any};

/// Returns two layers in which each switch with an ID of both is an item of `arguments`.
pub(super) fn with_common_lifted(base: Node, over: Node) -> (Node, Node) {
    if base.non_null("args").is_none() && over.non_null("args").is_none() {
        return (base, over);
    }
    // That deletes those of `base`.
    if over.get("arguments").is_some_and(Node::is_null) {
        return (base, over);
    }
    let (of_base, of_over) = (identities(&base), identities(&over));
    let common: HashSet<Identity> = of_base.intersection(&of_over).cloned().collect();
    if common.is_empty() {
        return (base, over);
    }
    (lifted(base, &common), lifted(over, &common))
}

/// Returns the switches with an ID of a layer.
fn identities(layer: &Node) -> HashSet<Identity> {
    let structured = layer.get("arguments").map(Node::items).unwrap_or_default();
    let raw = layer.get("args").map(Node::items).unwrap_or_default();
    let raw = raw_switches(raw);
    structured.iter().filter_map(identity_of_any).chain(raw.iter().filter_map(raw_identity)).collect()
}

fn raw_identity(switch: &RawSwitch<'_>) -> Option<Identity> {
    Some((switch.name.to_owned(), id_in_string(switch.name, switch.value?.as_text()?)?))
}

/// Makes raw switches items of `arguments`.
fn lifted(layer: Node, wanted: &HashSet<Identity>) -> Node {
    let raw = layer.get("args").map(Node::items).unwrap_or_default();
    let is_wanted = |switch: &RawSwitch<'_>| raw_identity(switch).is_some_and(|identity| wanted.contains(&identity));
    let item = |switch: RawSwitch<'_>| {
        let value = switch.value?.clone();
        Some(switch.node.clone().map_value(|_| Value::Map(vec![(switch.name.to_owned(), value)])))
    };
    let mut items: Vec<Node> = raw_switches(raw).into_iter().filter(is_wanted).filter_map(item).collect();
    if items.is_empty() {
        return layer;
    }
    layer.map_entries(|entries| {
        let mut kept = Vec::with_capacity(entries.len() + 1);
        let has_arguments = entries.iter().any(|(key, node)| key == "arguments" && !node.is_null());
        for (key, node) in entries {
            match key.as_str() {
                "arguments" if has_arguments => {
                    let add = |mut all: Vec<Node>| {
                        all.append(&mut items);
                        all
                    };
                    kept.push((key, node.map_items(add)));
                }
                "args" => {
                    if !has_arguments {
                        let list = node.clone().map_value(|_| Value::List(std::mem::take(&mut items)));
                        kept.push(("arguments".to_owned(), list));
                    }
                    let node = node.map_items(|items| without_raw(items, is_wanted));
                    if !node.items().is_empty() {
                        kept.push((key, node));
                    }
                }
                _ => kept.push((key, node)),
            }
        }
        kept
    })
}

#[cfg(test)]
mod tests {
    use crate::config::merge::tests::check;

    #[test]
    fn test_merge_raw_switch_of_one_id_is_merged_with_arguments() {
        let raw = r#"{"args":["-S","-device","e1000,id=a,addr=9"]}"#;
        let merged = r#"{"arguments":[{"device":{"e1000":null,"id":"a"}}],"args":["-S"]}"#;

        check(raw, r#"{"arguments":[{"device":"e1000","id":"a","addr":null}]}"#, merged);
        check(raw, r#"{"arguments":[{"device":null,"id":"a"}]}"#, r#"{"arguments":[],"args":["-S"]}"#);
        check(
            raw,
            r#"{"args":["--device","e1000,id=a"]}"#,
            r#"{"arguments":[{"device":{"e1000":null,"id":"a","addr":"9"}}],"args":["-S"]}"#,
        );
        check(
            r#"{"arguments":["no-reboot",{"netdev":{"user":null,"id":"n"}}]}"#,
            r#"{"args":["-netdev","tap,id=n","-S"]}"#,
            r#"{"arguments":["no-reboot",{"netdev":{"tap":null,"id":"n"}}],"args":["-S"]}"#,
        );
    }

    #[test]
    fn test_merge_raw_switches_of_other_ids_are_appended() {
        for over in
            [r#"["-device","e1000,id=b"]"#, r#"["-netdev","user,id=a"]"#, r#"["-append","-device","e1000,id=a"]"#]
        {
            let merged = format!(r#"{{"args":["-device","e1000,id=a",{}}}"#, &over[1..]);

            check(r#"{"args":["-device","e1000,id=a"]}"#, &format!(r#"{{"args":{over}}}"#), &merged);
        }
        let null = r#"{"arguments":null,"args":["-device","e1000,id=a"]}"#;
        check(r#"{"arguments":[{"device":"e1000","id":"a"}]}"#, null, &null.replace(r#""arguments":null,"#, ""));
    }
}
