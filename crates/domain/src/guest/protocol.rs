//! The protocol of QEMU's guest agent (`docs/interop/qemu-ga.rst`, `qga/qapi-schema.json`, 7.2): one JSON object a line.
//!
//! The channel is shared by all clients that ever were: what one of them requested and did not read is still in it. A
//! client therefore sends `guest-sync-delimited` first, and discards everything before the byte 0xFF of the reply, which
//! no JSON has. Nothing that a guest sends takes more memory than the limit of the reply.

use serde_json::{Map, Value, json};

use crate::text::{escaped, truncated};

/// The byte before the reply to `guest-sync-delimited`; a request with it first makes the agent discard half a request.
pub const SYNC_DELIMITER: u8 = 0xff;

/// The longest reply to `guest-sync-delimited`.
const MAX_SYNC_REPLY_BYTES: usize = 256;

/// How much of an invalid reply is quoted.
const MAX_QUOTED_CHARS: usize = 160;

/// How much of a description is kept; those of the agent are a sentence.
const MAX_DESCRIPTION_CHARS: usize = 1 << 10;

/// A command for the agent.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentCommand {
    /// Its name.
    pub execute: &'static str,
    /// Its arguments.
    pub arguments: Map<String, Value>,
}

impl AgentCommand {
    /// Makes a command without arguments.
    pub fn new(execute: &'static str) -> Self {
        Self { execute, arguments: Map::new() }
    }

    /// Adds an argument.
    #[must_use]
    pub fn argument(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.arguments.insert(name.to_owned(), value.into());
        self
    }

    /// Asks for the state of a process that `guest-exec` started; once it has exited, that is answered only once.
    pub fn exec_status(pid: i64) -> Self {
        Self::new("guest-exec-status").argument("pid", pid)
    }

    /// Returns the request that synchronizes the channel; `id` is that of the reply.
    pub fn sync(id: u32) -> Vec<u8> {
        let request = Self::new("guest-sync-delimited").argument("id", id).line();
        [&[SYNC_DELIMITER][..], &request].concat()
    }

    /// Returns the line to send.
    pub fn line(&self) -> Vec<u8> {
        let request = if self.arguments.is_empty() {
            json!({ "execute": self.execute })
        } else {
            json!({ "execute": self.execute, "arguments": self.arguments })
        };
        format!("{request}\n").into_bytes()
    }
}

/// A reply of the agent.
#[derive(Debug, Clone, PartialEq)]
pub enum AgentReply {
    /// The channel is synchronized.
    Synchronized,
    /// The result of a command.
    Return(Value),
    /// The agent refused a command.
    Error {
        /// The class, as in `CommandNotFound`.
        class: String,
        /// Why.
        description: String,
    },
}

/// What the agent sent is not a reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum InvalidReply {
    #[error("a reply of more than {limit} bytes")]
    TooLong { limit: usize },
    #[error("`{line}`, which is not a reply")]
    NotAReply { line: String },
}

/// Collects what the agent sends, and returns its replies.
#[derive(Debug)]
pub struct AgentDecoder {
    buffer: Vec<u8>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Everything up to the delimiter is discarded.
    Stale { id: u32 },
    /// The line after the delimiter may be the reply with this id.
    Delimited { id: u32 },
    /// The line is the reply to a command.
    Synchronized { limit: usize },
}

impl AgentDecoder {
    /// Expects the reply to the request that [synchronizes](AgentCommand::sync) with `id`.
    pub const fn new(id: u32) -> Self {
        Self { buffer: Vec::new(), state: State::Stale { id } }
    }

    /// Expects the reply to a command, of at most `limit` bytes.
    pub fn expect_reply(&mut self, limit: usize) {
        // Nothing was requested before, so what is here is not a reply to anything.
        self.buffer.clear();
        self.state = State::Synchronized { limit };
    }

