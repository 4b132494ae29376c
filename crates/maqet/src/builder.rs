//! The composition root: every part is chosen here, and nowhere else.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use maqet_adapters_linux::{
    FileCopies, FileJournal, FileLocks, LinuxProcesses, LocalHooks, LocalHost, LocalPaths, LocalProbe, LocalRecords,
    ProcessEnvironment, RandomIds, SystemClock, TcpDialer,
};
use maqet_adapters_qemu::{
    DescriptorCatalog, FilePictures, FileSchemas, LocalLeftovers, OurFolders, QemuConsoles, QemuHypervisor, QemuImg,
    QemuMonitors,
};
use maqet_application::{
    App, CopyingStore, Error, EventStream, Folders, Maintenance, Observer, Operation, OperationTable, Ports, config,
    operation,
};
use maqet_domain::machine::ConfigHandler;
use maqet_domain::machine::builtin_handlers;
use maqet_domain::port::{Store, StoreMaintenance, VmCopies};
use maqet_domain::storage::StorageDriver;
use maqet_domain::storage::builtin_drivers;
use maqet_fault_points::FaultPoints;
use serde_json::Value;

use crate::deferred::{DeferredCare, DeferredStore, PlainCare};
use crate::{OpenError, Settings, StoreFactories, fault};

/// maqet, opened: runs operations.
pub struct Maqet {
    app: App,
    operations: OperationTable,
    settings: Settings,
}

/// Opens maqet with parts of the caller's choice.
pub struct Builder {
    settings: Settings,
    stores: StoreFactories,
    store: Option<Arc<dyn Store>>,
    handlers: Vec<Arc<dyn ConfigHandler>>,
    drivers: Vec<Arc<dyn StorageDriver>>,
    operations: OperationTable,
    observers: Vec<Arc<dyn Observer>>,
    faults: FaultPoints,
}

impl Maqet {
    /// Opens maqet as the command line does: SQLite, whose file is opened when it is first used, and QEMU.
    pub fn open(settings: Settings) -> Result<Self, OpenError> {
        Self::builder(settings).open()
    }

    /// Begins to open maqet with parts of the caller's choice.
    pub fn builder(settings: Settings) -> Builder {
        let faults = fault::points(&settings.environment);
        Builder {
            settings,
            stores: StoreFactories::builtin(&faults),
            store: None,
            handlers: Vec::new(),
            drivers: Vec::new(),
            operations: operation::table(),
            observers: Vec::new(),
            faults,
        }
    }

    /// Runs an operation.
    pub async fn run<O: Operation>(&self, operation: O) -> Result<O::Output, Error> {
        self.app.run(operation).await
    }

    /// Runs an operation by its name, with JSON arguments.
    pub async fn call(&self, name: &str, arguments: Value) -> Result<Value, Error> {
        self.operations.call(&self.app, name, arguments).await
    }

    /// Returns a stream of what this instance does, from now on; a slow reader is told what it missed.
    ///
    /// What other processes do, and QEMU by itself, is told by the operation [`Events`](operation::Events).
    pub fn subscribe(&self) -> EventStream {
        self.app.subscribe()
    }

    /// Returns the operations by their names.
    pub fn operations(&self) -> &OperationTable {
        &self.operations
    }

    /// Returns the application, for what is not an operation.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Returns where things live.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}

impl Builder {
    /// Keeps things in this store, whatever the settings say.
    #[must_use]
    pub fn store(self, store: Arc<dyn Store>) -> Self {
        Self { store: Some(store), ..self }
    }

    /// Opens the store of the settings with these factories.
    #[must_use]
    pub fn stores(self, stores: StoreFactories) -> Self {
        Self { stores, ..self }
    }

    /// Adds a configuration key.
    #[must_use]
    pub fn handler(mut self, handler: Arc<dyn ConfigHandler>) -> Self {
        self.handlers.push(handler);
        self
    }

    /// Adds a storage type.
    #[must_use]
    pub fn storage_driver(mut self, driver: Arc<dyn StorageDriver>) -> Self {
        self.drivers.push(driver);
        self
    }

    /// Adds an operation to those that can be called by name.
    #[must_use]
    pub fn operation<O: Operation>(self) -> Self {
        Self { operations: self.operations.on::<O>(), ..self }
    }

    /// Adds one that hears of every event of this instance, as it is written.
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observers.push(observer);
        self
    }

    /// Wires everything; the store of the settings is opened when it is first used.
    ///
    /// Errors: a plug-in whose name is taken, a database URL nobody knows, `defaults` that are wrong.
    pub fn open(self) -> Result<Maqet, OpenError> {
        let mut drivers = builtin_drivers()?;
        self.drivers.into_iter().try_for_each(|driver| drivers.register(driver))?;
        let mut handlers = builtin_handlers(&drivers)?;
        self.handlers.into_iter().try_for_each(|handler| handlers.register(handler))?;

        let kept = kept(self.store, &self.stores, &self.settings)?;
        let folders = Folders {
            storage: self.settings.data_dir.join("storage"),
            runtime: self.settings.runtime_dir.clone(),
            state: self.settings.state_dir.clone(),
        };
        let folder = self.settings.config_file.as_deref().and_then(Path::parent).unwrap_or(Path::new("/"));
        let defaults = config::rebased(self.settings.defaults.clone(), folder, &handlers);
        config::check_defaults(&defaults, &handlers, &self.settings.sources)?;
        let settings = maqet_application::Settings {
            defaults,
            sources: self.settings.sources.clone(),
            hooks: self.settings.hooks.clone(),
            timeouts: self.settings.timeouts(),
            effective: self.settings.effective(),
        };
        let ports = ports(kept, &self.settings, &self.faults);
        let app = App::new(ports, folders, handlers, drivers).with_settings(settings).with_fault_points(self.faults);
        let app = self.observers.into_iter().fold(app, App::with_observer);
        Ok(Maqet { app, operations: self.operations, settings: self.settings })
    }
}

