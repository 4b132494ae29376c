//! A world of mocks around an in-memory store; each test sets only what it needs.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use maqet_application::config::Document;
use maqet_application::operation::Add;
use maqet_application::{App, Directories, Maintenance, Ports};
use maqet_domain::Timestamp;
use maqet_domain::history::Actor;
use maqet_domain::machine::builtin_handlers;
use maqet_domain::port::{
    BackupListing, CheckpointListing, Guard, HostFacts, Kvm, Launched, MetricsAdded, MockBackupImages, MockBackupStore,
    MockBuilds, MockCheckpointFiles, MockClock, MockConsoles, MockDatabases, MockDialer, MockDiskImages,
    MockFirmwareCatalog, MockGuestAgents, MockGuestPorts, MockHooks, MockHost, MockHostFiles, MockHypervisor,
    MockIdSource, MockImageTools, MockJournal, MockLocks, MockMetricStore, MockMonitors, MockPaths, MockPictures,
    MockProbe, MockProcessStats, MockProcesses, MockRecords, MockSchemas, MockSshClients, MockStaleFiles,
    MockStoreMaintenance, MockTrash, MockVmCopies, PathKind, QemuBinary, Store,
};
use maqet_domain::qemu::QemuVersion;
use maqet_domain::qmp::RunState;
use maqet_domain::storage::{ImageProblem, UnusableImage, builtin_drivers};
use maqet_domain::vm::{
    BootId, ExitReport, MonitorAnswer, ProcessIdentity, RunEnd, StateDetails, StopReason, StoppedTime, VmId,
};
use maqet_testkit::store::MemoryStore;
use serde_json::json;

use crate::disks::Disks;

/// The mocks; expectations are set before [`World::app`].
pub(crate) struct World {
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) hypervisor: MockHypervisor,
    pub(crate) monitors: MockMonitors,
    pub(crate) schemas: MockSchemas,
    pub(crate) builds: MockBuilds,
    pub(crate) processes: MockProcesses,
    pub(crate) images: MockDiskImages,
    pub(crate) backup_images: MockBackupImages,
    pub(crate) stats: MockProcessStats,
    pub(crate) journal: MockJournal,
    pub(crate) records: MockRecords,
    pub(crate) pictures: MockPictures,
    pub(crate) consoles: MockConsoles,
    pub(crate) stale_files: MockStaleFiles,
    pub(crate) copies: MockVmCopies,
    pub(crate) agents: MockGuestAgents,
    /// The files of the host.
    pub(crate) there: Vec<PathBuf>,
    /// Images that are changed, instead of mocks.
    disks: Option<Disks>,
}

/// The commands that were sent to QEMU.
pub(crate) type SentCommands = Arc<Mutex<Vec<String>>>;

struct FreeLock;

