//! QEMU's run state.

use serde::{Deserialize, Serialize};

/// QEMU's run state, as `query-status` reports it (QAPI `RunState`, QEMU 7.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// Waiting for an incoming migration.
    Inmigrate,
    /// Paused by an internal error of QEMU.
    InternalError,
    /// Paused by an I/O error of a disk.
    IoError,
    /// Paused by `stop`.
    Paused,
    /// Stopped after an outgoing migration.
    Postmigrate,
    /// Started with `-S` and not resumed yet.
    Prelaunch,
    /// Paused for the last phase of a migration.
    FinishMigrate,
    /// Paused while a snapshot is loaded.
    RestoreVm,
    /// Running.
    Running,
    /// Paused while a snapshot is saved.
    SaveVm,
    /// The guest is off and QEMU was started with `-no-shutdown`.
    Shutdown,
    /// Suspended to RAM by the guest.
    Suspended,
    /// Paused by a watchdog.
    Watchdog,
    /// The guest's kernel panicked.
    GuestPanicked,
    /// Paused for COLO replication.
    Colo,
    /// A state of a newer QEMU.
    #[serde(other)]
    Unrecognised,
}
