//! QEMU on this host: its processes, its monitors, `qemu-img`, and the locks, clock and facts of the host.
//!
//! Each type here is an adapter of one port of [`maqet_domain::port`]. Nothing in this crate reads an environment
//! variable or prints; folders and the environment of child processes are given at construction.

mod clock;
mod console;
mod copies;
mod dial;
mod environment;
mod firmware;
mod hook;
mod host;
mod hypervisor;
mod image;
mod jitter;
mod journal;
mod leftovers;
pub mod limits;
mod lock;
mod path;
mod picture;
mod private;
mod probe;
mod process;
mod qmp;
mod readable;
mod records;
mod schema_cache;

pub use self::clock::{RandomIds, SystemClock};
pub use self::console::QemuConsoles;
pub use self::copies::FileCopies;
pub use self::dial::TcpDialer;
pub use self::environment::ProcessEnvironment;
pub use self::firmware::DescriptorCatalog;
pub use self::hook::LocalHooks;
pub use self::host::LocalHost;
pub use self::hypervisor::QemuHypervisor;
pub use self::image::QemuImg;
#[cfg(feature = "fuzzing")]
pub use self::image::read_image_info;
pub use self::journal::FileJournal;
pub use self::leftovers::{LocalLeftovers, OurFolders};
pub use self::lock::FileLocks;
pub use self::path::LocalPaths;
pub use self::picture::FilePictures;
pub use self::probe::LocalProbe;
pub use self::process::LinuxProcesses;
#[cfg(feature = "fuzzing")]
pub use self::qmp::decode_any;
pub use self::qmp::{QemuMonitors, QmpSession};
pub use self::records::LocalRecords;
pub use self::schema_cache::FileSchemas;
