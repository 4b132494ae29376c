//! The port [`Trash`]: a directory for each entry, with a file that describes it, and images that were renamed into it.
//!
//! An image on another file system than the trash is moved to a directory `.maqet-trash` beside it, which has a directory
//! for each entry, too. An entry exists while its description does: it is written before the first image is moved, and
//! removed after the last one was moved back. A deletion first renames the description, so that one that is interrupted
//! is finished, and never taken for an entry.

mod place;

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use maqet_domain::port::{Trash, TrashError, TrashPlace};
use maqet_domain::trash::{TrashEntry, TrashId, TrashedImage, TrashedImageLocation};
use serde::{Deserialize, Serialize};

use crate::atomic_file::{AtomicFile, rename_to_free_name, sync_folder};
use crate::limits::MAX_COPY_BYTES;
use crate::private_file::{private_folder, unless_missing};
use crate::stale_files::stale_temporary_files;

/// Describes an entry.
const DESCRIPTION: &str = "entry.json";

/// The description of an entry that is being deleted.
const DELETED: &str = "deleted.json";

/// The directory of images that are beside the ones they were moved from.
const BESIDE: &str = ".maqet-trash";

/// The trash in the data directory of a user.
#[derive(Debug, Clone)]
pub struct LocalTrash {
    folder: PathBuf,
    database: String,
}

/// The content of a description.
#[derive(Debug, Serialize, Deserialize)]
struct Description {
    /// The database of the VM: two databases may share the directories of a user.
    database: String,
    entry: TrashEntry,
}

impl LocalTrash {
    /// Keeps entries of the database with this name in `folder`, which the first one creates.
    pub const fn new(folder: PathBuf, database: String) -> Self {
        Self { folder, database }
    }

    fn entry_folder(&self, id: &TrashId) -> PathBuf {
        self.folder.join(id.as_str())
    }

    /// Reads an entry of this database.
    fn read(&self, folder: &Path, name: &str) -> Option<TrashEntry> {
        read_of(&self.database, folder, name)
    }

    fn entry_folders(&self) -> Result<Vec<PathBuf>, TrashError> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(trash_error("read", &self.folder, error)),
        };
        let folders = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let named = |name: &fs::DirEntry| name.file_name().to_str().is_some_and(|name| TrashId::parse(name).is_ok());
        Ok(folders.filter(named).map(|entry| entry.path()).collect())
    }

    fn write(&self, entry: &TrashEntry) -> io::Result<()> {
        let folder = self.entry_folder(&entry.id);
        private_folder(&folder)?;
        let content = Description { database: self.database.clone(), entry: entry.clone() };
        self.replace(&folder.join(DESCRIPTION), &content)
    }

    fn replace(&self, path: &Path, content: &Description) -> io::Result<()> {
        let mut file = AtomicFile::create(path)?;
        file.write_all(&serde_json::to_vec(&content)?)?;
        file.replace()?;
        sync_folder(&self.folder);
        Ok(())
    }

    /// Removes the directories of the images of an entry, as far as they are empty, except for its own.
    fn remove_image_folders(&self, entry: &TrashEntry) {
        let own = self.entry_folder(&entry.id);
        for folder in entry.images.iter().filter_map(|image| image.trash.parent()) {
            let is_inner = |folder: &&Path| **folder != own && !own.starts_with(folder);
            for folder in folder.ancestors().take_while(is_inner).take(3) {
                let is_ours =
                    folder.starts_with(&own) || folder.ends_with(BESIDE) || folder.ends_with(entry.id.as_str());
                if !is_ours || fs::remove_dir(folder).is_err() {
                    break;
                }
            }
        }
    }

    /// Deletes the images of an entry whose description says that it is being deleted.
    fn finish_deletion(&self, folder: &Path, entry: &TrashEntry) -> Result<(), TrashError> {
        for image in &entry.images {
            unless_missing(fs::remove_file(&image.trash))
                .map_err(|error| trash_error("delete", &image.trash, error))?;
        }
        self.remove_image_folders(entry);
        remove_description(folder, DELETED)
    }

    /// Returns the directories without an entry, and files of probes.
    fn abandoned(&self) -> Vec<PathBuf> {
        let mut found = stale_temporary_files(&self.folder);
        found.extend(self.entry_folders().unwrap_or_default().into_iter().filter(|folder| is_abandoned(folder)));
        found
    }
}

/// Removes the description of an entry, and then its directory, if nothing else is in it.
fn remove_description(folder: &Path, name: &str) -> Result<(), TrashError> {
    let description = folder.join(name);
    unless_missing(fs::remove_file(&description)).map_err(|error| trash_error("delete", &description, error))?;
    let _may_hold_files_of_the_user = fs::remove_dir(folder);
    Ok(())
}

fn trash_error(action: &'static str, path: &Path, error: io::Error) -> TrashError {
    let path = path.to_owned();
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => TrashError::Full { path },
        ErrorKind::NotFound => TrashError::NotFound { path },
        _ => TrashError::Failed { action, path, source: error.into() },
    }
}

#[async_trait]
impl Trash for LocalTrash {
    async fn entries(&self) -> Result<Vec<TrashEntry>, TrashError> {
        let folders = self.entry_folders()?;
        let mut entries: Vec<TrashEntry> = folders.iter().filter_map(|folder| self.read(folder, DESCRIPTION)).collect();
        entries.sort_by(|one, other| (one.removed_at, &one.id).cmp(&(other.removed_at, &other.id)));
        Ok(entries)
    }

