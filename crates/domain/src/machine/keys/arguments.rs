//! `arguments` and `args`: QEMU's own switches, structured and raw.
//!
//! | under `arguments:` | QEMU gets |
//! | --- | --- |
//! | `- enable-kvm` and `- {enable-kvm: null}` | `-enable-kvm` |
//! | `- {smp: 2}` | `-smp 2` |
//! | `- {netdev: {user: null, id: n0}}` and `- {netdev: user, id: n0}` | `-netdev user,id=n0` |
//! | `- {foo: {bar: 42, baz: 42}}` | `-foo bar=42,baz=42` |
//! | `- {foo: {bar: {baz: {spam: 1}}}}` | `-foo bar.baz.spam=1` |
//! | `- {foo: [a, b]}` | `-foo a,b` |
//!
//! A text that is an argument's whole value is passed as it is; commas in the values of structured
//! forms are doubled.

use serde_json::json;

use crate::config::{Diagnostics, KeyPath, Node, Value, schema};
use crate::machine::Machine;
use crate::machine::{ConfigHandler, KeyDoc};
use crate::qemu::Switch;

/// Switches of which a second one would silently replace or contradict the first.
pub const SINGLE_ARGUMENTS: [&str; 9] = ["display", "vga", "m", "smp", "machine", "cpu", "kernel", "initrd", "append"];

/// Switches that would take QEMU out of maqet's hands, and what to do instead.
const REFUSED: [(&str, &str); 1] = [("daemonize", "maqet runs QEMU in the background already; leave it out")];

/// `arguments`.
#[derive(Debug)]
pub(super) struct Arguments;

impl ConfigHandler for Arguments {
    fn key(&self) -> &'static str {
        "arguments"
    }

    fn documentation(&self) -> KeyDoc {
        KeyDoc { summary: "switches of QEMU, structured", form: "a list such as `- {netdev: user, id: n0}`" }
    }

    fn schema(&self) -> serde_json::Value {
        schema::list(&json!({ "type": ["string", "object"], "minProperties": 1 }))
    }

    fn apply(&self, path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Diagnostics) {
        let items = report.list(path, node).unwrap_or_default();
        let mut singles: Vec<(String, &Node)> = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let at = path.index(index);
            if deletes(item) {
                continue;
            }
            let Some(switch) = argument(&at, item, report) else {
                continue;
            };
            let name = switch.name().to_owned();
            if let Some((_, first)) = singles.iter().find(|(single, _)| *single == name) {
                let message = format!("the argument `{name}` may stand once only");
                report.twice(&at, item, first.whereabouts(), message);
                continue;
            }
            if SINGLE_ARGUMENTS.contains(&name.as_str()) {
                singles.push((name, item));
            }
            machine.arguments.push(switch);
        }
    }
}

/// Returns whether this only deletes what an earlier file says, as `- {kernel: null}` does.
fn deletes(item: &Node) -> bool {
    let [(name, value)] = item.entries() else { return false };
    value.is_null() && SINGLE_ARGUMENTS.contains(&name.trim_start_matches('-'))
}

/// `args`.
#[derive(Debug)]
pub(super) struct Args;

impl ConfigHandler for Args {
    fn key(&self) -> &'static str {
        "args"
    }

    fn documentation(&self) -> KeyDoc {
        KeyDoc { summary: "words passed to QEMU as they are", form: "a list of texts" }
    }

    fn schema(&self) -> serde_json::Value {
        schema::list(&schema::text())
    }

    fn apply(&self, path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Diagnostics) {
        for (index, item) in report.list(path, node).unwrap_or_default().iter().enumerate() {
            let at = path.index(index);
            let Some(word) = report.text(&at, item) else {
                continue;
            };
            if word.contains('\0') {
                report.wrong(&at, item, "a NUL cannot be part of a command line");
                continue;
            }
            refuse(&at, item, word.trim_start_matches('-'), report);
            machine.args.push(word);
        }
    }
}

