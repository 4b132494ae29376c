//! Processes: their identity, their handles, and programs that are run to their exit.

mod capture;
mod cgroup;
mod child;
mod identity;
mod linux;
mod list;
mod locker;
mod open_file_locks;
mod output_file;
mod pidfd;
pub(crate) mod proc_file;
mod scope;
mod stats;

pub use self::capture::{
    CaptureError, Captured, Exit, Group, Output, capture, spawn_captured, wait_into, wait_observed,
};
pub use self::child::{ChildGuard, display_status};
pub use self::identity::{Stat, kill};
pub use self::linux::LinuxProcesses;
pub use self::list::{command_line, is_own};
pub use self::locker::{LockKind, find_locker, lockers, lockers_with_own, process_name};
pub use self::open_file_locks::{OpenFileLocks, is_locked};
pub use self::output_file::run_into_files;
pub use self::scope::PidScope;