    /// Takes what was received; returns the reply, once it is complete.
    ///
    /// Bytes after the reply are discarded: the agent sends nothing that was not requested.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<Option<AgentReply>, InvalidReply> {
        while !bytes.is_empty() {
            match self.state {
                State::Stale { id } => {
                    let Some(at) = bytes.iter().position(|byte| *byte == SYNC_DELIMITER) else { return Ok(None) };
                    bytes = &bytes[at + 1..];
                    self.buffer.clear();
                    self.state = State::Delimited { id };
                }
                State::Delimited { id } => {
                    let end = bytes.iter().position(|byte| [b'\n', SYNC_DELIMITER].contains(byte));
                    let (line, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
                    if self.buffer.len() + line.len() > MAX_SYNC_REPLY_BYTES {
                        self.state = State::Stale { id };
                        continue;
                    }
                    self.buffer.extend_from_slice(line);
                    bytes = rest;
                    match bytes.first() {
                        None => return Ok(None),
                        Some(b'\n') if is_sync_reply(&self.buffer, id) => return Ok(Some(AgentReply::Synchronized)),
                        // A reply to another client, or the delimiter of the next one.
                        Some(_) => self.state = State::Stale { id },
                    }
                }
                State::Synchronized { limit } => {
                    let end = bytes.iter().position(|byte| *byte == b'\n');
                    let (line, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
                    if self.buffer.len() + line.len() > limit {
                        return Err(InvalidReply::TooLong { limit });
                    }
                    self.buffer.extend_from_slice(line);
                    if end.is_none() {
                        return Ok(None);
                    }
                    bytes = &rest[1..];
                    let line = std::mem::take(&mut self.buffer);
                    if !line.trim_ascii().is_empty() {
                        return reply(&line).map(Some);
                    }
                }
            }
        }
        Ok(None)
    }

    /// Returns how much memory the decoder holds.
    pub fn buffered(&self) -> usize {
        self.buffer.capacity()
    }
}

fn is_sync_reply(line: &[u8], id: u32) -> bool {
    let reply: Option<Value> = serde_json::from_slice(line).ok();
    reply.and_then(|reply| reply.get("return")?.as_u64()) == Some(u64::from(id))
}

fn reply(line: &[u8]) -> Result<AgentReply, InvalidReply> {
    let invalid = || InvalidReply::NotAReply { line: escaped(String::from_utf8_lossy(line).trim(), MAX_QUOTED_CHARS) };
    let Ok(Value::Object(mut reply)) = serde_json::from_slice(line) else { return Err(invalid()) };
    if let Some(error) = reply.get("error") {
        let text = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default();
        let description = truncated(text("desc"), MAX_DESCRIPTION_CHARS).into_owned();
        return Ok(AgentReply::Error { class: truncated(text("class"), MAX_QUOTED_CHARS).into_owned(), description });
    }
    reply.remove("return").map(AgentReply::Return).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns what a decoder makes of bytes that come in pieces.
    fn decode(bytes: &[u8], piece: usize) -> Result<Vec<AgentReply>, InvalidReply> {
        let mut decoder = AgentDecoder::new(7);
        let mut replies = Vec::new();
        for bytes in bytes.chunks(piece) {
            if let Some(reply) = decoder.push(bytes)? {
                if reply == AgentReply::Synchronized {
                    decoder.expect_reply(64);
                }
                replies.push(reply);
            }
        }
        Ok(replies)
    }

    #[test]
    fn test_sync_discards_what_others_left() {
        let left =
            b"{\"return\": 7}\n\xff{\"return\": 6}\nhalf a line {\"ret\xff{\"error\": {}}\n\xff\xff{\"return\": 7}\n";

        for piece in [1, 3, 1000] {
            assert_eq!(decode(left, piece).unwrap(), [AgentReply::Synchronized], "{piece}");
        }
    }

    #[test]
    fn test_reply_is_a_result_or_an_error() {
        let reply = |line: &str| {
            let mut decoder = AgentDecoder::new(7);
            decoder.expect_reply(200);
            decoder.push(line.as_bytes())
        };

        assert_eq!(reply("\r\n{\"return\": {\"pid\": 4}}\n").unwrap(), Some(AgentReply::Return(json!({"pid": 4}))));
        let error = "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"no\"}}\n";
        let expected = AgentReply::Error { class: "CommandNotFound".to_owned(), description: "no".to_owned() };
        assert_eq!(reply(error).unwrap(), Some(expected));
        assert_eq!(reply("{\"return\": 1").unwrap(), None);
        for invalid in ["hello\n", "[]\n", "{}\n", "\u{1b}[2J\n"] {
            assert!(matches!(reply(invalid), Err(InvalidReply::NotAReply { .. })), "{invalid}");
        }
        let long = format!("{{\"return\": \"{}\"}}\n", "x".repeat(300));
        assert_eq!(reply(&long), Err(InvalidReply::TooLong { limit: 200 }));
    }

    #[test]
    fn test_sync_endless_bytes_take_no_memory() {
        let mut decoder = AgentDecoder::new(7);
        for _ in 0..1000 {
            assert_eq!(decoder.push(&[b'x'; 4096]).unwrap(), None);
            assert_eq!(decoder.push(&[&[SYNC_DELIMITER][..], &[b'y'; 4096]].concat()).unwrap(), None);
        }

        assert!(decoder.buffered() <= 2 * MAX_SYNC_REPLY_BYTES, "{}", decoder.buffered());
    }

    #[test]
    fn test_sync_request_begins_with_the_delimiter() {
        let line = AgentCommand::sync(7);

        assert_eq!(line[0], SYNC_DELIMITER);
        assert_eq!(line[1..], *b"{\"execute\":\"guest-sync-delimited\",\"arguments\":{\"id\":7}}\n");
    }

    proptest! {
        #[test]
        fn test_decoder_any_bytes_in_any_pieces_give_the_same(
            bytes in proptest::collection::vec(prop_oneof![
                Just(SYNC_DELIMITER), Just(b'\n'), Just(b'{'), Just(b'"'), any::<u8>()
            ], 0..200),
            piece in 1_usize..20,
        ) {
            // What follows a reply in the same piece is discarded, so only the outcome up to there is the same.
            let first = |piece| decode(&bytes, piece).map(|replies| replies.into_iter().next());
            prop_assert_eq!(first(piece), first(1));
        }
    }
}
