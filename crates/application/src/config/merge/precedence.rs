//! Precedence of keys over switches of a lower layer.
//!
//! Within a layer a switch overrides the key (docs/adr/0023). Across layers the higher one wins: `vga` of a VM overrides
//! the switch in the defaults of `maqet.conf`, and `--memory` the one in the definition.

use maqet_domain::config::{Node, Value};
use maqet_domain::machine::{MACHINE_FLAGS, RawSwitch, raw_switches};
use maqet_domain::qemu::{OptionString, without_options};

use super::raw::without_raw;
use super::switch::switch_name;

/// The keys, and the switches that override them.
const SWITCHES_OF_KEYS: [(&str, &[&str]); 10] = [
    ("memory", &["m"]),
    ("cpu", &["smp"]),
    ("cpu_model", &["cpu"]),
    ("display", &["display", "nographic"]),
    ("vga", &["vga"]),
    ("serial", &["serial"]),
    ("accel", &["accel", "enable-kvm"]),
    ("sandbox", &["sandbox"]),
    ("firmware", &["bios", "pflash"]),
    ("tpm", &["tpmdev"]),
];

/// The keys, and the switches that override them by an option whose value begins so.
const SWITCHES_WITH_OPTION: [(&str, &str, &str, &str); 7] = [
    ("firmware", "drive", "if", "pflash"),
    ("tpm", "device", "tpmdev", ""),
    // Others refer to the nodes.
    ("numa", "numa", "type", "node"),
    ("balloon", "device", "driver", "virtio-balloon"),
    ("rng", "device", "driver", "virtio-rng"),
    ("generation_id", "device", "driver", "vmgenid"),
    ("panic", "device", "driver", "pvpanic"),
];

/// The keys of which QEMU merges the options with those of their switch, unless both have the one with the implied key.
const MERGED_BY_QEMU: [&str; 2] = ["machine", "boot"];

/// The options of `-machine` that override `firmware`.
const FLASH: [&str; 2] = ["pflash0", "pflash1"];

