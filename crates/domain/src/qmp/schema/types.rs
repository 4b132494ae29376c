//! The types of a schema, each understood when it is needed.
//!
//! | line | is |
//! | --- | --- |
//! | `s`, `i`, `n`, `b`, `0`, `*` | a text, a whole number, a number, a boolean, null, anything |
//! | `e one two` | one of these words |
//! | `l 7` | a list of type 7 |
//! | `a 3 7` | type 3, or else type 7 |
//! | `o name:3 other?:7 @driver file:9` | an object; where `driver` is `file` it has the members of type 9, too |

use super::Schema;

/// How many of the words that an argument takes are told: the keys of a keyboard are 151. The near one is told anyway.
const WORDS_TOLD: usize = 24;

/// Types within types further down than this are those of a file that somebody made up.
const DEEPEST: usize = 16;

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
    Words(Vec<&'a str>),
    List(usize),
    Alternate(Vec<usize>),
    Object(Object<'a>),
}

/// A type with members.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Object<'a> {
    pub(super) members: Vec<Member<'a>>,
    /// The member whose value tells which others there are, and these, by its values.
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
    pub(super) fn of(schema: &'a Schema) -> Self {
        Self { lines: schema.type_lines().collect() }
    }

    /// Returns a type; one that is not there takes anything, and QEMU will tell.
    pub(super) fn get(&self, number: usize) -> Type<'a> {
        self.lines.get(number).map_or(Type::Any, |line| read(line))
    }

    /// Returns the members of an object, those included that come with what `tag_value` says of each tag.
    pub(super) fn members(&self, object: &Object<'a>, tag_value: &dyn Fn(&str) -> Option<String>) -> Vec<Member<'a>> {
        let mut members = Vec::new();
        self.gather(object, tag_value, 0, &mut members);
        members
    }

    fn gather(
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
            && depth < DEEPEST
            && let Type::Object(inner) = self.get(*number)
        {
            self.gather(&inner, tag_value, depth + 1, members);
        }
    }

    /// Returns what a value of a type is called.
    pub(super) fn in_words(&self, number: usize) -> String {
        self.words(number, 0)
    }

    fn words(&self, number: usize, depth: usize) -> String {
        match self.get(number) {
            Type::Text => "a text".to_owned(),
            Type::Int => "a whole number".to_owned(),
            Type::Number => "a number".to_owned(),
            Type::Bool => "`on` or `off`".to_owned(),
            Type::Null => "null".to_owned(),
            Type::Any => "a value".to_owned(),
            Type::Words(words) => match words.as_slice() {
                [] => "nothing".to_owned(),
                [one] => format!("`{one}`"),
                many if many.len() <= WORDS_TOLD => format!("one of {}", quoted(many)),
                many => format!("one of {} and {} more", quoted(&many[..WORDS_TOLD]), many.len() - WORDS_TOLD),
            },
            Type::List(_) => "a list".to_owned(),
            Type::Object(_) => "an object".to_owned(),
            Type::Alternate(_) if depth > 0 => "a value".to_owned(),
            Type::Alternate(numbers) => {
                let each: Vec<String> = numbers.iter().map(|number| self.words(*number, depth + 1)).collect();
                each.join(" or ")
            }
        }
    }
}

/// Returns names between backticks, with commas between them.
pub(super) fn quoted(names: &[impl AsRef<str>]) -> String {
    names.iter().map(|name| format!("`{}`", name.as_ref())).collect::<Vec<_>>().join(", ")
}

fn read(line: &str) -> Type<'_> {
    let mut words = line.split(' ');
    match words.next() {
        Some("s") => Type::Text,
        Some("i") => Type::Int,
        Some("n") => Type::Number,
        Some("b") => Type::Bool,
        Some("0") => Type::Null,
        Some("e") => Type::Words(words.collect()),
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
