//! The VMs: whether each could start, and whether what was written down of it is so.

use maqet_domain::machine::Machine;
use maqet_domain::storage::Preparation;
use maqet_domain::vm::{Phase, Status, Vm, VmEntry};

use super::{Area, Finding, Severity, in_full};
use crate::app::commit::kept_vm;
use crate::app::shown;
use crate::{App, Error};

impl App {
    /// Looks at every VM, and writes down what is known of them if asked to.
    pub(crate) async fn vm_findings(&self, fix: bool) -> Result<Vec<Finding>, Error> {
        let entries = self.ports.store.list().await?;
        let mut findings = Vec::new();
        let mut fine = 0_usize;
        for entry in &entries {
            // Removed by somebody else meanwhile.
            let Some(vm) = self.ports.store.by_id(&entry.id).await? else { continue };
            let of_this_one = self.findings_of(&vm, fix).await?;
            fine += usize::from(of_this_one.is_empty());
            findings.extend(of_this_one);
        }
        if fine > 0 {
            let what = if fine == entries.len() { "all are fine".to_owned() } else { format!("{fine} are fine") };
            findings.push(Finding::new(Severity::Ok, Area::Vm, format!("{} VMs", entries.len()), what));
        }
        Ok(findings)
    }

    /// Returns what is to be said of a VM; nothing of one that is fine.
    async fn findings_of(&self, vm: &Vm, fix: bool) -> Result<Vec<Finding>, Error> {
        let found = |severity, what: String| Finding::new(severity, Area::Vm, vm.entry.name.as_str(), what);
        let mut findings = Vec::new();
        match self.machine(vm) {
            Ok(machine) => {
                findings.extend(self.binary_finding(vm, &machine).await);
                findings.extend(self.disk_findings(vm, &machine).await);
            }
            Err(error) => findings.push(
                found(Severity::Problem, format!("its definition is not understood: {}", in_full(&error)))
                    .cured_by(format!("give it another one with `maqet apply {} FILE`", vm.entry.name)),
            ),
        }
        findings.extend(self.run_finding(&vm.entry, fix).await?);
        findings.extend(self.copy_finding(vm, fix).await?);
        Ok(findings)
    }

    async fn binary_finding(&self, vm: &Vm, machine: &Machine) -> Option<Finding> {
        let wanted =
            machine.binary.clone().unwrap_or_else(|| format!("qemu-system-{}", self.preflight().architecture(machine)));
        let error = self.ports.hypervisor.binary(&wanted).await.err()?;
        Some(Finding::of_error(Severity::Problem, Area::Vm, vm.entry.name.as_str(), &error))
    }

    async fn disk_findings(&self, vm: &Vm, machine: &Machine) -> Vec<Finding> {
        let found = |what: String| Finding::new(Severity::Problem, Area::Vm, vm.entry.name.as_str(), what);
        let made = self.ports.store.of_vm(&vm.entry.id).await.unwrap_or_default();
        let vm_storage = self.folders.vm_storage(&vm.entry.name);
        let mut findings = Vec::new();
        for spec in &machine.storage {
            let path = spec.path(&vm_storage);
            let preparation = spec.driver.preparation(spec, &path);
            let is_there = self.ports.images.exists(&path).await;
            let is_file = matches!(preparation, Preparation::Image(_) | Preparation::Existing(_));
            let was_made = made.iter().any(|record| record.path == path);
            if is_file && is_there && !self.maintenance().stale_files.is_readable(&path).await {
                findings.push(
                    found(format!("the disk `{}` cannot be read", shown(&path)))
                        .cured_by("look at its owner and its permissions"),
                );
            } else if !is_there && matches!(preparation, Preparation::Existing(_)) {
                findings.push(
                    found(format!("there is no disk `{}`", shown(&path)))
                        .cured_by("put it back, or correct its path under `storage` with `maqet apply`"),
                );
            } else if !is_there && was_made {
                findings.push(
                    found(format!(
                        "the disk `{}` was made and is gone; the next start makes an empty one",
                        shown(&path)
                    ))
                    .cured_by("put it back, or restore it from a backup"),
                );
            }
        }
        findings
    }

