//! The composition root: all adapters are chosen here.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use maqet_adapters_linux::{
    FileCopies, FileJournal, FileLocks, FileMetrics, LinuxProcesses, LocalBackups, LocalFiles, LocalHooks, LocalHost,
    LocalPaths, LocalProbe, LocalRecords, LocalSsh, LocalStaleFiles, LocalTrash, MaqetDirectories, ProcessEnvironment,
    RandomIds, SystemClock, TcpDialer,
};
use maqet_adapters_qemu::{
    DescriptorCatalog, FilePictures, FileSchemas, LocalCheckpoints, QemuBuilds, QemuConsoles, QemuGuestAgents,
    QemuGuestPorts, QemuHypervisor, QemuImg, QemuMonitors, QemuStaleFiles,
};
use maqet_application::config::Document;
use maqet_application::{
    App, Directories, Error, EventListener, EventStream, Maintenance, Operation, OperationTable, Ports, config,
    operation,
};
use maqet_domain::machine::ConfigHandler;
use maqet_domain::machine::builtin_handlers;
use maqet_domain::port::{Databases, Store, StoreMaintenance, VmCopies};
use maqet_domain::registry::DuplicateName;
use maqet_domain::storage::StorageDriver;
use maqet_domain::storage::builtin_drivers;
use maqet_fault_points::FaultPoints;
use serde_json::Value;

use crate::stores::{NoMaintenance, OtherDatabases};
use crate::{OpenError, ReadError, Settings, StoreContext, StoreFactories, StoreSetup, document, fault_points};

/// An open instance of maqet, which runs operations.
pub struct Maqet {
    app: App,
    settings: Settings,
}

/// Adds an operation to a table.
type RegisterOperation = fn(&mut OperationTable) -> Result<(), DuplicateName>;

/// Opens maqet with a store, plug-ins and listeners of the caller's choice.
pub struct Builder {
    settings: Settings,
    stores: StoreFactories,
    store: Option<Arc<dyn Store>>,
    handlers: Vec<Arc<dyn ConfigHandler>>,
    drivers: Vec<Arc<dyn StorageDriver>>,
    operations: Vec<RegisterOperation>,
    listeners: Vec<Arc<dyn EventListener>>,
    faults: FaultPoints,
}

impl Maqet {
    /// Opens maqet as the command line does, with QEMU and the database of the settings.
    pub async fn open(settings: Settings) -> Result<Self, OpenError> {
        Self::builder(settings).open().await
    }

    /// Returns a builder for a custom instance.
    pub fn builder(settings: Settings) -> Builder {
        let faults = fault_points::from_environment(&settings.environment);
        Builder {
            settings,
            stores: StoreFactories::builtin(&faults),
            store: None,
            handlers: Vec::new(),
            drivers: Vec::new(),
            operations: Vec::new(),
            listeners: Vec::new(),
            faults,
        }
    }

    /// Reads a document from a stream, such as standard input; messages call it `name`.
    pub fn read_stream(stream: impl Read, name: &str, folder: PathBuf) -> Result<Document, ReadError> {
        document::read_from(stream, Path::new(name), folder)
    }

    /// Runs an operation.
    pub async fn run<O: Operation>(&self, operation: O) -> Result<O::Output, Error> {
        // On the heap, as the futures of some operations are too large for the stack.
        Box::pin(self.app.run(operation)).await
    }

    /// Runs an operation by its name, with JSON arguments.
    pub async fn call(&self, name: &str, arguments: Value) -> Result<Value, Error> {
        self.app.call(name, arguments).await
    }

    /// Returns a stream of the events of this instance from now on; a slow reader learns how many it missed.
    ///
    /// The operation [`Events`](operation::Events) also returns the events of other processes and of QEMU.
    pub fn subscribe(&self) -> EventStream {
        self.app.subscribe()
    }

    /// Returns the operations by their names.
    pub fn operations(&self) -> &OperationTable {
        self.app.operations()
    }

    /// Returns the application, for everything that is not an operation.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Returns the settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}

impl Builder {
    /// Uses this store instead of the database of the settings.
    #[must_use]
    pub fn store(self, store: Arc<dyn Store>) -> Self {
        Self { store: Some(store), ..self }
    }