impl Guard for FreeLock {
    fn retire(&mut self) {}
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            store: Arc::new(MemoryStore::default()),
            hypervisor: MockHypervisor::new(),
            monitors: MockMonitors::new(),
            schemas: MockSchemas::new(),
            builds: MockBuilds::new(),
            processes: MockProcesses::new(),
            images: images(),
            backup_images: MockBackupImages::new(),
            stats: MockProcessStats::new(),
            journal: MockJournal::new(),
            records: MockRecords::new(),
            pictures: MockPictures::new(),
            consoles: MockConsoles::new(),
            stale_files: MockStaleFiles::new(),
            copies: MockVmCopies::new(),
            agents: MockGuestAgents::new(),
            there: Vec::new(),
            disks: None,
        }
    }

    /// A world with images that are changed, and with a clock that goes on.
    pub(crate) fn with_disks(disks: Disks) -> Self {
        Self { disks: Some(disks), ..Self::new() }
    }

    /// Every process is running, and its monitor reports `state`.
    pub(crate) fn alive(&mut self, state: RunState) {
        self.answers(MonitorAnswer::State(state));
    }

    /// Every ended QEMU has recorded a guest shutdown.
    pub(crate) fn guests_power_off(&mut self) {
        let end = Some(RunEnd { reason: StopReason::GuestShutdown, at: Some(Timestamp::UNIX_EPOCH) });
        self.hypervisor.expect_shutdown_event().returning(move |_| end);
        self.hypervisor.expect_exit_report().returning(move |_| ExitReport { end, details: StateDetails::default() });
    }

    /// Every process is running, and its monitor reports a state that follows the commands sent to it; returns the
    /// commands and the state.
    ///
    /// With `relapse`, the guest is in that state again as soon as it was resumed.
    pub(crate) fn follows(&mut self, state: RunState, relapse: Option<RunState>) -> SentCommands {
        let sent = SentCommands::default();
        let (log, now) = (Arc::clone(&sent), Arc::new(Mutex::new(state)));
        let reported = Arc::clone(&now);
        self.processes.expect_is_alive().returning(|_| true);
        self.processes.expect_frozen().returning(|_| None);
        self.processes.expect_is_exiting().returning(|_| false);
        self.monitors.expect_answer().returning(move |_, _| MonitorAnswer::State(*reported.lock().unwrap()));
        self.monitors.expect_execute().returning(move |_, command, _| {
            let mut now = now.lock().unwrap();
            *now = match command.execute.as_str() {
                "stop" => RunState::Paused,
                "cont" => relapse.unwrap_or(RunState::Running),
                "system_wakeup" => RunState::Running,
                _ => *now,
            };
            log.lock().unwrap().push(command.execute.clone());
            Ok(json!({}))
        });
        sent
    }

    /// Every process is running, and its monitor replies with this.
    pub(crate) fn answers(&mut self, answer: MonitorAnswer) {
        self.processes.expect_is_alive().returning(|_| true);
        self.processes.expect_frozen().returning(|_| None);
        self.processes.expect_is_exiting().returning(|_| false);
        self.monitors.expect_answer().returning(move |_, _| answer);
    }

    /// Makes the application; the mocks move into it.
    pub(crate) fn app(&mut self) -> App {
        self.app_with(Arc::clone(&self.store) as _)
    }

    /// The same with another store.
    pub(crate) fn app_with(&mut self, store: Arc<dyn Store>) -> App {
        let mut hypervisor = std::mem::take(&mut self.hypervisor);
        let version = QemuVersion { major: 7, minor: 2, micro: 22 };
        hypervisor.expect_binary().returning(move |wanted| {
            Ok(QemuBinary { path: PathBuf::from("/usr/bin").join(wanted), version, package: String::new() })
        });
        hypervisor.expect_find_process().returning(|_| None);
        hypervisor.expect_process_in_pid_file().returning(|_| None);
        hypervisor.expect_is_hidden().returning(|_| false);
        hypervisor.expect_lock_holder().returning(|_| None);
        hypervisor.expect_shutdown_event().returning(|_| None);
        hypervisor.expect_exit_report().returning(|_| ExitReport::default());
        hypervisor.expect_explain_halt().returning(|_, halted| (halted, StateDetails::default()));
        hypervisor.expect_guest_resets().returning(|_| 0);
        hypervisor.expect_stopped_time().returning(|_| StoppedTime::default());
        hypervisor.expect_note_exit().returning(|_| ());
        hypervisor.expect_remove_sockets().returning(|_| ());
        hypervisor.expect_remove_vm_files().returning(|_, _| ());
        let mut journal = std::mem::take(&mut self.journal);
        journal.expect_append().returning(|_, _| Ok(()));
        let mut records = std::mem::take(&mut self.records);
        records.expect_boots().returning(|_| Vec::new());
        records.expect_bound().returning(|_, _| Ok(()));
        records.expect_exceeds().returning(|_, _| false);
        records.expect_reserve().returning(|_, _| Ok(()));
        self.backup_images.expect_bitmaps().returning(|_| Ok(Vec::new()));
        let mut images = std::mem::take(&mut self.images);
        images.expect_exists().returning(|_| false);
        images.expect_user().returning(|_| None);
        images.expect_examine().returning(|image| Err(missing(&image.path).into()));
        images.expect_require_unlocked().returning(|_| Ok(()));
        images.expect_state_copies().returning(|_| Ok(Vec::new()));
        images.expect_shared_id().returning(|_| None);

        let mut ports = Ports {
            store,
            databases: Arc::new(MockDatabases::new()),
            hypervisor: Arc::new(hypervisor),
            monitors: Arc::new(std::mem::take(&mut self.monitors)),
            schemas: Arc::new(std::mem::take(&mut self.schemas)),
            builds: Arc::new(std::mem::take(&mut self.builds)),
            processes: Arc::new(std::mem::take(&mut self.processes)),
            agents: Arc::new(std::mem::take(&mut self.agents)),
            guest_ports: Arc::new(MockGuestPorts::new()),
            ssh: Arc::new(MockSshClients::new()),
            host_files: Arc::new(MockHostFiles::new()),
            dialer: Arc::new(MockDialer::new()),
            hooks: Arc::new(MockHooks::new()),
            images: Arc::new(images),
            image_tools: Arc::new(MockImageTools::new()),
            backups: Arc::new(no_backups()),
            checkpoints: Arc::new(no_checkpoints()),
            backup_images: Arc::new(std::mem::take(&mut self.backup_images)),
            records: Arc::new(records),
            pictures: Arc::new(std::mem::take(&mut self.pictures)),
            stats: Arc::new(std::mem::take(&mut self.stats)),
            metrics: Arc::new(no_metrics()),
            journal: Arc::new(journal),
            consoles: Arc::new(std::mem::take(&mut self.consoles)),
            paths: Arc::new(paths(std::mem::take(&mut self.there))),
            firmware: Arc::new(MockFirmwareCatalog::new()),
            trash: Arc::new(empty_trash()),
            locks: Arc::new(free_locks()),
            clock: Arc::new(still_clock()),
            ids: Arc::new(counting_ids()),
            host: Arc::new(host()),
            maintenance: maintenance(std::mem::take(&mut self.stale_files), std::mem::take(&mut self.copies)),
        };
        if let Some(disks) = self.disks.take().map(Arc::new) {
            ports.images = disks.clone();
            ports.image_tools = disks.clone();
            ports.trash = disks.clone();
            ports.paths = disks.clone();
            ports.clock = disks;
        }
        let folders = Directories {
            storage: "/d/storage".into(),
            backups: "/d/backups".into(),
            checkpoints: "/d/checkpoints".into(),
            runtime: "/r".into(),
            state: "/s".into(),
            cache: "/c".into(),
        };
        let drivers = builtin_drivers().expect("the names are unique");
        App::new(ports, folders, builtin_handlers(&drivers).expect("the names are unique"), drivers)
    }

    pub(crate) fn empty(name: &str) -> Add {
        Add::empty().name(name.to_owned())
    }

    pub(crate) fn yaml(text: &str) -> Add {
        let document = Document::new("vm.yaml", "/c", text);
        Add::new(vec![document])
    }
}

