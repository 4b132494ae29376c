//! `--set key.path=value`: setting one value of a definition.

use maqet_domain::config::{Node, Problem, SourceLocation, Value, names_secrets};
use maqet_domain::machine::ConfigHandler;
use maqet_domain::network::default_card_name;
use maqet_domain::registry::Registry;

use super::merge::{NAMED_LISTS, merge};
use super::{read, with_texts};

/// Maps whose keys may contain dots and whose values are not maps: the rest of a path is one key.
const FLAT_MAPS: [&str; 2] = ["hooks", "labels"];

/// A text that is not a valid `key.path=value`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot set `{}`: {reason}", value.escape_debug())]
#[expect(missing_docs, reason = "the message names the fields")]
pub struct InvalidSetting {
    pub value: String,
    pub reason: &'static str,
    pub help: Option<String>,
}

impl From<InvalidSetting> for Problem {
    fn from(invalid: InvalidSetting) -> Self {
        let message = invalid.to_string();
        let help = invalid.help.unwrap_or_else(|| "run `maqet config keys` to list the keys".to_owned());
        let location = Some(SourceLocation::named("option `--set`"));
        Self { help: Some(help), location, ..Self::new("", message) }
    }
}

/// A value and its path, read from `key.path=value`.
pub(super) struct Setting {
    keys: Vec<String>,
    location: SourceLocation,
    value: Node,
    is_named: bool,
}

/// Returns `base` with one value set, as in `memory=4G` or `storage.hdd.size=20G`.
///
/// The value is read as YAML, so `[a, b]`, `true` and `null` mean the same as in a file; a list replaces the previous one.
/// After a list of named entries the next part of the path is a name. A part with dots is quoted, as in
/// `storage."a.b".size=20G`; after `hooks` and `labels` the rest of the path is one key.
pub fn set(base: Node, setting: &str, handlers: &Registry<dyn ConfigHandler>) -> Result<Node, InvalidSetting> {
    let setting = Setting::read(&base, setting)?;
    Ok(setting.over(base, handlers))
}

/// Sets a value with the built-in keys.
#[cfg(test)]
pub(super) fn set_builtin(base: Node, setting: &str) -> Result<Node, InvalidSetting> {
    let drivers = maqet_domain::storage::builtin_drivers().unwrap();
    set(base, setting, &maqet_domain::machine::builtin_handlers(&drivers).unwrap())
}

impl Setting {
    /// Parses a setting for `base`.
    pub(super) fn read(base: &Node, setting: &str) -> Result<Self, InvalidSetting> {
        let invalid = |reason, help| InvalidSetting { value: without_secret(setting), reason, help };
        let (keys, end) = path_of(setting).map_err(|reason| invalid(reason, None))?;
        let path = &setting[..end];
        let text = &setting[end + 1..];
        if matches!(keys[0].as_str(), "arguments" | "args") {
            return Err(invalid("`arguments` can only be changed in a file", None));
        }
        let location = SourceLocation::named(format!("option `--set {path}`"));
        let value = with_texts(&keys[0], value_of(text, &location));
        let is_drive = keys == ["storage"] && value.get("name").is_some();
        let value = if is_drive { value.clone().map_value(|_| Value::List(vec![value])) } else { value };
        if value.is_null() && !NULLS.contains(&text.trim()) {
            // Rarely intended, as when a shell variable is not set.
            let help = format!("use `--set {path}=null` to delete it, or `--set '{path}=\"\"'` for an empty string");
            return Err(invalid("the value is missing", Some(help)));
        }
        let is_named = is_named_list(base, &keys, &value);
        if let [_, _, rest @ ..] = keys.as_slice()
            && is_named
        {
            check_entry(rest, &value).map_err(|reason| invalid(reason, None))?;
        }
        Ok(Self { keys, location, value, is_named })
    }

    /// Returns `base` with the value set.
    pub(super) fn over(self, base: Node, handlers: &Registry<dyn ConfigHandler>) -> Node {
        let Self { keys, location, value, is_named } = self;
        let layer = |value| nested(&keys, is_named, value, &location);
        let is_replaced = matches!(value.value, Value::List(_)) && !(is_named && keys.len() == 1);
        let base = if is_replaced { merge(base, layer(Node::new(Value::Null)), handlers) } else { base };
        merge(base, layer(value), handlers)
    }
}

