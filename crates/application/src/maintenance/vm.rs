//! Checks of the VMs: whether each can start, and whether its records agree with what runs.

use std::path::Path;

use maqet_domain::machine::Machine;
use maqet_domain::storage::{Preparation, StorageSpec};
use maqet_domain::vm::{Phase, Status, Vm, VmEntry};

use super::{Area, Finding, Severity, count_vms, error_chain};
use crate::app::commit::read_vm_copy;
use crate::app::shown;
use crate::{App, Error, limits};

/// Checks the VMs.
pub(crate) struct VmCheck<'a> {
    pub(crate) app: &'a App,
    /// Whether to record the ends of runs and to write copies.
    pub(crate) fix: bool,
}

impl VmCheck<'_> {
    /// Checks all VMs.
    pub(crate) async fn findings(&self) -> Result<Vec<Finding>, Error> {
        let entries = self.app.ports.store.list().await?;
        let mut findings = Vec::new();
        let mut good = 0_usize;
        for entry in &entries {
            // Another process may have removed it since.
            let Some(vm) = self.app.ports.store.by_id(&entry.id).await? else { continue };
            let found = self.check(&vm).await?;
            good += usize::from(found.is_empty());
            findings.extend(found);
        }
        if good > 0 {
            let message =
                if good == entries.len() { "no problems".to_owned() } else { format!("{good} without problems") };
            findings.push(Finding::new(Severity::Ok, Area::Vm, count_vms(entries.len() as u64), message));
        }
        Ok(findings)
    }

    /// Checks one VM; returns nothing if all is in order.
    async fn check(&self, vm: &Vm) -> Result<Vec<Finding>, Error> {
        let mut findings = Vec::new();
        match self.app.machine(vm) {
            Ok(machine) => {
                findings.extend(self.check_binary(vm, &machine).await);
                findings.extend(self.check_disks(vm, &machine).await);
            }
            Err(error) => findings.push(
                finding(&vm.entry, Severity::Problem, format!("invalid definition: {}", error_chain(&error)))
                    .hint(format!("replace it with `maqet apply {} FILE`", vm.entry.name)),
            ),
        }
        findings.extend(self.check_run(&vm.entry).await?);
        findings.extend(self.check_copy(vm).await?);
        Ok(findings)
    }

    async fn check_binary(&self, vm: &Vm, machine: &Machine) -> Option<Finding> {
        let default = || format!("qemu-system-{}", self.app.preflight().architecture(machine));
        let binary = machine.binary.clone().unwrap_or_else(default);
        let error = self.app.ports.hypervisor.binary(&binary).await.err()?;
        Some(Finding::from_error(Severity::Problem, Area::Vm, vm.entry.name.as_str(), &error))
    }

    async fn check_disks(&self, vm: &Vm, machine: &Machine) -> Vec<Finding> {
        let records = self.app.ports.store.storage_of_vm(&vm.entry.id).await.unwrap_or_default();
        let mut findings = Vec::new();
        for spec in &machine.storage {
            let path = spec.path(&self.app.folders.vm_storage(&vm.entry.name));
            let was_created = records.iter().any(|record| record.path == path);
            findings.extend(self.check_disk(vm, spec, &path, was_created).await);
        }
        findings
    }

    async fn check_disk(&self, vm: &Vm, spec: &StorageSpec, path: &Path, was_created: bool) -> Option<Finding> {
        let problem = |message: String| finding(&vm.entry, Severity::Problem, message);
        let preparation = spec.driver.preparation(spec, path);
        let is_file = matches!(preparation, Preparation::Image(_) | Preparation::Existing(_));
        let shown = shown(path);
        if self.app.ports.images.exists(path).await {
            if !is_file || self.app.ports.maintenance.stale_files.is_readable(path).await {
                return None;
            }
            return Some(problem(format!("cannot read the disk `{shown}`")).hint("check its owner and permissions"));
        }
        match preparation {
            Preparation::Existing(_) => Some(
                problem(format!("the disk `{shown}` does not exist"))
                    .hint("restore it, or correct its path under `storage` with `maqet apply`"),
            ),
            _ if was_created => Some(
                problem(format!("the disk `{shown}` was deleted; the next start creates an empty one"))
                    .hint("restore it from a backup"),
            ),
            _ => None,
        }
    }

    /// Compares the recorded run with what runs.
    async fn check_run(&self, entry: &VmEntry) -> Result<Option<Finding>, Error> {
        let observation = self.app.observer().observe(entry).await;
        if let Some(error) = observation.unresponsive(entry) {
            return Ok(Some(Finding::from_error(Severity::Warning, Area::Vm, entry.name.as_str(), &error)));
        }
        let finding = match observation.status {
            Status::Unreachable => {
                finding(entry, Severity::Problem, "QEMU is running, but its monitor does not answer")
                    .hint(format!("wait, or kill it with `maqet stop {} --force`", entry.name))
            }
            Status::IoError | Status::Panicked | Status::RestoreFailed => {
                finding(entry, Severity::Problem, format!("halted: {}", observation.status))
                    .hint(format!("run `maqet status {0}`, then `maqet stop {0}`", entry.name))
            }
            Status::Stopped(_) if entry.open_run().is_some() && observation.busy.is_none() => {
                let finding = finding(entry, Severity::Note, "QEMU has exited, but the end of the run is not recorded")
                    .hint("no action needed: the next command that changes the VM records it")
                    .fixable();
                if self.fix { self.close_run(finding, entry).await } else { finding }
            }
            _ => return Ok(None),
        };
        Ok(Some(finding))
    }

    async fn close_run(&self, finding: Finding, entry: &VmEntry) -> Finding {
        match close_run(self.app, entry, "doctor").await {
            Ok(true) => finding.fixed("recorded its end and removed its sockets"),
            Ok(false) => finding.fixed("another process is working on the VM"),
            Err(error) => finding.fix_failed(&error),
        }
    }

    /// Compares the copy of a VM with the database.
    async fn check_copy(&self, vm: &Vm) -> Result<Option<Finding>, Error> {
        let Some(mut stored) = read_vm_copy(self.app.ports.store.as_ref(), &vm.entry.id).await? else {
            return Ok(None);
        };
        stored.vm.entry.run = None;
        let copies = &self.app.ports.maintenance.copies;
        let message = match copies.find(&vm.entry.id).await {
            None => "has no copy outside the database",
            Some(copy)
                if copy.vm.entry.name == stored.vm.entry.name
                    && copy.vm.definition == stored.vm.definition
                    && copy.storage == stored.storage =>
            {
                return Ok(None);
            }
            Some(_) => "its copy outside the database is out of date",
        };
        let finding =
            finding(&vm.entry, Severity::Note, message).hint("run `maqet doctor --fix` to write one").fixable();
        if !self.fix {
            return Ok(Some(finding));
        }
        Ok(Some(match copies.write(&stored).await {
            Ok(()) => finding.fixed("wrote a copy"),
            Err(error) => finding.fix_failed(error.as_ref()),
        }))
    }
}

