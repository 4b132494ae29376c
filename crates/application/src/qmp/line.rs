//! A command of QMP as a line that somebody types.

use std::str::FromStr;

use maqet_domain::error::{Explain, Fault};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::QmpArguments;

/// A line: a command with words, as in `block_resize node-name=hdd size=1G`, or a message of QMP, as in
/// `{"execute": "query-status"}`.
#[derive(Debug, Clone, PartialEq)]
pub struct QmpLine {
    /// The command, as in `query-status`.
    pub command: String,
    /// Its arguments.
    pub arguments: QmpArguments,
}

/// Why a line is no command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLine {
    /// A quotation mark or a bracket that is not closed.
    #[error("`{open}` is not closed")]
    Open {
        /// What was opened.
        open: char,
    },
    /// It begins like a message of QMP and is none.
    #[error("this is no message of QMP: {why}")]
    NoMessage {
        /// Why not.
        why: String,
    },
}

impl Explain for InvalidLine {
    fn code(&self) -> &'static str {
        "qmp.line-invalid"
    }

    fn fault(&self) -> Fault {
        Fault::Usage
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Open { .. } => Vec::new(),
            Self::NoMessage { .. } => {
                vec![r#"write it as `{"execute": "block_resize", "arguments": {"size": 1024}}`"#.to_owned()]
            }
        }
    }
}

/// A message of QMP; its `id` is of no use where every line has one answer.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    execute: String,
    #[serde(default)]
    arguments: Map<String, Value>,
    #[serde(default, rename = "id")]
    _id: Value,
}

impl QmpLine {
    /// Reads a line; nothing is in an empty one and in one that begins with `#`.
    ///
    /// Words are separated by white space; quotation marks and backslashes work as in a shell, and a value that begins
    /// with a bracket goes on until that is closed, white space and quotation marks included.
    pub fn read(line: &str) -> Result<Option<Self>, InvalidLine> {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return Ok(None);
        }
        if line.starts_with('{') {
            let Message { execute, arguments, .. } =
                serde_json::from_str(line).map_err(|why| InvalidLine::NoMessage { why: why.to_string() })?;
            return Ok(Some(Self { command: execute, arguments: QmpArguments::Json(arguments) }));
        }
        let mut words = words(line)?.into_iter();
        let command = words.next().unwrap_or_default();
        Ok(Some(Self { command, arguments: QmpArguments::Words(words.collect()) }))
    }
}

impl FromStr for QmpLine {
    type Err = InvalidLine;

    /// Reads a line that is not empty.
    fn from_str(line: &str) -> Result<Self, Self::Err> {
        let nothing = || InvalidLine::NoMessage { why: "there is nothing in it".to_owned() };
        Self::read(line)?.ok_or_else(nothing)
    }
}

/// Returns the words of a line.
fn words(line: &str) -> Result<Vec<String>, InvalidLine> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let (word, behind) = first_word(rest)?;
        words.push(word);
        rest = behind.trim_start();
    }
    Ok(words)
}

/// Returns the first word of a line that begins with one, and what is behind it.
fn first_word(line: &str) -> Result<(String, &str), InvalidLine> {
    let mut word = String::new();
    let mut chars = line.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\'' | '"' => loop {
                match chars.next() {
                    None => return Err(InvalidLine::Open { open: c }),
                    Some((_, end)) if end == c => break,
                    Some((_, '\\')) if c == '"' => word.extend(chars.next().map(|(_, c)| c)),
                    Some((_, inner)) => word.push(inner),
                }
            },
            '\\' => word.extend(chars.next().map(|(_, c)| c)),
            '{' | '[' if word.ends_with('=') && !word.trim_end_matches('=').contains('=') => {
                let value = &line[at..];
                let length = bracketed(value)?;
                word.push_str(&value[..length]);
                chars = line.char_indices();
                chars.by_ref().take_while(|(before, _)| *before + 1 < at + length).for_each(drop);
            }
            c if c.is_whitespace() => return Ok((word, &line[at..])),
            c => word.push(c),
        }
    }
    Ok((word, ""))
}

