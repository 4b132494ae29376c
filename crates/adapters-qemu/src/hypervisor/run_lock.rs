//! The lock that tells whether the QEMU of a VM runs, also where its process is not visible.
//!
//! QEMU inherits the locked file as its standard input, which it does not read, so the lock is held exactly as long as
//! the process lives: every process that can open the file can tell, also in another PID namespace. It is beside the
//! database, since every process that uses the database must see it.
//!
//! A QEMU that daemonizes closes its standard input, and one of an older version has none of this: then the lock on its
//! pid file, which QEMU holds itself (`fcntl(2)`, on 7.2 and 10.0), tells the same where the sockets are shared.

use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use maqet_adapters_linux::private_file::{existing_private_file, private_file, private_folder, unless_missing};
use maqet_adapters_linux::process::{LockKind, PidScope, Stat, lockers};
use maqet_adapters_linux::{RUN_LOCK_PREFIX, retry_pause};
use maqet_domain::port::LaunchError;
use maqet_domain::vm::{MonitorRole, ProcessIdentity, RunPaths};
use rustix::process::{Flock, FlockType, fcntl_getlk};
use tokio::net::UnixStream;
use tokio::time::Instant;

use super::error::io_error;
use super::find::runs_qemu;
use crate::limits::{MIN_RUN_LOCK_CHECKS, RUN_END_TIMEOUT, RUN_LOCK_TIMEOUT};

/// The locks of the QEMU processes of a database, one file for each VM.
#[derive(Debug, Clone)]
pub(crate) struct RunLocks {
    folder: PathBuf,
}

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Locker {
    None,
    /// Processes that are visible here: QEMU, a program that wraps it, or one that these left running.
    Visible(Vec<u32>),
    /// A process of another PID namespace, or one whose open files cannot be read.
    Hidden,
}

/// A process that keeps the next run from starting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blocking {
    Running(u32),
    /// One that is being killed: its command line is gone before its locks.
    Ending(u32),
}

impl RunLocks {
    /// Keeps locks in `folder`, which the first lock creates.
    pub(crate) const fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Locks the run of a VM, for the standard input of its QEMU.
    ///
    /// Errors: `RunsElsewhere` and `RunLocked` if a process of an earlier run holds it, and those of the file system.
    pub(super) async fn take(&self, paths: &RunPaths) -> Result<File, LaunchError> {
        take(self.path_of(paths), paths).await
    }

    /// Does the same for a QEMU that is to take the VM over from another one, which has the lock meanwhile.
    pub(super) async fn take_as_successor(&self, paths: &RunPaths) -> Result<File, LaunchError> {
        take(self.successor_path(paths), paths).await
    }

    /// Puts the lock of a successor in the place of that of the other QEMU, which keeps a file without a name.
    pub(super) fn hand_over(&self, paths: &RunPaths) -> Result<(), LaunchError> {
        let path = self.path_of(paths);
        unless_missing(fs::rename(self.successor_path(paths), &path)).map_err(|error| io_error("lock", &path, error))
    }

    /// Removes the lock of a successor that is gone.
    pub(super) fn discard_successor(&self, paths: &RunPaths) {
        let _ = fs::remove_file(self.successor_path(paths));
    }

    /// Returns the file of a successor.
    fn successor_path(&self, paths: &RunPaths) -> PathBuf {
        self.path_of(paths).with_extension("next")
    }

    /// Returns the QEMU process that holds the lock of the VM, if it is visible here.
    ///
    /// A directory may have another path here than where QEMU was started, so its command line does not tell.
    pub(super) fn visible_qemu(&self, paths: &RunPaths) -> Option<ProcessIdentity> {
        let file = File::open(self.path_of(paths)).ok()?;
        let Locker::Visible(pids) = find_holder(&file) else { return None };
        pids.into_iter().find(|pid| runs_qemu(*pid)).and_then(|pid| PidScope::current().identify(pid))
    }

    /// Does the same for a process that belongs to this run.
    pub(super) fn visible_qemu_of_run(&self, paths: &RunPaths) -> Option<ProcessIdentity> {
        let name = fs::read(self.path_of(paths)).ok()?;
        (name == run_name(paths).as_encoded_bytes()).then(|| self.visible_qemu(paths)).flatten()
    }

    /// Returns whether QEMU runs the VM in a process that is not visible here.
    ///
    /// The last thread of a process has closed its files a moment before its locks are gone, and another process may be
    /// checking a lock at this moment: both are over soon, a hidden QEMU is not. On a busy host, one check can take
    /// longer than the time for all.
    pub(super) async fn is_held_by_hidden(&self, paths: &RunPaths) -> bool {
        let deadline = Instant::now() + RUN_LOCK_TIMEOUT;
        let mut checks = 1;
        while self.has_no_visible_holder(paths).await {
            if Instant::now() >= deadline && checks >= MIN_RUN_LOCK_CHECKS {
                return true;
            }
            checks += 1;
            retry_pause().await;
        }
        false
    }

