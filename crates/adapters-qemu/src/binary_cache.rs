//! Facts about QEMU binaries, cached across processes: a version takes 20 to 30 ms to find out, a QMP schema 20 ms or more.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use maqet_adapters_linux::atomic_file::replace_unsynced;
use maqet_adapters_linux::private_file::{private_folder, read_private};
use maqet_domain::vm::ProcessIdentity;

/// The beginning of the first line of a file; the number is that of the format.
const MAGIC: &str = "maqet-cache 1";

/// Texts in a folder, with a file for each binary.
///
/// A file that is missing, corrupt, writable by other users or of another state of the binary is ignored and replaced.
#[derive(Debug)]
pub(crate) struct BinaryCache {
    folder: PathBuf,
    /// How the names of its files begin.
    prefix: &'static str,
    /// The largest file that is read.
    max_bytes: u64,
}

/// One state of a binary: an update changes at least one of the numbers in its stamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Build {
    path: PathBuf,
    stamp: String,
}

impl Build {
    /// Identifies the current state of the binary at `path`, which has no symbolic links.
    pub(crate) fn at(path: PathBuf) -> Option<Self> {
        let found = path.metadata().ok()?;
        Some(Self { path, stamp: stamp(&found) })
    }

    /// Identifies the binary of a process: the one that was started, whatever is at its path now.
    pub(crate) fn from_process(process: &ProcessIdentity) -> Option<Self> {
        let link = PathBuf::from(format!("/proc/{}/exe", process.pid));
        let path = fs::read_link(&link).ok()?;
        let found = fs::metadata(&link).ok()?;
        Some(Self { path, stamp: stamp(&found) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn stamp(found: &Metadata) -> String {
    let modified = (found.mtime(), found.mtime_nsec());
    let changed = (found.ctime(), found.ctime_nsec());
    format!("{}:{} {} {modified:?} {changed:?}", found.dev(), found.ino(), found.size())
}

impl BinaryCache {
    /// Keeps files in `folder`, which the first one creates.
    pub(crate) const fn new(folder: PathBuf, prefix: &'static str, max_bytes: u64) -> Self {
        Self { folder, prefix, max_bytes }
    }

    /// Returns the text of a build.
    pub(crate) fn get(&self, build: &Build) -> Option<String> {
        let mut content = String::from_utf8(read_private(&self.file(build), self.max_bytes)?).ok()?;
        let (head, text) = content.split_once('\n')?;
        let start = (head == self::head(build, text)).then_some(head.len() + 1)?;
        Some(content.split_off(start))
    }

    /// Caches the text of a build; if that fails, it is found out again next time.
    pub(crate) fn put(&self, build: &Build, text: &str) {
        let content = format!("{}\n{text}", head(build, text));
        let written =
            private_folder(&self.folder).and_then(|()| replace_unsynced(&self.file(build), content.as_bytes()));
        if let Err(error) = written {
            tracing::debug!(%error, binary = %build.path.display(), "cannot cache facts about the binary");
        }
    }

    /// Returns the file of a binary; its content decides, not its name.
    pub(crate) fn file(&self, build: &Build) -> PathBuf {
        self.folder.join(format!("{}-{:016x}.txt", self.prefix, checksum(build.path.as_os_str().as_encoded_bytes())))
    }
}

/// Returns the first line of the file of a build.
fn head(build: &Build, text: &str) -> String {
    format!("{MAGIC} {:016x} {}", checksum(text.as_bytes()), build.stamp)
}

/// A checksum (FNV-1a, but eight bytes at a time, since every command computes it).
fn checksum(bytes: &[u8]) -> u64 {
    const START: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let mix = |hash: u64, word: u64| (hash ^ word).wrapping_mul(PRIME).rotate_left(23);
    let (words, rest) = bytes.as_chunks::<8>();
    let whole = words.iter().fold(START, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    rest.iter().fold(whole, |hash, byte| mix(hash, u64::from(*byte)))
}
