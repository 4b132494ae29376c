//! QEMU's vocabulary: switches and the command line made of them.

mod command_line;
mod event;
mod groundwork;
mod helper;
mod shell;
mod switch;
mod version;

pub use self::command_line::{Accelerator, CommandLine, PathNotUtf8, SERIAL_CHARDEV, Setting, UefiFiles};
pub use self::event::QmpEvent;
pub use self::groundwork::{copy_groundwork, image_groundwork, run_groundwork};
pub use self::helper::Helper;
pub use self::shell::quote;
pub use self::switch::Switch;
pub use self::version::{InvalidVersion, QemuVersion};
