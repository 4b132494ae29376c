//! The port [`BackupStore`]: directories of backups on the local file system.
//!
//! A backup comes into being under another name, `.NAME.unfinished`, and is renamed once its files and its manifest are
//! on disk; one that is removed is renamed first, too. What is named as a backup is therefore complete.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use maqet_domain::backup::{BackupManifest, BackupName, FoundBackup, MANIFEST_FILE, MANIFEST_FORMAT};
use maqet_domain::port::{BackupListing, BackupStore, BackupStoreError, ByteProgress, ImageFacts};
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;

use crate::atomic_file::{AtomicFile, rename_to_free_name, sync_folder};
use crate::limits::CHECKSUM_CHUNK_BYTES;
use crate::private_file::{new_private_file, open_regular, private_folder, unless_missing};
use crate::temporary_file::is_older_than_limit;

/// The largest manifest that is read; one of a hundred drives has 50 KB.
const MAX_MANIFEST_BYTES: u64 = 4 << 20;

/// The ending of the directory of a backup that is being made.
const UNFINISHED: &str = ".unfinished";

/// The ending of the directory of a backup that is being removed.
const REMOVED: &str = ".removed";

/// Directories of backups on the local file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalBackups;

#[async_trait]
impl BackupStore for LocalBackups {
    async fn directory(
        &self,
        parent: &Path,
        vm: &str,
        must_exist: bool,
        is_created: bool,
    ) -> Result<PathBuf, BackupStoreError> {
        let failed = |error| io_error("use the directory", parent, error);
        let exists = parent.try_exists().map_err(failed)?;
        if !exists && must_exist {
            return Err(BackupStoreError::NotFound { path: parent.to_owned() });
        }
        if !exists && !is_created {
            return Ok(parent.join(vm));
        }
        if !exists {
            private_folder(parent).map_err(failed)?;
        }
        let directory = parent.canonicalize().map_err(failed)?.join(vm);
        if is_created {
            // Not made private again: its disk may have no permissions.
            match DirBuilder::new().mode(0o700).create(&directory) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(io_error("create the directory", &directory, error));
                }
                _ => {}
            }
        }
        Ok(directory)
    }

    async fn list(&self, directory: &Path) -> Result<BackupListing, BackupStoreError> {
        let mut listing = BackupListing::default();
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(listing),
            Err(error) => return Err(io_error("read the directory", directory, error)),
        };
        for entry in entries.flatten() {
            let name = entry.file_name().to_str().and_then(|name| BackupName::parse(name).ok());
            let Some(name) = name else { continue };
            let path = entry.path();
            match read_manifest(&path, &name) {
                Ok(manifest) => listing.backups.push(found(path, manifest)),
                Err(reason) => listing.unreadable.push((path, reason)),
            }
        }
        Ok(listing)
    }

    async fn begin(&self, unfinished: &Path) -> Result<(), BackupStoreError> {
        let created = DirBuilder::new().mode(0o700).create(unfinished);
        created.map_err(|error| io_error("create the directory", unfinished, error))
    }

    async fn create_file(&self, path: &Path) -> Result<(), BackupStoreError> {
        new_private_file(path).map(drop).map_err(|error| io_error("create", path, error))
    }

    async fn reserve(&self, file: &Path, bytes: u64) -> Result<(), BackupStoreError> {
        let needed_mib = bytes.div_ceil(1 << 20);
        reserve(file, bytes).map_err(|error| match io_error("reserve space for", file, error) {
            BackupStoreError::Full { .. } => {
                BackupStoreError::Full { path: file.parent().unwrap_or(file).to_owned(), needed_mib }
            }
            other => other,
        })
    }

    async fn complete<'p>(&self, file: &Path, progress: ByteProgress<'p>) -> Result<ImageFacts, BackupStoreError> {
        let complete = || {
            let opened = OpenOptions::new().write(true).open(file)?;
            // Releases what is reserved behind the end.
            opened.set_len(opened.metadata()?.len())?;
            opened.sync_all()
        };
        complete().map_err(|error| io_error("complete", file, error))?;
        self.examine(file, progress).await
    }

    async fn examine<'p>(&self, file: &Path, progress: ByteProgress<'p>) -> Result<ImageFacts, BackupStoreError> {
        let failed = |error| io_error("read", file, error);
        let mut opened = open_regular(file).map_err(failed)?;
        let mut hasher = crc32fast::Hasher::new();
        let mut chunk = vec![0; CHECKSUM_CHUNK_BYTES];
        let mut file_bytes = 0;
        loop {
            let read = match opened.read(&mut chunk) {
                Ok(0) => return Ok(ImageFacts { file_bytes, crc32: hasher.finalize() }),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed(error)),
            };
            hasher.update(&chunk[..read]);
            file_bytes += read as u64;
            progress(file_bytes);
            // So that the operation can be canceled.
            tokio::task::yield_now().await;
        }
    }

    async fn publish(&self, unfinished: &Path, manifest: &BackupManifest) -> Result<PathBuf, BackupStoreError> {
        let path = unfinished.join(MANIFEST_FILE);
        let target = unfinished.with_file_name(manifest.name.as_str());
        let write = || {
            let mut file = AtomicFile::create(&path)?;
            file.write_all(&serde_json::to_vec_pretty(manifest)?)?;
            file.replace()?;
            sync_folder(unfinished);
            rename_to_free_name(unfinished, &target)?;
            target.parent().map(sync_folder);
            Ok::<_, io::Error>(())
        };
        write().map_err(|error| io_error("complete the backup", &target, error))?;
        Ok(target)
    }

    async fn remove(&self, directory: &Path) -> Result<(), BackupStoreError> {
        let name = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let hidden = directory.with_file_name(format!(".{}{REMOVED}", name.trim_start_matches('.')));
        let remove = || {
            unless_missing(fs::remove_dir_all(&hidden))?;
            unless_missing(fs::rename(directory, &hidden))?;
            directory.parent().map(sync_folder);
            unless_missing(fs::remove_dir_all(&hidden))
        };
        remove().map_err(|error| io_error("remove the backup", directory, error))?;
        if let Some(parent) = directory.parent() {
            // Of a VM without another backup.
            let _ = fs::remove_dir(parent);
        }
        Ok(())
    }

    async fn sweep(&self, directory: &Path) {
        for left in left_over_backups(directory) {
            let _ = fs::remove_dir_all(left);
        }
    }

    async fn rename(&self, from: &Path, to: &Path) -> Result<(), BackupStoreError> {
        rename_to_free_name(from, to).map_err(|error| io_error("rename", from, error))?;
        to.parent().map(sync_folder);
        Ok(())
    }
}

