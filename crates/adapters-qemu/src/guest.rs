//! The ports [`GuestAgents`](maqet_domain::port::GuestAgents) and [`GuestPorts`](maqet_domain::port::GuestPorts): the
//! channels to a guest, which are sockets of QEMU.
//!
//! QEMU serves one client a socket, so each has a lock beside it: that of the agent is held for a request, that of a set
//! of ports for a command.

mod agent;
mod handover;
mod ports;

use std::io;
use std::path::PathBuf;

use maqet_domain::guest::PortSet;
use maqet_domain::vm::RunPaths;

pub use self::agent::QemuGuestAgents;
pub(crate) use self::handover::waiting;
pub use self::ports::QemuGuestPorts;

/// Returns the file that is locked while a maqet process talks with the agent.
pub(crate) fn agent_lock(paths: &RunPaths) -> PathBuf {
    paths.sockets.join("agent.lock")
}

/// Returns the file that older versions of maqet locked while they waited for that.
pub(crate) fn agent_queue(paths: &RunPaths) -> PathBuf {
    paths.sockets.join("agent.queue")
}

/// Returns the file that is locked while a maqet process uses a set of ports; it holds the nonce of the command.
pub(crate) fn port_lock(paths: &RunPaths, set: PortSet) -> PathBuf {
    paths.sockets.join(format!("ports{set}.lock"))
}

/// Returns whether there is no socket: QEMU was started without it, or is gone.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}
