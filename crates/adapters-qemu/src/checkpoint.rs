//! The port [`CheckpointFiles`]: directories of checkpoints on the local file system.
//!
//! A checkpoint comes into being as `NAME.partial` and is renamed once its files are complete; one that is removed is
//! renamed first, too. What is named as a checkpoint is therefore complete.

mod apart;
mod check;
mod page_sums;

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use maqet_adapters_linux::atomic_file::{AtomicFile, rename_to_free_name, sync_folder};
use maqet_adapters_linux::private_file::{new_private_file, open_regular, private_folder, unless_missing};
use maqet_domain::checkpoint::{
    CheckpointManifest, CheckpointName, CheckpointProblem, CopiedFile, MANIFEST_FILE, STREAM_FILE, UNFINISHED_SUFFIX,
};
use maqet_domain::port::{
    ByteProgress, CheckpointFileError, CheckpointFiles, CheckpointListing, FoundCheckpoint, TakenApart,
    UnfinishedCheckpoint,
};

use crate::limits::{CHECKPOINT_CHUNK_BYTES, MAX_MANIFEST_BYTES};

/// The ending of the directory of a checkpoint that is being removed.
const REMOVED_SUFFIX: &str = ".removed";

/// The file in the directory of an unfinished checkpoint that is to be given up.
const CANCELED_FILE: &str = "canceled";

/// Directories of checkpoints on the local file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalCheckpoints;

#[async_trait]
impl CheckpointFiles for LocalCheckpoints {
    async fn begin(&self, vm: &Path, name: &CheckpointName) -> Result<UnfinishedCheckpoint, CheckpointFileError> {
        private_folder(vm).map_err(|error| io_error("create the directory", vm, error))?;
        let exists = || CheckpointFileError::Exists { name: name.clone() };
        if fs::symlink_metadata(vm.join(name.as_str())).is_ok() {
            return Err(exists());
        }
        let directory = vm.join(format!("{name}{UNFINISHED_SUFFIX}"));
        DirBuilder::new().mode(0o700).create(&directory).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => exists(),
            _ => io_error("create the directory", &directory, error),
        })?;
        let stream = directory.join(STREAM_FILE);
        new_private_file(&stream).map_err(|error| io_error("create", &stream, error))?;
        Ok(UnfinishedCheckpoint { directory, stream })
    }

    async fn vms(&self, all: &Path) -> Result<Vec<String>, CheckpointFileError> {
        let Some(entries) = entries(all)? else { return Ok(Vec::new()) };
        let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let mut vms: Vec<String> = directories.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        vms.sort();
        Ok(vms)
    }

    async fn copy(
        &self,
        unfinished: &Path,
        original: &Path,
        format: &str,
        file: &str,
    ) -> Result<CopiedFile, CheckpointFileError> {
        let target = unfinished.join(file);
        let mut from = open_regular(original).map_err(|error| io_error("read", original, error))?;
        let mut to = fresh_file(&target)?;
        let mut hasher = crc32fast::Hasher::new();
        let mut bytes = 0;
        let mut chunk = vec![0; CHECKPOINT_CHUNK_BYTES];
        loop {
            let read = read_some(&mut from, &mut chunk).map_err(|error| io_error("read", original, error))?;
            if read == 0 {
                break;
            }
            hasher.update(&chunk[..read]);
            bytes += read as u64;
            to.write_all(&chunk[..read]).map_err(|error| io_error("write", &target, error))?;
            tokio::task::yield_now().await;
        }
        read_only(&to).map_err(|error| io_error("write", &target, error))?;
        let (file, format) = (file.to_owned(), format.to_owned());
        Ok(CopiedFile { file, original: original.to_owned(), format, bytes, crc32: hasher.finalize() })
    }

    async fn take_apart<'p>(
        &self,
        unfinished: &Path,
        memory: &str,
        progress: ByteProgress<'p>,
    ) -> Result<TakenApart, CheckpointFileError> {
        match published(unfinished) {
            Some(taken) => Ok(taken),
            None => apart::take_apart(unfinished, memory, progress).await,
        }
    }

    async fn publish(
        &self,
        unfinished: &Path,
        manifest: &CheckpointManifest,
        is_durable: bool,
    ) -> Result<PathBuf, CheckpointFileError> {
        let target = unfinished.with_file_name(manifest.name.as_str());
        let write = || {
            let mut file = AtomicFile::create(&unfinished.join(MANIFEST_FILE))?;
            file.write_all(&serde_json::to_vec_pretty(manifest)?)?;
            if is_durable {
                sync_files(unfinished)?;
                file.replace()?;
                sync_folder(unfinished);
            } else {
                file.replace_unsynced()?;
            }
            // What was saved is in the other files, which the manifest describes: `take_apart` returns that from here on.
            unless_missing(fs::remove_file(unfinished.join(STREAM_FILE)))?;
            rename_to_free_name(unfinished, &target)?;
            if is_durable {
                target.parent().map(sync_folder);
            }
            Ok::<_, io::Error>(())
        };
        write().map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => CheckpointFileError::Exists { name: manifest.name.clone() },
            _ => io_error("complete the checkpoint", &target, error),
        })?;
        Ok(target)
    }

    async fn list(&self, vm: &Path) -> Result<CheckpointListing, CheckpointFileError> {
        let mut listing = CheckpointListing::default();
        for entry in entries(vm)?.into_iter().flatten() {
            let path = entry.path();
            let text = entry.file_name();
            let text = text.to_string_lossy();
            match CheckpointName::parse(&text) {
                Ok(name) => match read_manifest(&path, &name) {
                    Ok(manifest) => listing.checkpoints.push(FoundCheckpoint { directory: path, manifest }),
                    Err(CheckpointProblem::Unfinished) => listing.unfinished.push(path),
                    Err(problem) => listing.unusable.push((path, problem)),
                },
                Err(_) if text.ends_with(UNFINISHED_SUFFIX) || text.ends_with(REMOVED_SUFFIX) => {
                    listing.unfinished.push(path);
                }
                Err(_) => {}
            }
        }
        listing.checkpoints.sort_by(|one, other| {
            let key = |found: &FoundCheckpoint| (found.manifest.taken_at, found.manifest.name.clone());
            key(one).cmp(&key(other))
        });
        Ok(listing)
    }

    async fn check<'p>(
        &self,
        checkpoint: &FoundCheckpoint,
        is_thorough: bool,
        progress: ByteProgress<'p>,
    ) -> Result<(), CheckpointFileError> {
        check::check(checkpoint, is_thorough, progress).await
    }

    async fn cancel(&self, unfinished: &Path) -> Result<(), CheckpointFileError> {
        let note = unfinished.join(CANCELED_FILE);
        match new_private_file(&note) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(io_error("create", &note, error)),
            _ => Ok(()),
        }
    }

    async fn is_canceled(&self, unfinished: &Path) -> bool {
        unfinished.join(CANCELED_FILE).exists()
    }

    async fn remove(&self, directory: &Path) -> Result<(), CheckpointFileError> {
        let name = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let hidden = if name.ends_with(REMOVED_SUFFIX) {
            directory.to_owned()
        } else {
            directory.with_file_name(format!(".{name}{REMOVED_SUFFIX}"))
        };
        let remove = || {
            if hidden != directory {
                unless_missing(fs::remove_dir_all(&hidden))?;
                unless_missing(fs::rename(directory, &hidden))?;
                directory.parent().map(sync_folder);
            }
            unless_missing(fs::remove_dir_all(&hidden))
        };
        remove().map_err(|error| io_error("remove the checkpoint", directory, error))?;
        if let Some(vm) = directory.parent() {
            // Of a VM without another checkpoint.
            let _ = fs::remove_dir(vm);
        }
        Ok(())
    }
}

