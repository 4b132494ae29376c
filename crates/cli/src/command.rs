//! The commands: arguments become operations, and their results are shown.

mod backup;
mod checkpoint;
mod config;
mod console;
mod cp;
mod database;
mod define;
mod events;
mod exec;
mod foreground;
mod hardware;
mod input;
mod keyboard;
mod lifecycle;
mod logs;
mod maintenance;
mod metrics;
mod qmp;
mod run;
mod screen;
mod shell;
mod snapshot;
mod storage;
mod template;

use std::path::{Path, PathBuf};

use maqet::operation::{Inspect, Pause, Reset, Resume, Status};
use maqet::{ErrorReport, Maqet, Operation};
use serde::Serialize;

pub(crate) use self::shell::stop_only_the_editor;
use crate::args::{Command, ExecArgs, ExecSubcommand, HostSubcommand, QmpArgs, QmpSubcommand, SnapshotSubcommand};
use crate::error::{path_failed, usage};
use crate::exit_code;
use crate::render::{Output, TextOutput};

/// Runs a command and returns the exit code.
pub(crate) async fn run(maqet: &Maqet, command: Command, output: &Output) -> Result<u8, ErrorReport> {
    match command {
        Command::Add(args) => define::add(maqet, args, output).await,
        Command::Apply(args) => define::apply(maqet, args, output).await,
        Command::Start(args) => lifecycle::start(maqet, args, output).await,
        Command::Stop(args) => lifecycle::stop(maqet, args, output).await,
        Command::Restart(args) => lifecycle::restart(maqet, args, output).await,
        Command::Upgrade(upgrade) => lifecycle::upgrade(maqet, upgrade, output).await,
        Command::Wait(args) => lifecycle::wait(maqet, args, output).await,
        Command::Pause(vms) => lifecycle::run_on_each(maqet, vms, output, "pausing", Pause::new).await,
        Command::Resume(vms) => lifecycle::run_on_each(maqet, vms, output, "resuming", Resume::new).await,
        Command::Reset(vms) => lifecycle::run_on_each(maqet, vms, output, "resetting", Reset::new).await,
        Command::Rm(args) => lifecycle::rm(maqet, args, output).await,
        Command::Status(vms) => lifecycle::run_on_each(maqet, vms, output, "checking", Status::new).await,
        Command::Inspect(args) => lifecycle::run_on_each(maqet, args.vms, output, "inspecting", Inspect::new).await,
        Command::Exec(args) => run_exec(maqet, args, output).await,
        Command::Shell(args) => exec::shell(maqet, args, output).await,
        Command::Cp(args) => cp::run(maqet, args, output).await,
        Command::Run(args) => run::run(maqet, args, output).await,
        Command::SshConfig(config) => simple(maqet, config, output, "reading the definition").await,
        Command::Console(args) => console::run(maqet, args, output).await,
        Command::Logs(args) => logs::run(maqet, args, output).await,
        Command::Ls(ls) => simple(maqet, ls, output, "listing VMs").await,
        Command::Events(args) => events::run(maqet, args, output).await,
        Command::Info(info) => simple(maqet, info, output, "reading the definition").await,
        Command::Qmp(QmpArgs { command: Some(command), .. }) => Box::pin(run_qmp(maqet, command, output)).await,
        Command::Qmp(QmpArgs { run: Some(args), .. }) => qmp::run(maqet, args, output).await,
        Command::Qmp(QmpArgs { command: None, run: None }) => {
            Err(usage("`qmp` needs a VM and a command").hint("run `maqet qmp --help`"))
        }
        Command::Keys(args) => keyboard::keys(maqet, args, output).await,
        Command::Type(args) => keyboard::type_text(maqet, args, output).await,
        Command::Screenshot(args) => screen::screenshot(maqet, args, output).await,
        Command::Snapshot(SnapshotSubcommand::Create(create)) => {
            simple(maqet, create, output, "creating the snapshot").await
        }
        Command::Snapshot(SnapshotSubcommand::Check(check)) => snapshot::check(maqet, check, output).await,
        Command::Snapshot(SnapshotSubcommand::Ls(ls)) => simple(maqet, ls, output, "listing snapshots").await,
        Command::Snapshot(SnapshotSubcommand::Load(load)) => simple(maqet, load, output, "loading the snapshot").await,
        Command::Snapshot(SnapshotSubcommand::Rm(rm)) => simple(maqet, rm, output, "removing the snapshot").await,
        Command::Backup(command) => backup::run(maqet, command, output).await,
        Command::Checkpoint(command) => checkpoint::run(maqet, command, output).await,
        Command::Fork(fork) => checkpoint::fork(maqet, fork, output).await,
        Command::Template(command) => template::run(maqet, command, output).await,
        Command::Storage(command) => storage::run(maqet, command, output).await,
        Command::Metrics(args) => metrics::run(maqet, args, output).await,
        Command::Database(command) => database::run(maqet, command, output).await,
        Command::Host(HostSubcommand::Ls(ls)) => simple(maqet, ls, output, "listing hosts").await,
        Command::Host(HostSubcommand::Evict(evict)) => simple(maqet, evict, output, "moving VMs").await,
        Command::History(history) => simple(maqet, history, output, "reading the history").await,
        Command::Undo(undo) => simple(maqet, undo, output, "undoing changes").await,
        Command::Redo(redo) => simple(maqet, redo, output, "taking back undos").await,
        Command::Doctor(doctor) => maintenance::doctor(maqet, doctor, output).await,
        Command::Cleanup(cleanup) => maintenance::cleanup(maqet, cleanup, output).await,
        Command::Config(command) => config::run(maqet, command, output).await,
    }
}