/// Returns a store of metrics that keeps none.
fn no_metrics() -> MockMetricStore {
    let mut metrics = MockMetricStore::new();
    metrics.expect_add().returning(|_| Ok(MetricsAdded::Done));
    metrics
}

/// Returns the identity of a process with this pid.
pub(crate) fn process(pid: u32) -> ProcessIdentity {
    ProcessIdentity { pid, start_ticks: 1, boot_id: BootId("boot".to_owned()), namespace: None }
}

/// Returns a running QEMU.
pub(crate) fn launched(pid: u32, state: RunState) -> Launched {
    Launched { process: process(pid), state, log_failure: None, warnings: Vec::new() }
}

/// Returns the problem of an image that does not exist.
fn missing(path: &Path) -> UnusableImage {
    let problem = ImageProblem::NotFound { directory: None };
    UnusableImage { path: path.to_owned(), overlay: None, problem }
}

/// Images without a TPM beside them.
fn images() -> MockDiskImages {
    let mut images = MockDiskImages::new();
    images.expect_state_copies().returning(|_| Ok(Vec::new()));
    images
}

fn paths(there: Vec<PathBuf>) -> MockPaths {
    let mut paths = MockPaths::new();
    let kind = move |path: &Path| if there.iter().any(|one| one == path) { PathKind::File } else { PathKind::NotFound };
    paths.expect_kind().returning(kind);
    paths.expect_resolve().returning(Path::to_owned);
    paths.expect_obstacle().returning(|_, _| None);
    paths.expect_is_huge_pages().returning(|_| false);
    paths
}

