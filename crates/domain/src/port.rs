//! The ports: what maqet needs from the outside world, as small traits that adapters implement.
//!
//! All are object-safe and use types of the domain only. Each method documents the errors an adapter must return; the
//! conformance suite checks them.

mod backup;
mod build;
mod checkpoint;
mod console;
mod copies;
mod dial;
mod disk;
mod firmware;
mod guest;
mod hook;
mod host;
mod host_files;
mod hypervisor;
mod image_tools;
mod journal;
mod lock;
mod maintenance;
mod metric;
mod monitor;
mod path;
mod picture;
mod probe;
mod process_stats;
mod records;
mod stale_files;
mod store;
mod transfer;
mod trash;

pub use self::backup::{BackupImages, BackupListing, BackupStore, BackupStoreError, ByteProgress, ImageFacts};
pub use self::build::{BuildUnavailable, Builds};
pub use self::checkpoint::{
    CheckpointFileError, CheckpointFiles, CheckpointListing, FoundCheckpoint, TakenApart, UnfinishedCheckpoint,
};
pub use self::console::{ConsoleError, ConsoleStream, Consoles};
pub use self::copies::VmCopies;
pub use self::dial::{Connection, Dialer};
pub use self::disk::{DiskImages, ForeignBacking, ImageError, ImageInfo, ImageSummary, ImageUse, ImageUser};
pub use self::firmware::{FirmwareCatalog, FirmwareError, FirmwareRequest, SecureBoot, UefiFirmware};
pub use self::guest::{
    AgentError, AgentSession, GuestAgents, GuestPorts, GuestStreams, PortClaim, PortError, SshClient, SshClients,
    SshEnd, SshError,
};
pub use self::hook::{HookCall, HookError, HookOutcome, Hooks, LeftProcess, describe_left};
pub use self::host::{Clock, Host, HostFacts, IdSource, Kvm, PortObstacle, PortUser};
pub use self::host_files::{
    CopySummary, HostFileError, HostFiles, HostSource, HostTarget, SkippedEntry, SourceRequest, TargetRequest,
};
pub use self::hypervisor::{
    BinaryError, Freeze, FrozenCgroup, Hypervisor, ImageServer, Launch, LaunchError, Launched, ProcessError, Processes,
    QemuBinary, RunFile, Signal,
};
pub use self::image_tools::{
    ImageCheck, ImageFile, ImageLink, ImageRepair, ImageTools, ImageWork, RewritePlan, RewrittenImage,
};
pub use self::journal::Journal;
pub use self::lock::{Guard, HeldLock, Holder, LockError, LockName, Locks};
pub use self::maintenance::{RecoverySource, RepairReport, StoreHealth, StoreMaintenance, VmCopy, VmPresence};
pub use self::metric::{MetricError, MetricStore, MetricsAdded};
pub use self::monitor::{MainLoop, MonitorSession, Monitors, PassedFor, Schemas, SessionEvent};
pub use self::path::{FileError, PathKind, PathObstacle, Paths};
pub use self::picture::{PictureError, PictureFile, Pictures};
pub use self::probe::{ClosedPath, DirectoryFacts, DirectoryState, Probe, Space};
pub use self::process_stats::{ProcessStats, ProcessUsage};
pub use self::records::{Chunk, RecordError, Records};
pub use self::stale_files::{QemuInstance, RemoveError, StaleFile, StaleFileKind, StaleFiles};
pub use self::store::{
    EventLog, ForeignVm, HistoryLog, HostLedger, HostRecord, SnapshotLedger, StorageLedger, Store, StoreError,
    VmRepository,
};
pub use self::transfer::{DatabaseLock, Databases, MoveId, MoveMark, OtherDatabase, StoreContent, StoreTransfer};
pub use self::trash::{Trash, TrashError, TrashPlace};

#[cfg(feature = "mocks")]
pub use self::{
    backup::{MockBackupImages, MockBackupStore},
    build::MockBuilds,
    checkpoint::MockCheckpointFiles,
    console::MockConsoles,
    copies::MockVmCopies,
    dial::MockDialer,
    disk::MockDiskImages,
    firmware::MockFirmwareCatalog,
    guest::{
        MockAgentSession, MockGuestAgents, MockGuestPorts, MockGuestStreams, MockPortClaim, MockSshClient,
        MockSshClients,
    },
    hook::MockHooks,
    host::{MockClock, MockHost, MockIdSource},
    host_files::{MockHostFiles, MockHostSource, MockHostTarget},
    hypervisor::{MockHypervisor, MockImageServer, MockProcesses},
    image_tools::{MockImageTools, MockRewrittenImage},
    journal::MockJournal,
    lock::MockLocks,
    maintenance::MockStoreMaintenance,
    metric::MockMetricStore,
    monitor::{MockMonitorSession, MockMonitors, MockSchemas},
    path::MockPaths,
    picture::MockPictures,
    probe::MockProbe,
    process_stats::MockProcessStats,
    records::MockRecords,
    stale_files::MockStaleFiles,
    transfer::{MockDatabases, MockStoreTransfer},
    trash::MockTrash,
};
