//! QMP commands and events, keys and screenshots.

mod events;
mod keys;
mod run;
mod screendump;
mod shell;

pub use self::events::QmpEvents;
pub use self::keys::{KeysPressed, QmpKeys, QmpType, TextTyped};
pub use self::run::QmpRun;
pub use self::screendump::{QmpScreendump, Screendump};
pub use self::shell::QmpShell;
