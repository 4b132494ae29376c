//! Reads values and collects the problems found on the way.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use strum::VariantNames;

use super::unusable_path::UnusablePath;
use super::{Node, Problem, ProblemKind, SourceLocation, Value, is_secret, number};
use crate::size::ByteSize;
use crate::text::{did_you_mean, quoted_list, shortened, similar_or_foreign};

/// The path of a key in a configuration, as in `storage[1].size`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyPath {
    text: String,
    /// Where the last key starts; a key may contain dots.
    last: usize,
}

impl KeyPath {
    /// Makes the path of a top-level key.
    pub fn top(key: &str) -> Self {
        Self { text: key.to_owned(), last: 0 }
    }

    /// Returns the path of a key under this one.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        if self.text.is_empty() {
            return Self::top(key);
        }
        Self { text: format!("{}.{key}", self.text), last: self.text.len() + 1 }
    }

    /// Returns the path of an item of this list.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self { text: format!("{}[{index}]", self.text), last: self.last }
    }

    pub(crate) fn last_key(&self) -> &str {
        &self.text[self.last..]
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Collects the problems of a configuration, so that all are reported together.
///
/// Its reading methods return the value, or add a problem and return `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnostics {
    problems: Vec<Problem>,
}

impl Diagnostics {
    /// Returns the problems in the order they were found.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Returns the problems by value.
    pub fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    /// Returns whether no problem was found so far.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    /// Adds a problem.
    pub fn add(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Adds an error about the value at `path`.
    pub fn error(&mut self, path: &KeyPath, node: &Node, message: impl Into<String>) {
        self.error_with_help(path, node, message, None);
    }

    /// Adds an error about the value at `path`, and how to fix it.
    pub fn error_with_help(&mut self, path: &KeyPath, node: &Node, message: impl Into<String>, help: Option<String>) {
        let location = node.location().cloned();
        self.add(Problem { help, location, ..Problem::new(path, message) });
    }

    /// Adds an error about something required that is missing at `path`.
    pub fn missing(&mut self, path: &KeyPath, node: &Node, message: impl Into<String>) {
        let location = node.location().cloned();
        self.add(Problem { kind: ProblemKind::Missing, location, ..Problem::new(path, message) });
    }

    /// Adds an error about the key of `node`, and how to fix it.
    pub fn key_error(&mut self, path: &KeyPath, node: &Node, message: impl Into<String>, help: Option<String>) {
        self.add(Problem { help, location: key_location(node), ..Problem::new(path, message) });
    }

    /// Adds an error about something that may appear only once, with both locations.
    pub fn duplicate(
        &mut self,
        path: &KeyPath,
        second: &Node,
        first: Option<&SourceLocation>,
        message: impl Into<String>,
    ) {
        let location = second.location().cloned();
        self.add(Problem { location, other: first.cloned(), ..Problem::new(path, message) });
    }

    /// Adds an error: `found` is not what was expected.
    pub fn expected(&mut self, path: &KeyPath, found: &Node, expected: &str) {
        self.expected_with_help(path, found, expected, None);
    }

    /// Adds that error, and how to write the value.
    ///
    /// The location is that of the value, even of a whole map.
    pub fn expected_with_help(&mut self, path: &KeyPath, found: &Node, expected: &str, help: Option<String>) {
        let is_secret = is_secret(&path.text);
        let description = if is_secret { found.secret_description().to_owned() } else { found.description() };
        let message = format!("expected {expected}, found {description}");
        // It has parts of the value.
        let help = help.filter(|_| !is_secret);
        self.add(Problem { help, location: found.value_location.clone(), ..Problem::new(path, message) });
    }

    /// Returns what was found, or adds an error: the value is not what was expected.
    fn found<T>(&mut self, found: Option<T>, path: &KeyPath, node: &Node, expected: &str) -> Option<T> {
        if found.is_none() {
            self.expected(path, node, expected);
        }
        found
    }

    /// Returns what was parsed, or adds the error about the value.
    fn valid<T>(&mut self, parsed: Result<T, impl fmt::Display>, path: &KeyPath, node: &Node) -> Option<T> {
        parsed.map_err(|invalid| self.error(path, node, invalid.to_string())).ok()
    }

    /// Reads a string, or any other scalar as it was written.
    pub fn text(&mut self, path: &KeyPath, node: &Node) -> Option<String> {
        self.found(node.written(), path, node, "a string")
    }

    /// Reads a string that is not empty and contains no NUL or line break.
    pub fn line(&mut self, path: &KeyPath, node: &Node) -> Option<String> {
        let text = self.text(path, node)?;
        self.one_line(path, node, text)
    }

    /// Reads the value of an option of QEMU, as [`Self::line`] does, with booleans as `on` and `off`.
    pub fn option(&mut self, path: &KeyPath, node: &Node) -> Option<String> {
        let text = self.found(node.scalar(), path, node, "a string")?;
        self.one_line(path, node, text)
    }

    fn one_line(&mut self, path: &KeyPath, node: &Node, text: String) -> Option<String> {
        if text.is_empty() {
            self.expected(path, node, "a non-empty string");
            return None;
        }
        if text.contains(['\0', '\n', '\r']) {
            self.error(path, node, "must not contain a NUL or a line break");
            return None;
        }
        Some(text)
    }

    /// Reads a path. One that a shell would change is refused, such as `~/a`: a folder named `~` is rarely meant.
    pub fn path(&mut self, path: &KeyPath, node: &Node) -> Option<PathBuf> {
        match &node.value {
            Value::Text(text) => match UnusablePath::of_text(text) {
                Some(unusable) => {
                    self.error_with_help(path, node, unusable.message(), Some(unusable.help(&path.to_string())));
                    None
                }
                None => self.line(path, node).map(PathBuf::from),
            },
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::List(_) | Value::Map(_) => {
                self.expected(path, node, "a path");
                None
            }
        }
    }

    /// Reads an integer from `min` to `max`, in decimal digits without a leading zero.
    pub fn integer<T: TryFrom<i64>>(&mut self, path: &KeyPath, node: &Node, min: i64, max: i64) -> Option<T> {
        let number = match &node.value {
            Value::Int(number) => Some(*number),
            Value::Text(text) if number::is_decimal(text) => text.parse().ok(),
            Value::Null | Value::Bool(_) | Value::Float(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => None,
        };
        let number = number.filter(|number| (min..=max).contains(number));
        let found = number.and_then(|number| T::try_from(number).ok());
        if found.is_none() {
            let help = node.as_text().and_then(number::help);
            self.expected_with_help(path, node, &format!("an integer from {min} to {max}"), help);
        }
        found
    }

    /// Reads `true` or `false`, or one of the strings `on`, `off`, `yes` and `no`.
    pub fn boolean(&mut self, path: &KeyPath, node: &Node) -> Option<bool> {
        let found = node.boolean();
        if found.is_none() {
            // As for a key that has options in another program.
            let has_options = matches!(node.value, Value::Map(_));
            let help = has_options.then(|| format!("write `{}: true`", path.last_key()));
            self.expected_with_help(path, node, "`true` or `false`", help);
        }
        found
    }

    /// Reads a size; `bare_shift` is the unit of a number without one (see [`ByteSize::parse_with_bare_unit`]).
    pub fn size(&mut self, path: &KeyPath, node: &Node, bare_shift: u32) -> Option<ByteSize> {
        let text = self.found(node.written(), path, node, "a size such as `512M` or `10G`")?;
        match ByteSize::parse_with_bare_unit(&text, bare_shift) {
            Ok(size) => Some(size),
            Err(invalid) => {
                let help = number::help(&text).or_else(|| number::size_help(&text));
                self.error_with_help(path, node, invalid.to_string(), help);
                None
            }
        }
    }

    /// Reads a value with the `FromStr` of its type.
    pub fn parse<T: FromStr<Err: fmt::Display>>(&mut self, path: &KeyPath, node: &Node) -> Option<T> {
        let parsed = self.text(path, node)?.parse();
        self.valid(parsed, path, node)
    }

    /// Reads one of a few strings.
    pub fn one_of(&mut self, path: &KeyPath, node: &Node, values: &[&'static str]) -> Option<&'static str> {
        let text = node.written();
        let found = values.iter().find(|value| Some(**value) == text.as_deref()).copied();
        if found.is_none() {
            let help = text.and_then(|text| did_you_mean(&similar_or_foreign(&text, values)));
            self.expected_with_help(path, node, &format!("one of {}", quoted_list(values)), help);
        }
        found
    }

    /// Reads the name of a variant of an enum.
    pub fn variant<T: FromStr + VariantNames>(&mut self, path: &KeyPath, node: &Node) -> Option<T> {
        self.one_of(path, node, T::VARIANTS)?.parse().ok()
    }

    /// Adds an error about an unknown key, with similar names.
    pub fn unknown_key(&mut self, path: &KeyPath, node: &Node, known: &[&str]) {
        let key = path.last_key();
        let help = did_you_mean(&similar_or_foreign(key, known))
            .unwrap_or_else(|| format!("known keys: {}", known.join(", ")));
        self.add(Problem {
            kind: ProblemKind::UnknownKey,
            help: Some(help),
            location: key_location(node),
            ..Problem::new(path, format!("unknown key {}", shortened(key)))
        });
    }

    /// Reads the entries of a map.
    pub fn map<'a>(&mut self, path: &KeyPath, node: &'a Node) -> Option<&'a [(String, Node)]> {
        let entries = if let Value::Map(entries) = &node.value { Some(entries.as_slice()) } else { None };
        self.found(entries, path, node, "a map")
    }

    /// Reads the items of a list; null is an empty list.
    pub fn list<'a>(&mut self, path: &KeyPath, node: &'a Node) -> Option<&'a [Node]> {
        match &node.value {
            Value::List(items) => Some(items),
            Value::Null => Some(&[]),
            Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_) | Value::Map(_) => {
                self.expected_with_help(path, node, "a list", Some(as_list(path, node)));
                None
            }
        }
    }
}

