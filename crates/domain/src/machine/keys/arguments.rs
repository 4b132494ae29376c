//! `arguments` and `args`: options of QEMU, structured and raw.
//!
//! | under `arguments:` | QEMU gets |
//! | --- | --- |
//! | `- enable-kvm`, `- {enable-kvm: null}` and `- {enable-kvm: true}` | `-enable-kvm` |
//! | `- {enable-kvm: false}` | nothing |
//! | `- {smp: 2}` | `-smp 2` |
//! | `- {netdev: {user: null, id: n0}}` and `- {netdev: user, id: n0}` | `-netdev user,id=n0` |
//! | `- {foo: {bar: 42, baz: 42}}` | `-foo bar=42,baz=42` |
//! | `- {foo: {bar: {baz: {spam: 1}}}}` | `-foo bar.baz.spam=1` |
//! | `- {foo: [a, b]}` | `-foo a,b` |
//! | `- {foo: {bar: [a, b]}}` | `-foo bar=a,bar=b` |
//!
//! A string that is the whole value is passed unchanged; commas in the values of structured forms are doubled.

use std::collections::HashMap;

use super::file_options::{is_file, is_plain_file};
use crate::config::{Diagnostics, KeyPath, Node, Value};
use crate::machine::Machine;
use crate::machine::switches::refusal;
use crate::qemu::{Switch, canonical, takes_boolean, takes_value};

/// Switches whose second occurrence would silently replace or contradict the first.
pub const SINGLE_ARGUMENTS: [&str; 9] = ["display", "vga", "m", "smp", "machine", "cpu", "kernel", "initrd", "append"];

pub(super) const NUL: &str = "command lines cannot contain a NUL";

/// Reads `arguments`.
pub(super) fn apply_structured(path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Diagnostics) {
    let items = report.list(path, node).unwrap_or_default();
    let mut singles: Vec<(String, &Node)> = Vec::new();
    let left_out = left_out(items);
    for (index, item) in items.iter().enumerate() {
        let at = path.index(index);
        let is_left_out = || switch_text(item).and_then(|name| left_out.get(name)).is_some_and(|last| *last > index);
        if deletes(item) || is_left_out() {
            continue;
        }
        let Some(Argument::Given(switch)) = argument(&at, item, report) else { continue };
        let name = switch.name().to_owned();
        if let Some((_, first)) = singles.iter().find(|(single, _)| *single == name) {
            report.duplicate(&at, item, first.location(), format!("the argument `{name}` can be given only once"));
            continue;
        }
        if SINGLE_ARGUMENTS.contains(&name.as_str()) {
            singles.push((name, item));
        }
        machine.arguments.push(switch);
    }
}

/// Returns whether this only deletes a switch of an earlier file, as `- {kernel: null}` and `- {netdev: null, id: n0}` do.
fn deletes(item: &Node) -> bool {
    let (name, value) = match item.entries() {
        [first] => first,
        [first, (id, _)] if id == "id" => first,
        _ => return false,
    };
    value.is_null() && takes_value(canonical(name.trim_start_matches('-'))) == Some(true)
}

/// Returns the switches without a value that an item of `arguments` leaves out, with the index of the last such item.
///
/// It removes those before it, and raw arguments, which are before all of them on the command line.
pub(in crate::machine) fn left_out(items: &[Node]) -> HashMap<&str, usize> {
    let is_off = |item: &Node| item.entries().first().is_some_and(|(_, value)| value.boolean() == Some(false));
    let names = items.iter().enumerate().filter(|(_, item)| is_off(item));
    let names = names.filter_map(|(index, item)| Some((switch_text(item)?, index)));
    names.filter(|(name, _)| takes_value(name) == Some(false)).collect()
}

/// Returns the name of the switch of an item, without its hyphens.
fn switch_text(item: &Node) -> Option<&str> {
    let name = item.as_text().or_else(|| item.entries().first().map(|(name, _)| name.as_str()));
    name.map(|name| canonical(name.trim_start_matches('-')))
}

/// What an item of `arguments` says about a switch.
enum Argument {
    /// It is passed to QEMU.
    Given(Switch),
    /// The switch, which has no value, is left out.
    LeftOut,
}

/// Returns the switch of an item of `arguments` that is passed to QEMU.
pub(in crate::machine) fn switch_of(at: &KeyPath, item: &Node, report: &mut Diagnostics) -> Option<Switch> {
    if deletes(item) {
        return None;
    }
    match argument(at, item, report)? {
        Argument::Given(switch) => Some(switch),
        Argument::LeftOut => None,
    }
}

