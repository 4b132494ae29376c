//! What may come next, for whoever types a command.

use super::Schema;
use super::key_value::join;
use super::types::{Object, Type, Types};

/// An argument that a command takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    /// Its key, with dots where it is inside of another.
    pub name: String,
    /// Whether the command (or what it is inside of) cannot go without it.
    pub is_required: bool,
    /// What it takes, in words.
    pub takes: String,
    /// The values it can have, where these can be listed.
    pub values: Vec<String>,
    /// Whether it has keys below it, as in `file.filename`.
    pub has_parts: bool,
}

impl Schema {
    /// Returns the arguments of a command, or of one of its arguments that is an object: those with keys below `under`.
    ///
    /// `under` is empty, or a key such as `file` or `actions.0`. Which arguments there are may depend on the words that
    /// are there already (`driver=qcow2`). Nothing where there is no such command, or nothing below `under`.
    pub fn arguments(&self, command: &str, words: &[impl AsRef<str>], under: &str) -> Vec<Argument> {
        let Some(entry) = self.entry(command) else { return Vec::new() };
        let types = Types::of(self);
        let value_of = |key: &str| {
            let mut given = words.iter().filter_map(|word| word.as_ref().split_once('='));
            given.find(|(name, _)| *name == key).map(|(_, value)| value.to_owned())
        };
        let (mut path, mut kind) = (String::new(), entry.takes);
        for step in under.split('.').filter(|step| !step.is_empty()) {
            let of_lists = as_list(&types, kind).filter(|_| step.bytes().all(|byte| byte.is_ascii_digit()));
            let of_members = || {
                let object = as_object(&types, kind)?;
                let members = types.members(&object, &|tag| value_of(&join(&path, tag)));
                members.iter().find(|member| member.name == step).map(|member| member.kind)
            };
            let Some(next) = of_lists.or_else(of_members) else { return Vec::new() };
            path = join(&path, step);
            kind = next;
        }
        let Some(object) = as_object(&types, kind) else { return Vec::new() };
        let members = types.members(&object, &|tag| value_of(&join(&path, tag)));
        let argument = |member: &super::types::Member<'_>| Argument {
            name: join(&path, member.name),
            is_required: member.is_required,
            takes: types.in_words(member.kind),
            values: values(&types, member.kind),
            has_parts: as_object(&types, member.kind).is_some() || as_list(&types, member.kind).is_some(),
        };
        members.iter().map(argument).collect()
    }
}

fn as_object<'a>(types: &Types<'a>, kind: usize) -> Option<Object<'a>> {
    match types.get(kind) {
        Type::Object(object) => Some(object),
        Type::Alternate(kinds) => kinds.iter().find_map(|kind| match types.get(*kind) {
            Type::Object(object) => Some(object),
            _ => None,
        }),
        _ => None,
    }
}

fn as_list(types: &Types<'_>, kind: usize) -> Option<usize> {
    match types.get(kind) {
        Type::List(item) => Some(item),
        Type::Alternate(kinds) => kinds.iter().find_map(|kind| match types.get(*kind) {
            Type::List(item) => Some(item),
            _ => None,
        }),
        _ => None,
    }
}

fn values(types: &Types<'_>, kind: usize) -> Vec<String> {
    let of_one = |kind: &Type<'_>| match kind {
        Type::Words(words) => words.iter().map(|word| (*word).to_owned()).collect(),
        Type::Bool => vec!["on".to_owned(), "off".to_owned()],
        _ => Vec::new(),
    };
    match types.get(kind) {
        Type::Alternate(kinds) => kinds.iter().flat_map(|kind| of_one(&types.get(*kind))).collect(),
        Type::List(item) => of_one(&types.get(item)),
        other => of_one(&other),
    }
}
