//! An open tree of values that keeps their order and source locations.

use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::unusable_path::UnusablePath;
use super::{Raw, SourceLocation};
use crate::qemu::parse_bool;
use crate::text::shortened;

/// A value of a configuration and its source location.
///
/// Two nodes are equal if their values are; locations are for messages only and are not stored.
#[derive(Debug, Clone)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where the value is, if it came from a file or an option.
    pub value_location: Option<SourceLocation>,
    /// Where its key is, if it has one.
    pub key_location: Option<SourceLocation>,
    /// The spelling of a boolean or null other than `true`, `false` and `null`, as `True` or `~`.
    ///
    /// It is not stored: [`Node::with_texts`] makes it a string where a string is meant.
    pub spelling: Option<&'static str>,
}

/// The value of a [`Node`].
///
/// Maps keep their order, because the first key of a structured argument matters to QEMU.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `null`; in a merge it deletes.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A number with a fraction or exponent.
    Float(f64),
    /// A string.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// Keys and values in source order.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// Makes a node without a location.
    pub const fn new(value: Value) -> Self {
        Self { value, value_location: None, key_location: None, spelling: None }
    }

    /// Makes a string.
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(Value::Text(text.into()))
    }

    /// Makes an empty map.
    pub const fn empty_map() -> Self {
        Self::new(Value::Map(Vec::new()))
    }

    /// Returns the node with the location of its value set.
    #[must_use]
    pub fn at(self, location: SourceLocation) -> Self {
        Self { value_location: Some(location), ..self }
    }

    /// Returns the node with another value and the same locations.
    #[must_use]
    pub fn map_value(self, change: impl FnOnce(Value) -> Value) -> Self {
        Self { value: change(self.value), ..self }
    }

    /// Returns a map with other entries; anything else is unchanged.
    #[must_use]
    pub fn map_entries(self, change: impl FnOnce(Vec<(String, Self)>) -> Vec<(String, Self)>) -> Self {
        self.map_value(|value| match value {
            Value::Map(entries) => Value::Map(change(entries)),
            other => other,
        })
    }

    /// Returns a list with other items; anything else is unchanged.
    #[must_use]
    pub fn map_items(self, change: impl FnOnce(Vec<Self>) -> Vec<Self>) -> Self {
        self.map_value(|value| match value {
            Value::List(items) => Value::List(change(items)),
            other => other,
        })
    }

    /// Returns a relative path joined to `folder`, also one that is a number; anything else is unchanged, including what
    /// [`super::Diagnostics::path`] refuses, such as `~/a`.
    ///
    /// For `ConfigHandler::rebase`.
    #[must_use]
    pub fn rebased(self, folder: &Path) -> Self {
        let number = self.scalar().filter(|_| matches!(self.value, Value::Int(_) | Value::Float(_)));
        self.map_value(|value| match number.map_or(value, Value::Text) {
            Value::Text(text)
                if !text.is_empty() && Path::new(&text).is_relative() && UnusablePath::of_text(&text).is_none() =>
            {
                Value::Text(folder.join(text).to_string_lossy().into_owned())
            }
            other => other,
        })
    }

    /// Returns the tree with the strings that were written in place of booleans such as `True`, which [`Self::boolean`]
    /// reads, and of nulls in lists, where null means nothing.
    ///
    /// In a map null deletes, in any spelling; the same text in quotes is a string.
    #[must_use]
    pub fn with_texts(mut self) -> Self {
        self.spell(false, &|spelling, _| Some(spelling));
        self
    }

    /// Returns a list or map of options of QEMU like [`Self::with_texts`], except that `True` stays a boolean, which
    /// becomes `on`, and that a null in the list itself stays one.
    #[must_use]
    pub fn with_option_texts(mut self) -> Self {
        let text_of = |spelling, is_null: bool| is_null.then_some(spelling);
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(|item| item.spell(false, &text_of)),
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_) | Value::Map(_) => {
                self.spell(false, &text_of);
            }
        }
        self
    }

    /// Replaces booleans, and nulls in lists, by the text that `text_of` returns for the spelling.
    fn spell(&mut self, is_item: bool, text_of: &impl Fn(&'static str, bool) -> Option<&'static str>) {
        let text = match &mut self.value {
            Value::Map(entries) => return entries.iter_mut().for_each(|(_, node)| node.spell(false, text_of)),
            Value::List(items) => return items.iter_mut().for_each(|item| item.spell(true, text_of)),
            Value::Bool(_) => self.spelling.and_then(|spelling| text_of(spelling, false)),
            // An item with nothing in it stays null.
            Value::Null if is_item => {
                text_of(self.spelling.unwrap_or("null"), true).filter(|spelling| !spelling.is_empty())
            }
            Value::Null | Value::Int(_) | Value::Float(_) | Value::Text(_) => None,
        };
        if let Some(text) = text {
            self.value = Value::Text(text.to_owned());
        }
    }

    /// Returns the location for a message about this node: of a list or map under a key, that of the key.
    pub fn location(&self) -> Option<&SourceLocation> {
        match self.value {
            Value::List(_) | Value::Map(_) => self.key_location.as_ref().or(self.value_location.as_ref()),
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_) => {
                self.value_location.as_ref()
            }
        }
    }

    /// Returns the value of `key`, if this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entries().iter().find(|(name, _)| name == key).map(|(_, node)| node)
    }

    /// Returns the value of `key` unless it is null, which means the same as a missing key.
    pub fn non_null(&self, key: &str) -> Option<&Self> {
        self.get(key).filter(|node| !node.is_null())
    }

    /// Returns the string, if this is one.
    pub fn as_text(&self) -> Option<&str> {
        if let Value::Text(text) = &self.value { Some(text) } else { None }
    }

    /// Returns the entries of a map, and none for anything else.
    pub fn entries(&self) -> &[(String, Self)] {
        if let Value::Map(entries) = &self.value { entries } else { &[] }
    }

    /// Returns the items of a list, and none for anything else.
    pub fn items(&self) -> &[Self] {
        if let Value::List(items) = &self.value { items } else { &[] }
    }

    /// Returns the key of a map with nothing but a null: in a list, such an item deletes the earlier one of that name.
    pub fn deletion(&self) -> Option<&str> {
        if let [(key, value)] = self.entries() { value.is_null().then_some(key) } else { None }
    }

    /// Returns whether this is null.
    pub const fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// Returns a scalar as QEMU reads it: booleans as `on` and `off`, anything else as it was written.
    ///
    /// `None` for null, lists and maps. For a value that is not passed to QEMU's options, see [`Self::written`].
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

    /// Returns a scalar as it was written, for a value that is a text.
    ///
    /// `None` for null, lists and maps.
    pub fn written(&self) -> Option<String> {
        match &self.value {
            Value::Bool(value) => Some(self.spelling.map_or_else(|| value.to_string(), str::to_owned)),
            Value::Null | Value::Int(_) | Value::Float(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => {
                self.scalar()
            }
        }
    }

    /// Returns the boolean this is, also as one of the strings `on`, `yes`, `true` and `off`, `no`, `false`, or as YAML's
    /// `True` and `FALSE`.
    pub fn boolean(&self) -> Option<bool> {
        match &self.value {
            Value::Bool(value) => Some(*value),
            Value::Text(text) => match text.as_str() {
                "True" | "TRUE" => Some(true),
                "False" | "FALSE" => Some(false),
                text => parse_bool(text),
            },
            Value::Null | Value::Int(_) | Value::Float(_) | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// Describes the value as [`Self::description`] does, without itself: it is a secret.
    pub fn secret_description(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Int(_) | Value::Float(_) => "a number",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    /// Describes the value for a message: `a list`, ``the string `x` ``.
    pub fn description(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Bool(value) => format!("the boolean `{value}`"),
            Value::Int(value) => format!("the number `{value}`"),
            // `{:?}` keeps the fraction of `2.0`.
            Value::Float(value) => format!("the number `{value:?}`"),
            Value::Text(text) => format!("the string {}", shortened(text)),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
        }
    }
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
            Value::List(items) => serializer.collect_seq(items),
            Value::Map(entries) => serializer.collect_map(entries.iter().map(|(key, node)| (key, node))),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::new(match Raw::deserialize(deserializer)? {
            Raw::Scalar(value) => value,
            Raw::List(items) => Value::List(items),
            Raw::Map(entries) => Value::Map(entries),
        }))
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
    fn test_node_boolean_scalar_is_on_or_off() {
        assert_eq!(Node::new(Value::Bool(true)).scalar().as_deref(), Some("on"));
        assert_eq!(Node::new(Value::Bool(false)).scalar().as_deref(), Some("off"));
    }

    #[test]
    fn test_node_description_of_a_float_keeps_its_fraction() {
        assert_eq!(Node::new(Value::Float(2.0)).description(), "the number `2.0`");
        assert_eq!(Node::new(Value::Float(1e300)).description(), "the number `1e300`");
    }

    #[test]
    fn test_node_rebased_changes_relative_paths_only() {
        let rebased = |text: &str| Node::text(text).rebased(Path::new("/conf"));

        assert_eq!(rebased("a/b"), Node::text("/conf/a/b"));
        assert_eq!([rebased("/a"), rebased("")], [Node::text("/a"), Node::text("")]);
        assert_eq!([rebased("~/a"), rebased("~a")], [Node::text("~/a"), Node::text("/conf/~a")]);
        assert_eq!(Node::new(Value::Int(1)).rebased(Path::new("/conf")), Node::text("/conf/1"));
        assert_eq!(Node::new(Value::Bool(true)).rebased(Path::new("/conf")), Node::new(Value::Bool(true)));
    }

    #[test]
    fn test_node_number_beyond_i64_keeps_its_digits() {
        let node: Node = serde_json::from_str("18446744073709551615").unwrap();

        assert_eq!(node.scalar().as_deref(), Some("18446744073709551615"));
    }

    #[test]
    fn test_node_equality_ignores_the_location() {
        assert_eq!(Node::text("a"), Node::text("a").at(SourceLocation::named("f")));
    }
}
