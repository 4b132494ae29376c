//! `database check`: checks the whole database without changing it.

use derive_setters::Setters;
use maqet_domain::port::{StoreError, StoreHealth};
use serde::{Deserialize, Serialize};

use crate::app::operations::{Done, Effect, Operation};
use crate::app::shown;
use crate::{App, Error};

/// Check the whole database
///
/// Reads every page and every VM, and compares the VMs with the copies of their definitions. Nothing is changed; `maqet
/// doctor --fix` repairs what is found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct DatabaseCheck {}

impl DatabaseCheck {
    /// Checks the database.
    pub fn new() -> Self {
        Self::default()
    }
}

/// A database that is not damaged.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DatabaseState {
    /// Where it is: a path, or a URL without secrets.
    pub location: String,
    /// Whether it exists; the first command that uses it creates it.
    pub exists: bool,
    /// The version of its schema.
    pub schema: Option<i64>,
    /// The newest version of the schema, to which the next command migrates it.
    pub newest_schema: Option<i64>,
    /// The number of VMs of this user and host.
    pub vms: Option<u64>,
    /// Its size, in bytes.
    pub bytes: Option<u64>,
    /// Why it cannot be written to, if so.
    pub unwritable: Option<String>,
    /// The names of VMs that it lacks although there are copies of their definitions.
    pub missing: Vec<String>,
    /// The newest backup in the data directory.
    pub newest_backup: Option<String>,
}

impl DatabaseState {
    /// Returns whether nothing needs a repair.
    pub fn is_healthy(&self) -> bool {
        self.unwritable.is_none() && self.missing.is_empty()
    }
}

impl Operation for DatabaseCheck {
    const NAME: &'static str = "database.check";
    const EFFECT: Effect = Effect::Reads;
    type Output = DatabaseState;

    async fn run(&self, app: &App) -> Result<Done<DatabaseState>, Error> {
        let maintenance = &app.ports.maintenance;
        let health = maintenance.store.check().await?;
        let missing = if health.is_some() {
            maintenance.missing_vms().await?
        } else {
            // What was lost with the file is what the copies hold.
            let known = maintenance.copies.all().await;
            // Without a copy, other hosts may have VMs in a database that was used here.
            if known.is_empty() && maintenance.copies.database_id().await.is_some() {
                return Err(StoreError::NotFound { location: maintenance.store.location(), vms: 0 }.into());
            }
            known
        };
        let missing = missing.iter().map(|copy| copy.vm.entry.name.to_string()).collect();
        let newest_backup = maintenance.store.newest_backup().await.map(|path| shown(&path));
        let fact = |fact: fn(&StoreHealth) -> i64| health.as_ref().map(fact);
        Ok(Done::reading(DatabaseState {
            location: maintenance.store.location(),
            exists: health.is_some(),
            schema: fact(|health| health.schema),
            newest_schema: fact(|health| health.newest_schema),
            vms: health.as_ref().map(|health| health.vms),
            bytes: health.as_ref().map(|health| health.bytes),
            unwritable: health.and_then(|health| health.unwritable),
            missing,
            newest_backup,
        }))
    }
}
