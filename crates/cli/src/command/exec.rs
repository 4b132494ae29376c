//! `maqet exec`, and `maqet shell`.

mod terminal;

use std::fs::{self, File};
use std::future::{pending, ready};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use maqet::domain::guest::{GuestStream, ProcessSignal, TerminalSize};
use maqet::operation::{Exec, ExecAttach, ExecOutcome, ExecResult, ExecVia};
use maqet::{ErrorReport, ExecStreams, Explanation, Fault, Maqet, Operation};
use serde_json::json;
use tokio::sync::Mutex;

use self::terminal::CommandTerminal;
use crate::args::{ExecAttachArgs, ExecRunArgs, ShellArgs};
use crate::error::{output_failed, terminal_failed, usage};
use crate::exit_code;
use crate::render::Output;
use crate::signal::{SignalKind, Signals};
use crate::stream::{Stdin, Stdout};

/// The signals that are for the command.
const SIGNALS: [SignalKind; 3] = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];

/// How long the end of the output may take to be written to a terminal.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// What became of a command: its result, and what failed afterward.
type Ran = Result<(ExecResult, Option<ErrorReport>), ErrorReport>;

/// Runs a login shell on the terminal of this process; returns its exit code.
pub(super) async fn shell(maqet: &Maqet, args: ShellArgs, output: &Output) -> Result<u8, ErrorReport> {
    run(maqet, args.into(), output).await
}

/// Runs a command with the streams of this process; returns the exit code.
pub(super) async fn run(maqet: &Maqet, args: ExecRunArgs, output: &Output) -> Result<u8, ErrorReport> {
    let report = args.report.clone();
    reported(report.as_deref(), output, run_command(maqet, args, output)).await
}

/// Follows the output of a detached command; returns the exit code.
pub(super) async fn attach(maqet: &Maqet, args: ExecAttachArgs, output: &Output) -> Result<u8, ErrorReport> {
    let report = args.report.clone();
    reported(report.as_deref(), output, follow(maqet, args, output)).await
}

/// Runs a command, and writes its result to the file `report`.
async fn reported(report: Option<&Path>, output: &Output, run: impl Future<Output = Ran>) -> Result<u8, ErrorReport> {
    // Before the command runs, so that its exit code is not lost to a report that cannot be written.
    let report = report.map(ReportFile::create).transpose()?;
    let ran = run.await;
    let written = report.map_or(Ok(()), |report| report.put(&format!("{:#}\n", document(&ran)?)));
    let (result, failed) = ran?;
    note_outcome(&result, output);
    if let Some(failed) = failed {
        written?;
        return Err(failed);
    }
    if let Err(error) = written {
        output.note(&error.message);
    }
    Ok(result.exit_code)
}

async fn follow(maqet: &Maqet, args: ExecAttachArgs, output: &Output) -> Ran {
    let streams = Streams::open(false, false, false)?;
    let attach = ExecAttach::new(args.vm, args.command).timeout(args.timeout);
    streamed(maqet, attach.streams(Arc::clone(&streams) as _), streams, output).await
}

/// Runs a command whose output goes to these streams.
async fn streamed(
    maqet: &Maqet,
    operation: impl Operation<Output = ExecResult>,
    streams: Arc<Streams>,
    output: &Output,
) -> Ran {
    let result = maqet.run(operation).await;
    let has_exited = result.as_ref().is_ok_and(|result| result.outcome == ExecOutcome::Exited);
    let failed = finish(streams, has_exited).await.map_err(output_failed).err();
    let result = result?;
    if !output.is_text() {
        output.show_beside(&result);
    }
    Ok((result, failed))
}

async fn run_command(maqet: &Maqet, args: ExecRunArgs, output: &Output) -> Ran {
    if !args.stdin && !args.terminal && is_data_waiting() {
        output.note("standard input is not passed on: pass `-i` for that");
    }
    let streams = Streams::open(args.stdin, args.terminal, args.capture || args.detach)?;
    let environment = environment(&args.environment, args.terminal, maqet)?;
    let exec = Exec::new(args.vm, args.command)
        .user(args.user)
        .directory(args.workdir)
        .environment(environment)
        .timeout(args.timeout)
        .kill_after(args.kill_after)
        .merge(args.merge)
        .detach(args.detach)
        .via(args.via);
    if args.capture || args.detach {
        let result = maqet.run(exec.captured(streams)).await?;
        let failed = output.show(&result).err();
        return Ok((result, failed));
    }
    streamed(maqet, exec.streams(Arc::clone(&streams) as _), streams, output).await
}

/// Returns variables with their values, and `TERM` for a command on a terminal.
pub(super) fn environment<'t>(
    given: impl IntoIterator<Item = &'t String>,
    has_terminal: bool,
    maqet: &Maqet,
) -> Result<Vec<String>, ErrorReport> {
    let kind = has_terminal.then(|| variable("TERM", maqet).ok()).flatten();
    let given = given.into_iter().map(|text| variable(text, maqet));
    kind.map(Ok).into_iter().chain(given).collect()
}

