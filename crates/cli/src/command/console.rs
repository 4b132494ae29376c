//! `maqet console`.

mod pump;

use std::time::Duration;

use maqet::domain::vm::BootNumber;
use maqet::operation::{AttachedConsole, LogKind, Logs};
use maqet::{Fault, Maqet, operation};

use self::pump::{End, Pump};
use super::logs::Shape;
use crate::args::{ConsoleArgs, Format};
use crate::exit_code;
use crate::failure::Failure;
use crate::render::Output;
use crate::render::progress;
use crate::stream::Stdout;
use crate::terminal::RawTerminal;

/// How long the last of the output may take to be written: a terminal that was halted must not keep us.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Passes bytes between standard input and output and the console, until one side ends or somebody leaves.
pub(crate) async fn console(maqet: &Maqet, args: ConsoleArgs, output: &Output) -> Result<u8, Failure> {
    let what = format!("attaching to the serial console of `{}`", args.vm);
    let attach = maqet.run(operation::Console::new(args.vm.clone()));
    let attached = progress::shown(output.shows_progress, &what, attach).await?;

    let name = attached.about.name.clone();
    let stdout = Stdout::open();
    if let Some(lines) = args.tail {
        show_tail(maqet, &attached, lines, &stdout, output).await;
    }
    if output.is_for_people() {
        output.note(&greeting(&name, &args));
    }
    if let Some(cause) = &attached.about.busy {
        output.note(&format!("`{name}` is busy: {}", cause));
    }
    let terminal = RawTerminal::enter()?;
    let pumped = Pump::new(attached.stream.as_ref(), &stdout, terminal.as_ref(), &args).run().await;
    let written = tokio::time::timeout(LAST_WORDS, stdout.finish()).await;
    // Before anything is said, so that it is said on a terminal as it was.
    drop(terminal);
    drop(attached);
    let end = pumped?;
    written.unwrap_or(Ok(()))?;
    said(end, &name, &args, output)
}

fn greeting(name: &str, args: &ConsoleArgs) -> String {
    let leave = match (RawTerminal::is_there(), args.escape.in_words()) {
        (true, Some(key)) => format!("; {key} leaves"),
        (true, None) | (false, _) => String::new(),
    };
    format!("attached to the serial console of `{name}`{leave}")
}

fn said(end: End, name: &str, args: &ConsoleArgs, output: &Output) -> Result<u8, Failure> {
    match end {
        End::Left => output.note(&format!("left the serial console of `{name}`, which runs on")),
        End::Closed => output.note(&format!("the serial console of `{name}` is closed: its QEMU ended")),
        End::Silent | End::NobodyReads => {}
        End::Interrupted => {
            output.note("interrupted");
            return Ok(exit_code::INTERRUPTED);
        }
        End::TimedOut => {
            let after = args.timeout.map(|timeout| format!(" after {timeout}")).unwrap_or_default();
            return Err(Failure {
                code: "console.timed-out".to_owned(),
                fault: Fault::TimedOut,
                message: format!("left the serial console of `{name}`{after}, as `--timeout` says; the VM runs on"),
                causes: Vec::new(),
                hints: Vec::new(),
                config: None,
            });
        }
    }
    Ok(exit_code::DONE)
}

/// Shows the last lines that the guest wrote before; that they cannot be shown keeps nobody from the console.
async fn show_tail(maqet: &Maqet, attached: &AttachedConsole, lines: usize, stdout: &Stdout, output: &Output) {
    let boot = Some(BootNumber(attached.about.boot));
    let wanted = Logs { vm: attached.about.id.clone(), log: LogKind::Serial, boot, lines: Some(lines) };
    let shown = async {
        let mut shape = Shape::of(Format::Table);
        let mut reader = maqet.app().open_log(&wanted).await?;
        let mut left = reader.length();
        while left > 0 {
            let piece = reader.read().await?;
            left = left.saturating_sub(u64::try_from(piece.len()).unwrap_or(u64::MAX));
            if piece.is_empty() || !stdout.write(shape.shaped(&piece)).await {
                break;
            }
        }
        stdout.write(shape.rest()).await;
        Ok::<_, maqet::Error>(())
    };
    if let Err(error) = shown.await {
        output.note(&error.to_string());
    }
}