/// Reads one item of `arguments`.
fn argument(at: &KeyPath, item: &Node, report: &mut Diagnostics) -> Option<Argument> {
    let problems_before = report.problems().len();
    let switch = match &item.value {
        Value::Text(text) => Switch::new(switch_name(at, text, item, report)?),
        Value::Map(entries) => {
            let Some(((name, value), options)) = entries.split_first() else {
                report.expected(at, item, "the name of an argument");
                return None;
            };
            let name = switch_name(at, name, item, report)?;
            if takes_value(&name) != Some(false) {
                structured(at, &name, value, options, report)?
            } else if is_on(at, &name, value, options, report)? {
                Switch::new(name)
            } else {
                return Some(Argument::LeftOut);
            }
        }
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::List(_) => {
            report.expected(at, item, "the name of an argument, or a map such as `{smp: 2}`");
            return None;
        }
    };
    check_allowed(at, item, switch.name(), report);
    let is_read = report.problems().len() == problems_before;
    if is_read && switch.argument().is_none() && takes_value(switch.name()) == Some(true) {
        // QEMU would take the next argument for its value.
        report.error(at, item, format!("the argument `{}` requires a value", switch.name()));
        return None;
    }
    Some(Argument::Given(switch))
}

/// Returns whether a switch without a value is given; QEMU would take a value for the name of a disk image.
fn is_on(at: &KeyPath, name: &str, value: &Node, options: &[(String, Node)], report: &mut Diagnostics) -> Option<bool> {
    let is_empty = matches!(&value.value, Value::Map(_) | Value::List(_) | Value::Null)
        && value.entries().is_empty()
        && value.items().is_empty();
    match (options.first(), value.boolean()) {
        (None, Some(is_on)) => Some(is_on),
        (None, None) if is_empty => Some(true),
        (first, _) => {
            let node = first.map_or(value, |(_, node)| node);
            let help = format!("write `- {name}`; `- {{{name}: false}}` leaves it out");
            report.error_with_help(at, node, format!("the argument `{name}` takes no value"), Some(help));
            None
        }
    }
}

pub(in crate::machine) fn check_allowed(at: &KeyPath, item: &Node, name: &str, report: &mut Diagnostics) {
    if let Some(reason) = refusal(name) {
        report.error(at, item, format!("`{name}` is not allowed: {reason}"));
    }
}

fn switch_name(at: &KeyPath, text: &str, item: &Node, report: &mut Diagnostics) -> Option<String> {
    let name = text.trim_start_matches('-');
    let is_name = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if is_name {
        return Some(canonical(name).to_owned());
    }
    let help = "write a switch and its value as `- {smp: 2}`, or raw arguments under `args`".to_owned();
    let message = format!("invalid argument name `{}`", text.escape_debug());
    report.error_with_help(at, item, message, Some(help));
    None
}

fn structured(
    at: &KeyPath,
    name: &str,
    value: &Node,
    options: &[(String, Node)],
    report: &mut Diagnostics,
) -> Option<Switch> {
    if matches!(value.value, Value::Bool(_)) && takes_boolean(name) == Some(false) {
        // QEMU would get `on` or `off`, and take it for a name, a text or a file.
        report.expected(&at.key(name), value, if is_file(name) { "a file" } else { "a text, a number or options" });
        return None;
    }
    if let Some((beside, node)) = options.first().filter(|_| is_plain(name)) {
        let beside = beside.trim_start_matches('-');
        let help = match takes_value(canonical(beside)) {
            Some(true) => format!("write each switch as an item of its own: `- {{{name}: …}}` and `- {{{beside}: …}}`"),
            Some(false) => format!("write each switch as an item of its own: `- {{{name}: …}}` and `- {beside}`"),
            None => format!("write the whole value as one text: `- {{{name}: \"…\"}}`"),
        };
        let message = format!("the argument `{name}` has no options, and `{beside}` is written as one");
        report.error_with_help(&at.key(beside), node, message, Some(help));
        return None;
    }
    let mut parts = Vec::new();
    let scalar = value.scalar();
    if scalar.as_deref().is_some_and(|text| text.contains('\0')) {
        report.error(at, value, NUL);
        return None;
    }
    if scalar.is_none() {
        flatten(&at.key(name), "", value, report, &mut parts);
    }
    let start = scalar.map_or_else(|| Switch::new(name), |text| Switch::verbatim(name, text));
    for (key, option) in options {
        flatten(&at.key(key), key, option, report, &mut parts);
    }
    Some(parts.into_iter().fold(start, |switch, part| match part {
        Part::Head(text) => switch.head(&text),
        Part::Option(key, value) => switch.option(&key, value),
    }))
}

