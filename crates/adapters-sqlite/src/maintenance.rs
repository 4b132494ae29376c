//! The port [`StoreMaintenance`]: checks, backs up and repairs a database as a whole.

mod check;
mod missing;
mod repair;
mod salvage;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use async_trait::async_trait;
use maqet_domain::port::{RepairReport, StoreError, StoreHealth, StoreMaintenance, VmCopy, VmPresence};
use maqet_domain::vm::VmId;
use tokio::sync::oneshot;

use crate::database::{LazyDatabase, Reader};
use crate::path::{DatabasePath, Presence};
use crate::retry::retry_while_busy;
use crate::{backup, limits};

/// Maintains the database at a path; also one that cannot be opened.
///
/// Backups go into the folder `backups` beside it.
#[derive(Debug, Clone)]
pub struct SqliteMaintenance {
    path: PathBuf,
    /// The database as a store has it open, if it belongs to one.
    store: Option<Arc<Mutex<LazyDatabase>>>,
}

impl SqliteMaintenance {
    /// Maintains the database at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), store: None }
    }

    /// Maintains the database of a store.
    pub(crate) const fn from_store(path: PathBuf, database: Arc<Mutex<LazyDatabase>>) -> Self {
        Self { path, store: Some(database) }
    }
}

#[async_trait]
impl StoreMaintenance for SqliteMaintenance {
    fn location(&self) -> String {
        self.path.display().to_string()
    }

    async fn check(&self) -> Result<Option<StoreHealth>, StoreError> {
        let path = self.path.clone();
        on_own_thread("check the database", move || check::check(&path)).await
    }

    async fn backup(&self) -> Result<PathBuf, StoreError> {
        let path = self.path.clone();
        on_own_thread("back up the database", move || back_up(&path)).await
    }

    async fn backup_to(&self, file: PathBuf) -> Result<(), StoreError> {
        let path = self.path.clone();
        on_own_thread("back up the database", move || {
            let (path, reader) = open_to_back_up(&path)?;
            backup::create_at(&path, &reader.connection, &file)
        })
        .await
    }

    async fn newest_backup(&self) -> Option<PathBuf> {
        backup::newest(&self.path)
    }

    async fn repair(&self, known: Vec<VmCopy>) -> Result<RepairReport, StoreError> {
        let (path, store) = (self.path.clone(), self.store.clone());
        on_own_thread("repair the database", move || {
            // The store is closed and waits while its file is replaced.
            let mut store = store.as_ref().map(|store| store.lock().unwrap_or_else(PoisonError::into_inner));
            if let Some(store) = &mut store {
                store.close();
            }
            repair::repair(&path, &known)
        })
        .await
    }

    async fn presence(&self, vms: Vec<VmId>) -> Result<Vec<VmPresence>, StoreError> {
        let path = self.path.clone();
        on_own_thread("look for VMs", move || missing::presence(&path, &vms)).await
    }

    async fn add_missing(&self, missing: Vec<VmCopy>) -> Result<RepairReport, StoreError> {
        let path = self.path.clone();
        on_own_thread("add VMs", move || missing::add(&path, missing)).await
    }
}

fn back_up(path: &Path) -> Result<PathBuf, StoreError> {
    let (path, reader) = open_to_back_up(path)?;
    backup::create(&path, &reader.connection)
}

fn open_to_back_up(path: &Path) -> Result<(DatabasePath, Reader), StoreError> {
    let path = DatabasePath::resolve(path)?;
    if path.presence()? == Presence::Absent {
        return Err(path.io_error(io::ErrorKind::NotFound.into()));
    }
    let reader = retry_while_busy(limits::BUSY_TIMEOUT, || Reader::open(&path));
    let reader = reader.map_err(|error| path.sqlite_error("back up the database", error))?;
    if let Some(mark) = reader.found.mark() {
        return Err(path.marked(mark));
    }
    Ok((path, reader))
}

/// Runs `work`, which blocks, on a thread of its own.
pub(crate) async fn on_own_thread<T: Send + 'static>(
    action: &'static str,
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let failed = |source: io::Error| StoreError::Failed { action, source: source.into() };
    let (reply, result) = oneshot::channel();
    let spawned = thread::Builder::new().name("maqet-maintenance".to_owned()).spawn(move || {
        // The caller may have stopped waiting.
        let _ = reply.send(work());
    });
    spawned.map_err(failed)?;
    result.await.map_err(|_| failed(io::Error::other("the thread has panicked")))?
}
