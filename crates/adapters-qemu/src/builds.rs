//! The port [`Builds`]: a fresh process of a binary, without a VM, lists its device types; replies are cached in files.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{Write, pipe};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::Command;
use std::{fs, io};

use async_trait::async_trait;
use maqet_adapters_linux::process::{CaptureError, Captured, Group, capture, display_status};
use maqet_domain::port::{BuildUnavailable, Builds};
use maqet_domain::qmp::{QmpCommand, TypeKind, TypeQuery};
use maqet_domain::vm::ProcessIdentity;
use serde_json::Value;

use crate::binary_cache::{BinaryCache, Build};
use crate::limits::{BUILD_QUERY_TIMEOUT, MAX_BUILD_REPLY_BYTES};
use crate::stderr_tail::stderr_tail;

/// The largest file that is read: the types have some 40 KB, the properties of a device 5 KB.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// A QEMU without a machine, as libvirt starts it to find out what a binary supports, with QMP on its standard streams.
const ARGUMENTS: [&str; 9] =
    ["-machine", "none", "-nodefaults", "-no-user-config", "-S", "-display", "none", "-qmp", "stdio"];

/// Builds of QEMU, with a file of replies for each binary.
#[derive(Debug)]
pub struct QemuBuilds(BinaryCache);

/// Replies by query; of a refused query, null.
type Replies = BTreeMap<String, Value>;

impl QemuBuilds {
    /// Keeps replies in `folder`, which the first one creates.
    pub const fn new(folder: PathBuf) -> Self {
        Self(BinaryCache::new(folder, "device-types", MAX_FILE_BYTES))
    }

    fn cached(&self, build: &Build) -> Replies {
        self.0.get(build).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }
}

#[async_trait]
impl Builds for QemuBuilds {
    async fn ask(&self, process: &ProcessIdentity, query: &TypeQuery) -> Result<Option<Value>, BuildUnavailable> {
        let build = Build::from_process(process).ok_or(BuildUnavailable::Hidden)?;
        let key = line(&query.command());
        let mut replies = self.cached(&build);
        if let Some(reply) = replies.remove(&key) {
            return Ok(Some(reply).filter(|reply| !reply.is_null()));
        }
        let binary = || {
            let path = build.path().to_string_lossy();
            path.strip_suffix(" (deleted)").unwrap_or(&path).to_owned()
        };
        if Build::at(build.path().to_owned()).as_ref() != Some(&build) {
            return Err(BuildUnavailable::Replaced { binary: binary() });
        }
        let failed = |reason| BuildUnavailable::Failed { binary: binary(), reason };
        for (query, reply) in run(&build, process, &together(query)).await.map_err(failed)? {
            replies.insert(query, reply);
        }
        if let Ok(text) = serde_json::to_string(&replies) {
            self.0.put(&build, &text);
        }
        Ok(replies.remove(&key).filter(|reply| !reply.is_null()))
    }
}

/// Returns the queries to answer in one process: who asks for one list of types soon asks for the other.
fn together(query: &TypeQuery) -> Vec<String> {
    let queries = match query {
        TypeQuery::Types(_) => [TypeKind::Device, TypeKind::PciDevice].map(TypeQuery::Types).to_vec(),
        TypeQuery::Properties(_) => vec![query.clone()],
    };
    queries.iter().map(|query| line(&query.command())).collect()
}

/// Runs queries in a fresh process, and returns the reply to each; null if it is refused. A failure is described.
async fn run(build: &Build, process: &ProcessIdentity, queries: &[String]) -> Result<Replies, String> {
    let [first, last] = ["qmp_capabilities", "quit"].map(|name| line(&QmpCommand::new(name)));
    let lines = [&[first], queries, &[last]].concat().join("\n") + "\n";
    let mut command = Command::new(build.path());
    // A wrapper around the binary may have set the folder of its modules.
    command.args(ARGUMENTS).current_dir("/").env_clear().envs(environment(process));
    let captured = match filled_pipe(lines.as_bytes()) {
        Ok(input) => capture(command, input.into(), Group::New, BUILD_QUERY_TIMEOUT, MAX_BUILD_REPLY_BYTES).await,
        Err(error) => Err(CaptureError::Io(error)),
    };
    match captured {
        Ok(captured) => {
            // The first reply is that to `qmp_capabilities`.
            let replies = replies(&captured.output.stdout).skip(1).map(|mut reply| reply["return"].take());
            let replies: Replies = queries.iter().cloned().zip(replies).collect();
            if replies.len() == queries.len() { Ok(replies) } else { Err(ended(&captured)) }
        }
        Err(CaptureError::Spawn(error) | CaptureError::Io(error)) => Err(error.to_string()),
        Err(CaptureError::TimedOut) => Err(format!("it did not end within {} s", BUILD_QUERY_TIMEOUT.as_secs())),
        Err(CaptureError::OutputTooLarge) => {
            Err(format!("its reply has more than {} MiB", MAX_BUILD_REPLY_BYTES >> 20))
        }
    }
}

fn line(command: &QmpCommand) -> String {
    serde_json::to_string(command).unwrap_or_default()
}

/// Returns the replies to commands in QEMU's output, which begins with a greeting and may have events.
fn replies(output: &[u8]) -> impl Iterator<Item = Value> {
    let values = output.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    values.filter(|value| value.get("return").is_some() || value.get("error").is_some())
}

fn ended(captured: &Captured) -> String {
    let tail = stderr_tail(&captured.output.stderr);
    let last = tail.lines().last().map(|last| format!(": {last}")).unwrap_or_default();
    format!("it ended with {}{last}", display_status(captured.status))
}

/// Returns the environment that a process was started with.
fn environment(process: &ProcessIdentity) -> Vec<(OsString, OsString)> {
    let content = fs::read(format!("/proc/{}/environ", process.pid)).unwrap_or_default();
    let variables = content.split(|&byte| byte == 0).filter_map(|variable| {
        let at = variable.iter().position(|&byte| byte == b'=').filter(|&at| at > 0)?;
        Some((OsStr::from_bytes(&variable[..at]).to_owned(), OsStr::from_bytes(&variable[at + 1..]).to_owned()))
    });
    variables.collect()
}

/// Returns the end of a pipe that holds `content`, which is smaller than any pipe.
fn filled_pipe(content: &[u8]) -> io::Result<io::PipeReader> {
    let (reader, mut writer) = pipe()?;
    writer.write_all(content)?;
    Ok(reader)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn test_replies_greeting_and_events_are_left_out() {
        let output =
            b"{\"QMP\": {}}\r\n{\"return\": {}}\r\n{\"event\": \"STOP\"}\n{\"error\": {\"class\": \"x\"}}\n{\"ret";

        let replies: Vec<Value> = replies(output).collect();

        assert_eq!(replies, [json!({"return": {}}), json!({"error": {"class": "x"}})]);
    }
}
