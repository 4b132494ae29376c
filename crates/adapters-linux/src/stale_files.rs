//! The files in the directories of maqet that may be stale: sockets, records, locks and temporary files.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use maqet_domain::port::{LockName, StaleFile, StaleFileKind};
use maqet_domain::vm::{BootNumber, VmId};

use crate::backup_store::left_over_backups;
use crate::copies::{copied_at, database_of, vm_folders};
use crate::lock::{
    FileLocks, IMAGE_LOCK_PREFIX, MOVE_LOCK, RUN_LOCK_PREFIX, TEMPLATE_LOCK_PREFIX, TRASH_LOCK, parse_lock_name,
};
use crate::locked_file::is_at;
use crate::private_file::unless_missing;
use crate::process::PidScope;
use crate::temporary_file::{is_older_than_limit, parse_temporary_name};

/// The folders of maqet; absolute.
#[derive(Debug, Clone)]
pub struct MaqetDirectories {
    /// The database and its backups.
    pub data: PathBuf,
    /// Images without a path in their definition.
    pub storage: PathBuf,
    /// Locks.
    pub locks: PathBuf,
    /// Sockets.
    pub runtime: PathBuf,
    /// Records.
    pub state: PathBuf,
    /// Versions and schemas of QEMU binaries.
    pub cache: PathBuf,
}

/// Finds and removes stale files in the folders of this user.
#[derive(Debug, Clone)]
pub struct LocalStaleFiles {
    folders: MaqetDirectories,
    database: String,
}

impl LocalStaleFiles {
    /// Searches `folders`, which belong to the database with this name and perhaps to others.
    pub const fn new(folders: MaqetDirectories, database: String) -> Self {
        Self { folders, database }
    }

    /// Returns the folder of the sockets.
    pub fn runtime_folder(&self) -> &Path {
        &self.folders.runtime
    }

    /// Returns the folder of the locks.
    pub fn lock_folder(&self) -> &Path {
        &self.folders.locks
    }

    /// Returns the folder of the records of a VM.
    pub fn records_of(&self, id: &VmId) -> PathBuf {
        self.folders.state.join(id.to_string())
    }

    /// Returns whether a VM belongs to another database, according to its records in `folder`.
    pub fn is_foreign(&self, folder: &Path) -> bool {
        database_of(folder).is_some_and(|database| database != self.database)
    }

    /// Returns the folders of VMs with sockets, with their names: the short form of an ID.
    pub fn socket_folders(&self) -> Vec<(String, PathBuf)> {
        let is_short = |name: &str| name.len() == VmId::SHORT_LEN && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        let named =
            entries(&self.folders.runtime).filter_map(|path| Some((path.file_name()?.to_str()?.to_owned(), path)));
        named.filter(|(name, path)| is_short(name) && path.is_dir()).collect()
    }

    /// Returns whether there are files of a run in the folder of sockets of a VM.
    pub fn has_sockets(&self, short: &str) -> bool {
        let runs = numbered(&self.folders.runtime.join(short), "b");
        runs.iter().any(|(_, run)| entries(run).next().is_some())
    }

    /// Returns all files that may be stale; temporary files are searched for in the folders `beside` as well.
    pub fn all(&self, beside: &[PathBuf]) -> Vec<StaleFile> {
        let mut files = self.records();
        let of_foreign = |file: &StaleFile| match &file.kind {
            StaleFileKind::Records { id, .. } if file.is_foreign => Some(id.short()),
            _ => None,
        };
        let foreign: HashSet<String> = files.iter().filter_map(of_foreign).collect();
        files.extend(self.sockets(&foreign));
        files.extend(self.locks(&foreign));
        files.extend(self.temporary_files(beside));
        files
    }

    fn records(&self) -> Vec<StaleFile> {
        let records = |(id, path): (VmId, PathBuf)| {
            let boots =
                numbered(&path, "boot-").into_iter().map(|(boot, folder)| (boot, created_at(&folder))).collect();
            let is_foreign = self.is_foreign(&path);
            let kind = StaleFileKind::Records { id, boots, copied_at: copied_at(&path) };
            StaleFile { kind, path, is_foreign }
        };
        vm_folders(&self.folders.state).into_iter().map(records).collect()
    }

    fn sockets(&self, foreign: &HashSet<String>) -> Vec<StaleFile> {
        let sockets = |(short, folder): (String, PathBuf)| {
            let is_foreign = foreign.contains(&short);
            numbered(&folder, "b").into_iter().map(move |(boot, path)| {
                let kind = StaleFileKind::Sockets { short: short.clone(), boot };
                StaleFile { kind, path, is_foreign }
            })
        };
        self.socket_folders().into_iter().flat_map(sockets).collect()
    }

