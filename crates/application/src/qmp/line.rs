//! A QMP command as a line of text.

use maqet_domain::error::{Explain, Explanation, Fault};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::QmpArguments;

/// A line: a command with arguments, as in `block_resize node-name=hdd size=1G`, or a QMP message, as in
/// `{"execute": "query-status"}`.
#[derive(Debug, Clone, PartialEq)]
pub struct QmpLine {
    /// The command, as in `query-status`.
    pub command: String,
    /// Its arguments.
    pub arguments: QmpArguments,
}

/// Why a line is not a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum InvalidQmpLine {
    #[error("unclosed `{open}`")]
    Unclosed { open: char },
    #[error("invalid QMP message: {reason}")]
    InvalidMessage { reason: String },
}

impl Explain for InvalidQmpLine {
    fn explain(&self) -> Explanation {
        let explanation = Explanation::new("qmp.line-invalid", Fault::Usage);
        match self {
            Self::Unclosed { .. } => explanation,
            Self::InvalidMessage { .. } => {
                explanation.hint(r#"write it as `{"execute": "block_resize", "arguments": {"size": 1024}}`"#)
            }
        }
    }
}

/// A QMP message; its `id` is ignored, as every line has one reply.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct QmpMessage {
    execute: String,
    #[serde(default)]
    arguments: Map<String, Value>,
    #[serde(default, rename = "id")]
    _id: Value,
}

impl QmpLine {
    /// Parses a line; `None` if it is empty or begins with `#`.
    ///
    /// Arguments are separated by white space. Quotation marks and backslashes work as in a shell, and a value that begins
    /// with a bracket ends where that is closed, so that it may hold white space and quotation marks.
    pub fn read(line: &str) -> Result<Option<Self>, InvalidQmpLine> {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return Ok(None);
        }
        if line.starts_with('{') {
            let QmpMessage { execute, arguments, .. } = serde_json::from_str(line)
                .map_err(|error| InvalidQmpLine::InvalidMessage { reason: error.to_string() })?;
            return Ok(Some(Self { command: execute, arguments: QmpArguments::Json(arguments) }));
        }
        let mut args = split(line)?.into_iter();
        let command = args.next().unwrap_or_default();
        Ok(Some(Self { command, arguments: QmpArguments::KeyValue(args.collect()) }))
    }
}

/// Splits a line at white space, outside of quotation marks and brackets.
fn split(line: &str) -> Result<Vec<String>, InvalidQmpLine> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let (word, after) = first_word(rest)?;
        words.push(word);
        rest = after.trim_start();
    }
    Ok(words)
}

/// Returns the first word of a line, and the rest.
fn first_word(line: &str) -> Result<(String, &str), InvalidQmpLine> {
    let mut word = String::new();
    let mut chars = line.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\'' | '"' => loop {
                match chars.next() {
                    None => return Err(InvalidQmpLine::Unclosed { open: c }),
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

/// Returns the length of a JSON value that begins with a bracket.
fn bracketed(text: &str) -> Result<usize, InvalidQmpLine> {
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
    Err(InvalidQmpLine::Unclosed { open: if is_text { '"' } else { open.pop().unwrap_or('{') } })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(line: &str, expected: &[&str]) {
        let read = QmpLine::read(line).unwrap().unwrap();
        let QmpArguments::KeyValue(args) = read.arguments else { panic!("{line} is JSON") };

        let all: Vec<&str> = std::iter::once(read.command.as_str()).chain(args.iter().map(String::as_str)).collect();
        assert_eq!(all, expected, "{line}");
    }

    #[test]
    fn test_line_is_split_as_by_a_shell() {
        check("query-status", &["query-status"]);
        check("  a  b=1\tc.d=2 ", &["a", "b=1", "c.d=2"]);
        check("a b='x y' \"c=d e\" f=\\ g", &["a", "b=x y", "c=d e", "f= g"]);
        check(r#"a b="x \" y" c='"' d=''"#, &["a", "b=x \" y", "c=\"", "d="]);
        check("a größe=ä", &["a", "größe=ä"]);
    }

    #[test]
    fn test_line_values_in_brackets_are_kept_verbatim() {
        check(r#"a b={"c": "d } e", "f": [1, 2]} g=h"#, &["a", r#"b={"c": "d } e", "f": [1, 2]}"#, "g=h"]);
        check(r#"a b=["\"]", 'x']c"#, &["a", r#"b=["\"]", 'x']c"#]);
        check(r#"a b={"ä": "ö"}"#, &["a", r#"b={"ä": "ö"}"#]);
        check("a b=c=[1 d", &["a", "b=c=[1", "d"]);
        check("a b[0]=1", &["a", "b[0]=1"]);
    }

    #[test]
    fn test_line_qmp_message_is_accepted() {
        let line = r#"{"execute": "x", "arguments": {"a": {"b": 1}}, "id": 7}"#;

        let read = QmpLine::read(line).unwrap().unwrap();

        let QmpArguments::Json(arguments) = read.arguments else { panic!("not JSON") };
        assert_eq!((read.command.as_str(), json!(arguments)), ("x", json!({"a": {"b": 1}})));
    }

    #[test]
    fn test_line_empty_or_comment_is_none() {
        for line in ["", "   ", "# query-status", "\t#"] {
            assert_eq!(QmpLine::read(line), Ok(None), "{line}");
        }
    }

    #[test]
    fn test_line_unclosed_or_invalid_message_is_refused() {
        for (line, open) in [("a b='c", '\''), ("a b=\"c\\\"", '"'), ("a b=[{}", '['), ("a b={\"c}", '"')] {
            assert_eq!(QmpLine::read(line), Err(InvalidQmpLine::Unclosed { open }), "{line}");
        }
        for line in ["{}", "{\"execute\": 7}", "{\"execute\": \"a\"} b", "{\"exec-oob\": \"a\"}", "{"] {
            assert!(matches!(QmpLine::read(line), Err(InvalidQmpLine::InvalidMessage { .. })), "{line}");
        }
    }

    proptest! {
        #[test]
        fn test_line_any_text_does_not_panic(line in "[\\PC\"'\\\\\\[\\]{}= \t]{0,40}") {
            let _ = QmpLine::read(&line);
        }

        #[test]
        fn test_line_quoted_words_round_trip(words in proptest::collection::vec("[^\u{0}]{0,12}", 1..5)) {
            let quoted: Vec<String> = words.iter().map(|word| maqet_domain::text::quote(word)).collect();
            let line = format!("a {}", quoted.join(" "));

            let read = QmpLine::read(&line).unwrap().unwrap();

            prop_assert_eq!(read.arguments, QmpArguments::KeyValue(words));
        }
    }
}