/// Returns how long a JSON value is that begins with a bracket.
fn bracketed(text: &str) -> Result<usize, InvalidLine> {
    let mut open = Vec::new();
    let mut is_text = false;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' if is_text => drop(chars.next()),
            '"' => is_text = !is_text,
            '{' | '[' if !is_text => open.push(c),
            '}' | ']' if !is_text => {
                open.pop();
            }
            _ => {}
        }
        if open.is_empty() {
            return Ok(at + c.len_utf8());
        }
    }
    Err(InvalidLine::Open { open: if is_text { '"' } else { open.pop().unwrap_or('{') } })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(line: &str, expected: &[&str]) {
        let read = QmpLine::read(line).unwrap().unwrap();
        let QmpArguments::Words(words) = read.arguments else { panic!("{line} has no words") };

        let all: Vec<&str> = std::iter::once(read.command.as_str()).chain(words.iter().map(String::as_str)).collect();
        assert_eq!(all, expected, "{line}");
    }

    #[test]
    fn test_line_words_are_those_of_a_shell() {
        check("query-status", &["query-status"]);
        check("  a  b=1\tc.d=2 ", &["a", "b=1", "c.d=2"]);
        check("a b='x y' \"c=d e\" f=\\ g", &["a", "b=x y", "c=d e", "f= g"]);
        check(r#"a b="x \" y" c='"' d=''"#, &["a", "b=x \" y", "c=\"", "d="]);
        check("a größe=ä", &["a", "größe=ä"]);
    }

    #[test]
    fn test_line_values_in_brackets_are_taken_as_they_are() {
        check(r#"a b={"c": "d } e", "f": [1, 2]} g=h"#, &["a", r#"b={"c": "d } e", "f": [1, 2]}"#, "g=h"]);
        check(r#"a b=["\"]", 'x']c"#, &["a", r#"b=["\"]", 'x']c"#]);
        check(r#"a b={"ä": "ö"}"#, &["a", r#"b={"ä": "ö"}"#]);
        check("a b=c=[1 d", &["a", "b=c=[1", "d"]);
        check("a b[0]=1", &["a", "b[0]=1"]);
    }

    #[test]
    fn test_line_message_of_qmp_is_taken() {
        let line = r#"{"execute": "x", "arguments": {"a": {"b": 1}}, "id": 7}"#;

        let read = QmpLine::read(line).unwrap().unwrap();

        let QmpArguments::Json(arguments) = read.arguments else { panic!("not JSON") };
        assert_eq!((read.command.as_str(), json!(arguments)), ("x", json!({"a": {"b": 1}})));
    }

    #[test]
    fn test_line_without_anything_in_it_is_none() {
        for line in ["", "   ", "# query-status", "\t#"] {
            assert_eq!(QmpLine::read(line), Ok(None), "{line}");
        }
        assert!("#".parse::<QmpLine>().is_err());
    }

    #[test]
    fn test_line_that_is_half_or_no_message_is_refused() {
        for (line, open) in [("a b='c", '\''), ("a b=\"c\\\"", '"'), ("a b=[{}", '['), ("a b={\"c}", '"')] {
            assert_eq!(QmpLine::read(line), Err(InvalidLine::Open { open }), "{line}");
        }
        for line in ["{}", "{\"execute\": 7}", "{\"execute\": \"a\"} b", "{\"exec-oob\": \"a\"}", "{"] {
            assert!(matches!(QmpLine::read(line), Err(InvalidLine::NoMessage { .. })), "{line}");
        }
    }

    proptest! {
        #[test]
        fn test_line_any_text_never_panics(line in "[\\PC\"'\\\\\\[\\]{}= \t]{0,40}") {
            let _ = QmpLine::read(&line);
        }

        #[test]
        fn test_line_words_in_quotes_come_back(words in proptest::collection::vec("[^\u{0}]{0,12}", 1..5)) {
            let quoted: Vec<String> = words.iter().map(|word| maqet_domain::text::quote(word)).collect();
            let line = format!("a {}", quoted.join(" "));

            let read = QmpLine::read(&line).unwrap().unwrap();

            prop_assert_eq!(read.arguments, QmpArguments::Words(words));
        }
    }
}
