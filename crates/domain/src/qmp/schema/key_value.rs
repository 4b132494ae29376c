//! Turns `key=value` arguments into JSON.
//!
//! [`Tree`] is the syntax: which values were given under which key. [`Converter`] turns it into JSON by the types of the
//! schema. A value that does not convert stays a string, and is refused by the checker with everything else that does not
//! fit; only what has no JSON form is refused here.

use std::collections::HashMap;

use serde_json::{Map, Number, Value};

use super::check::invalid_value;
use super::error::shortened;
use super::types::{Object, Type, Types, join};
use super::{OPEN_COMMAND, SchemaError};
use crate::qemu::parse_bool;
use crate::size::ByteSize;

/// The maximum depth of nested arguments; deeper keys are mistakes.
const MAX_DEPTH: usize = 16;

/// What was given under a key.
#[derive(Debug)]
enum Node<'w> {
    /// Values, in order.
    Values(Vec<&'w str>),
    /// Keys below it.
    Tree(Tree<'w>),
}

/// Keys and what was given under each, in order; indexed by name, as a script may write thousands.
#[derive(Debug, Default)]
struct Tree<'w> {
    nodes: Vec<(&'w str, Node<'w>)>,
    index: HashMap<&'w str, usize>,
}

impl<'w> Tree<'w> {
    /// Adds a value at `path`; false if a key had both a value and keys below it.
    fn insert(&mut self, path: &[&'w str], value: &'w str) -> bool {
        let Some((first, rest)) = path.split_first() else { return false };
        let index = *self.index.entry(first).or_insert_with(|| {
            let empty = if rest.is_empty() { Node::Values(Vec::new()) } else { Node::Tree(Tree::default()) };
            self.nodes.push((first, empty));
            self.nodes.len() - 1
        });
        match (&mut self.nodes[index].1, rest.is_empty()) {
            (Node::Values(values), true) => {
                values.push(value);
                true
            }
            (Node::Tree(inner), false) => inner.insert(rest, value),
            (Node::Values(_), false) | (Node::Tree(_), true) => false,
        }
    }

    fn get(&self, name: &str) -> Option<&Node<'w>> {
        self.index.get(name).map(|index| &self.nodes[*index].1)
    }

    /// Returns the nodes of a list, if the keys are `0`, `1` and so on.
    fn items(&self) -> Option<Vec<&Node<'w>>> {
        let items: HashMap<usize, &Node<'_>> =
            self.nodes.iter().filter_map(|(key, node)| Some((key.parse().ok()?, node))).collect();
        (0..self.nodes.len()).map(|index| items.get(&index).copied()).collect()
    }
}

/// Converts the arguments of a command, whose type is `takes`.
///
/// Errors: `InvalidSyntax`, `DuplicateArgument`, `InvalidValue`.
pub(super) fn to_json<'w>(
    types: &Types<'_>,
    command: &str,
    takes: usize,
    args: &'w [impl AsRef<str>],
) -> Result<Map<String, Value>, SchemaError> {
    let Type::Object(object) = types.get(takes) else { return Ok(Map::new()) };
    let mut tree = Tree::default();
    for arg in args {
        let arg = arg.as_ref();
        let invalid = || SchemaError::InvalidSyntax { arg: shortened(arg), missing: first_missing(&object, args) };
        let (key, value) = arg.split_once('=').ok_or_else(invalid)?;
        // Device properties have dots in their names, and no members.
        let path: Vec<&'w str> = if command == OPEN_COMMAND { vec![key] } else { key.split('.').collect() };
        if path.len() > MAX_DEPTH || path.iter().any(|name| name.is_empty()) {
            return Err(invalid());
        }
        if !tree.insert(&path, value) {
            return Err(SchemaError::DuplicateArgument { command: command.to_owned(), argument: shortened(key) });
        }
    }
    Converter { types, command, list_depth: 0 }.object("", &object, &tree)
}

