//! Guests in three tiers, cheapest first: no CPU running, 512 bytes on the serial line, Linux with busybox.

mod boot_sector;
mod config;
mod files;
mod shell;

pub use boot_sector::{AfterMarker, BootSector};
pub use config::{linux_boot_yaml, linux_yaml, paused_yaml};
pub use files::{Files, profile_dir};
pub use shell::Shell;

/// What the Linux guest prints last: from here on it answers on the serial line and to the power button.
pub const READY: &str = "maqet-guest: ready";
