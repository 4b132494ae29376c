//! The types of a schema, each parsed when it is needed.
//!
//! | line | type |
//! | --- | --- |
//! | `s`, `i`, `n`, `b`, `0`, `*` | a string, an integer, a number, a boolean, null, anything |
//! | `e one two` | one of these names |
//! | `l 7` | a list of type 7 |
//! | `a 3 7` | type 3 or type 7 |
//! | `o name:3 other?:7 @driver file:9` | an object; where `driver` is `file` it also has the members of type 9 |

use serde_json::Value;

use super::Schema;
use crate::text::quoted_list;

/// The maximum number of choices in a message; a keyboard has 151 keys. A similar one is in the hint anyway.
const MAX_CHOICES: usize = 24;

/// The maximum depth of nested variants; an invented schema may be recursive.
const MAX_DEPTH: usize = 16;

/// The types of a schema by their numbers.
pub(super) struct Types<'a> {
    lines: Vec<&'a str>,
}

/// A type.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Type<'a> {
    Text,
    Int,
    Number,
    Bool,
    Null,
    Any,
    Choice(Vec<&'a str>),
    List(usize),
    Alternate(Vec<usize>),
    Object(Object<'a>),
}

/// A type with members.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Object<'a> {
    pub(super) members: Vec<Member<'a>>,
    /// The member whose value selects a variant, and the variants by that value.
    pub(super) tag: Option<&'a str>,
    pub(super) variants: Vec<(&'a str, usize)>,
}

/// A member of an object.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Member<'a> {
    pub(super) name: &'a str,
    pub(super) is_required: bool,
    pub(super) kind: usize,
}

impl<'a> Types<'a> {
    pub(super) fn new(schema: &'a Schema) -> Self {
        Self { lines: schema.type_lines().collect() }
    }

    /// Returns a type; one that does not exist takes anything, and QEMU decides.
    pub(super) fn get(&self, number: usize) -> Type<'a> {
        self.lines.get(number).map_or(Type::Any, |line| parse(line))
    }

    /// Returns a type, or those that it alternates between.
    pub(super) fn alternatives(&self, number: usize) -> impl Iterator<Item = Type<'a>> {
        let numbers = if let Type::Alternate(numbers) = self.get(number) { numbers } else { vec![number] };
        numbers.into_iter().map(|number| self.get(number))
    }

    /// Returns the members of an object, including those of the variants that `tag_value` selects.
    pub(super) fn members(&self, object: &Object<'a>, tag_value: &dyn Fn(&str) -> Option<String>) -> Vec<Member<'a>> {
        let mut members = Vec::new();
        self.collect(object, tag_value, 0, &mut members);
        members
    }

    fn collect(
        &self,
        object: &Object<'a>,
        tag_value: &dyn Fn(&str) -> Option<String>,
        depth: usize,
        members: &mut Vec<Member<'a>>,
    ) {
        members.extend(&object.members);
        let Some(value) = object.tag.and_then(tag_value) else { return };
        let variant = object.variants.iter().find(|(case, _)| *case == value);
        if let Some((_, number)) = variant
            && depth < MAX_DEPTH
            && let Type::Object(inner) = self.get(*number)
        {
            self.collect(&inner, tag_value, depth + 1, members);
        }
    }

    /// Describes what a type takes, for messages.
    pub(super) fn describe(&self, number: usize) -> String {
        self.describe_nested(number, false)
    }

    fn describe_nested(&self, number: usize, is_nested: bool) -> String {
        match self.get(number) {
            Type::Text => "a string".to_owned(),
            Type::Int => "an integer".to_owned(),
            Type::Number => "a number".to_owned(),
            Type::Bool => "`on` or `off`".to_owned(),
            Type::Null => "null".to_owned(),
            Type::Any => "a value".to_owned(),
            Type::Choice(names) => match names.as_slice() {
                [] => "nothing".to_owned(),
                [one] => format!("`{one}`"),
                many if many.len() <= MAX_CHOICES => format!("one of {}", quoted_list(many)),
                many => format!("one of {} and {} more", quoted_list(&many[..MAX_CHOICES]), many.len() - MAX_CHOICES),
            },
            Type::List(_) => "a list".to_owned(),
            Type::Object(_) => "an object".to_owned(),
            Type::Alternate(_) if is_nested => "a value".to_owned(),
            Type::Alternate(numbers) => {
                let each: Vec<String> = numbers.iter().map(|number| self.describe_nested(*number, true)).collect();
                each.join(" or ")
            }
        }
    }
}

impl Type<'_> {
    /// Returns whether a value is of the kind of JSON that the type has.
    pub(super) fn has_shape_of(&self, value: &Value) -> bool {
        match self {
            Type::Text | Type::Choice(_) => value.is_string(),
            Type::Int => value.is_i64() || value.is_u64(),
            Type::Number => value.is_number(),
            Type::Bool => value.is_boolean(),
            Type::Null => value.is_null(),
            Type::List(_) => value.is_array(),
            Type::Object(_) => value.is_object(),
            // Alternates do not nest.
            Type::Any | Type::Alternate(_) => true,
        }
    }
}

/// Returns the key of a member, as it is written on the command line.
pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn parse(line: &str) -> Type<'_> {
    let mut words = line.split(' ');
    match words.next() {
        Some("s") => Type::Text,
        Some("i") => Type::Int,
        Some("n") => Type::Number,
        Some("b") => Type::Bool,
        Some("0") => Type::Null,
        Some("e") => Type::Choice(words.collect()),
        Some("l") => words.next().and_then(|number| number.parse().ok()).map_or(Type::Any, Type::List),
        Some("a") => Type::Alternate(words.filter_map(|number| number.parse().ok()).collect()),
        Some("o") => object(words),
        Some(_) | None => Type::Any,
    }
}

fn object<'a>(words: impl Iterator<Item = &'a str>) -> Type<'a> {
    let mut object = Object::default();
    for word in words {
        if let Some(tag) = word.strip_prefix('@') {
            object.tag = Some(tag);
            continue;
        }
        let Some((name, kind)) = word.rsplit_once(':') else { continue };
        let Ok(kind) = kind.parse() else { continue };
        if object.tag.is_some() {
            object.variants.push((name, kind));
        } else {
            let (name, is_required) = name.strip_suffix('?').map_or((name, true), |name| (name, false));
            object.members.push(Member { name, is_required, kind });
        }
    }
    Type::Object(object)
}
