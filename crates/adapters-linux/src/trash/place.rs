//! Where an image is moved: a place to which it can be renamed.

use std::collections::HashSet;
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use maqet_domain::port::{TrashError, TrashPlace};
use maqet_domain::trash::TrashId;

use super::{BESIDE, DELETED, DESCRIPTION, trash_error};
use crate::atomic_file::AtomicFile;

/// The unit of `st_blocks` (stat(2)).
const BLOCK_BYTES: u64 = 512;

/// Chooses places for the images of one entry.
pub(super) struct PlaceChooser<'a> {
    trash: &'a Path,
    /// The directory of the entry in the trash.
    own: PathBuf,
    id: &'a TrashId,
    taken: HashSet<PathBuf>,
}

impl<'a> PlaceChooser<'a> {
    pub(super) fn new(trash: &'a Path, own: PathBuf, id: &'a TrashId) -> Self {
        let taken = [own.join(DESCRIPTION), own.join(DELETED)].into();
        Self { trash, own, id, taken }
    }

    /// Chooses the place of an image; `None` for what is not a regular file.
    pub(super) fn choose(&mut self, image: &Path) -> Result<Option<TrashPlace>, TrashError> {
        let found = fs::symlink_metadata(image).map_err(|error| trash_error("find", image, error))?;
        let (Some(folder), Some(name), true) = (image.parent(), image.file_name(), found.is_file()) else {
            return Ok(None);
        };
        let is_reachable = self.can_rename(image, &found).map_err(|error| trash_error("move", image, error))?;
        let directory = if is_reachable { self.own.clone() } else { folder.join(BESIDE).join(self.id.as_str()) };
        let mut trash = directory.join(name);
        // Two images with one name get directories of their own.
        let mut number = 2_u32;
        while !self.taken.insert(trash.clone()) {
            trash = directory.join(number.to_string()).join(name);
            number += 1;
        }
        let allocated_bytes = found.blocks().saturating_mul(BLOCK_BYTES);
        Ok(Some(TrashPlace { trash, inode: found.ino(), allocated_bytes }))
    }

    /// Returns whether a file beside `image` can be renamed to the directory of the trash.
    ///
    /// Only a rename shows: bind mounts and project quotas separate directories of one device, too.
    fn can_rename(&self, image: &Path, found: &Metadata) -> io::Result<bool> {
        if found.dev() != fs::metadata(self.trash)?.dev() {
            return Ok(false);
        }
        let probe = AtomicFile::create(image)?;
        let renamed = self.trash.join(probe.temporary().file_name().ok_or(ErrorKind::InvalidInput)?);
        match fs::rename(probe.temporary(), &renamed) {
            Ok(()) => fs::remove_file(&renamed).map(|()| true),
            Err(error) if error.kind() == ErrorKind::CrossesDevices => Ok(false),
            Err(error) => Err(error),
        }
    }
}
