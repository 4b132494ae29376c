//! The application: its ports, and what all operations share.

pub(crate) mod copying;
pub(crate) mod interruption;
pub(crate) mod operations;
pub(crate) mod settings;
pub(crate) mod timeouts;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::command_line::{Accelerator, CommandLine, LaunchContext};
use maqet_domain::config::Node;
use maqet_domain::event::Event;
use maqet_domain::history::HistoryEntry;
use maqet_domain::machine::ConfigHandler;
use maqet_domain::machine::{AccelChoice, Machine};
use maqet_domain::port::{
    Clock, Consoles, Dialer, DiskImages, FirmwareCatalog, Guard, Hooks, Host, HostFacts, Hypervisor, IdSource, Journal,
    Kvm, LockName, Locks, Monitors, Paths, Pictures, ProcessStats, Processes, Records, Schemas, Store, StoreError,
};
use maqet_domain::registry::Registry;
use maqet_domain::storage::StorageDriver;
use maqet_domain::text::similar;
use maqet_domain::vm::{BootNumber, InvalidTransition, Revision, Run, RunPaths, Vm, VmEntry, VmId, VmName};
use maqet_fault_points::{FaultPoint, FaultPoints};
use serde_json::Value;

use crate::app::interruption::Interruption;
use crate::app::operations::{Effect, Operation, call_of};
use crate::app::settings::Settings;
use crate::config::{ConfigError, merge, origins, placed};
use crate::event::bus::{Bus, EventStream, Observer};
use crate::event::hooks::PendingHooks;
use crate::event::journal::Touched;
use crate::job::progress::{ProgressBoard, ProgressStream};
use crate::maintenance::Maintenance;
use crate::{Error, Timeouts};

/// What the application needs from the world.
#[derive(Clone)]
pub struct Ports {
    /// Keeps VMs, history and events.
    pub store: Arc<dyn Store>,
    /// Starts QEMU.
    pub hypervisor: Arc<dyn Hypervisor>,
    /// Talks to running machines.
    pub monitors: Arc<dyn Monitors>,
    /// Keeps what QEMUs tell of their commands.
    pub schemas: Arc<dyn Schemas>,
    /// Knows processes.
    pub processes: Arc<dyn Processes>,
    /// Looks at paths.
    pub paths: Arc<dyn Paths>,
    /// Knows installed firmware.
    pub firmware: Arc<dyn FirmwareCatalog>,
    /// Reads what runs left behind.
    pub records: Arc<dyn Records>,
    /// Handles pictures of screens.
    pub pictures: Arc<dyn Pictures>,
    /// Attaches to serial consoles.
    pub consoles: Arc<dyn Consoles>,
    /// Keeps what was done to VMs.
    pub journal: Arc<dyn Journal>,
    /// Measures processes.
    pub stats: Arc<dyn ProcessStats>,
    /// Connects to servers in guests.
    pub dialer: Arc<dyn Dialer>,
    /// Runs the user's hooks.
    pub hooks: Arc<dyn Hooks>,
    /// Works on disk images.
    pub images: Arc<dyn DiskImages>,
    /// Locks across processes.
    pub locks: Arc<dyn Locks>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Makes ids.
    pub ids: Arc<dyn IdSource>,
    /// Knows the host.
    pub host: Arc<dyn Host>,
    /// Serves maqet's own upkeep.
    pub upkeep: Maintenance,
}

/// Where files of VMs go; absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folders {
    /// Disks that a definition gives no path, one folder a VM.
    pub storage: PathBuf,
    /// Sockets of running machines; private, short.
    pub runtime: PathBuf,
    /// Logs and flight records.
    pub state: PathBuf,
}

/// Runs operations.
pub struct App {
    pub(crate) ports: Ports,
    pub(crate) folders: Folders,
    handlers: Registry<dyn ConfigHandler>,
    drivers: Registry<dyn StorageDriver>,
    settings: Settings,
    bus: Bus,
    pub(crate) faults: FaultPoints,
    pending_hooks: PendingHooks,
    pub(crate) progress: ProgressBoard,
    pub(crate) interruption: Interruption,
}

