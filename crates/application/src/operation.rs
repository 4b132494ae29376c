//! The operations, grouped by subject.

mod backup;
pub(crate) mod checkpoint;
mod config;
mod database;
mod device;
mod guest;
mod history;
mod host;
mod maintenance;
mod observe;
mod qmp;
mod run;
mod snapshot;
mod storage;
mod template;
mod trash;
mod vm;

pub use self::backup::*;
pub use self::checkpoint::*;
pub use self::config::{
    ConfigCheck, ConfigChecked, ConfigDefaults, ConfigKeys, ConfigSchema, ConfigShow, DefaultValue, KeyInfo,
    ShownSetting,
};
pub use self::database::*;
pub use self::device::*;
pub use self::guest::*;
pub use self::history::*;
pub use self::host::*;
pub use self::maintenance::*;
pub use self::observe::*;
pub use self::qmp::*;
pub use self::run::{
    InvalidRunSpec, KeepVm, MatrixCase, Run, RunCopy, RunOutcome, RunPhase, RunResult, RunShare, RunStep, TestCase,
    junit, read_matrix,
};
pub use self::snapshot::{
    ObstacleEffect, OmittedDrive, SnapshotCheck, SnapshotCreate, SnapshotDone, SnapshotInfo, SnapshotLoad, SnapshotLs,
    SnapshotObstacle, SnapshotReadiness, SnapshotRm,
};
pub use self::storage::*;
pub use self::template::*;
pub use self::trash::*;
pub use self::vm::*;
pub(crate) use self::vm::{StartOptions, check_start, new_vm, start, stop};

use maqet_domain::registry::DuplicateName;

use crate::OperationTable;

/// Returns every operation by its name.
pub fn table() -> Result<OperationTable, DuplicateName> {
    let mut table = OperationTable::default();
    table.register::<Add>()?;
    table.register::<Apply>()?;
    table.register::<Start>()?;
    table.register::<Stop>()?;
    table.register::<Restart>()?;
    table.register::<Upgrade>()?;
    table.register::<Pause>()?;
    table.register::<Resume>()?;
    table.register::<Reset>()?;
    table.register::<Rm>()?;
    table.register::<Ls>()?;
    table.register::<Events>()?;
    table.register::<Wait>()?;
    table.register::<Status>()?;
    table.register::<Info>()?;
    table.register::<Inspect>()?;
    table.register::<Logs>()?;
    table.register::<Console>()?;
    table.register::<Exec>()?;
    table.register::<ExecLs>()?;
    table.register::<ExecAttach>()?;
    table.register::<ExecStop>()?;
    table.register::<Cp>()?;
    table.register::<Run>()?;
    table.register::<SshConfig>()?;
    table.register::<QmpRun>()?;
    table.register::<QmpEvents>()?;
    table.register::<QmpKeys>()?;
    table.register::<QmpType>()?;
    table.register::<QmpScreendump>()?;
    table.register::<QmpDeviceAdd>()?;
    table.register::<QmpDeviceDel>()?;
    table.register::<QmpNmi>()?;
    table.register::<QmpBalloon>()?;
    table.register::<QmpSetLink>()?;
    table.register::<QmpEject>()?;
    table.register::<QmpInsert>()?;
    table.register::<SnapshotCheck>()?;
    table.register::<SnapshotCreate>()?;
    table.register::<SnapshotLs>()?;
    table.register::<SnapshotLoad>()?;
    table.register::<SnapshotRm>()?;
    table.register::<BackupCreate>()?;
    table.register::<BackupLs>()?;
    table.register::<BackupVerify>()?;
    table.register::<BackupRestore>()?;
    table.register::<BackupRm>()?;
    table.register::<CheckpointCreate>()?;
    table.register::<CheckpointLs>()?;
    table.register::<CheckpointInfo>()?;
    table.register::<CheckpointCheck>()?;
    table.register::<CheckpointCancel>()?;
    table.register::<CheckpointRestore>()?;
    table.register::<CheckpointRm>()?;
    table.register::<Fork>()?;
    table.register::<TemplateCreate>()?;
    table.register::<TemplateLs>()?;
    table.register::<TemplateRm>()?;
    table.register::<StorageLs>()?;
    table.register::<StorageInfo>()?;
    table.register::<StorageVerify>()?;
    table.register::<StorageResize>()?;
    table.register::<StorageConvert>()?;
    table.register::<StorageCompact>()?;
    table.register::<StorageOrphaned>()?;
    table.register::<StorageAttach>()?;
    table.register::<StorageTrashLs>()?;
    table.register::<StorageTrashRestore>()?;
    table.register::<StorageTrashEmpty>()?;
    table.register::<Metrics>()?;
    table.register::<HistoryLs>()?;
    table.register::<Undo>()?;
    table.register::<Redo>()?;
    table.register::<HostLs>()?;
    table.register::<HostEvict>()?;
    table.register::<Doctor>()?;
    table.register::<Cleanup>()?;
    table.register::<DatabaseCheck>()?;
    table.register::<DatabaseBackup>()?;
    table.register::<DatabaseMove>()?;
    table.register::<DatabaseReclaim>()?;
    table.register::<ConfigCheck>()?;
    table.register::<ConfigShow>()?;
    table.register::<ConfigKeys>()?;
    table.register::<ConfigSchema>()?;
    table.register::<ConfigDefaults>()?;
    Ok(table)
}
