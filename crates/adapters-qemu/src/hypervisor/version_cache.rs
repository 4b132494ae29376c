//! The versions of QEMU binaries, cached across processes: `--version` takes 20 to 30 ms.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use maqet_adapters_linux::atomic_file::replace_unsynced;
use maqet_adapters_linux::private_file::private_folder;
use maqet_domain::qemu::QemuVersion;
use serde::{Deserialize, Serialize};

/// The largest entry that is read; one has about 200 bytes.
const MAX_ENTRY_BYTES: u64 = 8 << 10;

/// Versions in a folder, with a file for each binary.
///
/// A file that is missing, corrupt or writable by other users is ignored, and the binary is run again.
#[derive(Debug)]
pub(super) struct VersionCache {
    folder: PathBuf,
}

/// Identifies one state of a binary: an update changes at least one of the fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    path: PathBuf,
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

#[derive(Serialize, Deserialize)]
struct Entry {
    stamp: Stamp,
    version: QemuVersion,
}

impl VersionCache {
    pub(super) const fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Identifies the current state of the binary at `path`.
    pub(super) fn stamp(path: &Path) -> Option<Stamp> {
        let path = path.canonicalize().ok()?;
        let found = path.metadata().ok()?;
        // A script runs another program, whose update would not be noticed.
        let mut magic = [0; 4];
        fs::File::open(&path).ok()?.read_exact(&mut magic).ok()?;
        (&magic == b"\x7fELF").then(|| Stamp {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
            path,
        })
    }

    pub(super) fn get(&self, stamp: &Stamp) -> Option<QemuVersion> {
        let path = self.file(stamp);
        let found = fs::symlink_metadata(&path).ok()?;
        let is_private = found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o022 == 0;
        if !found.is_file() || !is_private || found.size() > MAX_ENTRY_BYTES {
            return None;
        }
        let entry: Entry = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        (entry.stamp == *stamp).then_some(entry.version)
    }

    /// Caches a version; if that fails, the binary is run again next time.
    pub(super) fn put(&self, stamp: Stamp, version: QemuVersion) {
        let path = self.file(&stamp);
        let Ok(content) = serde_json::to_vec(&Entry { stamp, version }) else { return };
        let _ = private_folder(&self.folder).and_then(|()| replace_unsynced(&path, &content));
    }

    fn file(&self, stamp: &Stamp) -> PathBuf {
        self.folder.join(format!("binary-{:016x}.json", fnv(stamp.path.as_os_str().as_encoded_bytes())))
    }
}

/// FNV-1a: a short name for a path; the content of the file decides, not its name.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: QemuVersion = QemuVersion { major: 7, minor: 2, micro: 22 };

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
        cache.put(VersionCache::stamp(&path).unwrap(), VERSION);

        let cached = cache.get(&VersionCache::stamp(&path).unwrap());
        binary(folder.path(), "three");
        let after_update = cache.get(&VersionCache::stamp(&path).unwrap());

        assert_eq!(cached, Some(VERSION));
        assert_eq!(after_update, None);
    }

    #[test]
    fn test_version_cache_corrupt_file_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let cache = VersionCache::new(folder.path().join("cache"));
        let stamp = VersionCache::stamp(&binary(folder.path(), "one")).unwrap();
        cache.put(stamp.clone(), VERSION);
        fs::write(cache.file(&stamp), "{\"stamp\": 7").unwrap();

        let broken = cache.get(&stamp);
        cache.put(stamp.clone(), VERSION);

        assert_eq!(broken, None);
        assert_eq!(cache.get(&stamp), Some(VERSION));
    }

    #[test]
    fn test_version_cache_script_is_not_cached() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("qemu");
        fs::write(&path, "#!/bin/sh\nexec qemu-system-x86_64 \"$@\"\n").unwrap();

        assert_eq!(VersionCache::stamp(&path), None);
    }
}
