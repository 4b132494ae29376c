//! The one error of all operations.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use maqet_domain::command_line::PathNotUtf8;
use maqet_domain::error::{Cause, Explain, Explanation, Fault};
use maqet_domain::hotplug::DeviceError;
use maqet_domain::port::{
    BackupStoreError, BinaryError, ConsoleError, FirmwareError, ImageError, LaunchError, LockError, MetricError,
    ProcessError, RecordError, StoreError, TrashError,
};
use maqet_domain::qemu::InvalidNodeName;
use maqet_domain::qmp::{QmpError, SchemaError};
use maqet_domain::registry::DuplicateName;
use maqet_domain::snapshot::InvalidSnapshotName;
use maqet_domain::text::{quote, quoted_list};
use maqet_domain::vm::{Action, HaltReason, InvalidTransition, InvalidVmName, Status, VmEntry, VmId, VmName};

use crate::HumanDuration;
use crate::backup::error::BackupError;
use crate::checkpoint::error::CheckpointError;
use crate::config::ConfigError;
use crate::device::{balloon_error::BalloonError, medium_error::MediumError};
use crate::event::filter::UnknownEventType;
use crate::guest::copy::error::CopyError;
use crate::guest::error::ExecError;
use crate::history::error::HistoryError;
use crate::host::error::{HostError, away_note, foreign_vm, lost_vm};
use crate::input::{keyboard_error::KeyboardError, screen::ScreenError};
use crate::job::qmp_job::QmpJobFailed;
use crate::operation::LogError;
use crate::qmp::CommandError;
use crate::recovery::RecoveryError;
use crate::snapshot::bitmaps::BitmapsInTheWay;
use crate::snapshot::error::SnapshotError;
use crate::snapshot::live::error::LiveSnapshotError;
use crate::start::disk_error::DiskError;
use crate::start::failure::StartFailure;
use crate::start::preflight::KvmUnavailable;
use crate::start::tap_devices::TapNotFound;
use crate::start::tpm::TpmError;
use crate::storage::error::StorageError;
use crate::trash::error::TrashRefusal;
use crate::upgrade::error::UpgradeError;
use crate::vm::ended::VmEnded;
use crate::vm::halt::{PowerChangeFailed, halt_hint};
use crate::vm::observe::VmStatus;
use crate::vm::unresponsive::VmUnresponsive;
use crate::wait::error::WaitError;

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
#[non_exhaustive]
pub enum Error {
    #[error("VM `{}` not found", name.escape_debug())]
    NoSuchVm { name: String, similar: Vec<String> },
    #[error("VM `{name}` belongs to user `{owner}` of host `{host}`{}", away_note(*away_since))]
    ForeignVm { name: VmName, id: VmId, host: String, owner: String, away_since: Option<Timestamp> },
    /// There is a copy of its definition, and the database records no removal.
    #[error("the database has no VM `{name}`, but a copy of its definition exists")]
    LostVm { name: VmName },
    #[error("ambiguous ID prefix `{prefix}`: matches {}", quoted_list(matches))]
    AmbiguousVm { prefix: String, matches: Vec<VmName> },
    #[error("VM `{vm}` has no drive `{}`", drive.escape_debug())]
    NoSuchDrive { vm: VmName, drive: String, known: Vec<String> },
    #[error("cannot {action}: VM `{vm}` is {status}")]
    WrongState { vm: VmName, status: Status, halted: Option<HaltReason>, action: Action },
    #[error("VM `{vm}` is run by process {pid}, which maqet did not start")]
    RunInUse { vm: VmName, pid: u32 },
    #[error("{error}")]
    StopLocked { vm: String, error: LockError },
    #[error("cannot stop VM `{vm}`: it is busy, and may be writing its disks")]
    StopBusy { vm: VmName },
    #[error("stop of VM `{vm}` interrupted: it is {status}; its power button was pressed {}", times(*presses))]
    StopInterrupted { vm: VmName, status: Status, presses: u32 },
    #[error("the QEMU process of VM `{vm}` is in another PID namespace")]
    ProcessHidden { vm: VmName, is_forced: bool },
    #[error("VM `{vm}` is still running after SIGKILL")]
    KillFailed { vm: VmName, pid: u32, thaw: Option<String> },
    #[error("`{}` is a QEMU process (pid {}) whose VM is not in the database", .0.name.escape_debug(), .0.pid.unwrap_or_default())]
    Orphaned(Box<VmStatus>),
    #[error("an orphaned QEMU process (pid {pid}) has a disk of VM `{vm}` open")]
    DiskOfOrphan { vm: VmName, pid: u32, source: Cause },
    #[error("cannot adopt process {pid}: no saved definition of its VM")]
    OrphanWithoutDefinition { pid: u32 },
    #[error("operation on VM `{vm}` canceled")]
    Cancelled { vm: VmName },
    #[error("`{operation}` on VM `{vm}` timed out after {after}")]
    JobTimedOut { operation: &'static str, vm: VmName, after: HumanDuration },
    #[error(transparent)]
    QmpJob(#[from] QmpJobFailed),
    #[error(transparent)]
    LiveSnapshot(#[from] LiveSnapshotError),
    #[error(transparent)]
    BitmapsInTheWay(#[from] BitmapsInTheWay),
    #[error("configuration is for VM `{}`, not `{vm}`", name.escape_debug())]
    NameConflict { vm: VmName, name: String },
    #[error("no VM name given")]
    NameRequired,
    #[error("no configuration given")]
    ConfigRequired,
    #[error("shared directory `{}` does not exist", path.display())]
    DirectoryNotFound { path: PathBuf },
    #[error("cannot use `{}`: {reason}", path.display())]
    PathRefused { path: PathBuf, reason: String },
    #[error(transparent)]
    TapNotFound(#[from] TapNotFound),
    #[error(transparent)]
    KvmUnavailable(#[from] KvmUnavailable),
    #[error("unknown operation `{name}`")]
    NoSuchOperation { name: String, similar: Vec<String> },
    #[error("invalid arguments for `{operation}`")]
    InvalidArguments { operation: String, source: serde_json::Error },
    #[error("cannot encode `{operation}` as JSON")]
    Encode { operation: String, source: serde_json::Error },
    #[error("VM `{vm}` failed to start")]
    Launch { vm: VmName, source: LaunchError },
    #[error(transparent)]
    StartFailure(Box<StartFailure>),
    #[error("{} the serial console of VM `{vm}`", lost_or_refused(source))]
    Console { vm: VmName, source: ConsoleError },
    #[error(transparent)]
    Exec(#[from] ExecError),
    #[error(transparent)]
    Copy(#[from] CopyError),
    #[error(transparent)]
    Wait(#[from] WaitError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    VmName(#[from] InvalidVmName),
    #[error(transparent)]
    NodeName(#[from] InvalidNodeName),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    #[error(transparent)]
    SnapshotName(#[from] InvalidSnapshotName),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Binary(#[from] BinaryError),
    #[error(transparent)]
    Qmp(#[from] QmpError),
    #[error("{error}")]
    Command { vm: VmName, error: CommandError },
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error(transparent)]
    BackupStore(#[from] BackupStoreError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Upgrade(#[from] UpgradeError),
    #[error(transparent)]
    Template(#[from] crate::template::error::TemplateError),
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    Trash(#[from] TrashError),
    #[error(transparent)]
    TrashRefusal(#[from] TrashRefusal),
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Unresponsive(#[from] VmUnresponsive),
    #[error(transparent)]
    PowerChange(#[from] PowerChangeFailed),
    #[error(transparent)]
    Ended(#[from] VmEnded),
    #[error(transparent)]
    EventType(#[from] UnknownEventType),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error(transparent)]
    Path(#[from] PathNotUtf8),
    #[error(transparent)]
    Firmware(#[from] FirmwareError),
    #[error(transparent)]
    Tpm(#[from] TpmError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Balloon(#[from] BalloonError),
    #[error(transparent)]
    Medium(#[from] MediumError),
    #[error(transparent)]
    Keyboard(#[from] KeyboardError),
    #[error(transparent)]
    Screen(#[from] ScreenError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Metrics(#[from] MetricError),
    #[error(transparent)]
    Plugin(#[from] DuplicateName),
}

impl Error {
    /// Makes the error of an action that the state of a VM does not allow.
    pub(crate) fn wrong_state(entry: &VmEntry, transition: InvalidTransition) -> Self {
        let InvalidTransition { status, action } = transition;
        Self::WrongState { vm: entry.name.clone(), status, halted: None, action }
    }

    /// Adds why the guest does not run to the error of an action that its state does not allow.
    pub(crate) fn halted_by(mut self, reason: Option<HaltReason>) -> Self {
        if let Self::WrongState { halted, .. } = &mut self {
            *halted = reason;
        }
        self
    }

    /// Offers `stop --force` if a start, or a stop that waits for the guest, has the lock of `vm`.
    pub(crate) fn offering_force(self, vm: &str) -> Self {
        match self {
            Self::Lock(error) if error.is_held_by(&["start", "stop", "restart"]) => {
                Self::StopLocked { vm: vm.to_owned(), error }
            }
            error => error,
        }
    }

    /// Makes the error of a command for `vm` that was not sent, or failed although QEMU reports success.
    pub(crate) fn command(vm: &VmName, error: impl Into<CommandError>) -> Self {
        Self::Command { vm: vm.clone(), error: error.into() }
    }

    /// Returns the error of an operation that took `timeout` in all; the last of its steps had only the rest.
    #[must_use]
    pub fn of_timeout(mut self, timeout: Duration) -> Self {
        match self {
            Self::Qmp(error) => return Self::Qmp(error.of_timeout(timeout)),
            Self::Wait(WaitError::TimedOut { ref mut after, .. }) => *after = HumanDuration::new(timeout),
            _ => {}
        }
        self
    }

    /// Returns whether QEMU closed or refused the connection, as it does when it exits.
    pub(crate) const fn is_connection_loss(&self) -> bool {
        match self {
            Self::Qmp(source) | Self::Keyboard(KeyboardError::Failed { source, .. }) => source.is_connection_loss(),
            _ => false,
        }
    }

    /// Makes the error of a command for a VM that has no process.
    pub(crate) fn not_running(entry: &VmEntry, status: Status) -> Self {
        Self::WrongState { vm: entry.name.clone(), status, halted: None, action: Action::Command }
    }
}

fn process_hidden(vm: &VmName, is_forced: bool) -> Explanation {
    let explanation = Explanation::new("vm.process-unavailable", Fault::Host)
        .hint("run the command in the container or PID namespace in which the VM was started");
    let over_monitor = format!("stop it over its monitor with `maqet stop {vm}`");
    if is_forced { explanation.hint(over_monitor) } else { explanation }
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        let explain = Explanation::new;
        match self {
            Self::NoSuchVm { similar, .. } => {
                explain("vm.not-found", Fault::NotFound).did_you_mean(similar).or_hint("list the VMs with `maqet ls`")
            }
            Self::ForeignVm { name, host, owner, away_since, .. } => {
                foreign_vm(name, host, owner, away_since.is_some())
            }
            Self::LostVm { .. } => lost_vm(),
            Self::AmbiguousVm { .. } => explain("vm.ambiguous", Fault::Usage).hint("use the name or a longer prefix"),
            Self::NoSuchDrive { known, .. } => {
                choose_from(explain("drive.not-found", Fault::NotFound), "drives", known)
                    .or_hint("add a drive under `storage`")
            }
            Self::WrongState { vm, status, halted, action } => {
                let explanation = explain("vm.status-conflict", Fault::State);
                state_hints(vm, *status, *halted, *action).into_iter().fold(explanation, Explanation::hint)
            }
            Self::RunInUse { vm, pid } => run_in_use(vm, *pid),
            Self::StopLocked { vm, error } => {
                error.explain().hint(format!("end its QEMU at once with `maqet stop --force {}`", quote(vm)))
            }
            Self::StopBusy { vm } => stop_busy(vm),
            Self::StopInterrupted { vm, presses, .. } => stop_interrupted(vm, *presses),
            Self::ProcessHidden { vm, is_forced } => process_hidden(vm, *is_forced),
            Self::KillFailed { pid, thaw, .. } => kill_failed(*pid, thaw.as_deref()),
            Self::Orphaned(_) | Self::DiskOfOrphan { .. } => explain("vm.orphan-conflict", Fault::State)
                .hint("adopt it with `maqet cleanup --adopt-orphans`")
                .hint("end it with `maqet cleanup --end-orphans`"),
            Self::OrphanWithoutDefinition { .. } => explain("vm.orphan-definition-not-found", Fault::Failed)
                .hint("end it with `maqet cleanup --end-orphans`"),
            Self::Cancelled { .. } => explain("operation.interrupted", Fault::Failed),
            Self::JobTimedOut { .. } => {
                explain("operation.timed-out", Fault::TimedOut).hint("pass a longer `--timeout`, or none")
            }
            Self::QmpJob(inner) => inner.explain(),
            Self::LiveSnapshot(inner) => inner.explain(),
            Self::BitmapsInTheWay(inner) => inner.explain(),
            Self::NameConflict { vm, .. } => explain("config.name-conflict", Fault::Usage)
                .hint(format!("remove `name` from the files, or set it to `{vm}`")),
            Self::NameRequired => {
                explain("vm.name-required", Fault::Usage).hint("set `name:` in the file, or pass `--name`")
            }
            Self::ConfigRequired => explain("config.required", Fault::Usage)
                .hint("pass a YAML file, or `--empty` for a VM with default values"),
            Self::DirectoryNotFound { .. } => explain("storage.directory-not-found", Fault::NotFound)
                .hint("create it, or correct the `path` under `storage`"),
            Self::PathRefused { .. } => explain("config.path-refused", Fault::Usage).hint("choose another path"),
            Self::TapNotFound(inner) => inner.explain(),
            Self::KvmUnavailable(inner) => inner.explain(),
            Self::NoSuchOperation { similar, .. } => explain("operation.not-found", Fault::Usage).did_you_mean(similar),
            Self::InvalidArguments { .. } => explain("operation.arguments-invalid", Fault::Usage),
            Self::Encode { .. } => explain("operation.encode-failed", Fault::Failed),
            Self::VmName(_) => explain("vm.name-invalid", Fault::Usage),
            Self::NodeName(_) => explain("drive.name-invalid", Fault::Usage),
            Self::SnapshotName(_) => explain("snapshot.name-invalid", Fault::Usage),
            Self::Snapshot(inner) => inner.explain(),
            Self::Recovery(inner) => inner.explain(),
            Self::Launch { vm, source } => launch_explanation(vm, source),
            Self::StartFailure(inner) => inner.explain(),
            Self::Console { vm, source } => console_explanation(vm, source),
            Self::Exec(inner) => inner.explain(),
            Self::Copy(inner) => inner.explain(),
            Self::Wait(inner) => inner.explain(),
            Self::Config(inner) => inner.explain(),
            Self::Store(inner) => inner.explain(),
            Self::Binary(inner) => inner.explain(),
            Self::Qmp(inner) => inner.explain(),
            Self::Command { vm, error } => command_explanation(vm, error),
            Self::Image(inner) => inner.explain(),
            Self::Backup(inner) => inner.explain(),
            Self::BackupStore(inner) => inner.explain(),
            Self::Checkpoint(inner) => inner.explain(),
            Self::Upgrade(inner) => inner.explain(),
            Self::Template(inner) => inner.explain(),
            Self::Disk(inner) => inner.explain(),
            Self::Storage(inner) => inner.explain(),
            Self::Host(inner) => inner.explain(),
            Self::Trash(inner) => inner.explain(),
            Self::TrashRefusal(inner) => inner.explain(),
            Self::History(inner) => inner.explain(),
            Self::Lock(inner) => inner.explain(),
            Self::Unresponsive(inner) => inner.explain(),
            Self::PowerChange(inner) => inner.explain(),
            Self::Ended(inner) => inner.explain(),
            Self::EventType(inner) => inner.explain(),
            Self::Process(inner) => inner.explain(),
            Self::Path(inner) => inner.explain(),
            Self::Firmware(inner) => inner.explain(),
            Self::Tpm(inner) => inner.explain(),
            Self::Record(inner) => inner.explain(),
            Self::Device(inner) => inner.explain(),
            Self::Balloon(inner) => inner.explain(),
            Self::Medium(inner) => inner.explain(),
            Self::Keyboard(inner) => inner.explain(),
            Self::Screen(inner) => inner.explain(),
            Self::Log(inner) => inner.explain(),
            Self::Metrics(inner) => inner.explain(),
            Self::Plugin(inner) => inner.explain(),
        }
    }
}

fn stop_busy(vm: &VmName) -> Explanation {
    let explanation = Explanation::new("vm.busy", Fault::Busy).hint("try again later");
    explanation.hint(format!("kill it with `maqet stop --force {vm}`"))
}

/// Explains a run whose process was not recorded.
fn run_in_use(vm: &VmName, pid: u32) -> Explanation {
    Explanation::new("vm.run-in-use", Fault::State)
        .hint(format!("stop process {pid}, then run `maqet start {vm}`"))
        .hint("adopt it with `maqet cleanup --adopt-orphans`")
}

/// Returns a number of times, as in `pressed once`.
fn times(number: u32) -> String {
    match number {
        0 => "never".to_owned(),
        1 => "once".to_owned(),
        number => format!("{number} times"),
    }
}

/// Explains a process that exists after SIGKILL; `thaw` thaws its frozen cgroup.
fn kill_failed(pid: u32, thaw: Option<&str>) -> Explanation {
    Explanation::new("vm.kill-failed", Fault::Failed).hint(match thaw {
        Some(thaw) => format!("thaw its frozen cgroup with `{thaw}`"),
        None => format!("check process {pid}: it may be blocked in the kernel on a disk or a share"),
    })
}

/// Explains a stop that was interrupted, after which the guest may still power off.
fn stop_interrupted(vm: &VmName, presses: u32) -> Explanation {
    Explanation::new("vm.stop-interrupted", Fault::Failed).hint(if presses == 0 {
        format!("stop it with `maqet stop {vm}`")
    } else {
        format!("it may still power off; wait for that with `maqet wait {vm} --for stopped`, or run `maqet stop {vm}`")
    })
}

/// Explains a failed launch, with hints that name the VM.
fn launch_explanation(vm: &VmName, source: &LaunchError) -> Explanation {
    let explanation = source.explain();
    if let LaunchError::Exited { .. } = source {
        return explanation.hint(format!("check the command line with `maqet info {vm} --command-line`"));
    }
    explanation
}

/// Explains why a QMP command failed, with a hint that names the VM.
fn command_explanation(vm: &VmName, error: &CommandError) -> Explanation {
    match error {
        CommandError::Schema(SchemaError::CommandNotFound { command, .. }) if !command.starts_with('{') => {
            error.explain().hint(format!("list the commands with `maqet qmp {vm} query-commands`"))
        }
        CommandError::Schema(_)
        | CommandError::HostAccess(_)
        | CommandError::HumanMonitor { .. }
        | CommandError::ScreendumpRefused { .. } => error.explain(),
    }
}

/// Returns the beginning of the message about a console.
const fn lost_or_refused(source: &ConsoleError) -> &'static str {
    if matches!(source, ConsoleError::Closed) { "lost the connection to" } else { "cannot attach to" }
}

/// Explains why a console cannot be attached to, with hints that name the VM.
fn console_explanation(vm: &VmName, source: &ConsoleError) -> Explanation {
    let mut explanation = source.explain();
    match source {
        ConsoleError::InUse { .. } => {
            explanation.hints = vec![
                format!("read its output with `maqet logs {vm} --follow`"),
                "try again when the other client has detached".to_owned(),
            ];
        }
        ConsoleError::Unavailable { .. } => {
            explanation.hints = vec![format!(
                "run `maqet apply {vm} --set serial=console`, then restart the VM with `maqet restart {vm}`"
            )];
        }
        ConsoleError::Failed { .. } | ConsoleError::Closed => {}
    }
    explanation
}

/// Names what could have been meant by something that was not found.
fn choose_from(explanation: Explanation, what: &str, known: &[String]) -> Explanation {
    if known.is_empty() {
        explanation
    } else {
        explanation.hint(format!("choose one of its {what}: {}", known.join(", ")))
    }
}

fn state_hints(vm: &VmName, status: Status, halted: Option<HaltReason>, action: Action) -> Vec<String> {
    match (action, status.is_live()) {
        (Action::Resume, _) if status == Status::RestoreFailed => {
            vec![format!("stop it with `maqet stop --force {vm}`: its state is only partially restored")]
        }
        (Action::Start | Action::Resume, _) if [Status::IoError, Status::Panicked].contains(&status) => {
            let reset = format!("reset it with `maqet reset {vm}`");
            let disk = halted.filter(|halted| matches!(halted, HaltReason::NoSpace | HaltReason::DiskError));
            disk.and_then(|halted| halt_hint(halted, vm)).into_iter().chain([reset]).collect()
        }
        (Action::Pause, _) if status == Status::Suspended => vec![format!("wake it first with `maqet resume {vm}`")],
        (Action::Command | Action::Pause | Action::Resume | Action::Reset, false) => {
            vec![format!("start it with `maqet start {vm}`")]
        }
        (Action::Remove, true) => vec![
            format!("stop it first with `maqet stop {vm}`"),
            format!("kill and remove it with `maqet rm --force {vm}`"),
        ],
        // It does not run in the foreground of this process.
        (Action::Start, true) if [Status::Running, Status::Paused, Status::Suspended].contains(&status) => {
            vec![format!("stop it first with `maqet stop {vm}`")]
        }
        (Action::ChangeDisks, true) => vec![format!("stop it first with `maqet stop {vm}`")],
        (Action::Start, true) => vec![format!("stop it with `maqet stop --force {vm}`, then start it again")],
        (_, _) => Vec::new(),
    }
}
