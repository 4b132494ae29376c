//! What maqet does: its operations, and what they share.
//!
//! An operation reads, decides by the rules of the domain, acts through ports and returns the changes to write;
//! [`App::run`] does the rest, which is the same for all operations. Nothing here opens a file, a socket or a process,
//! reads the environment, or prints.
//!
//! | room | holds |
//! | --- | --- |
//! | `app` | the executor, the ports, the operation table, settings |
//! | [`operation`] | the operations, grouped by subject |
//! | `vm` | the state of a VM: observing, reconciling, orphans, shutting down, its monitor |
//! | `start` | what a start checks and prepares: disks, path policy, firmware |
//! | `event` | the event reader, filters, hooks, the journal, the event bus |
//! | `backup` | which drives are backed up and how, and the record of what changed in disks |
//! | `checkpoint` | checkpoints of running VMs, and the layers of their drives |
//! | `upgrade` | putting a running guest into another QEMU |
//! | `migration` | what checkpoints, forks and upgrades share of QEMU's migration |
//! | `wait` | conditions, and the watcher that waits for them |
//! | `guest` | requests to the guest agent, and commands in the guest |
//! | `device`, `input`, `qmp` | hot-plug, keyboard and screen, typed QMP commands |
//! | `storage` | images as operations share them: their locks, and which VMs use them |
//! | `throw_away` | VMs that are made for one command: their definition, their removal, and those of killed processes |
//! | `trash` | the trash: moving images there and back, and what protects images that others use |
//! | `host` | hosts that share a store: which are away |
//! | `log` | the limits of logs, and what keeps the logs of running VMs within them |
//! | `job` | long-running work: progress, cancellation |
//! | [`config`] | YAML, merging, `--set`, layers of configuration |
//! | `maintenance` | `doctor` and `cleanup`: host, database, VMs, stale files |
//! | `snapshot` | snapshots of one drive or of all as a set, and their recovery |
//! | `recovery` | finishes or rolls back work on images whose process died |
//! | `metric` | measuring operations and their steps |
//! | `report` | an error as front ends show it |
//! | [`limits`] | named limits, timeouts and intervals, each with its reason |

mod app;
mod backup;
mod checkpoint;
pub mod config;
mod device;
mod duration;
mod error;
mod event;
mod guest;
mod history;
mod host;
mod input;
mod job;
pub mod limits;
mod log;
mod maintenance;
mod metric;
mod migration;
pub mod operation;
mod qmp;
mod recovery;
mod report;
mod snapshot;
mod start;
mod storage;
mod template;
mod throw_away;
mod trash;
mod upgrade;
mod vm;
mod wait;

pub use app::App;
pub use app::operations::{Done, Effect, Operation, OperationTable};
pub use app::ports::{Directories, Ports};
pub use app::settings::{AppSettings, EffectiveSetting};
pub use app::timeouts::Timeouts;
pub use backup::drive::LeftOutDrive;
pub use backup::error::BackupError;
pub use checkpoint::error::CheckpointError;
pub use device::balloon_error::BalloonError;
pub use device::medium_error::MediumError;
pub use duration::{HumanDuration, InvalidDuration};
pub use error::Error;
pub use event::bus::{Delivery, EventListener, EventStream};
pub use event::filter::UnknownEventType;
pub use event::reader::{Cursor, QmpLogPosition, ShownEvent};
pub use guest::copy::error::CopyError;
pub use guest::error::ExecError;
pub use guest::quiesce::QuiesceError;
pub use guest::streams::ExecStreams;
pub use history::error::HistoryError;
pub use host::error::HostError;
pub use input::keyboard_error::KeyboardError;
pub use input::screen::{Picture, ScreenError};
pub use job::qmp_job::QmpJobFailed;
pub use job::{JobId, JobInfo, Jobs, Progress, ProgressStream, ProgressUnit};
pub use log::failure::LogFailure;
pub use log::limits::LogLimits;
pub use maintenance::{Area, Finding, Maintenance, Severity};
pub use maqet_domain::hotplug::DeviceError;
pub use operation::QmpShell;
pub use qmp::{
    CommandError, Completions, InvalidQmpLine, QmpArguments, QmpLine, completions, read_command, read_reply,
};
pub use recovery::RecoveryError;
pub use report::ErrorReport;
pub use snapshot::bitmaps::BitmapsInTheWay;
pub use snapshot::error::SnapshotError;
pub use snapshot::live::check::SaveObstacle;
pub use snapshot::live::error::LiveSnapshotError;
pub use start::disk_error::DiskError;
pub use start::failure::StartFailure;
pub use start::lost_images::{ImagesLost, LostImage};
pub use start::mismatches::{BackingMismatch, ImageMismatches, SizeMismatch};
pub use start::tpm::TpmError;
pub use storage::error::StorageError;
pub use storage::size_change::SizeChange;
pub use template::error::TemplateError;
pub use trash::entries::{TrashInfo, TrashedImageInfo};
pub use trash::error::TrashRefusal;
pub use trash::used_files::{FileUse, FileUser};
pub use upgrade::error::UpgradeError;
pub use vm::ended::VmEnded;
pub use vm::halt::PowerChangeFailed;
pub use vm::observe::{BusyReason, VmStatus};
pub use vm::shutdown::StopMethod;
pub use vm::unresponsive::VmUnresponsive;
pub use wait::condition::{Condition, ExpectedEnd, InvalidCondition, Pattern};
pub use wait::error::{HaltedVm, LastLines, WaitError};
pub use wait::guest_progress::GuestReport;
pub use wait::since::{InvalidWaitSince, WaitSince};
