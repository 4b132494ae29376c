//! Precedence of keys over switches of a lower layer.
//!
//! Within a layer a switch overrides the key (docs/adr/0023). Across layers the higher one wins: `vga` of a VM overrides
//! the switch in the defaults of `maqet.conf`, and `--memory` the one in the definition.

use maqet_domain::config::{Node, Value};
use maqet_domain::qemu::{OptionString, without_options};

use super::raw::{raw_name, without_raw};
use super::switch::switch_name;

/// The keys, and the switches that override them.
const SWITCHES_OF_KEYS: [(&str, &[&str]); 13] = [
    ("memory", &["m"]),
    ("cpu", &["smp"]),
    ("cpu_model", &["cpu"]),
    ("display", &["display", "nographic"]),
    ("vga", &["vga"]),
    ("machine", &["machine"]),
    ("boot", &["boot"]),
    ("serial", &["serial"]),
    ("accel", &["accel", "enable-kvm"]),
    ("sandbox", &["sandbox"]),
    ("firmware", &["bios", "pflash"]),
    ("numa", &["numa"]),
    ("tpm", &["tpmdev"]),
];

/// The keys, and the switches that override them by an option with this value, or with any.
const SWITCHES_WITH_OPTION: [(&str, &str, &str, Option<&str>); 2] =
    [("firmware", "drive", "if", Some("pflash")), ("tpm", "device", "tpmdev", None)];

/// The keys whose `action` is an option of `-action`.
const ACTIONS: [&str; 2] = ["panic", "watchdog"];

/// Removes the switches of `base` for which `over` has the key and not the switch.
pub(super) fn without_overridden(base: Node, over: &Node) -> Node {
    let has_key = |key: &str| over.non_null(key).is_some();
    let keys = SWITCHES_OF_KEYS.iter().filter(|(key, _)| has_key(key));
    let mut names: Vec<&str> = keys.flat_map(|(_, names)| *names).copied().collect();
    let actions: Vec<&str> =
        ACTIONS.into_iter().filter(|key| over.get(key).and_then(|node| node.non_null("action")).is_some()).collect();
    if actions.contains(&"watchdog") {
        names.push("watchdog-action");
    }
    names.retain(|name| !has_switch(over, name));
    let with_option: Vec<_> = SWITCHES_WITH_OPTION.into_iter().filter(|(key, ..)| has_key(key)).collect();
    if names.is_empty() && with_option.is_empty() && actions.is_empty() {
        return base;
    }
    let is_removed = |name: &str, option: OptionOf<'_>| {
        let is_it = |known: &str, key: &str, wanted: Option<&str>| {
            known == name && option(key).is_some_and(|value| wanted.is_none_or(|wanted| wanted == value))
        };
        names.contains(&name) || with_option.iter().any(|(_, known, key, wanted)| is_it(known, key, *wanted))
    };
    let without_overridden = |(key, node): (String, Node)| {
        let node = match key.as_str() {
            "arguments" => filtered(node, |mut items| {
                items.retain(|item| {
                    !switch_name(item).is_some_and(|name| is_removed(name, &|option| option_of(item, name, option)))
                });
                items.into_iter().filter_map(|item| without_actions(item, &actions)).collect()
            }),
            "args" => filtered(node, |items| {
                let items = without_raw_with(items, &is_removed);
                raw_without_actions(without_raw(items, |name| names.contains(&name)), &actions)
            }),
            _ => Some(node),
        };
        node.map(|node| (key, node))
    };
    base.map_entries(|entries| entries.into_iter().filter_map(without_overridden).collect())
}

/// Returns the value of an option of an item of `arguments`, in any of its forms.
fn option_of(item: &Node, switch: &str, option: &str) -> Option<String> {
    let (_, value) = item.entries().first()?;
    let in_text = || OptionString::parse(switch, value.as_text()?).get(option).map(str::to_owned);
    item.entries()[1..]
        .iter()
        .find(|(key, _)| key == option)
        .and_then(|(_, node)| node.scalar())
        .or_else(|| value.get(option)?.scalar())
        .or_else(in_text)
}

/// Returns the value of an option of a switch.
type OptionOf<'o> = &'o dyn Fn(&str) -> Option<String>;

