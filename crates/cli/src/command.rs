//! The commands: arguments become operations, and their results are shown.

mod add;
mod config;
mod console;
mod events;
mod hardware;
mod health;
mod input;
mod keyboard;
mod lifecycle;
mod logs;
mod qmp;
mod screen;
mod shell;

use maqet::operation::Info;
use maqet::{Maqet, Operation};
use serde::Serialize;

pub(crate) use self::shell::stop_where_lines_are_edited;
use crate::args::{Command, QmpArgs, QmpSubcommand, SnapshotSubcommand};
use crate::exit_code;
use crate::failure::Failure;
use crate::render::progress;
use crate::render::{Output, TextOutput};

/// Runs a command and returns the exit code.
pub(crate) async fn run(maqet: &Maqet, command: Command, output: &Output) -> Result<u8, Failure> {
    match command {
        Command::Add(args) => add::add(maqet, args, output).await,
        Command::Apply(args) => add::apply(maqet, args, output).await,
        Command::Start(args) => lifecycle::start(maqet, args, output).await,
        Command::Stop(args) => lifecycle::stop(maqet, args, output).await,
        Command::Restart(args) => lifecycle::restart(maqet, args, output).await,
        Command::Wait(args) => lifecycle::wait(maqet, args, output).await,
        Command::Pause(args) => lifecycle::pause(maqet, args, output).await,
        Command::Resume(args) => lifecycle::resume(maqet, args, output).await,
        Command::Reset(args) => lifecycle::reset(maqet, args, output).await,
        Command::Rm(args) => lifecycle::rm(maqet, args, output).await,
        Command::Status(args) => lifecycle::status(maqet, args, output).await,
        Command::Inspect(args) => lifecycle::inspect(maqet, args, output).await,
        Command::Console(args) => console::console(maqet, args, output).await,
        Command::Logs(args) => logs::logs(maqet, args, output).await,
        Command::Ls(ls) => plain(maqet, ls, output, "looking at the VMs").await,
        Command::Events(args) => events::run(maqet, args, output).await,
        Command::Info(info) => plain(maqet, info, output, "looking at the VM").await,
        Command::Qmp(QmpArgs { command: Some(QmpSubcommand::Run(run)), .. } | QmpArgs { run: Some(run), .. }) => {
            qmp::run(maqet, run, output).await
        }
        Command::Qmp(QmpArgs { command: Some(QmpSubcommand::Shell(args)), .. }) => {
            shell::run(maqet, args, output).await
        }
        Command::Qmp(QmpArgs { command: Some(QmpSubcommand::Events(args)), .. }) => {
            events::from_qmp(maqet, args, output).await
        }
        Command::Keys(keys) | Command::Qmp(QmpArgs { command: Some(QmpSubcommand::Keys(keys)), .. }) => {
            keyboard::keys(maqet, keys, output).await
        }
        Command::Type(text) | Command::Qmp(QmpArgs { command: Some(QmpSubcommand::Type(text)), .. }) => {
            keyboard::type_text(maqet, text, output).await
        }
        Command::Screenshot(shot) | Command::Qmp(QmpArgs { command: Some(QmpSubcommand::Screendump(shot)), .. }) => {
            screen::screenshot(maqet, shot, output).await
        }
        Command::Qmp(QmpArgs { command: Some(QmpSubcommand::Hardware(command)), .. }) => {
            hardware::run(maqet, command, output).await
        }
        Command::Qmp(QmpArgs { command: None, run: None }) => {
            Err(Failure::usage("`qmp` needs a VM and a command", vec!["see `maqet qmp --help`".to_owned()]))
        }
        Command::Snapshot(SnapshotSubcommand::Create(create)) => {
            plain(maqet, create, output, "making the snapshot").await
        }
        Command::Snapshot(SnapshotSubcommand::Ls(ls)) => plain(maqet, ls, output, "reading the snapshots").await,
        Command::Snapshot(SnapshotSubcommand::Load(load)) => plain(maqet, load, output, "loading the snapshot").await,
        Command::Snapshot(SnapshotSubcommand::Rm(rm)) => plain(maqet, rm, output, "removing the snapshot").await,
        Command::Doctor(doctor) => health::doctor(maqet, doctor, output).await,
        Command::Cleanup(cleanup) => health::cleanup(maqet, cleanup, output).await,
        Command::Config(args) => config::run(maqet, args, output).await,
    }
}

/// Returns whether a command listens itself to what asks it to end: Ctrl-C is a key of its own there.
pub(crate) fn listens_itself(command: &Command) -> bool {
    matches!(command, Command::Qmp(QmpArgs { command: Some(QmpSubcommand::Shell(_)), .. })) && shell::is_for_somebody()
}

/// Runs an operation whose result is shown as it is.
async fn plain<O>(maqet: &Maqet, operation: O, output: &Output, what: &str) -> Result<u8, Failure>
where
    O: Operation,
    O::Output: Serialize + TextOutput,
{
    let result = progress::shown(output.shows_progress, what, maqet.run(operation)).await?;
    output.show(&result)?;
    Ok(exit_code::DONE)
}

/// Returns the command line of a VM.
fn command_line_of(vm: String) -> Info {
    Info { vm, command_line: true, origin: false }
}
