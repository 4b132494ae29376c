//! Creates the disks of a VM that do not exist yet.

use std::path::Path;

use maqet_domain::change::{Change, ChangeSet, StorageRecord};
use maqet_domain::event::kind;
use maqet_domain::machine::Machine;
use maqet_domain::size::ByteSize;
use maqet_domain::storage::{ImagePlan, Preparation, StorageSpec};
use maqet_domain::vm::VmEntry;
use maqet_fault_points::{FaultPoint, FaultPoints};
use serde_json::json;

use super::preflight::Preflight;
use crate::app::commit::Committer;
use crate::app::shown;
use crate::job::Job;
use crate::{App, Error};

/// Creates and records the disks of VMs.
pub(crate) struct DiskCreator<'a> {
    preflight: Preflight<'a>,
    committer: Committer<'a>,
    faults: &'a FaultPoints,
    job: &'a Job<'a>,
}

impl<'a> DiskCreator<'a> {
    pub(crate) fn new(app: &'a App, job: &'a Job<'a>) -> Self {
        Self { preflight: app.preflight(), committer: app.committer(), faults: &app.faults, job }
    }

    /// Creates the missing disks of a machine.
    pub(crate) async fn create_all(&self, entry: &VmEntry, machine: &Machine) -> Result<(), Error> {
        for storage in &machine.storage {
            self.create(entry, storage).await?;
        }
        Ok(())
    }

    /// Creates a disk and records it, unless it exists.
    pub(crate) async fn create(&self, entry: &VmEntry, storage: &StorageSpec) -> Result<(), Error> {
        let images = self.preflight.images;
        let path = storage.path(&self.preflight.folders.vm_storage(&entry.name));
        let preparation = storage.driver.preparation(storage, &path);
        self.preflight.check_disk(&preparation).await?;
        let Preparation::Image(plan) = preparation else { return Ok(()) };
        if images.exists(&plan.path).await {
            // A disk in the VM's own folder belongs to the VM: it is of an earlier VM of this name, or of a start that
            // was killed.
            return if storage.file.is_none() { self.adopt(entry, storage, &plan).await } else { Ok(()) };
        }
        self.job.run(images.create(&plan)).await??;
        self.faults.reach(FaultPoint::DiskMade);

        let record = self.record(entry, storage, &plan.path, plan.size);
        let data = json!({ "drive": storage.name, "path": shown(&plan.path), "size": plan.size });
        let mut changes = ChangeSet::default().and(Change::StorageAdded(record));
        changes.events.push(self.committer.event(kind::STORAGE_CREATED, entry, data));
        self.committer.commit(changes).await?;
        self.faults.reach(FaultPoint::DiskRecorded);
        Ok(())
    }

    /// Records an existing disk as the VM's, unless that is recorded.
    async fn adopt(&self, entry: &VmEntry, storage: &StorageSpec, plan: &ImagePlan) -> Result<(), Error> {
        let records = self.preflight.store.storage_of_vm(&entry.id).await?;
        if records.iter().any(|record| record.path == plan.path) {
            return Ok(());
        }
        // It keeps its size.
        let size = self.preflight.images.info(&plan.path).await.map_or(plan.size, |info| Some(info.virtual_size));
        let change = Change::StorageAdded(self.record(entry, storage, &plan.path, size));
        Ok(self.committer.commit(ChangeSet::default().and(change)).await?)
    }

    fn record(&self, entry: &VmEntry, storage: &StorageSpec, path: &Path, size: Option<ByteSize>) -> StorageRecord {
        StorageRecord {
            path: path.to_owned(),
            vm: Some(entry.id),
            drive: storage.name.clone(),
            kind: storage.driver.type_name().to_owned(),
            size,
            created_at: self.committer.now(),
        }
    }
}

/// Returns the drive of this name.
pub(crate) fn find_drive<'a>(entry: &VmEntry, machine: &'a Machine, name: &str) -> Result<&'a StorageSpec, Error> {
    machine.drive(name).ok_or_else(|| Error::NoSuchDrive {
        vm: entry.name.clone(),
        drive: name.to_owned(),
        known: machine.storage.iter().map(|storage| storage.name.to_string()).collect(),
    })
}
