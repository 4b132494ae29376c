//! `rm`: removes a VM's definition.

use std::path::{Path, PathBuf};

use crate::history::require_expected;
use derive_setters::Setters;
use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::event::kind;
use maqet_domain::history::{Direction, Expected, ExpectedImage};
use maqet_domain::port::Guard;
use maqet_domain::revert::{RemovedVm, Revert, StoredDefinition};
use maqet_domain::vm::{Action, ProcessIdentity, Run, Vm, VmId};
use maqet_fault_points::FaultPoint;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Add;
use crate::app::operations::{Done, Effect, MovedStorage, Operation, RemovedVmFiles};
use crate::app::shown;
use crate::backup::place::Place;
use crate::checkpoint::layers::refuse_checkpoints;
use crate::operation::StorageTrashRestore;
use crate::storage::lock::lock_images;
use crate::throw_away::last_lock;
use crate::trash::entries::{TrashInfo, lock_trash};
use crate::trash::moving::{Trashed, move_to_trash};
use crate::trash::own_images::{OwnImage, own_images, own_records, refuse_used, require_unlocked};
use crate::{App, Error};

/// Removes a VM; its disks are kept, unless they are to be moved to the trash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Setters)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct Rm {
    /// The VM: a name, an ID, or a unique prefix of an ID.
    pub vm: String,
    /// Kills QEMU first, if it is running.
    #[serde(default)]
    pub force: bool,
    /// Moves the images that maqet created for it to the trash.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub delete_storage: bool,
    /// What it has in addition if it reverts a change; `undo` sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[setters(skip)]
    pub revert: Option<Box<Revert>>,
}

impl Rm {
    /// Removes the VM `vm`.
    pub fn new(vm: impl Into<String>) -> Self {
        Self { vm: vm.into(), force: false, delete_storage: false, revert: None }
    }

    /// Removes a VM again that another change defined.
    pub(crate) fn reverting(vm: VmId, expected: Expected) -> Self {
        Self { revert: Some(Box::new(Revert::new(expected))), ..Self::new(vm.to_string()) }
    }
}

/// A VM that was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Removed {
    /// Its ID.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Disks and UEFI variable stores that maqet created for it and that still exist.
    pub kept_storage: Vec<String>,
    /// The entry of the trash with its images, if they were moved there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trash: Option<TrashInfo>,
    /// Its backups in the data directory, which stay, if its images were moved to the trash.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backups: Option<RemainingBackups>,
}

/// The backups of a VM that was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RemainingBackups {
    /// The directory that they are in.
    pub directory: String,
    /// Their names, the oldest first; also those of directories that have no valid record of a backup.
    pub names: Vec<String>,
}

impl Operation for Rm {
    const NAME: &'static str = "rm";
    const EFFECT: Effect = Effect::Changes;
    type Output = Removed;

    fn revert(&self) -> Option<&Revert> {
        self.revert.as_deref()
    }

    async fn run(&self, app: &App) -> Result<Done<Removed>, Error> {
        let vms = app.vms();
        let locked = vms.lock_unrecovered(&self.vm, Self::NAME, app.timeouts().lock).await;
        let (mut guard, mut vm) = locked.map_err(|error| error.offering_force(&self.vm))?;
        match vms.recover(vm.clone(), &*guard).await {
            Ok(recovered) => vm = recovered,
            Err(error) if self.force => tracing::warn!(vm = %vm.entry.name, %error, "removing it all the same"),
            Err(error) => return Err(error),
        }
        require_expected(app, self.revert.as_deref(), Some(&vm)).await?;
        refuse_checkpoints(app, &vm.entry).await?;
        let observation = app.observer().observe_locked(&vm.entry).await;
        if !self.force {
            observation.transition(&vm.entry, Action::Remove)?;
        }
        let images = if self.delete_storage { self.images(app, &vm).await? } else { Vec::new() };
        if !images.is_empty() {
            refuse_used(app, &vm, &images).await?;
        }
        if let Some(process) = &observation.process {
            let hidden = || Error::ProcessHidden { vm: vm.entry.name.clone(), is_forced: true };
            let process = process.visible().ok_or_else(hidden)?;
            require_free_of_others(app, &vm, &images, process).await?;
            // A VM that cannot be removed, as on a full disk, is not killed.
            vm.entry = app.committer().record_run(&vm.entry, vm.entry.run.clone()).await?;
            app.shutdown().kill(&vm.entry.name, process).await?;
            app.faults.reach(FaultPoint::RmKilled);
        }
        let mut guards = Vec::from_iter(last_lock(app, &vm, Self::NAME).await);
        let (trashed, kept) = if self.delete_storage {
            trash_images(app, &vm, images, &mut guards).await?
        } else {
            (None, own_records(app, &vm).await?.into_iter().map(|record| record.path).collect())
        };
        let backups = if self.delete_storage { remaining_backups(app, &vm).await } else { None };
        guard.retire();
        let mut done = remove(app, vm, trashed, &kept).await?;
        done.value.backups = backups;
        // The locks of the images are released before that of the VM.
        let done = guards.into_iter().fold(done, Done::holding);
        Ok(done.holding(guard))
    }
}