    async fn has_no_visible_holder(&self, paths: &RunPaths) -> bool {
        if File::open(self.path_of(paths)).is_ok_and(|file| find_holder(&file) == Locker::Hidden) {
            return true;
        }
        match pid_file_locker(paths) {
            Some(locker) => locker == Locker::Hidden,
            // A definition may leave out the pid file.
            None => accepts_connections(&paths.monitor(MonitorRole::Command)).await,
        }
    }

    /// Returns whether a process holds the lock of the VM whose records are in the folder `vm_records`.
    pub(crate) fn is_held(&self, vm_records: &Path) -> bool {
        File::open(self.path(vm_records)).is_ok_and(|file| is_locked(&file))
    }

    /// Removes the lock of a VM whose records were in the folder `records`, unless it is held.
    pub(super) fn remove(&self, vm_records: &Path) {
        let path = self.path(vm_records);
        // One that replaced it since it was opened may be held.
        if existing_private_file(&path).is_ok_and(|file| file.try_lock().is_ok() && is_at(&file, &path)) {
            let _ = fs::remove_file(&path);
        }
    }

    /// Returns the file of the VM of a run: the folder of its records is in one that is named by its ID.
    fn path_of(&self, paths: &RunPaths) -> PathBuf {
        self.path(paths.records.parent().unwrap_or(&paths.records))
    }

    fn path(&self, vm_records: &Path) -> PathBuf {
        let id = vm_records.file_name().unwrap_or_default();
        self.folder.join(format!("{RUN_LOCK_PREFIX}{}.lock", id.to_string_lossy()))
    }
}

/// Locks a file for the standard input of a QEMU; creates it if it does not exist.
async fn take(path: PathBuf, paths: &RunPaths) -> Result<File, LaunchError> {
    let failed = |error| io_error("lock", &path, error);
    let deadline = Instant::now() + RUN_LOCK_TIMEOUT;
    loop {
        let file = open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) if is_at(&file, &path) => {
                // Only to tell the runs of a VM apart; on a full disk, the lock is held all the same.
                let _ = fs::write(&path, run_name(paths).as_encoded_bytes());
                // A QEMU with `-nographic` passes its standard input to the guest.
                (&file).seek(SeekFrom::End(0)).map_err(failed)?;
                return Ok(file);
            }
            // It was removed meanwhile.
            Ok(()) => {}
            // Another process may be checking it at this moment.
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => retry_pause().await,
            Err(TryLockError::WouldBlock) => match find_holder(&file) {
                Locker::Visible(pids) => match blocking(&pids, &PidScope::current()) {
                    Some(Blocking::Ending(_)) if Instant::now() < deadline + RUN_END_TIMEOUT => retry_pause().await,
                    Some(Blocking::Running(pid) | Blocking::Ending(pid)) => {
                        return Err(LaunchError::RunLocked { pid });
                    }
                    // A program that a wrapper of QEMU left running keeps the old file.
                    None => fs::remove_file(&path).map_err(failed)?,
                },
                Locker::Hidden => return Err(LaunchError::RunsElsewhere),
                Locker::None => {}
            },
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
    }
}

/// Returns which of the processes with a lock keeps the next run from starting.
///
/// The kernel takes the program of a process that is being killed from it before its files, so that it is no longer
/// recognized as a QEMU while it holds the lock. Hence its state is read afterward.
fn blocking(pids: &[u32], scope: &PidScope) -> Option<Blocking> {
    let is_ending = |pid: u32| scope.stat_of(pid).is_none_or(Stat::is_ending);
    let running = pids.iter().find(|pid| runs_qemu(**pid)).map(|pid| Blocking::Running(*pid));
    running.or_else(|| pids.iter().find(|pid| is_ending(**pid)).map(|pid| Blocking::Ending(*pid)))
}

fn run_name(paths: &RunPaths) -> &OsStr {
    paths.records.file_name().unwrap_or_default()
}

/// Opens a lock, also for writing: on NFS, an exclusive lock requires that (flock(2)).
fn open(path: &Path) -> io::Result<File> {
    existing_private_file(path).or_else(|_| {
        private_folder(path.parent().unwrap_or(path))?;
        private_file(path)
    })
}

/// Returns whether the open file is still the one at `path`.
fn is_at(file: &File, path: &Path) -> bool {
    let key = |found: fs::Metadata| (found.dev(), found.ino());
    file.metadata().is_ok_and(|open| path.symlink_metadata().is_ok_and(|there| key(open) == key(there)))
}