/// Removes raw switches whose argument has an option that another layer overrides.
fn without_raw_with(items: Vec<Node>, is_removed: &dyn Fn(&str, OptionOf<'_>) -> bool) -> Vec<Node> {
    let mut kept = Vec::with_capacity(items.len());
    let mut items = items.into_iter().peekable();
    while let Some(item) = items.next() {
        let name = raw_name(&item).filter(|name| SWITCHES_WITH_OPTION.iter().any(|(_, known, ..)| known == name));
        let argument = name.and(items.peek()).and_then(Node::scalar);
        if let (Some(name), Some(argument)) = (name, argument) {
            let options = OptionString::parse(name, &argument);
            if is_removed(name, &|option| options.get(option).map(str::to_owned)) {
                items.next();
                continue;
            }
        }
        kept.push(item);
    }
    kept
}

/// Returns an item of `arguments` without some options of `-action`; `None` if nothing is left of it.
fn without_actions(item: Node, actions: &[&str]) -> Option<Node> {
    if actions.is_empty() || switch_name(&item) != Some("action") {
        return Some(item);
    }
    let keep = |key: &str| !actions.contains(&key);
    let mut is_empty = true;
    let item = item.map_entries(|entries| {
        let entries = entries.into_iter().enumerate().filter(|(index, (key, _))| *index == 0 || keep(key));
        let entries: Vec<_> = entries.map(|(_, entry)| entry).collect();
        is_empty = entries.len() == 1;
        let mut entries = entries.into_iter();
        let first = entries.next().map(|(name, node)| {
            let node = node.map_entries(|options| options.into_iter().filter(|(key, _)| keep(key)).collect());
            let node = node.map_value(|value| match value {
                Value::Text(text) => Value::Text(without_options("action", &text, keep)),
                other => other,
            });
            is_empty &= node.entries().is_empty() && node.as_text().is_none_or(str::is_empty);
            (name, node)
        });
        first.into_iter().chain(entries).collect()
    });
    Some(item).filter(|_| !is_empty)
}

/// Returns raw arguments without some options of `-action`.
fn raw_without_actions(items: Vec<Node>, actions: &[&str]) -> Vec<Node> {
    let mut kept: Vec<Node> = Vec::with_capacity(items.len());
    for item in items {
        let is_argument = !actions.is_empty() && kept.last().and_then(raw_name) == Some("action");
        let text = item.as_text().filter(|_| is_argument);
        let Some(rest) = text.map(|text| without_options("action", text, |key| !actions.contains(&key))) else {
            kept.push(item);
            continue;
        };
        if rest.is_empty() {
            kept.pop();
        } else {
            kept.push(item.map_value(|_| Value::Text(rest)));
        }
    }
    kept
}

/// Returns whether a layer has the switch.
fn has_switch(layer: &Node, name: &str) -> bool {
    let items = |key| layer.get(key).map(Node::items).unwrap_or_default().iter();
    items("arguments").any(|item| switch_name(item) == Some(name))
        || items("args").any(|item| raw_name(item) == Some(name))
}

/// Returns the list after `filter`; `None` if it becomes empty.
fn filtered(node: Node, filter: impl FnOnce(Vec<Node>) -> Vec<Node>) -> Option<Node> {
    let before = node.items().len();
    let node = node.map_items(filter);
    Some(node).filter(|node| before == 0 || !node.items().is_empty())
}

#[cfg(test)]
mod tests {
    use crate::config::merge::merge_builtin as merge;

    #[track_caller]
    fn check(base: &str, over: &str, expected: &str) {
        let read = |text: &str| serde_json::from_str(text).unwrap();

        let merged = merge(read(base), read(over));

        assert_eq!(serde_json::to_string(&merged).unwrap(), expected);
    }

    #[test]
    fn test_merge_key_overrides_a_switch_of_a_lower_layer() {
        check(r#"{"arguments":[{"vga":"std"}]}"#, r#"{"vga":"virtio"}"#, r#"{"vga":"virtio"}"#);
        check(
            r#"{"arguments":[{"m":512},"enable-kvm",{"device":"x"}],"args":["-a","-smp","2","--nographic","-b"]}"#,
            r#"{"memory":"1G","cpu":4,"display":"gtk","accel":"tcg"}"#,
            r#"{"arguments":[{"device":"x"}],"args":["-a","-b"],"memory":"1G","cpu":4,"display":"gtk","accel":"tcg"}"#,
        );
        check(
            r#"{"args":["-M","pc","-nographic"]}"#,
            r#"{"machine":"q35","serial":"none"}"#,
            r#"{"args":["-nographic"],"machine":"q35","serial":"none"}"#,
        );
    }

    #[test]
    fn test_merge_switch_without_a_key_above_stays() {
        let base = r#"{"arguments":[{"cpu":"max"},{"m":512}]}"#;

        check(base, r#"{"cpu":4}"#, r#"{"arguments":[{"cpu":"max"},{"m":512}],"cpu":4}"#);
        check(base, r#"{"memory":null}"#, r#"{"arguments":[{"cpu":"max"},{"m":512}],"memory":null}"#);
        // The check reports the duplicate.
        check(
            base,
            r#"{"memory":"1G","arguments":[{"m":256}]}"#,
            r#"{"arguments":[{"cpu":"max"},{"m":512},{"m":256}],"memory":"1G"}"#,
        );
        check(r#"{"memory":"1G"}"#, r#"{"arguments":[{"m":256}]}"#, r#"{"memory":"1G","arguments":[{"m":256}]}"#);
        check(r#"{"arguments":[]}"#, r#"{"cpu":4}"#, r#"{"arguments":[],"cpu":4}"#);
    }

    #[test]
    fn test_merge_key_overrides_firmware_of_a_lower_layer() {
        check(
            r#"{"arguments":[{"bios":"/b"},"S"]}"#,
            r#"{"firmware":"uefi"}"#,
            r#"{"arguments":["S"],"firmware":"uefi"}"#,
        );
        check(
            r#"{"arguments":[{"drive":"if=pflash,file=/f"},{"drive":{"file":"/g","if":"pflash"}},{"drive":null,"if":"ide"}]}"#,
            r#"{"firmware":"uefi"}"#,
            r#"{"arguments":[{"drive":null,"if":"ide"}],"firmware":"uefi"}"#,
        );
        check(
            r#"{"args":["-pflash","/f","-drive","file=/g,if=pflash","-drive","file=/h","-S"]}"#,
            r#"{"firmware":"bios"}"#,
            r#"{"args":["-drive","file=/h","-S"],"firmware":"bios"}"#,
        );
    }

    #[test]
    fn test_merge_key_overrides_tpm_and_numa_of_a_lower_layer() {
        check(
            r#"{"arguments":[{"tpmdev":"emulator,id=t,chardev=c"},{"device":"tpm-tis,tpmdev=t"},{"device":"e1000"}]}"#,
            r#"{"tpm":true}"#,
            r#"{"arguments":[{"device":"e1000"}],"tpm":true}"#,
        );
        check(
            r#"{"args":["-numa","node","-device","tpm-crb,tpmdev=t"]}"#,
            r#"{"numa":2,"tpm":false}"#,
            r#"{"numa":2,"tpm":false}"#,
        );
        check(
            r#"{"args":["-numa","node"]}"#,
            r#"{"numa":2,"args":["-numa","dist"]}"#,
            r#"{"args":["-numa","node","-numa","dist"],"numa":2}"#,
        );
    }

    #[test]
    fn test_merge_key_overrides_its_action_of_a_lower_layer() {
        let over = r#"{"panic":{"action":"none"}}"#;
        let panic = r#""panic":{"action":"none"}}"#;
        check(
            r#"{"arguments":[{"action":"panic=pause"},{"action":{"panic":"pause","reboot":"shutdown"}}]}"#,
            over,
            &format!(r#"{{"arguments":[{{"action":{{"reboot":"shutdown"}}}}],{panic}"#),
        );
        check(
            r#"{"args":["-action","panic=pause,watchdog=none","-action","panic=pause","-S"]}"#,
            over,
            &format!(r#"{{"args":["-action","watchdog=none","-S"],{panic}"#),
        );
        check(
            r#"{"args":["-watchdog-action","none"]}"#,
            r#"{"watchdog":{"action":"pause"}}"#,
            r#"{"watchdog":{"action":"pause"}}"#,
        );
        check(
            r#"{"args":["-action","panic=pause"]}"#,
            r#"{"panic":true}"#,
            r#"{"args":["-action","panic=pause"],"panic":true}"#,
        );
    }
}
