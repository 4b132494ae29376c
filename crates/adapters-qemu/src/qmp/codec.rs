//! Encodes commands and decodes messages; pure.

use maqet_domain::qmp::ErrorClass;
use maqet_domain::text::{escaped, truncated};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::limits::{MAX_QMP_DEPTH, MAX_QMP_REASON_CHARS, MAX_QMP_TEXT_BYTES, MAX_QMP_TOKENS, MAX_QUOTED_CHARS};

/// The capability to execute commands out of band (`docs/interop/qmp-spec.txt`, QEMU 7.2).
pub(super) const OOB: &str = "oob";

/// A message of a monitor.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Message {
    /// The first message; `oob` if the monitor executes commands out of band.
    Greeting { oob: bool },
    /// An event; with its line if events are kept.
    Event { line: Box<[u8]> },
    /// The result of a command.
    Return { id: Option<u64>, value: Value },
    /// A command was refused.
    Error { id: Option<u64>, class: ErrorClass, description: String },
}

/// Why a line is not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidLine {
    #[error("a line of more than {limit} bytes")]
    TooLong { limit: usize },
    #[error("a line that is not UTF-8")]
    NotUtf8,
    #[error("`{line}` ({reason})")]
    NotJson { line: String, reason: String },
    #[error("`{line}` is neither a greeting, an event, a result nor an error")]
    Unknown { line: String },
}

/// Collects bytes and returns messages.
#[derive(Debug)]
pub(super) struct Decoder {
    buffer: Vec<u8>,
    /// How much of the buffer was decoded.
    taken: usize,
    /// How much of the buffer was searched for the end of a line.
    searched: usize,
    limit: usize,
    keeps_events: bool,
}

/// A message on the wire; its keys decide which one it is.
#[derive(Deserialize)]
struct Wire {
    #[serde(rename = "QMP", default, deserialize_with = "present")]
    greeting: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    event: Option<serde::de::IgnoredAny>,
    #[serde(rename = "return", default, deserialize_with = "present")]
    result: Option<Value>,
    error: Option<WireError>,
    #[serde(default, deserialize_with = "present")]
    id: Option<Value>,
}

#[derive(Deserialize)]
struct WireError {
    #[serde(default)]
    class: ErrorClass,
    #[serde(default)]
    desc: String,
}

/// Distinguishes `"return": null`, which is a result, from a missing `return`.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl Decoder {
    /// Accepts lines of up to `limit` bytes.
    pub(super) const fn new(limit: usize) -> Self {
        Self { buffer: Vec::new(), taken: 0, searched: 0, limit, keeps_events: false }
    }

    /// Returns the lines of events from now on.
    pub(super) fn keep_events(&mut self) {
        self.keeps_events = true;
    }

    /// Returns the buffer to receive into.
    pub(super) fn buffer(&mut self, at_least: usize) -> &mut Vec<u8> {
        if self.taken > 0 {
            self.buffer.drain(..self.taken);
            self.searched -= self.taken;
            self.taken = 0;
        }
        self.buffer.reserve(at_least);
        &mut self.buffer
    }

    /// Returns the next message; `None` if it is not complete.
    pub(super) fn next(&mut self) -> Result<Option<Message>, InvalidLine> {
        loop {
            let Some(end) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') else {
                self.searched = self.buffer.len();
                let unfinished = self.searched - self.taken;
                return if unfinished > self.limit {
                    Err(InvalidLine::TooLong { limit: self.limit })
                } else {
                    Ok(None)
                };
            };
            let end = self.searched + end;
            let line = &self.buffer[self.taken..end];
            let message = if line.len() > self.limit {
                Err(InvalidLine::TooLong { limit: self.limit })
            } else if line.trim_ascii().is_empty() {
                Ok(None)
            } else {
                message(line, self.keeps_events).map(Some)
            };
            self.taken = end + 1;
            self.searched = self.taken;
            if let Some(message) = message? {
                return Ok(Some(message));
            }
        }
    }
}

fn message(bytes: &[u8], keeps_events: bool) -> Result<Message, InvalidLine> {
    let line = std::str::from_utf8(bytes).map_err(|_| InvalidLine::NotUtf8)?;
    let wire: Wire = serde_json::from_str(line).map_err(|error| InvalidLine::NotJson {
        line: escaped(line.trim(), MAX_QUOTED_CHARS),
        reason: error.to_string(),
    })?;

    // An ID that is not a number was not sent by this session.
    let id = wire.id.map(|id| id.as_u64().unwrap_or(u64::MAX));
    if wire.event.is_some() {
        let line = if keeps_events { bytes } else { &[] };
        return Ok(Message::Event { line: line.into() });
    }
    if let Some(error) = wire.error {
        return Ok(Message::Error { id, class: error.class, description: reason(&error.desc) });
    }
    if let Some(value) = wire.result {
        return Ok(Message::Return { id, value });
    }
    if let Some(greeting) = wire.greeting {
        let offered = greeting.get("capabilities").and_then(Value::as_array);
        return Ok(Message::Greeting { oob: offered.is_some_and(|offered| offered.iter().any(|one| one == OOB)) });
    }
    Err(InvalidLine::Unknown { line: escaped(line.trim(), MAX_QUOTED_CHARS) })
}

