//! Cgroups that tests freeze; making them needs root and a mounted hierarchy.

use std::fs;
use std::path::{Path, PathBuf};

use crate::wait;

/// A version of cgroups, each with its own way to freeze.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// With the controller `freezer`.
    One,
    /// The unified hierarchy.
    Two,
}

/// A cgroup of a test; dropping it thaws and removes it, once its processes have ended.
#[derive(Debug)]
pub struct Cgroup {
    folder: PathBuf,
    version: Version,
}

impl Cgroup {
    /// Makes a cgroup; `None` if this host has no such cgroups, or they cannot be made.
    #[must_use]
    pub fn new(version: Version) -> Option<Self> {
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let mount = mountinfo.lines().find_map(|line| {
            let (mount, kind) = line.split_once(" - ")?;
            let is_wanted = match version {
                Version::One => kind.starts_with("cgroup ") && kind.contains("freezer"),
                Version::Two => kind.starts_with("cgroup2 "),
            };
            is_wanted.then(|| mount.split(' ').nth(4)).flatten()
        })?;
        let folder = tempfile::Builder::new().prefix("maqet-test-").tempdir_in(mount).ok()?.keep();
        Some(Self { folder, version })
    }

    /// Returns its directory.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Moves a process into it.
    ///
    /// # Panics
    ///
    /// If the kernel refuses that.
    pub fn add(&self, pid: u32) {
        fs::write(self.folder.join("cgroup.procs"), pid.to_string()).expect("the process is moved");
    }

    /// Freezes it, and waits until it is frozen.
    ///
    /// # Panics
    ///
    /// If it does not freeze.
    pub fn freeze(&self) {
        self.control(true).expect("the cgroup can be frozen");
        let (file, frozen) = match self.version {
            Version::One => ("freezer.state", "FROZEN"),
            Version::Two => ("cgroup.events", "frozen 1"),
        };
        wait::until(wait::LONG, "the cgroup to be frozen", || {
            fs::read_to_string(self.folder.join(file)).is_ok_and(|state| state.contains(frozen)).then_some(())
        });
    }

    /// Thaws it.
    ///
    /// # Panics
    ///
    /// If it cannot be thawed.
    pub fn thaw(&self) {
        self.control(false).expect("the cgroup can be thawed");
    }

    fn control(&self, is_frozen: bool) -> std::io::Result<()> {
        match (self.version, is_frozen) {
            (Version::One, true) => fs::write(self.folder.join("freezer.state"), "FROZEN"),
            (Version::One, false) => fs::write(self.folder.join("freezer.state"), "THAWED"),
            (Version::Two, true) => fs::write(self.folder.join("cgroup.freeze"), "1"),
            (Version::Two, false) => fs::write(self.folder.join("cgroup.freeze"), "0"),
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = self.control(false);
        // The kernel removes dead processes from it with a delay.
        let removed = wait::try_until(wait::LONG, || fs::remove_dir(&self.folder).ok());
        if removed.is_none() {
            eprintln!("cannot remove the cgroup {}", self.folder.display());
        }
    }
}
