//! Checks of the VMs: whether each can start, and whether its records agree with what runs.

use std::collections::HashMap;

use maqet_domain::change::StorageRecord;
use maqet_domain::machine::Machine;
use maqet_domain::port::{ImageSummary, LockName, VmCopy};
use maqet_domain::text::quote;
use maqet_domain::vm::{Phase, Status, Vm, VmEntry, VmId};

use super::vm_files::file_findings;
use super::{Area, Finding, Severity, count_vms, error_chain};
use crate::app::commit::read_vm_copy;
use crate::app::shown;
use crate::start::backing::EarlierImages;
use crate::start::disk_error::DiskError;
use crate::start::drives::Drive;
use crate::start::lost_images::ImagesLost;
use crate::start::preflight::Preflight;
use crate::throw_away::{Lifetime, is_left_over, remove_abandoned};
use crate::vm::monitor::tpm_problem;
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
        let store = &*self.app.ports.store;
        let vms = store.vms().await?;
        let mut storage: HashMap<VmId, Vec<StorageRecord>> = HashMap::new();
        for record in store.all_storage().await? {
            if let Some(vm) = record.vm {
                storage.entry(vm).or_default().push(record);
            }
        }
        let (mut findings, mut good, count) = (Vec::new(), 0_usize, vms.len());
        for vm in vms {
            if is_left_over(self.app, &vm).await {
                findings.push(self.left_over(&vm.entry, Lifetime::of(&vm)).await);
                continue;
            }
            let records = storage.remove(&vm.entry.id).unwrap_or_default();
            let found = self.check_as_read(VmCopy::new(vm, records)).await?;
            good += usize::from(found.is_empty());
            findings.extend(found);
        }
        if good > 0 {
            let message = if good == count { "no problems".to_owned() } else { format!("{good} without problems") };
            findings.push(Finding::new(Severity::Ok, Area::Vm, count_vms(count as u64), message));
        }
        Ok(findings)
    }

    /// Reports a VM that was to be thrown away.
    async fn left_over(&self, entry: &VmEntry, lifetime: Lifetime) -> Finding {
        let finding = finding(entry, Severity::Note, lifetime.left_over())
            .hint("no action needed: the next `maqet run`, `fork` or `cleanup` removes it")
            .fixable();
        if !self.fix {
            return finding;
        }
        match remove_abandoned(self.app, &entry.id, "doctor").await {
            Ok(_) => finding.fixed("removed it"),
            Err(error) => finding.fix_failed(&error),
        }
    }

    /// Checks a VM that was read together with all others; what is found may be outdated, and is checked again.
    async fn check_as_read(&self, read: VmCopy) -> Result<Vec<Finding>, Error> {
        let id = read.vm.entry.id;
        if (VmCheck { app: self.app, fix: false }).check(read).await?.is_empty() {
            return Ok(Vec::new());
        }
        match read_vm_copy(&*self.app.ports.store, &id).await? {
            Some(current) => self.check(current).await,
            // Another process has removed it.
            None => Ok(Vec::new()),
        }
    }

    /// Checks one VM; returns nothing if all is in order.
    async fn check(&self, read: VmCopy) -> Result<Vec<Finding>, Error> {
        let mut findings: Vec<Finding> = self.check_pending(&read.vm.entry).await.into_iter().collect();
        // Work that is pending, or that another process is at, moves images; one that was recovered has changed the VM.
        let is_pending = read.vm.entry.pending.is_some();
        let recovered = if is_pending { read_vm_copy(&*self.app.ports.store, &read.vm.entry.id).await? } else { None };
        let current = recovered.unwrap_or(read);
        let vm = &current.vm;
        match self.app.machine(vm) {
            Ok(mut machine) => {
                findings.extend(self.check_binary(vm, &machine).await);
                // A binary that does not work is reported by now.
                let _ = self.app.preflight().resolve_architecture(&mut machine).await;
                if machine.tpm {
                    findings.extend(self.check_tpm(&vm.entry).await);
                }
                if vm.entry.pending.is_none() {
                    findings.extend(self.check_disks(vm, &machine).await?);
                    findings.extend(file_findings(self.app, &vm.entry, &machine).await);
                }
            }
            Err(error) => findings.push(
                finding(&vm.entry, Severity::Problem, format!("invalid definition: {}", error_chain(&error)))
                    .hint(format!("replace it with `maqet apply {} FILE`", vm.entry.name)),
            ),
        }
        findings.extend(self.check_run(&vm.entry).await?);
        findings.extend(self.check_copy(current).await);
        Ok(findings)
    }

    async fn check_binary(&self, vm: &Vm, machine: &Machine) -> Option<Finding> {
        let default = || format!("qemu-system-{}", self.app.preflight().architecture(machine));
        let binary = machine.binary.clone().unwrap_or_else(default);
        let error = self.app.ports.hypervisor.binary(&binary).await.err()?;
        Some(Finding::from_error(Severity::Problem, Area::Vm, vm.entry.name.as_str(), &error))
    }

    /// Checks whether QEMU could open the images of a VM, and whether they are there.
    async fn check_disks(&self, vm: &Vm, machine: &Machine) -> Result<Vec<Finding>, Error> {
        let (entry, preflight) = (&vm.entry, self.app.preflight());
        let from_error = |error: &Error| Finding::from_error(Severity::Problem, Area::Vm, entry.name.as_str(), error);
        let mut findings = Vec::new();
        let mut missing = Vec::new();
        let mut earlier = EarlierImages::default();
        for drive in preflight.drives(&entry.name, machine) {
            let checked = preflight.check_drive(&drive, &earlier).await;
            earlier.add(&drive, checked.as_ref().ok().and_then(Option::as_ref));
            match checked {
                Ok(Some(image)) => findings.extend(image_finding(entry, &drive, &image)),
                Ok(None) => missing.extend(drive.plan().map(|_| drive.as_missing())),
                Err(error) => findings.push(from_error(&error)),
            }
        }
        match preflight.check_variables(entry, machine, &[]).await {
            Ok(variables) => missing.extend(variables),
            Err(error) => findings.push(from_error(&error)),
        }
        for image in preflight.lost_images(entry, missing).await? {
            findings
                .push(from_error(&DiskError::from(ImagesLost { vm: entry.name.clone(), images: vec![image] }).into()));
        }
        Ok(findings)
    }

    /// Reports a TPM whose swtpm has ended, with which QEMU goes on.
    async fn check_tpm(&self, entry: &VmEntry) -> Option<Finding> {
        let problem = tpm_problem(&*self.app.ports.monitors, entry.open_run()?).await?;
        let hint = format!("shut the guest down, and start it again: `maqet restart {}`", entry.name);
        Some(finding(entry, Severity::Problem, problem).hint(hint))
    }

    /// Compares the recorded run with what runs.
    async fn check_run(&self, entry: &VmEntry) -> Result<Option<Finding>, Error> {
        let (entry, observation) = self.app.observer().observe(entry.clone()).await;
        let entry = &entry;
        if let Some(error) = observation.unresponsive(entry) {
            return Ok(Some(Finding::from_error(Severity::Warning, Area::Vm, entry.name.as_str(), &error)));
        }
        let finding = match observation.status {
            Status::Unreachable => {
                finding(entry, Severity::Problem, "QEMU is running, but its monitor does not answer")
                    .hint(format!("wait, or kill it with `maqet stop {} --force`", entry.name))
            }
            Status::IoError | Status::Panicked | Status::RestoreFailed => {
                let hint = observation.hint(&entry.name);
                finding(entry, Severity::Problem, format!("halted: {}", observation.described()))
                    .hint(hint.unwrap_or_else(|| format!("run `maqet status {0}`, then `maqet stop {0}`", entry.name)))
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

    /// Reports work on the images of a VM whose process died.
    async fn check_pending(&self, entry: &VmEntry) -> Option<Finding> {
        let pending = entry.pending.as_ref()?;
        if self.app.ports.locks.holder(&LockName::Vm(entry.id)).await.is_some() {
            return None;
        }
        let message = format!("`{}` was interrupted (begun at {:.0})", pending.operation, pending.since);
        let finding = finding(entry, Severity::Problem, message)
            .hint("run `maqet doctor --fix` to finish it or to roll it back; the next command for the VM does so, too")
            .fixable();
        if !self.fix {
            return Some(finding);
        }
        Some(match self.app.vms().lock(&entry.id.to_string(), "doctor").await {
            Ok(_) => finding.fixed("finished it or rolled it back; see `maqet events`"),
            Err(error) => finding.fix_failed(&error),
        })
    }

    async fn close_run(&self, finding: Finding, entry: &VmEntry) -> Finding {
        match close_run(self.app, entry, "doctor").await {
            Ok(true) => finding.fixed("recorded its end and removed its sockets"),
            Ok(false) => finding.fixed("another process is working on the VM"),
            Err(error) => finding.fix_failed(&error),
        }
    }

    /// Compares the copy of a VM with the database.
    async fn check_copy(&self, mut stored: VmCopy) -> Option<Finding> {
        stored.vm.entry.run = None;
        let copies = &self.app.ports.maintenance.copies;
        let message = match copies.find(&stored.vm.entry.id).await {
            None => "has no copy outside the database",
            Some(copy)
                if copy.vm.entry.name == stored.vm.entry.name
                    && copy.vm.definition == stored.vm.definition
                    && copy.storage == stored.storage =>
            {
                return None;
            }
            Some(_) => "its copy outside the database is out of date",
        };
        let finding =
            finding(&stored.vm.entry, Severity::Note, message).hint("run `maqet doctor --fix` to write one").fixable();
        if !self.fix {
            return Some(finding);
        }
        Some(match copies.write(&stored).await {
            Ok(()) => finding.fixed("wrote a copy"),
            Err(error) => finding.fix_failed(error.as_ref()),
        })
    }
}

/// Returns what is noticeable about an image that QEMU can open.
fn image_finding(entry: &VmEntry, drive: &Drive<'_>, image: &ImageSummary) -> Option<Finding> {
    let path = &drive.path;
    let (shown, quoted) = (shown(path), quote(&path.to_string_lossy()));
    if image.is_corrupt {
        let finding = finding(entry, Severity::Warning, format!("disk image `{shown}` is marked as corrupt"));
        return Some(finding.hint(format!("check it with `qemu-img check {quoted}`")));
    }
    if image.is_dirty && entry.open_run().is_none() {
        let message = format!("disk image `{shown}` was not closed; QEMU repairs it when it opens it for writing");
        return Some(finding(entry, Severity::Note, message).hint(format!("check it with `qemu-img check {quoted}`")));
    }
    let foreign = Preflight::foreign_content(drive, image)?;
    let severity = if foreign.is_harmful() { Severity::Problem } else { Severity::Warning };
    let finding = finding(entry, severity, foreign.to_string());
    Some(match foreign.hints().into_iter().next() {
        Some(hint) => finding.hint(hint),
        None => finding,
    })
}

fn finding(entry: &VmEntry, severity: Severity, message: impl Into<String>) -> Finding {
    Finding::new(severity, Area::Vm, entry.name.as_str(), message)
}

/// Records the end of a run whose process is gone, and removes its sockets.
///
/// Returns whether its end is recorded now; `false` if another process works on the VM, or QEMU runs.
pub(crate) async fn close_run(app: &App, entry: &VmEntry, operation: &'static str) -> Result<bool, Error> {
    let locked = app.vms().lock_unrecovered(&entry.id.to_string(), operation, limits::CLEANUP_LOCK_TIMEOUT).await;
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