    fn locks(&self, foreign: &HashSet<String>) -> Vec<StaleFile> {
        let lock = |path: PathBuf| {
            let id = locked_vm(&path)?;
            Some(StaleFile { kind: StaleFileKind::Lock { id }, path, is_foreign: foreign.contains(&id.short()) })
        };
        entries(&self.folders.locks).filter_map(lock).collect()
    }

    fn temporary_files(&self, beside: &[PathBuf]) -> Vec<StaleFile> {
        let mut folders: HashSet<PathBuf> = entries(&self.folders.storage).chain(beside.iter().cloned()).collect();
        folders.extend([self.folders.data.clone(), self.folders.cache.clone()]);
        folders.extend(vm_folders(&self.folders.state).into_iter().map(|(_, folder)| folder));
        let mut found: Vec<PathBuf> = folders.iter().flat_map(|folder| stale_temporary_files(folder)).collect();
        let of_repair = entries(&self.folders.data).filter(|path| is_of_repair(path));
        found.extend(of_repair.filter(|path| is_older_than_limit(path)));
        found.extend(entries(&self.folders.locks).filter(|path| is_lock_of_image(path) && is_free(path)));
        found.extend(self.backups());
        found.sort();
        let temporary = |path| StaleFile { kind: StaleFileKind::Temporary, path, is_foreign: false };
        found.into_iter().map(temporary).collect()
    }

    /// Returns what interrupted backups left in the directories of VMs that no operation has locked.
    fn backups(&self) -> Vec<PathBuf> {
        let locks = FileLocks::new(self.folders.locks.clone());
        let is_unlocked = |directory: &PathBuf| {
            let lock = locks.path(&LockName::Image(directory.canonicalize().unwrap_or_else(|_| directory.clone())));
            !lock.exists() || is_free(&lock)
        };
        let directories = entries(&self.folders.data.join("backups")).filter(is_unlocked);
        directories.flat_map(|directory| left_over_backups(&directory)).collect()
    }

    /// Removes a file; nothing happens if it is gone. Sockets are removed with the empty folders around them.
    ///
    /// Errors: whatever the file system reports; `WouldBlock` for a lock in use.
    pub fn remove(&self, file: &StaleFile) -> io::Result<()> {
        let removed = match &file.kind {
            StaleFileKind::Sockets { .. } => remove_socket_folder(&file.path),
            StaleFileKind::Records { .. } => fs::remove_dir_all(&file.path),
            StaleFileKind::Lock { .. } => remove_lock(&file.path),
            StaleFileKind::Temporary if is_lock_of_image(&file.path) => remove_lock(&file.path),
            StaleFileKind::Temporary => match fs::symlink_metadata(&file.path) {
                Ok(found) if found.is_dir() => fs::remove_dir_all(&file.path),
                Ok(_) => fs::remove_file(&file.path),
                Err(error) => Err(error),
            },
        };
        unless_missing(removed)
    }
}

/// Returns the half-written files in a folder: temporary files whose writer is gone, of any target.
pub fn stale_temporary_files(folder: &Path) -> Vec<PathBuf> {
    let scope = PidScope::current();
    let is_stale = |path: &PathBuf| {
        let parsed = path.file_name().and_then(parse_temporary_name);
        parsed.is_some_and(|(_, writer)| writer.has_abandoned(path, &scope))
    };
    entries(folder).filter(is_stale).collect()
}

/// Returns the time of creation of the folder of a boot: nothing is added to it later.
pub fn created_at(folder: &Path) -> Timestamp {
    let modified = fs::symlink_metadata(folder).and_then(|found| found.modified()).ok();
    modified.and_then(|time| Timestamp::try_from(time).ok()).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn remove_socket_folder(folder: &Path) -> io::Result<()> {
    unless_missing(fs::remove_dir(folder))?;
    if let Some(vm) = folder.parent() {
        let _may_contain_another_run = fs::remove_dir(vm);
    }
    Ok(())
}

/// Returns the VM of a lock; `None` for the lock of a QEMU that runs.
fn locked_vm(path: &Path) -> Option<VmId> {
    let name = path.file_name()?;
    if let Some(LockName::Vm(id) | LockName::Keyboard(id) | LockName::ThrowAway(id)) = parse_lock_name(name) {
        return Some(id);
    }
    let id = name.to_str()?.strip_prefix(RUN_LOCK_PREFIX)?.strip_suffix(".lock")?.parse().ok()?;
    is_free(path).then_some(id)
}

/// Returns whether this is the lock of an image, of a template, of the trash or of moves, which stays if its holder is killed.
fn is_lock_of_image(path: &Path) -> bool {
    let is_it = |name: &OsStr| {
        let prefixes = [IMAGE_LOCK_PREFIX, TEMPLATE_LOCK_PREFIX];
        name == TRASH_LOCK
            || name == MOVE_LOCK
            || prefixes.iter().any(|prefix| name.as_encoded_bytes().starts_with(prefix.as_bytes()))
    };
    path.file_name().is_some_and(is_it)
}

/// Returns whether a lock file is not locked.
fn is_free(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| file.try_lock_shared().is_ok())
}

