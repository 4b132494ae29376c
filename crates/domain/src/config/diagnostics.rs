//! Collects everything that is wrong, and reads values while it does.

use std::fmt;
use std::path::PathBuf;

use super::node::is_of_home;
use super::{Node, Problem, ProblemKind, SourceLocation, Value};
use crate::size::ByteSize;
use crate::text::shortened;
use crate::text::{did_you_mean, similar};

/// The path of a key in a configuration, as in `storage[1].size`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyPath {
    text: String,
    /// Where the last key begins; a key may hold dots.
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

    /// Returns the path of an item of the list this is.
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

/// Collects the problems of a configuration, so that all are told at once.
///
/// Its reading methods return the value, or note what is wrong and return nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnostics {
    problems: Vec<Problem>,
}

impl Diagnostics {
    /// Returns the problems in the order they were found.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Returns the problems, giving up the report.
    pub fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    /// Returns whether nothing is wrong so far.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    /// Notes a problem.
    pub fn add(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Notes that what stands at `path` is wrong.
    pub fn wrong(&mut self, path: &KeyPath, node: &Node, message: impl Into<String>) {
        self.wrong_with_help(path, node, message, None);
    }

    /// Notes that what stands at `path` is wrong, and what would help.
    pub fn wrong_with_help(&mut self, path: &KeyPath, node: &Node, message: impl Into<String>, help: Option<String>) {
        self.wrong_at(node.whereabouts(), path, message.into(), help);
    }

    /// Notes that something is not there that what stands at `path` needs.
    pub fn lacks(&mut self, path: &KeyPath, node: &Node, message: impl Into<String>) {
        let (kind, message, place) = (ProblemKind::Missing, message.into(), node.whereabouts().cloned());
        self.add(Problem { kind, path: path.to_string(), message, help: None, place, other: None });
    }

    /// Notes that the key is wrong under which `node` stands, and what would help.
    pub fn wrong_key(&mut self, path: &KeyPath, node: &Node, message: impl Into<String>, help: Option<String>) {
        self.wrong_at(node.key.as_ref().or(node.place.as_ref()), path, message.into(), help);
    }

    fn wrong_at(&mut self, place: Option<&SourceLocation>, path: &KeyPath, message: String, help: Option<String>) {
        let (kind, place) = (ProblemKind::Invalid, place.cloned());
        self.add(Problem { kind, path: path.to_string(), message, help, place, other: None });
    }

    /// Notes that something stands twice where it may stand once, naming both places.
    pub fn twice(&mut self, path: &KeyPath, second: &Node, first: Option<&SourceLocation>, message: impl Into<String>) {
        let (kind, path, message) = (ProblemKind::Invalid, path.to_string(), message.into());
        let (place, other) = (second.whereabouts().cloned(), first.cloned());
        self.add(Problem { kind, path, message, help: None, place, other });
    }

    /// Notes that `found` was expected to be something else.
    pub fn expected(&mut self, path: &KeyPath, found: &Node, expected: &str) {
        let message = format!("expected {expected}, found {}", found.in_words());
        // The value is what is wrong, even where it is a whole map.
        self.wrong_at(found.place.as_ref(), path, message, None);
    }

    /// Reads a text; a number or boolean is taken as it would be written.
    pub fn text(&mut self, path: &KeyPath, node: &Node) -> Option<String> {
        let text = node.scalar();
        if text.is_none() {
            self.expected(path, node, "a text");
        }
        text
    }

    /// Reads a text that is not empty and holds no NUL or line break.
    pub fn word(&mut self, path: &KeyPath, node: &Node) -> Option<String> {
        let text = self.text(path, node)?;
        if text.is_empty() {
            self.expected(path, node, "a text that is not empty");
            return None;
        }
        if text.contains(['\0', '\n', '\r']) {
            self.wrong(path, node, "a NUL or a line break cannot be part of this");
            return None;
        }
        Some(text)
    }

    /// Reads a path. One that begins with `~/` is refused: a folder called `~` is hardly what was meant.
    pub fn path(&mut self, path: &KeyPath, node: &Node) -> Option<PathBuf> {
        match &node.value {
            Value::Text(text) if is_of_home(text) => {
                let help = "write the home folder out; a folder called `~` is `./~`".to_owned();
                self.wrong_with_help(path, node, "`~` stands for the home folder in a shell only", Some(help));
                None
            }
            Value::Text(_) => self.word(path, node).map(PathBuf::from),
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::List(_) | Value::Map(_) => {
                self.expected(path, node, "a path");
                None
            }
        }
    }

    /// Reads a whole number between `least` and `most`.
    pub fn whole(&mut self, path: &KeyPath, node: &Node, least: i64, most: i64) -> Option<i64> {
        let number = match &node.value {
            Value::Int(number) => Some(*number),
            Value::Text(text) => text.parse().ok(),
            Value::Null | Value::Bool(_) | Value::Float(_) | Value::List(_) | Value::Map(_) => None,
        };
        let within = number.filter(|number| (least..=most).contains(number));
        if within.is_none() {
            self.expected(path, node, &format!("a whole number from {least} to {most}"));
        }
        within
    }

    /// Reads `true` or `false`; the words `on`, `off`, `yes` and `no` count too.
    pub fn boolean(&mut self, path: &KeyPath, node: &Node) -> Option<bool> {
        let value = node.boolean();
        if value.is_none() {
            self.expected(path, node, "`true` or `false`");
        }
        value
    }

    /// Reads a size; `bare_shift` tells what a number without a unit is (see [`ByteSize`]).
    pub fn size(&mut self, path: &KeyPath, node: &Node, bare_shift: u32) -> Option<ByteSize> {
        let Some(text) = node.scalar() else {
            self.expected(path, node, "a size such as `512M` or `10G`");
            return None;
        };
        match ByteSize::parse_with_bare_unit(&text, bare_shift) {
            Ok(size) => Some(size),
            Err(invalid) => {
                self.wrong(path, node, invalid.to_string());
                None
            }
        }
    }

    /// Reads one of a few words.
    pub fn one_of<T: Copy>(&mut self, path: &KeyPath, node: &Node, words: &[(&str, T)]) -> Option<T> {
        let text = node.scalar();
        let found = words.iter().find(|(word, _)| Some(*word) == text.as_deref()).map(|(_, value)| *value);
        if found.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let help = text.and_then(|text| did_you_mean(&similar(&text, known.iter().copied())));
            let message = format!("expected one of {}, found {}", list(&known), node.in_words());
            self.wrong_at(node.place.as_ref(), path, message, help);
        }
        found
    }

