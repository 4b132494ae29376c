//! The one error of all operations.

use std::path::PathBuf;

use maqet_domain::command_line::PathNotUtf8;
use maqet_domain::error::{Cause, Explain, Fault};
use maqet_domain::port::{
    BinaryError, ConsoleError, FirmwareError, ImageError, LaunchError, LockError, ProcessError, RecordError, StoreError,
};
use maqet_domain::qemu::InvalidNodeName;
use maqet_domain::qmp::QmpError;
use maqet_domain::registry::DuplicateName;
use maqet_domain::snapshot::InvalidSnapshotName;
use maqet_domain::text::did_you_mean;
use maqet_domain::text::quote;
use maqet_domain::vm::{Action, InvalidVmName, Status, VmName};

use crate::config::ConfigError;
use crate::device::error::DeviceError;
use crate::event::filter::UnknownEventType;
use crate::input::keyboard_error::KeyboardError;
use crate::input::screen::ScreenError;
use crate::operation::LogError;
use crate::qmp::CommandError;
use crate::vm::observe::VmStatus;
use crate::vm::unresponsive::VmUnresponsive;
use crate::wait::error::WaitError;

/// Why an operation did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No VM has this name or id.
    #[error("there is no VM `{}`", given.escape_debug())]
    NoSuchVm {
        /// What was given.
        given: String,
        /// Names that look like it.
        similar: Vec<String>,
    },
    /// Several VMs have ids that begin so.
    #[error("`{given}` begins the ids of several VMs: {}", names(matches))]
    AmbiguousVm {
        /// What was given.
        given: String,
        /// Their names.
        matches: Vec<VmName>,
    },
    /// The VM has no drive of this name.
    #[error("the VM `{vm}` has no drive `{}`", given.escape_debug())]
    NoSuchDrive {
        /// The VM.
        vm: VmName,
        /// What was given.
        given: String,
        /// The drives it has.
        known: Vec<String>,
    },
    /// The drive has no snapshot of this name.
    #[error("the drive `{drive}` of `{vm}` has no snapshot `{}`", given.escape_debug())]
    NoSuchSnapshot {
        /// The VM.
        vm: VmName,
        /// The drive.
        drive: String,
        /// What was given.
        given: String,
        /// The snapshots it has.
        known: Vec<String>,
    },
    /// The drive has a snapshot of this name already.
    #[error("the drive `{drive}` of `{vm}` has a snapshot `{name}` already")]
    SnapshotTaken {
        /// The VM.
        vm: VmName,
        /// The drive.
        drive: String,
        /// The name.
        name: String,
    },
    /// The drive's type cannot hold snapshots.
    #[error("the drive `{drive}` of `{vm}` is `{kind}`, which holds no snapshots")]
    SnapshotsUnsupported {
        /// The VM.
        vm: VmName,
        /// The drive.
        drive: String,
        /// Its storage type.
        kind: String,
    },
    /// What was asked does not fit the state the VM is in.
    #[error("the VM `{vm}` is {}, so {}", status.as_str(), refused(*action))]
    WrongState {
        /// The VM.
        vm: VmName,
        /// Its state.
        status: Status,
        /// What was wanted.
        action: Action,
    },
    /// The VM's command line was run by hand, and the process lives: it has the files of the run.
    #[error("the VM `{vm}` is run by process {pid}, which maqet did not start")]
    RunsByHand {
        /// The VM.
        vm: VmName,
        /// The process.
        pid: u32,
    },
    /// The VM's monitor was busy all the time, so that it could not be told to stop.
    #[error("the VM `{vm}` is busy and could not be told to stop; it was left alone, as it may be writing its disks")]
    StillBusy {
        /// The VM.
        vm: VmName,
    },
    /// The VM was told to stop by every means, and lives.
    #[error("the VM `{vm}` did not stop, not even after SIGKILL")]
    StillAlive {
        /// The VM.
        vm: VmName,
        /// Its process.
        pid: u32,
    },
    /// What was named is a QEMU that no VM owns.
    #[error("`{}` is the QEMU (pid {}) of a VM that is not in the database", .0.name.escape_debug(), .0.pid.unwrap_or_default())]
    Orphaned(Box<VmStatus>),
    /// A QEMU that no VM owns has a disk open that a VM needs.
    #[error("a QEMU (pid {pid}) that no VM owns has a disk that the VM `{vm}` needs")]
    DiskOfOrphan {
        /// The VM.
        vm: VmName,
        /// The process.
        pid: u32,
        /// What it is in the way of.
        source: Cause,
    },
    /// A QEMU that no VM owns, and of whose VM there is no copy.
    #[error("of the VM of process {pid} there is no copy, so it cannot be defined again")]
    OrphanUnknown {
        /// The process.
        pid: u32,
    },
    /// The files name another VM than the one they are applied to.
    #[error("the files name the VM `{}`, and they are applied to `{vm}`", given.escape_debug())]
    OtherName {
        /// The VM.
        vm: VmName,
        /// What the files name it.
        given: String,
    },
    /// Waiting was in vain.
    #[error(transparent)]
    Wait(#[from] WaitError),
    /// A definition without a name.
    #[error("the VM has no name")]
    NameMissing,
    /// Nothing to define a VM from.
    #[error("there is nothing to define a VM from")]
    NothingGiven,
    /// A folder that is to be shared is not there.
    #[error("there is no folder `{}` to share", path.display())]
    NoSuchFolder {
        /// Where it was expected.
        path: PathBuf,
    },
    /// A path that no guest may be given.
    #[error("`{}` may not be used: {why}", path.display())]
    UnsafePath {
        /// The path.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// KVM was asked for and cannot work here.
    #[error("KVM cannot be used here: {why}")]
    KvmUnusable {
        /// Why.
        why: String,
    },
    /// No operation has this name.
    #[error("there is no operation `{given}`")]
    NoSuchOperation {
        /// What was given.
        given: String,
        /// Names that look like it.
        similar: Vec<String>,
    },
    /// The arguments of an operation do not fit it.
    #[error("the arguments of `{operation}` do not fit")]
    WrongArguments {
        /// The operation.
        operation: String,
        /// What is wrong with them.
        source: serde_json::Error,
    },
    /// A value could not be turned into JSON.
    #[error("could not write `{operation}` as JSON")]
    Encode {
        /// The operation.
        operation: String,
        /// Why.
        source: serde_json::Error,
    },
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A name that no VM may have.
    #[error(transparent)]
    VmName(#[from] InvalidVmName),
    /// A name that no drive may have.
    #[error(transparent)]
    NodeName(#[from] InvalidNodeName),
    /// A name that no snapshot may have.
    #[error(transparent)]
    SnapshotName(#[from] InvalidSnapshotName),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The binary cannot be used.
    #[error(transparent)]
    Binary(#[from] BinaryError),
    /// QEMU did not come up.
    #[error("the VM `{vm}` did not start")]
    Launch {
        /// The VM.
        vm: VmName,
        /// Why.
        source: LaunchError,
    },
    /// A QMP command got no result.
    #[error(transparent)]
    Qmp(#[from] QmpError),
    /// A QMP command was not sent, or not done.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A disk image failed.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Somebody else is at it.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// QEMU does not answer.
    #[error(transparent)]
    VmUnresponsive(#[from] VmUnresponsive),
    /// No event is ever of the type that was asked for.
    #[error(transparent)]
    EventType(#[from] UnknownEventType),
    /// A process could not be signalled.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A path cannot be written down.
    #[error(transparent)]
    Path(#[from] PathNotUtf8),
    /// There is no firmware for the machine.
    #[error(transparent)]
    Firmware(#[from] FirmwareError),
    /// A record of a run could not be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The caller cannot be attached to the serial console.
    #[error("the serial console of `{vm}` cannot be had")]
    Console {
        /// The VM.
        vm: VmName,
        /// Why.
        source: ConsoleError,
    },
    /// A device was not plugged in or out, or not changed.
    #[error(transparent)]
    Hotplug(#[from] DeviceError),
    /// Keys were not pressed.
    #[error(transparent)]
    Keyboard(#[from] KeyboardError),
    /// There is no picture of the screen.
    #[error(transparent)]
    Screen(#[from] ScreenError),
    /// There is no log to read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A plug-in was registered twice.
    #[error(transparent)]
    Plugin(#[from] DuplicateName),
}

fn names(names: &[VmName]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

const fn refused(action: Action) -> &'static str {
    match action {
        Action::Start => "it cannot be started now",
        Action::Stop => "it cannot be stopped",
        Action::Remove => "it cannot be removed",
        Action::ChangeDisks => "its disks cannot be changed from outside",
        Action::Command => "it has no monitor and no console to talk to",
        Action::Pause => "it cannot be paused",
        Action::Resume => "it cannot be resumed",
        Action::Reset => "it cannot be reset",
    }
}

impl Error {
    /// Returns the error this one only wraps, if its own words are that one's.
    fn inner(&self) -> Option<&dyn Explain> {
        match self {
            Self::Config(inner) => Some(inner),
            Self::Store(inner) => Some(inner),
            Self::Binary(inner) => Some(inner),
            Self::Launch { source, .. } => Some(source),
            Self::Qmp(inner) => Some(inner),
            Self::Command(inner) => Some(inner),
            Self::Image(inner) => Some(inner),
            Self::Lock(inner) => Some(inner),
            Self::VmUnresponsive(inner) => Some(inner),
            Self::EventType(inner) => Some(inner),
            Self::Process(inner) => Some(inner),
            Self::Path(inner) => Some(inner),
            Self::Firmware(inner) => Some(inner),
            Self::Record(inner) => Some(inner),
            Self::Console { source, .. } => Some(source),
            Self::Wait(inner) => Some(inner),
            Self::Hotplug(inner) => Some(inner),
            Self::Keyboard(inner) => Some(inner),
            Self::Screen(inner) => Some(inner),
            Self::Log(inner) => Some(inner),
            Self::Plugin(inner) => Some(inner),
            Self::NoSuchFolder { .. }
            | Self::UnsafePath { .. }
            | Self::OtherName { .. }
            | Self::NoSuchVm { .. }
            | Self::AmbiguousVm { .. }
            | Self::NoSuchDrive { .. }
            | Self::NoSuchSnapshot { .. }
            | Self::SnapshotTaken { .. }
            | Self::SnapshotsUnsupported { .. }
            | Self::WrongState { .. }
            | Self::RunsByHand { .. }
            | Self::StillAlive { .. }
            | Self::Orphaned(_)
            | Self::DiskOfOrphan { .. }
            | Self::OrphanUnknown { .. }
            | Self::StillBusy { .. }
            | Self::NameMissing
            | Self::NothingGiven
            | Self::KvmUnusable { .. }
            | Self::NoSuchOperation { .. }
            | Self::WrongArguments { .. }
            | Self::Encode { .. }
            | Self::VmName(_)
            | Self::NodeName(_)
            | Self::SnapshotName(_) => None,
        }
    }
}

impl Explain for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::NoSuchVm { .. } => "vm.not-found",
            Self::AmbiguousVm { .. } => "vm.ambiguous",
            Self::NoSuchDrive { .. } => "drive.not-found",
            Self::NoSuchSnapshot { .. } => "snapshot.not-found",
            Self::SnapshotTaken { .. } => "snapshot.name-taken",
            Self::SnapshotsUnsupported { .. } => "snapshot.unsupported",
            Self::WrongState { .. } => "vm.wrong-state",
            Self::RunsByHand { .. } => "vm.runs-by-hand",
            Self::StillAlive { .. } => "vm.still-alive",
            Self::StillBusy { .. } => "vm.still-busy",
            Self::Orphaned(_) | Self::DiskOfOrphan { .. } => "vm.orphaned",
            Self::OrphanUnknown { .. } => "vm.orphan-unknown",
            Self::NameMissing => "vm.name-missing",
            Self::NothingGiven => "config.nothing-given",
            Self::NoSuchFolder { .. } => "storage.folder-missing",
            Self::UnsafePath { .. } => "config.unsafe-path",
            Self::OtherName { .. } => "config.other-name",
            Self::KvmUnusable { .. } => "host.kvm-unusable",
            Self::NoSuchOperation { .. } => "operation.not-found",
            Self::WrongArguments { .. } => "operation.wrong-arguments",
            Self::Encode { .. } => "operation.encode",
            Self::VmName(_) => "vm.name-invalid",
            Self::NodeName(_) => "drive.name-invalid",
            Self::SnapshotName(_) => "snapshot.name-invalid",
            wrapping => wrapping.inner().map_or("failed", Explain::code),
        }
    }

    fn fault(&self) -> Fault {
        match self {
            Self::NoSuchFolder { .. }
            | Self::NoSuchVm { .. }
            | Self::NoSuchDrive { .. }
            | Self::NoSuchSnapshot { .. } => Fault::NotFound,
            Self::Orphaned(_)
            | Self::DiskOfOrphan { .. }
            | Self::SnapshotTaken { .. }
            | Self::WrongState { .. }
            | Self::RunsByHand { .. }
            | Self::SnapshotsUnsupported { .. } => Fault::State,
            Self::AmbiguousVm { .. }
            | Self::UnsafePath { .. }
            | Self::OtherName { .. }
            | Self::NameMissing
            | Self::NothingGiven
            | Self::NoSuchOperation { .. }
            | Self::WrongArguments { .. }
            | Self::VmName(_)
            | Self::NodeName(_)
            | Self::SnapshotName(_) => Fault::Usage,
            Self::KvmUnusable { .. } => Fault::Host,
            Self::StillBusy { .. } => Fault::Busy,
            Self::StillAlive { .. } | Self::OrphanUnknown { .. } | Self::Encode { .. } => Fault::Failed,
            wrapping => wrapping.inner().map_or(Fault::Failed, Explain::fault),
        }
    }

    fn hints(&self) -> Vec<String> {
        let similar_or =
            |similar: &[String], otherwise: &str| vec![did_you_mean(similar).unwrap_or(otherwise.to_owned())];
        match self {
            Self::NoSuchVm { similar, .. } => similar_or(similar, "list the VMs with `maqet ls`"),
            Self::Orphaned(_) | Self::DiskOfOrphan { .. } => vec![
                "take it back with `maqet cleanup --adopt-orphans`".to_owned(),
                "end it with `maqet cleanup --end-orphans`".to_owned(),
            ],
            Self::OrphanUnknown { .. } => vec!["end it with `maqet cleanup --end-orphans`".to_owned()],
            Self::AmbiguousVm { .. } => vec!["give more of the id, or the name".to_owned()],
            Self::NoSuchDrive { known, .. } if known.is_empty() => {
                vec!["give the VM a disk under `storage`".to_owned()]
            }
            Self::NoSuchDrive { known, .. } => vec![format!("choose one of its drives: {}", known.join(", "))],
            Self::NoSuchSnapshot { vm, drive, given, known } if known.is_empty() => {
                vec![format!("make it with `maqet snapshot create {vm} {drive} {}`", quote(given))]
            }
            Self::NoSuchSnapshot { known, .. } => vec![format!("choose one of its snapshots: {}", known.join(", "))],
            Self::SnapshotTaken { vm, drive, name } => {
                vec![
                    "choose another name".to_owned(),
                    format!("remove the one that is there with `maqet snapshot rm {vm} {drive} {}`", quote(name)),
                ]
            }
            Self::SnapshotsUnsupported { .. } => vec!["use a drive with `type: qcow2`".to_owned()],
            Self::WrongState { vm, status, action } => state_hints(vm, *status, *action),
            Self::RunsByHand { vm, pid } => {
                vec![
                    format!("end process {pid} (shut its guest down, or `kill {pid}`), then `maqet start {vm}`"),
                    "or have the VM take it over with `maqet cleanup --adopt-orphans`".to_owned(),
                ]
            }
            Self::StillBusy { vm } => {
                vec!["try again once it is done".to_owned(), format!("or kill it with `maqet stop --force {vm}`")]
            }
            Self::StillAlive { pid, .. } => {
                vec![format!("look at process {pid}: it may hang in the kernel on a disk or a share")]
            }
            Self::NameMissing => vec!["give it one with `name:` in the file or with `--name`".to_owned()],
            Self::NothingGiven => vec!["name a YAML file, or say `--empty`".to_owned()],
            Self::NoSuchFolder { .. } => vec!["make it, or correct the `path` under `storage`".to_owned()],
            Self::OtherName { .. } => vec!["leave `name` out of the files, or apply them to that VM".to_owned()],
            Self::UnsafePath { .. } => vec!["choose a folder of your own".to_owned()],
            Self::KvmUnusable { .. } => vec!["set `accel: tcg` for software emulation".to_owned()],
            Self::NoSuchOperation { similar, .. } => did_you_mean(similar).into_iter().collect(),
            Self::WrongArguments { .. }
            | Self::Encode { .. }
            | Self::VmName(_)
            | Self::NodeName(_)
            | Self::SnapshotName(_) => Vec::new(),
            Self::Launch { vm, .. } | Self::Console { vm, .. } => {
                let hints = self.inner().map(Explain::hints).unwrap_or_default();
                hints.into_iter().map(|hint| hint.replace(" VM ", &format!(" {vm} "))).collect()
            }
            wrapping => wrapping.inner().map(Explain::hints).unwrap_or_default(),
        }
    }
}

fn state_hints(vm: &VmName, status: Status, action: Action) -> Vec<String> {
    match (action, status.is_live()) {
        (Action::Resume, _) if status == Status::RestoreFailed => {
            vec![format!("a guest that is half loaded is never let go on; end it with `maqet stop --force {vm}`")]
        }
        (Action::Resume, _) if status == Status::Panicked => vec![format!("reset it with `maqet reset {vm}`")],
        (Action::Command | Action::Pause | Action::Resume | Action::Reset, false) => {
            vec![format!("start it with `maqet start {vm}`")]
        }
        (Action::Remove, true) => vec![
            format!("stop it first with `maqet stop {vm}`"),
            format!("or end and remove it in one go with `maqet rm --force {vm}`"),
        ],
        (Action::ChangeDisks, true) => vec![format!("stop it first with `maqet stop {vm}`")],
        (Action::Start, true) => vec![format!("end it with `maqet stop --force {vm}`, then start it again")],
        (_, _) => Vec::new(),
    }
}
