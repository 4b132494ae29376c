//! Disks of a VM: found by name, made when they are missing.

use std::path::Path;

use maqet_domain::change::{Change, ChangeSet, StorageRecord};
use maqet_domain::event::kind;
use maqet_domain::machine::Machine;
use maqet_domain::size::ByteSize;
use maqet_domain::storage::{ImagePlan, Preparation, StorageSpec};
use maqet_domain::vm::VmEntry;
use maqet_fault_points::FaultPoint;
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
        let preparation = storage.driver.preparation(storage, &path);
        self.require(&preparation).await?;
        let Preparation::Image(plan) = preparation else { return Ok(()) };
        if self.ports.images.exists(&plan.path).await {
            // A disk in the VM's own folder is ours, whoever made it: a VM of this name before, or one killed half-way.
            return if storage.file.is_none() { self.adopt(entry, storage, &plan).await } else { Ok(()) };
        }
        self.ports.images.create(&plan).await?;
        self.faults.reach(FaultPoint::DiskMade);

        let record = self.storage_record(entry, storage, &plan.path, plan.size);
        let data = json!({ "drive": storage.name, "path": shown(&plan.path), "size": plan.size });
        let mut changes = ChangeSet::default().and(Change::StorageAdded(record));
        changes.events.push(self.event(kind::STORAGE_CREATED, entry, data));
        self.commit(changes).await?;
        self.faults.reach(FaultPoint::DiskRecorded);
        Ok(())
    }

    /// Writes down that a disk that is there is the VM's, unless that is known.
    async fn adopt(&self, entry: &VmEntry, storage: &StorageSpec, plan: &ImagePlan) -> Result<(), Error> {
        let known = self.ports.store.of_vm(&entry.id).await?;
        if known.iter().any(|record| record.path == plan.path) {
            return Ok(());
        }
        // It keeps its size, whatever the definition says.
        let size = self.ports.images.info(&plan.path).await.map_or(plan.size, |info| Some(info.virtual_size));
        let change = Change::StorageAdded(self.storage_record(entry, storage, &plan.path, size));
        Ok(self.commit(ChangeSet::default().and(change)).await?)
    }

    fn storage_record(
        &self,
        entry: &VmEntry,
        storage: &StorageSpec,
        path: &Path,
        size: Option<ByteSize>,
    ) -> StorageRecord {
        StorageRecord {
            path: path.to_owned(),
            vm: Some(entry.id),
            drive: storage.name.clone(),
            kind: storage.driver.type_name().to_owned(),
            size,
            created_at: self.ports.clock.now(),
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
