//! Files locked through `flock(2)`: a lock that the kernel releases with its process.

use std::fs::{File, TryLockError};
use std::io;
use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use tokio::time::Instant;

use crate::jitter::retry_pause;

/// An open file that is locked until it is dropped.
#[derive(Debug)]
pub struct LockedFile {
    file: File,
    /// Whether another process has the same open file, and the lock with it.
    is_passed_on: bool,
}

impl LockedFile {
    /// Locks a file; returns the file if it is locked elsewhere.
    ///
    /// Errors: whatever the system reports.
    pub fn try_lock(file: File) -> io::Result<Result<Self, File>> {
        match file.try_lock() {
            Ok(()) => Ok(Ok(Self { file, is_passed_on: false })),
            Err(TryLockError::WouldBlock) => Ok(Err(file)),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Does the same, and retries until `deadline`.
    ///
    /// Errors: whatever the system reports.
    pub async fn lock(mut file: File, deadline: Instant) -> io::Result<Result<Self, File>> {
        loop {
            match Self::try_lock(file)? {
                Err(in_use) if Instant::now() < deadline => file = in_use,
                result => return Ok(result),
            }
            retry_pause().await;
        }
    }

    /// Closes the file without unlocking it: another process has received it (`SCM_RIGHTS`, unix(7)), and the lock with it.
    pub fn passed_on(mut self) {
        self.is_passed_on = true;
    }
}

impl Deref for LockedFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

impl Drop for LockedFile {
    fn drop(&mut self) {
        if !self.is_passed_on {
            // A close is not enough: a child that is being spawned has a copy of the file until its `exec`.
            let _ = self.file.unlock();
        }
    }
}

/// Returns whether the open file is still the one at `path`, and was neither removed nor replaced.
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    let key = |found: std::fs::Metadata| (found.dev(), found.ino());
    file.metadata().is_ok_and(|open| path.symlink_metadata().is_ok_and(|there| key(open) == key(there)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn test_lock_in_use_is_returned_and_free_after_drop() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("lock");
        let open = || File::options().create(true).append(true).open(&path).unwrap();
        let held = LockedFile::try_lock(open()).unwrap().unwrap();

        let in_use = LockedFile::lock(open(), Instant::now()).await.unwrap();
        drop(held);
        let free = LockedFile::try_lock(open()).unwrap();

        assert!(in_use.is_err() && free.is_ok());
    }

    #[test]
    fn test_lock_passed_on_is_released_by_its_receiver() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("lock");
        let open = || File::options().create(true).append(true).open(&path).unwrap();
        let held = LockedFile::try_lock(open()).unwrap().unwrap();
        let received = held.try_clone().unwrap();

        held.passed_on();
        let in_use = LockedFile::try_lock(open()).unwrap().is_err();
        let received = LockedFile::try_lock(received).unwrap();
        let has_lock = received.is_ok();
        drop(received);
        let free = LockedFile::try_lock(open()).unwrap();

        assert!(in_use && has_lock && free.is_ok());
    }

    #[test]
    fn test_is_at_replaced_file_is_false() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("lock");
        let file = File::create(&path).unwrap();
        assert!(is_at(&file, &path));

        fs::rename(&path, root.path().join("moved")).unwrap();
        assert!(!is_at(&file, &path));

        File::create(&path).unwrap();
        assert!(!is_at(&file, &path));
    }
}
