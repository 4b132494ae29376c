//! The port [`StaleFiles`]: maqet's own folders and the processes of this user, looked through.

mod machine;

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use jiff::Timestamp;
use maqet_adapters_linux::limits::STALE_FILE_AGE;
use maqet_adapters_linux::{atomic_file, database_of, name_of, vm_folders};
use maqet_domain::port::{LockName, QemuInstance, RemoveError, StaleFile, StaleFileKind, StaleFiles};
use maqet_domain::vm::{BootNumber, RunPaths, VmId};

use crate::hypervisor::places;

/// The folders that are looked through; absolute.
#[derive(Debug, Clone)]
pub struct OurFolders {
    /// The database, and what it becomes.
    pub data: PathBuf,
    /// Disks that a definition gives no path.
    pub storage: PathBuf,
    /// Locks.
    pub locks: PathBuf,
    /// Sockets.
    pub runtime: PathBuf,
    /// Records.
    pub state: PathBuf,
    /// What was learnt of QEMU binaries.
    pub cache: PathBuf,
}

/// Looks through the folders of this user.
#[derive(Debug, Clone)]
pub struct LocalLeftovers {
    folders: OurFolders,
    database: String,
}

impl LocalLeftovers {
    /// Looks through `folders`, which belong to the database of this name and perhaps to others.
    pub const fn new(folders: OurFolders, database: String) -> Self {
        Self { folders, database }
    }

    /// Returns whether the records in `folder` say that another database has their VM.
    fn is_foreign(&self, folder: &Path) -> bool {
        database_of(folder).is_some_and(|database| database != self.database)
    }

    fn socket_traces(&self, foreign: &HashSet<String>) -> Vec<StaleFile> {
        let mut traces = Vec::new();
        for (short, folder) in short_folders(&self.folders.runtime) {
            for (boot, path) in numbered(&folder, "b") {
                let is_foreign = foreign.contains(&short);
                traces.push(StaleFile {
                    kind: StaleFileKind::Sockets { short: short.clone(), boot },
                    path,
                    is_foreign,
                });
            }
        }
        traces
    }

    fn record_traces(&self) -> Vec<StaleFile> {
        let trace = |(id, path): (VmId, PathBuf)| {
            let boots = numbered(&path, "boot-").into_iter().map(|(boot, folder)| (boot, begun(&folder))).collect();
            let is_foreign = self.is_foreign(&path);
            StaleFile { kind: StaleFileKind::Records { id, boots }, path, is_foreign }
        };
        vm_folders(&self.folders.state).into_iter().map(trace).collect()
    }

    fn lock_traces(&self, foreign: &HashSet<String>) -> Vec<StaleFile> {
        let lock = |path: PathBuf| {
            let (LockName::Vm(id) | LockName::Keyboard(id)) = name_of(path.file_name()?)?;
            Some(StaleFile { kind: StaleFileKind::Lock { id }, path, is_foreign: foreign.contains(&id.short()) })
        };
        entries(&self.folders.locks).filter_map(lock).collect()
    }

    fn temporaries(&self, beside: &[PathBuf]) -> Vec<StaleFile> {
        let mut found: Vec<PathBuf> = entries(&self.folders.data).filter(|path| is_temporary(path)).collect();
        found.retain(|path| is_older(path, STALE_FILE_AGE));
        let mut beside: HashSet<PathBuf> = entries(&self.folders.storage).chain(beside.iter().cloned()).collect();
        beside.extend([self.folders.data.clone(), self.folders.cache.clone()]);
        beside.extend(vm_folders(&self.folders.state).into_iter().map(|(_, folder)| folder));
        found.extend(beside.iter().flat_map(|folder| atomic_file::stale_files(folder)));
        found.sort();
        let temporary = |path| StaleFile { kind: StaleFileKind::Temporary, path, is_foreign: false };
        found.into_iter().map(temporary).collect()
    }
}

#[async_trait]
impl StaleFiles for LocalLeftovers {
    async fn orphans(&self, known: &[VmId]) -> Vec<QemuInstance> {
        let mut unknown: HashSet<String> =
            short_folders(&self.folders.runtime).into_iter().map(|(short, _)| short).collect();
        if unknown.is_empty() {
            return Vec::new();
        }
        // Numbers rather than texts: there may be ten thousand VMs, and a list is to be quick.
        let numbers: HashMap<u64, String> =
            unknown.iter().filter_map(|short| Some((u64::from_str_radix(short, 16).ok()?, short.clone()))).collect();
        for short in known.iter().filter_map(|id| numbers.get(&number(id))) {
            unknown.remove(short);
        }
        unknown.retain(|short| {
            let folder = self.folders.runtime.join(short);
            numbered(&folder, "b").iter().any(|(_, run)| entries(run).next().is_some())
        });
        if unknown.is_empty() {
            return Vec::new();
        }
        let mut machines = self.machines().await;
        machines.retain(|machine| !machine.is_foreign && unknown.contains(&machine.short));
        machines
    }