fn key_location(node: &Node) -> Option<SourceLocation> {
    node.key_location.clone().or_else(|| node.value_location.clone())
}

/// Returns how to write `node` as a list.
fn as_list(path: &KeyPath, node: &Node) -> String {
    /// Longer strings are not repeated.
    const MAX_SHOWN: usize = 40;
    let first = node.entries().first().filter(|(key, _)| key.len() <= MAX_SHOWN);
    let entry = match (path.last_key(), &node.value, first) {
        ("storage", _, Some((name, Node { value: Value::Map(_), .. }))) => {
            format!("- {{name: {}, …}}", name.escape_debug())
        }
        ("storage", _, _) => "- {name: …}".to_owned(),
        ("arguments", _, Some((switch, _))) => format!("- {}: …", switch.escape_debug()),
        ("args", Value::Text(text), _) if text.len() <= MAX_SHOWN => {
            let words = text.split_whitespace().map(|word| format!("\"{}\"", word.escape_debug()));
            return format!("write it as a list: `[{}]`", words.collect::<Vec<_>>().join(", "));
        }
        (_, Value::Text(text), _) if text.len() <= MAX_SHOWN => {
            return format!("write it as a list: `[\"{}\"]`", text.escape_debug());
        }
        _ => "- …".to_owned(),
    };
    format!("write it as a list, with a `-` before each entry: `{entry}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check<T>(read: impl FnOnce(&mut Diagnostics) -> Option<T>, expected: &str) {
        let mut report = Diagnostics::default();

        assert!(read(&mut report).is_none());

        assert_eq!(report.problems()[0].message, expected);
    }

    #[test]
    fn test_diagnostics_wrong_type_names_both_types() {
        let node = Node::new(Value::List(vec![]));

        check(|report| report.text(&KeyPath::top("vga"), &node), "expected a string, found a list");
    }

    #[test]
    fn test_diagnostics_wrong_secret_is_not_shown() {
        let secret = Node::text("s3cret");

        check(|report| report.map(&KeyPath::top("credentials"), &secret), "expected a map, found a string");
        let mut report = Diagnostics::default();
        assert_eq!(report.list(&KeyPath::top("seed").key("users"), &secret), None);
        assert!(!format!("{report:?}").contains("s3cret"), "{report:?}");
    }

    #[test]
    fn test_diagnostics_integer_out_of_range_names_the_range() {
        let node = Node::new(Value::Int(0));

        check(
            |report| report.integer::<u32>(&KeyPath::top("cpu"), &node, 1, 512),
            "expected an integer from 1 to 512, found the number `0`",
        );
    }

    #[test]
    fn test_diagnostics_path_starting_with_tilde_is_refused() {
        let message = "`~` is expanded by shells only";

        for text in ["~", "~/vms/a.qcow2"] {
            check(|report| report.path(&KeyPath::top("binary"), &Node::text(text)), message);
        }
        for text in ["/~/a", "./~", "~a"] {
            assert!(Diagnostics::default().path(&KeyPath::top("binary"), &Node::text(text)).is_some(), "{text}");
        }
    }

    #[test]
    fn test_diagnostics_unknown_key_suggests_a_similar_one() {
        let mut report = Diagnostics::default();

        report.unknown_key(&KeyPath::top("storage").index(0).key("sise"), &Node::text("1G"), &["size", "file"]);

        assert_eq!(report.problems()[0].path, "storage[0].sise");
        assert_eq!(report.problems()[0].help.as_deref(), Some("did you mean `size`?"));
    }

    #[test]
    fn test_diagnostics_unknown_key_with_dots_is_named_whole() {
        let mut report = Diagnostics::default();

        report.unknown_key(&KeyPath::top("labels").key("my.memory"), &Node::text("1G"), &["memory"]);

        assert_eq!(report.problems()[0].message, "unknown key `my.memory`");
    }

    #[test]
    fn test_diagnostics_long_unknown_key_is_shortened() {
        let mut report = Diagnostics::default();

        report.unknown_key(&KeyPath::top(&"x".repeat(1000)), &Node::text("1G"), &["memory"]);

        assert_eq!(report.problems()[0].message, format!("unknown key `{}…`", "x".repeat(40)));
    }
}
