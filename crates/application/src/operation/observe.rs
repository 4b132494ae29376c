//! Observing VMs: list, state, definition, processes, logs, events, console, waiting.

mod console;
mod events;
mod info;
mod inspect;
mod logs;
mod ls;
mod metrics;
mod status;
mod wait;

pub use self::console::{AttachedConsole, Console, ConsoleInfo};
pub use self::events::{EventPage, Events};
pub use self::info::{DefinedStorage, Info, VmInfo};
pub use self::inspect::{
    CpuUse, Inspect, InspectedDisk, InspectedGuest, InspectedMachine, InspectedProcess, InspectedSocket, SocketRole,
    VmInspection,
};
pub use self::logs::{LogError, LogInfo, LogKind, LogReader, Logs, VmLog};
pub use self::ls::{Ls, SortKey};
pub use self::metrics::{DirectorySpace, DiskSize, MeasuredWork, MetricReport, Metrics};
pub use self::status::Status;
pub use self::wait::{Wait, Waited};
pub use crate::event::since::{InvalidSince, Since};
