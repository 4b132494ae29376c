//! The application: the value that runs operations, and the small structs through which the rooms get what they need.
//!
//! An [`App`] holds the ports, the settings and the registries. [`App::run`] (in `executor`) runs one operation: it
//! times it, commits its changes once, records history, publishes events, writes to the VM's journal, and runs hooks.
//! Each room has small structs that borrow only what they need, such as [`Observer`] for the state of a VM, or [`Vms`]
//! for finding and locking one; the accessors at the end of this file hand them out.

pub(crate) mod commit;
pub(crate) mod executor;
pub(crate) mod lookup;
pub(crate) mod operations;
pub(crate) mod ports;
pub(crate) mod recovered;
pub(crate) mod settings;
pub(crate) mod timeouts;

use std::path::Path;
use std::sync::Arc;

use maqet_domain::machine::{ConfigHandler, Machine};
use maqet_domain::registry::Registry;
use maqet_domain::storage::{QCOW2, StorageDriver};
use maqet_domain::vm::{DriveLayers, Vm, VmEntry, layers_of};
use maqet_fault_points::FaultPoints;
use serde_json::Value;

use self::commit::Committer;
use self::lookup::Vms;
use self::operations::OperationTable;
use self::ports::{Directories, Ports};
use self::settings::AppSettings;
use crate::config::{check_machine, with_locations};
use crate::event::bus::{Bus, EventListener, EventStream};
use crate::event::hook_runner::{HookRunner, PendingHooks};
use crate::job::{Jobs, ProgressStream};
use crate::maintenance::StaleFileRemoval;
use crate::metric::meter::Meter;
use crate::metric::monitors::MeasuredMonitors;
use crate::start::preflight::Preflight;
use crate::vm::observe::Observer;
use crate::vm::orphan::Orphans;
use crate::vm::reconcile::Reconciler;
use crate::vm::shutdown::Shutdown;
use crate::{Error, Timeouts};

/// Runs operations.
pub struct App {
    pub(crate) ports: Ports,
    pub(crate) folders: Directories,
    handlers: Registry<dyn ConfigHandler>,
    drivers: Registry<dyn StorageDriver>,
    operations: OperationTable,
    settings: AppSettings,
    bus: Bus,
    pub(crate) faults: FaultPoints,
    pending_hooks: PendingHooks,
    pub(crate) jobs: Jobs,
    pub(crate) meter: Arc<Meter>,
}

impl App {
    /// Makes an application; `handlers` and `drivers` are the configuration keys and storage types it supports.
    pub fn new(
        mut ports: Ports,
        folders: Directories,
        handlers: Registry<dyn ConfigHandler>,
        drivers: Registry<dyn StorageDriver>,
    ) -> Self {
        let meter = Arc::new(Meter::new(Arc::clone(&ports.metrics)));
        ports.monitors = Arc::new(MeasuredMonitors::new(ports.monitors, Arc::clone(&meter)));
        Self {
            ports,
            folders,
            handlers,
            drivers,
            operations: OperationTable::default(),
            settings: AppSettings::default(),
            bus: Bus::default(),
            faults: FaultPoints::default(),
            pending_hooks: PendingHooks::default(),
            jobs: Jobs::default(),
            meter,
        }
    }

    /// Replaces the settings.
    #[must_use]
    pub fn with_settings(self, settings: AppSettings) -> Self {
        Self { settings, ..self }
    }

    /// Sets the operations that [`App::call`] finds by name; there are none by default.
    #[must_use]
    pub fn with_operations(self, operations: OperationTable) -> Self {
        Self { operations, ..self }
    }

    /// Sets what happens at fault points, for tests.
    #[must_use]
    pub fn with_fault_points(self, faults: FaultPoints) -> Self {
        Self { faults, ..self }
    }

    /// Adds a listener that is called with every event of this instance.
    #[must_use]
    pub fn with_listener(mut self, listener: Arc<dyn EventListener>) -> Self {
        self.bus.add(listener);
        self
    }

    /// Returns a stream of the events of this instance, from now on.
    pub fn subscribe(&self) -> EventStream {
        self.bus.subscribe()
    }

    /// Returns a stream of the progress of this instance's jobs, from now on.
    pub fn watch_progress(&self) -> ProgressStream {
        self.jobs.watch()
    }

    /// Returns the jobs of this instance.
    pub fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    /// Cancels all jobs of this instance, and returns once each has cleaned up and recorded that.
    ///
    /// Call it before dropping the futures of [`App::run`], while they are still polled. Operations that run afterwards
    /// are not affected.
    pub async fn cancel_jobs(&self) {
        self.jobs.cancel_all().await;
    }

    /// Returns the settings.
    pub fn settings(&self) -> &AppSettings {
        &self.settings
    }

    /// Returns the storage types this application supports.
    pub fn drivers(&self) -> &Registry<dyn StorageDriver> {
        &self.drivers
    }

