//! JSON Schemas of the values that keys are made of.

use serde_json::{Value, json};

/// A text; a number or boolean is taken as it would be written.
pub fn text() -> Value {
    json!({ "type": ["string", "number", "boolean"] })
}

/// A size such as `2G`, or a number.
pub fn size() -> Value {
    json!({ "anyOf": [
        { "type": "integer", "minimum": 0 },
        { "type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?[bBkKmMgGtTpPeE]?$" },
    ] })
}

/// A whole number between two others; a text of digits counts.
pub fn whole(least: i64, most: i64) -> Value {
    json!({ "anyOf": [
        { "type": "integer", "minimum": least, "maximum": most },
        { "type": "string", "pattern": "^[0-9]+$" },
    ] })
}

/// `true` or `false`, in any of their words.
pub fn boolean() -> Value {
    json!({ "enum": [true, false, "true", "false", "on", "off", "yes", "no"] })
}

/// One of a few words.
pub fn one_of<'a>(words: impl IntoIterator<Item = &'a str>) -> Value {
    json!({ "enum": words.into_iter().collect::<Vec<_>>() })
}

/// A list.
pub fn list(item: &Value) -> Value {
    json!({ "type": ["array", "null"], "items": item })
}

/// A map of known keys, all of them optional.
pub fn map(properties: Vec<(&str, Value)>) -> Value {
    let properties: serde_json::Map<String, Value> = properties
        .into_iter()
        .map(|(key, schema)| (key.to_owned(), json!({ "anyOf": [schema, { "type": "null" }] })))
        .collect();
    json!({ "type": "object", "additionalProperties": false, "properties": properties })
}
