//! Compares arguments with the schema, before QEMU is asked.

use serde_json::{Map, Value};

use super::error::shortened;
use super::types::{Member, Object, Type, Types, join};
use super::{OPEN_COMMAND, SchemaError};
use crate::text::similar;

/// Checks the arguments of a command, whose type is `takes`.
pub(super) fn check(
    types: &Types<'_>,
    command: &str,
    takes: usize,
    arguments: &Map<String, Value>,
) -> Result<(), SchemaError> {
    match types.get(takes) {
        Type::Object(object) => Checker { types, command }.members("", &object, arguments),
        _ => Ok(()),
    }
}

/// Makes the error of a value that does not fit the type of `argument`.
pub(super) fn invalid_value(types: &Types<'_>, command: &str, argument: &str, kind: usize, value: &str) -> SchemaError {
    let (expected, similar) = match types.get(kind) {
        Type::Choice(names) => (types.describe(kind), similar(value, names)),
        Type::Object(_) => (format!("an object, as in `{argument}.…=…`"), Vec::new()),
        Type::List(_) => (format!("a list, as in `{argument}.0=…`"), Vec::new()),
        _ => (types.describe(kind), Vec::new()),
    };
    SchemaError::InvalidValue {
        command: command.to_owned(),
        argument: argument.to_owned(),
        value: shortened(value),
        expected,
        similar,
    }
}

struct Checker<'c, 'a> {
    types: &'c Types<'a>,
    command: &'c str,
}

impl Checker<'_, '_> {
    /// Checks the value at `path`.
    fn value(&self, path: &str, kind: usize, value: &Value) -> Result<(), SchemaError> {
        let fits = match (self.types.get(kind), value) {
            (Type::Object(object), Value::Object(map)) => return self.members(path, &object, map),
            (Type::List(item), Value::Array(items)) => {
                let mut items = items.iter().enumerate();
                return items.try_for_each(|(index, value)| self.value(&join(path, &index.to_string()), item, value));
            }
            (Type::Alternate(kinds), value) => {
                match kinds.into_iter().find(|kind| self.types.get(*kind).has_shape_of(value)) {
                    Some(kind) => return self.value(path, kind, value),
                    None => false,
                }
            }
            (Type::Choice(names), Value::String(text)) => names.contains(&text.as_str()),
            (kind, value) => kind.has_shape_of(value),
        };
        if fits {
            return Ok(());
        }
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Err(invalid_value(self.types, self.command, path, kind, &value))
    }

    /// Checks the members of the object at `path`.
    fn members(&self, path: &str, object: &Object<'_>, values: &Map<String, Value>) -> Result<(), SchemaError> {
        let members = self.types.members(object, &|tag| values.get(tag)?.as_str().map(str::to_owned));
        // The other members depend on the tag, which is always required (`docs/devel/qapi-code-gen.rst`, QEMU 7.2).
        if let Some(tag) = object.tag.and_then(|tag| members.iter().find(|member| member.name == tag)) {
            match values.get(tag.name) {
                Some(value) => self.value(&join(path, tag.name), tag.kind, value)?,
                None => return Err(self.required(missing(path, &members, values))),
            }
        }
        for (name, value) in values {
            match members.iter().find(|member| member.name == name) {
                Some(member) => self.value(&join(path, name), member.kind, value)?,
                None if self.command == OPEN_COMMAND => {}
                None => return Err(self.not_found(path, name, object, &members)),
            }
        }
        let missing = missing(path, &members, values);
        if missing.is_empty() { Ok(()) } else { Err(self.required(missing)) }
    }

    fn required(&self, missing: Vec<String>) -> SchemaError {
        SchemaError::ArgumentsRequired { command: self.command.to_owned(), missing }
    }

    fn not_found(&self, path: &str, name: &str, object: &Object<'_>, members: &[Member<'_>]) -> SchemaError {
        let has_name = |kind: usize| matches!(self.types.get(kind), Type::Object(inner) if inner.members.iter().any(|one| one.name == name));
        let case = object.variants.iter().find(|(_, kind)| has_name(*kind)).map(|(case, _)| *case);
        let names = || members.iter().map(|member| member.name);
        SchemaError::ArgumentNotFound {
            command: self.command.to_owned(),
            argument: shortened(&join(path, name)),
            similar: similar(name, names()).iter().map(|name| join(path, name)).collect(),
            known: names().map(|name| join(path, name)).collect(),
            requires: case.zip(object.tag).map(|(case, tag)| format!("{}={case}", join(path, tag))),
        }
    }
}

/// Returns the required members that have no value.
fn missing(path: &str, members: &[Member<'_>], values: &Map<String, Value>) -> Vec<String> {
    let missing = members.iter().filter(|member| member.is_required && !values.contains_key(member.name));
    missing.map(|member| join(path, member.name)).collect()
}
