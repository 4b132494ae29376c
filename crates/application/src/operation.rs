//! The operations, grouped by subject.

mod config;
mod device;
mod maintenance;
mod observe;
mod qmp;
mod snapshot;
mod vm;

pub use self::config::{
    ConfigCheck, ConfigChecked, ConfigDefaults, ConfigKeys, ConfigSchema, ConfigShow, DefaultValue, KeyInfo,
    ShownSetting,
};
pub use self::device::*;
pub use self::maintenance::*;
pub use self::observe::*;
pub use self::qmp::*;
pub use self::snapshot::{SnapshotCreate, SnapshotDone, SnapshotInfo, SnapshotLoad, SnapshotLs, SnapshotRm};
pub use self::vm::*;

use crate::OperationTable;

/// Returns every operation by its name.
pub fn table() -> OperationTable {
    OperationTable::default()
        .on::<Add>()
        .on::<Apply>()
        .on::<Start>()
        .on::<Stop>()
        .on::<Restart>()
        .on::<Pause>()
        .on::<Resume>()
        .on::<Reset>()
        .on::<Rm>()
        .on::<Ls>()
        .on::<Events>()
        .on::<Wait>()
        .on::<Status>()
        .on::<Info>()
        .on::<Inspect>()
        .on::<Logs>()
        .on::<Console>()
        .on::<QmpRun>()
        .on::<QmpEvents>()
        .on::<QmpKeys>()
        .on::<QmpType>()
        .on::<QmpScreendump>()
        .on::<QmpDeviceAdd>()
        .on::<QmpDeviceDel>()
        .on::<QmpNmi>()
        .on::<QmpBalloon>()
        .on::<QmpSetLink>()
        .on::<QmpEject>()
        .on::<QmpInsert>()
        .on::<SnapshotCreate>()
        .on::<SnapshotLs>()
        .on::<SnapshotLoad>()
        .on::<SnapshotRm>()
        .on::<Doctor>()
        .on::<Cleanup>()
        .on::<ConfigCheck>()
        .on::<ConfigShow>()
        .on::<ConfigKeys>()
        .on::<ConfigSchema>()
        .on::<ConfigDefaults>()
}
