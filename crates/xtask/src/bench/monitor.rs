//! A session with a QEMU without maqet.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IoSlice, Lines, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Value, json};

use crate::Result;
use crate::failure::{Failure, OrFailure};

/// Far more than a job needs.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The ID of each job.
const JOB: &str = "limit";

/// A session that is negotiated.
#[derive(Debug)]
pub(crate) struct Monitor {
    stream: UnixStream,
    lines: Lines<BufReader<UnixStream>>,
    events: Vec<Value>,
}

impl Monitor {
    pub(crate) fn connect(monitor: &Path) -> Result<Self> {
        let what = || format!("cannot connect to `{}`", monitor.display());
        let stream = UnixStream::connect(monitor).or_failure(what)?;
        stream.set_read_timeout(Some(TIMEOUT)).or_failure(what)?;
        let lines = BufReader::new(stream.try_clone().or_failure(what)?).lines();
        let mut session = Self { stream, lines, events: Vec::new() };
        session.until(|line| line["QMP"].is_object())?;
        session.execute(&json!({ "execute": "qmp_capabilities" }))?;
        Ok(session)
    }

    /// Runs a job to its end.
    pub(crate) fn run_job(&mut self, command: &str, mut arguments: Value) -> Result<()> {
        arguments["job-id"] = json!(JOB);
        self.execute(&json!({ "execute": command, "arguments": arguments }))?;
        self.until(|line| line["event"] == "JOB_STATUS_CHANGE" && line["data"]["status"] == "concluded")?;
        let jobs = self.execute(&json!({ "execute": "query-jobs" }))?;
        self.execute(&json!({ "execute": "job-dismiss", "arguments": { "id": JOB } }))?;
        match jobs["return"][0]["error"].as_str() {
            None => Ok(()),
            Some(error) => Err(Failure::new(format!("`{command}` failed")).because(error.to_owned())),
        }
    }

    /// Runs a command, and returns its result.
    pub(crate) fn command(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let mut answer = self.execute(&json!({ "execute": command, "arguments": arguments }))?;
        Ok(answer["return"].take())
    }

    /// Runs a command, and passes a descriptor with it.
    pub(crate) fn command_with(&mut self, command: &str, arguments: &Value, file: &File) -> Result<Value> {
        let command = json!({ "execute": command, "arguments": arguments });
        let what = || format!("cannot pass a file with `{}`", command["execute"]);
        let text = format!("{command}\n");
        let files = [file.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&files)) {
            return Err(Failure::new(what()));
        }
        let (first, rest) = text.as_bytes().split_at(1);
        sendmsg(&self.stream, &[IoSlice::new(first)], &mut control, SendFlags::NOSIGNAL).or_failure(what)?;
        self.stream.write_all(rest).or_failure(what)?;
        self.answer(&what).map(|mut answer| answer["return"].take())
    }

    /// Returns the events since the last call.
    pub(crate) fn events(&mut self) -> Result<Vec<Value>> {
        // What QEMU has sent before its answer has arrived with it.
        self.command("query-status", &json!({}))?;
        Ok(std::mem::take(&mut self.events))
    }

    fn execute(&mut self, command: &Value) -> Result<Value> {
        let what = || format!("cannot execute `{}`", command["execute"]);
        writeln!(self.stream, "{command}").or_failure(what)?;
        self.answer(&what)
    }

    fn answer(&mut self, what: &dyn Fn() -> String) -> Result<Value> {
        let answer = self.until(|line| line["return"] != Value::Null || line["error"] != Value::Null)?;
        if answer["error"].is_null() { Ok(answer) } else { Err(Failure::new(what()).because(answer.to_string())) }
    }

    fn until(&mut self, is_it: impl Fn(&Value) -> bool) -> Result<Value> {
        let what = || "no answer from QEMU".to_owned();
        loop {
            let line =
                self.lines.next().unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into())).or_failure(what)?;
            let line: Value = serde_json::from_str(&line).or_failure(what)?;
            let is_wanted = is_it(&line);
            if line["event"].is_string() {
                self.events.push(line.clone());
            }
            if is_wanted {
                return Ok(line);
            }
        }
    }
}
