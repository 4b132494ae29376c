//! `--set key.path=value`: one value of a definition.

use maqet_domain::config::{Node, Place, Value};

use super::merge::NAMED_LISTS;
use super::read;

/// A text that is no `key.path=value`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` cannot be set: {why}", given.escape_debug())]
pub struct InvalidSetting {
    /// What was given.
    pub given: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Returns the layer that sets one value, as in `memory=4G` or `storage.hdd.size=20G`.
///
/// The value is read as YAML, so `[a, b]`, `true` and `null` mean what they mean in a file. Below a list of named
/// things the next part of the path is a name.
pub fn layer_of(setting: &str) -> Result<Node, InvalidSetting> {
    let invalid = |why| InvalidSetting { given: setting.to_owned(), why };
    let (path, text) = setting.split_once('=').ok_or_else(|| invalid("write it as `key.path=value`"))?;
    let keys: Vec<&str> = path.split('.').collect();
    if keys.iter().any(|key| key.is_empty()) {
        return Err(invalid("a part of the path is empty"));
    }
    if matches!(keys[0], "arguments" | "args") {
        return Err(invalid("lists of switches are changed in a file"));
    }
    let place = Place::named(format!("flag `--set {path}`"));
    let value = value_of(text, &place);
    Ok(nested(&keys, value, &place))
}

fn value_of(text: &str, place: &Place) -> Node {
    let wrapped = read("--set", &format!("value: {text}")).ok();
    let value = wrapped.and_then(|node| node.get("value").cloned());
    at(value.unwrap_or_else(|| Node::text(text)), place)
}

/// Reads the value of a flag: digits are a number, as in a file, and anything else is a text.
pub(super) fn number_or_text(text: &str) -> Node {
    let number = read("flag", text).ok().filter(|node| matches!(node.value, Value::Int(_) | Value::Float(_)));
    // With anything beside the number it is no number.
    number.filter(|node| node.scalar().as_deref() == Some(text)).unwrap_or_else(|| Node::text(text))
}

/// Puts the whole tree at one place.
fn at(node: Node, place: &Place) -> Node {
    let value = match node.value {
        Value::List(items) => Value::List(items.into_iter().map(|item| at(item, place)).collect()),
        Value::Map(entries) => Value::Map(entries.into_iter().map(|(key, node)| (key, at(node, place))).collect()),
        scalar => scalar,
    };
    Node { value, place: Some(place.clone()), key: Some(place.clone()) }
}

fn nested(keys: &[&str], value: Node, place: &Place) -> Node {
    let map = |entries: Vec<(String, Node)>| at(Node::new(Value::Map(entries)), place);
    match keys {
        [] => value,
        [list, name, rest @ ..] if NAMED_LISTS.contains(list) => {
            let mut entry = vec![("name".to_owned(), Node::text(*name))];
            entry.extend(nested(rest, value, place).entries().iter().cloned());
            let items = at(Node::new(Value::List(vec![map(entry)])), place);
            map(vec![((*list).to_owned(), items)])
        }
        [key, rest @ ..] => map(vec![((*key).to_owned(), nested(rest, value, place))]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(setting: &str, expected: &str) {
        assert_eq!(serde_json::to_string(&layer_of(setting).unwrap()).unwrap(), expected);
    }

    #[test]
    fn test_set_path_becomes_nested_keys() {
        check("memory=4G", r#"{"memory":"4G"}"#);
        check("labels.team=a=b", r#"{"labels":{"team":"a=b"}}"#);
        check("cpu=4", r#"{"cpu":4}"#);
        check("vga=null", r#"{"vga":null}"#);
    }

    #[test]
    fn test_set_below_a_named_list_finds_the_entry_by_name() {
        check("storage.hdd.size=20G", r#"{"storage":[{"name":"hdd","size":"20G"}]}"#);
    }

    #[test]
    fn test_set_value_that_is_no_yaml_is_a_text() {
        check("display=a: b: c", r#"{"display":"a: b: c"}"#);
    }

    #[test]
    fn test_set_without_a_value_or_key_is_refused() {
        for setting in ["memory", "=1", "a..b=1", "arguments.m=1"] {
            assert!(layer_of(setting).is_err(), "{setting}");
        }
    }
}
