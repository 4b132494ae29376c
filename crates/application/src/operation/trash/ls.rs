//! `storage trash ls`: lists the trash.

use serde::{Deserialize, Serialize};

use crate::app::operations::{Done, Effect, Operation};
use crate::trash::entries::{TrashInfo, complete_entries};
use crate::{App, Error};

/// List the images of removed VMs
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct StorageTrashLs {}

impl StorageTrashLs {
    /// Lists the trash, oldest entries first.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Operation for StorageTrashLs {
    const NAME: &'static str = "storage.trash.ls";
    const EFFECT: Effect = Effect::Reads;
    type Output = Vec<TrashInfo>;

    async fn run(&self, app: &App) -> Result<Done<Vec<TrashInfo>>, Error> {
        let mut found = Vec::new();
        for entry in complete_entries(app).await? {
            found.push(TrashInfo::new(app, &entry).await);
        }
        Ok(Done::reading(found))
    }
}
