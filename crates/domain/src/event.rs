//! What happened, kept for whoever asks later.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::vm::{VmId, VmName};

/// Something that happened and is to be recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When it happened.
    pub at: Timestamp,
    /// What happened, as in `vm.started`.
    pub kind: String,
    /// The VM it happened to.
    pub vm: Option<VmId>,
    /// That VM's name at the time; it outlives the VM.
    pub vm_name: Option<VmName>,
    /// What belongs to this kind of event.
    pub data: Value,
}

/// A recorded event and its place in the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordedEvent {
    /// Grows with every event of a store.
    pub sequence: i64,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}

/// The kinds of our own events.
pub mod kind {
    /// A VM was defined.
    pub const VM_DEFINED: &str = "vm.defined";
    /// A VM's definition was changed.
    pub const VM_APPLIED: &str = "vm.applied";
    /// A VM's definition was removed.
    pub const VM_REMOVED: &str = "vm.removed";
    /// A VM was started and its monitor answered.
    pub const VM_STARTED: &str = "vm.started";
    /// A start did not get as far as the monitor.
    pub const VM_START_FAILED: &str = "vm.start-failed";
    /// A VM is no longer running: by us, or found so.
    pub const VM_STOPPED: &str = "vm.stopped";
    /// A VM was made to stand still.
    pub const VM_PAUSED: &str = "vm.paused";
    /// A VM was let go on.
    pub const VM_RESUMED: &str = "vm.resumed";
    /// A VM was reset.
    pub const VM_RESET: &str = "vm.reset";
    /// A device was plugged into a running VM.
    pub const DEVICE_ADDED: &str = "device.added";
    /// A device was taken out of a running VM.
    pub const DEVICE_REMOVED: &str = "device.removed";
    /// A disk image was made.
    pub const STORAGE_CREATED: &str = "storage.created";
    /// A snapshot was made.
    pub const SNAPSHOT_CREATED: &str = "snapshot.created";
    /// A drive was put back to a snapshot.
    pub const SNAPSHOT_LOADED: &str = "snapshot.loaded";
    /// A snapshot was removed.
    pub const SNAPSHOT_REMOVED: &str = "snapshot.removed";
    /// A hook did not do its work.
    pub const HOOK_FAILED: &str = "hook.failed";

    /// All of them.
    pub const ALL: [&str; 16] = [
        VM_DEFINED,
        VM_APPLIED,
        VM_REMOVED,
        VM_STARTED,
        VM_START_FAILED,
        VM_STOPPED,
        VM_PAUSED,
        VM_RESUMED,
        VM_RESET,
        DEVICE_ADDED,
        DEVICE_REMOVED,
        STORAGE_CREATED,
        SNAPSHOT_CREATED,
        SNAPSHOT_LOADED,
        SNAPSHOT_REMOVED,
        HOOK_FAILED,
    ];
}
