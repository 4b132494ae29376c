//! QEMU's option strings: `first,key=value,flag`, or the same as a JSON object.
//!
//! Most switches take one. QEMU splits it at single commas and reads a doubled comma as a comma of the value
//! (`opts_do_parse` and `keyval_parse`, 7.2 and 10.0). Nothing else in maqet splits an argument of QEMU at commas;
//! [`super::Switch`] is the other direction.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::parse_bool;

/// Switches whose argument can be a JSON object (7.2 and 10.0).
const JSON: [&str; 7] = ["audiodev", "blockdev", "device", "display", "incoming", "netdev", "object"];

/// The key of a first value that is written without one, for each switch (7.2 and 10.0).
const IMPLIED_KEYS: [(&str, &str); 27] = [
    ("accel", "accel"),
    ("audio", "driver"),
    ("audiodev", "driver"),
    ("blockdev", "driver"),
    ("boot", "order"),
    ("chardev", "backend"),
    ("device", "driver"),
    ("display", "type"),
    ("fsdev", "fsdriver"),
    ("fw_cfg", "name"),
    ("icount", "shift"),
    ("m", "size"),
    ("machine", "type"),
    ("mon", "chardev"),
    ("name", "guest"),
    ("net", "type"),
    ("netdev", "type"),
    ("nic", "type"),
    ("numa", "type"),
    ("object", "qom-type"),
    ("plugin", "file"),
    ("sandbox", "enable"),
    ("smp", "cpus"),
    ("tpmdev", "type"),
    ("trace", "enable"),
    ("virtfs", "fsdriver"),
    ("vnc", "vnc"),
];

/// A part of an option string, as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionPart<'a> {
    /// The key; `None` for a value or a flag without one.
    pub key: Option<&'a str>,
    /// The value, with its commas doubled.
    escaped: &'a str,
}

impl<'a> OptionPart<'a> {
    /// Returns the value, or the flag, as QEMU reads it.
    pub fn value(&self) -> Cow<'a, str> {
        if self.escaped.contains(",,") { self.escaped.replace(",,", ",").into() } else { self.escaped.into() }
    }

    /// Returns the value with its commas doubled, as in the argument.
    pub const fn as_written(&self) -> &'a str {
        self.escaped
    }

    /// Returns the value if this part has the key.
    fn value_of(&self, key: &str) -> Option<Cow<'a, str>> {
        self.key.filter(|known| *known == key).map(|_| self.value())
    }
}

/// Splits an option string that is not JSON.
///
/// ```
/// use maqet_domain::qemu::option_parts;
///
/// let values: Vec<_> = option_parts("socket,path=/a,,b,nowait").map(|part| part.value()).collect();
/// assert_eq!(values, ["socket", "/a,b", "nowait"]);
/// ```
pub fn option_parts(argument: &str) -> impl Iterator<Item = OptionPart<'_>> + Clone {
    let mut rest = argument;
    let mut is_first = true;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let name_end = rest.find(['=', ',']).unwrap_or(rest.len());
        let key = rest[name_end..].strip_prefix('=').map(|value| (&rest[..name_end], value));
        let value = key.map_or(rest, |(_, value)| value);
        // QEMU does not read doubled commas in a flag, which has no value.
        let end = if key.is_some() || is_first { value_end(value) } else { name_end };
        let part = OptionPart { key: key.map(|(key, _)| key), escaped: &value[..end] };
        rest = value[end..].strip_prefix(',').unwrap_or_default();
        is_first = false;
        Some(part)
    })
}

/// Returns where a value ends: at a single comma.
fn value_end(text: &str) -> usize {
    let mut commas = text.match_indices(',').map(|(at, _)| at).peekable();
    while let Some(at) = commas.next() {
        if commas.next_if_eq(&(at + 1)).is_none() {
            return at;
        }
    }
    text.len()
}

/// An option of an [`OptionString`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QemuOption {
    /// The key, those of nested objects joined with dots; empty for a first value whose switch has no key for it.
    pub key: String,
    /// The value, as text.
    pub value: String,
    /// Whether it is a flag: `on` or, after `no`, `off`.
    pub is_flag: bool,
}

