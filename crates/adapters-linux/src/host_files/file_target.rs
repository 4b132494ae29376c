//! A file that comes from a guest.

use std::fs::{File, OpenOptions, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use maqet_domain::guest::copy::{Digest, Sha256, SourceFacts};
use maqet_domain::port::{CopySummary, HostFileError, TargetRequest};

use super::attributes::{Attributes, umask};
use super::sparse::SparseFile;
use super::{Budget, Place, failed, parent};
use crate::atomic_file::AtomicFile;

/// A file that is being written.
pub(super) struct FileTarget {
    atomic: AtomicFile,
    file: SparseFile,
    path: PathBuf,
    /// How many bytes there are to be; what comes after them was appended meanwhile.
    size: Option<u64>,
    attributes: Attributes,
    keeps: bool,
    exists: bool,
    sha256: Option<(Sha256, Digest)>,
    budget: Budget,
}

impl FileTarget {
    pub(super) fn create(place: Place, request: &TargetRequest) -> Result<Self, HostFileError> {
        let Place { path, exists } = place;
        let SourceFacts::File { size, mode, modified, digest } = request.source else {
            return Err(HostFileError::Unsupported { path });
        };
        let mut budget = Budget::new(parent(&path));
        budget.take(0)?;
        let atomic = AtomicFile::create(&path).map_err(|error| failed(&path, error))?;
        let opened = OpenOptions::new().write(true).open(atomic.temporary());
        let file = SparseFile::new(opened.map_err(|error| failed(&path, error))?);
        let sha256 = digest.filter(|_| request.is_verified).map(|digest| (Sha256::default(), digest));
        let attributes = Attributes { mode, modified };
        Ok(Self { atomic, file, path, size, attributes, keeps: request.keeps, exists, sha256, budget })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), HostFileError> {
        let left = self.size.map_or(u64::MAX, |size| size.saturating_sub(self.file.length()));
        let bytes = &bytes[..bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
        let written = self.file.write(bytes).map_err(|error| failed(&self.path, error))?;
        if let Some((sha256, _)) = &mut self.sha256 {
            sha256.update(bytes);
        }
        self.budget.take(written)
    }

    pub(super) fn finish(self) -> Result<CopySummary, HostFileError> {
        let bytes = self.file.length();
        if self.size.is_some_and(|size| bytes < size) {
            return Err(HostFileError::Incomplete);
        }
        if self.sha256.is_some_and(|(sha256, digest)| sha256.finish() != digest) {
            return Err(HostFileError::Mismatch { path: self.path.display().to_string() });
        }
        let failed = |error| failed(&self.path, error);
        let file = self.file.finish().map_err(failed)?;
        if self.keeps {
            self.attributes.set(&file).map_err(|error| failed(error.into()))?;
        } else if self.exists {
            keep_owner(&file, &self.path).map_err(failed)?;
        } else {
            let mode = self.attributes.mode & !umask();
            file.set_permissions(Permissions::from_mode(mode)).map_err(failed)?;
        }
        drop(file);
        // It replaces what a link leads to, whose directory is that of the temporary file.
        self.atomic.replace().map_err(failed)?;
        Ok(CopySummary { files: 1, bytes, ..CopySummary::default() })
    }
}

/// Gives the new file permissions and owner of the one that it replaces.
fn keep_owner(file: &File, replaced: &Path) -> std::io::Result<()> {
    let old = replaced.metadata()?;
    // That of another user only root can give.
    let _ = fchown(file, Some(old.uid()), Some(old.gid()));
    file.set_permissions(Permissions::from_mode(old.mode() & 0o777))
}
