//! The compact text of a schema, as it is kept.
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
//! The first line has the lengths of the three parts, in bytes: a line for each command (its name, the number of the type it takes, what it cannot go without), sorted; a line for
//! each event, sorted; a line for each type (see [`types`](super::types)).

use super::InvalidSchema;

/// What the first line begins with; another form of the text gets another number.
const MAGIC: &str = "qmp-schema 1 ";

/// The schema of the QMP of one build of QEMU.
///
/// ```
/// use maqet_domain::qmp::Schema;
/// use serde_json::json;
///
/// let told = json!([
///     {"name": "block_resize", "meta-type": "command", "arg-type": "1", "ret-type": "0"},
///     {"name": "0", "meta-type": "object", "members": []},
///     {"name": "1", "meta-type": "object", "members": [
///         {"name": "node-name", "type": "str", "default": null},
///         {"name": "size", "type": "int"}]},
///     {"name": "str", "meta-type": "builtin", "json-type": "string"},
///     {"name": "int", "meta-type": "builtin", "json-type": "int"},
/// ]);
/// let schema = Schema::of_reply(&told).unwrap();
///
/// let command = schema.command_of_words("block_resize", &["node-name=hdd", "size=10G"]).unwrap();
/// assert_eq!(command.arguments["size"], json!(10737418240_u64));
/// assert_eq!(
///     schema.command_of_words("block_resise", &["size=1"]).unwrap_err().to_string(),
///     "QEMU has no command `block_resise`"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    text: String,
    /// Where the lines of the commands, of the events and of the types begin.
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

    /// Returns what the command cannot go without, whatever else it is given.
    pub(super) fn required(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.required.split_ascii_whitespace()
    }
}

impl Schema {
    /// Makes a schema of its parts; each part is lines that are right.
    pub(super) fn of_parts(commands: &[String], events: &[String], types: &[String]) -> Self {
        let [commands, events, types] = [commands, events, types].map(whole);
        let head = format!("{MAGIC}{} {} {}\n", commands.len(), events.len(), types.len());
        let begin = head.len();
        let (events_at, types_at) = (begin + commands.len(), begin + commands.len() + events.len());
        Self { text: format!("{head}{commands}{events}{types}"), commands: begin, events: events_at, types: types_at }
    }

    /// Reads the text that [`as_text`](Self::as_text) returned once.
    ///
    /// Only the first line is looked at, as every command does this: whoever keeps the text makes sure that it is whole.
    /// Errors: a text of another form, one that is cut.
    pub fn of_text(text: String) -> Result<Self, InvalidSchema> {
        let broken = |why: &str| InvalidSchema { why: why.to_owned() };
        let head = text.lines().next().and_then(|head| head.strip_prefix(MAGIC));
        let head = head.ok_or_else(|| broken("it is of another form"))?;
        let mut lengths = head.split(' ').map(str::parse::<usize>);
        let (Some(Ok(commands)), Some(Ok(events)), Some(Ok(types)), None) =
            (lengths.next(), lengths.next(), lengths.next(), lengths.next())
        else {
            return Err(broken("its first line tells no lengths"));
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
        let (events, types) = ends.ok_or_else(|| broken("it is cut"))?;
        Ok(Self { commands: begin, events, types, text })
    }

    /// Returns the schema as text, to be kept.
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

/// Returns lines as one text.
fn whole(lines: &[String]) -> String {
    lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}