/// Waits until all output is written, and restores the terminal; `has_exited` if the command has exited.
pub(super) async fn finish(streams: Arc<Streams>, has_exited: bool) -> io::Result<()> {
    let Some(Streams { outputs: Some((stdout, stderr)), terminal, .. }) = Arc::into_inner(streams) else {
        return Ok(());
    };
    let written = async {
        let (stdout, stderr) = tokio::join!(stdout.finish(), stderr.finish());
        stdout.and(stderr)
    };
    let Some(terminal) = terminal else { return written.await };
    // A terminal that was halted with Ctrl-S must not block the exit.
    let written = tokio::time::timeout(FLUSH_TIMEOUT, written).await.unwrap_or(Ok(()));
    terminal.restore(has_exited);
    written
}

/// Returns a variable with its value, that of our own environment if none is given.
fn variable(text: &str, maqet: &Maqet) -> Result<String, ErrorReport> {
    if text.contains('=') {
        return Ok(text.to_owned());
    }
    let value = maqet.settings().environment.get(text).and_then(|value| value.to_str().map(str::to_owned));
    let value = value.ok_or_else(|| usage(format!("the environment of maqet has no variable `{text}`")))?;
    Ok(format!("{text}={value}"))
}

/// Returns whether a pipe holds data, which the user may expect to reach the command.
fn is_data_waiting() -> bool {
    let stdin = io::stdin();
    let is_pipe = || {
        let kind = rustix::fs::fstat(&stdin).map(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode));
        kind.is_ok_and(|kind| kind == rustix::fs::FileType::Fifo)
    };
    !stdin.is_terminal() && is_pipe() && rustix::io::ioctl_fionread(&stdin).is_ok_and(|length| length > 0)
}

fn note_outcome(result: &ExecResult, output: &Output) {
    if !output.is_text() {
        return;
    }
    if result.via == ExecVia::Agent
        && let Some(refused) = result.refused.first()
    {
        output.note(&format!("the output came at the end, at most 16 MiB of each stream: {}", refused.reason));
    }
    if result.truncated {
        output.note("the output was cut");
    }
    let what = match result.outcome {
        // Of a detached command that was followed.
        ExecOutcome::Interrupted | ExecOutcome::TimedOut if result.detached.is_some() => Some("the command was left"),
        ExecOutcome::Exited | ExecOutcome::Signalled | ExecOutcome::Interrupted | ExecOutcome::Detached => None,
        ExecOutcome::TimedOut if result.reason.is_some() => Some("the command timed out"),
        ExecOutcome::TimedOut => Some("the command timed out, and was ended"),
        ExecOutcome::VmEnded => Some("the command was cut off"),
        ExecOutcome::Lost => Some("the command was lost"),
    };
    match (what, &result.reason) {
        (Some(what), Some(reason)) => output.note(&format!("{what}: {reason}")),
        (Some(text), None) => output.note(text),
        (None, Some(text)) => output.note(text),
        (None, None) => {}
    }
}

/// Returns the document of a report.
fn document(ran: &Ran) -> Result<serde_json::Value, ErrorReport> {
    Ok(match ran {
        Ok((result, failed)) => {
            let mut document = serde_json::to_value(result).map_err(|error| output_failed(error.into()))?;
            if let Some(failed) = failed {
                document["error"] = failed.to_document()["error"].take();
            }
            document
        }
        Err(report) => {
            let mut document = json!({ "outcome": "not-started", "exit_code": exit_code::of_exec(report) });
            document["error"] = report.to_document()["error"].take();
            document
        }
    })
}

/// The file of the result, which is written whole or not at all; a device or a FIFO is written to.
pub(super) struct ReportFile {
    file: File,
    /// The file beside that of the report, and the latter's path, whose place it takes.
    part: Option<(PathBuf, PathBuf)>,
}

impl ReportFile {
    pub(super) fn create(path: &Path) -> Result<Self, ErrorReport> {
        Self::open(path).map_err(|error| {
            let message = format!("cannot write the report `{}`", path.display());
            ErrorReport::new(message, Explanation::new("output.failed", Fault::Failed)).cause(&error)
        })
    }

    fn open(path: &Path) -> io::Result<Self> {
        let found = fs::metadata(path);
        if found.as_ref().is_ok_and(|found| !found.is_file()) {
            return Ok(Self { file: File::options().write(true).open(path)?, part: None });
        }
        // A link is kept, and what it leads to is replaced.
        let path = if path.is_symlink() { fs::canonicalize(path)? } else { path.to_owned() };
        let mut part = path.as_os_str().to_owned();
        part.push(".maqet-part");
        let part = PathBuf::from(part);
        // Left by a killed process; whatever it is, it is not followed.
        let _ = fs::remove_file(&part);
        Ok(Self { file: File::create_new(&part)?, part: Some((part, path)) })
    }

    pub(super) fn put(mut self, text: &str) -> Result<(), ErrorReport> {
        let written = self.file.write_all(text.as_bytes());
        let replaced = written.and_then(|()| match &self.part {
            Some((part, path)) => fs::rename(part, path),
            None => Ok(()),
        });
        replaced.map_err(output_failed)
    }
}

