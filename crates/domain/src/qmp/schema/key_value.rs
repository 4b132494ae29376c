//! From the words of a person to typed arguments.

use std::collections::HashMap;

use serde_json::{Map, Number, Value};

use super::error::shortened;
use super::types::{Member, Object, Type, Types};
use super::{OPEN_COMMAND, SchemaError, check};
use crate::size::ByteSize;
use crate::text::similar;

/// Arguments within arguments further down than this are a slip.
const DEEPEST: usize = 16;

/// What was given under a key.
#[derive(Debug)]
enum Given<'w> {
    /// Values, in the order they came.
    Values(Vec<&'w str>),
    /// Keys below it.
    Parts(Parts<'w>),
}

/// Keys and what was given under each, in the order they came; found by name, as a script may write thousands.
#[derive(Debug, Default)]
struct Parts<'w> {
    each: Vec<(&'w str, Given<'w>)>,
    paths: HashMap<&'w str, usize>,
}

impl<'w> Parts<'w> {
    fn get(&self, name: &str) -> Option<&Given<'w>> {
        self.paths.get(name).map(|at| &self.each[*at].1)
    }

    /// Puts a value under a path; false where a value and keys below it would stand at one place.
    fn put(&mut self, path: &[&'w str], value: &'w str) -> bool {
        let Some((first, rest)) = path.split_first() else { return false };
        let at = *self.paths.entry(first).or_insert_with(|| {
            let empty = if rest.is_empty() { Given::Values(Vec::new()) } else { Given::Parts(Parts::default()) };
            self.each.push((first, empty));
            self.each.len() - 1
        });
        match (&mut self.each[at].1, rest.is_empty()) {
            (Given::Values(values), true) => {
                values.push(value);
                true
            }
            (Given::Parts(inner), false) => inner.put(rest, value),
            (Given::Values(_), false) | (Given::Parts(_), true) => false,
        }
    }
}

/// Types the words of a command.
pub(super) fn read<'w>(
    types: &Types<'_>,
    command: &'w str,
    takes: usize,
    words: &'w [impl AsRef<str>],
) -> Result<Map<String, Value>, SchemaError> {
    let mut parts = Parts::default();
    for word in words {
        let word = word.as_ref();
        let malformed = || SchemaError::NotAnArgument { given: shortened(word), lacking: lacking(types, takes, words) };
        let (key, value) = word.split_once('=').ok_or_else(malformed)?;
        // The properties of a device have dots in their names, and no members.
        let path: Vec<&str> = if command == OPEN_COMMAND { vec![key] } else { key.split('.').collect() };
        if path.len() > DEEPEST || path.iter().any(|name| name.is_empty()) {
            return Err(malformed());
        }
        let twice = || SchemaError::Twice { command: command.to_owned(), argument: shortened(key) };
        parts.put(&path, value).then_some(()).ok_or_else(twice)?;
    }
    let reader = Reader { types, command, lists: 0 };
    match types.get(takes) {
        Type::Object(object) => reader.object("", &object, &parts),
        _ => Ok(Map::new()),
    }
}

/// Returns the first argument that a command cannot go without and that none of its words gives.
fn lacking(types: &Types<'_>, takes: usize, words: &[impl AsRef<str>]) -> Option<String> {
    let Type::Object(object) = types.get(takes) else { return None };
    let keys = || words.iter().filter_map(|word| word.as_ref().split_once('=')).map(|(key, _)| key);
    let is_given = |name: &str| keys().any(|key| key.split('.').next() == Some(name));
    missing("", &object.members, is_given).into_iter().next()
}

#[derive(Clone, Copy)]
struct Reader<'r, 'a> {
    types: &'r Types<'a>,
    command: &'r str,
    /// How many lists one word stands for: a list of itself, of a schema that somebody made up, never ends.
    lists: usize,
}

impl Reader<'_, '_> {
    fn value(&self, path: &str, kind: usize, given: &Given<'_>) -> Result<Value, SchemaError> {
        match (self.types.get(kind), given) {
            (Type::Object(object), Given::Parts(parts)) => self.object(path, &object, parts).map(Value::Object),
            (Type::List(item), _) => self.list(path, kind, item, given).map(Value::Array),
            (Type::Alternate(kinds), _) => self.alternate(path, kind, &kinds, given),
            (Type::Any, _) => Ok(anything(given)),
            (Type::Object(_), Given::Values(values)) => match json(values, '{') {
                Some(object) => self.checked(path, kind, object),
                None => Err(self.wrong(path, kind, given)),
            },
            (scalar, Given::Values(values)) => match values.as_slice() {
                [one] => scalar_of(&scalar, one).ok_or_else(|| self.wrong(path, kind, given)),
                _ => Err(SchemaError::Twice { command: self.command.to_owned(), argument: path.to_owned() }),
            },
            (_, Given::Parts(_)) => Err(self.wrong(path, kind, given)),
        }
    }

