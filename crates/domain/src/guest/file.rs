//! Files of the guest, as its agent reads and writes them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::protocol::AgentCommand;

/// An open file of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileHandle(i64);

impl FileHandle {
    /// Returns the handle that a reply to [`open_command`] has.
    pub fn from_reply(reply: &Value) -> Option<Self> {
        reply.as_i64().map(Self)
    }

    /// Returns the request that reads at most `count` bytes.
    pub fn read_command(self, count: usize) -> AgentCommand {
        AgentCommand::new("guest-file-read").argument("handle", self.0).argument("count", count)
    }

    /// Returns the request that writes bytes.
    pub fn write_command(self, bytes: &[u8]) -> AgentCommand {
        AgentCommand::new("guest-file-write").argument("handle", self.0).argument("buf-b64", STANDARD.encode(bytes))
    }

    /// Returns the request that closes the file, which writes what is buffered.
    pub fn close_command(self) -> AgentCommand {
        AgentCommand::new("guest-file-close").argument("handle", self.0)
    }
}

/// Returns the request that opens a file; `mode` is as for `fopen(3)`.
pub fn open_command(path: &str, mode: &'static str) -> AgentCommand {
    AgentCommand::new("guest-file-open").argument("path", path).argument("mode", mode)
}

/// Returns the bytes of a reply to a read, and whether the file has ended.
pub fn read_bytes(reply: &Value) -> Option<(Vec<u8>, bool)> {
    let bytes = STANDARD.decode(reply.get("buf-b64")?.as_str()?).ok()?;
    Some((bytes, reply.get("eof")?.as_bool()?))
}

/// Returns how many bytes were written, as the reply says.
pub fn written_count(reply: &Value) -> Option<usize> {
    usize::try_from(reply.get("count")?.as_u64()?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn test_read_bytes_of_hostile_replies_are_none() {
        assert_eq!(read_bytes(&json!({"buf-b64": "aGk=", "count": 2, "eof": true})), Some((b"hi".to_vec(), true)));
        for reply in [json!({}), json!({"buf-b64": "?", "eof": true}), json!({"buf-b64": "aGk="}), json!(7)] {
            assert_eq!(read_bytes(&reply), None, "{reply}");
        }
        assert_eq!(written_count(&json!({"count": 3, "eof": false})), Some(3));
        assert_eq!(written_count(&json!({"count": -3})), None);
    }

    #[test]
    fn test_write_command_has_the_bytes() {
        let handle = FileHandle::from_reply(&json!(1000)).unwrap();

        assert_eq!(handle.write_command(b"hi").arguments["buf-b64"], "aGk=");
        assert_eq!(handle.read_command(5).arguments["count"], 5);
    }
}
