//! Why a VM is in its state: why its run ended, or why its guest does not run.

use std::fmt;

use serde::{Deserialize, Serialize};
use strum::VariantArray;

use super::status::Status;
use crate::qmp::RunState;

/// Why a VM is no longer running.
///
/// Its name, as in `guest-shutdown`, is what scripts see and what is stored; its `Display` is a phrase for text output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[derive(Serialize, Deserialize, strum::EnumString, strum::IntoStaticStr, VariantArray)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum StopReason {
    /// The guest powered itself off.
    GuestShutdown,
    /// The guest reset itself, and QEMU exits on that (`-no-reboot`).
    GuestReset,
    /// The guest reset because its processor could not handle a fault, and QEMU exits on that.
    TripleFault,
    /// The guest's kernel panicked, and QEMU exits on that.
    GuestPanic,
    /// The guest's watchdog device expired, and its action ended QEMU.
    Watchdog,
    /// The guest ended QEMU through the device `isa-debug-exit`.
    DebugExit,
    /// The guest was reset over QEMU's monitor, and QEMU exits on that.
    HostReset,
    /// QEMU was asked to quit over its monitor.
    HostQuit,
    /// QEMU was terminated by a signal.
    HostSignal,
    /// The kernel killed QEMU because memory ran out.
    OutOfMemory,
    /// QEMU exited because of an error that it reported.
    QemuError,
    /// Loading a snapshot failed, and QEMU was ended because its guest was loaded partially.
    RestoreFailed,
    /// QEMU ended without giving a reason: it crashed or was killed.
    Crashed,
    /// The host was rebooted while QEMU ran.
    HostReboot,
    /// The reason is not known.
    Unknown,
}

impl StopReason {
    /// All of them.
    pub const ALL: &[Self] = <Self as VariantArray>::VARIANTS;

    /// Returns its name.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Returns whether the guest ended QEMU.
    pub const fn is_of_guest(self) -> bool {
        match self {
            Self::GuestShutdown
            | Self::GuestReset
            | Self::TripleFault
            | Self::GuestPanic
            | Self::Watchdog
            | Self::DebugExit => true,
            Self::HostReset
            | Self::HostQuit
            | Self::HostSignal
            | Self::OutOfMemory
            | Self::QemuError
            | Self::RestoreFailed
            | Self::Crashed
            | Self::HostReboot
            | Self::Unknown => false,
        }
    }

    /// Returns whether neither the guest nor a person ended the run on purpose, as far as is known.
    pub const fn is_failure(self) -> bool {
        match self {
            Self::GuestShutdown
            | Self::GuestReset
            | Self::DebugExit
            | Self::HostReset
            | Self::HostQuit
            | Self::HostSignal => false,
            Self::TripleFault
            | Self::GuestPanic
            | Self::Watchdog
            | Self::OutOfMemory
            | Self::QemuError
            | Self::RestoreFailed
            | Self::Crashed
            | Self::HostReboot
            | Self::Unknown => true,
        }
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::GuestShutdown => "the guest powered off",
            Self::GuestReset => "the guest reset, and QEMU exits on that",
            Self::TripleFault => "the guest's processor had a triple fault, and QEMU exits on that",
            Self::GuestPanic => "the guest's kernel panicked",
            Self::Watchdog => "the guest's watchdog expired",
            Self::DebugExit => "the guest ended QEMU through `isa-debug-exit`",
            Self::HostReset => "the guest was reset, and QEMU exits on that",
            Self::HostQuit => "QEMU was asked to quit",
            Self::HostSignal => "QEMU was terminated by a signal",
            Self::OutOfMemory => "the kernel killed QEMU because memory ran out",
            Self::QemuError => "QEMU exited because of an error",
            Self::RestoreFailed => "loading a snapshot failed",
            Self::Crashed => "QEMU crashed or was killed",
            Self::HostReboot => "the host was rebooted",
            Self::Unknown => "unknown reason",
        })
    }
}

/// Why the guest of a VM whose QEMU is alive does not run.
///
/// Its name, as in `no-space`, is what scripts see; its `Display` is a phrase for text output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, strum::IntoStaticStr, VariantArray)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum HaltReason {
    /// It was paused by a command (QMP `stop`).
    Request,
    /// It was started paused (`-S`).
    StartedPaused,
    /// Its state was sent elsewhere by a migration.
    Migrated,
    /// Its watchdog device expired, with the action `pause`.
    Watchdog,
    /// It suspended itself to RAM (ACPI S3).
    GuestSuspend,
    /// It powered itself off, and QEMU stays (`-no-shutdown`).
    GuestShutdown,
    /// Its kernel panicked, and QEMU stays.
    GuestPanic,
    /// The file system of a disk image is full.
    NoSpace,
    /// Access to a disk failed.
    DiskError,
    /// QEMU or the accelerator had an internal error.
    InternalError,
    /// A snapshot was loaded only partially.
    PartialLoad,
}

impl HaltReason {
    /// All of them.
    pub const ALL: &[Self] = <Self as VariantArray>::VARIANTS;

