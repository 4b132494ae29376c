//! QEMU on this host: its processes, its monitors, its consoles, `qemu-img` and firmware.
//!
//! Each type implements one port of [`maqet_domain::port`], on the host layer of `maqet-adapters-linux`. Nothing in
//! this crate reads an environment variable or prints: directories and the environment of child processes are
//! arguments.

mod binary_cache;
mod bound;
mod builds;
mod checkpoint;
mod console;
mod firmware;
mod guest;
mod hypervisor;
mod image;
pub mod limits;
mod picture;
mod qmp;
mod schema_cache;
mod stale_files;
mod stderr_tail;

pub use self::builds::QemuBuilds;
pub use self::checkpoint::LocalCheckpoints;
pub use self::console::QemuConsoles;
pub use self::firmware::DescriptorCatalog;
pub use self::guest::{QemuGuestAgents, QemuGuestPorts};
pub use self::hypervisor::QemuHypervisor;
pub use self::image::QemuImg;
#[cfg(feature = "fuzzing")]
pub use self::image::read_image_info;
pub use self::picture::FilePictures;
#[cfg(feature = "fuzzing")]
pub use self::qmp::decode_any;
pub use self::qmp::{QemuMonitors, QmpSession};
pub use self::schema_cache::FileSchemas;
pub use self::stale_files::QemuStaleFiles;
