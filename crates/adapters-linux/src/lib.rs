//! The Linux host: processes, locks, private and atomic files, hooks, paths, and the clock.
//!
//! Nothing in this crate is specific to QEMU. It implements those ports of [`maqet_domain::port`] that only need the
//! host, and is the layer below the other adapters, which use its processes and files. Nothing in it reads an
//! environment variable or prints: directories and the environment of child processes are arguments.

pub mod atomic_file;
mod backup_store;
mod block_device;
mod clock;
mod copies;
mod dial;
mod environment;
mod hook;
mod host;
mod host_files;
mod jitter;
mod journal;
mod kernel_log;
pub mod limits;
mod lock;
mod locked_file;
pub mod log_file;
mod metric_file;
mod path;
mod port_user;
pub mod private_file;
mod probe;
pub mod process;
mod readable;
mod records;
mod shared_id;
mod ssh;
mod stale_files;
mod temporary_file;
mod trash;
mod usb_access;

pub use self::backup_store::LocalBackups;
pub use self::block_device::{claimed_loop_of, is_claimed};
pub use self::clock::{RandomIds, SystemClock};
pub use self::copies::{FileCopies, database_of, vm_folders};
pub use self::dial::TcpDialer;
pub use self::environment::{ProcessEnvironment, ProgramError};
pub use self::hook::LocalHooks;
pub use self::host::LocalHost;
pub use self::host_files::LocalFiles;
pub use self::jitter::{random_number, random_pause, retry_pause};
pub use self::journal::FileJournal;
pub use self::kernel_log::{GroupKills, MemoryKills, kernel_report};
pub use self::lock::{FileLocks, RUN_LOCK_PREFIX, parse_lock_name, read_holder, write_holder};
pub use self::locked_file::LockedFile;
pub use self::metric_file::FileMetrics;
pub use self::path::LocalPaths;
pub use self::probe::LocalProbe;
pub use self::process::LinuxProcesses;
pub use self::readable::Readable;
pub use self::records::LocalRecords;
pub use self::shared_id::shared_id;
pub use self::ssh::LocalSsh;
pub use self::stale_files::{LocalStaleFiles, MaqetDirectories, created_at, stale_temporary_files};
pub use self::trash::LocalTrash;
