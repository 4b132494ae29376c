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
pub struct LockedFile(File);

impl LockedFile {
    /// Locks a file; returns the file if it is locked elsewhere.
    ///
    /// Errors: whatever the system reports.
    pub fn try_lock(file: File) -> io::Result<Result<Self, File>> {
        match file.try_lock() {
            Ok(()) => Ok(Ok(Self(file))),
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
}

impl Deref for LockedFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl Drop for LockedFile {
    fn drop(&mut self) {
        // A close is not enough: a child that is being spawned has a copy of the file until its `exec`.
        let _ = self.0.unlock();
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