    fn object(&self, path: &str, object: &Object<'_>, parts: &Parts<'_>) -> Result<Map<String, Value>, SchemaError> {
        let given = |name: &str| parts.get(name);
        let tag_value = |tag: &str| match given(tag) {
            Some(Given::Values(values)) => values.last().map(|value| (*value).to_owned()),
            Some(Given::Parts(_)) | None => None,
        };
        let members = self.types.members(object, &tag_value);
        let member = |name: &str| members.iter().find(|member| member.name == name);
        self.tag(path, object, &members, given)?;

        let mut values = Map::with_capacity(parts.each.len());
        for (name, inner) in &parts.each {
            let below = join(path, name);
            let value = match member(name) {
                Some(member) => self.value(&below, member.kind, inner)?,
                None if self.command == OPEN_COMMAND => self.property(&below, inner)?,
                None => return Err(unknown(self.types, self.command, path, name, object, &members)),
            };
            values.insert((*name).to_owned(), value);
        }
        match missing(path, &members, |name| given(name).is_some()) {
            none if none.is_empty() => Ok(values),
            missing => Err(SchemaError::MissingArguments { command: self.command.to_owned(), missing }),
        }
    }

    /// Looks at the member that tells which others there are before these are.
    fn tag<'g>(
        &self,
        path: &str,
        object: &Object<'_>,
        members: &[Member<'_>],
        given: impl Fn(&str) -> Option<&'g Given<'g>>,
    ) -> Result<(), SchemaError> {
        let Some(tag) = object.tag.and_then(|tag| members.iter().find(|member| member.name == tag)) else {
            return Ok(());
        };
        match given(tag.name) {
            Some(value) => self.value(&join(path, tag.name), tag.kind, value).map(drop),
            None if tag.is_required => {
                let missing = missing(path, members, |name| given(name).is_some());
                Err(SchemaError::MissingArguments { command: self.command.to_owned(), missing })
            }
            None => Ok(()),
        }
    }

    /// Reads what the schema does not tell of: as a text, which QEMU reads as on its command line (7.2).
    fn property(&self, path: &str, given: &Given<'_>) -> Result<Value, SchemaError> {
        match given {
            Given::Values(values) if values.len() == 1 => Ok(Value::from(values[0])),
            Given::Values(_) | Given::Parts(_) => {
                Err(SchemaError::Twice { command: self.command.to_owned(), argument: path.to_owned() })
            }
        }
    }

    fn list(&self, path: &str, kind: usize, item: usize, given: &Given<'_>) -> Result<Vec<Value>, SchemaError> {
        match given {
            Given::Values(values) if values.as_slice() == [""] => Ok(Vec::new()),
            Given::Values(values) => {
                if let Some(list) = json(values, '[')
                    && let Value::Array(list) = self.checked(path, kind, list)?
                {
                    return Ok(list);
                }
                if self.lists == DEEPEST {
                    return Err(self.wrong(path, kind, given));
                }
                let inner = Self { lists: self.lists + 1, ..*self };
                let is_object = matches!(self.types.get(item), Type::Object(_));
                let one = |(at, value): (usize, &&str)| {
                    let at = is_object.then(|| format!("{path}.{at}"));
                    inner.value(at.as_deref().unwrap_or(path), item, &Given::Values(vec![*value]))
                };
                values.iter().enumerate().map(one).collect()
            }
            Given::Parts(parts) => {
                let numbered = parts.each.iter().filter_map(|(key, inner)| Some((key.parse().ok()?, inner)));
                let found: HashMap<usize, &Given<'_>> = numbered.collect();
                let items = (0..parts.each.len()).map(|at| {
                    let inner = found.get(&at).ok_or_else(|| self.wrong(path, kind, given))?;
                    self.value(&format!("{path}.{at}"), item, inner)
                });
                items.collect()
            }
        }
    }