impl Drop for ReportFile {
    fn drop(&mut self) {
        if let Some((part, _)) = &self.part {
            // There is none any more, unless it could not be written.
            let _ = fs::remove_file(part);
        }
    }
}

/// The streams, the signals and the terminal of this process.
pub(super) struct Streams {
    signals: Arc<CommandSignals>,
    /// How many there were for this command.
    count: AtomicU32,
    /// Opened when it is first read.
    stdin: Option<OnceLock<Mutex<Stdin>>>,
    outputs: Option<(Stdout, Stdout)>,
    terminal: Option<CommandTerminal>,
}

/// The signals of this process, for one command or several in turn; none is lost between two.
pub(super) struct CommandSignals {
    signals: Mutex<Signals>,
    /// Whether one came that is not for a command alone.
    have_ended: AtomicBool,
}

impl CommandSignals {
    pub(super) fn open() -> Result<Arc<Self>, ErrorReport> {
        let signals = Mutex::new(Signals::new(&SIGNALS).map_err(terminal_failed)?);
        Ok(Arc::new(Self { signals, have_ended: AtomicBool::new(false) }))
    }

    /// Returns whether no more commands are to be run: a signal came that ends this process, or that no command got.
    pub(super) async fn have_ended(&self) -> bool {
        // Signals that have come are received when this task yields.
        tokio::task::yield_now().await;
        let mut signals = self.signals.lock().await;
        let is_left = tokio::select! {
            biased;
            _ = signals.next() => true,
            () = ready(()) => false,
        };
        is_left || self.have_ended.load(Ordering::Relaxed)
    }
}

impl Streams {
    /// Connects a command; `is_captured` if its output is not written as it comes.
    pub(super) fn open(has_stdin: bool, has_terminal: bool, is_captured: bool) -> Result<Arc<Self>, ErrorReport> {
        Self::with_signals(CommandSignals::open()?, has_stdin, has_terminal, is_captured)
    }

    /// Connects one of several commands.
    pub(super) fn with_signals(
        signals: Arc<CommandSignals>,
        has_stdin: bool,
        has_terminal: bool,
        is_captured: bool,
    ) -> Result<Arc<Self>, ErrorReport> {
        let terminal = has_terminal.then(CommandTerminal::open).transpose()?;
        Ok(Arc::new(Self {
            signals,
            count: AtomicU32::new(0),
            stdin: (has_stdin || has_terminal).then(OnceLock::new),
            outputs: (!is_captured).then(|| (Stdout::open(), Stdout::open_stderr())),
            terminal,
        }))
    }

    pub(super) fn has_terminal(&self) -> bool {
        self.terminal.is_some()
    }

    fn output(&self, stream: GuestStream) -> Option<&Stdout> {
        let (stdout, stderr) = self.outputs.as_ref()?;
        Some(if stream == GuestStream::Err { stderr } else { stdout })
    }
}

#[async_trait]
impl ExecStreams for Streams {
    fn has_input(&self) -> bool {
        self.stdin.is_some()
    }

    async fn read(&self) -> Vec<u8> {
        let Some(stdin) = &self.stdin else { return Vec::new() };
        if let Some(terminal) = &self.terminal {
            terminal.enter();
        }
        let mut stdin = stdin.get_or_init(|| Mutex::new(Stdin::open())).lock().await;
        loop {
            let bytes = stdin.next().await.unwrap_or_default();
            let passed = match &self.terminal {
                Some(terminal) if !bytes.is_empty() => terminal.pass_on(&bytes),
                _ => return bytes,
            };
            if !passed.is_empty() {
                return passed;
            }
        }
    }

    async fn writable(&self, stream: GuestStream) -> bool {
        match self.output(stream) {
            Some(output) => output.reserve().await.is_some(),
            None => false,
        }
    }

    fn write(&self, stream: GuestStream, bytes: Vec<u8>) {
        if let Some(output) = self.output(stream) {
            output.send(bytes);
        }
    }

    fn terminal(&self) -> Option<TerminalSize> {
        self.terminal.as_ref().map(|_| CommandTerminal::size())
    }

    async fn resized(&self) -> TerminalSize {
        match &self.terminal {
            Some(terminal) => terminal.resized().await,
            None => pending().await,
        }
    }

    /// The first Ctrl-C interrupts, the second terminates, the third kills.
    async fn signal(&self) -> ProcessSignal {
        let mut signals = self.signals.signals.lock().await;
        let escaped = async {
            match &self.terminal {
                Some(terminal) => terminal.escaped().await,
                None => pending().await,
            }
        };
        let signal = tokio::select! {
            signal = signals.next() => signal,
            () = escaped => SignalKind::hangup(),
        };
        let signal = match (self.count.fetch_add(1, Ordering::Relaxed) + 1, signal) {
            (3.., _) => ProcessSignal::Kill,
            (_, signal) if signal == SignalKind::hangup() => ProcessSignal::Hup,
            (1, signal) if signal == SignalKind::interrupt() => ProcessSignal::Int,
            (_, _) => ProcessSignal::Term,
        };
        // The first Ctrl-C is for the command alone.
        self.signals.have_ended.fetch_or(signal != ProcessSignal::Int, Ordering::Relaxed);
        signal
    }
}
