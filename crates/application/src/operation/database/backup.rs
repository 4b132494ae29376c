//! `database backup`: copies the database while it is used.

use std::path::PathBuf;

use derive_setters::Setters;
use maqet_domain::port::StoreError;
use serde::{Deserialize, Serialize};

use crate::app::operations::{Done, Effect, Operation};
use crate::app::shown;
use crate::{App, Error};

/// Back up the database
///
/// The copy is complete and consistent, although other commands may use the database meanwhile; it can be used with
/// `--database FILE`. Disks are not part of it. Without a file, the copy is one of the ten that are kept in the data
/// directory. Of a PostgreSQL database, the copy has what this user has on this host, as an SQLite file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct DatabaseBackup {
    /// The file to create, which must not exist
    #[setters(strip_option)]
    pub file: Option<PathBuf>,
}

impl DatabaseBackup {
    /// Backs up the database to the data directory.
    pub fn new() -> Self {
        Self::default()
    }
}

/// A backup of the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DatabaseBackedUp {
    /// The file.
    pub file: String,
}

impl Operation for DatabaseBackup {
    const NAME: &'static str = "database.backup";
    const EFFECT: Effect = Effect::Acts;
    type Output = DatabaseBackedUp;

    async fn run(&self, app: &App) -> Result<Done<DatabaseBackedUp>, Error> {
        let store = &app.ports.maintenance.store;
        let made = match &self.file {
            Some(file) => store.backup_to(file.clone()).await.map(|()| file.clone()),
            None => store.backup().await,
        };
        let file = match made {
            // Of a server, which has tools for the whole of it.
            Err(StoreError::BackupUnsupported { .. }) => {
                let databases = &app.ports.databases;
                let content = databases.current()?.transfer.export(None).await?;
                databases.back_up(content, self.file.clone()).await?
            }
            made => made?,
        };
        Ok(Done::reading(DatabaseBackedUp { file: shown(&file) }))
    }
}