/// Returns the first required argument that no argument gives.
fn first_missing(object: &Object<'_>, args: &[impl AsRef<str>]) -> Option<String> {
    let is_given = |name: &str| {
        let mut keys = args.iter().filter_map(|arg| arg.as_ref().split_once('=')).map(|(key, _)| key);
        keys.any(|key| key.split('.').next() == Some(name))
    };
    object.members.iter().find(|member| member.is_required && !is_given(member.name)).map(|one| one.name.to_owned())
}

#[derive(Clone, Copy)]
struct Converter<'c, 'a> {
    types: &'c Types<'a>,
    command: &'c str,
    /// How many lists one value stands for; a list of itself, in an invented schema, never ends.
    list_depth: usize,
}

impl Converter<'_, '_> {
    fn object(&self, path: &str, object: &Object<'_>, tree: &Tree<'_>) -> Result<Map<String, Value>, SchemaError> {
        let members = self.types.members(object, &|tag| match tree.get(tag)? {
            Node::Values(values) => values.last().map(|value| (*value).to_owned()),
            Node::Tree(_) => None,
        });
        let convert = |(name, node): &(&str, Node<'_>)| {
            let path = join(path, name);
            let value = match members.iter().find(|member| member.name == *name) {
                Some(member) => self.value(&path, member.kind, node)?,
                // QEMU parses the strings of device properties as on its command line (7.2).
                None if self.command == OPEN_COMMAND => self.single(&path, node)?.into(),
                // The checker refuses the name.
                None => Value::Null,
            };
            Ok(((*name).to_owned(), value))
        };
        tree.nodes.iter().map(convert).collect()
    }

    fn value(&self, path: &str, kind: usize, node: &Node<'_>) -> Result<Value, SchemaError> {
        match (self.types.get(kind), node) {
            (Type::Object(object), Node::Tree(tree)) => self.object(path, &object, tree).map(Value::Object),
            (Type::List(item), _) => self.list(path, kind, item, node),
            (Type::Alternate(kinds), _) => self.alternate(path, kind, &kinds, node),
            (Type::Any, _) => Ok(anything(node)),
            (Type::Object(_), Node::Values(values)) => match json(values, '{') {
                Some(object) => Ok(object),
                None => Err(self.invalid(path, kind, node)),
            },
            (scalar, Node::Values(_)) => {
                let text = self.single(path, node)?;
                Ok(scalar.convert(text).unwrap_or_else(|| text.into()))
            }
            (_, Node::Tree(_)) => Err(self.invalid(path, kind, node)),
        }
    }

    fn list(&self, path: &str, kind: usize, item: usize, node: &Node<'_>) -> Result<Value, SchemaError> {
        match node {
            Node::Values(values) if values.as_slice() == [""] => Ok(Value::Array(Vec::new())),
            Node::Values(values) => {
                if let Some(list) = json(values, '[') {
                    return Ok(list);
                }
                if self.list_depth == MAX_DEPTH {
                    return Err(self.invalid(path, kind, node));
                }
                let inner = Self { list_depth: self.list_depth + 1, ..*self };
                let is_object = matches!(self.types.get(item), Type::Object(_));
                let convert = |(index, value): (usize, &&str)| {
                    let path = if is_object { join(path, &index.to_string()) } else { path.to_owned() };
                    inner.value(&path, item, &Node::Values(vec![*value]))
                };
                values.iter().enumerate().map(convert).collect()
            }
            Node::Tree(tree) => {
                let items = tree.items().ok_or_else(|| self.invalid(path, kind, node))?;
                let items = items.into_iter().enumerate();
                items.map(|(index, node)| self.value(&join(path, &index.to_string()), item, node)).collect()
            }
        }
    }