/// Reads one item of `arguments`.
fn argument(at: &KeyPath, item: &Node, report: &mut Diagnostics) -> Option<Switch> {
    let switch = match &item.value {
        Value::Text(text) => Switch::new(switch_name(at, text, item, report)?),
        Value::Map(entries) => {
            let Some(((name, value), options)) = entries.split_first() else {
                report.expected(at, item, "an argument of QEMU");
                return None;
            };
            let name = switch_name(at, name, item, report)?;
            structured(at, &name, value, options, report)?
        }
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::List(_) => {
            report.expected(at, item, "the name of an argument, or a map such as `{smp: 2}`");
            return None;
        }
    };
    refuse(at, item, switch.name(), report);
    if switch.argument().is_none() && SINGLE_ARGUMENTS.contains(&switch.name()) {
        // QEMU would take the next word for it.
        report.wrong(at, item, format!("the argument `{}` needs a value", switch.name()));
        return None;
    }
    Some(switch)
}

fn refuse(at: &KeyPath, item: &Node, name: &str, report: &mut Diagnostics) {
    if let Some((_, advice)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
        report.wrong(at, item, format!("`{name}` cannot be used here: {advice}"));
    }
}

fn switch_name(at: &KeyPath, text: &str, item: &Node, report: &mut Diagnostics) -> Option<String> {
    let name = text.trim_start_matches('-');
    let is_name = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if is_name {
        return Some(name.to_owned());
    }
    let help = "write a switch and its value as `- {smp: 2}`, and raw words under `args`".to_owned();
    let message = format!("`{}` is not the name of an argument", text.escape_debug());
    report.wrong_with_help(at, item, message, Some(help));
    None
}

fn structured(
    at: &KeyPath,
    name: &str,
    value: &Node,
    options: &[(String, Node)],
    report: &mut Diagnostics,
) -> Option<Switch> {
    let mut parts = Vec::new();
    let scalar = value.scalar();
    if scalar.as_deref().is_some_and(|text| text.contains('\0')) {
        report.wrong(at, value, "a NUL cannot be part of a command line");
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
        Part::Word(word) => switch.head(&word),
        Part::Option(key, value) => switch.option(&key, value),
    }))
}

/// A piece between two commas.
enum Part {
    Word(String),
    Option(String, String),
}

/// Turns a tree into pieces: keys on the way down are joined with dots.
fn flatten(at: &KeyPath, prefix: &str, node: &Node, report: &mut Diagnostics, parts: &mut Vec<Part>) {
    match &node.value {
        Value::Null if prefix.is_empty() => {}
        Value::Null => parts.extend(word(at, node, prefix.to_owned(), report)),
        Value::Map(entries) => {
            for (key, value) in entries {
                flatten(&at.key(key), &joined(prefix, key), value, report, parts);
            }
        }
        Value::List(items) => {
            for (index, item) in items.iter().enumerate() {
                match item.scalar() {
                    Some(text) => parts.extend(word(&at.index(index), item, joined(prefix, &text), report)),
                    None => flatten(&at.index(index), prefix, item, report, parts),
                }
            }
        }
        Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_) => {
            let value = node.scalar().unwrap_or_default();
            if value.contains('\0') {
                report.wrong(at, node, "a NUL cannot be part of a command line");
                return;
            }
            if prefix.is_empty() || prefix.contains([',', '=', '\0']) {
                report.wrong(at, node, format!("`{}` cannot be the name of an option", prefix.escape_debug()));
                return;
            }
            parts.push(Part::Option(prefix.to_owned(), value));
        }
    }
}

/// Returns a word that stands between two commas; the command line of a program holds no NUL.
fn word(at: &KeyPath, node: &Node, text: String, report: &mut Diagnostics) -> Option<Part> {
    if text.contains('\0') {
        report.wrong(at, node, "a NUL cannot be part of a command line");
        return None;
    }
    Some(Part::Word(text))
}

