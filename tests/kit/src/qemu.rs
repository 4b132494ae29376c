//! Which QEMU the tests run on: that of the system, or the one that `cargo xtask qemu` unpacks beside it.
//!
//! Everything finds QEMU and `qemu-img` in `PATH`, so the suites run on the unpacked one if its directory is the first
//! there: `PATH=$PWD/target/qemu-10.0/usr/bin:$PATH cargo test -p maqet-tests --test it`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::guest;
use crate::variable::{self, UNPACKED_QEMU};

/// The version that `cargo xtask qemu` unpacks, of which later patches count too.
pub const UNPACKED_VERSION: &str = "10.0";

/// The name of the emulator in `PATH`.
const EMULATOR: &str = "qemu-system-x86_64";

/// A QEMU beside that of the system, unpacked or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpacked {
    folder: PathBuf,
}

impl Unpacked {
    /// Returns the QEMU unpacked into `folder`.
    #[must_use]
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Returns the QEMU in Cargo's target folder; `None` outside of one.
    #[must_use]
    pub fn in_target() -> Option<Self> {
        Some(Self::in_folder(guest::target_dir()?.join(format!("qemu-{UNPACKED_VERSION}"))))
    }

    /// Returns the QEMU of `MAQET_UNPACKED_QEMU`, else that in the target folder; `None` if it is not there.
    #[must_use]
    pub fn found() -> Option<Self> {
        env::var_os(UNPACKED_QEMU).map(Self::in_folder).or_else(Self::in_target).filter(Self::exists)
    }

    /// Returns whether it is there.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.emulator().is_file()
    }

    /// Returns the folder that holds everything.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the folder of the programs, to be put first in `PATH`.
    #[must_use]
    pub fn programs(&self) -> PathBuf {
        self.folder.join("usr/bin")
    }

    /// Returns the path of the emulator.
    #[must_use]
    pub fn emulator(&self) -> PathBuf {
        self.programs().join(EMULATOR)
    }

    /// Returns the folder of the modules that the emulator loads.
    #[must_use]
    pub fn modules(&self) -> PathBuf {
        self.folder.join("usr/lib/x86_64-linux-gnu/qemu")
    }
}

/// Returns the emulator that the tests run on, the first in `PATH`.
#[must_use]
#[track_caller]
pub fn emulator() -> PathBuf {
    program(EMULATOR)
}

/// Returns the `qemu-img` that the tests run on, the first in `PATH`.
#[must_use]
#[track_caller]
pub fn image_tool() -> PathBuf {
    program("qemu-img")
}

#[track_caller]
fn program(name: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.expect("QEMU is installed (`cargo xtask test` installs it)")
}

/// Returns the version of the emulator that the tests run on, such as `10.0.2`.
#[must_use]
#[track_caller]
pub fn version() -> String {
    version_of(&emulator())
}

/// Returns whether the tests run on the QEMU beside that of the system.
#[must_use]
pub fn is_unpacked() -> bool {
    env::var_os(variable::QEMU_VERSION).is_some_and(|version| version == UNPACKED_VERSION)
}

/// Returns whether this run does the `index`-th of many pieces of work that are the same on each QEMU.
///
/// When the tests run on both, the unpacked one gets a third, which shows whether it makes a difference, and that of the
/// system the others. A run on one QEMU, or a long one, does all. A third, so that pieces that alternate between two
/// kinds have both kinds in each part.
#[must_use]
pub fn is_ours(index: usize) -> bool {
    if variable::is_long() || env::var_os(variable::BOTH_QEMUS).is_none() {
        return true;
    }
    index.is_multiple_of(3) == is_unpacked()
}

/// Returns those of many pieces of work that [are of this run](is_ours).
pub fn ours<T>(work: impl IntoIterator<Item = T>) -> impl Iterator<Item = T> {
    work.into_iter().enumerate().filter(|(index, _)| is_ours(*index)).map(|(_, work)| work)
}

/// Returns the version of a program of QEMU.
#[must_use]
#[track_caller]
pub fn version_of(program: &Path) -> String {
    let printed = Command::new(program).arg("--version").output();
    let printed = printed.unwrap_or_else(|error| panic!("cannot run {}: {error}", program.display()));
    let text = String::from_utf8_lossy(&printed.stdout);
    parse(&text).unwrap_or_else(|| panic!("{} printed no version: {text}", program.display())).to_owned()
}

/// Parses `QEMU emulator version 7.2.22 (…)`.
fn parse(printed: &str) -> Option<&str> {
    printed.split_once(" version ")?.1.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_parse_version_of_debian_is_without_package() {
        assert_eq!(parse("QEMU emulator version 7.2.22 (Debian 1:7.2)\n"), Some("7.2.22"));
        assert_eq!(parse("QEMU emulator version 10.0.2 (Debian 1:10.0.2)\n"), Some("10.0.2"));
        assert_eq!(parse("qemu: cannot load a library\n"), None);
    }

    #[test]
    fn test_unpacked_empty_folder_does_not_exist() {
        let folder = tempfile::tempdir().unwrap();

        assert!(!Unpacked::in_folder(folder.path()).exists());
    }
}
