//! What `--version` said, remembered across processes: asking takes QEMU 20 to 30 ms.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use maqet_adapters_linux::atomic_file::replace_unsynced;
use maqet_adapters_linux::private_file::private_folder;
use maqet_domain::qemu::QemuVersion;
use serde::{Deserialize, Serialize};

/// A remembered version is some 200 bytes; a file much larger is none of ours.
const ENTRY_BYTES: u64 = 8 << 10;

/// Remembers versions in a folder, a file for each binary.
///
/// A file that is missing, broken or somebody else's is as good as none: the binary is asked again.
#[derive(Debug)]
pub(super) struct VersionCache {
    folder: PathBuf,
}

/// Tells one state of a binary from every other: an update changes at least one of these.
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

    /// Returns what tells this state of the binary at `path`.
    pub(super) fn stamp(path: &Path) -> Option<Stamp> {
        let path = path.canonicalize().ok()?;
        let found = path.metadata().ok()?;
        // A script runs something else, whose update would not show here.
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
        let ours = found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o022 == 0;
        if !found.is_file() || !ours || found.size() > ENTRY_BYTES {
            return None;
        }
        let entry: Entry = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        (entry.stamp == *stamp).then_some(entry.version)
    }

    /// Remembers a version; where that is not possible, the binary is asked again the next time.
    pub(super) fn put(&self, stamp: Stamp, version: QemuVersion) {
        let path = self.file(&stamp);
        let Ok(content) = serde_json::to_vec(&Entry { stamp, version }) else { return };
        let _ = private_folder(&self.folder).and_then(|()| replace_unsynced(&path, &content));
    }

    fn file(&self, stamp: &Stamp) -> PathBuf {
        self.folder.join(format!("binary-{:016x}.json", fnv(stamp.path.as_os_str().as_encoded_bytes())))
    }
}

/// FNV-1a: a short name for a path; what the file says of itself decides, not its name.
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
    fn test_version_cache_remembers_until_the_binary_changes() {
        let folder = tempfile::tempdir().unwrap();
        let cache = VersionCache::new(folder.path().join("cache"));
        let path = binary(folder.path(), "one");
        cache.put(VersionCache::stamp(&path).unwrap(), VERSION);

        let remembered = cache.get(&VersionCache::stamp(&path).unwrap());
        binary(folder.path(), "three");
        let after_update = cache.get(&VersionCache::stamp(&path).unwrap());

        assert_eq!(remembered, Some(VERSION));
        assert_eq!(after_update, None);
    }

    #[test]
    fn test_version_cache_broken_file_is_ignored_and_replaced() {
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
    fn test_version_cache_script_is_never_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("qemu");
        fs::write(&path, "#!/bin/sh\nexec qemu-system-x86_64 \"$@\"\n").unwrap();

        assert_eq!(VersionCache::stamp(&path), None);
    }
}
