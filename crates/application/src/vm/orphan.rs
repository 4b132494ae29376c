//! Machines that no VM owns, as `ls` and `status` show them.

use jiff::Timestamp;
use maqet_domain::port::{ImageUser, QemuInstance};
use maqet_domain::vm::{MonitorRole, Phase, Run, Status, Vm, VmId};

use crate::App;
use crate::app::shown;
use crate::vm::observe::VmStatus;

impl VmStatus {
    /// Describes a machine that no VM owns.
    fn from_orphan(machine: &QemuInstance, created_at: Timestamp) -> Self {
        let paths = &machine.paths;
        Self {
            id: machine.id.map_or_else(|| machine.short.clone(), |id| id.to_string()),
            name: machine.name.clone().unwrap_or_else(|| machine.short.clone()),
            status: Status::Orphaned.as_str(),
            reason: None,
            busy: None,
            pid: Some(machine.process.pid),
            created_at,
            started_at: Some(machine.started_at),
            stopped_at: None,
            boot: Some(machine.boot.0),
            serial_log: Some(shown(&paths.serial_log())),
            qemu_log: Some(shown(&paths.qemu_log())),
            event_log: Some(shown(&paths.recorder_log())),
            forwards: Vec::new(),
            external_monitor: Some(shown(&paths.monitor(MonitorRole::External))),
        }
    }
}

impl App {
    /// Returns the machines of the runtime folder that none of the VMs `known` owns, as a list shows them.
    pub(crate) async fn orphans(&self, known: &[VmId]) -> Vec<VmStatus> {
        let mut strays = Vec::new();
        for machine in self.upkeep().stale_files.orphans(known).await {
            // One that was made and started since `known` was read has an owner.
            if let Some(id) = machine.id
                && !matches!(self.ports.store.by_id(&id).await, Ok(None))
            {
                continue;
            }
            let copy = match machine.id {
                Some(id) => self.upkeep().copies.of_vm(&id).await,
                None => None,
            };
            let created_at = copy.map_or(machine.started_at, |copy| copy.vm.entry.created_at);
            strays.push(VmStatus::from_orphan(&machine, created_at));
        }
        strays
    }

    /// Finds a machine that no VM owns by the name, the id or the beginning of the id of the VM it was.
    pub(crate) async fn find_orphan(&self, given: &str, known: &[VmId]) -> Option<VmStatus> {
        let strays = self.orphans(known).await;
        let begins = |stray: &VmStatus| VmId::could_begin_with(given) && stray.id.starts_with(given);
        let mut found = strays.into_iter().filter(|stray| stray.name == given || begins(stray));
        found.next().filter(|_| found.next().is_none())
    }
}

/// Returns whether a machine is an orphan: it lives, and `vm`, as it is now, does not know it.
pub(crate) fn is_orphan(app: &App, machine: &QemuInstance, vm: Option<&Vm>) -> bool {
    let run = vm.and_then(|vm| vm.entry.run.as_ref()).filter(|run| !matches!(run.phase, Phase::Ended(_)));
    app.ports.processes.is_alive(&machine.process) && run.is_none_or(|run| run.boot != machine.boot)
}

/// Returns the pid of who has an image open, if that is a QEMU which no VM owns.
pub(crate) async fn orphan_among(app: &App, user: Option<&ImageUser>) -> Option<u32> {
    let pid = user?.pid;
    let machines = app.upkeep().stale_files.machines().await;
    let machine = machines.iter().find(|one| one.process.pid == pid && !one.is_foreign)?;
    let owner = match machine.id {
        Some(id) => app.ports.store.by_id(&id).await.ok()?,
        None => None,
    };
    is_orphan(app, machine, owner.as_ref()).then_some(pid)
}

/// Returns the run that a living machine is; its places are those of its VM.
pub(crate) fn machine_run(machine: &QemuInstance) -> Run {
    Run {
        boot: machine.boot,
        phase: Phase::Running,
        process: Some(machine.process.clone()),
        started_at: machine.started_at,
        paths: machine.paths.clone(),
        forwards: Vec::new(),
    }
}
