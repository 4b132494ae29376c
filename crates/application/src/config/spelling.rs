//! What a scalar without quotes is: the number or boolean that YAML makes of it, or the text that was written.

use maqet_domain::config::{Node, Value, number};

/// The spellings of booleans and null in YAML 1.2, except `true`, `false` and `null`; an empty value is null as well.
const SPELLINGS: [&str; 8] = ["True", "TRUE", "False", "FALSE", "~", "Null", "NULL", ""];

/// Returns the node of a scalar, whose value the YAML crate has made of the text that `written` returns.
///
/// A number in another spelling than ours and JSON's is a string: `0x10`, `1e5`, `24.10`, `1.0`, `+1`. What is stored as
/// JSON is therefore what was written. Booleans keep their spelling beside the value.
pub(super) fn as_written<'a>(value: Value, written: impl FnOnce() -> &'a str) -> Node {
    let value = match value {
        Value::Int(_) => text_unless(number::is_decimal, value, written()),
        Value::Float(float) => text_unless(|text| float.is_finite() && float.to_string() == text, value, written()),
        // The reader has made a string of an integer beyond `i64`.
        Value::Text(ref text) if is_large(text) => text_unless(|text| text.starts_with(['"', '\'']), value, written()),
        Value::Bool(_) | Value::Null => {
            let text = written();
            let spelling = SPELLINGS.into_iter().find(|spelling| *spelling == text);
            return Node { spelling, ..Node::new(value) };
        }
        Value::Text(_) | Value::List(_) | Value::Map(_) => value,
    };
    Node::new(value)
}

/// Returns the value if its text is one of it, else the text.
fn text_unless(is_same: impl FnOnce(&str) -> bool, value: Value, text: &str) -> Value {
    if text.is_empty() || is_same(text) { value } else { Value::Text(text.to_owned()) }
}

