//! Processes: who they are, how they are held, and how they are run to their end.

mod capture;
mod child;
mod identity;
mod linux;
mod locker;
mod pidfd;
mod stats;

pub use self::capture::{CaptureError, Captured, Group, Printed, begin, capture, finish, finish_into};
pub use self::child::{Leashed, in_words};
pub use self::identity::{boot_id, identity_of, is_alive, kill_now, reap, stat_of};
pub use self::linux::LinuxProcesses;
pub use self::locker::{LockKind, locker_of, name_of_process};