/// Returns why a command was refused, truncated.
fn reason(description: &str) -> String {
    if description.is_empty() { "no description".to_owned() } else { short(description) }
}

fn short(text: &str) -> String {
    truncated(text, MAX_QMP_REASON_CHARS).into_owned()
}

/// How a command is executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Band {
    /// By the main loop, in the order of arrival.
    In,
    /// Immediately, in the thread of the monitor, whatever the main loop does.
    OutOf,
}

/// Adds a command to `line`.
pub(super) fn encode(band: Band, execute: &str, arguments: &Map<String, Value>, id: Option<u64>, line: &mut Vec<u8>) {
    #[derive(Serialize)]
    struct Command<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        execute: Option<&'a str>,
        #[serde(rename = "exec-oob", skip_serializing_if = "Option::is_none")]
        exec_oob: Option<&'a str>,
        #[serde(skip_serializing_if = "Map::is_empty")]
        arguments: &'a Map<String, Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
    }

    let (execute, exec_oob) = match band {
        Band::In => (Some(execute), None),
        Band::OutOf => (None, Some(execute)),
    };
    // Writing JSON values to memory cannot fail.
    let _ = serde_json::to_writer(&mut *line, &Command { execute, exec_oob, arguments, id });
    line.push(b'\n');
}

/// Returns why a command is too large for QEMU to read.
pub(super) fn too_large(execute: &str, arguments: &Map<String, Value>) -> Option<&'static str> {
    // The object of the command, with its name and ID, counts as well.
    let mut budget = Budget { depth: MAX_QMP_DEPTH - 1, tokens: MAX_QMP_TOKENS - 16, text: MAX_QMP_TEXT_BYTES };
    budget.take_text(execute).and_then(|()| budget.take_object(arguments)).err()
}

/// How much more QEMU accepts.
struct Budget {
    depth: usize,
    tokens: usize,
    text: usize,
}

impl Budget {
    fn take(&mut self, value: &Value) -> Result<(), &'static str> {
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => self.take_tokens(1),
            Value::String(text) => self.take_text(text),
            Value::Array(items) => self.take_nested(|budget| {
                // A bracket or a comma before each.
                items.iter().try_for_each(|item| budget.take_tokens(1).and_then(|()| budget.take(item)))
            }),
            Value::Object(map) => self.take_object(map),
        }
    }

    fn take_object(&mut self, map: &Map<String, Value>) -> Result<(), &'static str> {
        self.take_nested(|budget| {
            map.iter().try_for_each(|(key, value)| {
                // A colon, and a brace or a comma.
                budget.take_tokens(2).and_then(|()| budget.take_text(key)).and_then(|()| budget.take(value))
            })
        })
    }

    fn take_nested(&mut self, within: impl FnOnce(&mut Self) -> Result<(), &'static str>) -> Result<(), &'static str> {
        self.depth = self.depth.checked_sub(1).ok_or("it is nested too deeply")?;
        self.take_tokens(2)?;
        within(self)?;
        self.depth += 1;
        Ok(())
    }

    fn take_text(&mut self, text: &str) -> Result<(), &'static str> {
        self.text = self.text.checked_sub(text.len()).ok_or("its strings are too long")?;
        self.take_tokens(1)
    }

    fn take_tokens(&mut self, count: usize) -> Result<(), &'static str> {
        self.tokens = self.tokens.checked_sub(count).ok_or("it has too many values")?;
        Ok(())
    }
}