    async fn find(&self, id: &TrashId) -> Option<TrashEntry> {
        self.read(&self.entry_folder(id), DESCRIPTION)
    }

    fn directory(&self, id: &TrashId) -> PathBuf {
        self.entry_folder(id)
    }

    async fn places(&self, id: &TrashId, images: &[PathBuf]) -> Result<Vec<Option<TrashPlace>>, TrashError> {
        private_folder(&self.folder).map_err(|error| trash_error("create", &self.folder, error))?;
        let mut chooser = place::PlaceChooser::new(&self.folder, self.entry_folder(id), id);
        images.iter().map(|image| chooser.choose(image)).collect()
    }

    async fn describe(&self, entry: &TrashEntry) -> Result<(), TrashError> {
        let written = self.write(entry);
        written.map_err(|error| {
            let folder = self.entry_folder(&entry.id);
            let _is_empty = fs::remove_dir(&folder);
            trash_error("write", &folder.join(DESCRIPTION), error)
        })
    }

    async fn rename(&self, from: &Path, to: &Path) -> Result<(), TrashError> {
        let folder = to.parent().unwrap_or(to);
        if !folder.exists() {
            private_folder(folder).map_err(|error| trash_error("create", folder, error))?;
        }
        rename_to_free_name(from, to).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => TrashError::Exists { from: from.to_owned(), to: to.to_owned() },
            _ => trash_error("move", from, error),
        })?;
        sync_folder(folder);
        from.parent().map(sync_folder);
        Ok(())
    }

    async fn locate(&self, image: &TrashedImage, original: &Path) -> TrashedImageLocation {
        if fs::symlink_metadata(&image.trash).is_ok() {
            return TrashedImageLocation::Trash;
        }
        match fs::symlink_metadata(original) {
            Ok(found) if found.is_file() && found.ino() == image.inode => TrashedImageLocation::Original,
            Ok(_) | Err(_) => TrashedImageLocation::Missing,
        }
    }

    async fn close(&self, entry: &TrashEntry) -> Result<(), TrashError> {
        self.remove_image_folders(entry);
        remove_description(&self.entry_folder(&entry.id), DESCRIPTION)
    }

    async fn delete(&self, entry: &TrashEntry) -> Result<(), TrashError> {
        let folder = self.entry_folder(&entry.id);
        let description = folder.join(DESCRIPTION);
        let renamed = fs::rename(&description, folder.join(DELETED));
        renamed.map_err(|error| trash_error("delete", &description, error))?;
        sync_folder(&folder);
        self.finish_deletion(&folder, entry)
    }

    async fn finish_deletions(&self, dry_run: bool) -> Vec<PathBuf> {
        let mut found = self.abandoned();
        let folders = self.entry_folders().unwrap_or_default();
        let deleted = folders.into_iter().filter_map(|folder| Some((self.read(&folder, DELETED)?, folder)));
        let deleted: Vec<(TrashEntry, PathBuf)> = deleted.collect();
        if !dry_run {
            found.retain(|path| remove_abandoned(path).is_ok());
        }
        for (entry, folder) in deleted {
            if dry_run || self.finish_deletion(&folder, &entry).is_ok() {
                found.push(folder);
            }
        }
        found.sort();
        found
    }

    async fn hand_over(&self, from: &str, to: &str) -> Result<(), TrashError> {
        for folder in self.entry_folders()? {
            for name in [DESCRIPTION, DELETED] {
                let Some(entry) = read_of(from, &folder, name) else { continue };
                let path = folder.join(name);
                let replaced = self.replace(&path, &Description { database: to.to_owned(), entry });
                replaced.map_err(|error| trash_error("write", &path, error))?;
            }
        }
        Ok(())
    }

    async fn prune(&self, directory: &Path, left: &str) {
        let left = directory.join(left);
        let is_last = |entry: io::Result<fs::DirEntry>| entry.is_ok_and(|entry| entry.path() == left);
        if fs::symlink_metadata(&left).is_ok_and(|found| found.is_file() && found.len() == 0)
            && fs::read_dir(directory).is_ok_and(|mut entries| entries.all(is_last))
        {
            let _may_be_gone = fs::remove_file(&left);
        }
        let _may_hold_files = fs::remove_dir(directory);
    }
}

/// Returns the entry in `folder`, if it is one of `database`.
fn read_of(database: &str, folder: &Path, name: &str) -> Option<TrashEntry> {
    let mut text = Vec::new();
    fs::File::open(folder.join(name)).ok()?.take(MAX_COPY_BYTES).read_to_end(&mut text).ok()?;
    let found: Description = serde_json::from_slice(&text).ok()?;
    let is_own = found.database == database && folder.file_name()?.to_str()? == found.entry.id.as_str();
    is_own.then_some(found.entry)
}

/// Returns whether a directory has no files, except for unfinished ones.
fn is_abandoned(folder: &Path) -> bool {
    let files = fs::read_dir(folder).into_iter().flatten().count();
    files == stale_temporary_files(folder).len()
}

/// Removes a file of a probe, or a directory without a description if it holds no image.
fn remove_abandoned(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        stale_temporary_files(path).iter().try_for_each(fs::remove_file)?;
        fs::remove_dir(path)
    } else {
        fs::remove_file(path)
    }
}

#[cfg(test)]
mod tests;
