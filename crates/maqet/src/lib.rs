//! maqet automates QEMU virtual machines: it defines, starts, watches, drives, snapshots and
//! removes them.
//!
//! This is the crate to depend on. [`Maqet::open`] wires SQLite and QEMU as the command line does;
//! [`Maqet::builder`] lets every part be replaced. Operations are plain structs:
//!
//! ```no_run
//! use maqet::operation::{Start, Status};
//! use maqet::{Environment, Maqet, Settings};
//!
//! # async fn example() -> Result<(), maqet::OpenError> {
//! let settings = Settings::discover(&Environment::from_process(), &Default::default())?;
//! let maqet = Maqet::open(settings).await?;
//! # let _ = async {
//! maqet.run(Start::new("web")).await?;
//! println!("{}", maqet.run(Status::new("web")).await?.status);
//! # Ok::<(), maqet::Error>(()) };
//! # Ok(())
//! # }
//! ```
//!
//! There are no globals: two instances live side by side. The runtime is the caller's (tokio, with
//! I/O and time enabled).

mod builder;
mod document;
mod environment;
mod error;
mod fault;
mod permissions;
mod settings;
mod stores;
mod timeouts;

pub use builder::{Builder, Maqet};
pub use document::{ReadError, read_document};
pub use environment::Environment;
pub use error::OpenError;
pub use permissions::{InsecureFiles, Insecurity};
pub use settings::{Overrides, Settings};
pub use stores::{StoreFactories, StoreFactory, StoreSetup};

pub use maqet_application::config::{self, ConfigError, Document};
pub use maqet_application::{
    App, Area, BusyReason, DeviceError, Done, Effect, EffectiveSetting, Error, Finding, Folders, HumanDuration,
    InvalidDuration, KeyboardError, Maintenance, Operation, OperationTable, Picture, Ports, Progress, ProgressStream,
    ScreenError, Severity, SizeMismatch, StopMethod, Timeouts, VmStatus, limits, operation,
};
// Commands of QMP.
pub use maqet_application::{
    CommandError, Completions, InvalidLine, QmpArguments, QmpLine, QmpShell, completions, read_command, read_reply,
};
// What can be waited for.
pub use maqet_application::{Condition, InvalidCondition, LastLines, Pattern, WaitError};
// What happened, and hearing of it.
pub use maqet_application::{Cursor, Delivery, EventListener, EventStream, RecorderPosition, ShownEvent};
pub use maqet_domain as domain;
pub use maqet_domain::{Explain, Fault};
