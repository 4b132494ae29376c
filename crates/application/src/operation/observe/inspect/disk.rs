//! Disks with their real sizes: of the running machine, else of the images.

use std::path::{Path, PathBuf};

use maqet_domain::machine::Machine;
use maqet_domain::port::PathKind;
use maqet_domain::storage::{Preparation, StorageSpec};
use maqet_domain::vm::Vm;
use serde::Serialize;

use super::machine::TellingDrive;
use crate::App;
use crate::app::shown;

/// A disk or share of a VM, as it really is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InspectedDisk {
    /// Its name in the definition, else QEMU's.
    pub name: String,
    /// Its storage type; left out of what the definition does not name under `storage`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#type: Option<&'static str>,
    /// Where it is.
    pub file: String,
    /// Its image format, by QEMU's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// The size the guest sees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_bytes: Option<u64>,
    /// The space it takes on the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocated_bytes: Option<u64>,
    /// Whether the guest may not write to it.
    pub readonly: bool,
    /// Whether the running machine has it; left out where none runs, or it did not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attached: Option<bool>,
    /// Why there are no sizes, if there should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl App {
    /// Returns the disks of a VM; `drives` are those of the running machine, if one runs and told.
    pub(super) async fn disks_of(&self, vm: &Vm, drives: Option<&[TellingDrive]>) -> Vec<InspectedDisk> {
        // A definition that an older or newer maqet understood and this one does not still has a machine that runs.
        let machine = self.machine(vm).unwrap_or_else(|error| {
            tracing::warn!(%error, "the definition is not understood; only what runs is shown");
            Machine::default()
        });
        let vm_storage = self.folders.vm_storage(&vm.entry.name);
        let mut unclaimed: Vec<&TellingDrive> = drives.unwrap_or_default().iter().collect();
        let mut disks = Vec::new();
        for spec in &machine.storage {
            let is_it = |drive: &&TellingDrive| drive.names.iter().any(|name| name == spec.name.as_str());
            let told = unclaimed.iter().position(is_it).map(|at| unclaimed.remove(at));
            let place = Place::of(spec, &spec.path(&vm_storage));
            let mut disk = match told {
                Some(drive) => of_drive(drive),
                None => self.of_spec(spec, &place).await,
            };
            disk.name = spec.name.to_string();
            disk.r#type = Some(spec.driver.type_name());
            // Shares are no block devices, so the machine's list says nothing of them.
            disk.attached = drives.filter(|_| place.is_image).map(|_| told.is_some());
            disks.push(disk);
        }
        disks.extend(unclaimed.into_iter().map(of_drive));
        disks
    }

    /// Looks at a disk that no running machine tells of.
    async fn of_spec(&self, spec: &StorageSpec, place: &Place) -> InspectedDisk {
        let path = &place.path;
        let mut disk = InspectedDisk {
            name: spec.name.to_string(),
            r#type: None,
            file: shown(path),
            format: None,
            virtual_bytes: None,
            allocated_bytes: None,
            readonly: spec.driver.is_readonly(spec),
            attached: None,
            problem: None,
        };
        if self.ports.paths.kind(path).await == PathKind::NotFound {
            let problem = if place.is_made { "it is made at the first start" } else { "it is not there" };
            disk.problem = Some(problem.to_owned());
        } else if place.is_image {
            match self.ports.images.info(path).await {
                Ok(info) => {
                    disk.format = Some(info.format);
                    disk.virtual_bytes = Some(info.virtual_size.bytes());
                    disk.allocated_bytes = Some(info.actual_size.bytes());
                }
                Err(error) => disk.problem = Some(error.to_string()),
            }
        }
        disk
    }
}

/// Where a disk or share is.
struct Place {
    path: PathBuf,
    /// Whether it is an image, and not a folder or a socket that is shared.
    is_image: bool,
    /// Whether the first start makes it.
    is_made: bool,
}

impl Place {
    fn of(spec: &StorageSpec, path: &Path) -> Self {
        match spec.driver.preparation(spec, path) {
            Preparation::Image(plan) => Self { path: plan.path, is_image: true, is_made: true },
            Preparation::Existing(there) => Self { is_image: there == path, path: there, is_made: false },
            Preparation::Folder(path) => Self { path, is_image: false, is_made: false },
            Preparation::Nothing => Self { path: path.to_owned(), is_image: true, is_made: false },
        }
    }
}

fn of_drive(drive: &TellingDrive) -> InspectedDisk {
    InspectedDisk {
        name: drive.names.first().cloned().unwrap_or_default(),
        r#type: None,
        file: shown(&drive.file),
        format: Some(drive.format.clone()),
        virtual_bytes: Some(drive.virtual_bytes),
        allocated_bytes: drive.allocated_bytes,
        readonly: drive.readonly,
        attached: Some(true),
        problem: None,
    }
}
