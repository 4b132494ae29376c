//! `checkpoint info`.

use derive_setters::Setters;
use serde::{Deserialize, Serialize};

use super::CheckpointSummary;
use crate::app::operations::{Done, Effect, Operation};
use crate::app::shown;
use crate::checkpoint::place::Place;
use crate::trash::used_files::UsedFiles;
use crate::{App, Error};

/// Show a checkpoint
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct CheckpointInfo {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub vm: String,
    /// The checkpoint
    pub name: String,
}

impl CheckpointInfo {
    /// Shows the checkpoint `name` of the VM `vm`.
    pub fn new(vm: impl Into<String>, name: impl Into<String>) -> Self {
        Self { vm: vm.into(), name: name.into() }
    }
}

/// A checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CheckpointDetails {
    /// What a list says about it.
    #[serde(flatten)]
    pub summary: CheckpointSummary,
    /// Why it was taken by this method.
    pub reason: String,
    /// The version of QEMU.
    pub qemu: String,
    /// The machine type.
    pub machine_type: String,
    /// The accelerator.
    pub accelerator: String,
    /// Its disks, which nothing writes to.
    pub disks: Vec<CheckpointDisk>,
    /// Whether the UEFI variables are part of it.
    pub uefi_variables: bool,
    /// Whether guests that are started from it can draw new random numbers (`vmgenid`).
    pub generation_id: bool,
    /// The IDs of devices that were added while the VM ran.
    pub added_devices: Vec<String>,
    /// What other than the VM uses its disks.
    pub uses: Vec<String>,
}

/// A disk of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CheckpointDisk {
    /// The drive.
    pub drive: String,
    /// Its image.
    pub file: String,
    /// The format of that.
    pub format: String,
    /// The size the guest sees, in bytes.
    pub virtual_bytes: u64,
}

impl Operation for CheckpointInfo {
    const NAME: &'static str = "checkpoint.info";
    const EFFECT: Effect = Effect::Reads;
    type Output = CheckpointDetails;

    async fn run(&self, app: &App) -> Result<Done<CheckpointDetails>, Error> {
        let vm = app.vms().find(&self.vm).await?;
        let place = Place::read(app, &vm.entry.id).await?;
        let found = place.find(&vm.entry, &self.name)?;
        let manifest = &found.manifest;
        let others = UsedFiles::of_all_but_vm(app, &vm.entry.id).await?;
        let (mut disks, mut uses) = (Vec::new(), Vec::new());
        for disk in &manifest.disks {
            uses.extend(others.uses_of(&disk.file).await.iter().map(|used| used.user.to_string()));
            disks.push(CheckpointDisk {
                drive: disk.drive.clone(),
                file: shown(&disk.file),
                format: disk.format.clone(),
                virtual_bytes: disk.virtual_bytes,
            });
        }
        uses.sort();
        uses.dedup();
        Ok(Done::reading(CheckpointDetails {
            summary: CheckpointSummary::new(&found.directory, manifest),
            reason: manifest.reason.clone(),
            qemu: manifest.qemu.version.to_string(),
            machine_type: manifest.qemu.machine_type.clone(),
            accelerator: manifest.qemu.accelerator.clone(),
            disks,
            uefi_variables: manifest.uefi_variables.is_some(),
            generation_id: manifest.has_generation_id,
            added_devices: manifest.added_devices.clone(),
            uses,
        }))
    }
}
