//! The checkpoints of a VM.

use std::path::PathBuf;

use maqet_domain::checkpoint::{CheckpointName, UNFINISHED_SUFFIX};
use maqet_domain::port::{CheckpointListing, FoundCheckpoint};
use maqet_domain::vm::{VmEntry, VmId};

use super::error::CheckpointError;
use crate::{App, Error};

/// The checkpoints of a VM, and where they are.
pub(crate) struct Place {
    pub(crate) directory: PathBuf,
    pub(crate) listing: CheckpointListing,
}

impl Place {
    /// Reads the checkpoints of a VM.
    pub(crate) async fn read(app: &App, vm: &VmId) -> Result<Self, Error> {
        let directory = app.folders.vm_checkpoints(vm);
        let listing = app.ports.checkpoints.list(&directory).await?;
        Ok(Self { directory, listing })
    }

    /// Returns the names of the checkpoints that can be used, the oldest first.
    pub(crate) fn names(&self) -> Vec<CheckpointName> {
        self.listing.checkpoints.iter().map(|found| found.manifest.name.clone()).collect()
    }

    /// Returns whether there is a checkpoint of this name, usable or not, or an unfinished one.
    pub(crate) fn has(&self, name: &str) -> bool {
        let CheckpointListing { checkpoints, unusable, unfinished } = &self.listing;
        let all = checkpoints.iter().map(|found| &found.directory).chain(unusable.iter().map(|(path, _)| path));
        let mut stems = all.chain(unfinished).filter_map(|path| path.file_name()?.to_str());
        stems.any(|file| file.strip_suffix(UNFINISHED_SUFFIX).unwrap_or(file) == name)
    }

    /// Finds a checkpoint that can be used.
    pub(crate) fn find(&self, entry: &VmEntry, name: &str) -> Result<&FoundCheckpoint, CheckpointError> {
        let mut all = self.listing.checkpoints.iter();
        all.find(|found| found.manifest.name.as_str() == name).ok_or_else(|| self.not_found(entry, name))
    }

    /// Returns the directory of a checkpoint, whether it can be used or not.
    pub(crate) fn directory_of(&self, entry: &VmEntry, name: &str) -> Result<PathBuf, CheckpointError> {
        let usable = self.listing.checkpoints.iter().map(|found| &found.directory);
        let mut all = usable.chain(self.listing.unusable.iter().map(|(directory, _)| directory));
        let found = all.find(|directory| directory.file_name().is_some_and(|file| file == name));
        found.cloned().ok_or_else(|| self.not_found(entry, name))
    }

    fn not_found(&self, entry: &VmEntry, name: &str) -> CheckpointError {
        CheckpointError::NotFound { vm: entry.name.clone(), name: name.to_owned(), known: self.names() }
    }
}
