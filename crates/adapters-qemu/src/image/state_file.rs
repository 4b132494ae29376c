//! Copies of small files that are no images: the state of a TPM.

use std::io::{self, Write};
use std::path::Path;

use maqet_adapters_linux::atomic_file::AtomicFile;
use maqet_domain::port::ImageError;

use super::tool::io_error;

/// Copies a file; swtpm replaces its own by another one, so that what is read is of one moment.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), ImageError> {
    let content = std::fs::read(from).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => ImageError::NotFound { path: from.to_owned() },
        _ => io_error("read", from, error),
    })?;
    let failed = |error| io_error("write", to, error);
    let mut file = AtomicFile::create(to).map_err(failed)?;
    file.write_all(&content).map_err(failed)?;
    file.replace().map_err(failed)
}

/// Removes a copy, if it exists.
pub(super) fn remove(path: &Path) -> Result<(), ImageError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", path, error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_copy_replaces_a_file_or_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("state"), folder.path().join("state.kept"));
        std::fs::write(&from, "new").unwrap();
        std::fs::write(&to, "old, and longer").unwrap();

        copy(&from, &to).unwrap();
        let missing = copy(&folder.path().join("none"), &to);

        assert!(matches!(missing, Err(ImageError::NotFound { .. })), "{missing:?}");
        assert_eq!(std::fs::read(&to).unwrap(), b"new");
        remove(&to).unwrap();
        remove(&to).unwrap();
        assert!(!to.exists() && from.exists());
    }
}