    async fn machines(&self) -> Vec<QemuInstance> {
        let mut machines = machine::all(&self.folders.runtime);
        for machine in &mut machines {
            machine.started_at = begun(&machine.paths.sockets);
            if let Some(id) = machine.id {
                let records = self.records_of(&id);
                machine.is_foreign = self.is_foreign(&records);
                machine.paths =
                    RunPaths { records: records.join(format!("boot-{}", machine.boot)), ..machine.paths.clone() };
            }
        }
        machines
    }

    async fn traces(&self, beside: &[PathBuf]) -> Vec<StaleFile> {
        let mut traces = self.record_traces();
        let foreign: HashSet<String> = traces
            .iter()
            .filter(|trace| trace.is_foreign)
            .filter_map(
                |trace| if let StaleFileKind::Records { id, .. } = &trace.kind { Some(id.short()) } else { None },
            )
            .collect();
        traces.extend(self.socket_traces(&foreign));
        traces.extend(self.lock_traces(&foreign));
        traces.extend(self.temporaries(beside));
        traces
    }

    async fn remove(&self, trace: &StaleFile) -> Result<(), RemoveError> {
        let removed = match &trace.kind {
            StaleFileKind::Sockets { .. } => remove_sockets(&trace.path),
            StaleFileKind::Records { .. } => fs::remove_dir_all(&trace.path),
            StaleFileKind::Lock { .. } => remove_lock(&trace.path),
            StaleFileKind::Temporary => match fs::symlink_metadata(&trace.path) {
                Ok(found) if found.is_dir() => fs::remove_dir_all(&trace.path),
                Ok(_) => fs::remove_file(&trace.path),
                Err(why) => Err(why),
            },
        };
        match removed {
            Err(why) if why.kind() != io::ErrorKind::NotFound => {
                Err(RemoveError { path: trace.path.clone(), source: why.into() })
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn records_of(&self, id: &VmId) -> PathBuf {
        self.folders.state.join(id.to_string())
    }

    async fn is_readable(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|found| !found.is_dir()) && File::open(path).is_ok()
    }
}

/// Returns the number that the short form of an id is.
fn number(id: &VmId) -> u64 {
    id.bytes().iter().take(6).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Removes the sockets of a run, and its folder and that of its VM if nothing else is in them.
fn remove_sockets(folder: &Path) -> io::Result<()> {
    places::clear(&RunPaths { sockets: folder.to_owned(), records: folder.to_owned() });
    match fs::remove_dir(folder) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(why),
        Ok(()) | Err(_) => {}
    }
    if let Some(vm) = folder.parent() {
        let _may_hold_another_run = fs::remove_dir(vm);
    }
    Ok(())
}

/// Removes a lock that nobody holds.
fn remove_lock(path: &Path) -> io::Result<()> {
    let lock = File::open(path)?;
    lock.try_lock()?;
    // Before the unlock, so that nobody is given the file that goes.
    fs::remove_file(path)
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// Returns the folders of VMs in the runtime folder, with their names: the first twelve digits of an id.
fn short_folders(runtime: &Path) -> Vec<(String, PathBuf)> {
    let is_short = |name: &str| name.len() == 12 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let named = entries(runtime).filter_map(|path| Some((path.file_name()?.to_str()?.to_owned(), path)));
    named.filter(|(name, path)| is_short(name) && path.is_dir()).collect()
}

/// Returns the folders whose name is `prefix` and the number of a boot.
fn numbered(folder: &Path, prefix: &str) -> Vec<(BootNumber, PathBuf)> {
    let number = |path: PathBuf| {
        let digits = path.file_name()?.to_str()?.strip_prefix(prefix)?.to_owned();
        Some((BootNumber(digits.parse().ok()?), path))
    };
    let mut found: Vec<(BootNumber, PathBuf)> = entries(folder).filter_map(number).collect();
    found.sort();
    found
}

/// Returns whether this is a temporary file or folder of the database.
fn is_temporary(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".tmp-"))
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::symlink_metadata(path).and_then(|found| found.modified()).ok()
}

fn is_older(path: &Path, age: Duration) -> bool {
    modified(path).is_some_and(|modified| modified.elapsed().is_ok_and(|elapsed| elapsed > age))
}

/// Returns when the files of a boot were begun: nothing is added to their folder later.
fn begun(folder: &Path) -> Timestamp {
    modified(folder).and_then(|time| Timestamp::try_from(time).ok()).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_number_of_an_id_is_that_of_its_short_form() {
        let id: VmId = "0d9f2ac3-58b1-4c3e-9a5e-2f1f6f0f7a11".parse().unwrap();

        assert_eq!(format!("{:012x}", number(&id)), id.short());
    }
}