/// Switches whose value is one text, besides those whose value is a file.
const TEXTS: [&str; 13] = [
    "append", "d", "dfilter", "echr", "k", "loadvm", "prom-env", "rotate", "runas", "seed", "uuid", "vga",
    "watchdog-action",
];

/// Returns whether the value of a switch has no options: what is beside it would become a part of it.
fn is_plain(switch: &str) -> bool {
    TEXTS.contains(&switch) || is_plain_file(switch)
}

/// A part of an argument between two commas.
enum Part {
    Head(String),
    Option(String, String),
}

/// Flattens a tree into parts: nested keys are joined with dots.
fn flatten(at: &KeyPath, prefix: &str, node: &Node, report: &mut Diagnostics, parts: &mut Vec<Part>) {
    match &node.value {
        Value::Null if prefix.is_empty() => {}
        Value::Null => parts.extend(head(at, node, prefix.to_owned(), report)),
        Value::Map(entries) => {
            for (key, value) in entries {
                flatten(&at.key(key), &joined(prefix, key), value, report, parts);
            }
        }
        Value::List(items) => {
            for (index, item) in items.iter().enumerate() {
                let at = at.index(index);
                match item.scalar() {
                    None if item.is_null() => report.expected(&at, item, "a value"),
                    Some(text) if prefix.is_empty() => parts.extend(head(&at, item, text, report)),
                    // An option that is given several times, as `hostfwd`.
                    Some(_) | None => flatten(&at, prefix, item, report, parts),
                }
            }
        }
        Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_) => {
            let value = node.scalar().unwrap_or_default();
            if value.contains('\0') {
                report.error(at, node, NUL);
                return;
            }
            if prefix.is_empty() || prefix.contains([',', '=', '\0']) {
                report.error(at, node, format!("invalid option name `{}`", prefix.escape_debug()));
                return;
            }
            parts.push(Part::Option(prefix.to_owned(), value));
        }
    }
}

/// Returns a part without a key.
fn head(at: &KeyPath, node: &Node, text: String, report: &mut Diagnostics) -> Option<Part> {
    if text.contains('\0') {
        report.error(at, node, NUL);
        return None;
    }
    Some(Part::Head(text))
}

