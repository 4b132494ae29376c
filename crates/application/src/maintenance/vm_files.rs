//! Checks of the files that VMs use besides the images of their drives: those that a start could not read, write or create.

use maqet_domain::machine::Machine;
use maqet_domain::vm::VmEntry;

use super::{Area, Finding, Severity};
use crate::{App, Error};

/// Returns the findings about the files of a VM.
pub(super) async fn file_findings(app: &App, entry: &VmEntry, machine: &Machine) -> Vec<Finding> {
    let preflight = app.preflight();
    let name = entry.name.as_str();
    let mut findings = Vec::new();
    let checks: [Result<(), Error>; 3] = [
        preflight.check_firmware_files(entry, machine).await,
        preflight.check_memory_files(machine).await,
        preflight.check_device_files(machine).await,
    ];
    for error in checks.into_iter().filter_map(Result::err) {
        findings.push(Finding::from_error(Severity::Problem, Area::Vm, name, &error));
    }
    let is_reported = !findings.is_empty();
    for file in machine.used_files() {
        let Some(obstacle) = app.ports.paths.obstacle(&file.path, file.access).await else { continue };
        // Those of `checks`, of which more is said there.
        if is_reported && findings.iter().any(|finding| finding.message.contains(&*file.path.to_string_lossy())) {
            continue;
        }
        let message = format!("{} needs `{}`: {obstacle}", file.user, file.path.display());
        findings.push(Finding::new(Severity::Problem, Area::Vm, name, message).hint(obstacle.hint()));
    }
    findings
}