/// Returns the entries of a directory; `None` if it does not exist.
fn entries(directory: &Path) -> Result<Option<impl Iterator<Item = fs::DirEntry>>, CheckpointFileError> {
    match fs::read_dir(directory) {
        Ok(entries) => Ok(Some(entries.flatten())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("read the directory", directory, error)),
    }
}

/// Returns what the manifest says of the files, if a `publish` was killed once it had removed what QEMU saved.
fn published(unfinished: &Path) -> Option<TakenApart> {
    if unfinished.join(STREAM_FILE).exists() {
        return None;
    }
    let name = unfinished.file_name()?.to_str()?.strip_suffix(UNFINISHED_SUFFIX)?;
    let manifest = read_manifest(unfinished, &CheckpointName::parse(name).ok()?).ok()?;
    Some(TakenApart { machine_type: manifest.qemu.machine_type, ram: manifest.ram, state: manifest.state })
}

/// Reads and checks the manifest of a checkpoint.
fn read_manifest(directory: &Path, name: &CheckpointName) -> Result<CheckpointManifest, CheckpointProblem> {
    let mut text = Vec::new();
    let read = open_regular(&directory.join(MANIFEST_FILE))
        .and_then(|file| file.take(MAX_MANIFEST_BYTES).read_to_end(&mut text));
    match read {
        Ok(_) => CheckpointManifest::parse(&text, name),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(CheckpointProblem::Unfinished),
        Err(error) => Err(CheckpointProblem::Unreadable { reason: error.to_string() }),
    }
}

/// Creates a private file, in place of that of an interrupted call.
fn fresh_file(path: &Path) -> Result<File, CheckpointFileError> {
    let create = || {
        unless_missing(fs::remove_file(path))?;
        new_private_file(path)
    };
    create().map_err(|error| io_error("create", path, error))
}

/// Makes a file one that nothing writes to any more, not even by mistake.
fn read_only(file: &File) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(0o400))
}

/// Reads until the chunk is full, or the file ends.
fn read_some(file: &mut File, chunk: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(chunk) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

/// Writes all files of a directory to disk.
fn sync_files(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if fs::symlink_metadata(&path)?.is_file() {
            OpenOptions::new().read(true).open(&path)?.sync_all()?;
        }
    }
    Ok(())
}

fn io_error(action: &'static str, path: &Path, error: io::Error) -> CheckpointFileError {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            CheckpointFileError::Full { path: path.parent().unwrap_or(path).to_owned() }
        }
        _ => CheckpointFileError::Io { action, path: path.to_owned(), source: error.into() },
    }
}

#[cfg(test)]
mod tests;