/// Returns what interrupted backups and removals left in the directory of a VM, which no process of this host uses.
///
/// An unfinished backup that changed lately is left out: another host that has the directory mounted may be writing it.
pub(crate) fn left_over_backups(directory: &Path) -> Vec<PathBuf> {
    let is_old = |path: &Path| {
        let mut files = fs::read_dir(path).into_iter().flatten().flatten();
        is_older_than_limit(path) && files.all(|file| is_older_than_limit(&file.path()))
    };
    let is_left = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix('.'));
        let Some(name) = name else { return false };
        name.ends_with(REMOVED)
            || name.strip_suffix(UNFINISHED).is_some_and(|name| BackupName::parse(name).is_ok() && is_old(path))
    };
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(is_left).collect()
}

/// Reads and checks the manifest of a backup; the error is a reason.
fn read_manifest(directory: &Path, name: &BackupName) -> Result<BackupManifest, String> {
    let read = || {
        let mut text = Vec::new();
        open_regular(&directory.join(MANIFEST_FILE))?.take(MAX_MANIFEST_BYTES).read_to_end(&mut text)?;
        Ok::<_, io::Error>(text)
    };
    let text = read().map_err(|error| format!("cannot read `{MANIFEST_FILE}`: {error}"))?;
    let format = serde_json::from_slice::<serde_json::Value>(&text).ok().and_then(|value| value["format"].as_u64());
    if format.is_some_and(|format| format > u64::from(MANIFEST_FORMAT)) {
        return Err("a newer maqet made it".to_owned());
    }
    let manifest: BackupManifest =
        serde_json::from_slice(&text).map_err(|error| format!("`{MANIFEST_FILE}` is damaged: {error}"))?;
    let is_plain = |file: &str| Path::new(file).components().count() == 1 && !file.starts_with('.');
    match manifest.drives.iter().find(|drive| !is_plain(&drive.file)) {
        _ if manifest.name != *name => Err(format!("`{MANIFEST_FILE}` is that of backup `{}`", manifest.name)),
        Some(drive) => Err(format!("`{MANIFEST_FILE}` names the file `{}`", drive.file.escape_debug())),
        None => Ok(manifest),
    }
}