impl App {
    /// Makes an application; `handlers` and `drivers` are the configuration keys and storage types it knows.
    pub fn new(
        ports: Ports,
        folders: Folders,
        handlers: Registry<dyn ConfigHandler>,
        drivers: Registry<dyn StorageDriver>,
    ) -> Self {
        let (settings, bus, faults) = (Settings::default(), Bus::default(), FaultPoints::default());
        let (pending_hooks, progress) = (PendingHooks::default(), ProgressBoard::default());
        let interruption = Interruption::default();
        Self { ports, folders, handlers, drivers, settings, bus, faults, pending_hooks, progress, interruption }
    }

    /// Returns the application with other settings.
    #[must_use]
    pub fn with_settings(self, settings: Settings) -> Self {
        Self { settings, ..self }
    }

    /// Returns the application with somebody who is told of its steps.
    #[must_use]
    pub fn with_fault_points(self, faults: FaultPoints) -> Self {
        Self { faults, ..self }
    }

    /// Returns the application with one more that hears of its events.
    #[must_use]
    pub fn with_observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.bus.add(observer);
        self
    }

    /// Returns a stream of the events of this instance, from now on.
    pub fn subscribe(&self) -> EventStream {
        self.bus.subscribe()
    }

    /// Returns the ports that serve maqet's own upkeep.
    pub(crate) fn upkeep(&self) -> &Maintenance {
        &self.ports.upkeep
    }

    /// Returns a stream of how far the operations of this instance have come, of those that can tell.
    pub fn watch_progress(&self) -> ProgressStream {
        self.progress.watch()
    }

    /// Has starts that are half-way given up, and returns once that is written down; to be called before the futures of
    /// [`App::run`] are dropped, while they are still polled.
    pub async fn interrupt(&self) {
        self.interruption.tell().await;
    }

    /// Returns the settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn pending_hooks(&self) -> &PendingHooks {
        &self.pending_hooks
    }

    /// Returns how long operations wait.
    pub(crate) fn timeouts(&self) -> Timeouts {
        self.settings.timeouts
    }

    /// Returns the storage types this application knows.
    pub fn drivers(&self) -> &Registry<dyn StorageDriver> {
        &self.drivers
    }

    /// Returns the configuration keys this application knows.
    pub fn handlers(&self) -> &Registry<dyn ConfigHandler> {
        &self.handlers
    }

    /// Runs an operation, and writes in one commit what it changed.
    pub async fn run<O: Operation>(&self, operation: O) -> Result<O::Output, Error> {
        let began = Instant::now();
        let outcome = self.run_and_commit(&operation).await;
        let took = began.elapsed();
        match &outcome {
            Ok(_) => tracing::info!(operation = O::NAME, millis = took.as_millis(), "done"),
            Err(error) => {
                tracing::info!(operation = O::NAME, millis = took.as_millis(), error = error.for_logs(), "failed");
            }
        }
        if O::EFFECT != Effect::Reads {
            self.note(&operation, outcome.as_ref().map(|(_, touched)| *touched), took).await;
        }
        self.run_hooks().await;
        outcome.map(|(value, _)| value)
    }

    async fn run_and_commit<O: Operation>(&self, operation: &O) -> Result<(O::Output, Touched), Error> {
        let done = operation.run(self).await?;
        let mut changes = done.changes;
        if O::EFFECT == Effect::Changes && !changes.is_empty() {
            changes.history = Some(HistoryEntry {
                at: self.ports.clock.now(),
                actor: self.ports.host.actor(),
                vm: done.vm,
                call: call_of(operation)?,
                inverse: done.inverse,
                reverts: None,
            });
        }
        if !changes.is_empty() {
            self.faults.reach(FaultPoint::BeforeCommit(O::NAME));
            let only_tells = changes.changes.is_empty() && changes.history.is_none();
            match self.commit(changes).await {
                // It is done all the same: whoever heard that it failed would do it again.
                Err(error) if only_tells => tracing::warn!(%error, "could not write down what was done"),
                written => written?,
            }
            self.faults.reach(FaultPoint::Committed(O::NAME));
        }
        let touched = match (&done.forgotten, done.vm) {
            (Some(_), _) => Touched::Removed,
            (None, Some(id)) => Touched::Vm(id),
            (None, None) => Touched::AsAsked,
        };
        if let Some((sockets, records)) = done.forgotten {
            self.ports.hypervisor.forget(&sockets, &records).await;
            self.faults.reach(FaultPoint::RmForgotten);
        }
        drop(done.guards);
        Ok((done.value, touched))
    }

    /// Writes changes, and tells of their events once they are written.
    pub(crate) async fn commit(&self, changes: ChangeSet) -> Result<(), StoreError> {
        let events = changes.events.clone();
        let hooks = self.hooks_for(&changes).await;
        self.ports.store.commit(changes).await?;
        self.hooks_later(hooks);
        for event in &events {
            self.bus.tell(event);
        }
        Ok(())
    }

    /// Finds a VM by name, id or unique beginning of an id.
    pub(crate) async fn vm(&self, given: &str) -> Result<Vm, Error> {
        let store = &self.ports.store;
        if let Ok(name) = VmName::parse(given)
            && let Some(vm) = store.by_name(&name).await?
        {
            return Ok(vm);
        }
        if VmId::could_begin_with(given) {
            let matches = store.by_id_prefix(given).await?;
            if let [entry] = matches.as_slice()
                && let Some(vm) = store.by_id(&entry.id).await?
            {
                return Ok(vm);
            }
            if matches.len() > 1 {
                let matches = matches.into_iter().map(|entry| entry.name).collect();
                return Err(Error::AmbiguousVm { given: given.to_owned(), matches });
            }
        }
        let entries = store.list().await?;
        let known: Vec<VmId> = entries.iter().map(|entry| entry.id).collect();
        if let Some(stray) = self.find_orphan(given, &known).await {
            return Err(Error::Orphaned(Box::new(stray)));
        }
        let similar = similar(given, entries.iter().map(|entry| entry.name.as_str()));
        Err(Error::NoSuchVm { given: given.chars().take(80).collect(), similar })
    }

    /// Locks a VM for an operation and reads it anew, as it may have changed while we waited.
    pub(crate) async fn lock(&self, given: &str, operation: &'static str) -> Result<(Box<dyn Guard>, Vm), Error> {
        self.lock_within(given, operation, self.timeouts().lock).await
    }

    /// The same, waiting at most `patience` for whoever holds the lock.
    pub(crate) async fn lock_within(
        &self,
        given: &str,
        operation: &'static str,
        patience: Duration,
    ) -> Result<(Box<dyn Guard>, Vm), Error> {
        let vm = self.vm(given).await?;
        let name = LockName::Vm(vm.entry.id);
        let mut guard = self.ports.locks.lock(&name, operation, patience).await?;
        self.faults.reach(FaultPoint::Locked(operation));
        match self.reread(&vm).await {
            Err(gone @ Error::NoSuchVm { .. }) => {
                guard.retire();
                Err(gone)
            }
            read => {
                let vm = self.reconciled(read?).await;
                self.catch_up_hooks(&vm).await;
                Ok((guard, vm))
            }
        }
    }

    /// Reads a VM anew.
    pub(crate) async fn reread(&self, vm: &Vm) -> Result<Vm, Error> {
        let read = self.ports.store.by_id(&vm.entry.id).await?;
        read.ok_or_else(|| Error::NoSuchVm { given: vm.entry.name.to_string(), similar: Vec::new() })
    }

    /// Understands a VM's definition, laid over the defaults of the settings.
    ///
    /// What is wrong is told with the places from which the definition came, as far as they were kept.
    pub(crate) fn machine(&self, vm: &Vm) -> Result<Machine, Error> {
        self.machine_defined_by(vm.definition.clone()).or_else(|_| self.machine_defined_by(placed(vm)))
    }

    /// The same of a definition that says itself where its values stand.
    pub(crate) fn machine_defined_by(&self, definition: Node) -> Result<Machine, Error> {
        let whole = merge(self.settings.defaults.clone(), definition);
        let sources = || self.settings.sources.clone();
        Machine::check(&whole, &self.handlers).map_err(|problems| ConfigError::new(problems, sources()).into())
    }

    /// Returns the folder of the disks of a VM that its definition gives no path.
    pub(crate) fn vm_storage(&self, name: &VmName) -> PathBuf {
        self.folders.storage.join(name.as_str())
    }

    /// Returns the folder of a VM's sockets and the folder of its records.
    pub(crate) fn vm_folders(&self, id: &VmId) -> (PathBuf, PathBuf) {
        (self.folders.runtime.join(id.short()), self.folders.state.join(id.to_string()))
    }

    /// Returns where the files of the VM's next run are.
    pub(crate) fn next_run(&self, entry: &VmEntry) -> (BootNumber, RunPaths) {
        let boot = BootNumber::after(entry.run.as_ref().map(|run| run.boot));
        let (sockets, records) = self.vm_folders(&entry.id);
        (boot, RunPaths::new(&sockets, &records, boot))
    }

    /// Computes the command line that would run `machine` with its files at `places`.
    pub(crate) async fn command_line(
        &self,
        entry: &VmEntry,
        machine: &Machine,
        paths: &RunPaths,
    ) -> Result<CommandLine, Error> {
        let facts = self.ports.host.facts();
        let architecture = self.architecture(machine);
        let wanted = machine.binary.clone().unwrap_or_else(|| format!("qemu-system-{architecture}"));
        let accelerator = accelerator(machine.accel, &kvm_for(&architecture, &facts))?;
        let uefi = self.uefi(machine).await?.map(|firmware| self.uefi_files(entry, firmware));
        let binary = self.ports.hypervisor.binary(&wanted).await?;
        let setting = LaunchContext {
            name: entry.name.clone(),
            id: entry.id,
            binary: binary.path,
            accelerator,
            vm_storage: self.vm_storage(&entry.name),
            paths: paths.clone(),
            uefi,
            is_root: facts.is_root,
        };
        Ok(CommandLine::new(machine, &setting)?)
    }

    /// Writes how far a run has come, and returns the entry as it is from then on.
    pub(crate) async fn record_run(&self, entry: &VmEntry, run: Option<Run>) -> Result<VmEntry, Error> {
        let change = run_change(entry, run.clone());
        self.commit(ChangeSet::default().and(change)).await?;
        Ok(VmEntry { run, revision: entry.revision.next(), ..entry.clone() })
    }

    /// Makes an event about a VM that happened now.
    pub(crate) fn event(&self, kind: &str, entry: &VmEntry, data: Value) -> Event {
        Event {
            at: self.ports.clock.now(),
            kind: kind.to_owned(),
            vm: Some(entry.id),
            vm_name: Some(entry.name.clone()),
            data,
        }
    }

    /// Returns a VM that was never stored, with an id of its own.
    pub(crate) fn new_vm(&self, name: VmName, definition: Node) -> Vm {
        let origins = origins(&definition);
        let entry = VmEntry {
            id: self.ports.ids.vm_id(),
            name,
            revision: Revision::FIRST,
            created_at: self.ports.clock.now(),
            run: None,
        };
        Vm { entry, definition, origins }
    }
}

