//! The port [`Locks`]: files that the kernel locks for one open file at a time.

use std::any::Any;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{File, Metadata, TryLockError};
use std::io;
use std::os::unix::fs::{DirEntryExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use maqet_domain::port::{Guard, Holder, LockError, LockName, Locks};
use maqet_domain::vm::ProcessIdentity;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::jitter::pause;
use crate::limits::{LOCK_LEAST_PATIENCE, in_millis};
use crate::private_file::{private_file, private_folder};
use crate::process::{LockKind, boot_id, identity_of, is_alive, locker_of};

/// Who holds a lock is written in some 200 bytes; more is none of ours.
const HOLDER_BYTES: usize = 4 << 10;

/// Locks as files in a folder, one for each thing; the file stays until the thing is gone.
///
/// Whoever waited for a file that was removed meanwhile holds nothing, and tries the one that is there now.
#[derive(Debug)]
pub struct FileLocks {
    folder: PathBuf,
}

impl FileLocks {
    /// Makes locks in `folder`, which is made by the first of them.
    pub const fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    fn path(&self, name: &LockName) -> PathBuf {
        match name {
            LockName::Vm(id) => self.folder.join(format!("vm-{id}.lock")),
            LockName::Keyboard(id) => self.folder.join(format!("keyboard-{id}.lock")),
        }
    }

    /// Opens the file of a lock; it is made only where it is missing, so that a full disk stops nobody.
    fn open(&self, name: &LockName) -> io::Result<File> {
        let path = self.path(name);
        match private_file(&path) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => {
                private_folder(&self.folder)?;
                private_file(&path)
            }
            opened => opened,
        }
    }
}

/// What is written in the file of a lock that is held.
#[derive(Debug, Serialize, Deserialize)]
pub struct Note {
    /// The holder, as it described itself.
    #[serde(flatten)]
    pub holder: Holder,
    /// Tells the holder from a later process of the same pid.
    process: ProcessIdentity,
}

/// A lock that is held.
#[derive(Debug)]
struct Held {
    file: File,
    path: PathBuf,
    /// Whether the file goes with the lock.
    is_retired: bool,
}

impl Guard for Held {
    fn retire(&mut self) {
        self.is_retired = true;
    }

    fn handle(&self) -> Option<&dyn Any> {
        Some(&self.file)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.file.set_len(0);
        if self.is_retired {
            // Before the unlock, so that nobody is given the file that goes.
            let _ = std::fs::remove_file(&self.path);
        }
        // Closing is not enough: a child being spawned right now has a copy of the file until its `exec`.
        let _ = self.file.unlock();
    }
}

#[async_trait]
impl Locks for FileLocks {
    async fn lock(&self, name: &LockName, operation: &str, patience: Duration) -> Result<Box<dyn Guard>, LockError> {
        let failed = |why: io::Error| LockError::Failed { source: why.into() };
        let started = Instant::now();
        let until = started + patience.max(LOCK_LEAST_PATIENCE);
        let path = self.path(name);
        let mut file = self.open(name).map_err(failed)?;
        loop {
            match file.try_lock() {
                Ok(()) if is_still_at(&file, &path) => break,
                Ok(()) => file = self.open(name).map_err(failed)?,
                Err(TryLockError::WouldBlock) if Instant::now() < until => pause().await,
                Err(TryLockError::WouldBlock) => {
                    let holder = read_note(&file).map(|note| holder_by(note, &file));
                    return Err(LockError::Held { holder, waited: in_millis(started.elapsed()) });
                }
                Err(TryLockError::Error(why)) => return Err(failed(why)),
            }
        }
        let held = Held { file, path, is_retired: false };
        // Who holds it is told as a courtesy; on a full disk the lock still locks.
        let _ = write_note(&held.file, operation);
        Ok(Box::new(held))
    }

    /// Looks only; a lock is not touched while its holder lives and left a note, because even a look through `flock` would be in the
    /// way of somebody who tries it at that moment.
    async fn holder(&self, name: &LockName) -> Option<Holder> {
        let file = File::open(self.path(name)).ok()?;
        let note = read_note(&file);
        // A holder that is not seen may live in another pid namespace, and one that left no note found no room for it:
        // then the lock itself tells.
        let lives = note.as_ref().is_some_and(|note| is_alive(&note.process, &boot_id()));
        let is_held = lives || is_locked(&file);
        is_held.then(|| note.map_or_else(|| unknown_holder(&file), |note| holder_by(note, &file)))
    }