/// Finds the process that has a lock; it is not locked by this call.
fn find_holder(file: &File) -> Locker {
    if !is_locked(file) {
        return Locker::None;
    }
    let found = file.metadata().ok();
    let visible: Vec<u32> = found.iter().flat_map(|found| lockers(found, LockKind::Flock)).collect();
    match visible.is_empty() {
        // The search takes long on a busy host, and the process may have ended meanwhile.
        true if is_locked(file) => Locker::Hidden,
        true => Locker::None,
        false => Locker::Visible(visible),
    }
}

fn is_locked(file: &File) -> bool {
    let result = file.try_lock_shared();
    let _ = file.unlock();
    matches!(result, Err(TryLockError::WouldBlock))
}

/// Returns whether a QEMU uses the sockets of a run, whether or not its process is visible here.
pub(crate) async fn are_sockets_used(paths: &RunPaths) -> bool {
    match pid_file_locker(paths) {
        Some(locker) => locker != Locker::None,
        None => accepts_connections(&paths.monitor(MonitorRole::Command)).await,
    }
}

/// Returns who has the pid file of a run locked: QEMU itself, while it lives; `None` if there is no such file.
fn pid_file_locker(paths: &RunPaths) -> Option<Locker> {
    let file = File::open(paths.pid_file()).ok()?;
    // A write lock would conflict with QEMU's; it is only tested.
    let found = fcntl_getlk(&file, &Flock::from(FlockType::WriteLock)).ok()?;
    Some(match found {
        None => Locker::None,
        // The kernel translates the ID to this namespace.
        Some(lock) => {
            let pid = lock.pid.and_then(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok());
            pid.map_or(Locker::Hidden, |pid| Locker::Visible(vec![pid]))
        }
    })
}

/// Returns the process that has the pid file of a run locked, if it is visible here.
pub(super) fn pid_file_owner(paths: &RunPaths) -> Option<u32> {
    match pid_file_locker(paths)? {
        Locker::Visible(pids) => pids.first().copied(),
        Locker::None | Locker::Hidden => None,
    }
}

/// Returns whether a process listens at a socket.
async fn accepts_connections(socket: &Path) -> bool {
    match UnixStream::connect(socket).await {
        Ok(_) => true,
        // Its queue is full.
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::thread;
    use std::time::Duration;

    use super::*;

    fn locked(folder: &Path) -> (RunLocks, RunPaths, File) {
        let paths = RunPaths { sockets: folder.join("sockets"), records: folder.join("vm/run") };
        let locks = RunLocks::new(folder.join("locks"));
        let lock = open(&locks.path_of(&paths)).unwrap();
        lock.lock().unwrap();
        (locks, paths, lock)
    }

    #[tokio::test]
    async fn test_take_as_successor_gets_the_lock_once_it_takes_over() {
        let folder = tempfile::tempdir().unwrap();
        let (locks, paths, first) = locked(folder.path());

        let next = locks.take_as_successor(&paths).await.unwrap();
        let before = is_at(&first, &locks.path_of(&paths));
        locks.hand_over(&paths).unwrap();

        assert!(before && is_at(&next, &locks.path_of(&paths)));
        drop(first);
        assert!(is_locked(&File::open(locks.path_of(&paths)).unwrap()));
        assert!(!locks.successor_path(&paths).exists());
        // Once more, as after a crash.
        locks.hand_over(&paths).unwrap();
        drop(next);
        assert!(!is_locked(&File::open(locks.path_of(&paths)).unwrap()));
    }

    #[test]
    fn test_blocking_process_that_is_ending_or_gone_is_waited_for() {
        let scope = PidScope::current();
        let mut child = Command::new("true").spawn().unwrap();
        let pid = child.id();
        while scope.stat_of(pid).is_some_and(|stat| !stat.is_ending()) {
            thread::yield_now();
        }

        assert_eq!(blocking(&[pid], &scope), Some(Blocking::Ending(pid)));
        child.wait().unwrap();
        assert_eq!(blocking(&[pid], &scope), Some(Blocking::Ending(pid)), "its files are closed by now");
    }

    #[test]
    fn test_blocking_program_other_than_qemu_is_none() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();

        let found = blocking(&[child.id()], &PidScope::current());
        child.kill().unwrap();
        child.wait().unwrap();

        assert_eq!(found, None);
    }

    /// This process does not count as a holder, so its lock looks like that of a process that is not visible.
    #[tokio::test]
    async fn test_is_held_by_hidden_lock_that_stays_is_hidden() {
        let folder = tempfile::tempdir().unwrap();
        let (locks, paths, _lock) = locked(folder.path());

        assert!(locks.is_held_by_hidden(&paths).await);
    }

    #[tokio::test]
    async fn test_is_held_by_hidden_lock_of_an_ending_process_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (locks, paths, lock) = locked(folder.path());
        let ending = thread::spawn(move || {
            thread::sleep(Duration::from_millis(2));
            drop(lock);
        });

        assert!(!locks.is_held_by_hidden(&paths).await);
        ending.join().unwrap();
    }
}