/// Removes a lock that is not in use.
fn remove_lock(path: &Path) -> io::Result<()> {
    remove_opened_lock(&File::open(path)?, path)
}

/// Does the same for one that is open; a lock that replaced it since then may be in use, and is kept.
fn remove_opened_lock(lock: &File, path: &Path) -> io::Result<()> {
    lock.try_lock()?;
    // Before it is unlocked, so that no process locks the removed file.
    if is_at(lock, path) { fs::remove_file(path) } else { Ok(()) }
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// Returns the files whose name is `prefix` and a boot number.
fn numbered(folder: &Path, prefix: &str) -> Vec<(BootNumber, PathBuf)> {
    let number = |path: PathBuf| {
        let digits = path.file_name()?.to_str()?.strip_prefix(prefix)?.to_owned();
        Some((BootNumber(digits.parse().ok()?), path))
    };
    let mut found: Vec<(BootNumber, PathBuf)> = entries(folder).filter_map(number).collect();
    found.sort();
    found
}

/// Returns whether this is the working copy of a database repair.
fn is_of_repair(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".tmp-"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::temporary_file::short;

    const ID: &str = "0d9f2ac3-58b1-4c3e-9a5e-2f1f6f0f7a11";

    /// Returns the stale files of a user whose folders are below `root`.
    fn stale_files_below(root: &Path) -> LocalStaleFiles {
        let folder = |name: &str| root.join(name);
        let folders = MaqetDirectories {
            data: folder("data"),
            storage: folder("storage"),
            locks: folder("locks"),
            runtime: folder("runtime"),
            state: folder("state"),
            cache: folder("cache"),
        };
        LocalStaleFiles::new(folders, "sqlite:/d/a.db".to_owned())
    }

    fn write(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }

    #[test]
    fn test_remove_opened_lock_keeps_one_that_replaced_it() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("image-00000000deadbeef.lock");
        write(&path);
        let opened = File::open(&path).unwrap();
        // Its holder removes it, and another process locks a new one.
        fs::remove_file(&path).unwrap();
        write(&path);
        let held = File::open(&path).unwrap();
        held.lock().unwrap();

        remove_opened_lock(&opened, &path).unwrap();

        assert!(is_at(&held, &path));
        assert!(remove_lock(&path).is_err());
        drop(held);
        remove_lock(&path).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn test_all_finds_each_kind_and_remove_removes_it() {
        let root = tempfile::tempdir().unwrap();
        let files = stale_files_below(root.path());
        let dead_writer = format!(".a.partial-{}-1-1-0badcafe", short(&PidScope::current()));
        let lock = root.path().join(format!("locks/vm-{ID}.lock"));
        write(&lock);
        write(&root.path().join("locks/image-00000000deadbeef.lock"));
        write(&root.path().join("state").join(ID).join("boot-3/qemu.log"));
        write(&root.path().join("cache").join(&dead_writer));
        write(&root.path().join("beside").join(&dead_writer));
        fs::create_dir_all(root.path().join("runtime/0d9f2ac358b1/b3")).unwrap();
        fs::create_dir_all(root.path().join("runtime/other")).unwrap();

        let found = files.all(&[root.path().join("beside")]);
        for file in &found {
            files.remove(file).unwrap();
        }

        let id: VmId = ID.parse().unwrap();
        let kinds: Vec<StaleFileKind> = found.into_iter().map(|file| file.kind).collect();
        assert!(matches!(&kinds[0], StaleFileKind::Records { boots, .. } if boots[0].0 == BootNumber(3)), "{kinds:?}");
        let sockets = StaleFileKind::Sockets { short: id.short(), boot: BootNumber(3) };
        let (temporary, lock) = (StaleFileKind::Temporary, StaleFileKind::Lock { id });
        assert_eq!(kinds[1..], [sockets, lock, temporary.clone(), temporary.clone(), temporary]);
        assert!(files.all(&[root.path().join("beside")]).is_empty());
    }

    #[test]
    fn test_remove_lock_in_use_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("locks").join(format!("vm-{ID}.lock"));
        write(&path);
        let held = File::open(&path).unwrap();
        held.lock().unwrap();
        let files = stale_files_below(root.path());
        let found = files.all(&[]);

        let error = files.remove(&found[0]).unwrap_err();

        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(path.exists());
    }
}