    /// Takes the first of the types that fits: what only few texts are comes before what any text is.
    fn alternate(&self, path: &str, kind: usize, kinds: &[usize], given: &Given<'_>) -> Result<Value, SchemaError> {
        let of = |wanted: fn(&Type<'_>) -> bool| kinds.iter().find(|kind| wanted(&self.types.get(**kind)));
        let object = of(|kind| matches!(kind, Type::Object(_)));
        let list = of(|kind| matches!(kind, Type::List(_)));
        let values = match given {
            Given::Parts(parts) => {
                let is_list = parts.each.iter().all(|(key, _)| key.bytes().all(|byte| byte.is_ascii_digit()));
                let Some(of_many) = (if is_list { list.or(object) } else { object.or(list) }) else {
                    return Err(self.wrong(path, kind, given));
                };
                return self.value(path, *of_many, given);
            }
            Given::Values(values) => values,
        };
        for (many, bracket) in [(object, '{'), (list, '[')] {
            if let (Some(many), Some(value)) = (many, json(values, bracket)) {
                return self.checked(path, *many, value);
            }
        }
        if let [one] = values.as_slice() {
            let mut scalars: Vec<Type<'_>> = kinds.iter().map(|kind| self.types.get(*kind)).collect();
            scalars.sort_by_key(|scalar| matches!(scalar, Type::Text));
            if let Some(value) = scalars.iter().find_map(|scalar| scalar_of(scalar, one)) {
                return Ok(value);
            }
        }
        match list {
            Some(list) => self.value(path, *list, given),
            None => Err(self.wrong(path, kind, given)),
        }
    }

    fn checked(&self, path: &str, kind: usize, value: Value) -> Result<Value, SchemaError> {
        check::value(self.types, self.command, path, kind, &value)?;
        Ok(value)
    }

    fn wrong(&self, path: &str, kind: usize, given: &Given<'_>) -> SchemaError {
        let given = match given {
            Given::Values(values) => values.join(", "),
            Given::Parts(parts) => {
                parts.each.iter().map(|(key, _)| format!("{path}.{key}")).collect::<Vec<_>>().join(", ")
            }
        };
        wrong(self.types, self.command, path, kind, &given)
    }
}

/// Reads one text as a type that is neither object nor list; `None` where it is not of it.
fn scalar_of(scalar: &Type<'_>, text: &str) -> Option<Value> {
    match scalar {
        Type::Text => Some(Value::from(text)),
        Type::Int => whole_number(text).map(Value::Number),
        Type::Number => text.parse().ok().and_then(Number::from_f64).map(Value::Number),
        Type::Bool => match text {
            "on" | "yes" | "true" => Some(Value::Bool(true)),
            "off" | "no" | "false" => Some(Value::Bool(false)),
            _ => None,
        },
        Type::Null => (text == "null").then_some(Value::Null),
        Type::Words(words) => words.contains(&text).then(|| Value::from(text)),
        Type::Any | Type::List(_) | Type::Alternate(_) | Type::Object(_) => None,
    }
}

/// Reads a whole number, in decimal or as `0x…`, or a size such as `10G`, which is so many bytes.
pub(in crate::qmp) fn whole_number(text: &str) -> Option<Number> {
    if let Some(digits) = text.strip_prefix("0x").filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit())) {
        return u64::from_str_radix(digits, 16).ok().map(Number::from);
    }
    if text.starts_with('+') {
        return None;
    }
    let whole = text.parse::<u64>().map(Number::from).or_else(|_| text.parse::<i64>().map(Number::from));
    let size = || text.ends_with(|c: char| c.is_ascii_alphabetic()).then(|| text.parse::<ByteSize>().ok()).flatten();
    whole.ok().or_else(|| size().map(|size| Number::from(size.bytes())))
}

/// Reads what may be anything: JSON where it is some, a text where not.
fn anything(given: &Given<'_>) -> Value {
    let one = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
    match given {
        Given::Values(values) => match values.as_slice() {
            [value] => one(value),
            many => many.iter().map(|value| one(value)).collect(),
        },
        Given::Parts(parts) => parts.each.iter().map(|(key, inner)| ((*key).to_owned(), anything(inner))).collect(),
    }
}

/// Reads a single value that is JSON and begins with `bracket`.
fn json(values: &[&str], bracket: char) -> Option<Value> {
    let [one] = values else { return None };
    one.trim_start().starts_with(bracket).then(|| serde_json::from_str(one).ok()).flatten()
}

/// Returns the key of a member, as it is written on the command line.
pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Returns what is not given, of what cannot be left out.
pub(super) fn missing(path: &str, members: &[Member<'_>], is_given: impl Fn(&str) -> bool) -> Vec<String> {
    let lacking = members.iter().filter(|member| member.is_required && !is_given(member.name));
    lacking.map(|member| join(path, member.name)).collect()
}

/// Returns the error of a value that is not of its type.
pub(super) fn wrong(types: &Types<'_>, command: &str, path: &str, kind: usize, given: &str) -> SchemaError {
    let similar = match types.get(kind) {
        Type::Words(words) => similar(given, words),
        _ => Vec::new(),
    };
    let expected = match types.get(kind) {
        Type::Object(_) => format!("an object, as in `{path}.…=…`"),
        Type::List(_) => format!("a list, as in `{path}.0=…`"),
        _ => types.in_words(kind),
    };
    let (command, argument) = (command.to_owned(), path.to_owned());
    SchemaError::WrongValue { command, argument, given: shortened(given), expected, similar }
}

/// Returns the error of a name that is none of the members.
pub(super) fn unknown(
    types: &Types<'_>,
    command: &str,
    path: &str,
    name: &str,
    object: &Object<'_>,
    members: &[Member<'_>],
) -> SchemaError {
    let has_it = |kind: &usize| match types.get(*kind) {
        Type::Object(inner) => inner.members.iter().any(|member| member.name == name),
        _ => false,
    };
    let case = object.variants.iter().find(|(_, kind)| has_it(kind)).map(|(case, _)| *case);
    SchemaError::UnknownArgument {
        command: command.to_owned(),
        given: shortened(&join(path, name)),
        similar: similar(name, members.iter().map(|member| member.name)).iter().map(|name| join(path, name)).collect(),
        known: members.iter().map(|member| join(path, member.name)).collect(),
        goes_with: case.zip(object.tag).map(|(case, tag)| format!("{}={case}", join(path, tag))),
    }
}
