//! `backup restore`: puts the images of a backup in place of the disks, or in a directory.

use std::path::{Path, PathBuf};

use derive_setters::Setters;
use maqet_domain::backup::FoundBackup;
use maqet_domain::change::ChangeSet;
use maqet_domain::event::kind;
use maqet_domain::history::Irreversible;
use maqet_domain::port::ImageFile;
use maqet_domain::vm::Action;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::app::commit::work_done;
use crate::app::operations::{Done, Effect, Operation};
use crate::app::shown;
use crate::backup::drive::BackupDrives;
use crate::backup::place::{Place, find_vm};
use crate::backup::restore::{self, Restore};
use crate::checkpoint::layers::refuse_layers;
use crate::start::drives::images_used_by;
use crate::storage::lock::lock_images;
use crate::{App, Error, HumanDuration};

/// Restore disks from a backup
///
/// The disks of a VM that is not running become what they were. They are replaced once all are copied, and their
/// snapshots are gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct BackupRestore {
    /// The VM: a name, an ID, or a unique prefix of an ID; with `--output`, the name of a removed one
    pub vm: String,
    /// The backup, or `latest`
    pub backup: String,
    /// Restore only this drive
    #[setters(strip_option)]
    pub drive: Option<String>,
    /// Write the images to this directory, which is created if it is missing, and leave the VM as it is
    #[cfg_attr(feature = "clap", arg(short, long, value_name = "DIRECTORY"))]
    #[setters(strip_option)]
    pub output: Option<PathBuf>,
    /// The directory of the backups, in which each VM has its own [default: `backups` in the data directory]
    #[cfg_attr(feature = "clap", arg(long, value_name = "DIRECTORY"))]
    #[setters(strip_option)]
    pub from: Option<PathBuf>,
    /// Timeout, after which the disks are as they were [default: none]
    #[cfg_attr(feature = "clap", arg(long, value_name = "DURATION"))]
    pub timeout: Option<HumanDuration>,
}

impl BackupRestore {
    /// Restores all disks of the VM `vm` from a backup.
    pub fn new(vm: impl Into<String>, backup: impl Into<String>) -> Self {
        Self { vm: vm.into(), backup: backup.into(), drive: None, output: None, from: None, timeout: None }
    }
}

/// Disks that were restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BackupRestored {
    /// The VM's name.
    pub name: String,
    /// The backup.
    pub backup: String,
    /// The drives.
    pub drives: Vec<RestoredDrive>,
}

/// A drive that was restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RestoredDrive {
    /// Its name.
    pub drive: String,
    /// The image that was written.
    pub file: String,
}

impl BackupRestored {
    fn new(place: &Place, backup: &FoundBackup, restores: &[Restore]) -> Self {
        let drive = |restore: &Restore| RestoredDrive { drive: restore.drive.clone(), file: shown(&restore.to.path) };
        Self {
            name: place.vm.to_string(),
            backup: backup.manifest.name.to_string(),
            drives: restores.iter().map(drive).collect(),
        }
    }
}

impl Operation for BackupRestore {
    const NAME: &'static str = "backup.restore";
    const EFFECT: Effect = Effect::Changes;
    type Output = BackupRestored;

    fn irreversible(&self) -> Option<Irreversible> {
        Some(Irreversible::ImageReplaced)
    }

    async fn run(&self, app: &App) -> Result<Done<BackupRestored>, Error> {
        match &self.output {
            Some(output) => Box::pin(self.restore_to(app, output)).await,
            None => Box::pin(self.restore_vm(app)).await,
        }
    }
}

impl BackupRestore {
    /// Writes the images to a directory.
    async fn restore_to(&self, app: &App, output: &Path) -> Result<Done<BackupRestored>, Error> {
        let (name, _) = find_vm(app, &self.vm).await?;
        let place = Place::read(app, &name, self.from.as_deref()).await?;
        let (guard, place) = place.lock(app, Self::NAME).await?;
        let backup = place.find(&self.backup)?;
        let selected = restore::select(&place, backup, self.drive.as_deref())?;
        let restores: Vec<Restore> = selected
            .into_iter()
            .map(|(drive, from, virtual_bytes)| {
                let path = output.join(format!("{drive}.qcow2"));
                let to = ImageFile { path: path.clone(), format: "qcow2".to_owned() };
                Restore { drive: drive.to_owned(), from, disk: path, to, virtual_bytes }
            })
            .collect();
        if !app.ports.images.exists(output).await {
            app.ports.backups.begin(output).await?;
        }
        let job = app.jobs.start(Self::NAME, &name).within(self.timeout);
        for copied in restore::copy(app, &job, &restores, &*guard).await? {
            copied.put_in_place()?;
        }
        Ok(Done::reading(BackupRestored::new(&place, backup, &restores)).holding(guard))
    }

    /// Replaces the disks of a VM.
    async fn restore_vm(&self, app: &App) -> Result<Done<BackupRestored>, Error> {
        let (guard, vm) = app.vms().lock(&self.vm, Self::NAME).await?;
        let entry = &vm.entry;
        app.observer().observe_locked(entry).await.transition(entry, Action::ChangeDisks)?;
        let machine = app.machine(&vm)?;
        let place = Place::read(app, &entry.name, self.from.as_deref()).await?;
        let (place_guard, place) = place.lock(app, Self::NAME).await?;
        let backup = place.find(&self.backup)?;
        let selected = restore::select(&place, backup, self.drive.as_deref())?;
        for (drive, _, _) in &selected {
            refuse_layers(app, entry, Some(drive)).await?;
        }
        let disks = BackupDrives::of(app, &entry.name, &machine).await?.disks;
        let restores = restore::to_disks(app, selected, &disks, &backup.manifest.name, entry).await?;
        let paths: Vec<&Path> = restores.iter().map(|restore| &*restore.to.path).collect();
        let mut guards = lock_images(app, paths, Self::NAME).await?;
        guards.push(place_guard);
        restore::refuse_used(app, entry, &restores).await?;
        restore::require_unlocked(app, entry, &restores).await?;

        let job = app.jobs.start(Self::NAME, &entry.name).within(self.timeout);
        let copied = restore::copy(app, &job, &restores, &*guard).await?;
        let entry = restore::replace(app, entry, Self::NAME, &restores, copied).await?;
        let mut changes = ChangeSet::default().and(work_done(&entry));
        changes.changes.extend(images_used_by(app, &vm).await);
        let value = BackupRestored::new(&place, backup, &restores);
        let data = json!({ "name": value.backup, "drives": value.drives });
        let event = app.committer().event(kind::BACKUP_RESTORED, &entry, data);
        let done = Done::changing(value, entry.id, changes).event(event);
        Ok(guards.into_iter().fold(done.holding(guard), Done::holding))
    }
}