/// What a layer overrides of those below it.
#[derive(Default)]
struct Overridden {
    /// Whole switches.
    switches: Vec<&'static str>,
    /// Switches with an option whose value begins so.
    with_option: Vec<(&'static str, &'static str, &'static str)>,
    /// Options of switches.
    options: Vec<(&'static str, String)>,
}

impl Overridden {
    /// Returns what the keys of a layer override.
    fn by(layer: &Node) -> Self {
        let mut overridden = Self::default();
        let has_key = |key: &str| layer.non_null(key).is_some();
        let mut option = |switch, option: &str| overridden.options.push((switch, option.to_owned()));
        if layer.non_null("watchdog").is_some_and(|node| node.non_null("action").is_some()) {
            option("action", "watchdog");
            overridden.switches.push("watchdog-action");
        }
        // Anything else is the action.
        if layer.get("panic").is_some_and(|node| node.as_text().is_some() && node.boolean().is_none()) {
            option("action", "panic");
        }
        if has_key("firmware") {
            for flash in FLASH {
                option("machine", flash);
            }
        }
        let keys = SWITCHES_OF_KEYS.iter().filter(|(key, _)| has_key(key));
        overridden.switches.extend(keys.flat_map(|(_, names)| *names));
        overridden.switches.retain(|name| !has_switch(layer, name));
        for switch in MERGED_BY_QEMU {
            let Some(node) = layer.non_null(switch) else { continue };
            match options_set(switch, node) {
                Some(options) => overridden.options.extend(options.into_iter().map(|option| (switch, option))),
                None => overridden.switches.push(switch),
            }
            if switch == "machine" {
                let flags =
                    MACHINE_FLAGS.iter().filter(|flag| sets(node, flag.option) && !has_switch(layer, flag.switch));
                overridden.switches.extend(flags.map(|flag| flag.switch));
            }
        }
        let with_option = SWITCHES_WITH_OPTION.into_iter().filter(|(key, ..)| has_key(key));
        overridden.with_option = with_option.map(|(_, switch, option, value)| (switch, option, value)).collect();
        overridden
    }

    const fn is_empty(&self) -> bool {
        self.switches.is_empty() && self.with_option.is_empty() && self.options.is_empty()
    }

    /// Returns whether a switch is removed.
    fn covers(&self, name: &str, option: OptionOf<'_>) -> bool {
        let has_option = |(switch, key, start): &(&str, &str, &str)| {
            *switch == name && option(key).is_some_and(|value| value.starts_with(start))
        };
        self.switches.contains(&name) || self.with_option.iter().any(has_option)
    }

    /// Returns whether an option of a switch stays.
    fn keeps(&self, name: &str, option: &str) -> bool {
        !self.options.iter().any(|(switch, known)| *switch == name && known == option)
    }

    fn changes(&self, name: &str) -> bool {
        self.options.iter().any(|(switch, _)| *switch == name)
    }
}

/// Returns whether the value of `machine` sets an option.
fn sets(node: &Node, option: &str) -> bool {
    node.non_null(option).is_some()
        || node.as_text().is_some_and(|text| OptionString::parse("machine", text).get(option).is_some())
}

/// Returns the options that the value of a key sets; `None` if the one with the implied key, as the type, is among them.
fn options_set(switch: &str, node: &Node) -> Option<Vec<String>> {
    let set = if let Value::Map(entries) = &node.value {
        let set = entries.iter().filter(|(_, node)| !node.is_null());
        set.map(|(key, _)| format!("{key}=x")).collect::<Vec<_>>().join(",")
    } else {
        node.written()?
    };
    let options = OptionString::parse(switch, &set);
    options.head().is_empty().then(|| options.iter().map(|option| option.key.clone()).collect())
}

/// Removes the switches of `base`, and the options of switches, for which `over` has the key and not the switch.
pub(super) fn without_overridden(base: Node, over: &Node) -> Node {
    let overridden = Overridden::by(over);
    if overridden.is_empty() {
        return base;
    }
    let without_overridden = |(key, node): (String, Node)| {
        let node = match key.as_str() {
            "arguments" => filtered(node, |mut items| {
                let is_removed = |item: &Node| {
                    switch_name(item).is_some_and(|name| overridden.covers(name, &|key| option_of(item, name, key)))
                };
                items.retain(|item| !is_removed(item));
                items.into_iter().filter_map(|item| without_some(item, &overridden)).collect()
            }),
            "args" => filtered(node, |items| {
                let is_removed = |switch: &RawSwitch<'_>| {
                    overridden.switches.contains(&switch.name) || has_overridden(switch, &overridden)
                };
                raw_without_some(without_raw(items, is_removed), &overridden)
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
        .or_else(|| {
            // `device: {e1000: null, id: a}`
            let (head, _) = value.entries().first().filter(|(_, node)| node.is_null())?;
            OptionString::parse(switch, head).get(option).map(str::to_owned)
        })
}

/// Returns the value of an option of a switch.
type OptionOf<'o> = &'o dyn Fn(&str) -> Option<String>;

/// Returns whether a raw switch has an option that another layer overrides.
fn has_overridden(switch: &RawSwitch<'_>, overridden: &Overridden) -> bool {
    let is_one = SWITCHES_WITH_OPTION.iter().any(|(_, known, ..)| *known == switch.name);
    let Some(argument) = switch.value.filter(|_| is_one).and_then(Node::scalar) else { return false };
    let options = OptionString::parse(switch.name, &argument);
    overridden.covers(switch.name, &|option| options.get(option).map(str::to_owned))
}

/// Returns an item of `arguments` without the options that another layer overrides; `None` if nothing is left of it.
fn without_some(item: Node, overridden: &Overridden) -> Option<Node> {
    let is_deletion = matches!(item.entries(), [(_, value)] if value.is_null());
    let name = switch_name(&item).filter(|name| overridden.changes(name) && !is_deletion).map(str::to_owned);
    let Some(name) = name else { return Some(item) };
    let keep = |key: &str| overridden.keeps(&name, key);
    let mut is_empty = true;
    let item = item.map_entries(|entries| {
        let entries = entries.into_iter().enumerate().filter(|(index, (key, _))| *index == 0 || keep(key));
        let entries: Vec<_> = entries.map(|(_, entry)| entry).collect();
        is_empty = entries.len() == 1;
        let mut entries = entries.into_iter();
        let first = entries.next().map(|(name, node)| {
            let node = node.map_entries(|options| options.into_iter().filter(|(key, _)| keep(key)).collect());
            let node = node.map_value(|value| match value {
                Value::Text(text) => Value::Text(without_options(&name, &text, keep)),
                other => other,
            });
            is_empty &= node.entries().is_empty() && node.as_text().is_none_or(str::is_empty);
            (name, node)
        });
        first.into_iter().chain(entries).collect()
    });
    Some(item).filter(|_| !is_empty)
}

/// Returns raw arguments without the options that another layer overrides.
fn raw_without_some(items: Vec<Node>, overridden: &Overridden) -> Vec<Node> {
    let changed = raw_switches(&items).into_iter().filter(|switch| overridden.changes(switch.name));
    let changed = changed.filter_map(|switch| {
        let rest = without_options(switch.name, switch.value?.as_text()?, |key| overridden.keeps(switch.name, key));
        Some((switch.index, switch.value_index?, rest))
    });
    let changed: Vec<(usize, usize, String)> = changed.collect();
    let mut items: Vec<Option<Node>> = items.into_iter().map(Some).collect();
    for (index, value, rest) in changed {
        if rest.is_empty() {
            (items[index], items[value]) = (None, None);
        } else {
            items[value] = items[value].take().map(|item| item.map_value(|_| Value::Text(rest)));
        }
    }
    items.into_iter().flatten().collect()
}

/// Returns whether a layer has the switch.
fn has_switch(layer: &Node, name: &str) -> bool {
    let items = |key| layer.get(key).map(Node::items).unwrap_or_default().iter();
    items("arguments").any(|item| switch_name(item) == Some(name))
        || raw_switches(layer.get("args").map(Node::items).unwrap_or_default()).iter().any(|switch| switch.name == name)
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
            r#"{"arguments":[{"m":512},"enable-kvm",{"device":"x"}],"args":["-a","-smp","2","--nographic","-append","-nographic"]}"#,
            r#"{"memory":"1G","cpu":4,"display":"gtk","accel":"tcg"}"#,
            r#"{"arguments":[{"device":"x"}],"args":["-a","-append","-nographic"],"memory":"1G","cpu":4,"display":"gtk","accel":"tcg"}"#,
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
            r#"{"numa":2,"args":["-numa","dist"]}"#,
        );
        check(
            r#"{"arguments":[{"numa":{"node":null,"cpus":"0"}},{"numa":"dist,src=0,dst=1,val=20"}]}"#,
            r#"{"numa":2}"#,
            r#"{"arguments":[{"numa":"dist,src=0,dst=1,val=20"}],"numa":2}"#,
        );
    }

    #[test]
    fn test_merge_key_overrides_its_action_of_a_lower_layer() {
        let over = r#"{"panic":"none"}"#;
        let panic = r#""panic":"none"}"#;
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
        for base in [r#"{"args":["-watchdog-action","none"]}"#, r#"{"arguments":[{"watchdog-action":"none"}]}"#] {
            check(base, r#"{"watchdog":{"action":"pause"}}"#, r#"{"watchdog":{"action":"pause"}}"#);
        }
        for boolean in ["true", r#""on""#] {
            check(
                r#"{"args":["-action","panic=pause"]}"#,
                &format!(r#"{{"panic":{boolean}}}"#),
                &format!(r#"{{"args":["-action","panic=pause"],"panic":{boolean}}}"#),
            );
        }
    }

    #[test]
    fn test_merge_machine_option_overrides_the_switch_for_it() {
        for (switch, option) in [("no-acpi", "acpi"), ("no-hpet", "hpet"), ("usb", "usb")] {
            let over = format!(r#"{{"machine":{{"{option}":"on"}}}}"#);
            check(&format!(r#"{{"arguments":["{switch}"],"args":["--{switch}"]}}"#), &over, &over);
            let other = r#"{"machine":{"smm":"on"}}"#;
            check(
                &format!(r#"{{"args":["-{switch}"]}}"#),
                other,
                &format!(r#"{{"args":["-{switch}"],{}"#, &other[1..]),
            );
        }
        let text = r#"{"machine":"q35,acpi=on"}"#;
        check(r#"{"args":["-no-acpi"]}"#, text, text);
    }

    #[test]
    fn test_merge_rng_overrides_the_device_of_a_lower_layer() {
        for over in [r#"{"rng":false}"#, r#"{"rng":true}"#] {
            check(r#"{"arguments":[{"device":"virtio-rng-pci","id":"r"}]}"#, over, over);
            check(r#"{"args":["-device","virtio-rng-pci,rng=r"]}"#, over, over);
        }
        let over = r#"{"generation_id":false}"#;
        check(r#"{"arguments":[{"device":"vmgenid","guid":"auto"}]}"#, over, over);
    }

    /// QEMU merges the others with those of the key.
    #[test]
    fn test_merge_key_without_a_type_overrides_only_its_options() {
        let usb = r#"{"machine":{"usb":"on"}}"#;
        let kept = |items: &str, over: &str| format!(r#"{{"arguments":[{items}],{}"#, &over[1..]);
        for (item, rest) in [
            (r#"{"machine":"q35,smm=on"}"#, r#"{"machine":"q35,smm=on"}"#),
            (r#"{"machine":"q35,usb=off,smm=on"}"#, r#"{"machine":"q35,smm=on"}"#),
            (r#"{"machine":{"q35":null,"usb":false}}"#, r#"{"machine":{"q35":null}}"#),
            (r#"{"M":"q35","usb":false}"#, r#"{"M":"q35"}"#),
            (r#"{"machine":"usb=off"},"S""#, r#""S""#),
            (r#"{"machine":null}"#, r#"{"machine":null}"#),
        ] {
            check(&kept(item, "{}").replace(",}", "}"), usb, &kept(rest, usb));
        }
        let text = r#"{"machine":"usb=on"}"#;
        check(r#"{"args":["-M","q35,usb=off"]}"#, text, r#"{"args":["-M","q35"],"machine":"usb=on"}"#);
        let menu = r#"{"boot":{"menu":true}}"#;
        check(r#"{"arguments":[{"boot":"dc,menu=off"}]}"#, menu, &kept(r#"{"boot":"dc"}"#, menu));
        check(r#"{"arguments":[{"boot":"dc,menu=off"}]}"#, r#"{"boot":"c"}"#, r#"{"boot":"c"}"#);
        check(r#"{"args":["-smp","4,maxcpus=8"]}"#, r#"{"cpu":{"threads":2}}"#, r#"{"cpu":{"threads":2}}"#);
        // The one above has no type.
        let both = r#"{"machine":"q35","args":["-machine","smm=on"]}"#;
        check(r#"{"args":["-machine","pc"]}"#, both, both);
    }

    #[test]
    fn test_merge_key_overrides_what_would_be_a_second_one() {
        let firmware = r#"{"firmware":"uefi"}"#;
        check(
            r#"{"args":["-machine","q35,pflash0=a,pflash1=b","-machine","pflash0=a"]}"#,
            firmware,
            r#"{"args":["-machine","q35"],"firmware":"uefi"}"#,
        );
        for (key, device, other) in
            [("balloon", "virtio-balloon-pci", "virtio-net-pci"), ("panic", "pvpanic", "e1000,id=pvpanic")]
        {
            for value in ["true", "false"] {
                let over = format!(r#"{{"{key}":{value}}}"#);
                let expected = format!(r#"{{"arguments":[{{"device":"{other}"}}],{}"#, &over[1..]);
                for own in [
                    format!(r#"{{"device":"{device}"}}"#),
                    format!(r#"{{"device":"{device},id=x"}}"#),
                    format!(r#"{{"device":{{"{device}":null,"id":"x"}}}}"#),
                    format!(r#"{{"device":"{device}","id":"x"}}"#),
                    format!(r#"{{"device":{{"driver":"{device}"}}}}"#),
                ] {
                    check(&format!(r#"{{"arguments":[{own},{{"device":"{other}"}}]}}"#), &over, &expected);
                }
                check(&format!(r#"{{"args":["-device","{device}"]}}"#), &over, &over);
            }
        }
    }
}
