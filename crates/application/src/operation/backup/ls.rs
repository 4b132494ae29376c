//! `backup ls`: the backups of a VM.

use std::path::PathBuf;

use derive_setters::Setters;
use serde::{Deserialize, Serialize};

use super::{BackupInfo, UnreadableBackup};
use crate::app::operations::{Done, Effect, Operation};
use crate::app::shown;
use crate::backup::place::{Place, find_vm};
use crate::{App, Error};

/// List the backups of a VM, oldest first
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct BackupLs {
    /// The VM: a name, an ID, or a unique prefix of an ID; the name of a removed one
    pub vm: String,
    /// The directory of the backups, in which each VM has its own [default: `backups` in the data directory]
    #[cfg_attr(feature = "clap", arg(long, value_name = "DIRECTORY"))]
    #[setters(strip_option)]
    pub from: Option<PathBuf>,
}

impl BackupLs {
    /// Lists the backups of the VM `vm`.
    pub fn new(vm: impl Into<String>) -> Self {
        Self { vm: vm.into(), from: None }
    }
}

/// The backups of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BackupList {
    /// The directory of the VM's backups.
    pub directory: String,
    /// The backups, oldest first.
    pub backups: Vec<BackupInfo>,
    /// Directories that are named as backups and have no valid record of it.
    pub unreadable: Vec<UnreadableBackup>,
}

impl Operation for BackupLs {
    const NAME: &'static str = "backup.ls";
    const EFFECT: Effect = Effect::Reads;
    type Output = BackupList;

    async fn run(&self, app: &App) -> Result<Done<BackupList>, Error> {
        let (name, vm) = find_vm(app, &self.vm).await?;
        let place = Place::read(app, &name, self.from.as_deref()).await?;
        if vm.is_none() && place.catalog.backups().is_empty() && place.unreadable.is_empty() {
            // Nothing of it is left.
            app.vms().find(&self.vm).await?;
        }
        let unreadable =
            |(path, problem): &(PathBuf, String)| UnreadableBackup { directory: shown(path), problem: problem.clone() };
        Ok(Done::reading(BackupList {
            directory: shown(&place.directory),
            backups: place.catalog.backups().iter().map(|backup| BackupInfo::new(backup, &place.catalog)).collect(),
            unreadable: place.unreadable.iter().map(unreadable).collect(),
        }))
    }
}
