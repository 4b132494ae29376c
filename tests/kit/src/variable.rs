//! Environment variables for the tests; `cargo xtask test` sets all but `KEEP`.

/// The path of the CLI to test; else the `maqet` next to the test's executable.
pub const BINARY: &str = "MAQET_BIN";

/// The path of the CLI with fault points; else the one that `cargo xtask fault-points` built beside the usual one.
pub const FAULTY_BINARY: &str = "MAQET_FAULT_POINTS_BIN";

/// The folder with the Linux guest's files; else `guest` in the target folder.
pub const GUEST: &str = "MAQET_GUEST";

/// The folder of the QEMU beside that of the system; else `qemu-10.0` in the target folder.
pub const UNPACKED_QEMU: &str = "MAQET_UNPACKED_QEMU";

/// The version that the emulator must have, such as `10.0`; else any.
pub const QEMU_VERSION: &str = "MAQET_QEMU_VERSION";

/// Set when the tests also run on the other QEMU, so that both runs share what is the same on each.
pub const BOTH_QEMUS: &str = "MAQET_BOTH_QEMUS";

/// The folder for test homes, so that leaked files are found afterward; else /tmp.
pub const TEST_ROOT: &str = "MAQET_TEST_ROOT";

/// Keeps the folder (not the processes) of every test home when set, and prints where it is.
pub const KEEP: &str = "MAQET_KEEP";

/// Enables the tests that take minutes.
pub const LONG: &str = "MAQET_LONG";

/// Returns whether the tests that take minutes are enabled.
#[must_use]
pub fn is_long() -> bool {
    std::env::var_os(LONG).is_some()
}
