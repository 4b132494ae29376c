//! The steps of maqet at which tests kill it.

use maqet_fault_points::FaultPoint;

/// All steps; a test kills a process at each, and fails if one is never reached.
pub const FAULT_POINTS: &[FaultPoint] = &[
    FaultPoint::BeforeCommit("add"),
    FaultPoint::Committed("add"),
    FaultPoint::Locked("apply"),
    FaultPoint::BeforeCommit("apply"),
    FaultPoint::Committed("apply"),
    FaultPoint::Locked("start"),
    FaultPoint::Marked("start"),
    FaultPoint::BeforeCommit("start"),
    FaultPoint::Committed("start"),
    FaultPoint::StartFailed,
    FaultPoint::Locked("stop"),
    FaultPoint::Marked("stop"),
    FaultPoint::StopGone,
    FaultPoint::StopCleared,
    FaultPoint::BeforeCommit("stop"),
    FaultPoint::Committed("stop"),
    FaultPoint::Locked("restart"),
    FaultPoint::Locked("pause"),
    FaultPoint::BeforeCommit("pause"),
    FaultPoint::Committed("pause"),
    FaultPoint::Locked("resume"),
    FaultPoint::BeforeCommit("resume"),
    FaultPoint::Committed("resume"),
    FaultPoint::Locked("reset"),
    FaultPoint::BeforeCommit("reset"),
    FaultPoint::Committed("reset"),
    FaultPoint::Locked("rm"),
    FaultPoint::RmKilled,
    FaultPoint::BeforeCommit("rm"),
    FaultPoint::Committed("rm"),
    FaultPoint::RmFilesRemoved,
    FaultPoint::Marked("rm"),
    FaultPoint::TrashDescribed,
    FaultPoint::TrashMoved,
    FaultPoint::TrashRestored,
    FaultPoint::TrashDeleted,
    FaultPoint::Locked("storage.resize"),
    FaultPoint::BeforeCommit("storage.resize"),
    FaultPoint::Committed("storage.resize"),
    FaultPoint::Locked("storage.convert"),
    FaultPoint::Marked("storage.convert"),
    FaultPoint::BeforeCommit("storage.convert"),
    FaultPoint::Committed("storage.convert"),
    FaultPoint::Locked("storage.attach"),
    FaultPoint::BeforeCommit("storage.attach"),
    FaultPoint::Committed("storage.attach"),
    FaultPoint::BeforeCommit("storage.trash.restore"),
    FaultPoint::Committed("storage.trash.restore"),
    FaultPoint::BeforeCommit("storage.trash.empty"),
    FaultPoint::Committed("storage.trash.empty"),
    FaultPoint::Locked("snapshot.create"),
    FaultPoint::Marked("snapshot.create"),
    FaultPoint::BeforeCommit("snapshot.create"),
    FaultPoint::Committed("snapshot.create"),
    FaultPoint::Locked("snapshot.load"),
    FaultPoint::Marked("snapshot.load"),
    FaultPoint::BeforeCommit("snapshot.load"),
    FaultPoint::Committed("snapshot.load"),
    FaultPoint::Locked("snapshot.rm"),
    FaultPoint::Marked("snapshot.rm"),
    FaultPoint::BeforeCommit("snapshot.rm"),
    FaultPoint::Committed("snapshot.rm"),
    FaultPoint::Locked("qmp.device-add"),
    FaultPoint::DeviceBackendAdded,
    FaultPoint::BeforeCommit("qmp.device-add"),
    FaultPoint::Committed("qmp.device-add"),
    FaultPoint::Locked("qmp.device-del"),
    FaultPoint::DeviceGone,
    FaultPoint::BeforeCommit("qmp.device-del"),
    FaultPoint::Committed("qmp.device-del"),
    FaultPoint::Locked("qmp.insert"),
    FaultPoint::DiskMade,
    FaultPoint::DiskRecorded,
    FaultPoint::ImageReserved,
    FaultPoint::ImageToolStarted,
    FaultPoint::ImageWritten,
    FaultPoint::ImageNamed,
    FaultPoint::SnapshotStep,
    FaultPoint::SnapshotSaved,
    FaultPoint::SnapshotSafe,
    FaultPoint::SnapshotLoaded,
    FaultPoint::SnapshotRunEnded,
    FaultPoint::LaunchPathsCreated,
    FaultPoint::LaunchSpawned,
    FaultPoint::LaunchAnswered,
    FaultPoint::StoreMade,
    FaultPoint::StoreWritten,
    FaultPoint::StoreCommitted,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn test_fault_points_names_are_unique() {
        let names: BTreeSet<String> = FAULT_POINTS.iter().map(ToString::to_string).collect();

        assert_eq!(names.len(), FAULT_POINTS.len());
    }
}
