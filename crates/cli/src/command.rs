//! The commands: arguments become operations, and their results are shown.

mod add;
mod config;
mod console;
mod events;
mod given;
mod hardware;
mod health;
mod keyboard;
mod life;
mod logs;
mod qmp;
mod screen;
mod shell;

use maqet::operation::Info;
use maqet::{Maqet, Operation};
use serde::Serialize;

pub(crate) use self::logs::whole_characters;
pub(crate) use self::shell::stop_where_lines_are_edited;
use crate::arguments::{Command, Qmp, QmpCommand, Snapshot};
use crate::exit;
use crate::failure::Failure;
use crate::progress;
use crate::render::{Output, People};

/// Runs a command and returns the exit code.
pub(crate) async fn run(maqet: &Maqet, command: Command, output: &Output) -> Result<u8, Failure> {
    match command {
        Command::Add(arguments) => add::add(maqet, arguments, output).await,
        Command::Apply(arguments) => add::apply(maqet, arguments, output).await,
        Command::Start(arguments) => life::start(maqet, arguments, output).await,
        Command::Stop(arguments) => life::stop(maqet, arguments, output).await,
        Command::Restart(arguments) => life::restart(maqet, arguments, output).await,
        Command::Wait(arguments) => life::wait(maqet, arguments, output).await,
        Command::Pause(arguments) => life::pause(maqet, arguments, output).await,
        Command::Resume(arguments) => life::resume(maqet, arguments, output).await,
        Command::Reset(arguments) => life::reset(maqet, arguments, output).await,
        Command::Rm(arguments) => life::rm(maqet, arguments, output).await,
        Command::Status(arguments) => life::status(maqet, arguments, output).await,
        Command::Inspect(arguments) => life::inspect(maqet, arguments, output).await,
        Command::Console(arguments) => console::console(maqet, arguments, output).await,
        Command::Logs(arguments) => logs::logs(maqet, arguments, output).await,
        Command::Ls(ls) => plain(maqet, ls, output, "looking at the VMs").await,
        Command::Events(arguments) => events::run(maqet, arguments, output).await,
        Command::Info(info) => plain(maqet, info, output, "looking at the VM").await,
        Command::Qmp(Qmp { command: Some(QmpCommand::Run(run)), .. } | Qmp { run: Some(run), .. }) => {
            qmp::run(maqet, run, output).await
        }
        Command::Qmp(Qmp { command: Some(QmpCommand::Shell(arguments)), .. }) => {
            shell::run(maqet, arguments, output).await
        }
        Command::Qmp(Qmp { command: Some(QmpCommand::Events(arguments)), .. }) => {
            events::from_qmp(maqet, arguments, output).await
        }
        Command::Keys(keys) | Command::Qmp(Qmp { command: Some(QmpCommand::Keys(keys)), .. }) => {
            keyboard::keys(maqet, keys, output).await
        }
        Command::Type(text) | Command::Qmp(Qmp { command: Some(QmpCommand::Type(text)), .. }) => {
            keyboard::type_text(maqet, text, output).await
        }
        Command::Screenshot(shot) | Command::Qmp(Qmp { command: Some(QmpCommand::Screendump(shot)), .. }) => {
            screen::screenshot(maqet, shot, output).await
        }
        Command::Qmp(Qmp { command: Some(QmpCommand::Hardware(command)), .. }) => {
            hardware::run(maqet, command, output).await
        }
        Command::Qmp(Qmp { command: None, run: None }) => {
            Err(Failure::usage("`qmp` needs a VM and a command", vec!["see `maqet qmp --help`".to_owned()]))
        }
        Command::Snapshot(Snapshot::Create(create)) => plain(maqet, create, output, "making the snapshot").await,
        Command::Snapshot(Snapshot::Ls(ls)) => plain(maqet, ls, output, "reading the snapshots").await,
        Command::Snapshot(Snapshot::Load(load)) => plain(maqet, load, output, "loading the snapshot").await,
        Command::Snapshot(Snapshot::Rm(rm)) => plain(maqet, rm, output, "removing the snapshot").await,
        Command::Doctor(doctor) => health::doctor(maqet, doctor, output).await,
        Command::Cleanup(cleanup) => health::cleanup(maqet, cleanup, output).await,
        Command::Config(arguments) => config::run(maqet, arguments, output).await,
    }
}

/// Returns whether a command listens itself to what asks it to end: Ctrl-C is a key of its own there.
pub(crate) fn listens_itself(command: &Command) -> bool {
    matches!(command, Command::Qmp(Qmp { command: Some(QmpCommand::Shell(_)), .. })) && shell::is_for_somebody()
}

/// Runs an operation whose result is shown as it is.
async fn plain<O>(maqet: &Maqet, operation: O, output: &Output, what: &str) -> Result<u8, Failure>
where
    O: Operation,
    O::Output: Serialize + People,
{
    let result = progress::shown(output.shows_progress, what, maqet.run(operation)).await?;
    output.show(&result)?;
    Ok(exit::DONE)
}

/// Returns the command line of a VM.
fn command_line_of(vm: String) -> Info {
    Info { vm, command_line: true, origin: false }
}