fn found(directory: PathBuf, manifest: BackupManifest) -> FoundBackup {
    let length = |file: &str| fs::symlink_metadata(directory.join(file)).ok().filter(fs::Metadata::is_file);
    let lengths = manifest.drives.iter().map(|drive| length(&drive.file).map(|found| found.len())).collect();
    FoundBackup { directory, manifest, lengths }
}

fn reserve(path: &Path, bytes: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    let disk = statvfs(path)?;
    let taken = file.metadata()?.blocks() * 512;
    // First, as some file systems allocate all that is free before they fail.
    if disk.f_bavail.saturating_mul(disk.f_frsize) < bytes.saturating_sub(taken) {
        return Err(ErrorKind::StorageFull.into());
    }
    match fallocate(&file, FallocateFlags::KEEP_SIZE, 0, bytes) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        done => Ok(done?),
    }
}

fn io_error(action: &'static str, path: &Path, error: io::Error) -> BackupStoreError {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            BackupStoreError::Full { path: path.to_owned(), needed_mib: 1 }
        }
        _ => BackupStoreError::Io { action, path: path.to_owned(), source: error.into() },
    }
}

#[cfg(test)]
mod tests {
    use maqet_domain::backup::{BackedUpDrive, BackupContent, BackupSource, BackupVm, FullReason};
    use maqet_domain::config::Node;

    use super::*;

    fn manifest(name: &str) -> BackupManifest {
        let drive = BackedUpDrive {
            drive: "hdd".to_owned(),
            file: "hdd.qcow2".to_owned(),
            disk: "/d/hdd.qcow2".into(),
            format: "qcow2".to_owned(),
            virtual_bytes: 1 << 20,
            content: BackupContent::Full { reason: FullReason::First },
            bitmap: None,
            file_bytes: 4,
            crc32: 0,
        };
        let id = "0d9f2ac3-58b1-4c3e-9a5e-2f1f6f0f7a11".parse().unwrap();
        BackupManifest {
            format: MANIFEST_FORMAT,
            name: name.parse().unwrap(),
            created_at: jiff::Timestamp::UNIX_EPOCH,
            vm: BackupVm { id, name: "web".parse().unwrap() },
            source: BackupSource::Stopped,
            qemu: "7.2.22".to_owned(),
            drives: vec![drive],
            definition: Node::empty_map(),
        }
    }

    const NAME: &str = "20261129T235304Z";

    async fn publish(directory: &Path) -> PathBuf {
        let unfinished = directory.join(".x.unfinished");
        LocalBackups.begin(&unfinished).await.unwrap();
        fs::write(unfinished.join("hdd.qcow2"), "data").unwrap();
        LocalBackups.publish(&unfinished, &manifest(NAME)).await.unwrap()
    }

