//! Creates the images of a VM that do not exist yet: its disks and its UEFI variable store.

use std::path::Path;

use maqet_domain::change::{Change, ChangeSet, StorageRecord};
use maqet_domain::event::kind;
use maqet_domain::machine::Machine;
use maqet_domain::port::ImageUse;
use maqet_domain::size::ByteSize;
use maqet_domain::storage::{ImageAccess, ImagePlan, StorageSpec};
use maqet_domain::vm::VmEntry;
use maqet_fault_points::{FaultPoint, FaultPoints};
use serde_json::json;

use super::backing::EarlierImages;
use super::drives::Drive;
use super::firmware::{SECURE_VARIABLES, VARIABLES_NAME};
use super::preflight::Preflight;
use super::tpm::TPM_NAME;
use crate::app::commit::Committer;
use crate::app::shown;
use crate::job::Job;
use crate::{App, Error};

/// Creates and records the images of a VM.
pub(crate) struct DiskCreator<'a> {
    preflight: Preflight<'a>,
    committer: Committer<'a>,
    faults: &'a FaultPoints,
    job: &'a Job<'a>,
    entry: &'a VmEntry,
    /// The records of the VM before; each image has at most one.
    records: Vec<StorageRecord>,
}

impl<'a> DiskCreator<'a> {
    pub(crate) async fn new(app: &'a App, job: &'a Job<'a>, entry: &'a VmEntry) -> Result<Self, Error> {
        let records = app.ports.store.storage_of_vm(&entry.id).await?;
        Ok(Self { preflight: app.preflight(), committer: app.committer(), faults: &app.faults, job, entry, records })
    }

    /// Creates the missing images of a machine whose disks were checked.
    pub(crate) async fn create_all(&self, machine: &Machine, drives: &[Drive<'_>]) -> Result<(), Error> {
        self.create_variables(machine).await?;
        for drive in drives {
            self.create(drive).await?;
        }
        Ok(())
    }

    /// Checks one drive, and creates its image if it does not exist.
    pub(crate) async fn create_one(&self, storage: &StorageSpec) -> Result<(), Error> {
        let drive = Drive::new(storage, &self.preflight.folders.vm_storage(&self.entry.name));
        if self.preflight.check_drive(&drive, &EarlierImages::default()).await?.is_none() && drive.plan().is_some() {
            self.preflight.refuse_lost(self.entry, vec![drive.as_missing()], &[]).await?;
        }
        self.create(&drive).await
    }

    /// Creates the image of a drive and records it, unless it exists.
    async fn create(&self, drive: &Drive<'_>) -> Result<(), Error> {
        let images = self.preflight.images;
        let Some(plan) = drive.plan() else { return Ok(()) };
        if images.exists(&plan.path).await {
            return self.record_existing(drive, plan).await;
        }
        self.job.run(images.create(plan)).await??;
        self.faults.reach(FaultPoint::DiskMade);

        let storage = drive.storage;
        let record = self.record(storage.name.as_str(), storage.driver.type_name(), &plan.path, plan.size);
        let mut data = json!({ "drive": storage.name, "path": shown(&plan.path), "size": plan.size });
        if self.is_recorded(&plan.path) {
            data["recreated"] = json!(true);
        }
        let mut changes = ChangeSet::default().and(Change::StorageAdded(record));
        changes.events.push(self.committer.event(kind::STORAGE_CREATED, self.entry, data));
        self.committer.commit(changes).await?;
        self.faults.reach(FaultPoint::DiskRecorded);
        Ok(())
    }

    /// Records an existing disk, unless that is recorded. It keeps its size.
    ///
    /// A disk in the VM's own folder belongs to the VM: it is of an earlier VM of this name, or of a start that was
    /// killed. Any other is only used, and recorded so that it is not created, empty, once it is gone.
    async fn record_existing(&self, drive: &Drive<'_>, plan: &ImagePlan) -> Result<(), Error> {
        if self.is_recorded(&plan.path) {
            return Ok(());
        }
        let image = ImageUse { path: plan.path.clone(), format: Some(plan.format.clone()), access: ImageAccess::Read };
        let summary = self.preflight.images.examine(&image).await;
        let size = summary.ok().and_then(|image| image.virtual_size).or(plan.size);
        let is_own = drive.storage.file.is_none();
        let kind = if is_own { drive.storage.driver.type_name() } else { StorageRecord::USED };
        let mut record = self.record(drive.storage.name.as_str(), kind, &plan.path, size);
        // It is older than its VM if it is of an earlier one.
        let earlier = self.committer.storage_at(&plan.path).await?;
        record.created_at = earlier.map_or(record.created_at, |earlier| earlier.created_at);
        self.commit(record).await
    }

    /// Creates the variable store of a machine with `firmware: uefi` and records it, unless it exists.
    pub(crate) async fn create_variables(&self, machine: &Machine) -> Result<(), Error> {
        let preflight = &self.preflight;
        let Some(firmware) = preflight.uefi(machine).await? else { return Ok(()) };
        let path = preflight.uefi_variables(&self.entry.name);
        let is_new = !preflight.images.exists(&path).await;
        if is_new {
            let (from, format) = preflight.variables_template(machine, &firmware).await?;
            let creation = preflight.images.convert(&from, &format, &path);
            self.job.run(creation).await??;
        }
        if !is_new && self.is_recorded(&path) {
            return Ok(());
        }
        let is_secure = machine.firmware.uefi().is_some_and(|options| options.secure_boot);
        let kind = if is_secure { SECURE_VARIABLES } else { VARIABLES_NAME };
        self.commit(self.record(VARIABLES_NAME, kind, &path, None)).await
    }

    /// Returns the record of the state of a machine's TPM, to be written once swtpm has created it, unless there is one.
    pub(crate) fn tpm_record(&self, machine: &Machine) -> Vec<Change> {
        let path = self.preflight.tpm_state(&self.entry.name);
        let is_new = machine.tpm && !self.is_recorded(&path);
        let record = is_new.then(|| self.record(TPM_NAME, TPM_NAME, &path, None));
        record.into_iter().map(Change::StorageAdded).collect()
    }

    fn is_recorded(&self, path: &Path) -> bool {
        self.records.iter().any(|record| record.path == path)
    }

    async fn commit(&self, record: StorageRecord) -> Result<(), Error> {
        Ok(self.committer.commit(ChangeSet::default().and(Change::StorageAdded(record))).await?)
    }

    fn record(&self, drive: &str, kind: &str, path: &Path, size: Option<ByteSize>) -> StorageRecord {
        StorageRecord {
            path: path.to_owned(),
            vm: Some(self.entry.id),
            drive: drive.to_owned(),
            kind: kind.to_owned(),
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
