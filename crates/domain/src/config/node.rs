//! An open tree that keeps order and remembers where it came from.

use crate::text::shortened;
use std::fmt;
use std::path::Path;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::SourceLocation;

/// A value of a configuration and where it stands.
///
/// Two nodes are equal when their values are; the place is for messages only and is not stored.
#[derive(Debug, Clone)]
pub struct Node {
    /// What it is.
    pub value: Value,
    /// Where it stands, if it came from a file or a flag.
    pub place: Option<SourceLocation>,
    /// Where its key stands, if it stands under one.
    pub key: Option<SourceLocation>,
}

/// What a [`Node`] can be.
///
/// Maps keep their order, because the first key of a structured argument matters to QEMU.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing; in a merge it deletes.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number with a fraction, as the words it was written in would be read.
    Float(f64),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// Keys and values in the order they were written.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// Makes a node that stands nowhere.
    pub const fn new(value: Value) -> Self {
        Self { value, place: None, key: None }
    }

    /// Makes a text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(Value::Text(text.into()))
    }

    /// Makes an empty map.
    pub const fn empty_map() -> Self {
        Self::new(Value::Map(Vec::new()))
    }

    /// Returns the node with a place.
    #[must_use]
    pub fn at(self, place: SourceLocation) -> Self {
        Self { place: Some(place), ..self }
    }

    /// Returns the node with another value, standing where this one stands.
    #[must_use]
    pub fn map_value(self, change: impl FnOnce(Value) -> Value) -> Self {
        Self { value: change(self.value), place: self.place, key: self.key }
    }

    /// Returns a relative path made absolute: it is one below `folder`. Anything else stays as it is, also what begins
    /// with `~/`, which [`super::Diagnostics::path`] refuses.
    ///
    /// For `ConfigHandler::rebase`.
    #[must_use]
    pub fn rebased(self, folder: &Path) -> Self {
        self.map_value(|value| match value {
            Value::Text(text) if !text.is_empty() && !is_of_home(&text) && Path::new(&text).is_relative() => {
                Value::Text(folder.join(text).to_string_lossy().into_owned())
            }
            other => other,
        })
    }

    /// Returns where a reader looks for what is wrong inside: a map or list under a key is looked for at the key.
    pub fn whereabouts(&self) -> Option<&SourceLocation> {
        match self.value {
            Value::List(_) | Value::Map(_) => self.key.as_ref().or(self.place.as_ref()),
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_) => self.place.as_ref(),
        }
    }

    /// Returns what stands under `key`, if this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entries().iter().find(|(name, _)| name == key).map(|(_, node)| node)
    }

    /// Returns what stands under `key` unless that is nothing, which says as much as no key.
    pub fn given(&self, key: &str) -> Option<&Self> {
        self.get(key).filter(|node| !node.is_null())
    }

    /// Returns the text, if this is one.
    pub fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// Returns the entries of a map, and none for anything else.
    pub fn entries(&self) -> &[(String, Self)] {
        match &self.value {
            Value::Map(entries) => entries,
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_) | Value::List(_) => &[],
        }
    }

    /// Returns the items of a list, and none for anything else.
    pub fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_) | Value::Map(_) => &[],
        }
    }

    /// Returns whether this is nothing.
    pub const fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// Returns a scalar as QEMU reads it: `on` and `off` for booleans, numbers as they are.
    ///
    /// Nothing for null, lists and maps.
    pub fn scalar(&self) -> Option<String> {
        match &self.value {
            Value::Bool(true) => Some("on".to_owned()),
            Value::Bool(false) => Some("off".to_owned()),
            Value::Int(number) => Some(number.to_string()),
            Value::Float(number) => Some(number.to_string()),
            Value::Text(text) => Some(text.clone()),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// Returns what it claims, in any of the words for it: `on`, `yes`, `true` and `off`, `no`, `false`.
    pub fn boolean(&self) -> Option<bool> {
        match (&self.value, self.as_text()) {
            (Value::Bool(value), _) => Some(*value),
            (_, Some("on" | "yes" | "true")) => Some(true),
            (_, Some("off" | "no" | "false")) => Some(false),
            (_, _) => None,
        }
    }

    /// Returns what it is, for a message: `a list`, ``the text `x` ``.
    pub fn in_words(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Bool(value) => format!("the boolean `{value}`"),
            Value::Int(value) => format!("the number `{value}`"),
            // A fraction shows that it is one, `2.0` too.
            Value::Float(value) => format!("the number `{value:?}`"),
            Value::Text(text) => format!("the text {}", shortened(text)),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
        }
    }
}

/// Returns whether a shell would begin this path with the home folder.
pub(super) fn is_of_home(text: &str) -> bool {
    text == "~" || text.starts_with("~/")
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl From<Value> for Node {
    fn from(value: Value) -> Self {
        Self::new(value)
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.value {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::Int(value) => serializer.serialize_i64(*value),
            Value::Float(value) => serializer.serialize_f64(*value),
            Value::Text(text) => serializer.serialize_str(text),
            Value::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(item)?;
                }
                list.end()
            }
            Value::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, node) in entries {
                    map.serialize_entry(key, node)?;
                }
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor).map(Self::new)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of a configuration")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value))
    }

    /// A number beyond `i64` stays exact as a text; QEMU is given the same digits.
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or_else(|_| Value::Text(value.to_string()), Value::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Value::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_node_json_round_trip_keeps_the_order_of_keys() {
        let text = r#"{"z":1,"a":[null,true,1.5,"x"],"m":{"y":-2,"b":{}}}"#;

        let node: Node = serde_json::from_str(text).unwrap();

        assert_eq!(serde_json::to_string(&node).unwrap(), text);
    }

    #[test]
    fn test_node_boolean_reads_as_qemu_writes_it() {
        assert_eq!(Node::new(Value::Bool(true)).scalar().as_deref(), Some("on"));
        assert_eq!(Node::new(Value::Bool(false)).scalar().as_deref(), Some("off"));
    }

    #[test]
    fn test_node_fraction_in_words_shows_that_it_is_one() {
        assert_eq!(Node::new(Value::Float(2.0)).in_words(), "the number `2.0`");
        assert_eq!(Node::new(Value::Float(1e300)).in_words(), "the number `1e300`");
    }

    #[test]
    fn test_node_rebased_is_below_the_folder_if_it_is_a_relative_path() {
        let rebased = |text: &str| Node::text(text).rebased(Path::new("/conf"));

        assert_eq!(rebased("a/b"), Node::text("/conf/a/b"));
        assert_eq!([rebased("/a"), rebased("")], [Node::text("/a"), Node::text("")]);
        assert_eq!([rebased("~/a"), rebased("~a")], [Node::text("~/a"), Node::text("/conf/~a")]);
        assert_eq!(Node::new(Value::Int(1)).rebased(Path::new("/conf")), Node::new(Value::Int(1)));
    }

    #[test]
    fn test_node_number_beyond_i64_keeps_its_digits() {
        let node: Node = serde_json::from_str("18446744073709551615").unwrap();

        assert_eq!(node.scalar().as_deref(), Some("18446744073709551615"));
    }

    #[test]
    fn test_node_equality_ignores_the_place() {
        assert_eq!(Node::text("a"), Node::text("a").at(SourceLocation::named("f")));
    }
}
