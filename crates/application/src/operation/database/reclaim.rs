//! `database reclaim`: a database that a move left is used again.

use derive_setters::Setters;
use maqet_domain::port::{LockName, StoreError};
use serde::{Deserialize, Serialize};

use super::moving::{lock, use_files_of};
use crate::app::operations::{Done, Effect, Operation};
use crate::{App, Error};

/// Use a database again that was moved to one which is lost
///
/// The database has what it had at the move: an old SQLite file everything, an old PostgreSQL database nothing, so that a
/// backup can be moved to it. It is also the way to use a new database of which the move cannot be finished, as the old one
/// is lost. If the other database exists, move it back instead: two databases must not have the same VMs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct DatabaseReclaim {
    /// Confirm that the other database is lost: if it is not, both start the same VMs and destroy their disks
    #[cfg_attr(feature = "clap", arg(short, long))]
    pub force: bool,
}

impl DatabaseReclaim {
    /// Uses a database again whose other one is lost.
    pub fn new() -> Self {
        Self::default()
    }
}

/// A database that is used again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DatabaseReclaimed {
    /// Its URL, without secrets.
    pub location: String,
    /// The URL of the database that is lost, without secrets; `None` if the database was in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<String>,
    /// The number of VMs.
    pub vms: usize,
}

impl Operation for DatabaseReclaim {
    const NAME: &'static str = "database.reclaim";
    const EFFECT: Effect = Effect::Acts;
    type Output = DatabaseReclaimed;

    async fn run(&self, app: &App) -> Result<Done<DatabaseReclaimed>, Error> {
        let databases = &app.ports.databases;
        let current = databases.current()?;
        let _one_at_a_time = app.ports.locks.lock(&LockName::Move, Self::NAME, app.timeouts().lock).await?;
        let _of_all_processes = lock(app, &current, Self::NAME).await?;
        let location = current.transfer.url();
        let mark = current.transfer.mark().await?;
        let lost = mark.as_ref().map(|mark| mark.url().to_owned());
        if let (Some(mark), Some(other)) = (mark, &lost) {
            if !self.force {
                return Err(StoreError::ReclaimRefused { location, other: other.clone() }.into());
            }
            // Only its name is needed: it cannot be opened.
            let other = databases.find(other).await?;
            use_files_of(app, Self::NAME, &other.name, &current.name).await?;
            current.transfer.clear_mark(mark).await?;
        }
        let vms = current.transfer.export(None).await?.vms.len();
        Ok(Done::reading(DatabaseReclaimed { location, lost, vms }))
    }
}