/// Returns a setting without its value, if that may be a secret.
fn without_secret(setting: &str) -> String {
    match setting.find(|char: char| char == '=' || char.is_whitespace()) {
        Some(at) if names_secrets(setting) => format!("{}…", &setting[..=at].trim_end()),
        None if names_secrets(setting) => "…".to_owned(),
        _ => setting.to_owned(),
    }
}

/// The spellings of null in YAML.
const NULLS: [&str; 4] = ["null", "Null", "NULL", "~"];

/// Returns the parts of the path, without quotes, and the position of the `=` after it.
fn path_of(setting: &str) -> Result<(Vec<String>, usize), &'static str> {
    let mut keys = vec![String::new()];
    let mut is_quoted = false;
    let end = setting.char_indices().find_map(|(at, letter)| {
        match (letter, keys.last_mut()) {
            ('"', _) => is_quoted = !is_quoted,
            ('=', _) if !is_quoted => return Some(at),
            ('.', _) if !is_quoted => keys.push(String::new()),
            (letter, last) => last.into_iter().for_each(|last| last.push(letter)),
        }
        None
    });
    let end = match end {
        Some(end) => end,
        None if is_quoted => return Err("unclosed quote in the path"),
        None => return Err("expected `key.path=value`"),
    };
    if keys.iter().any(String::is_empty) {
        return Err("empty part in the path");
    }
    if FLAT_MAPS.contains(&keys[0].as_str()) && keys.len() > 2 {
        let rest = keys.split_off(1).join(".");
        keys.push(rest);
    }
    Ok((keys, end))
}

/// Returns whether the first key is a list of named entries; a single network card is a map or a string.
fn is_named_list(base: &Node, keys: &[String], value: &Node) -> bool {
    let is_one_card = || match base.get("network").map(|node| &node.value) {
        Some(Value::Map(_)) => !is_its_name(base.get("network"), &keys[1]),
        Some(Value::List(_)) => false,
        Some(Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_)) | None => {
            keys.len() == 2 && !matches!(value.value, Value::Map(_))
        }
    };
    NAMED_LISTS.contains(&keys[0].as_str()) && !(keys[0] == "network" && keys.len() > 1 && is_one_card())
}

/// Returns whether a part of a path is the name of a single card, and not one of its keys.
fn is_its_name(card: Option<&Node>, part: &str) -> bool {
    let name = card.and_then(|card| card.get("name")).and_then(Node::written).unwrap_or_else(|| default_card_name(0));
    name == part && card.is_none_or(|card| card.get(part).is_none())
}

/// Refuses settings without effect: an entry is found by its name, and is a map.
fn check_entry(rest: &[String], value: &Node) -> Result<(), &'static str> {
    match (rest, &value.value) {
        ([key, ..], _) if key == "name" => Err("the name of an entry can only be changed in a file"),
        ([], Value::Map(_)) if value.get("name").is_some() => Err("the path already contains the name of the entry"),
        ([], Value::Map(_) | Value::Null) | ([_, ..], _) => Ok(()),
        ([], Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_) | Value::List(_)) => {
            Err("an entry is a map; set one of its keys, as in `storage.hdd.size=20G`")
        }
    }
}

fn value_of(text: &str, location: &SourceLocation) -> Node {
    let wrapped = read("--set", &format!("value: {text}")).ok();
    // A line break in the text could start another key.
    let value = wrapped.filter(|node| node.entries().len() == 1).and_then(|node| node.get("value").cloned());
    located_at(value.unwrap_or_else(|| Node::text(text)), location)
}

/// Reads the value of a flag: digits are a number, as in a file; anything else is a string.
pub(super) fn number_or_text(text: &str) -> Node {
    let number = read("flag", text).ok().filter(|node| matches!(node.value, Value::Int(_) | Value::Float(_)));
    // Anything else beside the number makes it a string.
    number.filter(|node| node.scalar().as_deref() == Some(text)).unwrap_or_else(|| Node::text(text))
}

/// Sets the location of the whole tree.
fn located_at(node: Node, location: &SourceLocation) -> Node {
    let node = node
        .map_items(|items| items.into_iter().map(|item| located_at(item, location)).collect())
        .map_entries(|entries| entries.into_iter().map(|(key, node)| (key, located_at(node, location))).collect());
    Node { value_location: Some(location.clone()), key_location: Some(location.clone()), ..node }
}