    /// Opens the database of the settings with these factories.
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

    /// Adds an operation that can be called by its name.
    #[must_use]
    pub fn operation<O: Operation>(mut self) -> Self {
        self.operations.push(OperationTable::register::<O>);
        self
    }

    /// Adds a listener that is called with every event of this instance, once it is written.
    #[must_use]
    pub fn listener(mut self, listener: Arc<dyn EventListener>) -> Self {
        self.listeners.push(listener);
        self
    }

    /// Opens maqet; a SQLite database is opened by the first operation that uses it.
    ///
    /// Errors: a plug-in or operation whose name exists, an unsupported database URL, invalid `defaults`, and those of the store.
    pub async fn open(self) -> Result<Maqet, OpenError> {
        let mut drivers = builtin_drivers()?;
        self.drivers.into_iter().try_for_each(|driver| drivers.register(driver))?;
        let mut handlers = builtin_handlers(&drivers)?;
        self.handlers.into_iter().try_for_each(|handler| handlers.register(handler))?;

        let mut operations = operation::table()?;
        self.operations.into_iter().try_for_each(|register| register(&mut operations))?;

        let store = open_store(self.store, &self.stores, &self.settings).await?;
        let folders = Directories {
            storage: self.settings.data_dir.join("storage"),
            backups: self.settings.data_dir.join("backups"),
            checkpoints: self.settings.data_dir.join("checkpoints"),
            runtime: self.settings.runtime_dir.clone(),
            state: self.settings.state_dir.clone(),
            cache: self.settings.cache_dir.clone(),
        };
        let folder = self.settings.config_file.as_deref().and_then(Path::parent).unwrap_or(Path::new("/"));
        let defaults = config::rebased(self.settings.defaults.clone(), folder, &handlers);
        config::check_defaults(&defaults, &handlers, &self.settings.sources)?;
        let settings = maqet_application::AppSettings {
            defaults,
            sources: self.settings.sources.clone(),
            hooks: self.settings.hooks.clone(),
            timeouts: self.settings.timeouts(),
            logs: self.settings.logs(),
            effective: self.settings.effective(),
        };
        let ports = ports(store, &self.settings, &self.faults);
        let app = App::new(ports, folders, handlers, drivers)
            .with_settings(settings)
            .with_operations(operations)
            .with_fault_points(self.faults);
        let app = self.listeners.into_iter().fold(app, App::with_listener);
        Ok(Maqet { app, settings: self.settings })
    }
}

/// The store, and the settings that depend on it.
struct OpenedStore {
    /// Identifies the database in directories that several share.
    name: String,
    store: Arc<dyn Store>,
    maintenance: Arc<dyn StoreMaintenance>,
    copies: Arc<dyn VmCopies>,
    databases: Arc<dyn Databases>,
}

/// Opens the store: the caller's own, or that of the settings.
async fn open_store(
    own: Option<Arc<dyn Store>>,
    factories: &StoreFactories,
    settings: &Settings,
) -> Result<OpenedStore, OpenError> {
    let copies_of = |name: &str| Arc::new(FileCopies::new(settings.state_dir.clone(), name.to_owned()));
    let (name, copies, setup) = if let Some(store) = own {
        let name = "given".to_owned();
        (name.clone(), copies_of(&name), StoreSetup::new(store))
    } else {
        let url = factories.find(&settings.database)?;
        let context = store_context(settings);
        let name = url.name(&context)?;
        let copies = copies_of(&name);
        let context = StoreContext { copies: Some(Arc::clone(&copies) as _), ..context };
        (name, copies, url.open(context).await?)
    };
    let StoreSetup { store, maintenance, transfer } = setup;
    let maintenance = maintenance.unwrap_or_else(|| Arc::new(NoMaintenance::new(name.clone(), Arc::clone(&store))));
    let databases = OtherDatabases {
        factories: factories.clone(),
        context: store_context(settings),
        name: name.clone(),
        copies: Arc::clone(&copies) as _,
        transfer,
        default_file: settings.data_dir.join("maqet.db"),
    };
    Ok(OpenedStore { name, store, maintenance, copies, databases: Arc::new(databases) })
}

/// Returns for whom a store is opened.
fn store_context(settings: &Settings) -> StoreContext {
    StoreContext { caller: Arc::new(host(settings)), environment: settings.environment.clone(), copies: None }
}

/// Returns this host under the name of the settings.
fn host(settings: &Settings) -> LocalHost {
    let login_name = settings.environment.get("LOGNAME").map(|name| name.to_string_lossy().into_owned());
    LocalHost::new(login_name).with_name(settings.host.clone())
}

/// Chooses the adapters of `doctor` and `cleanup`.
fn maintenance(store: &OpenedStore, settings: &Settings) -> Maintenance {
    let folders = MaqetDirectories {
        data: settings.data_dir.clone(),
        storage: settings.data_dir.join("storage"),
        locks: settings.data_dir.join("locks"),
        runtime: settings.runtime_dir.clone(),
        state: settings.state_dir.clone(),
        cache: settings.cache_dir.clone(),
    };
    Maintenance {
        store: Arc::clone(&store.maintenance),
        copies: Arc::clone(&store.copies),
        stale_files: Arc::new(QemuStaleFiles::new(LocalStaleFiles::new(folders, store.name.clone()))),
        probe: Arc::new(LocalProbe),
    }
}

/// Chooses an adapter for each port.
fn ports(store: OpenedStore, settings: &Settings, faults: &FaultPoints) -> Ports {
    let environment = ProcessEnvironment::from(settings.environment.shared());
    // Beside the data that they protect: two sessions of a user may have different runtime directories.
    let locks = settings.data_dir.join("locks");
    let logs = settings.logs();
    let hypervisor = QemuHypervisor::new(environment.clone(), settings.cache_dir.clone(), locks.clone());
    let images = Arc::new(QemuImg::new(environment.clone()).with_fault_points(faults.clone()));
    Ports {
        trash: Arc::new(LocalTrash::new(settings.data_dir.join("trash"), store.name.clone())),
        maintenance: maintenance(&store, settings),
        databases: store.databases,
        store: store.store,
        hypervisor: Arc::new(hypervisor.with_kept_boots(logs.boots).with_fault_points(faults.clone())),
        monitors: Arc::new(QemuMonitors),
        schemas: Arc::new(FileSchemas::new(settings.cache_dir.clone())),
        builds: Arc::new(QemuBuilds::new(settings.cache_dir.clone())),
        processes: Arc::new(LinuxProcesses::new()),
        records: Arc::new(LocalRecords),
        pictures: Arc::new(FilePictures),
        stats: Arc::new(LinuxProcesses::new()),
        metrics: Arc::new(FileMetrics::new(settings.data_dir.join("metrics"))),
        journal: Arc::new(FileJournal::new(logs.maqet.bytes())),
        consoles: Arc::new(QemuConsoles),
        agents: Arc::new(QemuGuestAgents),
        guest_ports: Arc::new(QemuGuestPorts),
        ssh: Arc::new(LocalSsh::new(environment.clone())),
        host_files: Arc::new(LocalFiles),
        dialer: Arc::new(TcpDialer),
        hooks: Arc::new(LocalHooks::new(environment)),
        image_tools: Arc::clone(&images) as _,
        backup_images: Arc::clone(&images) as _,
        images,
        backups: Arc::new(LocalBackups),
        checkpoints: Arc::new(LocalCheckpoints),
        paths: Arc::new(LocalPaths),
        firmware: Arc::new(DescriptorCatalog::new(firmware_folders(settings))),
        locks: Arc::new(FileLocks::new(locks)),
        clock: Arc::new(SystemClock),
        ids: Arc::new(RandomIds),
        host: Arc::new(host(settings)),
    }
}

/// The directories of firmware descriptors, those of the user first (`docs/interop/firmware.json`, QEMU 7.2).
fn firmware_folders(settings: &Settings) -> Vec<PathBuf> {
    let user = settings.environment.absolute("XDG_CONFIG_HOME");
    let user = user.or_else(|| settings.environment.absolute("HOME").map(|home| home.join(".config")));
    let host = ["/etc/qemu/firmware", "/usr/share/qemu/firmware"].map(PathBuf::from);
    user.map(|config| config.join("qemu/firmware")).into_iter().chain(host).collect()
}
