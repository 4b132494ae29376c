//! The port [`Hooks`]: programs of the user's, each in a process group of its own, bounded in time and output.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use async_trait::async_trait;
use jiff::Timestamp;
use maqet_domain::port::{HookCall, HookError, Hooks};
use rustix::fs::MemfdFlags;

use crate::atomic_file::replace_unsynced;
use crate::environment::{ProcessEnvironment, Unfound};
use crate::limits::{HOOK_LOG_BYTES, HOOK_OUTPUT_BYTES};
use crate::private_file::{private_folder, private_log};
use crate::process::{CaptureError, Group, Printed, begin, finish_into, in_words};

/// Runs hooks in the environment of all programs.
#[derive(Debug)]
pub struct LocalHooks {
    environment: ProcessEnvironment,
}

/// The variable that every hook gets.
const EVENT_VARIABLE: &str = "MAQET_EVENT";

/// The file beside a flight recorder that says how far hooks were told of it.
const TOLD: &str = "hooks.told";

impl LocalHooks {
    /// Makes one that runs programs in `environment`.
    pub const fn new(environment: ProcessEnvironment) -> Self {
        Self { environment }
    }

    /// Returns the group of a hook: its own, so that all it starts ends with it.
    ///
    /// A hook of a maqet that a hook called belongs to that hook, whose end would not reach it otherwise.
    fn group(&self) -> Group {
        if self.environment.has(OsStr::new(EVENT_VARIABLE)) { Group::Ours } else { Group::Own }
    }

    async fn capture(&self, call: &HookCall, printed: &mut Printed) -> Result<ExitStatus, HookError> {
        let (wanted, arguments) = call.command.split_first().ok_or(HookError::Missing { wanted: String::new() })?;
        let not_run = |source: io::Error| HookError::NotRun { source: source.into() };
        let program = self.environment.find(OsStr::new(wanted)).map_err(|unfound| match unfound {
            Unfound::Missing => HookError::Missing { wanted: wanted.clone() },
            Unfound::NotRunnable(_, why) => not_run(why),
        })?;
        let mut command = self.environment.command(&program);
        command.args(arguments).current_dir("/");
        command.envs(call.variables.iter().map(|(name, value)| (name, value)));
        let input = input(&call.input).map_err(not_run)?;
        let captured = match begin(command, input, self.group()) {
            Ok(child) => finish_into(child, call.deadline, HOOK_OUTPUT_BYTES, printed).await,
            Err(error) => Err(error),
        };
        match captured {
            Ok(status) => Ok(status),
            Err(CaptureError::Spawn(why) | CaptureError::Io(why)) => Err(not_run(why)),
            Err(CaptureError::TimedOut) => Err(HookError::TimedOut { after: call.deadline }),
            Err(CaptureError::TooMuch) => Err(HookError::TooMuch),
        }
    }
}

#[async_trait]
impl Hooks for LocalHooks {
    async fn run(&self, call: &HookCall) -> Result<(), HookError> {
        let mut printed = Printed::default();
        let outcome = self.capture(call, &mut printed).await;
        // A log that cannot be written takes nothing from what the hook did.
        let _ = log(call, &outcome, &printed);
        match outcome? {
            status if status.success() => Ok(()),
            status => Err(HookError::Failed { status: in_words(status) }),
        }
    }

    async fn told(&self, records: &Path) -> u64 {
        std::fs::read_to_string(records.join(TOLD)).ok().and_then(|text| text.trim().parse().ok()).unwrap_or_default()
    }

    async fn set_told(&self, records: &Path, offset: u64) {
        let _ = replace_unsynced(&records.join(TOLD), offset.to_string().as_bytes());
    }
}

/// Returns a file with `text` for a standard input: however large it is, nobody has to wait for a reader.
fn input(text: &str) -> io::Result<Stdio> {
    let mut file = File::from(rustix::fs::memfd_create("maqet-event", MemfdFlags::CLOEXEC)?);
    file.write_all(text.as_bytes())?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file.into())
}

/// Adds to the log what a hook printed and how it ended; a log that has become large begins anew.
fn log(call: &HookCall, outcome: &Result<ExitStatus, HookError>, printed: &Printed) -> io::Result<()> {
    private_folder(call.log.parent().unwrap_or(Path::new("/")))?;
    if std::fs::symlink_metadata(&call.log).is_ok_and(|found| found.len() > HOOK_LOG_BYTES) {
        std::fs::rename(&call.log, call.log.with_extension("log.1"))?;
    }
    let ended = outcome.as_ref().map_or_else(ToString::to_string, |status| in_words(*status));
    let command = call.command.join(" ").escape_debug().to_string();
    let mut entry = format!("{:.3} `{command}`: {ended}\n", Timestamp::now()).into_bytes();
    // Not all of a flood: how it began tells what it was.
    for output in [&printed.stdout, &printed.stderr] {
        entry.extend(output.iter().take(HOOK_OUTPUT_BYTES));
    }
    if entry.last() != Some(&b'\n') {
        entry.push(b'\n');
    }
    // In one write, so that the entries of two processes do not mix.
    private_log(&call.log)?.write_all(&entry)
}
