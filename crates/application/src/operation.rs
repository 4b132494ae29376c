//! The operations, one a file.

mod add;
mod apply;
mod button;
mod cleanup;
mod config;
mod console;
mod device_add;
mod device_del;
mod doctor;
mod events;
mod hardware;
mod info;
mod inspect;
mod keys;
mod logs;
mod ls;
mod medium;
mod qmp;
mod qmp_events;
mod restart;
mod rm;
mod screendump;
mod snapshot;
mod start;
mod status;
mod stop;
mod wait;

pub use self::add::{Add, Added};
pub use self::apply::{Applied, Apply, Changed, TakesEffect};
pub use self::button::{Pause, Pressed, Reset, Resume};
pub use self::cleanup::{Cleaned, CleanedItem, Cleanup, Outcome};
pub use self::config::{
    ConfigCheck, ConfigChecked, ConfigDefaults, ConfigKeys, ConfigSchema, ConfigShow, DefaultValue, KeyInfo,
    ShownSetting,
};
pub use self::console::{AttachedConsole, Console, ConsoleInfo};
pub use self::device_add::{DeviceAdded, QmpDeviceAdd};
pub use self::device_del::{DeviceDeleted, QmpDeviceDel};
pub use self::doctor::{Diagnosis, Doctor};
pub use self::events::{EventPage, Events, InvalidSince, Since};
pub use self::hardware::{Balloon, Link, LinkSet, NmiSent, QmpBalloon, QmpNmi, QmpSetLink};
pub use self::info::{Info, StorageInfo, VmInfo};
pub use self::inspect::{
    CpuUse, Inspect, InspectedDisk, InspectedMachine, InspectedProcess, InspectedSocket, SocketRole, VmInspection,
};
pub use self::keys::{KeysPressed, QmpKeys, QmpType, Typed};
pub use self::logs::{LogError, LogInfo, LogKind, LogReader, Logs, VmLog};
pub use self::ls::{Ls, SortKey};
pub use self::medium::{MediumChanged, QmpEject, QmpInsert};
pub use self::qmp::QmpRun;
pub use self::qmp_events::QmpEvents;
pub use self::restart::{Restart, Restarted};
pub use self::rm::{Removed, Rm};
pub use self::screendump::{QmpScreendump, Screendump};
pub use self::snapshot::{SnapshotCreate, SnapshotDone, SnapshotInfo, SnapshotLoad, SnapshotLs, SnapshotRm};
pub use self::start::{Start, Started};
pub use self::status::Status;
pub use self::stop::{Stop, Stopped};
pub use self::wait::{Wait, Waited};

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
