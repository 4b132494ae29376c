//! JSON Schemas for the values of configuration keys.

use serde_json::{Value, json};

/// A string, or a number or boolean in its place.
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

/// An integer in a range, or a string of digits.
pub fn integer(min: i64, max: i64) -> Value {
    json!({ "anyOf": [
        { "type": "integer", "minimum": min, "maximum": max },
        { "type": "string", "pattern": "^(0|[1-9][0-9]*)$" },
    ] })
}

/// A boolean, or one of the strings for it.
pub fn boolean() -> Value {
    json!({ "enum": [true, false, "true", "false", "on", "off", "yes", "no"] })
}

/// One of these strings.
pub fn one_of<'a>(values: impl IntoIterator<Item = &'a str>) -> Value {
    json!({ "enum": values.into_iter().collect::<Vec<_>>() })
}

/// A list.
pub fn list(item: &Value) -> Value {
    json!({ "type": ["array", "null"], "items": item })
}

/// An item of a list that deletes the earlier item of a name, as `{data: null}`.
pub fn deletion() -> Value {
    json!({ "type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": { "type": "null" } })
}

/// A map of known keys, all of them optional.
pub fn map(properties: Vec<(&str, Value)>) -> Value {
    let properties: serde_json::Map<String, Value> = properties
        .into_iter()
        .map(|(key, schema)| (key.to_owned(), json!({ "anyOf": [schema, { "type": "null" }] })))
        .collect();
    json!({ "type": "object", "additionalProperties": false, "properties": properties })
}