/// What is kept, and what looks after it.
struct Kept {
    /// Names the database, for what lies in folders that it may share with others.
    name: String,
    store: Arc<dyn Store>,
    care: Arc<dyn StoreMaintenance>,
    copies: Arc<dyn VmCopies>,
}

/// Chooses the store: the caller's own, or that of the settings, which is opened when it is first used.
fn kept(given: Option<Arc<dyn Store>>, stores: &StoreFactories, settings: &Settings) -> Result<Kept, OpenError> {
    let copies_of =
        |name: &str| -> Arc<dyn VmCopies> { Arc::new(FileCopies::new(settings.state_dir.clone(), name.to_owned())) };
    let plain = |name: &str, store: &Arc<dyn Store>| -> Arc<dyn StoreMaintenance> {
        Arc::new(PlainCare::new(name.to_owned(), Arc::clone(store)))
    };
    let (name, copies, store, care): (String, _, Arc<dyn Store>, _) = if let Some(store) = given {
        let name = "given".to_owned();
        (name.clone(), copies_of(&name), Arc::clone(&store), plain(&name, &store))
    } else {
        let found = stores.find(&settings.database)?;
        let (name, copies) = (found.name.clone(), copies_of(&found.name));
        if let Some(care) = found.care() {
            let opener = Box::new(move || found.open());
            let store = Arc::new(DeferredStore::new(opener, Arc::clone(&care), Arc::clone(&copies)));
            let care: Arc<dyn StoreMaintenance> = Arc::new(DeferredCare::new(care, Arc::clone(&store)));
            (name, copies, store, care)
        } else {
            let store = found.open()?;
            (name.clone(), copies, Arc::clone(&store), plain(&name, &store))
        }
    };
    let store = Arc::new(CopyingStore::new(store, Arc::clone(&copies)));
    Ok(Kept { name, store, care, copies })
}

/// Chooses what serves maqet's own upkeep.
fn upkeep(kept: &Kept, settings: &Settings) -> Maintenance {
    let folders = OurFolders {
        data: settings.data_dir.clone(),
        storage: settings.data_dir.join("storage"),
        locks: settings.data_dir.join("locks"),
        runtime: settings.runtime_dir.clone(),
        state: settings.state_dir.clone(),
        cache: settings.cache_dir.clone(),
    };
    Maintenance {
        care: Arc::clone(&kept.care),
        copies: Arc::clone(&kept.copies),
        stale_files: Arc::new(LocalLeftovers::new(folders, kept.name.clone())),
        probe: Arc::new(LocalProbe),
    }
}

/// Chooses an adapter for each port.
fn ports(kept: Kept, settings: &Settings, faults: &FaultPoints) -> Ports {
    let environment = ProcessEnvironment::from(Arc::clone(settings.environment.variables()));
    let login_name = settings.environment.get("LOGNAME").map(|name| name.to_string_lossy().into_owned());
    let hypervisor = QemuHypervisor::new(environment.clone(), settings.cache_dir.clone());
    Ports {
        upkeep: upkeep(&kept, settings),
        store: kept.store,
        hypervisor: Arc::new(hypervisor.with_fault_points(faults.clone())),
        monitors: Arc::new(QemuMonitors),
        schemas: Arc::new(FileSchemas::new(settings.cache_dir.clone())),
        processes: Arc::new(LinuxProcesses::new()),
        records: Arc::new(LocalRecords),
        pictures: Arc::new(FilePictures),
        stats: Arc::new(LinuxProcesses::new()),
        journal: Arc::new(FileJournal),
        consoles: Arc::new(QemuConsoles),
        dialer: Arc::new(TcpDialer),
        hooks: Arc::new(LocalHooks::new(environment.clone())),
        images: Arc::new(QemuImg::new(environment).with_fault_points(faults.clone())),
        paths: Arc::new(LocalPaths),
        firmware: Arc::new(DescriptorCatalog::new(firmware_folders(settings))),
        // Beside the data they guard: two sessions of a user may have different runtime folders.
        locks: Arc::new(FileLocks::new(settings.data_dir.join("locks"))),
        clock: Arc::new(SystemClock),
        ids: Arc::new(RandomIds),
        host: Arc::new(LocalHost::new(login_name)),
    }
}

/// Where firmware descriptors are, the user's first (`docs/interop/firmware.json`, QEMU 7.2).
fn firmware_folders(settings: &Settings) -> Vec<PathBuf> {
    let user = settings.environment.absolute("XDG_CONFIG_HOME");
    let user = user.or_else(|| settings.environment.absolute("HOME").map(|home| home.join(".config")));
    let host = ["/etc/qemu/firmware", "/usr/share/qemu/firmware"].map(PathBuf::from);
    user.map(|config| config.join("qemu/firmware")).into_iter().chain(host).collect()
}
