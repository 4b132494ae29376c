//! Steps at which a test kills the process, to see that nothing is lost by it.
//!
//! What has an effect outside says which step it has come to, with [`FaultPoints::reach`]. Nobody listens unless the
//! feature `fault-points` is on, which is for tests: without it a reached step compiles to nothing, and the names of
//! the steps are in no binary.

use std::fmt;

/// The variable that names the step at which a process built for tests kills itself: `start.committed`, or
/// `store.written:2` for the second time it comes there.
pub const VARIABLE: &str = "MAQET_FAULT_POINT";

/// A step at which a process can be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultPoint {
    /// An operation holds the lock of its VM and has done nothing yet.
    Locked(&'static str),
    /// An operation has written that it is underway.
    Intended(&'static str),
    /// An operation has done its work and written nothing of it.
    BeforeCommit(&'static str),
    /// An operation has written all, and still holds its lock.
    Committed(&'static str),
    /// A disk has its name and nobody wrote it down.
    DiskMade,
    /// A disk is written down.
    DiskRecorded,
    /// An image has a temporary name and nothing in it.
    ImageReserved,
    /// `qemu-img` is at work.
    ImageToolStarted,
    /// An image is whole under its temporary name.
    ImageWritten,
    /// An image has its own name.
    ImageNamed,
    /// The folders, logs and locks of a run are made.
    LaunchPlacesMade,
    /// QEMU is spawned.
    LaunchSpawned,
    /// QEMU's monitor has answered.
    LaunchAnswered,
    /// QEMU could not be started, and what was made for it is gone.
    StartFailed,
    /// QEMU is gone, its sockets are not.
    StopGone,
    /// QEMU and its sockets are gone.
    StopCleared,
    /// QEMU was killed, so that its VM can be removed.
    RmKilled,
    /// The VM is gone from the database, and so are its files.
    RmForgotten,
    /// The back end of a device is made, the device is not.
    DeviceBackEndMade,
    /// The guest let a device go, whose back end is there.
    DeviceGone,
    /// A new database has its name.
    StoreMade,
    /// Changes are written and not committed.
    StoreWritten,
    /// Changes are committed, and nobody was told.
    StoreCommitted,
}

impl FaultPoint {
    /// Every step there is; a test walks them all, and fails if one is never reached.
    pub const ALL: [Self; 61] = [
        Self::BeforeCommit("add"),
        Self::Committed("add"),
        Self::Locked("apply"),
        Self::BeforeCommit("apply"),
        Self::Committed("apply"),
        Self::Locked("start"),
        Self::Intended("start"),
        Self::BeforeCommit("start"),
        Self::Committed("start"),
        Self::StartFailed,
        Self::Locked("stop"),
        Self::Intended("stop"),
        Self::StopGone,
        Self::StopCleared,
        Self::BeforeCommit("stop"),
        Self::Committed("stop"),
        Self::Locked("restart"),
        Self::Locked("pause"),
        Self::BeforeCommit("pause"),
        Self::Committed("pause"),
        Self::Locked("resume"),
        Self::BeforeCommit("resume"),
        Self::Committed("resume"),
        Self::Locked("reset"),
        Self::BeforeCommit("reset"),
        Self::Committed("reset"),
        Self::Locked("rm"),
        Self::RmKilled,
        Self::BeforeCommit("rm"),
        Self::Committed("rm"),
        Self::RmForgotten,
        Self::Locked("snapshot.create"),
        Self::BeforeCommit("snapshot.create"),
        Self::Committed("snapshot.create"),
        Self::Locked("snapshot.load"),
        Self::BeforeCommit("snapshot.load"),
        Self::Committed("snapshot.load"),
        Self::Locked("snapshot.rm"),
        Self::BeforeCommit("snapshot.rm"),
        Self::Committed("snapshot.rm"),
        Self::Locked("qmp.device-add"),
        Self::DeviceBackEndMade,
        Self::BeforeCommit("qmp.device-add"),
        Self::Committed("qmp.device-add"),
        Self::Locked("qmp.device-del"),
        Self::DeviceGone,
        Self::BeforeCommit("qmp.device-del"),
        Self::Committed("qmp.device-del"),
        Self::Locked("qmp.insert"),
        Self::DiskMade,
        Self::DiskRecorded,
        Self::ImageReserved,
        Self::ImageToolStarted,
        Self::ImageWritten,
        Self::ImageNamed,
        Self::LaunchPlacesMade,
        Self::LaunchSpawned,
        Self::LaunchAnswered,
        Self::StoreMade,
        Self::StoreWritten,
        Self::StoreCommitted,
    ];
}

impl fmt::Display for FaultPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (place, step) = match self {
            Self::Locked(operation) => (*operation, "locked"),
            Self::Intended(operation) => (*operation, "intended"),
            Self::BeforeCommit(operation) => (*operation, "before-commit"),
            Self::Committed(operation) => (*operation, "committed"),
            Self::DiskMade => ("disk", "made"),
            Self::DiskRecorded => ("disk", "recorded"),
            Self::ImageReserved => ("image", "reserved"),
            Self::ImageToolStarted => ("image", "tool-started"),
            Self::ImageWritten => ("image", "written"),
            Self::ImageNamed => ("image", "named"),
            Self::LaunchPlacesMade => ("launch", "places-made"),
            Self::LaunchSpawned => ("launch", "spawned"),
            Self::LaunchAnswered => ("launch", "answered"),
            Self::StartFailed => ("start", "failed"),
            Self::StopGone => ("stop", "gone"),
            Self::StopCleared => ("stop", "cleared"),
            Self::RmKilled => ("rm", "killed"),
            Self::RmForgotten => ("rm", "forgotten"),
            Self::DeviceBackEndMade => ("device", "back-end-made"),
            Self::DeviceGone => ("device", "gone"),
            Self::StoreMade => ("store", "made"),
            Self::StoreWritten => ("store", "written"),
            Self::StoreCommitted => ("store", "committed"),
        };
        write!(f, "{place}.{step}")
    }
}

/// Who is told of steps: nobody, except in a binary built for tests.
#[derive(Clone, Default)]
pub struct FaultPoints {
    #[cfg(feature = "fault-points")]
    listener: Option<std::sync::Arc<dyn Fn(FaultPoint) + Send + Sync>>,
}

impl FaultPoints {
    /// Tells `listener` of every step.
    #[cfg(feature = "fault-points")]
    pub fn heard_by(listener: impl Fn(FaultPoint) + Send + Sync + 'static) -> Self {
        Self { listener: Some(std::sync::Arc::new(listener)) }
    }

    /// Says that `point` is reached.
    #[cfg(feature = "fault-points")]
    #[inline]
    pub fn reach(&self, point: FaultPoint) {
        if let Some(listener) = &self.listener {
            listener(point);
        }
    }

    /// Says that a step is reached; nobody listens.
    #[cfg(not(feature = "fault-points"))]
    #[inline]
    pub const fn reach(&self, _: FaultPoint) {}
}

impl fmt::Debug for FaultPoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultPoints").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn test_fault_points_names_are_unique() {
        let names: BTreeSet<String> = FaultPoint::ALL.iter().map(ToString::to_string).collect();

        assert_eq!(names.len(), FaultPoint::ALL.len());
    }
}