    /// Returns its name.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Returns why a guest does not run in a run state of QEMU; `None` for a guest that runs or that QEMU works on.
    ///
    /// Whether a disk failed because it is full is not part of the run state.
    pub const fn from_run_state(state: RunState) -> Option<Self> {
        match state {
            RunState::Paused => Some(Self::Request),
            RunState::Prelaunch => Some(Self::StartedPaused),
            RunState::Postmigrate => Some(Self::Migrated),
            RunState::Watchdog => Some(Self::Watchdog),
            RunState::Suspended => Some(Self::GuestSuspend),
            RunState::Shutdown => Some(Self::GuestShutdown),
            RunState::GuestPanicked => Some(Self::GuestPanic),
            RunState::IoError => Some(Self::DiskError),
            RunState::InternalError => Some(Self::InternalError),
            RunState::RestoreVm => Some(Self::PartialLoad),
            RunState::Running
            | RunState::Colo
            | RunState::Inmigrate
            | RunState::FinishMigrate
            | RunState::SaveVm
            | RunState::Unrecognised => None,
        }
    }
}

impl fmt::Display for HaltReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Request => "by a command",
            Self::StartedPaused => "not resumed since the start",
            Self::Migrated => "its state was migrated",
            Self::Watchdog => "the guest's watchdog expired",
            Self::GuestSuspend => "the guest suspended itself",
            Self::GuestShutdown => "the guest powered off, and QEMU stays",
            Self::GuestPanic => "the guest's kernel panicked",
            Self::NoSpace => "no space left for a disk",
            Self::DiskError => "a disk failed",
            Self::InternalError => "internal error of QEMU",
            Self::PartialLoad => "a snapshot was loaded partially",
        })
    }
}

/// Why a VM is in its state, where the state has a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(untagged)]
pub enum StateReason {
    /// Why its run ended.
    Ended(StopReason),
    /// Why its guest does not run.
    Halted(HaltReason),
}

impl StateReason {
    /// Returns the reason for `status`; `halted` is why the guest does not run.
    pub const fn new(status: Status, halted: Option<HaltReason>) -> Option<Self> {
        match (status, halted) {
            (Status::Stopped(end), _) => Some(Self::Ended(end.reason)),
            (
                Status::Paused
                | Status::Suspended
                | Status::IoError
                | Status::Panicked
                | Status::RestoreFailed
                | Status::Stopping,
                Some(halted),
            ) => Some(Self::Halted(halted)),
            (_, _) => None,
        }
    }

    /// Returns its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ended(reason) => reason.as_str(),
            Self::Halted(reason) => reason.as_str(),
        }
    }

    /// Returns why the run ended, if it did.
    pub const fn stop_reason(self) -> Option<StopReason> {
        match self {
            Self::Ended(reason) => Some(reason),
            Self::Halted(_) => None,
        }
    }
}

impl fmt::Display for StateReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended(reason) => reason.fmt(f),
            Self::Halted(reason) => reason.fmt(f),
        }
    }
}

/// What is known about a [`StateReason`] beyond its name; each field only where it applies and is known.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct StateDetails {
    /// The drive that failed, by its name in the definition.
    pub drive: Option<String>,
    /// The block node that failed, if it is not the one of a drive.
    pub node: Option<String>,
    /// What failed on it: `read` or `write`.
    pub operation: Option<String>,
    /// What the watchdog did, as in `pause` or `shutdown`.
    pub action: Option<String>,
    /// The signal that ended QEMU, as in `SIGTERM`.
    pub signal: Option<String>,
    /// The process that sent it.
    pub sender_pid: Option<u32>,
    /// The name of its program.
    pub sender: Option<String>,
    /// What QEMU or the kernel wrote about it.
    pub message: Option<String>,
}

impl StateDetails {
    /// A signal whose sender is not known.
    pub(super) fn signal(name: &str) -> Self {
        Self { signal: Some(name.to_owned()), ..Self::default() }
    }

    /// Returns whether nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// As in "drive `data`, write: No space left on device".
impl fmt::Display for StateDetails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |label: &str, value: &Option<String>| value.as_ref().map(|value| format!("{label} `{value}`"));
        let sender = match (self.sender_pid, &self.sender) {
            (Some(pid), Some(name)) => Some(format!("from process {pid} (`{name}`)")),
            (Some(pid), None) => Some(format!("from process {pid}")),
            (None, _) => None,
        };
        let signal = self.signal.clone().into_iter().chain(sender).collect::<Vec<_>>().join(" ");
        let facts = [
            quoted("drive", &self.drive),
            quoted("node", &self.node),
            self.operation.clone(),
            quoted("action", &self.action),
            Some(signal).filter(|signal| !signal.is_empty()),
        ];
        let facts = facts.into_iter().flatten().collect::<Vec<_>>().join(", ");
        match (facts.as_str(), &self.message) {
            ("", Some(message)) => f.write_str(message),
            (facts, Some(message)) => write!(f, "{facts}: {message}"),
            (facts, None) => f.write_str(facts),
        }
    }
}
