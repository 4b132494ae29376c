//! What differs between the versions of QEMU that maqet is tested with.
//!
//! Each difference names the version in which it was first seen; the version before it that was tried is 7.2. Code whose
//! behavior depends on the version of QEMU asks [`Difference::is_in`], and so do the tests. Where a difference can be
//! observed (a missing field, a refused command), code observes it instead. `docs/reference/qemu-versions.md` lists the
//! same differences.

use crate::qemu::QemuVersion;

/// The versions that the tests run on, oldest first, with the distribution's patches.
pub const TESTED: [QemuVersion; 2] = [version(7, 2, 22), version(10, 0, 2)];

/// Something that a newer version of QEMU does differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub enum Difference {
    /// The event `BLOCK_IO_ERROR` has the field `qom-path`.
    BlockErrorQomPath,
    /// `query-status` has no field `singlestep`.
    StatusWithoutSinglestep,
    /// A VM without `-nodefaults` has no empty SD card drive `sd0`.
    NoSdDrive,
    /// A reset of the VM emits one `RESET` event instead of two.
    SingleResetEvent,
    /// Without a graphics card, the first console is a text console, so that `screendump` succeeds.
    TextConsoleWithoutCard,
    /// `screendump` with a `device` aborts QEMU if a text console comes before the screen of that device.
    ScreendumpOfDeviceAborts,
    /// NVMe drives report that several paths can lead to them, and Linux names a drive after its path too.
    NvmeMultipath,
    /// The sandbox option `spawn=deny` lets QEMU fail to start a program, instead of killing QEMU.
    SpawnDenialIsAnError,
    /// `device_add` takes no strings for properties that are numbers or booleans.
    TypedDeviceProperties,
    /// A device whose module is not installed is not a type of the build, instead of a type whose properties cannot be
    /// queried without ending QEMU.
    MissingModuleIsNoType,
    /// A guest that leaves through `isa-debug-exit` emits `SHUTDOWN`, as one that powers off.
    DebugExitIsAShutdown,
    /// A suspended guest that is sent `stop` is `paused`, and suspended again after `cont`.
    SuspendedCanBePaused,
    /// A file that memory is a private mapping of can be opened only for reading.
    ReadOnlyMemoryFile,
    /// A stream socket of a network card connects again: `-netdev stream` has `reconnect-ms`.
    StreamReconnects,
}

impl Difference {
    /// All of them.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// Returns the version in which it was first seen.
    pub const fn seen_in(self) -> QemuVersion {
        match self {
            Self::BlockErrorQomPath
            | Self::StatusWithoutSinglestep
            | Self::NoSdDrive
            | Self::SingleResetEvent
            | Self::TextConsoleWithoutCard
            | Self::ScreendumpOfDeviceAborts
            | Self::NvmeMultipath
            | Self::SpawnDenialIsAnError
            | Self::TypedDeviceProperties
            | Self::MissingModuleIsNoType
            | Self::DebugExitIsAShutdown
            | Self::SuspendedCanBePaused
            | Self::ReadOnlyMemoryFile
            | Self::StreamReconnects => version(10, 0, 2),
        }
    }

    /// Returns whether `qemu` has it. A version between the one in which it was seen and the one before that was tried
    /// counts as the older.
    pub fn is_in(self, qemu: QemuVersion) -> bool {
        let seen = self.seen_in();
        (qemu.major, qemu.minor) >= (seen.major, seen.minor)
    }
}

/// What QEMU is known to do wrong when it saves the memory of a VM, or loads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub enum SnapshotProblem {
    /// QEMU crashes when it saves or loads, if the migration capability `multifd` is on (7.2.22 and 10.0.2, tried; QEMU
    /// issue 2881).
    MultifdCrashes,
    /// A save fails, and a load fails after the disks were reverted, if the migration capability `mapped-ram` is on
    /// (10.0.2, tried).
    MappedRamFails,
    /// A snapshot lacks the memory that is shared with another process, and a load of any other snapshot fails after the
    /// disks were reverted, if the migration capability `x-ignore-shared` is on (7.2.22 and 10.0.2, tried).
    IgnoreSharedOmitsMemory,
    /// QEMU refuses a save, if the migration capability `block` is on, which later versions do not have (7.2.22, tried).
    BlockMigrationRefuses,
    /// QEMU can abort when it saves while a guest writes its UEFI variables: the thread of the CPU that waits for the write
    /// may come to run the save (read; mended by commit `930e239d11`, released with 8.2).
    SaveAbortsOverFirmwareWrite,
    /// Saving and loading are up to 60 times as slow as in other versions (read; QEMU issue 1821, seen in 8.1).
    SlowMemory,
}

impl SnapshotProblem {
    /// All of them.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// Returns the migration capability that has to be on for it, if it is one. Whether it is on is observed, so that the
    /// version does not matter.
    pub const fn capability(self) -> Option<&'static str> {
        match self {
            Self::MultifdCrashes => Some("multifd"),
            Self::MappedRamFails => Some("mapped-ram"),
            Self::IgnoreSharedOmitsMemory => Some("x-ignore-shared"),
            Self::BlockMigrationRefuses => Some("block"),
            Self::SaveAbortsOverFirmwareWrite | Self::SlowMemory => None,
        }
    }

    /// Returns whether `qemu` has it, as far as that depends on the version.
    pub fn is_in(self, qemu: QemuVersion) -> bool {
        let release = (qemu.major, qemu.minor);
        match self {
            Self::SaveAbortsOverFirmwareWrite => release < (8, 2),
            Self::SlowMemory => release == (8, 1),
            Self::MultifdCrashes
            | Self::MappedRamFails
            | Self::IgnoreSharedOmitsMemory
            | Self::BlockMigrationRefuses => true,
        }
    }
}

const fn version(major: u16, minor: u16, micro: u16) -> QemuVersion {
    QemuVersion { major, minor, micro }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_difference_is_in_its_version_and_later_ones_only() {
        let is_in = |qemu: &str| Difference::NoSdDrive.is_in(qemu.parse().unwrap());

        assert!(!is_in("7.2.22") && !is_in("9.2.0"));
        assert!(is_in("10.0.0") && is_in("10.0.2") && is_in("11.1.0"));
    }

    #[test]
    fn test_snapshot_problem_is_in_the_versions_that_have_it_only() {
        use SnapshotProblem::{MultifdCrashes, SaveAbortsOverFirmwareWrite, SlowMemory};
        let versions = |problem: SnapshotProblem| {
            let all = ["7.2.22", "8.0.5", "8.1.0", "8.1.5", "8.2.0", "9.2.4", "10.0.2"];
            all.into_iter().filter(|version| problem.is_in(version.parse().unwrap())).collect::<Vec<_>>().join(" ")
        };

        assert_eq!(versions(SaveAbortsOverFirmwareWrite), "7.2.22 8.0.5 8.1.0 8.1.5");
        assert_eq!(versions(SlowMemory), "8.1.0 8.1.5");
        assert_eq!(versions(MultifdCrashes), "7.2.22 8.0.5 8.1.0 8.1.5 8.2.0 9.2.4 10.0.2");
    }
}