/// The options of a switch of QEMU, whichever way they are written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OptionString {
    options: Vec<QemuOption>,
    implied_key: &'static str,
}

impl OptionString {
    /// Parses the argument of a switch, whose name is without hyphens and aliases.
    ///
    /// ```
    /// use maqet_domain::qemu::OptionString;
    ///
    /// for argument in ["e1000,addr=3", "driver=e1000,addr=3", r#"{"driver": "e1000", "addr": "3"}"#] {
    ///     let options = OptionString::parse("device", argument);
    ///     assert_eq!((options.head(), options.get("addr")), ("e1000", Some("3")));
    /// }
    /// ```
    pub fn parse(switch: &str, argument: &str) -> Self {
        let implied_key = implied_key(switch);
        let mut options = Vec::new();
        match json(switch, argument) {
            Some(object) => flatten("", &Value::Object(object), &mut options),
            None => options.extend(option_parts(argument).enumerate().map(|(index, part)| match part.key {
                Some(key) => QemuOption { key: key.to_owned(), value: part.value().into_owned(), is_flag: false },
                None if index == 0 => {
                    QemuOption { key: implied_key.to_owned(), value: part.value().into_owned(), is_flag: false }
                }
                None => flag(part.escaped),
            })),
        }
        Self { options, implied_key }
    }

    /// Returns all options in their order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &QemuOption> {
        self.options.iter()
    }

    /// Returns the value of an option, of which QEMU takes the last.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.options.iter().rfind(|option| option.key == key).map(|option| option.value.as_str())
    }

    /// Returns all values of an option that can be repeated, such as `hostfwd`.
    pub fn all<'s>(&'s self, key: &'s str) -> impl DoubleEndedIterator<Item = &'s str> {
        self.options.iter().filter(move |option| option.key == key).map(|option| option.value.as_str())
    }

    /// Returns whether an option is on.
    pub fn is_on(&self, key: &str) -> Option<bool> {
        self.get(key).and_then(parse_bool)
    }

    /// Returns the value of the option whose key can be left out, such as the driver of `-device`; empty without one.
    pub fn head(&self) -> &str {
        self.get(self.implied_key).unwrap_or_default()
    }

    /// Returns the key that can be left out; empty if the switch has none.
    pub const fn head_key(&self) -> &'static str {
        self.implied_key
    }
}

/// Returns the value of an option in an option string that is not JSON; QEMU takes the last.
pub fn option_value<'a>(argument: &'a str, key: &str) -> Option<Cow<'a, str>> {
    option_parts(argument).filter_map(|part| part.value_of(key)).last()
}

/// Returns the argument of a switch with other values: of each option for whose key and value `change` returns one.
pub fn with_values(switch: &str, argument: &str, change: impl Fn(&str, &str) -> Option<String>) -> String {
    if let Some(mut object) = json(switch, argument) {
        return if replace("", &mut object, &change) { Value::Object(object).to_string() } else { argument.to_owned() };
    }
    let change = |(index, part): (usize, OptionPart<'_>)| {
        let implied = Some(implied_key(switch)).filter(|key| index == 0 && !key.is_empty());
        let value = part.key.or(implied).and_then(|key| change(key, &part.value()));
        written(part.key, &value.map_or_else(|| part.escaped.into(), |value| Cow::Owned(value.replace(',', ",,"))))
    };
    option_parts(argument).enumerate().map(change).collect::<Vec<_>>().join(",")
}

/// Returns the argument of a switch without the options whose key, or flag, `keep` refuses; of nested ones that of the
/// outermost counts.
pub fn without_options(switch: &str, argument: &str, keep: impl Fn(&str) -> bool) -> String {
    if let Some(mut object) = json(switch, argument) {
        object.retain(|key, _| keep(key));
        return Value::Object(object).to_string();
    }
    let kept = option_parts(argument).filter(|part| keep(part.key.unwrap_or(part.escaped)));
    kept.map(|part| written(part.key, part.escaped)).collect::<Vec<_>>().join(",")
}

