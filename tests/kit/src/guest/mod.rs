//! Guests in three tiers, cheapest first: no running CPU, 512 bytes that print on the serial line, Linux with busybox.

mod act_sector;
mod boot_sector;
mod config;
mod count_sector;
mod counting_sector;
mod files;
mod rom;
mod shell;

pub use act_sector::GuestAct;
pub use boot_sector::{AfterMarker, BootSector};
pub use config::{agent_yaml, debian_yaml, linux_boot_yaml, linux_yaml, paused_yaml, seeded_yaml};
pub use count_sector::CountSector;
pub use counting_sector::CountingGuest;
pub use files::{DebianFiles, Files, profile_dir, target_dir};
pub use rom::Rom;
pub use shell::Shell;

/// The Linux guest prints this last: it then serves a shell on the serial line and obeys the power button.
pub const READY: &str = "maqet-guest: ready";
