//! The compact text of a schema, as it is cached.
//!
//! ```text
//! qmp-schema 1 4821 883 27605
//! add-fd 12
//! block_resize 17 size
//! …
//! ACPI_DEVICE_OST
//! …
//! o fdset-id?:3 opaque?:4
//! e base64 utf8
//! ```
//!
//! The first line has the lengths of the three parts in bytes: a line for each command (its name, the number of the type
//! it takes, its required arguments), sorted; a line for each event, sorted; a line for each type (see
//! [`types`](super::types)).

use super::InvalidSchema;

/// How the first line begins; another format gets another number.
const MAGIC: &str = "qmp-schema 1 ";

/// The QMP schema of a build of QEMU.
///
/// ```
/// use maqet_domain::qmp::Schema;
/// use serde_json::json;
///
/// let reply = json!([
///     {"name": "block_resize", "meta-type": "command", "arg-type": "1", "ret-type": "0"},
///     {"name": "0", "meta-type": "object", "members": []},
///     {"name": "1", "meta-type": "object", "members": [
///         {"name": "node-name", "type": "str", "default": null},
///         {"name": "size", "type": "int"}]},
///     {"name": "str", "meta-type": "builtin", "json-type": "string"},
///     {"name": "int", "meta-type": "builtin", "json-type": "int"},
/// ]);
/// let schema = Schema::from_reply(&reply).unwrap();
///
/// let command = schema.command_from_args("block_resize", &["node-name=hdd", "size=10G"]).unwrap();
/// assert_eq!(command.arguments["size"], json!(10737418240_u64));
/// assert_eq!(
///     schema.command_from_args("block_resise", &["size=1"]).unwrap_err().to_string(),
///     "QEMU has no command `block_resise`"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    text: String,
    /// Where the lines of the commands, the events and the types begin.
    commands: usize,
    events: usize,
    types: usize,
}

/// The line of a command.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) name: &'a str,
    /// The number of the type of its arguments.
    pub(super) takes: usize,
    required: &'a str,
}

impl<'a> Entry<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let (name, rest) = line.split_once(' ')?;
        let (takes, required) = rest.split_once(' ').unwrap_or((rest, ""));
        Some(Self { name, takes: takes.parse().ok()?, required })
    }

    /// Returns the arguments that are always required.
    pub(super) fn required(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.required.split_ascii_whitespace()
    }
}

impl Schema {
    /// Makes a schema from valid lines.
    pub(super) fn from_parts(commands: &[String], events: &[String], types: &[String]) -> Self {
        let [commands, events, types] = [commands, events, types].map(joined);
        let head = format!("{MAGIC}{} {} {}\n", commands.len(), events.len(), types.len());
        let begin = head.len();
        let (events_at, types_at) = (begin + commands.len(), begin + commands.len() + events.len());
        Self { text: format!("{head}{commands}{events}{types}"), commands: begin, events: events_at, types: types_at }
    }

    /// Reads the text that [`as_text`](Self::as_text) returned.
    ///
    /// Only the first line is checked, as every command does this; the cache verifies the rest. Errors: another format, a
    /// truncated text.
    pub fn from_text(text: String) -> Result<Self, InvalidSchema> {
        let invalid = |reason: &str| InvalidSchema { reason: reason.to_owned() };
        let head = text.lines().next().and_then(|head| head.strip_prefix(MAGIC));
        let head = head.ok_or_else(|| invalid("unknown format"))?;
        let mut lengths = head.split(' ').map(str::parse::<usize>);
        let (Some(Ok(commands)), Some(Ok(events)), Some(Ok(types)), None) =
            (lengths.next(), lengths.next(), lengths.next(), lengths.next())
        else {
            return Err(invalid("its first line has no lengths"));
        };
        let begin = MAGIC.len() + head.len() + 1;
        let after = |length: usize, before: usize| {
            let at = before.checked_add(length)?;
            text.get(..at)?.ends_with('\n').then_some(at)
        };
        let ends = after(commands, begin).and_then(|events_at| {
            let types_at = after(events, events_at)?;
            (after(types, types_at)? == text.len()).then_some((events_at, types_at))
        });
        let (events, types) = ends.ok_or_else(|| invalid("it is truncated"))?;
        Ok(Self { commands: begin, events, types, text })
    }

    /// Returns the schema as text, for a cache.
    pub fn as_text(&self) -> &str {
        &self.text
    }

    /// Returns the names of the commands, sorted.
    pub fn commands(&self) -> impl Iterator<Item = &str> {
        self.entries().map(|entry| entry.name)
    }

    /// Returns the names of the events, sorted.
    pub fn events(&self) -> impl Iterator<Item = &str> {
        self.part(self.events, self.types).lines()
    }

    /// Returns whether there is a command of this name.
    pub fn has_command(&self, name: &str) -> bool {
        self.entry(name).is_some()
    }

    pub(super) fn entry(&self, name: &str) -> Option<Entry<'_>> {
        self.entries().find(|entry| entry.name == name)
    }

    pub(super) fn type_lines(&self) -> impl Iterator<Item = &str> {
        self.part(self.types, self.text.len()).lines()
    }

    fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.part(self.commands, self.events).lines().filter_map(Entry::read)
    }

    fn part(&self, from: usize, to: usize) -> &str {
        self.text.get(from..to).unwrap_or_default()
    }
}

/// Joins lines.
fn joined(lines: &[String]) -> String {
    lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}