/// Returns the change that takes the VM to `run`.
pub(crate) fn run_change(entry: &VmEntry, run: Option<Run>) -> Change {
    Change::RunChanged { id: entry.id, expected: entry.revision, run }
}

/// Returns the error of a wish that does not fit the state a VM is in.
pub(crate) fn wrong_state(entry: &VmEntry, refused: InvalidTransition) -> Error {
    Error::WrongState { vm: entry.name.clone(), status: refused.status, action: refused.action }
}

/// Returns a path as text for JSON; what is not UTF-8 is shown as best it can be.
pub(crate) fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// KVM runs guests of the host's own architecture only; a 64-bit x86 runs 32-bit guests too.
fn kvm_for(architecture: &str, facts: &HostFacts) -> Kvm {
    let is_own =
        architecture == facts.architecture || (architecture, facts.architecture.as_str()) == ("i386", "x86_64");
    if is_own {
        return facts.kvm.clone();
    }
    Kvm::Unusable(format!("the guest is `{architecture}` and the host is `{}`", facts.architecture))
}

fn accelerator(choice: AccelChoice, kvm: &Kvm) -> Result<Accelerator, Error> {
    match (choice, kvm) {
        (AccelChoice::Tcg, _) | (AccelChoice::Auto, Kvm::Unusable(_)) => Ok(Accelerator::Tcg),
        (AccelChoice::Auto | AccelChoice::Kvm, Kvm::Usable) => Ok(Accelerator::Kvm),
        (AccelChoice::Kvm, Kvm::Unusable(why)) => Err(Error::KvmUnusable { why: why.clone() }),
    }
}
