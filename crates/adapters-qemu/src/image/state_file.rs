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

/// Returns what follows the name of the file and a dot in the names of the files beside it.
pub(super) fn copies(path: &Path) -> Result<Vec<String>, ImageError> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Ok(Vec::new()) };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&error.kind()) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(io_error("read", folder, error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| io_error("read", folder, error))?.file_name();
        let end = entry.as_encoded_bytes().strip_prefix(name.as_encoded_bytes()).and_then(|end| end.strip_prefix(b"."));
        found.extend(end.and_then(|end| std::str::from_utf8(end).ok()).map(str::to_owned));
    }
    found.sort_unstable();
    Ok(found)
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
        std::fs::write(folder.path().join("state2.other"), "").unwrap();
        std::fs::write(folder.path().join("state.b.2"), "").unwrap();
        assert_eq!(copies(&from).unwrap(), ["b.2", "kept"]);
        assert_eq!(copies(&folder.path().join("none/state")).unwrap(), Vec::<String>::new());
        remove(&to).unwrap();
        remove(&to).unwrap();
        assert!(!to.exists() && from.exists());
    }
}