    #[tokio::test]
    async fn test_backup_published_is_listed_and_removed() {
        let parent = tempfile::tempdir().unwrap();
        let directory = LocalBackups.directory(parent.path(), "web", true, true).await.unwrap();
        let backup = publish(&directory).await;

        let listed = LocalBackups.list(&directory).await.unwrap();
        LocalBackups.remove(&backup).await.unwrap();

        assert_eq!(listed.backups.len(), 1);
        assert_eq!((&listed.backups[0].manifest, &listed.backups[0].lengths), (&manifest(NAME), &vec![Some(4)]));
        assert!(!directory.exists());
    }

    #[tokio::test]
    async fn test_list_unfinished_is_left_out_and_damaged_is_named() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path();
        fs::create_dir(directory.join(".20261129T235305Z.unfinished")).unwrap();
        fs::create_dir(directory.join("notes")).unwrap();
        for (name, text) in [("20261129T235306Z", "{"), ("20261129T235307Z", r#"{"format": 9}"#)] {
            fs::create_dir(directory.join(name)).unwrap();
            fs::write(directory.join(name).join(MANIFEST_FILE), text).unwrap();
        }
        let mut outside = manifest("20261129T235308Z");
        outside.drives[0].file = "../x".to_owned();
        fs::create_dir(directory.join("20261129T235308Z")).unwrap();
        fs::write(directory.join("20261129T235308Z/backup.json"), serde_json::to_vec(&outside).unwrap()).unwrap();

        let mut listed = LocalBackups.list(directory).await.unwrap();

        listed.unreadable.sort();
        let reasons: Vec<&str> = listed.unreadable.iter().map(|(_, reason)| reason.as_str()).collect();
        assert!(listed.backups.is_empty());
        assert!(reasons[0].starts_with("`backup.json` is damaged"), "{reasons:?}");
        assert_eq!(reasons[1..], ["a newer maqet made it", "`backup.json` names the file `../x`"]);
    }

    #[tokio::test]
    async fn test_directory_that_must_exist_is_reported() {
        let root = tempfile::tempdir().unwrap();
        let missing = root.path().join("usb");

        let error = LocalBackups.directory(&missing, "web", true, true).await.unwrap_err();
        let created = LocalBackups.directory(&missing, "web", false, true).await.unwrap();

        assert!(matches!(error, BackupStoreError::NotFound { .. }), "{error:?}");
        assert_eq!(fs::metadata(created).unwrap().mode() & 0o777, 0o700);
    }

    #[tokio::test]
    async fn test_reserved_space_is_released_when_complete() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("a");
        LocalBackups.create_file(&file).await.unwrap();
        fs::write(&file, "123456789").unwrap();
        LocalBackups.reserve(&file, 1 << 20).await.unwrap();
        let reserved = fs::metadata(&file).unwrap();

        let facts = LocalBackups.complete(&file, &|_| {}).await.unwrap();

        let complete = fs::metadata(&file).unwrap();
        assert!(reserved.blocks() * 512 >= 1 << 20 && complete.blocks() * 512 < 1 << 20, "{reserved:?} {complete:?}");
        // The check value of CRC-32/ISO-HDLC.
        assert_eq!(facts, ImageFacts { file_bytes: 9, crc32: 0xcbf4_3926 });
    }

    #[tokio::test]
    async fn test_reserve_more_than_the_disk_has_is_full() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("a");
        LocalBackups.create_file(&file).await.unwrap();

        let error = LocalBackups.reserve(&file, 1 << 43).await.unwrap_err();

        assert!(matches!(error, BackupStoreError::Full { needed_mib, .. } if needed_mib == 1 << 23), "{error:?}");
    }

    #[tokio::test]
    async fn test_sweep_removes_interrupted_removals_only() {
        let root = tempfile::tempdir().unwrap();
        let backup = publish(root.path()).await;
        fs::create_dir(root.path().join(format!(".{NAME}.removed"))).unwrap();

        LocalBackups.sweep(root.path()).await;

        let left: Vec<PathBuf> = fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(left, [backup]);
    }
}
