//! Completion of commands.

use super::Schema;
use super::types::{Member, Object, Type, Types, join};

/// An argument that a command takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    /// The key, with dots where it is inside another argument.
    pub name: String,
    /// Whether the command (or the object it is in) requires it.
    pub is_required: bool,
    /// What it takes, for messages.
    pub takes: String,
    /// The values it can have, where they can be listed.
    pub values: Vec<String>,
    /// Whether there are keys below it, as in `file.filename`.
    pub has_parts: bool,
}

impl Schema {
    /// Returns the arguments of a command whose keys are below `under`, such as `file` or `actions.0`, or all if that is
    /// empty.
    ///
    /// Which ones exist may depend on the arguments given so far (`driver=qcow2`). Empty if the command or `under` does
    /// not exist.
    pub fn arguments(&self, command: &str, args: &[impl AsRef<str>], under: &str) -> Vec<Argument> {
        let Some(entry) = self.entry(command) else { return Vec::new() };
        let types = Types::new(self);
        let value_of = |key: &str| {
            let mut pairs = args.iter().filter_map(|arg| arg.as_ref().split_once('='));
            pairs.find(|(name, _)| *name == key).map(|(_, value)| value.to_owned())
        };
        let mut path = String::new();
        let mut kind = entry.takes;
        for step in under.split('.').filter(|step| !step.is_empty()) {
            let item = as_list(&types, kind).filter(|_| step.bytes().all(|byte| byte.is_ascii_digit()));
            let member = || {
                let object = as_object(&types, kind)?;
                let members = types.members(&object, &|tag| value_of(&join(&path, tag)));
                members.iter().find(|member| member.name == step).map(|member| member.kind)
            };
            let Some(next) = item.or_else(member) else { return Vec::new() };
            path = join(&path, step);
            kind = next;
        }
        let Some(object) = as_object(&types, kind) else { return Vec::new() };
        let members = types.members(&object, &|tag| value_of(&join(&path, tag)));
        let argument = |member: &Member<'_>| Argument {
            name: join(&path, member.name),
            is_required: member.is_required,
            takes: types.describe(member.kind),
            values: values(&types, member.kind),
            has_parts: as_object(&types, member.kind).is_some() || as_list(&types, member.kind).is_some(),
        };
        members.iter().map(argument).collect()
    }
}

fn as_object<'a>(types: &Types<'a>, kind: usize) -> Option<Object<'a>> {
    types.alternatives(kind).find_map(|kind| if let Type::Object(object) = kind { Some(object) } else { None })
}

fn as_list(types: &Types<'_>, kind: usize) -> Option<usize> {
    types.alternatives(kind).find_map(|kind| if let Type::List(item) = kind { Some(item) } else { None })
}

fn values(types: &Types<'_>, kind: usize) -> Vec<String> {
    let values = |kind: &Type<'_>| match kind {
        Type::Choice(names) => names.iter().map(|name| (*name).to_owned()).collect(),
        Type::Bool => vec!["on".to_owned(), "off".to_owned()],
        _ => Vec::new(),
    };
    match types.get(kind) {
        Type::List(item) => values(&types.get(item)),
        _ => types.alternatives(kind).flat_map(|kind| values(&kind)).collect(),
    }
}
