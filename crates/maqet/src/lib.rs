//! maqet automates QEMU virtual machines: it defines, starts, observes, controls, snapshots and removes them.
//!
//! This is the crate to depend on. [`Maqet::open`] connects SQLite and QEMU as the command line does; [`Maqet::builder`]
//! takes a store, configuration keys, storage types and operations of your own. [`Maqet::vm`] returns a handle with the
//! everyday operations of one VM:
//!
//! ```no_run
//! use maqet::{Environment, Maqet, Overrides, Settings};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let settings = Settings::discover(&Environment::from_process(), &Overrides::default())?;
//! let maqet = Maqet::open(settings).await?;
//!
//! let web = maqet.vm("web");
//! web.start().await?;
//! println!("{}", web.status().await?.status);
//! web.stop().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Everything else is an [`operation`]: a plain struct with all arguments, which is also its JSON call and its history
//! record. [`Maqet::run`] takes the struct, [`Maqet::call`] its name and JSON:
//!
//! ```no_run
//! # async fn example(maqet: &maqet::Maqet) -> Result<(), maqet::Error> {
//! use maqet::operation::Stop;
//!
//! maqet.run(Stop::new("web").force(true)).await?;
//! maqet.call("stop", serde_json::json!({ "vm": "web", "force": true })).await?;
//! # Ok(())
//! # }
//! ```
//!
//! There are no globals: several instances can be used side by side. The library runs on the tokio runtime of the
//! caller, with I/O and time enabled.

mod builder;
mod document;
mod environment;
mod error;
mod fault_points;
mod logs;
mod permissions;
mod settings;
mod stores;
mod timeouts;
mod vm;

pub use builder::{Builder, Maqet};
pub use document::{ReadError, read_document};
pub use environment::Environment;
pub use error::OpenError;
pub use permissions::{InsecureFiles, Insecurity};
pub use settings::{Overrides, Settings};
pub use stores::{StoreContext, StoreFactories, StoreFactory, StoreSetup};
pub use vm::VmHandle;

pub use maqet_application::config::{self, ConfigError, Document};
pub use maqet_application::{
    App, Area, BackingMismatch, BalloonError, BusyReason, CopyError, DeviceError, Directories, DiskError, Done, Effect,
    EffectiveSetting, Error, ErrorReport, ExecError, ExecStreams, Finding, HostError, HumanDuration, ImageMismatches,
    ImagesLost, InvalidDuration, JobId, JobInfo, Jobs, KeyboardError, LogFailure, LogLimits, LostImage, Maintenance,
    Operation, OperationTable, Picture, Ports, Progress, ProgressStream, ProgressUnit, QuiesceError, ScreenError,
    Severity, SizeChange, SizeMismatch, StartFailure, StopMethod, StorageError, Timeouts, VmStatus, limits, operation,
};
// The trash.
pub use maqet_application::{FileUse, FileUser, TrashInfo, TrashRefusal, TrashedImageInfo};
// QMP commands.
pub use maqet_application::{
    CommandError, Completions, InvalidQmpLine, QmpArguments, QmpLine, QmpShell, completions, read_command, read_reply,
};
// Conditions of `wait`.
pub use maqet_application::{
    Condition, ExpectedEnd, GuestReport, HaltedVm, InvalidCondition, InvalidWaitSince, LastLines, Pattern, WaitError,
    WaitSince,
};
// Events.
pub use maqet_application::{Cursor, Delivery, EventListener, EventStream, QmpLogPosition, ShownEvent};
pub use maqet_domain as domain;
pub use maqet_domain::error::Explanation;
pub use maqet_domain::{Explain, Fault};
