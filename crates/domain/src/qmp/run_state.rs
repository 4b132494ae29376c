//! QEMU's run state.

use serde::{Deserialize, Serialize};

/// QEMU's run state, as `query-status` reports it (QAPI `RunState`, QEMU 7.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// Waiting for a migration to come in.
    Inmigrate,
    /// QEMU found an error of its own and stands still.
    InternalError,
    /// A disk failed and the guest stands still.
    IoError,
    /// Stopped by somebody.
    Paused,
    /// Stopped after a migration went out.
    Postmigrate,
    /// Started with `-S` and never let go.
    Prelaunch,
    /// Paused for the last part of a migration.
    FinishMigrate,
    /// Stopped in the middle of loading a snapshot.
    RestoreVm,
    /// Running.
    Running,
    /// Paused for the saving of a snapshot.
    SaveVm,
    /// The guest is off and QEMU was told to stay.
    Shutdown,
    /// Suspended to RAM by the guest.
    Suspended,
    /// Stopped by its watchdog.
    Watchdog,
    /// The guest's kernel panicked.
    GuestPanicked,
    /// Paused for COLO replication.
    Colo,
    /// A state this program does not know.
    #[serde(other)]
    Unrecognised,
}
