//! `maqet exec`.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use maqet::domain::guest::{GuestStream, ProcessSignal};
use maqet::operation::{Exec, ExecOutcome, ExecResult, ExecVia};
use maqet::{ErrorReport, ExecStreams, Maqet};
use serde_json::json;
use tokio::sync::Mutex;

use crate::args::ExecArgs;
use crate::error::{output_failed, terminal_failed, usage};
use crate::exit_code;
use crate::render::{Output, TextOutput};
use crate::signal::{SignalKind, Signals};
use crate::stream::{Stdin, Stdout};

/// The signals that are for the command.
const SIGNALS: [SignalKind; 3] = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];

/// Runs a command with the streams of this process; returns the exit code.
pub(super) async fn run(maqet: &Maqet, args: ExecArgs, output: &Output) -> Result<u8, ErrorReport> {
    let report = args.report.clone();
    let outcome = run_command(maqet, args, output).await;
    if let Some(path) = &report {
        write_report(path, &outcome)?;
    }
    let result = outcome?;
    note_outcome(&result, output);
    Ok(result.exit_code)
}

async fn run_command(maqet: &Maqet, args: ExecArgs, output: &Output) -> Result<ExecResult, ErrorReport> {
    if !args.stdin && is_data_waiting() {
        output.note("standard input is not passed on: pass `-i` for that");
    }
    let environment = args.environment.iter().map(|text| variable(text, maqet)).collect::<Result<Vec<_>, _>>()?;
    let exec = Exec::new(args.vm, args.command)
        .user(args.user)
        .directory(args.workdir)
        .environment(environment)
        .timeout(args.timeout)
        .kill_after(args.kill_after)
        .merge(args.merge)
        .via(args.via);
    let signals = Signals::new(&SIGNALS).map_err(terminal_failed)?;
    if args.capture {
        let streams = Arc::new(Terminal { signals: Mutex::new((signals, 0)), stdin: None, outputs: None });
        return capture(maqet, exec, &streams, output).await;
    }
    let streams = Arc::new(Terminal {
        signals: Mutex::new((signals, 0)),
        stdin: args.stdin.then(|| Mutex::new(Stdin::open())),
        outputs: Some((Stdout::open(), Stdout::open_stderr())),
    });
    let result = maqet.run(exec.streams(Arc::clone(&streams) as _)).await;
    if let Some((stdout, stderr)) = Arc::into_inner(streams).and_then(|streams| streams.outputs) {
        stdout.finish().await.map_err(output_failed)?;
        stderr.finish().await.map_err(output_failed)?;
    }
    let result = result?;
    if !output.is_text() {
        output.show_beside(&result);
    }
    Ok(result)
}

/// Runs a command whose output is part of the result.
async fn capture(
    maqet: &Maqet,
    exec: Exec,
    signals: &Arc<Terminal>,
    output: &Output,
) -> Result<ExecResult, ErrorReport> {
    let result = maqet.run(exec.signals(Arc::clone(signals) as _)).await?;
    output.show(&result)?;
    Ok(result)
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
        ExecOutcome::Exited | ExecOutcome::Signalled | ExecOutcome::Interrupted => None,
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

/// Writes the result to a file, whole or not at all.
fn write_report(path: &Path, outcome: &Result<ExecResult, ErrorReport>) -> Result<(), ErrorReport> {
    let document = match outcome {
        Ok(result) => serde_json::to_value(result).map_err(|error| output_failed(error.into()))?,
        Err(report) => {
            let mut document = json!({ "outcome": "not-started", "exit_code": exit_code::of_exec(report) });
            document["error"] = report.to_document()["error"].take();
            document
        }
    };
    let mut part = path.as_os_str().to_owned();
    part.push(".maqet-part");
    let text = format!("{document:#}\n");
    let written = fs::write(&part, text).and_then(|()| fs::rename(&part, path));
    written.map_err(|error| {
        // What was written of it is of no use.
        let _ = fs::remove_file(&part);
        output_failed(error)
    })
}

/// The streams and signals of this process.
struct Terminal {
    signals: Mutex<(Signals, u32)>,
    stdin: Option<Mutex<Stdin>>,
    outputs: Option<(Stdout, Stdout)>,
}

impl Terminal {
    fn output(&self, stream: GuestStream) -> Option<&Stdout> {
        let (stdout, stderr) = self.outputs.as_ref()?;
        Some(if stream == GuestStream::Err { stderr } else { stdout })
    }
}

#[async_trait]
impl ExecStreams for Terminal {
    fn has_input(&self) -> bool {
        self.stdin.is_some()
    }

    async fn read(&self) -> Vec<u8> {
        match &self.stdin {
            Some(stdin) => stdin.lock().await.next().await.unwrap_or_default(),
            None => Vec::new(),
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

    /// The first Ctrl-C interrupts, the second terminates, the third kills.
    async fn signal(&self) -> ProcessSignal {
        let mut guard = self.signals.lock().await;
        let (signals, count) = &mut *guard;
        let is_interrupt = signals.next().await == SignalKind::interrupt();
        *count += 1;
        match *count {
            1 if is_interrupt => ProcessSignal::Int,
            1 | 2 => ProcessSignal::Term,
            _ => ProcessSignal::Kill,
        }
    }
}

impl TextOutput for ExecResult {
    /// The captured output.
    fn write(&self, out: &mut dyn io::Write) -> io::Result<()> {
        out.write_all(self.stdout.as_deref().unwrap_or_default().as_bytes())?;
        out.flush()?;
        anstream::eprint!("{}", self.stderr.as_deref().unwrap_or_default());
        Ok(())
    }
}