    /// Notes a key that nobody knows, with similar names.
    pub fn unknown_key(&mut self, path: &KeyPath, node: &Node, known: &[&str]) {
        let given = path.last_key();
        let help = did_you_mean(&similar(given, known.iter().copied()))
            .unwrap_or_else(|| format!("known here: {}", known.join(", ")));
        let place = node.key.clone().or_else(|| node.place.clone());
        let message = format!("unknown key {}", shortened(given));
        let kind = ProblemKind::UnknownKey;
        self.add(Problem { kind, path: path.to_string(), message, help: Some(help), place, other: None });
    }

    /// Reads the entries of a map.
    pub fn map<'a>(&mut self, path: &KeyPath, node: &'a Node) -> Option<&'a [(String, Node)]> {
        match &node.value {
            Value::Map(entries) => Some(entries),
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_) | Value::List(_) => {
                self.expected(path, node, "a map of keys and values");
                None
            }
        }
    }

    /// Reads the items of a list; nothing counts as an empty one.
    pub fn list<'a>(&mut self, path: &KeyPath, node: &'a Node) -> Option<&'a [Node]> {
        match &node.value {
            Value::List(items) => Some(items),
            Value::Null => Some(&[]),
            Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_) | Value::Map(_) => {
                let message = format!("expected a list, found {}", node.in_words());
                self.wrong_at(node.place.as_ref(), path, message, Some(as_list(path, node)));
                None
            }
        }
    }
}

/// Returns how what should have been a list is written as one.
fn as_list(path: &KeyPath, node: &Node) -> String {
    /// A longer text is not shown again.
    const SHOWN: usize = 40;
    let first = node.entries().first().filter(|(key, _)| key.len() <= SHOWN);
    let entry = match (path.last_key(), &node.value, first) {
        ("storage", _, Some((name, Node { value: Value::Map(_), .. }))) => {
            format!("- {{name: {}, …}}", name.escape_debug())
        }
        ("storage", _, _) => "- {name: …}".to_owned(),
        ("arguments", _, Some((switch, _))) => format!("- {}: …", switch.escape_debug()),
        (_, Value::Text(text), _) if text.len() <= SHOWN => {
            return format!("write it as a list: `[\"{}\"]`", text.escape_debug());
        }
        _ => "- …".to_owned(),
    };
    format!("write it as a list, with a `-` before each entry: `{entry}`")
}

fn list(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    quoted.join(", ")
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
    fn test_report_wrong_type_names_both_types() {
        let node = Node::new(Value::List(vec![]));

        check(|report| report.text(&KeyPath::top("vga"), &node), "expected a text, found a list");
    }

    #[test]
    fn test_report_number_out_of_range_names_the_range() {
        let node = Node::new(Value::Int(0));

        check(
            |report| report.whole(&KeyPath::top("cpu"), &node, 1, 512),
            "expected a whole number from 1 to 512, found the number `0`",
        );
    }

    #[test]
    fn test_report_path_of_a_home_folder_is_refused_and_one_like_it_is_not() {
        let message = "`~` stands for the home folder in a shell only";

        for text in ["~", "~/vms/a.qcow2"] {
            check(|report| report.path(&KeyPath::top("binary"), &Node::text(text)), message);
        }
        for text in ["/~/a", "./~", "~a"] {
            assert!(Diagnostics::default().path(&KeyPath::top("binary"), &Node::text(text)).is_some(), "{text}");
        }
    }

    #[test]
    fn test_report_unknown_key_suggests_the_near_one() {
        let mut report = Diagnostics::default();

        report.unknown_key(&KeyPath::top("storage").index(0).key("sise"), &Node::text("1G"), &["size", "file"]);

        assert_eq!(report.problems()[0].path, "storage[0].sise");
        assert_eq!(report.problems()[0].help.as_deref(), Some("did you mean `size`?"));
    }

    #[test]
    fn test_report_unknown_key_with_dots_is_told_whole() {
        let mut report = Diagnostics::default();

        report.unknown_key(&KeyPath::top("labels").key("my.memory"), &Node::text("1G"), &["memory"]);

        assert_eq!(report.problems()[0].message, "unknown key `my.memory`");
    }

    #[test]
    fn test_report_unknown_key_of_any_length_is_told_short() {
        let mut report = Diagnostics::default();

        report.unknown_key(&KeyPath::top(&"x".repeat(1000)), &Node::text("1G"), &["memory"]);

        assert_eq!(report.problems()[0].message, format!("unknown key `{}…`", "x".repeat(40)));
    }
}