    async fn held(&self) -> Vec<(LockName, Holder)> {
        let locked = locked_inodes();
        if locked.is_empty() {
            return Vec::new();
        }
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut held = Vec::new();
        for entry in entries.filter(|entry| locked.contains(&entry.ino())) {
            if let Some(name) = name_of(&entry.file_name())
                && let Some(holder) = self.holder(&name).await
            {
                held.push((name, holder));
            }
        }
        held
    }
}

/// Returns the inodes that somebody has locked through `flock`, on whichever file system (proc(5), `/proc/locks`).
fn locked_inodes() -> HashSet<u64> {
    let table = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    table.lines().filter_map(locked_inode).collect()
}

/// Reads a line as `1: FLOCK  ADVISORY  WRITE 4711 08:02:131130 0 EOF`; those who only wait have an arrow before.
fn locked_inode(line: &str) -> Option<u64> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    if fields.next()? != "FLOCK" {
        return None;
    }
    fields.nth(3)?.rsplit(':').next()?.parse().ok()
}

/// Parses the name of a lock file.
pub fn name_of(file: &OsStr) -> Option<LockName> {
    let (kind, id) = file.to_str()?.strip_suffix(".lock")?.split_once('-')?;
    match kind {
        "vm" => id.parse().ok().map(LockName::Vm),
        "keyboard" => id.parse().ok().map(LockName::Keyboard),
        _ => None,
    }
}

/// Returns whether somebody has the file locked; it is not locked afterwards if nobody has.
fn is_locked(file: &File) -> bool {
    let tried = file.try_lock_shared();
    // Closing is not enough: a child being spawned right now has a copy of the file until its `exec`.
    let _ = file.unlock();
    matches!(tried, Err(TryLockError::WouldBlock))
}

/// Returns who holds a lock by the note in its file: the one who wrote it, or the program it handed the lock to before
/// it was killed.
fn holder_by(note: Note, file: &File) -> Holder {
    if is_alive(&note.process, &boot_id()) {
        return note.holder;
    }
    let heir = file.metadata().ok().and_then(|found| locker_of(&found, LockKind::Flock));
    Holder { pid: heir.unwrap_or(note.holder.pid), ..note.holder }
}

/// Returns what is known of a holder who left no note: which process it is, as far as it is seen, and since when, as far
/// as the file tells.
fn unknown_holder(file: &File) -> Holder {
    let found = file.metadata().ok();
    let changed = found.as_ref().and_then(|found| found.modified().ok());
    let since = changed.and_then(|changed| Timestamp::try_from(changed).ok()).unwrap_or_else(Timestamp::now);
    let pid = found.and_then(|found| locker_of(&found, LockKind::Flock)).unwrap_or_default();
    Holder { pid, operation: "unknown".to_owned(), since }
}

/// Returns whether the open file is the one at `path`, and not one that was removed from there.
fn is_still_at(file: &File, path: &Path) -> bool {
    let same = |open: Metadata, there: Metadata| (open.dev(), open.ino()) == (there.dev(), there.ino());
    file.metadata().is_ok_and(|open| path.symlink_metadata().is_ok_and(|there| same(open, there)))
}

/// Writes this process and its operation into the file of a lock that it holds.
///
/// Errors: whatever the file system says.
pub fn write_note(file: &File, operation: &str) -> io::Result<()> {
    let pid = std::process::id();
    let process = identity_of(pid).ok_or(io::ErrorKind::NotFound)?;
    let holder = Holder { pid, operation: operation.to_owned(), since: Timestamp::now() };
    let note = serde_json::to_vec(&Note { holder, process })?;
    file.set_len(0)?;
    file.write_all_at(&note, 0)
}

/// Returns the note in the file of a lock, if there is a readable one.
pub fn read_note(file: &File) -> Option<Note> {
    let mut bytes = vec![0; HOLDER_BYTES];
    let length = file.read_at(&mut bytes, 0).ok()?;
    serde_json::from_slice(bytes.get(..length)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_locked_inode_is_read_of_held_flocks_only() {
        assert_eq!(locked_inode("1: FLOCK  ADVISORY  WRITE 4711 08:02:131130 0 EOF"), Some(131_130));
        assert_eq!(locked_inode("1: -> FLOCK  ADVISORY  WRITE 4712 08:02:131130 0 EOF"), None);
        assert_eq!(locked_inode("2: POSIX  ADVISORY  READ 12 00:1c:9 128 128"), None);
        assert_eq!(locked_inode("3: OFDLCK ADVISORY  WRITE -1 00:1c:9 100 100"), None);
        assert_eq!(locked_inode(""), None);
    }
}
