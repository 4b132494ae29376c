//! Reads QEMU's reply to `query-qmp-schema` (`qapi/introspect.json`).

use std::collections::HashMap;
use std::fmt::Write;

use serde::Deserialize;
use serde_json::Value;

use super::{InvalidSchema, Schema};

/// The maximum depth of nested types; QEMU's are some 10 deep (7.2).
const MAX_DEPTH: usize = 100;

/// An entity of the reply.
#[derive(Deserialize)]
#[serde(tag = "meta-type", rename_all = "lowercase")]
enum Entity {
    Builtin {
        #[serde(rename = "json-type")]
        json_type: String,
    },
    Enum {
        /// 6.2 and later.
        members: Option<Vec<Named>>,
        values: Option<Vec<String>>,
    },
    Array {
        #[serde(rename = "element-type")]
        element_type: String,
    },
    Object {
        members: Vec<Member>,
        tag: Option<String>,
        #[serde(default)]
        variants: Vec<Variant>,
    },
    Alternate {
        members: Vec<Typed>,
    },
    Command {
        #[serde(rename = "arg-type")]
        arg_type: String,
    },
    Event {},
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct Typed {
    r#type: String,
}

#[derive(Deserialize)]
struct Member {
    name: String,
    r#type: String,
    /// Present, and possibly null, if the member is optional.
    #[serde(default, deserialize_with = "is_present")]
    default: bool,
}

#[derive(Deserialize)]
struct Variant {
    case: String,
    r#type: String,
}

fn is_present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    serde::de::IgnoredAny::deserialize(deserializer).map(|_| true)
}

impl Schema {
    /// Reads the reply to `query-qmp-schema`: the names of commands and events, and the types that commands take.
    ///
    /// Errors: not a schema, an invalid name, a type that does not exist.
    pub fn from_reply(reply: &Value) -> Result<Self, InvalidSchema> {
        let reply = reply.as_array().ok_or_else(|| invalid("not a list"))?;
        let mut entities = HashMap::with_capacity(reply.len());
        let mut commands = Vec::new();
        let mut events = Vec::new();
        for one in reply {
            let name = valid_name(one["name"].as_str().ok_or_else(|| invalid("an entity has no name"))?)?;
            let entity = Entity::deserialize(one).map_err(|error| invalid(&format!("`{name}`: {error}")))?;
            match &entity {
                Entity::Command { arg_type } => commands.push((name, arg_type.clone())),
                Entity::Event {} => events.push(name.to_owned()),
                _ => {}
            }
            entities.insert(name, entity);
        }
        commands.sort_unstable();
        events.sort_unstable();

        let mut types = TypeWriter { entities: &entities, numbers: HashMap::new(), lines: Vec::new(), depth: 0 };
        let mut heads = Vec::with_capacity(commands.len());
        for (name, takes) in &commands {
            let number = types.number_of(takes)?;
            let required: String = match entities.get(takes.as_str()) {
                Some(Entity::Object { members, .. }) => {
                    members.iter().filter(|one| !one.default).flat_map(|one| [" ", one.name.as_str()]).collect()
                }
                _ => return Err(invalid(&format!("the arguments of `{name}` are not an object"))),
            };
            heads.push(format!("{name} {number}{required}"));
        }
        Ok(Self::from_parts(&heads, &events, &types.lines))
    }
}

/// Writes the lines of the types that are needed.
struct TypeWriter<'a> {
    entities: &'a HashMap<&'a str, Entity>,
    numbers: HashMap<&'a str, usize>,
    lines: Vec<String>,
    /// How many types, each within the one before, are being written.
    depth: usize,
}

impl<'a> TypeWriter<'a> {
    /// Returns the number of a type, and writes its line if that is new.
    fn number_of(&mut self, name: &str) -> Result<usize, InvalidSchema> {
        if let Some(number) = self.numbers.get(name) {
            return Ok(*number);
        }
        let (name, entity) = self
            .entities
            .get_key_value(name)
            .ok_or_else(|| invalid(&format!("there is no type `{}`", name.escape_debug())))?;
        let number = self.lines.len();
        self.numbers.insert(name, number);
        self.lines.push(String::new());
        if self.depth == MAX_DEPTH {
            return Err(invalid("its types are nested too deeply"));
        }
        self.depth += 1;
        self.lines[number] = self.line_of(name, entity)?;
        self.depth -= 1;
        Ok(number)
    }

    fn line_of(&mut self, name: &str, entity: &'a Entity) -> Result<String, InvalidSchema> {
        Ok(match entity {
            Entity::Builtin { json_type } => match json_type.as_str() {
                "string" => "s",
                "int" => "i",
                "number" => "n",
                "boolean" => "b",
                "null" => "0",
                _ => "*",
            }
            .to_owned(),
            Entity::Enum { members: Some(members), .. } => {
                name_line("e", members.iter().map(|member| member.name.as_str()))?
            }
            Entity::Enum { values: Some(values), .. } => name_line("e", values.iter().map(String::as_str))?,
            Entity::Array { element_type } => format!("l {}", self.number_of(element_type)?),
            Entity::Alternate { members } => {
                let mut line = "a".to_owned();
                for member in members {
                    let _ = write!(line, " {}", self.number_of(&member.r#type)?);
                }
                line
            }
            Entity::Object { members, tag, variants } => self.object(members, tag.as_deref(), variants)?,
            Entity::Enum { .. } | Entity::Command { .. } | Entity::Event {} => {
                return Err(invalid(&format!("`{name}` is not a type")));
            }
        })
    }

    fn object(&mut self, members: &[Member], tag: Option<&str>, variants: &[Variant]) -> Result<String, InvalidSchema> {
        let mut line = "o".to_owned();
        for member in members {
            let mark = if member.default { "?" } else { "" };
            let _ = write!(line, " {}{mark}:{}", valid_name(&member.name)?, self.number_of(&member.r#type)?);
        }
        if let Some(tag) = tag {
            let _ = write!(line, " @{}", valid_name(tag)?);
            for variant in variants {
                let _ = write!(line, " {}:{}", valid_name(&variant.case)?, self.number_of(&variant.r#type)?);
            }
        }
        Ok(line)
    }
}

fn name_line<'a>(mark: &str, names: impl Iterator<Item = &'a str>) -> Result<String, InvalidSchema> {
    let mut line = mark.to_owned();
    for name in names {
        line.push(' ');
        line.push_str(valid_name(name)?);
    }
    Ok(line)
}

/// Refuses a name that a line could not hold; QAPI has none (`docs/devel/qapi-code-gen.rst`).
fn valid_name(name: &str) -> Result<&str, InvalidSchema> {
    let is_valid =
        !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control() || "?@:".contains(c));
    is_valid.then_some(name).ok_or_else(|| invalid(&format!("invalid name `{}`", name.escape_debug())))
}

fn invalid(reason: &str) -> InvalidSchema {
    InvalidSchema { reason: reason.to_owned() }
}
