//! `maqet console`.

mod pump;

use std::time::Duration;

use maqet::domain::vm::BootNumber;
use maqet::operation::{AttachedConsole, Logs};
use maqet::{ErrorReport, Explanation, Fault, Maqet, operation};

use self::pump::{Pump, PumpOutcome};
use super::define::warn_of_log_failure;
use super::logs::LogForm;
use crate::args::{ConsoleArgs, Format};
use crate::error::{output_failed, terminal_failed};
use crate::exit_code;
use crate::render::Output;
use crate::stream::Stdout;
use crate::terminal::RawTerminal;

/// How long the end of the output may take to be written: a terminal halted with Ctrl-S must not block the exit.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Connects standard input and output with the console, until one side ends or the user detaches.
pub(super) async fn run(maqet: &Maqet, args: ConsoleArgs, output: &Output) -> Result<u8, ErrorReport> {
    let message = format!("attaching to the serial console of `{}`", args.vm);
    let attach = maqet.run(operation::Console::new(args.vm.clone()));
    let attached = output.progress(&message, attach).await?;

    let name = attached.about.name.clone();
    let stdout = Stdout::open();
    if let Some(lines) = args.tail {
        show_tail(maqet, &attached, lines, &stdout, output).await;
    }
    if output.is_text() {
        output.note(&greeting(&name, &args));
    }
    warn_of_log_failure(attached.about.log_failure.as_ref(), output);
    if let Some(reason) = &attached.about.busy {
        output.note(&format!("`{name}` is busy: {reason}"));
    }
    let mut terminal = RawTerminal::enter().map_err(terminal_failed)?;
    let pumped = Pump::new(attached.stream.as_ref(), &stdout, terminal.as_mut(), &args).run().await;
    let written = tokio::time::timeout(FLUSH_TIMEOUT, stdout.finish()).await;
    // Restored first, so that notes are not written to a raw terminal.
    drop(terminal);
    let outcome = pumped?;
    written.unwrap_or(Ok(())).map_err(output_failed)?;
    if outcome == PumpOutcome::Closed {
        return Err(attached.closed(maqet.app()).await.into());
    }
    drop(attached);
    finish(outcome, &name, &args, output)
}

fn greeting(name: &str, args: &ConsoleArgs) -> String {
    let detach = match (RawTerminal::is_available(), args.escape.key_name()) {
        (true, Some(key)) => format!("; {key} detaches"),
        (true, None) | (false, _) => String::new(),
    };
    format!("attached to the serial console of `{name}`{detach}")
}

fn finish(outcome: PumpOutcome, name: &str, args: &ConsoleArgs, output: &Output) -> Result<u8, ErrorReport> {
    match outcome {
        PumpOutcome::Detached => output.note(&format!("detached from `{name}`, which keeps running")),
        PumpOutcome::Closed | PumpOutcome::Idle | PumpOutcome::OutputClosed => {}
        PumpOutcome::Interrupted => {
            output.note_interrupted();
            return Ok(exit_code::INTERRUPTED);
        }
        PumpOutcome::TimedOut => {
            let after = args.timeout.map(|timeout| format!(" after {timeout}")).unwrap_or_default();
            let message =
                format!("timed out{after}: detached from the serial console of `{name}`, which keeps running");
            return Err(ErrorReport::new(message, Explanation::new("console.timed-out", Fault::TimedOut)));
        }
    }
    Ok(exit_code::DONE)
}

/// Shows the last lines of the guest's earlier output; a failure is noted and does not prevent attaching.
async fn show_tail(maqet: &Maqet, attached: &AttachedConsole, lines: usize, stdout: &Stdout, output: &Output) {
    let logs = Logs::new(&attached.about.id).boot(BootNumber(attached.about.boot));
    let show = async {
        let mut form = LogForm::new(Format::Table);
        let mut reader = logs.open(maqet.app()).await?;
        // What follows is the output of the console.
        let end = attached.stream.log_position().unwrap_or_else(|| reader.length());
        reader.skip_to_last_lines(lines, end).await?;
        while reader.position() < end {
            let mut piece = reader.read().await?;
            let excess = usize::try_from(reader.position().saturating_sub(end)).unwrap_or(usize::MAX);
            piece.truncate(piece.len().saturating_sub(excess));
            if piece.is_empty() || !stdout.write(form.push(&piece)).await {
                break;
            }
        }
        stdout.write(form.finish()).await;
        Ok::<_, maqet::Error>(())
    };
    if let Err(error) = show.await {
        output.note(&error.to_string());
    }
}
