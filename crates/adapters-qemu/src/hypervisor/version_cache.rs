//! The versions and builds of QEMU binaries.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use maqet_domain::qemu::QemuVersion;

use crate::binary_cache::{BinaryCache, Build};

/// The largest file that is read; one has about 100 bytes.
const MAX_FILE_BYTES: u64 = 8 << 10;

/// Versions and builds in a folder, with a file for each binary.
#[derive(Debug)]
pub(super) struct VersionCache(BinaryCache);

impl VersionCache {
    pub(super) const fn new(folder: PathBuf) -> Self {
        Self(BinaryCache::new(folder, "qemu-version", MAX_FILE_BYTES))
    }

    /// Identifies the current state of the binary at `path`; `None` for a script, which runs another program, whose
    /// update would not be noticed.
    pub(super) fn build(path: &Path) -> Option<Build> {
        let build = Build::at(path.canonicalize().ok()?)?;
        let mut magic = [0; 4];
        File::open(build.path()).ok()?.read_exact(&mut magic).ok()?;
        (&magic == b"\x7fELF").then_some(build)
    }

    /// Returns the version, and the name of the build.
    pub(super) fn get(&self, build: &Build) -> Option<(QemuVersion, String)> {
        let text = self.0.get(build)?;
        let (version, package) = text.split_once(' ')?;
        Some((version.parse().ok()?, package.to_owned()))
    }

    pub(super) fn put(&self, build: &Build, version: QemuVersion, package: &str) {
        self.0.put(build, &format!("{version} {package}"));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const VERSION: QemuVersion = QemuVersion { major: 7, minor: 2, micro: 22 };
    const PACKAGE: &str = "Debian 1:7.2+dfsg-7";

    fn binary(folder: &Path, content: &str) -> PathBuf {
        let path = folder.join("qemu");
        fs::write(&path, format!("\x7fELF{content}")).unwrap();
        path
    }

    #[test]
    fn test_version_cache_hits_until_binary_changes() {
        let folder = tempfile::tempdir().unwrap();
        let cache = VersionCache::new(folder.path().join("cache"));
        let path = binary(folder.path(), "one");
        cache.put(&VersionCache::build(&path).unwrap(), VERSION, PACKAGE);

        let cached = cache.get(&VersionCache::build(&path).unwrap());
        binary(folder.path(), "three");
        let after_update = cache.get(&VersionCache::build(&path).unwrap());

        assert_eq!(cached, Some((VERSION, PACKAGE.to_owned())));
        assert_eq!(after_update, None);
    }

    #[test]
    fn test_version_cache_corrupt_file_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let cache = VersionCache::new(folder.path().join("cache"));
        let build = VersionCache::build(&binary(folder.path(), "one")).unwrap();
        cache.put(&build, VERSION, "");
        fs::write(cache.0.file(&build), "maqet-cache 1 7").unwrap();

        let broken = cache.get(&build);
        cache.put(&build, VERSION, "");

        assert_eq!(broken, None);
        assert_eq!(cache.get(&build), Some((VERSION, String::new())));
    }

    #[test]
    fn test_version_cache_script_is_not_cached() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("qemu");
        fs::write(&path, "#!/bin/sh\nexec qemu-system-x86_64 \"$@\"\n").unwrap();

        assert_eq!(VersionCache::build(&path), None);
    }
}
