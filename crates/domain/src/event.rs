//! Events, kept in the event log.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::vm::{VmId, VmName};

/// An event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When it happened.
    pub at: Timestamp,
    /// Its type, as in `vm.started`.
    pub kind: String,
    /// The VM it is about.
    pub vm: Option<VmId>,
    /// The name of the VM at that time.
    pub vm_name: Option<VmName>,
    /// Data that depends on the type.
    pub data: Value,
}

/// An event in the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordedEvent {
    /// Its number; increases with every event of a store.
    pub sequence: i64,
    /// The host that recorded it, in a store that several share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}

/// The types of maqet's own events.
pub mod kind {
    /// A VM was defined.
    pub const VM_DEFINED: &str = "vm.defined";
    /// A VM's definition was changed.
    pub const VM_APPLIED: &str = "vm.applied";
    /// A VM's definition was removed.
    pub const VM_REMOVED: &str = "vm.removed";
    /// A VM was started and its monitor responded.
    pub const VM_STARTED: &str = "vm.started";
    /// A start failed before the monitor responded.
    pub const VM_START_FAILED: &str = "vm.start-failed";
    /// A VM is no longer running: it was stopped, or found to have exited.
    pub const VM_STOPPED: &str = "vm.stopped";
    /// A VM was paused.
    pub const VM_PAUSED: &str = "vm.paused";
    /// A VM was resumed.
    pub const VM_RESUMED: &str = "vm.resumed";
    /// A VM was reset.
    pub const VM_RESET: &str = "vm.reset";
    /// The running guest of a VM was put into another QEMU.
    pub const VM_UPGRADED: &str = "vm.upgraded";
    /// Work on the images of a VM whose process died was finished or rolled back.
    pub const VM_RECOVERED: &str = "vm.recovered";
    /// A VM was moved here from another host.
    pub const VM_EVICTED: &str = "vm.evicted";
    /// A device was added to a running VM.
    pub const DEVICE_ADDED: &str = "device.added";
    /// A device was removed from a running VM.
    pub const DEVICE_REMOVED: &str = "device.removed";
    /// A disk image was created.
    pub const STORAGE_CREATED: &str = "storage.created";
    /// The size of a drive was changed.
    pub const STORAGE_RESIZED: &str = "storage.resized";
    /// The image of a drive was written in another format.
    pub const STORAGE_CONVERTED: &str = "storage.converted";
    /// The image of a drive was rewritten without space that it does not need.
    pub const STORAGE_COMPACTED: &str = "storage.compacted";
    /// The image of a drive was repaired.
    pub const STORAGE_REPAIRED: &str = "storage.repaired";
    /// An existing image was attached to a VM as a drive.
    pub const STORAGE_ATTACHED: &str = "storage.attached";
    /// The images of a removed VM were restored from the trash.
    pub const STORAGE_RESTORED: &str = "storage.restored";
    /// The images of a removed VM were deleted for good.
    pub const STORAGE_DELETED: &str = "storage.deleted";
    /// A snapshot was created.
    pub const SNAPSHOT_CREATED: &str = "snapshot.created";
    /// A drive was reverted to a snapshot.
    pub const SNAPSHOT_LOADED: &str = "snapshot.loaded";
    /// A snapshot was removed.
    pub const SNAPSHOT_REMOVED: &str = "snapshot.removed";
    /// The disks of a VM were backed up.
    pub const BACKUP_CREATED: &str = "backup.created";
    /// Disks of a VM were restored from a backup.
    pub const BACKUP_RESTORED: &str = "backup.restored";
    /// Backups of a VM were removed.
    pub const BACKUP_REMOVED: &str = "backup.removed";
    /// A checkpoint of a VM was taken.
    pub const CHECKPOINT_CREATED: &str = "checkpoint.created";
    /// A VM went back to a checkpoint.
    pub const CHECKPOINT_RESTORED: &str = "checkpoint.restored";
    /// Checkpoints of a VM were removed.
    pub const CHECKPOINT_REMOVED: &str = "checkpoint.removed";
    /// A hook ended and left processes running.
    pub const HOOK_LEFT_PROCESSES: &str = "hook.left-processes";
    /// A hook failed.
    pub const HOOK_FAILED: &str = "hook.failed";

    /// All of them.
    pub const ALL: [&str; 33] = [
        VM_DEFINED, VM_APPLIED, VM_REMOVED, VM_STARTED, VM_START_FAILED, VM_STOPPED, VM_PAUSED, VM_RESUMED, VM_RESET,
        VM_UPGRADED, VM_RECOVERED, VM_EVICTED, DEVICE_ADDED, DEVICE_REMOVED, STORAGE_CREATED, STORAGE_RESIZED,
        STORAGE_CONVERTED, STORAGE_COMPACTED, STORAGE_REPAIRED, STORAGE_ATTACHED, STORAGE_RESTORED, STORAGE_DELETED,
        SNAPSHOT_CREATED, SNAPSHOT_LOADED, SNAPSHOT_REMOVED, BACKUP_CREATED, BACKUP_RESTORED, BACKUP_REMOVED,
        CHECKPOINT_CREATED, CHECKPOINT_RESTORED, CHECKPOINT_REMOVED, HOOK_FAILED, HOOK_LEFT_PROCESSES,
    ];
}
