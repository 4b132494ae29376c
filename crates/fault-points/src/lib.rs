//! Fault points: steps at which a test kills the process, to check that nothing is lost.
//!
//! Code with effects outside the process calls [`FaultPoints::reach`] at each step. Without the feature `fault-points`,
//! which is for tests, the calls compile to nothing, and the names of the steps are not in the binary.

use std::fmt;

/// The environment variable with the step at which a process built for tests kills itself: `start.committed`, or
/// `store.written:2` for the second time it is reached.
pub const VARIABLE: &str = "MAQET_FAULT_POINT";

/// A step at which a process can be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultPoint {
    /// An operation has locked its VM.
    Locked(&'static str),
    /// An operation has committed that it is in progress.
    Marked(&'static str),
    /// An operation has done its work and is about to commit.
    BeforeCommit(&'static str),
    /// An operation has committed, and still holds its lock.
    Committed(&'static str),
    /// A disk image was created, and is not recorded.
    DiskMade,
    /// A disk image was recorded.
    DiskRecorded,
    /// An empty temporary file for an image was created.
    ImageReserved,
    /// `qemu-img` was started.
    ImageToolStarted,
    /// An image is complete under its temporary name.
    ImageWritten,
    /// An image was renamed to its final name.
    ImageNamed,
    /// The folders, logs and locks of a run were created.
    LaunchPathsCreated,
    /// QEMU was spawned.
    LaunchSpawned,
    /// QEMU's monitor has responded.
    LaunchAnswered,
    /// A start failed, and its files were removed.
    StartFailed,
    /// QEMU has exited; its sockets exist.
    StopGone,
    /// QEMU has exited; its sockets were removed.
    StopCleared,
    /// QEMU was killed to remove its VM.
    RmKilled,
    /// The VM was removed from the database, and its files were removed.
    RmForgotten,
    /// The backend of a device was added; the device was not.
    DeviceBackendAdded,
    /// A device was unplugged; its backend exists.
    DeviceGone,
    /// A new database was created.
    StoreMade,
    /// Changes were written and not committed.
    StoreWritten,
    /// Changes were committed; no event was published.
    StoreCommitted,
}

impl fmt::Display for FaultPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (subject, step) = match self {
            Self::Locked(operation) => (*operation, "locked"),
            Self::Marked(operation) => (*operation, "marked"),
            Self::BeforeCommit(operation) => (*operation, "before-commit"),
            Self::Committed(operation) => (*operation, "committed"),
            Self::DiskMade => ("disk", "made"),
            Self::DiskRecorded => ("disk", "recorded"),
            Self::ImageReserved => ("image", "reserved"),
            Self::ImageToolStarted => ("image", "tool-started"),
            Self::ImageWritten => ("image", "written"),
            Self::ImageNamed => ("image", "named"),
            Self::LaunchPathsCreated => ("launch", "paths-created"),
            Self::LaunchSpawned => ("launch", "spawned"),
            Self::LaunchAnswered => ("launch", "answered"),
            Self::StartFailed => ("start", "failed"),
            Self::StopGone => ("stop", "gone"),
            Self::StopCleared => ("stop", "cleared"),
            Self::RmKilled => ("rm", "killed"),
            Self::RmForgotten => ("rm", "forgotten"),
            Self::DeviceBackendAdded => ("device", "backend-added"),
            Self::DeviceGone => ("device", "gone"),
            Self::StoreMade => ("store", "made"),
            Self::StoreWritten => ("store", "written"),
            Self::StoreCommitted => ("store", "committed"),
        };
        write!(f, "{subject}.{step}")
    }
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