fn joined(prefix: &str, key: &str) -> String {
    if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Problem;
    use crate::qemu::OptionString;

    fn item(json: &str) -> Node {
        serde_json::from_str(json).unwrap()
    }

    #[track_caller]
    fn check(json: &str, expected: &[&str]) {
        let mut report = Diagnostics::default();

        let switch = argument(&KeyPath::top("arguments").index(0), &item(json), &mut report);

        assert_eq!(report.problems(), []);
        let Some(Argument::Given(switch)) = switch else { panic!("{json} is left out") };
        assert_eq!(switch.args().collect::<Vec<_>>(), expected, "{json}");
    }

    #[track_caller]
    fn check_refused(json: &str, expected: &str) {
        let mut report = Diagnostics::default();

        let _ = argument(&KeyPath::top("arguments").index(0), &item(json), &mut report);

        assert_eq!(report.problems()[0].message, expected);
    }

    #[test]
    fn test_argument_bare_name_is_a_switch_alone() {
        check(r#""enable-kvm""#, &["-enable-kvm"]);
        check(r#"{"enable-kvm": null}"#, &["-enable-kvm"]);
        check(r#""-no-reboot""#, &["-no-reboot"]);
    }

    #[test]
    fn test_argument_scalar_is_passed_unchanged() {
        check(r#"{"smp": 2}"#, &["-smp", "2"]);
        check(r#"{"append": "console=ttyS0 root=/dev/vda1,x"}"#, &["-append", "console=ttyS0 root=/dev/vda1,x"]);
    }

    #[test]
    fn test_argument_head_and_options_take_both_forms() {
        check(r#"{"netdev": {"user": null, "id": "n0"}}"#, &["-netdev", "user,id=n0"]);
        check(r#"{"netdev": "user", "id": "n0"}"#, &["-netdev", "user,id=n0"]);
    }

    #[test]
    fn test_argument_nested_keys_are_joined_with_dots() {
        check(r#"{"foo": {"bar": 42, "baz": 42}}"#, &["-foo", "bar=42,baz=42"]);
        check(r#"{"foo": {"bar": {"baz": {"spam": 1}}}}"#, &["-foo", "bar.baz.spam=1"]);
    }

    #[test]
    fn test_argument_list_is_joined_with_commas() {
        check(r#"{"foo": ["a", "b"]}"#, &["-foo", "a,b"]);
    }

    #[test]
    fn test_argument_whose_value_is_one_text_refuses_options() {
        for (json, name, beside) in [
            (r#"{"append": "console=ttyS0", "initrd": "./i"}"#, "append", "initrd"),
            (r#"{"append": "x", "kernel": "./k"}"#, "append", "kernel"),
            (r#"{"kernel": "vmlinuz", "append": "x"}"#, "kernel", "append"),
            (r#"{"initrd": null, "-append": "x"}"#, "initrd", "append"),
            (r#"{"cdrom": "x", "boot": "d"}"#, "cdrom", "boot"),
            (r#"{"hda": "x", "snapshot": true}"#, "hda", "snapshot"),
            (r#"{"bios": "x", "id": "y"}"#, "bios", "id"),
            (r#"{"vga": "std", "m": 1}"#, "vga", "m"),
        ] {
            check_refused(json, &format!("the argument `{name}` has no options, and `{beside}` is written as one"));
        }
        // The other switch is an option of this one, or it has options that QEMU reads.
        check(r#"{"machine": "q35", "kernel": "/k"}"#, &["-machine", "q35,kernel=/k"]);
        check(r#"{"option-rom": "r", "bootindex": 1}"#, &["-option-rom", "r,bootindex=1"]);
        check(r#"{"serial": "unix:/s", "server": true}"#, &["-serial", "unix:/s,server=on"]);
    }

    #[test]
    fn test_argument_list_of_an_option_repeats_it() {
        check(
            r#"{"netdev": "user", "id": "n0", "hostfwd": ["tcp::1-:22", "udp::2-:53"]}"#,
            &["-netdev", "user,id=n0,hostfwd=tcp::1-:22,hostfwd=udp::2-:53"],
        );
        check(r#"{"foo": {"k": ["a,b", 7, true], "x": {"y": ["c"]}}}"#, &["-foo", "k=a,,b,k=7,k=on,x.y=c"]);
        check(r#"{"foo": {"k": [{"a": 1}, {"b": [2, 3]}]}}"#, &["-foo", "k.a=1,k.b=2,k.b=3"]);
        check_refused(r#"{"foo": {"k": ["a", null]}}"#, "expected a value, found nothing");
    }

    fn read(json: &str) -> (Vec<String>, Vec<Problem>) {
        let (mut machine, mut report) = (Machine::default(), Diagnostics::default());
        apply_structured(&KeyPath::top("arguments"), &item(json), &mut machine, &mut report);
        (machine.arguments.iter().flat_map(Switch::args).collect(), report.into_problems())
    }

    #[test]
    fn test_argument_without_a_value_is_given_or_left_out() {
        for given in ["true", "\"on\"", "\"yes\"", "null", "{}"] {
            assert_eq!(
                read(&format!(r#"[{{"enable-kvm": {given}}}, {{"--usb": {given}}}]"#)).0,
                ["-enable-kvm", "-usb"]
            );
        }
        for left_out in ["false", "\"off\"", "\"FALSE\""] {
            let json = format!(r#"["no-reboot", "S", {{"no-reboot": {left_out}}}, {{"daemonize": {left_out}}}]"#);
            assert_eq!(read(&json), (vec!["-S".to_owned()], vec![]));
        }
        // The others have a value, or are not known.
        assert_eq!(read(r#"[{"sandbox": true}, {"foo": false}]"#).0, ["-sandbox", "on", "-foo", "off"]);
    }

    #[test]
    fn test_argument_without_a_value_refuses_one() {
        for value in ["5", "\"a\"", "[\"a\"]", "{\"a\": 1}"] {
            check_refused(&format!(r#"{{"enable-kvm": {value}}}"#), "the argument `enable-kvm` takes no value");
        }
        check_refused(r#"{"nographic": true, "id": "a"}"#, "the argument `nographic` takes no value");
    }

    #[test]
    fn test_argument_that_deletes_an_earlier_one_is_not_passed() {
        let json = r#"[{"device": null}, {"netdev": null, "id": "n0"}, {"foo": null}]"#;

        assert_eq!(read(json), (vec!["-foo".to_owned()], vec![]));
        check_refused(r#""device""#, "the argument `device` requires a value");
    }

    #[test]
    fn test_argument_boolean_is_on_or_off() {
        check(r#"{"display": {"gtk": null, "zoom-to-fit": true}}"#, &["-display", "gtk,zoom-to-fit=on"]);
        let other = "a text, a number or options";
        for (switch, expected) in [("append", other), ("name", other), ("cdrom", "a file")] {
            let message = format!("expected {expected}, found the boolean `true`");
            check_refused(&format!(r#"{{"{switch}": true}}"#), &message);
        }
    }

    #[test]
    fn test_argument_comma_in_a_structured_value_is_doubled() {
        check(r#"{"drive": {"file": "/d/a,readonly=on"}}"#, &["-drive", "file=/d/a,,readonly=on"]);
    }

    #[test]
    fn test_argument_single_switch_requires_a_value() {
        for alone in [r#""kernel""#, r#""-m""#, r#"{"cpu": {}}"#, r#"{"smp": []}"#] {
            let name = item(alone).as_text().map_or_else(|| item(alone).entries()[0].0.clone(), str::to_owned);
            check_refused(alone, &format!("the argument `{}` requires a value", name.trim_start_matches('-')));
        }
        check(r#"{"append": ""}"#, &["-append", ""]);

        let mut machine = Machine::default();
        let mut report = Diagnostics::default();
        let items = item(r#"[{"kernel": null}, {"-kernel": null}, {"kernel": "/k"}, {"no-reboot": null}]"#);
        apply_structured(&KeyPath::top("arguments"), &items, &mut machine, &mut report);

        assert_eq!(report.problems(), []);
        let args: Vec<String> = machine.arguments.iter().flat_map(Switch::args).collect();
        assert_eq!(args, ["-kernel", "/k", "-no-reboot"]);
    }

    #[test]
    fn test_argument_name_with_a_space_is_invalid() {
        check_refused(r#""-smp 2""#, "invalid argument name `-smp 2`");
    }

    #[test]
    fn test_argument_comma_in_an_option_name_is_invalid() {
        check_refused(r#"{"drive": {"a,readonly": "x"}}"#, "invalid option name `a,readonly`");
        check_refused(r#"{"drive": {"a=b": "x"}}"#, "invalid option name `a=b`");
        check_refused(r#"{"drive": {"": "x"}}"#, "invalid option name ``");
    }

    #[test]
    fn test_argument_nul_anywhere_is_refused() {
        for json in [
            r#"{"append": "a\u0000b"}"#,
            r#"{"foo": {"a\u0000b": null}}"#,
            r#"{"foo": ["a\u0000b"]}"#,
            r#"{"foo": {"k": ["a\u0000b"]}}"#,
            r#"{"foo": {"k": "a\u0000b"}}"#,
        ] {
            check_refused(json, NUL);
        }
    }

    #[test]
    fn test_argument_daemonize_is_refused_with_a_reason() {
        check_refused(
            r#""daemonize""#,
            "`daemonize` is not allowed: maqet already runs QEMU in the background; remove it",
        );
    }

    proptest! {
        #[test]
        fn test_argument_any_value_survives_qemus_parser(
            first in "[^\0]*", second in "[^\0]*", third in "[^\0]*"
        ) {
            let node = |text: &str| Node::text(text);
            let inner = Value::Map(vec![("deep".to_owned(), node(&second))]);
            let value = Value::Map(vec![
                ("driver".to_owned(), Node::new(Value::Null)),
                ("path".to_owned(), node(&first)),
                ("cache".to_owned(), Node::new(inner)),
            ]);
            let item = Value::Map(vec![("drive".to_owned(), Node::new(value)), ("beside".to_owned(), node(&third))]);
            let mut report = Diagnostics::default();

            let switch = argument(&KeyPath::top("arguments").index(0), &Node::new(item), &mut report);
            let Some(Argument::Given(switch)) = switch else { panic!("it is left out") };

            prop_assert_eq!(report.problems(), []);
            let options = OptionString::parse("drive", switch.argument().unwrap());
            let read = options.iter().map(|option| (option.key.as_str(), option.value.as_str())).collect::<Vec<_>>();
            let expected = [("", "driver"), ("path", &first), ("cache.deep", &second), ("beside", &third)];
            prop_assert_eq!(read, expected);
        }
    }
}