fn is_large(text: &str) -> bool {
    /// The digits of the largest `i64`.
    const DIGITS: usize = 19;
    text.len() >= DIGITS && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use maqet_domain::config::Problem;
    use maqet_domain::machine::{Machine, builtin_handlers};
    use maqet_domain::qemu::Switch;
    use maqet_domain::storage::builtin_drivers;

    use super::*;
    use crate::config::{read, rebased};

    /// Texts that YAML, or another version of it, takes for numbers, dates, booleans or null.
    const TEXTS: [&str; 44] = [
        "0x10",
        "0x1F",
        "0XfF",
        "0o17",
        "017",
        "0b1",
        "1e5",
        "1E5",
        "1.5e3",
        "24.10",
        "2.10",
        "1.0",
        "1.",
        ".5",
        "-.5",
        "-0",
        "+1",
        "+1.5",
        "1_000",
        "00",
        "007",
        "0.10",
        "12:30:00",
        "22:22",
        "2026-01-01",
        "2026-01-01T12:30:00Z",
        "52:54:00:12:34:56",
        "190:20:30",
        ".inf",
        "-.INF",
        ".nan",
        "1e999",
        "99999999999999999999999",
        "18446744073709551615",
        "+18446744073709551615",
        "0xFFFFFFFFFFFFFFFF",
        "-9223372036854775809",
        "yes",
        "No",
        "on",
        "Off",
        "y",
        "N",
        "685_230.15",
    ];

    /// Reads the value of a label, stores it, and reads it again.
    fn label(text: &str) -> Node {
        let handlers = builtin_handlers(&builtin_drivers().unwrap()).unwrap();
        let node = read("f", text).unwrap_or_else(|problems| panic!("{text}: {problems:?}"));
        let stored = serde_json::to_string(&rebased(node, Path::new("/"), &handlers)).unwrap();
        let node: Node = serde_json::from_str(&stored).unwrap();
        node.get("labels").unwrap().get("a").unwrap().clone()
    }

    #[test]
    fn test_scalar_that_yaml_changes_is_kept_as_written() {
        for text in TEXTS {
            for yaml in [
                format!("labels: {{a: {text}}}"),
                format!("labels:\n  a: {text}  # x\n"),
                format!("\u{feff}labels:\n  b: é\n  a:   &x {text}\n"),
                format!("labels: {{b: &x {text}, a: *x}}"),
                format!("b: &x {{a: {text}}}\nlabels: {{<<: *x}}"),
                format!("{{\"labels\": {{\"a\": {text} }}}}"),
                format!("labels:\r\n  a: {text}\r\n"),
            ] {
                assert_eq!(label(&yaml), Node::text(text), "{yaml}");
            }
        }
    }

    fn machine(text: &str) -> (Machine, Vec<Problem>) {
        let handlers = builtin_handlers(&builtin_drivers().unwrap()).unwrap();
        let node = rebased(read("f", text).unwrap(), Path::new("/"), &handlers);
        let stored: Node = serde_json::from_str(&serde_json::to_string(&node).unwrap()).unwrap();
        Machine::read(&stored, &handlers)
    }

    #[test]
    fn test_scalar_reaches_the_machine_as_written() {
        let words = ["true", "false", "True", "FALSE", "null", "~", "NULL", "16", "1.5"];
        for text in TEXTS.into_iter().chain(words) {
            let list = format!("[a, {text}]");
            let (machine, problems) =
                machine(&format!("args: [-a, {text}]\nhooks: {{vm.started: {list}}}\narguments: [x: {list}]"));

            assert_eq!(problems, []);
            assert_eq!((machine.args[1].as_str(), machine.hooks[0].command[1].as_str()), (text, text));
            let option = match text {
                "true" | "True" => "on",
                "false" | "FALSE" => "off",
                text => text,
            };
            assert_eq!(machine.arguments[0].argument(), Some(format!("a,{option}").as_str()));
        }
        for text in TEXTS.into_iter().chain(["true", "False", "16", "1.5"]) {
            let yaml = "cpu_model: TEXT\nlabels: {a: TEXT}\nnetwork: {model: TEXT}\nstorage: [{name: a, serial: TEXT}]";
            let serial = &text[..text.len().min(20)];
            let yaml = yaml.replace("serial: TEXT", &format!("serial: {serial}")).replace("TEXT", text);
            let (machine, problems) = machine(&yaml);

            assert_eq!(problems, []);
            assert_eq!((machine.cpu_model.as_deref(), machine.labels[0].1.as_str()), (Some(text), text));
            assert_eq!((machine.network[0].model.as_str(), machine.storage[0].serial.as_deref()), (text, Some(serial)));
        }
    }

    #[test]
    fn test_scalar_of_an_option_of_qemu_is_as_written() {
        let check = |text: &str, expected: &str| {
            let yaml =
                "arguments: [{device: e1000, addr: TEXT}, {x: {y: {z: TEXT}}}, {sandbox: TEXT}]\nmachine: {x: TEXT}";
            let (machine, problems) = machine(&yaml.replace("TEXT", text));

            assert_eq!(problems, []);
            let switches: Vec<_> =
                machine.arguments.iter().chain(&machine.machine_type).map(Switch::argument).collect();
            let expected = ["e1000,addr=", "y.z=", "", "x="].map(|before| Some(format!("{before}{expected}")));
            assert_eq!(switches, expected.each_ref().map(Option::as_deref));
        };

        for text in TEXTS.into_iter().chain(["16", "1.5"]) {
            check(text, text);
        }
        for (text, expected) in [("true", "on"), ("True", "on"), ("FALSE", "off"), ("'True'", "True"), ("'~'", "~")] {
            check(text, expected);
        }
    }

    #[test]
    fn test_scalar_number_in_another_spelling_is_refused_with_the_value() {
        let problem = |yaml: &str| {
            let [problem] = machine(yaml).1.try_into().unwrap();
            format!("{} ({})", problem.message, problem.help.unwrap_or_default())
        };

        let decimal = |value: u64| format!("(write the number in decimal digits: `{value}`)");
        let expected = "expected an integer from 1 to 1024, found the string";
        for (text, value) in [("0x2", 2), ("0o17", 15), ("1e2", 100), ("2.0", 2), ("+2", 2), ("1_0", 10)] {
            assert_eq!(problem(&format!("cpu: {text}")), format!("{expected} `{text}` {}", decimal(value)));
        }
        assert_eq!(problem("cpu: 017"), format!("{expected} `017` ()"));
        for (text, value) in [("0x400", 1024), ("1e3", 1000), ("+64", 64), ("1_024", 1024)] {
            let shown = problem(&format!("memory: {text}"));
            assert!(
                shown.starts_with(&format!("invalid size `{text}`")) && shown.ends_with(&decimal(value)),
                "{shown}"
            );
        }
        let bytes = |yaml: &str| machine(yaml).0.memory.to_string();
        assert_eq!(["memory: 1.5G", "memory: 64", "memory: 64.0"].map(bytes), ["1536M", "64M", "64M"]);
    }

    #[test]
    fn test_scalar_in_decimal_digits_is_a_number() {
        for (text, value) in [("0", 0), ("16", 16), ("-1", -1), ("9223372036854775807", i64::MAX)] {
            assert_eq!(label(&format!("labels: {{a: {text}}}")).value, Value::Int(value));
        }
        assert_eq!(label("labels: {a: 1.5}").value, Value::Float(1.5));
    }

    #[test]
    fn test_scalar_with_a_tag_has_its_type() {
        assert_eq!(label("labels: {a: !!int 0x10}").value, Value::Int(16));
        assert_eq!(label("labels: {a: !!str 16}").value, Value::Text("16".to_owned()));
        assert_eq!(label("labels: {a: !!float 1e3}").value, Value::Float(1000.0));
        assert_eq!(label("labels: {a: !!float .inf}").value, Value::Text(".inf".to_owned()));
    }

    #[test]
    fn test_scalar_boolean_in_another_spelling_is_kept_as_a_text() {
        for text in ["True", "TRUE", "False", "FALSE"] {
            assert_eq!(label(&format!("labels: {{a: {text}}}")).written().as_deref(), Some(text));
        }
        assert_eq!(label("labels: {a: true}").written().as_deref(), Some("true"));
    }
}
