//! The port [`StoreMaintenance`]: a database looked at as a whole, backed up, and built anew from what is left of it.

pub(crate) mod backup;
mod examine;
mod mend;
mod salvage;

use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use async_trait::async_trait;
use maqet_domain::port::{KeptVm, RepairReport, StoreError, StoreHealth, StoreMaintenance};
use tokio::sync::oneshot;

/// The folder of backups, beside the database.
pub(crate) const BACKUPS: &str = "backups";

/// Looks after the database at a path; needs no store that can be opened.
#[derive(Debug, Clone)]
pub struct SqliteCare {
    path: PathBuf,
    backups: PathBuf,
}

impl SqliteCare {
    /// Looks after the database at `path`; its backups go into the folder `backups` beside it.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self { backups: path.with_file_name(BACKUPS), path }
    }
}

#[async_trait]
impl StoreMaintenance for SqliteCare {
    fn place(&self) -> PathBuf {
        self.path.clone()
    }

    fn is_absent(&self) -> bool {
        // What cannot be looked at is there, and opening it will say what is wrong.
        matches!(std::fs::symlink_metadata(&self.path), Err(error) if error.kind() == io::ErrorKind::NotFound)
    }

    async fn examine(&self) -> Result<Option<StoreHealth>, StoreError> {
        let path = self.path.clone();
        apart("examine the database", move || examine::examine(&path)).await
    }

    async fn backup(&self) -> Result<PathBuf, StoreError> {
        let (path, backups) = (self.path.clone(), self.backups.clone());
        apart("back the database up", move || backup::of_sound(&path, &backups)).await
    }

    async fn newest_backup(&self) -> Option<PathBuf> {
        backup::newest(&self.backups)
    }

    async fn mend(&self, known: Vec<KeptVm>) -> Result<RepairReport, StoreError> {
        let (path, backups) = (self.path.clone(), self.backups.clone());
        apart("repair the database", move || mend::mend(&path, &backups, &known)).await
    }
}

/// Does `work`, which takes its time, on a thread of its own.
async fn apart<T: Send + 'static>(
    action: &'static str,
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let failed = |source: io::Error| StoreError::Failed { action, source: source.into() };
    let (reply, answer) = oneshot::channel();
    let begun = thread::Builder::new().name("maqet-care".to_owned()).spawn(move || {
        // Who asked may have gone in the meantime.
        let _unheard = reply.send(work());
    });
    begun.map_err(failed)?;
    answer.await.map_err(|_| failed(io::Error::other("the work ended early")))?
}

/// Returns the path of a file that SQLite keeps beside a database.
fn beside(database: &Path, ending: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}
