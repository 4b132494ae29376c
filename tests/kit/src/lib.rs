//! Fixtures shared by maqet's tests: a home of their own, the built CLI, guests, waiting.
//!
//! A test creates a [`TestHome`] and runs the CLI in it with [`TestHome::maqet`]. On drop its QEMU processes are killed
//! and its directory is removed. Guests come in three tiers, cheapest first:
//! [`guest::paused_yaml`] (QEMU up in under 0.1 s, no CPU runs), [`guest::BootSector`] (512 bytes that print on
//! the serial line) and [`guest::linux_yaml`] (kernel and busybox, ready after about 4 s).
//!
//! The kit starts no VM on its own and depends on no adapter; it uses the CLI from outside, as a user does.

#![expect(
    clippy::missing_panics_doc,
    reason = "a fixture that cannot do its work fails the test by panicking; that is its error handling"
)]

pub mod cgroup;
mod collector;
mod fault_points;
mod faulty;
pub mod guest;
mod home;
pub mod namespaces;
pub mod own_process;
pub mod parallel;
pub mod pid_namespace;
pub mod port;
pub mod postgres;
pub mod process;
pub mod qcow2;
pub mod qemu;
mod run;
pub mod serial;
mod shared;
#[cfg(feature = "store")]
pub mod store;
mod terminal;
pub mod variable;
pub mod wait;

pub use collector::Collector;
pub use fault_points::{FAULT_POINTS, FAULT_POINTS_OF_HOSTS};
pub use faulty::FAULTY_NAME;
pub use home::TestHome;
pub use run::{Finished, Maqet, Running};
pub use shared::Shared;
pub use terminal::Terminal;