    /// Chooses the first type that fits: those few texts belong to before those that any text belongs to.
    fn alternate(&self, path: &str, kind: usize, kinds: &[usize], node: &Node<'_>) -> Result<Value, SchemaError> {
        let find = |is_wanted: fn(&Type<'_>) -> bool| kinds.iter().find(|kind| is_wanted(&self.types.get(**kind)));
        let object = find(|kind| matches!(kind, Type::Object(_)));
        let list = find(|kind| matches!(kind, Type::List(_)));
        let values = match node {
            Node::Values(values) => values,
            Node::Tree(tree) => {
                let is_numbered = tree.nodes.iter().all(|(key, _)| key.bytes().all(|byte| byte.is_ascii_digit()));
                let container = if is_numbered { list.or(object) } else { object.or(list) };
                return match container {
                    Some(container) => self.value(path, *container, node),
                    None => Err(self.invalid(path, kind, node)),
                };
            }
        };
        let literal = object.and_then(|_| json(values, '{')).or_else(|| list.and_then(|_| json(values, '[')));
        let scalar = || {
            let [text] = values.as_slice() else { return None };
            let mut scalars: Vec<Type<'_>> = kinds.iter().map(|kind| self.types.get(*kind)).collect();
            scalars.sort_by_key(|scalar| matches!(scalar, Type::Text));
            scalars.iter().find_map(|scalar| scalar.convert(text))
        };
        match (literal.or_else(scalar), list) {
            (Some(value), _) => Ok(value),
            (None, Some(list)) => self.value(path, *list, node),
            (None, None) => Err(self.invalid(path, kind, node)),
        }
    }

    /// Returns the only value of a key.
    fn single<'n>(&self, path: &str, node: &'n Node<'_>) -> Result<&'n str, SchemaError> {
        match node {
            Node::Values(values) if values.len() == 1 => Ok(values[0]),
            Node::Values(_) | Node::Tree(_) => {
                Err(SchemaError::DuplicateArgument { command: self.command.to_owned(), argument: path.to_owned() })
            }
        }
    }

    fn invalid(&self, path: &str, kind: usize, node: &Node<'_>) -> SchemaError {
        let value = match node {
            Node::Values(values) => values.join(", "),
            Node::Tree(tree) => tree.nodes.iter().map(|(key, _)| join(path, key)).collect::<Vec<_>>().join(", "),
        };
        invalid_value(self.types, self.command, path, kind, &value)
    }
}

impl Type<'_> {
    /// Converts a text to a scalar type; `None` if it is not of that type, or the type is not scalar.
    fn convert(&self, text: &str) -> Option<Value> {
        match self {
            Type::Text => Some(text.into()),
            Type::Int => parse_integer(text).map(Value::Number),
            Type::Number => text.parse().ok().and_then(Number::from_f64).map(Value::Number),
            Type::Bool => parse_bool(text).map(Value::Bool),
            Type::Null => (text == "null").then_some(Value::Null),
            Type::Choice(names) => names.contains(&text).then(|| text.into()),
            Type::Any | Type::List(_) | Type::Alternate(_) | Type::Object(_) => None,
        }
    }
}

/// Parses an integer, in decimal or as `0x…`, or a size in bytes, as in `10G`.
pub(in crate::qmp) fn parse_integer(text: &str) -> Option<Number> {
    if let Some(digits) = text.strip_prefix("0x").filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit())) {
        return u64::from_str_radix(digits, 16).ok().map(Number::from);
    }
    if text.starts_with('+') {
        return None;
    }
    let integer = text.parse::<u64>().map(Number::from).or_else(|_| text.parse::<i64>().map(Number::from));
    let size = || text.ends_with(|c: char| c.is_ascii_alphabetic()).then(|| text.parse::<ByteSize>().ok()).flatten();
    integer.ok().or_else(|| size().map(|size| Number::from(size.bytes())))
}

/// Converts to whatever JSON there is: a value is parsed as JSON, and is a string where that fails.
fn anything(node: &Node<'_>) -> Value {
    let parse = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| text.into());
    match node {
        Node::Values(values) => match values.as_slice() {
            [value] => parse(value),
            values => values.iter().map(|value| parse(value)).collect(),
        },
        Node::Tree(tree) => tree.nodes.iter().map(|(key, node)| ((*key).to_owned(), anything(node))).collect(),
    }
}

/// Parses a single value that is JSON and begins with `bracket`.
fn json(values: &[&str], bracket: char) -> Option<Value> {
    let [value] = values else { return None };
    value.trim_start().starts_with(bracket).then(|| serde_json::from_str(value).ok()).flatten()
}
