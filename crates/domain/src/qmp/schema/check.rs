//! Arguments that are JSON already, looked at before QEMU is.

use serde_json::{Map, Value};

use super::key_value::{join, missing, unknown, wrong};
use super::types::{Object, Type, Types};
use super::{OPEN_COMMAND, SchemaError};

/// Checks the arguments of a command.
pub(super) fn arguments(
    types: &Types<'_>,
    command: &str,
    takes: usize,
    arguments: &Map<String, Value>,
) -> Result<(), SchemaError> {
    match types.get(takes) {
        Type::Object(object) => members(types, command, "", &object, arguments),
        _ => Ok(()),
    }
}

/// Checks one value.
pub(super) fn value(
    types: &Types<'_>,
    command: &str,
    path: &str,
    kind: usize,
    value: &Value,
) -> Result<(), SchemaError> {
    let self_check = |path: &str, kind, inner: &Value| self::value(types, command, path, kind, inner);
    let is_right = match (types.get(kind), value) {
        (Type::Object(object), Value::Object(map)) => return members(types, command, path, &object, map),
        (Type::List(item), Value::Array(items)) => {
            let mut each = items.iter().enumerate();
            return each.try_for_each(|(at, one)| self_check(&format!("{path}.{at}"), item, one));
        }
        (Type::Alternate(kinds), _) => match kinds.iter().find(|kind| is_of_shape(&types.get(**kind), value)) {
            Some(fitting) => return self_check(path, *fitting, value),
            None => false,
        },
        (Type::Words(words), Value::String(text)) => words.contains(&text.as_str()),
        (kind, value) => is_of_shape(&kind, value),
    };
    if is_right {
        return Ok(());
    }
    let given = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    Err(wrong(types, command, path, kind, &given))
}

fn members(
    types: &Types<'_>,
    command: &str,
    path: &str,
    object: &Object<'_>,
    given: &Map<String, Value>,
) -> Result<(), SchemaError> {
    let tag_value = |tag: &str| given.get(tag).and_then(Value::as_str).map(str::to_owned);
    let members = types.members(object, &tag_value);
    let lacking = || SchemaError::MissingArguments {
        command: command.to_owned(),
        missing: missing(path, &members, |name| given.contains_key(name)),
    };
    // Which members there are is known once the one that tells it is right.
    if let Some(tag) = object.tag.and_then(|tag| members.iter().find(|member| member.name == tag)) {
        match given.get(tag.name) {
            Some(inner) => value(types, command, &join(path, tag.name), tag.kind, inner)?,
            // A tag can never be left out (`docs/devel/qapi-code-gen.rst`, QEMU 7.2).
            None => return Err(lacking()),
        }
    }
    for (name, inner) in given {
        match members.iter().find(|member| member.name == name) {
            Some(member) => value(types, command, &join(path, name), member.kind, inner)?,
            None if command == OPEN_COMMAND => {}
            None => return Err(unknown(types, command, path, name, object, &members)),
        }
    }
    let is_given = |name: &str| given.contains_key(name);
    if missing(path, &members, is_given).is_empty() { Ok(()) } else { Err(lacking()) }
}

/// Returns whether a value is of the kind of JSON that a type has.
fn is_of_shape(kind: &Type<'_>, value: &Value) -> bool {
    match kind {
        Type::Text | Type::Words(_) => value.is_string(),
        Type::Int => value.is_i64() || value.is_u64(),
        Type::Number => value.is_number(),
        Type::Bool => value.is_boolean(),
        Type::Null => value.is_null(),
        Type::List(_) => value.is_array(),
        Type::Object(_) => value.is_object(),
        // No alternate is one of another.
        Type::Any | Type::Alternate(_) => true,
    }
}