/// Decodes `bytes` in pieces of `cut` bytes, for fuzzing.
///
/// # Panics
///
/// If more than a line and the last piece is buffered.
#[cfg(feature = "fuzzing")]
pub fn decode_any(bytes: &[u8], cut: usize, limit: usize) -> Vec<Result<String, String>> {
    let mut decoder = Decoder::new(limit);
    decoder.keep_events();
    let mut results = Vec::new();
    for piece in bytes.chunks(cut.max(1)) {
        decoder.buffer(piece.len()).extend_from_slice(piece);
        loop {
            match decoder.next() {
                Ok(Some(message)) => results.push(Ok(format!("{message:?}"))),
                Ok(None) => break,
                // A session ends at the first invalid line.
                Err(invalid) => {
                    results.push(Err(invalid.to_string()));
                    return results;
                }
            }
        }
        assert!(decoder.buffer.len() - decoder.taken <= limit + piece.len(), "more than a line is buffered");
    }
    results
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn decode(bytes: &[u8]) -> Result<Vec<Message>, InvalidLine> {
        let mut decoder = Decoder::new(1 << 10);
        decoder.buffer(0).extend_from_slice(bytes);
        std::iter::from_fn(|| decoder.next().transpose()).collect()
    }

    #[test]
    fn test_decoder_distinguishes_messages_by_key() {
        let bytes = concat!(
            r#"{"QMP": {"version": {}, "capabilities": ["oob"]}}"#,
            "\r\n",
            r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP"}"#,
            "\r\n\r\n",
            r#"{"return": {}, "id": 7}"#,
            "\n",
            r#"{"id": 8, "error": {"class": "GenericError", "desc": "no"}}"#,
            "\n",
        );

        let messages = decode(bytes.as_bytes()).unwrap();

        assert_eq!(
            messages,
            [
                Message::Greeting { oob: true },
                Message::Event { line: [].into() },
                Message::Return { id: Some(7), value: json!({}) },
                Message::Error { id: Some(8), class: ErrorClass::Generic, description: "no".to_owned() },
            ]
        );
    }

    #[test]
    fn test_decoder_null_is_a_result() {
        assert_eq!(decode(b"{\"return\": null}\n").unwrap(), [Message::Return { id: None, value: Value::Null }]);
    }

    #[test]
    fn test_decoder_foreign_id_is_never_matched() {
        let messages = decode(b"{\"return\": 1, \"id\": \"x\"}\n").unwrap();

        assert_eq!(messages, [Message::Return { id: Some(u64::MAX), value: json!(1) }]);
    }

    #[test]
    fn test_decoder_incomplete_line_is_not_decoded() {
        assert_eq!(decode(b"{\"return\": 1").unwrap(), []);
    }

    #[test]
    fn test_decoder_long_line_is_an_error_before_its_end() {
        assert_eq!(decode(&[b'x'; 1025]), Err(InvalidLine::TooLong { limit: 1024 }));
    }

    #[test]
    fn test_decoder_invalid_lines_are_errors() {
        assert_eq!(decode(b"\xff\xfe\n"), Err(InvalidLine::NotUtf8));
        assert!(matches!(decode(b"hello\n"), Err(InvalidLine::NotJson { .. })));
        assert!(matches!(decode(b"[]\n"), Err(InvalidLine::NotJson { .. })));
        assert!(matches!(decode(b"{}\n"), Err(InvalidLine::Unknown { .. })));
        assert!(matches!(decode(b"{\"error\": 7}\n"), Err(InvalidLine::NotJson { .. })));
        let nested = [b"{\"return\":".to_vec(), vec![b'['; 500], b"\n".to_vec()].concat();
        assert!(matches!(decode(&nested), Err(InvalidLine::NotJson { .. })));
    }

    #[test]
    fn test_encode_newline_in_value_stays_on_one_line() {
        let mut line = Vec::new();
        let arguments = [("a".to_owned(), json!("x\ny"))].into_iter().collect();

        encode(Band::In, "test", &arguments, Some(3), &mut line);
        encode(Band::OutOf, "now", &Map::new(), Some(4), &mut line);
        encode(Band::In, "alone", &Map::new(), None, &mut line);

        let expected = concat!(
            r#"{"execute":"test","arguments":{"a":"x\ny"},"id":3}"#,
            "\n",
            r#"{"exec-oob":"now","id":4}"#,
            "\n",
            r#"{"execute":"alone"}"#,
            "\n",
        );
        assert_eq!(String::from_utf8(line).unwrap(), expected);
    }

    proptest! {
        #[test]
        fn test_decoder_pieces_give_same_messages(
            values in proptest::collection::vec(any::<u32>(), 1..8),
            cut in 1_usize..40,
        ) {
            let bytes: Vec<u8> = values
                .iter()
                .flat_map(|value| format!("{{\"return\": {value}, \"id\": {value}}}\r\n").into_bytes())
                .collect();

            let mut decoder = Decoder::new(64);
            let mut messages = Vec::new();
            for piece in bytes.chunks(cut) {
                decoder.buffer(piece.len()).extend_from_slice(piece);
                while let Some(message) = decoder.next().unwrap() {
                    messages.push(message);
                }
            }

            let expected: Vec<Message> = values
                .iter()
                .map(|value| Message::Return { id: Some(u64::from(*value)), value: json!(value) })
                .collect();
            prop_assert_eq!(messages, expected);
        }

        #[test]
        fn test_decoder_any_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn test_decoder_any_json_like_text_does_not_panic(text in "[\\{\\}\\[\\]\":,a-z0-9 \n]{0,200}") {
            let _ = decode(text.as_bytes());
        }
    }
}