fn joined(prefix: &str, key: &str) -> String {
    if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn item(json: &str) -> Node {
        serde_json::from_str(json).unwrap()
    }

    #[track_caller]
    fn check(json: &str, expected: &[&str]) {
        let mut report = Diagnostics::default();

        let switch = argument(&KeyPath::top("arguments").index(0), &item(json), &mut report);

        assert_eq!(report.problems(), []);
        assert_eq!(switch.unwrap().words().collect::<Vec<_>>(), expected, "{json}");
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
    fn test_argument_scalar_is_passed_as_it_is() {
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
        check(r#"{"foo": {"k": ["a", "b"]}}"#, &["-foo", "k.a,k.b"]);
    }

    #[test]
    fn test_argument_boolean_is_on_or_off() {
        check(r#"{"display": {"gtk": null, "zoom-to-fit": true}}"#, &["-display", "gtk,zoom-to-fit=on"]);
    }

    #[test]
    fn test_argument_comma_in_a_structured_value_is_doubled() {
        check(r#"{"drive": {"file": "/d/a,readonly=on"}}"#, &["-drive", "file=/d/a,,readonly=on"]);
    }

    #[test]
    fn test_argument_that_stands_once_is_refused_without_a_value_and_null_says_nothing() {
        for alone in [r#""kernel""#, r#""-m""#, r#"{"cpu": {}}"#, r#"{"smp": []}"#] {
            let name = item(alone).as_text().map_or_else(|| item(alone).entries()[0].0.clone(), str::to_owned);
            check_refused(alone, &format!("the argument `{}` needs a value", name.trim_start_matches('-')));
        }
        check(r#"{"append": ""}"#, &["-append", ""]);

        let mut machine = Machine::default();
        let mut report = Diagnostics::default();
        let items = item(r#"[{"kernel": null}, {"-kernel": null}, {"kernel": "/k"}, {"no-reboot": null}]"#);
        Arguments.apply(&KeyPath::top("arguments"), &items, &mut machine, &mut report);

        assert_eq!(report.problems(), []);
        let given: Vec<String> = machine.arguments.iter().flat_map(Switch::words).collect();
        assert_eq!(given, ["-kernel", "/k", "-no-reboot"]);
    }

    #[test]
    fn test_argument_two_words_in_one_text_is_refused() {
        check_refused(r#""-smp 2""#, "`-smp 2` is not the name of an argument");
    }

    #[test]
    fn test_argument_comma_in_an_option_name_is_refused() {
        check_refused(r#"{"drive": {"a,readonly": "x"}}"#, "`a,readonly` cannot be the name of an option");
        check_refused(r#"{"drive": {"a=b": "x"}}"#, "`a=b` cannot be the name of an option");
        check_refused(r#"{"drive": {"": "x"}}"#, "`` cannot be the name of an option");
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
            check_refused(json, "a NUL cannot be part of a command line");
        }
    }

    #[test]
    fn test_argument_daemonize_is_refused_with_a_reason() {
        check_refused(
            r#""daemonize""#,
            "`daemonize` cannot be used here: maqet runs QEMU in the background already; leave it out",
        );
    }

    /// Reads an argument as QEMU does (`opts_do_parse`, 7.2): a part ends at a comma that is not doubled, its name at
    /// the first `=`; the first part may be a value alone.
    fn parsed_as_qemu(argument: &str) -> Vec<(Option<String>, String)> {
        let mut parsed = Vec::new();
        let mut rest = argument;
        loop {
            let name_end = rest.find(['=', ',']).filter(|at| rest[*at..].starts_with('='));
            let name = name_end.map(|end| rest[..end].to_owned());
            let mut value = String::new();
            rest = name_end.map_or(rest, |end| &rest[end + 1..]);
            loop {
                let (before, after) = rest.split_once(',').unwrap_or((rest, ""));
                let is_last = before.len() == rest.len();
                value.push_str(before);
                rest = after;
                match (is_last, after.strip_prefix(',')) {
                    (false, Some(after)) => {
                        value.push(',');
                        rest = after;
                    }
                    (true, _) => {
                        parsed.push((name, value));
                        return parsed;
                    }
                    (false, None) => break,
                }
            }
            parsed.push((name, value));
        }
    }

    fn option(key: &str, value: &str) -> (Option<String>, String) {
        (Some(key.to_owned()), value.to_owned())
    }

    proptest! {
        #[test]
        fn test_argument_any_values_come_back_from_qemus_parser(
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

            let switch = argument(&KeyPath::top("arguments").index(0), &Node::new(item), &mut report).unwrap();

            let expected = vec![
                (None, "driver".to_owned()),
                option("path", &first),
                option("cache.deep", &second),
                option("beside", &third),
            ];
            prop_assert_eq!(report.problems(), []);
            prop_assert_eq!(parsed_as_qemu(switch.argument().unwrap()), expected);
        }
    }
}
