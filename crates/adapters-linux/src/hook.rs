//! The port [`Hooks`]: programs of the user, each in its own process group, bounded in time and output.

use std::ffi::OsStr;
use std::fmt::{self, Display};
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use async_trait::async_trait;
use jiff::Timestamp;
use maqet_domain::port::{HookCall, HookError, HookOutcome, Hooks, LeftProcess, describe_left};
use rustix::fs::{MemfdFlags, OFlags};

use crate::environment::{ProcessEnvironment, ProgramError};
use crate::limits::MAX_HOOK_OUTPUT_BYTES;
use crate::private_file::{private_folder, private_log};
use crate::process::{CaptureError, Exit, Group, Output, display_status, process_name, run_into_files};

/// Runs hooks in the environment of child processes.
#[derive(Debug)]
pub struct LocalHooks {
    environment: ProcessEnvironment,
}

/// How a hook ended.
#[derive(Debug)]
struct Ended {
    status: ExitStatus,
    left: Vec<LeftProcess>,
}

impl Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", display_status(self.status))?;
        if self.left.is_empty() { Ok(()) } else { write!(f, ", {}", describe_left(&self.left)) }
    }
}

/// The variable that every hook gets.
const EVENT_VARIABLE: &str = "MAQET_EVENT";

/// The file beside a QMP log with the offset up to which hooks were run.
const OFFSET_FILE: &str = "hooks.offset";

impl LocalHooks {
    /// Runs programs in `environment`.
    pub const fn new(environment: ProcessEnvironment) -> Self {
        Self { environment }
    }

    /// Returns the group of a hook: a new one, so that its child processes are killed with it.
    ///
    /// A hook of a maqet that a hook runs stays in the group of that hook, so that it is killed with it as well.
    fn group(&self) -> Group {
        if self.environment.has(OsStr::new(EVENT_VARIABLE)) { Group::Inherited } else { Group::New }
    }

    async fn execute(&self, call: &HookCall, output: &mut Output) -> Result<Ended, HookError> {
        let (name, arguments) = call.command.split_first().ok_or(HookError::NotFound { program: String::new() })?;
        let not_run = |source: io::Error| HookError::NotStarted { source: source.into() };
        let program = self.environment.find(OsStr::new(name)).map_err(|error| match error {
            ProgramError::NotFound => HookError::NotFound { program: name.clone() },
            ProgramError::NotExecutable(_, error) => not_run(error),
        })?;
        let mut command = self.environment.full_command(&program);
        command.args(arguments).current_dir("/");
        command.envs(call.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(input(&call.input).map_err(not_run)?);
        let result = run_into_files(command, self.group(), call.timeout, MAX_HOOK_OUTPUT_BYTES, output).await;
        let ended = |Exit { status, left_running }| {
            let left = |pid| LeftProcess { pid, program: process_name(pid).unwrap_or_default() };
            Ended { status, left: left_running.into_iter().map(left).collect() }
        };
        result.map(ended).map_err(|error| match error {
            CaptureError::Spawn(error) | CaptureError::Io(error) => not_run(error),
            CaptureError::TimedOut => HookError::TimedOut { after: call.timeout },
            CaptureError::OutputTooLarge => HookError::OutputTooLarge,
        })
    }
}

#[async_trait]
impl Hooks for LocalHooks {
    async fn run(&self, call: &HookCall) -> Result<HookOutcome, HookError> {
        let mut output = Output::default();
        let result = self.execute(call, &mut output).await;
        // The hook has run, whether or not it can be logged.
        let _ = log(call, &result, &output);
        match result? {
            Ended { status, left } if status.success() => Ok(HookOutcome { left }),
            Ended { status, .. } => Err(HookError::Failed { status: display_status(status).to_string() }),
        }
    }

    async fn delivered(&self, records: &Path) -> u64 {
        let text = std::fs::read_to_string(records.join(OFFSET_FILE)).ok();
        text.and_then(|text| text.trim().parse().ok()).unwrap_or_default()
    }

    async fn set_delivered(&self, records: &Path, offset: u64) {
        let _ = write_offset(&records.join(OFFSET_FILE), offset);
    }
}

/// Writes an offset in place and always with the same length, which needs no space: a hook must not run twice because the
/// disk is full.
fn write_offset(file: &Path, offset: u64) -> io::Result<()> {
    let mut options = File::options();
    options.write(true).create(true).truncate(false).mode(0o600).custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    options.open(file)?.write_all_at(format!("{offset:020}\n").as_bytes(), 0)
}

/// Returns a standard input with `text` that needs no writer, however long it is.
fn input(text: &str) -> io::Result<Stdio> {
    let mut file = File::from(rustix::fs::memfd_create("maqet-event", MemfdFlags::CLOEXEC)?);
    file.write_all(text.as_bytes())?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file.into())
}

/// Logs the output of a hook and how it exited; a large log is rotated.
fn log(call: &HookCall, result: &Result<Ended, HookError>, output: &Output) -> io::Result<()> {
    private_folder(call.log.parent().unwrap_or(Path::new("/")))?;
    if std::fs::symlink_metadata(&call.log).is_ok_and(|found| found.len() > call.max_log_bytes) {
        std::fs::rename(&call.log, call.log.with_extension("log.1"))?;
    }
    let exit = result.as_ref().map_or_else(ToString::to_string, ToString::to_string);
    let command = call.command.join(" ").escape_debug().to_string();
    let mut entry = format!("{:.3} `{command}`: {exit}\n", Timestamp::now()).into_bytes();
    for output in [&output.stdout, &output.stderr] {
        entry.extend(output.iter().take(MAX_HOOK_OUTPUT_BYTES));
    }
    if entry.last() != Some(&b'\n') {
        entry.push(b'\n');
    }
    // One write, so that the entries of two processes do not mix.
    private_log(&call.log)?.write_all(&entry)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn test_write_offset_again_changes_neither_file_nor_length() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(OFFSET_FILE);

        let written = [7, u64::MAX, 12].map(|offset| {
            write_offset(&file, offset).unwrap();
            let found = fs::metadata(&file).unwrap();
            let text = fs::read_to_string(&file).unwrap();
            (found.ino(), found.len(), text.trim().parse::<u64>().unwrap())
        });

        let (inode, length, _) = written[0];
        assert_eq!(written, [(inode, length, 7), (inode, length, u64::MAX), (inode, length, 12)]);
    }
}
