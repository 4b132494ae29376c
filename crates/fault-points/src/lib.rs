//! Fault points: steps at which a test kills the process, to check that nothing is lost.
//!
//! Code with effects outside the process calls [`FaultPoints::reach`] at each step. Without the feature `fault-points`,
//! which is for tests, the calls compile to nothing, and the names of the steps are not in the binary.

use std::fmt;

/// The environment variable with the step at which a process built for tests kills itself: `start.committed`, or
/// `store.written:2` for the second time it is reached. With `:stop` at the end, it stops itself as SIGSTOP does.
pub const VARIABLE: &str = "MAQET_FAULT_POINT";

/// A step at which a process can be killed, and its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display)]
pub enum FaultPoint {
    /// An operation has locked its VM.
    #[strum(to_string = "{0}.locked")]
    Locked(&'static str),
    /// An operation has committed that it is in progress.
    #[strum(to_string = "{0}.marked")]
    Marked(&'static str),
    /// An operation has done its work and is about to commit.
    #[strum(to_string = "{0}.before-commit")]
    BeforeCommit(&'static str),
    /// An operation has committed, and still holds its lock.
    #[strum(to_string = "{0}.committed")]
    Committed(&'static str),
    /// A disk image was created, and is not recorded.
    #[strum(to_string = "disk.made")]
    DiskMade,
    /// A disk image was recorded.
    #[strum(to_string = "disk.recorded")]
    DiskRecorded,
    /// An empty temporary file for an image was created.
    #[strum(to_string = "image.reserved")]
    ImageReserved,
    /// `qemu-img` was started.
    #[strum(to_string = "image.tool-started")]
    ImageToolStarted,
    /// An image is complete under its temporary name.
    #[strum(to_string = "image.written")]
    ImageWritten,
    /// An image was renamed to its final name.
    #[strum(to_string = "image.named")]
    ImageNamed,
    /// A snapshot of an image was created, loaded or removed.
    #[strum(to_string = "snapshot.step")]
    SnapshotStep,
    /// The folders, logs and locks of a run were created.
    #[strum(to_string = "launch.paths-created")]
    LaunchPathsCreated,
    /// QEMU was spawned.
    #[strum(to_string = "launch.spawned")]
    LaunchSpawned,
    /// QEMU's monitor has responded.
    #[strum(to_string = "launch.answered")]
    LaunchAnswered,
    /// A start failed, and its files were removed.
    #[strum(to_string = "start.failed")]
    StartFailed,
    /// QEMU has exited; its sockets exist.
    #[strum(to_string = "stop.gone")]
    StopGone,
    /// QEMU has exited; its sockets were removed.
    #[strum(to_string = "stop.cleared")]
    StopCleared,
    /// QEMU was killed to remove its VM.
    #[strum(to_string = "rm.killed")]
    RmKilled,
    /// The VM was removed from the database, and its files were removed.
    #[strum(to_string = "rm.files-removed")]
    RmFilesRemoved,
    /// An entry of the trash was described; no image was moved to it.
    #[strum(to_string = "trash.described")]
    TrashDescribed,
    /// An image was moved to the trash.
    #[strum(to_string = "trash.moved")]
    TrashMoved,
    /// An image was moved back from the trash.
    #[strum(to_string = "trash.restored")]
    TrashRestored,
    /// The images of an entry of the trash were deleted.
    #[strum(to_string = "trash.deleted")]
    TrashDeleted,
    /// The backend of a device was added; the device was not.
    #[strum(to_string = "device.backend-added")]
    DeviceBackendAdded,
    /// A device was unplugged; its backend exists.
    #[strum(to_string = "device.gone")]
    DeviceGone,
    /// The images of a backup were created, and are empty.
    #[strum(to_string = "backup.images-created")]
    BackupImagesCreated,
    /// QEMU copies drives to a backup.
    #[strum(to_string = "backup.started")]
    BackupStarted,
    /// The images of a backup are complete; the backup has no manifest.
    #[strum(to_string = "backup.copied")]
    BackupCopied,
    /// A backup is complete; bitmaps of earlier ones are in the drives.
    #[strum(to_string = "backup.published")]
    BackupPublished,
    /// The directory of a backup was renamed to remove it.
    #[strum(to_string = "backup.removed")]
    BackupRemoved,
    /// The layers of a checkpoint are open; nothing uses them.
    #[strum(to_string = "checkpoint.prepared")]
    CheckpointPrepared,
    /// The guest is paused, and its disks are frozen; QEMU has not begun to save it.
    #[strum(to_string = "checkpoint.frozen")]
    CheckpointFrozen,
    /// QEMU has begun to save the guest, which is paused.
    #[strum(to_string = "checkpoint.saving")]
    CheckpointSaving,
    /// The guest runs on; its layers are not recorded.
    #[strum(to_string = "checkpoint.resumed")]
    CheckpointResumed,
    /// QEMU has written everything.
    #[strum(to_string = "checkpoint.saved")]
    CheckpointSaved,
    /// The saved state was taken apart; the checkpoint is not complete.
    #[strum(to_string = "checkpoint.sorted")]
    CheckpointSorted,
    /// A checkpoint is complete; its work is pending.
    #[strum(to_string = "checkpoint.published")]
    CheckpointPublished,
    /// The VM of a fork is defined; nothing of it runs.
    #[strum(to_string = "fork.defined")]
    ForkDefined,
    /// A QEMU has loaded the state of a checkpoint; its guest does not run yet, and the fork or restore is not complete.
    #[strum(to_string = "checkpoint.loaded")]
    CheckpointLoaded,
    /// The new layers of a VM that goes back to a checkpoint were created; its old QEMU runs, if it did.
    #[strum(to_string = "checkpoint.restore-prepared")]
    CheckpointRestorePrepared,
    /// The old QEMU has ended; the new one was not started.
    #[strum(to_string = "checkpoint.restore-ended")]
    CheckpointRestoreEnded,
    /// The UEFI variables are those of the checkpoint; the new QEMU was not started.
    #[strum(to_string = "checkpoint.restore-replaced")]
    CheckpointRestoreReplaced,
    /// It is recorded that the VM has the new layers; its guest does not run yet.
    #[strum(to_string = "checkpoint.restore-recorded")]
    CheckpointRestoreRecorded,
    /// The guest runs from the checkpoint; layers that nothing needs exist.
    #[strum(to_string = "checkpoint.restore-resumed")]
    CheckpointRestoreResumed,
    /// It is recorded that checkpoints are removed and layers merged.
    #[strum(to_string = "checkpoint.merge-marked")]
    CheckpointMergeMarked,
    /// The directories of removed checkpoints are gone; their layers are there.
    #[strum(to_string = "checkpoint.removed")]
    CheckpointRemoved,
    /// A layer was copied into the image below, and is still the disk of the guest.
    #[strum(to_string = "checkpoint.layer-committed")]
    CheckpointLayerCommitted,
    /// A paused guest has the image below a layer; that is not recorded.
    #[strum(to_string = "checkpoint.pivoted")]
    CheckpointPivoted,
    /// It is recorded that a layer was merged; its file exists.
    #[strum(to_string = "checkpoint.layer-merged")]
    CheckpointLayerMerged,
    /// The QEMU that is to take a guest over waits for it.
    #[strum(to_string = "upgrade.launched")]
    UpgradeLaunched,
    /// A guest that is to be put into another QEMU is paused.
    #[strum(to_string = "upgrade.paused")]
    UpgradePaused,
    /// Another QEMU has loaded the state of a guest; that is not recorded.
    #[strum(to_string = "upgrade.copied")]
    UpgradeCopied,
    /// It is recorded that another QEMU has the guest, which is paused.
    #[strum(to_string = "upgrade.recorded")]
    UpgradeRecorded,
    /// The guest runs in another QEMU.
    #[strum(to_string = "upgrade.resumed")]
    UpgradeResumed,
    /// The QEMU that the guest was in is gone.
    #[strum(to_string = "upgrade.ended")]
    UpgradeEnded,
    /// Images of a backup were copied for a restore; the disks are the old ones.
    #[strum(to_string = "restore.copied")]
    RestoreCopied,
    /// An image was replaced by that of a backup.
    #[strum(to_string = "restore.replaced")]
    RestoreReplaced,
    /// All images were replaced; the old ones exist.
    #[strum(to_string = "restore.in-place")]
    RestoreInPlace,
    /// QEMU has saved a snapshot, or failed to; it is not recorded.
    #[strum(to_string = "snapshot.saved")]
    SnapshotSaved,
    /// The guest is paused, and the state of its disks is kept; nothing was loaded yet.
    #[strum(to_string = "snapshot.safe")]
    SnapshotSafe,
    /// QEMU has loaded a snapshot, or failed to; it is not recorded.
    #[strum(to_string = "snapshot.loaded")]
    SnapshotLoaded,
    /// QEMU was ended after a load that failed; its disks are not reverted.
    #[strum(to_string = "snapshot.run-ended")]
    SnapshotRunEnded,
    /// All was copied to another database; the one in use is not marked as moved.
    #[strum(to_string = "move.copied")]
    MoveCopied,
    /// The old database is marked as moved, and the new one as not complete.
    #[strum(to_string = "move.left")]
    MoveLeft,
    /// The copies of VMs and the trash are those of the new database, which is marked as not complete.
    #[strum(to_string = "move.handed-over")]
    MoveHandedOver,
    /// A new database was created.
    #[strum(to_string = "store.made")]
    StoreMade,
    /// Changes were written and not committed.
    #[strum(to_string = "store.written")]
    StoreWritten,
    /// Changes were committed; no event was published.
    #[strum(to_string = "store.committed")]
    StoreCommitted,
}

/// The listener for steps; there is none except in a binary built for tests.
#[derive(Clone, Default)]
pub struct FaultPoints {
    #[cfg(feature = "fault-points")]
    listener: Option<std::sync::Arc<dyn Fn(FaultPoint) + Send + Sync>>,
}

impl FaultPoints {
    /// Calls `listener` at every step.
    #[cfg(feature = "fault-points")]
    pub fn with_listener(listener: impl Fn(FaultPoint) + Send + Sync + 'static) -> Self {
        Self { listener: Some(std::sync::Arc::new(listener)) }
    }

    /// Reports that `point` is reached.
    #[cfg(feature = "fault-points")]
    #[inline]
    pub fn reach(&self, point: FaultPoint) {
        if let Some(listener) = &self.listener {
            listener(point);
        }
    }

    /// Reports that a step is reached; a no-op.
    #[cfg(not(feature = "fault-points"))]
    #[inline]
    pub const fn reach(&self, _: FaultPoint) {}
}

impl fmt::Debug for FaultPoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultPoints").finish_non_exhaustive()
    }
}
