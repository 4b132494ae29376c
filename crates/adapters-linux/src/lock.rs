//! The port [`Locks`]: locked files.

use std::any::Any;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::{DirEntryExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use maqet_domain::port::{Guard, Holder, LockError, LockName, Locks};
use maqet_domain::text::stable_hash;
use maqet_domain::vm::ProcessIdentity;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::limits::MIN_LOCK_TIMEOUT;
use crate::locked_file::{LockedFile, is_at};
use crate::private_file::{private_file, with_folder};
use crate::process::{LockKind, PidScope, find_locker, proc_file};

/// The largest note that is read; one has about 200 bytes.
const MAX_NOTE_BYTES: usize = 4 << 10;

/// Locks as files in a folder, one for each VM and keyboard; a file stays until its VM is removed. Those of images,
/// of the trash and of moves are removed with the lock: nothing tells when an image is gone.
///
/// A process that waited for a file that was removed meanwhile locks the new one instead.
#[derive(Debug)]
pub struct FileLocks {
    folder: PathBuf,
    scope: OnceLock<PidScope>,
}

impl FileLocks {
    /// Keeps locks in `folder`, which the first lock creates.
    pub const fn new(folder: PathBuf) -> Self {
        Self { folder, scope: OnceLock::new() }
    }

    fn scope(&self) -> &PidScope {
        self.scope.get_or_init(PidScope::current)
    }

    pub(crate) fn path(&self, name: &LockName) -> PathBuf {
        match name {
            LockName::Vm(id) => self.folder.join(format!("vm-{id}.lock")),
            LockName::Keyboard(id) => self.folder.join(format!("keyboard-{id}.lock")),
            LockName::ThrowAway(id) => self.folder.join(format!("run-{id}.lock")),
            LockName::Trash => self.folder.join(TRASH_LOCK),
            LockName::Move => self.folder.join(MOVE_LOCK),
            LockName::Template(name) => self.folder.join(format!("{TEMPLATE_LOCK_PREFIX}{name}.lock")),
            LockName::Image(path) => {
                // Two images that share one merely wait for each other.
                let hash = stable_hash(path.as_os_str().as_encoded_bytes());
                self.folder.join(format!("{IMAGE_LOCK_PREFIX}{hash:016x}.lock"))
            }
        }
    }

    /// Locks the file `lock` beside a database, for processes that do not share a folder of locks; it is removed with the
    /// lock.
    pub async fn lock_database(lock: PathBuf, operation: &str, timeout: Duration) -> Result<Box<dyn Guard>, LockError> {
        let locks = Self::new(PathBuf::new());
        let locked = locks.lock_at(lock, operation, timeout, true).await?;
        locked.map_err(|holder| LockError::DatabaseInUse { holder, waited: timeout })
    }

    /// Locks the file at `path`; returns who has the lock if it is locked elsewhere for all of `timeout`.
    async fn lock_at(
        &self,
        path: PathBuf,
        operation: &str,
        timeout: Duration,
        is_retired: bool,
    ) -> Result<Result<Box<dyn Guard>, Option<Holder>>, LockError> {
        let result = self.take(&path, Instant::now() + timeout).await;
        match result.map_err(|error| LockError::Failed { path: path.clone(), source: error.into() })? {
            Ok(file) => {
                // A courtesy to others: without a note, as on a full disk, the lock is held all the same.
                let _ = write_note(&file, operation, self.scope());
                Ok(Ok(Box::new(FileLock { file, path, is_retired })))
            }
            Err(file) => Ok(Err(read_note(&file).map(|note| current_holder(note, &file, self.scope())))),
        }
    }

    /// Locks the file at `path`; returns it if it is locked elsewhere until `deadline`.
    async fn take(&self, path: &Path, deadline: Instant) -> io::Result<Result<LockedFile, File>> {
        loop {
            match LockedFile::lock(open(path)?, deadline).await? {
                Ok(locked) if !is_at(&locked, path) => {}
                result => return Ok(result),
            }
        }
    }
}

/// Opens a lock file. A process that locks many raises its limit of open files, as far as it may.
fn open(path: &Path) -> io::Result<File> {
    match with_folder(path, private_file) {
        Err(error) if error.raw_os_error() == Some(Errno::MFILE.raw_os_error()) && raise_file_limit() => {
            with_folder(path, private_file)
        }
        opened => opened,
    }
}

/// Raises the limit of open files to the most that this process may have; returns whether it did.
fn raise_file_limit() -> bool {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    current != maximum && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok()
}

/// The content of a lock file while it is locked.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    #[serde(flatten)]
    holder: Holder,
    /// Distinguishes the holder from a later process with the same pid.
    process: ProcessIdentity,
}