impl Rm {
    /// Returns the images that are moved to the trash.
    ///
    /// An undo of `add` leaves those that an earlier VM of the name left, and that this one took over.
    async fn images(&self, app: &App, vm: &Vm) -> Result<Vec<OwnImage>, Error> {
        let mut images = own_images(app, vm).await?;
        let reverted = self.revert.as_ref().and_then(|revert| revert.entry);
        if reverted.is_some_and(|entry| entry.direction == Direction::Undo) {
            images.retain(|image| image.record.created_at >= vm.entry.created_at);
        }
        Ok(images)
    }
}

/// Refuses images that a process has open; not those that QEMU has, which is about to be killed.
async fn require_free_of_others(app: &App, vm: &Vm, images: &[OwnImage], qemu: &ProcessIdentity) -> Result<(), Error> {
    for image in images {
        let user = app.ports.images.user(&image.record.path).await;
        if user.is_none_or(|user| user.pid != qemu.pid) {
            require_unlocked(app, vm, std::slice::from_ref(image)).await?;
        }
    }
    Ok(())
}

/// Moves the images of a VM to the trash; returns what was moved, and what is kept because it is no regular file.
///
/// The locks are held until the VM is removed.
async fn trash_images(
    app: &App,
    vm: &Vm,
    images: Vec<OwnImage>,
    guards: &mut Vec<Box<dyn Guard>>,
) -> Result<(Option<Trashed>, Vec<PathBuf>), Error> {
    if images.is_empty() {
        return Ok((None, Vec::new()));
    }
    let paths: Vec<PathBuf> = images.iter().map(|image| image.record.path.clone()).collect();
    guards.extend(lock_images(app, paths.iter().map(PathBuf::as_path), Rm::NAME).await?);
    require_unlocked(app, vm, &images).await?;
    guards.push(lock_trash(app, Rm::NAME).await?);
    move_to_trash(app, vm, images, Rm::NAME).await
}

/// Returns what is to be written to remove a VM whose images were moved, except for those at the paths `kept`.
async fn remove(app: &App, vm: Vm, trashed: Option<Trashed>, kept: &[PathBuf]) -> Result<Done<Removed>, Error> {
    let trash = match &trashed {
        Some(trashed) => Some(TrashInfo::new(app, &trashed.entry).await),
        None => None,
    };
    // An entry that was moved from is at another revision.
    let entry = trashed.as_ref().map_or(&vm.entry, |trashed| &trashed.vm);
    let removed = Removed {
        id: entry.id.to_string(),
        name: entry.name.to_string(),
        kept_storage: kept.iter().map(|path| shown(path)).collect(),
        trash,
        backups: None,
    };
    let files =
        RemovedVmFiles { sockets: app.folders.vm_sockets(&entry.id), records: app.folders.vm_records(&entry.id) };
    let mut data = json!({ "kept_storage": removed.kept_storage });
    if let Some(trash) = &removed.trash {
        data["trash"] = json!(trash.entry);
    }
    let event = app.committer().event(kind::VM_REMOVED, entry, data);
    let changes = ChangeSet::default().and(Change::VmRemoved { id: entry.id, expected: entry.revision });
    let done = Done::changing(removed, entry.id, changes).event(event).removed_files(files);
    Ok(match trashed {
        None => done.undone_by(&add_again(app, &vm).await?),
        Some(trashed) => done
            .undone_by(&StorageTrashRestore::reverting(&trashed.entry))
            .moved_storage(MovedStorage::Trashed(Box::new(trashed))),
    })
}

/// Returns the backups of a VM; a directory that cannot be read does not keep the VM.
async fn remaining_backups(app: &App, vm: &Vm) -> Option<RemainingBackups> {
    let place = match Place::read(app, &vm.entry.name, None).await {
        Ok(place) => place,
        Err(error) => {
            tracing::warn!(vm = %vm.entry.name, %error, "could not find out which backups there are");
            return None;
        }
    };
    let mut names: Vec<String> =
        place.catalog.backups().iter().map(|backup| backup.manifest.name.to_string()).collect();
    names.extend(place.unreadable.iter().filter_map(|(path, _)| path.file_name().map(|name| shown(Path::new(name)))));
    names.sort();
    let directory = shown(&place.directory);
    (!names.is_empty()).then_some(RemainingBackups { directory, names })
}

/// Returns the call that defines a removed VM again, with its ID and the records of its images.
async fn add_again(app: &App, vm: &Vm) -> Result<Add, Error> {
    let entry = &vm.entry;
    let storage = app.ports.store.storage_of_vm(&entry.id).await?;
    let mut expected = Expected { free_name: Some(entry.name.clone()), ..Expected::default() };
    for record in &storage {
        if app.ports.images.exists(&record.path).await {
            expected.images.push(ExpectedImage::new(record.path.clone()));
        }
    }
    let removed = RemovedVm {
        id: entry.id,
        name: entry.name.clone(),
        created_at: entry.created_at,
        run: entry.run.clone().map(Run::ended_by_removal),
        storage,
        snapshots: app.ports.store.snapshots_of_vm(&entry.id).await?,
    };
    let definition = Some(StoredDefinition { definition: vm.definition.clone(), origins: vm.origins.clone() });
    let revert = Revert { definition, removed: Some(Box::new(removed)), ..Revert::new(expected) };
    Ok(Add { revert: Some(Box::new(revert)), ..Add::default() })
}
