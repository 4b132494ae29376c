//! What maqet does: its operations, and what they share.
//!
//! An operation reads, decides with the rules of the domain, acts through ports and returns what
//! is to be written; [`App::run`] does the rest for all of them. Nothing here opens a file, a
//! socket or a process, reads the environment, or prints.

mod app;
mod bus;
mod call;
mod condition;
pub mod config;
mod copying;
mod deaf;
mod disks;
mod drives;
mod error;
mod event_type;
mod feed;
mod firmware;
mod groundwork;
mod health;
mod heard;
mod hooks;
mod hotplug;
mod hotplug_error;
mod interruption;
mod journal;
mod kept_size;
mod keyboard;
mod keyboard_error;
pub mod limits;
mod look;
mod missing;
mod monitor;
pub mod operation;
mod patience;
mod progress;
mod qmp;
mod safety;
mod screen;
mod settings;
mod settle;
mod stillness;
mod stop;
mod stray;
mod timeouts;
mod wait_error;
mod watch;

pub use app::{App, Folders, Ports};
pub use bus::{EventStream, Observer, Told};
pub use call::{Done, Effect, Operation, OperationTable};
pub use condition::{Condition, InvalidCondition, Pattern};
pub use copying::CopyingStore;
pub use deaf::Deaf;
pub use error::Error;
pub use event_type::NoSuchEventType;
pub use feed::{Cursor, RecorderPosition, ShownEvent};
pub use health::{Area, Finding, Severity, Upkeep};
pub use hotplug_error::HotplugError;
pub use kept_size::KeptSize;
pub use keyboard_error::KeyboardError;
pub use look::{Occupation, VmStatus};
pub use patience::{InvalidPatience, Patience};
pub use progress::{Progress, ProgressStream};
pub use qmp::{
    CommandError, Completions, InvalidLine, QmpArguments, QmpLine, QmpShell, completions, read_answer, read_command,
};
pub use screen::{Picture, ScreenError};
pub use settings::{EffectiveSetting, Settings};
pub use stop::Rung;
pub use timeouts::Timeouts;
pub use wait_error::{LastLines, WaitError};