/// A lock that this process holds.
#[derive(Debug)]
struct FileLock {
    file: LockedFile,
    path: PathBuf,
    /// Whether to remove the file with the lock.
    is_retired: bool,
}

impl Guard for FileLock {
    fn retire(&mut self) {
        self.is_retired = true;
    }

    fn handle(&self) -> Option<&dyn Any> {
        let file: &File = &self.file;
        Some(file)
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        let _ = self.file.set_len(0);
        if self.is_retired {
            // Before it is unlocked, so that no other process locks the removed file.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[async_trait]
impl Locks for FileLocks {
    async fn lock(&self, name: &LockName, operation: &str, timeout: Duration) -> Result<Box<dyn Guard>, LockError> {
        let is_retired = matches!(name, LockName::Image(_) | LockName::Trash | LockName::Move | LockName::Template(_));
        let waited = timeout.max(MIN_LOCK_TIMEOUT);
        match self.lock_at(self.path(name), operation, waited, is_retired).await? {
            Ok(guard) => Ok(guard),
            Err(holder) => Err(match name {
                LockName::Trash => LockError::TrashInUse { holder, waited },
                LockName::Move => LockError::DatabaseInUse { holder, waited },
                LockName::Image(path) => LockError::ImageInUse { path: path.clone(), holder, waited },
                LockName::Vm(_) | LockName::Keyboard(_) | LockName::ThrowAway(_) | LockName::Template(_) => {
                    LockError::InUse { vm: None, holder, waited }
                }
            }),
        }
    }

    async fn is_left(&self, name: &LockName) -> bool {
        let path = self.path(name);
        // A holder that ends as it should removes the file before it unlocks it.
        path.exists() && self.holder(name).await.is_none() && path.exists()
    }

    /// Does not try the lock while its holder is alive and left a note: a try would block another process that locks it
    /// at that moment.
    async fn holder(&self, name: &LockName) -> Option<Holder> {
        let file = File::open(self.path(name)).ok()?;
        let note = read_note(&file);
        // A holder that is not visible may run in another pid namespace, and one without a note found the disk full: then
        // the lock itself decides.
        let is_alive = note.as_ref().is_some_and(|note| self.scope().is_alive(&note.process));
        let is_held = is_alive || is_locked(&file);
        is_held.then(|| note.map_or_else(|| unknown_holder(&file), |note| current_holder(note, &file, self.scope())))
    }

    async fn held(&self) -> Vec<(LockName, Holder)> {
        let locked = locked_inodes();
        if locked.is_empty() {
            return Vec::new();
        }
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut held = Vec::new();
        for entry in entries.filter(|entry| locked.contains(&entry.ino())) {
            if let Some(name) = parse_lock_name(&entry.file_name())
                && let Some(holder) = self.holder(&name).await
            {
                held.push((name, holder));
            }
        }
        held
    }
}

/// Returns the inodes that are locked through `flock(2)`, on any file system (proc(5), `/proc/locks`).
fn locked_inodes() -> HashSet<u64> {
    let table = proc_file::read_text("/proc/locks").unwrap_or_default();
    table.lines().filter_map(locked_inode).collect()
}

/// Parses a line like `1: FLOCK  ADVISORY  WRITE 4711 08:02:131130 0 EOF`; one of a waiting process has an arrow.
fn locked_inode(line: &str) -> Option<u64> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    if fields.next()? != "FLOCK" {
        return None;
    }
    fields.nth(3)?.rsplit(':').next()?.parse().ok()
}

/// The name of the lock of the trash.
pub(crate) const TRASH_LOCK: &str = "trash.lock";

/// The name of the lock of moves of databases.
pub(crate) const MOVE_LOCK: &str = "move.lock";

/// Begins the name of the lock of an image, which is followed by a hash of its path and `.lock`.
pub(crate) const IMAGE_LOCK_PREFIX: &str = "image-";

/// Begins the name of the lock of the making of a template, which is followed by its name and `.lock`.
pub(crate) const TEMPLATE_LOCK_PREFIX: &str = "template-";

/// Begins the name of a lock that a QEMU holds while it runs, which is followed by the ID of its VM and `.lock`.
///
/// It is in the same folder, and no operation holds it.
pub const RUN_LOCK_PREFIX: &str = "qemu-";

/// Parses the name of the lock file of a VM or keyboard; that of an image does not contain its path.
pub fn parse_lock_name(file: &OsStr) -> Option<LockName> {
    let (kind, id) = file.to_str()?.strip_suffix(".lock")?.split_once('-')?;
    match kind {
        "vm" => id.parse().ok().map(LockName::Vm),
        "keyboard" => id.parse().ok().map(LockName::Keyboard),
        "run" => id.parse().ok().map(LockName::ThrowAway),
        _ => None,
    }
}

/// Returns whether the file is locked; it is not locked by this call.
fn is_locked(file: &File) -> bool {
    let result = file.try_lock_shared();
    // A close is not enough: a child that is being spawned has a copy of the file until its `exec`.
    let _ = file.unlock();
    matches!(result, Err(TryLockError::WouldBlock))
}

/// Returns the holder of a lock with a note: the process that wrote it, or the program that inherited the lock before
/// that process was killed.
///
/// One of another PID namespace has no ID here, or another one than it wrote.
fn current_holder(note: Note, file: &File, scope: &PidScope) -> Holder {
    if scope.is_alive(&note.process) {
        return note.holder;
    }
    let locker = file.metadata().ok().and_then(|found| find_locker(&found, LockKind::Flock));
    let noted = note.holder.pid.filter(|_| scope.contains(&note.process));
    Holder { pid: locker.or(noted), ..note.holder }
}

/// Returns what can be found out about a holder without a note.
fn unknown_holder(file: &File) -> Holder {
    let found = file.metadata().ok();
    let changed = found.as_ref().and_then(|found| found.modified().ok());
    let since = changed.and_then(|changed| Timestamp::try_from(changed).ok()).unwrap_or_else(Timestamp::now);
    let pid = found.and_then(|found| find_locker(&found, LockKind::Flock));
    Holder { pid, operation: "unknown".to_owned(), since }
}

/// Writes this process and its operation into a file that it locked.
///
/// Errors: whatever the file system reports.
pub fn write_holder(file: &File, operation: &str) -> io::Result<()> {
    write_note(file, operation, &PidScope::current())
}

fn write_note(file: &File, operation: &str, scope: &PidScope) -> io::Result<()> {
    let process = scope.identify_self();
    let holder = Holder { pid: Some(process.pid), operation: operation.to_owned(), since: Timestamp::now() };
    let note = serde_json::to_vec(&Note { holder, process })?;
    file.set_len(0)?;
    file.write_all_at(&note, 0)
}

/// Returns the holder that [`write_holder`] wrote into a file.
pub fn read_holder(file: &File) -> Option<Holder> {
    let note = read_note(file)?;
    let is_here = PidScope::current().contains(&note.process);
    Some(Holder { pid: note.holder.pid.filter(|_| is_here), ..note.holder })
}

fn read_note(file: &File) -> Option<Note> {
    let mut bytes = vec![0; MAX_NOTE_BYTES];
    let length = file.read_at(&mut bytes, 0).ok()?;
    serde_json::from_slice(bytes.get(..length)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_locked_inode_reads_only_held_flocks() {
        assert_eq!(locked_inode("1: FLOCK  ADVISORY  WRITE 4711 08:02:131130 0 EOF"), Some(131_130));
        assert_eq!(locked_inode("1: -> FLOCK  ADVISORY  WRITE 4712 08:02:131130 0 EOF"), None);
        assert_eq!(locked_inode("2: POSIX  ADVISORY  READ 12 00:1c:9 128 128"), None);
        assert_eq!(locked_inode("3: OFDLCK ADVISORY  WRITE -1 00:1c:9 100 100"), None);
        assert_eq!(locked_inode(""), None);
    }
}
