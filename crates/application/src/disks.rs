//! Disks of a VM: found by name, made when they are missing.

use std::path::PathBuf;

use maqet_domain::change::{Change, ChangeSet, StorageRecord};
use maqet_domain::event::kind;
use maqet_domain::machine::Machine;
use maqet_domain::port::{ImageError, PathKind};
use maqet_domain::storage::{ImagePlan, Preparation, StorageSpec};
use maqet_domain::vm::VmEntry;
use serde_json::json;

use crate::app::shown;
use crate::{App, Error};

impl App {
    /// Makes sure that every disk of the machine is there.
    pub(crate) async fn prepare_disks(&self, entry: &VmEntry, machine: &Machine) -> Result<(), Error> {
        for storage in &machine.storage {
            self.prepare_disk(entry, storage).await?;
        }
        Ok(())
    }

    /// Makes sure that a disk is there, and writes down that we made it if we did.
    pub(crate) async fn prepare_disk(&self, entry: &VmEntry, storage: &StorageSpec) -> Result<(), Error> {
        let path = storage.path(&self.vm_storage(&entry.name));
        let plan = match storage.driver.preparation(storage, &path) {
            Preparation::Nothing => return Ok(()),
            Preparation::Existing(path) if self.ports.images.exists(&path).await => return Ok(()),
            Preparation::Existing(path) => return Err(ImageError::Missing { path }.into()),
            Preparation::Folder(path) => return self.require_folder(path).await,
            Preparation::Image(plan) => plan,
        };
        if self.ports.images.exists(&plan.path).await {
            // A disk in the VM's own folder is ours, whoever made it: a VM of this name before, or one killed half-way.
            return if storage.file.is_none() { self.adopt(entry, storage, &plan).await } else { Ok(()) };
        }
        if let Some(backing) = &plan.backing
            && !self.ports.images.exists(&backing.file).await
        {
            return Err(ImageError::BackingMissing { path: backing.file.clone() }.into());
        }
        self.ports.images.create(&plan).await?;

        let record = self.storage_record(entry, storage, &plan);
        let data = json!({ "drive": storage.name, "path": shown(&plan.path), "size": plan.size });
        let mut changes = ChangeSet::default().and(Change::StorageAdded(record));
        changes.events.push(self.event(kind::STORAGE_CREATED, entry, data));
        self.ports.store.commit(changes).await?;
        Ok(())
    }

    /// Writes down that a disk that is there is the VM's, unless that is known.
    async fn adopt(&self, entry: &VmEntry, storage: &StorageSpec, plan: &ImagePlan) -> Result<(), Error> {
        let known = self.ports.store.of_vm(&entry.id).await?;
        if known.iter().any(|record| record.path == plan.path) {
            return Ok(());
        }
        let change = Change::StorageAdded(self.storage_record(entry, storage, plan));
        Ok(self.ports.store.commit(ChangeSet::default().and(change)).await?)
    }

    fn storage_record(&self, entry: &VmEntry, storage: &StorageSpec, plan: &ImagePlan) -> StorageRecord {
        StorageRecord {
            path: plan.path.clone(),
            vm: Some(entry.id),
            drive: storage.name.clone(),
            kind: storage.driver.type_name().to_owned(),
            size: plan.size,
            created_at: self.ports.clock.now(),
        }
    }

    async fn require_folder(&self, path: PathBuf) -> Result<(), Error> {
        match self.ports.paths.kind(&path).await {
            PathKind::Folder => Ok(()),
            PathKind::Missing | PathKind::File | PathKind::Other => Err(Error::NoSuchFolder { path }),
        }
    }
}

/// Returns the drive of this name.
pub(crate) fn drive<'a>(entry: &VmEntry, machine: &'a Machine, given: &str) -> Result<&'a StorageSpec, Error> {
    machine.drive(given).ok_or_else(|| Error::NoSuchDrive {
        vm: entry.name.clone(),
        given: given.to_owned(),
        known: machine.storage.iter().map(|storage| storage.name.to_string()).collect(),
    })
}