async fn run_exec(maqet: &Maqet, args: ExecArgs, output: &Output) -> Result<u8, ErrorReport> {
    match (args.command, args.run) {
        (Some(ExecSubcommand::Ls(ls)), _) => simple(maqet, ls, output, "listing commands").await,
        (Some(ExecSubcommand::Attach(args)), _) => exec::attach(maqet, args, output).await,
        (Some(ExecSubcommand::Stop(stop)), _) => simple(maqet, stop, output, "stopping the command").await,
        (None, Some(args)) => exec::run(maqet, args, output).await,
        (None, None) => Err(usage("`exec` needs a VM and a command").hint("run `maqet exec --help`")),
    }
}

async fn run_qmp(maqet: &Maqet, command: QmpSubcommand, output: &Output) -> Result<u8, ErrorReport> {
    match command {
        QmpSubcommand::Run(args) => qmp::run(maqet, args, output).await,
        QmpSubcommand::Shell(args) => shell::run(maqet, args, output).await,
        QmpSubcommand::Events(args) => events::run_qmp(maqet, args, output).await,
        QmpSubcommand::Keys(args) => keyboard::keys(maqet, args, output).await,
        QmpSubcommand::Type(args) => keyboard::type_text(maqet, args, output).await,
        QmpSubcommand::Screendump(args) => screen::screenshot(maqet, args, output).await,
        QmpSubcommand::Hardware(command) => hardware::run(maqet, command, output).await,
    }
}

/// Returns whether a command handles SIGINT and SIGTERM itself: in the shell, Ctrl-C is a key with its own meaning, a
/// command in a guest gets them, and a VM in the foreground is stopped by them.
pub(crate) fn handles_signals(command: &Command) -> bool {
    let is_foreground = matches!(command, Command::Start(start) if start.foreground);
    passes_signals_on(command) || is_foreground || is_interactive_shell(command)
}

/// Returns whether a command has the signals and the exit code of one in a guest.
fn passes_signals_on(command: &Command) -> bool {
    match command {
        Command::Exec(exec) => matches!(exec.command, None | Some(ExecSubcommand::Attach(_))),
        command => matches!(command, Command::Shell(_) | Command::Run(_)),
    }
}

/// Returns what the exit code of a command is when it fails.
pub(crate) fn failure_codes(command: &Command) -> fn(&ErrorReport) -> u8 {
    match command {
        command if passes_signals_on(command) => exit_code::of_exec,
        Command::Cp(_) => exit_code::of_cp,
        _ => |report| exit_code::from_fault(report.fault),
    }
}

/// Returns whether a command is a shell with an editor.
pub(crate) fn is_interactive_shell(command: &Command) -> bool {
    matches!(command, Command::Qmp(QmpArgs { command: Some(QmpSubcommand::Shell(_)), .. })) && shell::is_interactive()
}

/// Runs an operation and shows its result.
async fn simple<O>(maqet: &Maqet, operation: O, output: &Output, message: &str) -> Result<u8, ErrorReport>
where
    O: Operation,
    O::Output: Serialize + TextOutput,
{
    note_irreversible(&operation, output);
    let result = output.progress(message, maqet.run(operation)).await?;
    output.finish(&result)
}

/// Says before an operation begins that it cannot be undone.
fn note_irreversible<O: Operation>(operation: &O, output: &Output) {
    if let Some(reason) = operation.irreversible() {
        output.note(&format!("note: this cannot be undone: {}", reason.reason()));
    }
}

/// Returns an absolute path: QEMU and later readers have another working directory.
fn absolute(path: &Path) -> Result<PathBuf, ErrorReport> {
    std::path::absolute(path).map_err(path_failed)
}