fn finding(entry: &VmEntry, severity: Severity, message: impl Into<String>) -> Finding {
    Finding::new(severity, Area::Vm, entry.name.as_str(), message)
}

/// Records the end of a run whose process is gone, and removes its sockets.
///
/// Returns whether its end is recorded now; `false` if another process works on the VM, or QEMU runs.
pub(crate) async fn close_run(app: &App, entry: &VmEntry, operation: &'static str) -> Result<bool, Error> {
    let locked = app.vms().lock_within(&entry.id.to_string(), operation, limits::CLEANUP_LOCK_TIMEOUT).await;
    let (_guard, vm) = match locked {
        Ok(locked) => locked,
        Err(Error::Lock(_) | Error::NoSuchVm { .. }) => return Ok(false),
        Err(error) => return Err(error),
    };
    let entry = app.reconciler().reconcile_locked(vm).await.entry;
    let Some(run) = entry.run.clone() else { return Ok(false) };
    match (run.phase, app.observer().observe_locked(&entry).await.status) {
        (Phase::Ended(_), _) => Ok(true),
        // A start that was killed before QEMU was up has no event of its end.
        (Phase::Starting, Status::Stopped(end)) => {
            app.committer().record_run(&entry, Some(run.at_phase(Phase::Ended(end)))).await?;
            app.ports.hypervisor.remove_sockets(&run.paths).await;
            Ok(true)
        }
        (_, _) => Ok(false),
    }
}