    /// Returns the configuration keys this application supports.
    pub fn handlers(&self) -> &Registry<dyn ConfigHandler> {
        &self.handlers
    }

    /// Returns the operations by name.
    pub fn operations(&self) -> &OperationTable {
        &self.operations
    }

    /// Runs the operation `name` with JSON arguments.
    ///
    /// Errors: [`Error::NoSuchOperation`], [`Error::InvalidArguments`], and those of the operation.
    pub async fn call(&self, name: &str, arguments: Value) -> Result<Value, Error> {
        self.operations.call(self, name, arguments).await
    }

    /// Checks a VM's definition, merged over the defaults of the settings; drives that have layers have the one on top as
    /// their image.
    ///
    /// Problems name the source locations of the definition, as far as they were recorded.
    pub(crate) fn machine(&self, vm: &Vm) -> Result<Machine, Error> {
        let machine =
            check_machine(self, vm.definition.clone()).or_else(|_| check_machine(self, with_locations(vm)))?;
        Ok(layered(machine, &vm.entry.layers))
    }

    pub(crate) fn timeouts(&self) -> Timeouts {
        self.settings.timeouts
    }

    pub(crate) fn committer(&self) -> Committer<'_> {
        Committer {
            store: &*self.ports.store,
            copies: &*self.ports.maintenance.copies,
            clock: &*self.ports.clock,
            hooks: self.hooks(),
            bus: &self.bus,
            meter: &self.meter,
        }
    }

    pub(crate) fn hooks(&self) -> HookRunner<'_> {
        HookRunner {
            settings: &self.settings,
            store: &*self.ports.store,
            records: &*self.ports.records,
            hooks: &*self.ports.hooks,
            clock: &*self.ports.clock,
            state: &self.folders.state,
            pending: &self.pending_hooks,
        }
    }

    pub(crate) fn observer(&self) -> Observer<'_> {
        Observer {
            processes: &*self.ports.processes,
            hypervisor: &*self.ports.hypervisor,
            monitors: &*self.ports.monitors,
            locks: &*self.ports.locks,
            store: &*self.ports.store,
            clock: &*self.ports.clock,
            start_timeout: self.settings.timeouts.start,
        }
    }

    pub(crate) fn reconciler(&self) -> Reconciler<'_> {
        Reconciler {
            observer: self.observer(),
            store: &*self.ports.store,
            committer: self.committer(),
            hooks: self.hooks(),
        }
    }

    pub(crate) fn shutdown(&self) -> Shutdown<'_> {
        Shutdown {
            processes: &*self.ports.processes,
            monitors: &*self.ports.monitors,
            hypervisor: &*self.ports.hypervisor,
            clock: &*self.ports.clock,
            meter: &self.meter,
            timeouts: self.settings.timeouts,
        }
    }

    pub(crate) fn vms(&self) -> Vms<'_> {
        Vms {
            app: self,
            store: &*self.ports.store,
            locks: &*self.ports.locks,
            orphans: self.orphans(),
            reconciler: self.reconciler(),
            faults: &self.faults,
            lock_timeout: self.settings.timeouts.lock,
        }
    }

    pub(crate) fn orphans(&self) -> Orphans<'_> {
        Orphans {
            store: &*self.ports.store,
            processes: &*self.ports.processes,
            stale_files: &*self.ports.maintenance.stale_files,
            copies: &*self.ports.maintenance.copies,
        }
    }

    /// Returns what removes stale files; `entries` are the VMs when the files were searched for.
    pub(crate) fn stale_file_removal<'a>(&'a self, entries: &'a [VmEntry]) -> StaleFileRemoval<'a> {
        StaleFileRemoval {
            stale_files: &*self.ports.maintenance.stale_files,
            locks: &*self.ports.locks,
            store: &*self.ports.store,
            hypervisor: &*self.ports.hypervisor,
            folders: &self.folders,
            entries,
        }
    }

    pub(crate) fn preflight(&self) -> Preflight<'_> {
        Preflight {
            images: &*self.ports.images,
            paths: &*self.ports.paths,
            firmware: &*self.ports.firmware,
            host: &*self.ports.host,
            hypervisor: &*self.ports.hypervisor,
            store: &*self.ports.store,
            folders: &self.folders,
        }
    }
}

/// Returns a machine whose drives have the layers on top as their images.
///
/// A layer exists: a start creates none.
pub(crate) fn layered(mut machine: Machine, layers: &[DriveLayers]) -> Machine {
    for drive in &mut machine.storage {
        if let Some(layers) = layers_of(layers, drive.name.as_str()) {
            drive.driver = Arc::new(QCOW2);
            drive.file = Some(layers.top().to_owned());
            drive.size = None;
            drive.backing = None;
        }
    }
    machine
}

/// Returns a path as text for JSON output; bytes that are not UTF-8 become U+FFFD.
pub(crate) fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