    /// Compares the recorded run with what is there.
    async fn run_finding(&self, entry: &VmEntry, fix: bool) -> Result<Option<Finding>, Error> {
        let found = |severity, what: String| Finding::new(severity, Area::Vm, entry.name.as_str(), what);
        let seen = self.observer().observe(entry).await;
        if let Some(deaf) = seen.unresponsive(entry) {
            return Ok(Some(Finding::of_error(Severity::Warning, Area::Vm, entry.name.as_str(), &deaf)));
        }
        let finding = match seen.status {
            Status::Unreachable => {
                found(Severity::Problem, "its QEMU lives and its monitor does not answer".to_owned())
                    .cured_by(format!("wait, or kill it with `maqet stop {} --force`", entry.name))
            }
            Status::IoError | Status::Panicked | Status::RestoreFailed => {
                found(Severity::Problem, format!("it stands still: {}", seen.status.as_str()))
                    .cured_by(format!("read `maqet status {0}`, then `maqet stop {0}`", entry.name))
            }
            Status::Stopped(_) if !is_ended(entry) && seen.busy.is_none() => {
                let finding = found(Severity::Note, "its QEMU is gone, and its end was not written down".to_owned())
                    .cured_by("nothing has to be done: every look sees that it is gone")
                    .fixable();
                return Ok(Some(if fix { self.settled_finding(finding, entry).await } else { finding }));
            }
            _ => return Ok(None),
        };
        Ok(Some(finding))
    }

    async fn settled_finding(&self, finding: Finding, entry: &VmEntry) -> Finding {
        match self.close_run(entry, "doctor").await {
            Ok(true) => finding.fixed("its end was written down, and its sockets were removed"),
            Ok(false) => finding.fixed("somebody else works on it"),
            Err(error) => finding.not_fixed(&error),
        }
    }

    /// Writes down the end of a run whose process is gone, and removes its sockets; returns whether it was so.
    pub(crate) async fn close_run(&self, entry: &VmEntry, operation: &'static str) -> Result<bool, Error> {
        let locked = self.lock_within(&entry.id.to_string(), operation, crate::limits::CLEANUP_LOCK_TIMEOUT).await;
        let (_guard, vm) = match locked {
            Ok(locked) => locked,
            Err(Error::Lock(_) | Error::NoSuchVm { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        let entry = self.reconciler().reconcile_locked(vm).await.entry;
        let Some(run) = entry.run.clone() else { return Ok(false) };
        match (run.phase, self.observer().observe_locked(&entry).await.status) {
            (Phase::Ended(_), _) => Ok(true),
            // A start that was killed before QEMU was up has no end that an event could tell.
            (Phase::Starting, Status::Stopped(ending)) => {
                self.committer().record_run(&entry, Some(run.at_phase(Phase::Ended(ending)))).await?;
                self.ports.hypervisor.clear(&run.paths).await;
                Ok(true)
            }
            (_, _) => Ok(false),
        }
    }

    /// Compares the copy outside of the database with what is in it.
    async fn copy_finding(&self, vm: &Vm, fix: bool) -> Result<Option<Finding>, Error> {
        let Some(mut now) = kept_vm(self.ports.store.as_ref(), &vm.entry.id).await? else { return Ok(None) };
        let copies = &self.maintenance().copies;
        let copy = copies.of_vm(&vm.entry.id).await;
        now.vm.entry.run = None;
        let is_same = copy.as_ref().is_some_and(|copy| {
            (&copy.vm.entry.name, &copy.vm.definition, &copy.storage)
                == (&now.vm.entry.name, &now.vm.definition, &now.storage)
        });
        if is_same {
            return Ok(None);
        }
        let what =
            if copy.is_none() { "there is no copy of it outside of the database" } else { "its copy is out of date" };
        let finding = Finding::new(Severity::Note, Area::Vm, vm.entry.name.as_str(), what)
            .cured_by("write one with `maqet doctor --fix`")
            .fixable();
        if !fix {
            return Ok(Some(finding));
        }
        Ok(Some(match copies.keep(&now).await {
            Ok(()) => finding.fixed("a copy was written"),
            Err(error) => finding.not_fixed(error.as_ref()),
        }))
    }
}

/// Returns whether nothing of the VM's last run is open.
fn is_ended(entry: &VmEntry) -> bool {
    entry.run.as_ref().is_none_or(|run| matches!(run.phase, Phase::Ended(_)))
}
