//! Orphans: QEMU processes started by maqet whose VM is not in the store.

use jiff::Timestamp;
use maqet_domain::port::{ImageUser, Processes, QemuInstance, StaleFiles, Store, VmCopies};
use maqet_domain::vm::{MonitorRole, Phase, Run, Status, Vm, VmId, VmName};

use super::observe::VmStatus;
use crate::app::shown;

impl VmStatus {
    /// Describes a QEMU process without a VM.
    fn from_orphan(instance: &QemuInstance, created_at: Timestamp) -> Self {
        let paths = &instance.paths;
        Self {
            host: None,
            owner: None,
            host_away_since: None,
            id: instance.id.map_or_else(|| instance.short.clone(), |id| id.to_string()),
            name: instance.name.clone().unwrap_or_else(|| instance.short.clone()),
            status: Status::Orphaned.as_str(),
            reason: None,
            details: None,
            hint: None,
            resets: None,
            clock_behind_ms: None,
            busy: None,
            pid: Some(instance.process.pid),
            pid_namespace: None,
            created_at,
            started_at: Some(instance.started_at),
            stopped_at: None,
            boot: Some(instance.boot.0),
            serial_log: Some(shown(&paths.serial_log())),
            qemu_log: Some(shown(&paths.qemu_log())),
            qmp_log: Some(shown(&paths.qmp_log())),
            forwards: Vec::new(),
            external_monitor: Some(shown(&paths.monitor(MonitorRole::External))),
        }
    }
}

/// Finds orphans.
#[derive(Clone, Copy)]
pub(crate) struct Orphans<'a> {
    pub(crate) store: &'a dyn Store,
    pub(crate) processes: &'a dyn Processes,
    pub(crate) stale_files: &'a dyn StaleFiles,
    pub(crate) copies: &'a dyn VmCopies,
}

impl Orphans<'_> {
    /// Returns the orphans in the runtime folder, as a list shows them; `known` are the VMs of the store.
    pub(crate) async fn list(&self, known: &[VmId]) -> Vec<VmStatus> {
        let mut orphans = Vec::new();
        for instance in self.stale_files.orphans(known).await {
            // A VM that was added and started since `known` was read is not an orphan.
            if let Some(id) = instance.id
                && !matches!(self.store.by_id(&id).await, Ok(None))
            {
                continue;
            }
            let copy = match instance.id {
                Some(id) => self.copies.find(&id).await,
                None => None,
            };
            let created_at = copy.map_or(instance.started_at, |copy| copy.vm.entry.created_at);
            orphans.push(VmStatus::from_orphan(&instance, created_at));
        }
        orphans
    }

    /// Finds the one orphan with this name, id or prefix of an id.
    pub(crate) async fn find(&self, name: &str, known: &[VmId]) -> Option<VmStatus> {
        let orphans = self.list(known).await;
        let has_prefix = |orphan: &VmStatus| VmId::is_prefix(name) && orphan.id.starts_with(name);
        let mut found = orphans.into_iter().filter(|orphan| orphan.name == name || has_prefix(orphan));
        found.next().filter(|_| found.next().is_none())
    }

    /// Finds an orphan whose VM had this name.
    pub(crate) async fn named(&self, name: &VmName) -> Option<VmStatus> {
        // Without a list of all VMs, which may be long, and mostly without a look at all processes.
        let mut known = Vec::new();
        for short in self.stale_files.short_ids().await {
            let entries = self.store.by_id_prefix(&short).await.unwrap_or_default();
            known.extend(entries.into_iter().map(|entry| entry.id));
        }
        for instance in self.stale_files.orphans(&known).await {
            if instance.name.as_deref() == Some(name.as_str())
                && let Some(id) = instance.id
                && matches!(self.store.by_id(&id).await, Ok(None))
            {
                return Some(VmStatus::from_orphan(&instance, instance.started_at));
            }
        }
        None
    }

    /// Returns whether a process is an orphan: it is alive, and `vm`, as stored now, does not record it.
    pub(crate) fn is_orphan(&self, instance: &QemuInstance, vm: Option<&Vm>) -> bool {
        let run = vm.and_then(|vm| vm.entry.open_run());
        self.processes.is_alive(&instance.process) && run.is_none_or(|run| run.boot != instance.boot)
    }

    /// Returns the pid of the user of an image, if that is an orphan.
    pub(crate) async fn among_users(&self, user: Option<&ImageUser>) -> Option<u32> {
        let pid = user?.pid;
        let instances = self.stale_files.instances().await;
        let instance = instances.iter().find(|one| one.process.pid == pid && !one.is_foreign)?;
        let vm = match instance.id {
            Some(id) => self.store.by_id(&id).await.ok()?,
            None => None,
        };
        self.is_orphan(instance, vm.as_ref()).then_some(pid)
    }
}

/// Returns an instance as a run.
pub(crate) fn run_of_instance(instance: &QemuInstance) -> Run {
    Run {
        boot: instance.boot,
        phase: Phase::Running,
        process: Some(instance.process.clone()),
        started_at: instance.started_at,
        paths: instance.paths.clone(),
        forwards: Vec::new(),
    }
}
