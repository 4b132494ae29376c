//! A guest agent without maqet: its socket, and JSON lines.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::Result;
use crate::failure::{Failure, OrFailure};

/// Far more than a request needs.
const TIMEOUT: Duration = Duration::from_mins(1);

/// How often the agent is asked whether a program has exited.
const INTERVAL: Duration = Duration::from_millis(2);

/// The byte before the reply to `guest-sync-delimited`.
const DELIMITER: u8 = 0xff;

/// The ID of each synchronization: a connection has one.
const ID: u32 = 7;

/// How much `guest-file-write` and `guest-file-read` take at once, which is a multiple of three: base64 has no rest then.
const PIECE: usize = 48 << 10;

/// A synchronized connection.
#[derive(Debug)]
pub(crate) struct Agent {
    stream: UnixStream,
    replies: BufReader<UnixStream>,
}

impl Agent {
    pub(crate) fn connect(socket: &Path) -> Result<Self> {
        let what = || format!("cannot connect to `{}`", socket.display());
        let mut stream = UnixStream::connect(socket).or_failure(what)?;
        stream.set_read_timeout(Some(TIMEOUT)).or_failure(what)?;
        let sync = json!({ "execute": "guest-sync-delimited", "arguments": { "id": ID } });
        let request = [&[DELIMITER][..], sync.to_string().as_bytes(), b"\n"].concat();
        stream.write_all(&request).or_failure(what)?;
        let mut replies = BufReader::new(stream.try_clone().or_failure(what)?);
        replies.read_until(DELIMITER, &mut Vec::new()).or_failure(what)?;
        let mut agent = Self { stream, replies };
        agent.reply(&what)?;
        Ok(agent)
    }

    /// Runs a command and returns its result.
    pub(crate) fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let what = || format!("cannot execute `{command}`");
        writeln!(self.stream, "{}", json!({ "execute": command, "arguments": arguments })).or_failure(what)?;
        self.reply(&what)
    }

    fn reply(&mut self, what: &dyn Fn() -> String) -> Result<Value> {
        let mut line = String::new();
        self.replies.read_line(&mut line).or_failure(what)?;
        let mut reply: Value = serde_json::from_str(&line).or_failure(what)?;
        match reply.get_mut("return") {
            Some(result) => Ok(result.take()),
            None => Err(Failure::new(what()).because(reply.to_string())),
        }
    }

    /// Starts a program; returns its process.
    pub(crate) fn start(&mut self, program: &str, arguments: &[&str]) -> Result<Value> {
        let request = json!({ "path": program, "arg": arguments, "capture-output": true });
        Ok(self.execute("guest-exec", &request)?["pid"].take())
    }

    /// Runs a program to its end; it must exit with 0.
    pub(crate) fn run(&mut self, program: &str, arguments: &[&str]) -> Result<()> {
        let request = json!({ "pid": self.start(program, arguments)? });
        loop {
            let status = self.execute("guest-exec-status", &request)?;
            if status["exited"] == true {
                let is_done = status["exitcode"] == 0;
                let failed = || Failure::new(format!("`{program}` failed in the guest")).because(status.to_string());
                return if is_done { Ok(()) } else { Err(failed()) };
            }
            sleep(INTERVAL);
        }
    }

    /// Writes a file with so many zeros, as `guest-file-write` does.
    pub(crate) fn write(&mut self, path: &str, length: usize) -> Result<()> {
        let file = self.execute("guest-file-open", &json!({ "path": path, "mode": "w" }))?;
        let mut left = length;
        while left > 0 {
            // Of three zeros, base64 makes four letters.
            let piece = left.min(PIECE).next_multiple_of(3);
            let request = json!({ "handle": file, "buf-b64": "A".repeat(piece / 3 * 4), "count": left.min(PIECE) });
            self.execute("guest-file-write", &request)?;
            left -= left.min(PIECE);
        }
        self.execute("guest-file-close", &json!({ "handle": file })).map(drop)
    }

    /// Reads a file, and returns its length.
    pub(crate) fn read(&mut self, path: &str) -> Result<u64> {
        let file = self.execute("guest-file-open", &json!({ "path": path, "mode": "r" }))?;
        let mut length = 0;
        loop {
            let read = self.execute("guest-file-read", &json!({ "handle": file, "count": PIECE }))?;
            length += read["count"].as_u64().unwrap_or_default();
            if read["eof"] == true {
                self.execute("guest-file-close", &json!({ "handle": file }))?;
                return Ok(length);
            }
        }
    }
}