/// Returns the key of a first value without one; empty if the switch has none.
fn implied_key(switch: &str) -> &'static str {
    IMPLIED_KEYS.iter().find(|(known, _)| *known == switch).map_or("", |(_, key)| key)
}

fn written(key: Option<&str>, escaped: &str) -> String {
    key.map_or_else(|| escaped.to_owned(), |key| format!("{key}={escaped}"))
}

fn flag(name: &str) -> QemuOption {
    let (key, value) = name.strip_prefix("no").map_or((name, "on"), |name| (name, "off"));
    QemuOption { key: key.to_owned(), value: value.to_owned(), is_flag: true }
}

/// Returns the object of the JSON form, which QEMU tells by its first character.
fn json(switch: &str, argument: &str) -> Option<Map<String, Value>> {
    let is_json = argument.starts_with('{') && JSON.contains(&switch);
    is_json.then(|| serde_json::from_str(argument).unwrap_or_default())
}

/// Flattens nested values to the keys of the other form: `file.driver`, `hostfwd.0.str`.
fn flatten(key: &str, value: &Value, options: &mut Vec<QemuOption>) {
    let value = match value {
        Value::Object(map) => {
            return map.iter().for_each(|(name, value)| flatten(&joined(key, name), value, options));
        }
        Value::Array(items) => {
            let items = items.iter().enumerate();
            return items.for_each(|(index, value)| flatten(&joined(key, &index.to_string()), value, options));
        }
        Value::Null => return,
        Value::Bool(is_on) => if *is_on { "on" } else { "off" }.to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
    };
    options.push(QemuOption { key: key.to_owned(), value, is_flag: false });
}

