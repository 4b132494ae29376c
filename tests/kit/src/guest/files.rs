//! Where the Linux guests' kernels and initramfs are.

use std::env;
use std::path::{Path, PathBuf};

use crate::variable::GUEST;

/// The folder with what `cargo xtask guest` builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    folder: PathBuf,
}

impl Files {
    /// Returns the files in `folder`, built or not.
    #[must_use]
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Returns the files in Cargo's target folder, built or not; `None` outside of one.
    #[must_use]
    pub fn in_target() -> Option<Self> {
        Some(Self::in_folder(target_dir()?.join("guest")))
    }

    /// Returns the built files: those of `MAQET_GUEST`, else those in the target folder.
    #[must_use]
    #[track_caller]
    pub fn built() -> Self {
        Self::found().checked()
    }

    /// Returns the built files of the guest that has 9p; it takes two seconds longer to boot.
    #[must_use]
    #[track_caller]
    pub fn built_with_9p() -> Self {
        Self::found().with_9p().checked()
    }

    /// Returns the files of the guest that has 9p, beside these, built or not.
    #[must_use]
    pub fn with_9p(&self) -> Self {
        Self::in_folder(self.folder.join("9p"))
    }

    /// Returns the files of the Debian guest, beside these, built or not.
    #[must_use]
    pub fn debian(&self) -> DebianFiles {
        DebianFiles { folder: self.folder.join("debian") }
    }

    fn found() -> Self {
        let files = env::var_os(GUEST).map(Self::in_folder).or_else(Self::in_target);
        files.expect("tests are built in a target folder of Cargo's, or MAQET_GUEST names the guest's folder")
    }

    #[track_caller]
    fn checked(self) -> Self {
        assert!(
            self.exist(),
            "there is no guest in `{}`; build it with `cargo xtask guest`, or run the tests with `cargo xtask test`",
            self.folder.display(),
        );
        self
    }

    /// Returns whether both files are there.
    #[must_use]
    pub fn exist(&self) -> bool {
        self.kernel().is_file() && self.initramfs().is_file()
    }

    /// Returns the folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the path of the kernel.
    #[must_use]
    pub fn kernel(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    /// Returns the path of the initramfs.
    #[must_use]
    pub fn initramfs(&self) -> PathBuf {
        self.folder.join("initramfs.cpio")
    }
}

/// The folder with what `cargo xtask guest debian` builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DebianFiles {
    folder: PathBuf,
}

impl DebianFiles {
    /// Returns the built files: those of `MAQET_GUEST`, else those in the target folder.
    #[must_use]
    #[track_caller]
    pub fn built() -> Self {
        let files = Files::found().debian();
        assert!(
            files.exist(),
            "there is no guest in `{}`; build it with `cargo xtask guest debian`, or run the tests with `cargo xtask test`",
            files.folder.display(),
        );
        files
    }

    /// Returns whether all files are there.
    #[must_use]
    pub fn exist(&self) -> bool {
        [self.kernel(), self.initramfs(), self.disk()].iter().all(|file| file.is_file())
    }

    /// Returns the folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the path of the kernel.
    #[must_use]
    pub fn kernel(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    /// Returns the path of the initramfs, which starts the system on the disk.
    #[must_use]
    pub fn initramfs(&self) -> PathBuf {
        self.folder.join("initramfs.cpio")
    }

    /// Returns the path of the disk, a backing file for overlays.
    #[must_use]
    pub fn disk(&self) -> PathBuf {
        self.folder.join("disk.qcow2")
    }
}

/// Returns the folder with the binaries of this build, such as `target/TARGET/debug`, found from this executable.
#[must_use]
pub fn profile_dir() -> Option<PathBuf> {
    let executable = env::current_exe().ok()?;
    let folder = executable.parent()?;
    // Tests are built into `deps` and examples into `examples`, below the folder that holds the binaries.
    let below = ["deps", "examples"].iter().any(|name| folder.ends_with(name));
    let profile = if below { folder.parent()? } else { folder };
    Some(profile.to_owned())
}

/// Returns Cargo's target folder, found from this executable.
#[must_use]
pub fn target_dir() -> Option<PathBuf> {
    target_dir_of(&profile_dir()?)
}

/// Returns Cargo's target folder, one or, where a target is named, two above `profile`.
///
/// Cargo marks both as caches (<https://bford.info/cachedir/>).
fn target_dir_of(profile: &Path) -> Option<PathBuf> {
    let marked = |folder: &&Path| folder.join("CACHEDIR.TAG").exists();
    Some(profile.ancestors().skip(1).take_while(marked).last()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_target_dir_is_outermost_marked_folder() {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("target");
        let profile = target.join("x86_64-unknown-linux-gnu/debug");
        std::fs::create_dir_all(&profile).unwrap();
        let unmarked = target_dir_of(&profile);
        std::fs::write(target.join("x86_64-unknown-linux-gnu/CACHEDIR.TAG"), "").unwrap();
        std::fs::write(target.join("CACHEDIR.TAG"), "").unwrap();

        assert_eq!(unmarked, None);
        assert_eq!(target_dir_of(&profile), Some(target.clone()));
        assert_eq!(target_dir_of(&target.join("x86_64-unknown-linux-gnu")), Some(target));
    }

    #[test]
    fn test_profile_dir_of_test_is_above_deps() {
        let folder = profile_dir().unwrap();

        assert!(!folder.ends_with("deps"));
        assert!(env::current_exe().unwrap().starts_with(folder));
    }

    #[test]
    fn test_files_empty_folder_do_not_exist() {
        let folder = tempfile::tempdir().unwrap();

        assert!(!Files::in_folder(folder.path()).exist());
    }
}
