//! Which drives of a VM are backed up.

use std::path::PathBuf;

use maqet_domain::command_line::uefi_variables_nodes;
use maqet_domain::machine::Machine;
use maqet_domain::qemu::Switch;
use maqet_domain::storage::HostFile;
use maqet_domain::vm::VmName;
use serde::Serialize;

use super::error::BackupError;
use crate::app::shown;
use crate::start::firmware::VARIABLES_NAME;
use crate::start::tpm::TPM_NAME;
use crate::{App, Error};

/// A disk of a VM.
#[derive(Debug, Clone)]
pub(crate) struct DiskDrive {
    /// Its name; also that of its block node.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) format: String,
    /// The switches that create its block nodes.
    pub(crate) backend: Vec<Switch>,
}

/// A drive that is not backed up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LeftOutDrive {
    /// Its name.
    pub drive: String,
    /// Why: `read-only`, `snapshot` for one whose image is not written, `tpm` for the state of the TPM, or `share` for a
    /// shared directory and other storage without an image.
    pub reason: &'static str,
}

/// The disks of a VM that are backed up, and the drives that are not.
#[derive(Debug)]
pub(crate) struct BackupDrives {
    pub(crate) disks: Vec<DiskDrive>,
    pub(crate) left_out: Vec<LeftOutDrive>,
}

impl BackupDrives {
    /// Selects all disks that the guest writes to, and the UEFI variable store.
    pub(crate) async fn of(app: &App, vm: &VmName, machine: &Machine) -> Result<Self, Error> {
        let mut selection = Self { disks: Vec::new(), left_out: Vec::new() };
        let vm_storage = app.folders.vm_storage(vm);
        let kinds = app.preflight().file_kinds(vm, machine).await;
        for storage in &machine.storage {
            let path = storage.path(&vm_storage);
            let left_out = |reason| LeftOutDrive { drive: storage.name.to_string(), reason };
            let Some(format) = storage.driver.image_format() else {
                selection.left_out.push(left_out("share"));
                continue;
            };
            if storage.driver.is_readonly(storage) {
                selection.left_out.push(left_out("read-only"));
                continue;
            }
            if storage.snapshot {
                selection.left_out.push(left_out("snapshot"));
                continue;
            }
            let file = HostFile { path: &shown(&path), kind: kinds.kind(&path) };
            let backend = storage.driver.backend(&storage.unlimited(), file);
            selection.disks.push(DiskDrive {
                name: storage.name.to_string(),
                path,
                format: format.to_owned(),
                backend,
            });
        }
        if machine.firmware.is_uefi() {
            selection.disks.push(variables(app.preflight().uefi_variables(vm)));
        }
        if machine.tpm {
            selection.left_out.push(LeftOutDrive { drive: TPM_NAME.to_owned(), reason: "tpm" });
        }
        if selection.disks.is_empty() {
            return Err(BackupError::NoDisks { vm: vm.clone() }.into());
        }
        Ok(selection)
    }
}

/// Returns the UEFI variable store as a disk.
fn variables(path: PathBuf) -> DiskDrive {
    let backend = uefi_variables_nodes(&shown(&path)).into();
    DiskDrive { name: VARIABLES_NAME.to_owned(), path, format: "qcow2".to_owned(), backend }
}