/// Nests the value under its keys; the second is the name of an entry if `is_named`.
fn nested(keys: &[String], is_named: bool, value: Node, location: &SourceLocation) -> Node {
    let map = |entries: Vec<(String, Node)>| located_at(Node::new(Value::Map(entries)), location);
    match keys {
        [] => value,
        [list, name] if is_named && value.is_null() => {
            let items = located_at(Node::new(Value::List(vec![map(vec![(name.clone(), value)])])), location);
            map(vec![(list.clone(), items)])
        }
        [list, name, rest @ ..] if is_named => {
            let mut entry = vec![("name".to_owned(), Node::text(name.as_str()))];
            entry.extend(nested(rest, false, value, location).entries().iter().cloned());
            let items = located_at(Node::new(Value::List(vec![map(entry)])), location);
            map(vec![(list.clone(), items)])
        }
        [key, rest @ ..] => map(vec![(key.clone(), nested(rest, false, value, location))]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(base: &str, setting: &str) -> Result<String, InvalidSetting> {
        let base = serde_json::from_str(base).unwrap();
        set_builtin(base, setting).map(|node| serde_json::to_string(&node).unwrap())
    }

    #[track_caller]
    fn check(base: &str, setting: &str, expected: &str) {
        assert_eq!(over(base, setting).unwrap(), expected, "{setting}");
    }

    #[test]
    fn test_set_path_becomes_nested_keys() {
        check("{}", "memory=4G", r#"{"memory":"4G"}"#);
        check("{}", "labels.team=a=b", r#"{"labels":{"team":"a=b"}}"#);
        check("{}", "labels.team=0x10", r#"{"labels":{"team":"0x10"}}"#);
        check("{}", "labels={a: 1.0, b: True}", r#"{"labels":{"a":"1.0","b":"True"}}"#);
        check("{}", "machine={a: 1e5, b: True}", r#"{"machine":{"a":"1e5","b":true}}"#);
        check(r#"{"machine":{"a":1}}"#, "machine.network.b=2", r#"{"machine":{"a":1,"network":{"b":2}}}"#);
        check("{}", "cpu=4", r#"{"cpu":4}"#);
        check("{}", "vga=null", r#"{"vga":null}"#);
        check(r#"{"vga":"std"}"#, "vga=null", "{}");
    }

    #[test]
    fn test_set_below_a_named_list_finds_the_entry_by_name() {
        check("{}", "storage.hdd.size=20G", r#"{"storage":[{"name":"hdd","size":"20G"}]}"#);
        check(
            r#"{"storage":[{"name":"a"},{"name":"b","size":"1G"}]}"#,
            "storage.b={size: 2G, file: x}",
            r#"{"storage":[{"name":"a"},{"name":"b","size":"2G","file":"x"}]}"#,
        );
        check(r#"{"storage":[{"name":"a"}]}"#, "storage=[{name: b}]", r#"{"storage":[{"name":"a"},{"name":"b"}]}"#);
        check(
            r#"{"network":[{"name":"n"}]}"#,
            "network.n.model=e1000",
            r#"{"network":[{"name":"n","model":"e1000"}]}"#,
        );
        check(r#"{"storage":[{"name":"a"},{"name":"b"}]}"#, "storage.a=null", r#"{"storage":[{"name":"b"}]}"#);
        check("{}", "storage.a=null", r#"{"storage":[{"a":null}]}"#);
        check("{}", "storage={name: a}", r#"{"storage":[{"name":"a"}]}"#);
        check("{}", "network.n.mode=user", r#"{"network":[{"name":"n","mode":"user"}]}"#);
    }

    /// Merging a list over the map would lose the other keys of the card.
    #[test]
    fn test_set_below_a_single_card_changes_its_key() {
        let card = r#"{"network":{"forward":["1:22"]}}"#;

        check(card, "network.model=e1000", r#"{"network":{"forward":["1:22"],"model":"e1000"}}"#);
        check("{}", "network.mode=passt", r#"{"network":{"mode":"passt"}}"#);
        check(r#"{"network":"none"}"#, "network.mode=user", r#"{"network":{"mode":"user"}}"#);
        check(card, "network=none", r#"{"network":"none"}"#);
        let named = r#"{"network":[{"name":"net0","forward":["1:22"],"model":"e1000"}]}"#;
        check(card, "network.net0.model=e1000", named);
        check(card, "network.net0=null", r#"{"network":[]}"#);
        check(
            r#"{"network":{"name":"lan"}}"#,
            "network.lan.model=e1000",
            r#"{"network":[{"name":"lan","model":"e1000"}]}"#,
        );
    }

    #[test]
    fn test_set_below_a_scalar_keeps_what_it_stands_for() {
        check(r#"{"machine":"q35"}"#, "machine.usb=on", r#"{"machine":{"type":"q35","usb":"on"}}"#);
        check(r#"{"machine":{"usb":"on"}}"#, "machine=q35", r#"{"machine":{"usb":"on","type":"q35"}}"#);
        check(r#"{"sound":"ac97"}"#, "sound.backend=pa", r#"{"sound":{"model":"ac97","backend":"pa"}}"#);
        check(r#"{"storage":[{"name":"a"}]}"#, "storage={serial: y}", r#"{"storage":[{"name":"a","serial":"y"}]}"#);
    }

    #[test]
    fn test_set_list_replaces_the_previous_one() {
        let cards = r#"{"network":[{"name":"n","forward":["1:22"]},"none"]}"#;

        check(cards, "network.n.forward=['2:22']", r#"{"network":[{"name":"n","forward":["2:22"]},"none"]}"#);
        check(cards, "network.n.forward=[]", r#"{"network":[{"name":"n","forward":[]},"none"]}"#);
        check(r#"{"network":{"forward":["1:22"]}}"#, "network.forward=['2:22']", r#"{"network":{"forward":["2:22"]}}"#);
    }

    #[test]
    fn test_set_key_with_dots_is_reached() {
        let started = r#"{"hooks":{"vm.started":["true"]}}"#;

        check("{}", "hooks.vm.started=['true']", started);
        check("{}", r#"hooks."vm.started"=['true']"#, started);
        check(started, "hooks.vm.started=null", r#"{"hooks":{}}"#);
        check("{}", "labels.example.com/team=a", r#"{"labels":{"example.com/team":"a"}}"#);
        check("{}", r#"labels."a=b"=c"#, r#"{"labels":{"a=b":"c"}}"#);
        check("{}", r#"storage."my.disk".size=1G"#, r#"{"storage":[{"name":"my.disk","size":"1G"}]}"#);
    }

    /// As `--set memory=$SIZE` if the shell variable is not set.
    #[test]
    fn test_set_without_value_is_an_error_and_null_deletes() {
        for setting in ["memory=", "memory= ", "labels.a=", "memory=# 4G"] {
            let invalid = over(r#"{"memory":"1G"}"#, setting).unwrap_err();

            let path = setting.split('=').next().unwrap();
            assert!(invalid.help.unwrap().starts_with(&format!("use `--set {path}=null` to delete it")), "{setting}");
        }
        check(r#"{"memory":"1G"}"#, "memory=~", "{}");
        check("{}", "labels.a=''", r#"{"labels":{"a":""}}"#);
    }

    #[test]
    fn test_set_value_that_is_not_yaml_is_a_string() {
        check("{}", "display=a: b: c", r#"{"display":"a: b: c"}"#);
        check("{}", "labels.a=b\nmemory: 1G", r#"{"labels":{"a":"b\nmemory: 1G"}}"#);
    }

    #[test]
    fn test_set_malformed_setting_is_an_error() {
        for setting in ["memory", "=1", "a..b=1", "arguments.m=1", "a.\"b=1", "a.\"\"=1"] {
            assert!(over("{}", setting).is_err(), "{setting}");
        }
    }

    #[test]
    fn test_set_malformed_secret_is_not_shown() {
        for setting in
            ["credentials..a=s3cret", "credentials.a s3cret", "credentials.\"a=s3cret", "seed.users.a s3cret"]
        {
            let shown = over("{}", setting).unwrap_err().to_string();

            assert!(!shown.contains("s3cret"), "{shown}");
        }
    }

    #[test]
    fn test_set_entry_without_effect_is_an_error() {
        for setting in ["storage.a=5", "storage.a=[b]", "storage.a.name=b", "storage.a={name: b}"] {
            assert!(over(r#"{"storage":[{"name":"a"}]}"#, setting).is_err(), "{setting}");
        }
        assert!(over(r#"{"network":[{"name":"n"}]}"#, "network.mode=user").is_err());
    }
}
