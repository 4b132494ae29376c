//! `backup rm`: removes backups.

use std::path::PathBuf;

use derive_setters::Setters;
use maqet_domain::backup::BackupName;
use maqet_domain::change::ChangeSet;
use maqet_domain::event::kind;
use maqet_fault_points::FaultPoint;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::app::operations::{Done, Effect, Operation};
use crate::backup::error::BackupError;
use crate::backup::place::{Place, find_vm};
use crate::{App, Error};

/// Remove backups
///
/// A backup that others build on is only removed together with them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct BackupRm {
    /// The VM: a name, an ID, or a unique prefix of an ID; the name of a removed one
    pub vm: String,
    /// The backups
    #[cfg_attr(feature = "clap", arg(required = true, value_name = "BACKUP"))]
    pub backups: Vec<String>,
    /// Remove the backups that build on them, too
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long))]
    pub dependents: bool,
    /// The directory of the backups, in which each VM has its own [default: `backups` in the data directory]
    #[cfg_attr(feature = "clap", arg(long, value_name = "DIRECTORY"))]
    #[setters(strip_option)]
    pub from: Option<PathBuf>,
}

impl BackupRm {
    /// Removes these backups of the VM `vm`.
    pub fn new<B: Into<String>>(vm: impl Into<String>, backups: impl IntoIterator<Item = B>) -> Self {
        let backups = backups.into_iter().map(Into::into).collect();
        Self { vm: vm.into(), backups, dependents: false, from: None }
    }
}

/// Backups that were removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BackupRemoved {
    /// The VM's name.
    pub name: String,
    /// The backups, in the order they were removed.
    pub removed: Vec<String>,
    /// How long their images were, in bytes.
    pub bytes: u64,
}

impl Operation for BackupRm {
    const NAME: &'static str = "backup.rm";
    const EFFECT: Effect = Effect::Notes;
    type Output = BackupRemoved;

    async fn run(&self, app: &App) -> Result<Done<BackupRemoved>, Error> {
        let (name, vm) = find_vm(app, &self.vm).await?;
        let place = Place::read(app, &name, self.from.as_deref()).await?;
        let (guard, place) = place.lock(app, Self::NAME).await?;
        let mut names: Vec<BackupName> = Vec::new();
        for backup in &self.backups {
            let name = &place.find(backup)?.manifest.name;
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        let dependents = place.catalog.dependents(&names);
        if !dependents.is_empty() && !self.dependents {
            return Err(BackupError::InUse { vm: name, names, dependents }.into());
        }

        let mut removed = BackupRemoved { name: name.to_string(), removed: Vec::new(), bytes: 0 };
        names.extend(dependents);
        // What is left after an interruption builds on nothing that is gone.
        for backup in place.catalog.removal_order(&names) {
            let manifest = &backup.manifest;
            app.ports.backups.remove(&backup.directory).await?;
            app.faults.reach(FaultPoint::BackupRemoved);
            removed.removed.push(manifest.name.to_string());
            removed.bytes += manifest.drives.iter().map(|drive| drive.file_bytes).sum::<u64>();
        }
        let data = json!({ "names": removed.removed });
        Ok(match vm {
            Some(vm) => {
                let event = app.committer().event(kind::BACKUP_REMOVED, &vm.entry, data);
                Done::changing(removed, vm.entry.id, ChangeSet::default()).event(event).holding(guard)
            }
            None => Done::reading(removed).holding(guard),
        })
    }
}