/// Replaces the strings of an object; returns whether there was one.
fn replace(prefix: &str, object: &mut Map<String, Value>, change: &impl Fn(&str, &str) -> Option<String>) -> bool {
    let mut is_changed = false;
    for (name, value) in object {
        let key = joined(prefix, name);
        match value {
            Value::Object(inner) => is_changed |= replace(&key, inner, change),
            Value::String(text) => {
                if let Some(changed) = change(&key, text) {
                    is_changed |= changed != *text;
                    *text = changed;
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {}
        }
    }
    is_changed
}

fn joined(prefix: &str, key: &str) -> String {
    if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::qemu::Switch;

    fn options(switch: &str, argument: &str) -> Vec<String> {
        let parsed = OptionString::parse(switch, argument);
        parsed.iter().map(|option| format!("{}={}", option.key, option.value)).collect()
    }

    #[test]
    fn test_option_string_keys_values_and_flags() {
        for (switch, argument, expected) in [
            ("chardev", "socket,id=c,path=/a,,b,nowait", &["backend=socket", "id=c", "path=/a,b", "wait=off"][..]),
            ("drive", "file=/a,,,,b,if=ide,readonly", &["file=/a,,b", "if=ide", "readonly=on"]),
            ("device", "driver=e1000,id=", &["driver=e1000", "id="]),
            ("drive", "file=/a,,,if=ide", &["file=/a,", "if=ide"]),
            ("drive", "file=/a,", &["file=/a"]),
            ("drive", "file=/a=b,x=,y", &["file=/a=b", "x=", "y=on"]),
            ("vnc", "unix:/a,,b", &["vnc=unix:/a,b"]),
            ("serial", "unix:/a,server=on", &["=unix:/a", "server=on"]),
            ("device", "", &[]),
            ("append", "{a}", &["={a}"]),
        ] {
            assert_eq!(options(switch, argument), expected, "-{switch} {argument}");
        }
    }

    #[test]
    fn test_option_string_json_is_flattened() {
        let nested = r#"{"driver": "qcow2", "file": {"driver": "file", "filename": "/a,b"}, "read-only": true, "n": 1,
            "list": [{"str": "x"}], "none": null}"#;
        let expected =
            ["driver=qcow2", "file.driver=file", "file.filename=/a,b", "read-only=on", "n=1", "list.0.str=x"];

        assert_eq!(options("blockdev", nested), expected);
        assert_eq!(options("device", "{not JSON"), [""; 0]);
    }

    #[test]
    fn test_option_string_last_value_counts() {
        let parsed = OptionString::parse("machine", "q35,usb=off,usb=on,type=pc");

        assert_eq!((parsed.head(), parsed.is_on("usb"), parsed.get("smm")), ("pc", Some(true), None));
        assert_eq!(parsed.all("usb").collect::<Vec<_>>(), ["off", "on"]);
        assert_eq!(option_value("q35,a=1,,2,a=3,,4", "a").as_deref(), Some("3,4"));
        assert_eq!(OptionString::parse("drive", "file=x").head(), "");
    }

    #[test]
    fn test_with_values_changes_either_form() {
        let upper = |key: &str, value: &str| (key.ends_with("file")).then(|| format!("/d,{value}"));

        assert_eq!(with_values("drive", "a,file=x,,y,id=b", upper), "a,file=/d,,x,,y,id=b");
        assert_eq!(
            with_values("blockdev", r#"{"driver": "raw", "x": {"file": "y"}}"#, upper),
            r#"{"driver":"raw","x":{"file":"/d,y"}}"#
        );
        assert_eq!(with_values("plugin", "a.so,x=y", upper), "/d,,a.so,x=y");
        for unchanged in [r#"{"driver": "raw"}"#, "driver=raw,x"] {
            assert_eq!(with_values("blockdev", unchanged, upper), unchanged);
        }
    }

    #[test]
    fn test_without_options_keeps_the_others_as_written() {
        let keep = |key: &str| !["id", "file", "ro"].contains(&key);

        assert_eq!(without_options("drive", "file=/a,,b,if=ide,ro,x=1,,2,id=z", keep), "if=ide,x=1,,2");
        assert_eq!(without_options("device", r#"{"id": "a", "driver": "b"}"#, keep), r#"{"driver":"b"}"#);
    }

    /// Splits as `get_opt_value` (7.2): character by character.
    fn split_as_qemu(argument: &str) -> Vec<String> {
        let mut parts = vec![String::new()];
        let mut chars = argument.chars().peekable();
        while let Some(c) = chars.next() {
            if c == ',' && chars.next_if_eq(&',').is_none() {
                parts.push(String::new());
                continue;
            }
            parts.last_mut().unwrap().push(c);
        }
        parts
    }

    proptest! {
        /// What maqet writes is what it reads.
        #[test]
        fn test_option_string_reads_any_value_that_a_switch_writes(
            head in "[^=]+", first in any::<String>(), second in any::<String>()
        ) {
            let switch = Switch::new("device").head(&head).option("a", &first).option("b.c", &second).flag("d", false);

            let parsed = OptionString::parse("x", switch.argument().unwrap());

            prop_assert_eq!(parsed.head(), &head);
            prop_assert_eq!((parsed.get("a"), parsed.get("b.c")), (Some(&*first), Some(&*second)));
            prop_assert_eq!((parsed.is_on("d"), parsed.iter().count()), (Some(false), 4));
        }

        /// Parts with a key end where QEMU ends them.
        #[test]
        fn test_option_parts_end_where_qemu_ends_them(values in prop::collection::vec("[a=]{0,2}(,,){0,2}[a=]{0,2}", 1..5)) {
            let argument = values.iter().map(|value| format!("k={value}")).collect::<Vec<_>>().join(",");

            let parts: Vec<_> = option_parts(&argument).map(|part| format!("k={}", part.value())).collect();

            prop_assert_eq!(parts, split_as_qemu(&argument));
        }

        /// Any text is taken apart, and put together again unchanged.
        #[test]
        fn test_with_values_without_a_change_is_the_same_text(argument in "[a-c,=]{0,24}[a-c=]") {
            prop_assert_eq!(with_values("device", &argument, |_, _| None), argument);
        }

        #[test]
        fn test_option_string_takes_any_text(argument in any::<String>(), json in "[{}\":,a0\\[\\]]{0,12}") {
            for argument in [argument, format!("{{{json}")] {
                let parsed = OptionString::parse("device", &argument);
                prop_assert!(parsed.iter().count() <= argument.len());
            }
        }
    }
}