/// No orphans, and a database without maintenance.
fn maintenance(mut stale_files: MockStaleFiles, mut copies: MockVmCopies) -> Maintenance {
    stale_files.expect_orphans().returning(|_| Vec::new());
    stale_files.expect_short_ids().returning(Vec::new);
    copies.expect_write().returning(|_| Ok(()));
    copies.expect_all().returning(Vec::new);
    copies.expect_of_other_databases().returning(Vec::new);
    Maintenance {
        store: Arc::new(MockStoreMaintenance::new()),
        copies: Arc::new(copies),
        stale_files: Arc::new(stale_files),
        probe: Arc::new(probe()),
    }
}

fn probe() -> MockProbe {
    let mut probe = MockProbe::new();
    probe.expect_space().returning(|_| None);
    probe
}

fn no_backups() -> MockBackupStore {
    let mut backups = MockBackupStore::new();
    backups.expect_directory().returning(|parent, vm, _, _| Ok(parent.join(vm)));
    backups.expect_list().returning(|_| Ok(BackupListing::default()));
    backups
}

fn no_checkpoints() -> MockCheckpointFiles {
    let mut checkpoints = MockCheckpointFiles::new();
    checkpoints.expect_list().returning(|_| Ok(CheckpointListing::default()));
    checkpoints
}

fn empty_trash() -> MockTrash {
    let mut trash = MockTrash::new();
    trash.expect_entries().returning(|| Ok(Vec::new()));
    trash.expect_finish_deletions().returning(|_| Vec::new());
    trash
}

fn free_locks() -> MockLocks {
    let mut locks = MockLocks::new();
    locks.expect_lock().returning(|_, _, _| Ok(Box::new(FreeLock)));
    locks.expect_holder().returning(|_| None);
    locks.expect_is_left().returning(|_| false);
    locks.expect_held().returning(Vec::new);
    locks
}

fn still_clock() -> MockClock {
    let mut clock = MockClock::new();
    clock.expect_now().return_const(Timestamp::UNIX_EPOCH);
    clock
}

fn counting_ids() -> MockIdSource {
    let next = AtomicU32::new(1);
    let mut ids = MockIdSource::new();
    ids.expect_vm_id().returning(move || {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let id: VmId = format!("{number:08x}-0000-4000-8000-000000000000").parse().expect("it is a UUID");
        id
    });
    ids.expect_snapshot_set_id().returning(|| "0000000a-0000-4000-8000-000000000000".parse().expect("it is a UUID"));
    ids
}

fn host() -> MockHost {
    let mut host = MockHost::new();
    host.expect_refused_usb_file().returning(|_| None);
    let facts =
        HostFacts { architecture: "x86_64".to_owned(), kvm: Kvm::Unusable("a test".to_owned()), is_root: false };
    host.expect_facts().return_const(facts);
    host.expect_has_interface().return_const(Some(true));
    host.expect_actor().return_const(Actor { user: "me".to_owned(), host: "here".to_owned(), pid: 1 });
    host
}
