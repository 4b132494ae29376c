//! Checks of the files that VMs use besides the images of their drives: those that a start could not read, write or create.

use std::path::{Path, PathBuf};

use maqet_domain::machine::Machine;
use maqet_domain::vm::VmEntry;

use super::{Area, Finding, Severity};
use crate::start::disk_error::DiskError;
use crate::{App, Error};

/// Returns the findings about the files of a VM.
pub(super) async fn file_findings(app: &App, entry: &VmEntry, machine: &Machine) -> Vec<Finding> {
    let preflight = app.preflight();
    let name = entry.name.as_str();
    let firmware = preflight.check_firmware_files(entry, machine).await.err();
    let memory = preflight.memory_refusals(machine).await.into_iter().map(DiskError::from);
    let devices = preflight.missing_devices(machine).await.into_iter().map(|path| DiskError::DeviceNotFound { path });
    let errors: Vec<Error> = firmware.into_iter().chain(memory.chain(devices).map(Error::from)).collect();
    let mut findings: Vec<Finding> =
        errors.iter().map(|error| Finding::from_error(Severity::Problem, Area::Vm, name, error)).collect();
    let reported: Vec<PathBuf> = errors.iter().filter_map(file_of).map(Path::to_owned).collect();
    for file in machine.used_files() {
        // More is said of those above.
        if reported.contains(&file.path) {
            continue;
        }
        let Some(obstacle) = app.ports.paths.obstacle(&file.path, file.access).await else { continue };
        let message = format!("{} needs `{}`: {obstacle}", file.user, file.path.display());
        findings.push(Finding::new(Severity::Problem, Area::Vm, name, message).hint(obstacle.hint()));
    }
    findings
}

/// Returns the file that an error is about.
fn file_of(error: &Error) -> Option<&Path> {
    match error {
        Error::Disk(DiskError::Memory(refusal)) => Some(refusal.path()),
        Error::Disk(DiskError::Firmware(refusal)) => refusal.path(),
        Error::Disk(DiskError::DeviceNotFound { path } | DiskError::Unreachable { path, .. }) => Some(path),
        _ => None,
    }
}
