//! The sockets of a running VM.

use std::fmt;

use maqet_domain::command_line::TPM_CHARDEV;
use maqet_domain::machine::defaults::SERIAL_CHARDEV;
use maqet_domain::port::{PathKind, Paths};
use maqet_domain::vm::{MonitorRole, RunPaths};
use serde::Serialize;

use super::machine::Chardev;
use crate::app::shown;
use crate::vm::monitor::TPM_LOST;

/// A socket of a running VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct InspectedSocket {
    /// The name of its character device in QEMU.
    pub name: String,
    /// What it is for.
    pub role: SocketRole,
    /// Its path.
    pub file: String,
    /// Whether a client is connected; omitted if QEMU did not report it, for the monitor used for the query, and for
    /// the serial console.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connected: Option<bool>,
    /// What does not work because nothing is at the other end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// What a socket of a VM is for; `Display` describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SocketRole {
    /// Single QMP commands of maqet, which share it.
    Commands,
    /// A QMP session of maqet, such as `qmp shell`.
    Sessions,
    /// QMP for other programs.
    External,
    /// The input of the first serial port of the guest, a FIFO.
    Serial,
    /// The TPM: swtpm listens there, and QEMU is connected to it.
    Tpm,
}

impl From<MonitorRole> for SocketRole {
    fn from(role: MonitorRole) -> Self {
        match role {
            MonitorRole::Command => Self::Commands,
            MonitorRole::SessionOne | MonitorRole::SessionTwo => Self::Sessions,
            MonitorRole::External => Self::External,
        }
    }
}

impl fmt::Display for SocketRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Commands => "QMP commands",
            Self::Sessions => "QMP session",
            Self::External => "QMP for other programs",
            Self::Serial => "serial console",
            Self::Tpm => "TPM",
        })
    }
}

/// Returns the sockets of a run; `chardevs` are the character devices of its QEMU, if it reported them.
pub(super) async fn inspect_sockets(
    paths: &dyn Paths,
    run: &RunPaths,
    chardevs: Option<&[Chardev]>,
) -> Vec<InspectedSocket> {
    let monitors = MonitorRole::ALL.map(|role| (role.name(), SocketRole::from(role), run.monitor(role)));
    let serial = [run.serial_input(), run.serial_socket()].map(|path| (SERIAL_CHARDEV, SocketRole::Serial, path));
    let mut sockets = Vec::new();
    for (name, role, path) in monitors.into_iter().chain(serial) {
        // Only VMs that an older maqet started have a socket for the serial port.
        if paths.kind(&path).await != PathKind::Other {
            continue;
        }
        // The client of the command monitor would always be this query, and QEMU does not know those of a FIFO.
        let reported = chardevs.filter(|_| role != SocketRole::Commands && path != run.serial_input());
        let chardev = reported.and_then(|chardevs| chardevs.iter().find(|chardev| chardev.name == name));
        let connected = chardev.map(|chardev| chardev.connected);
        sockets.push(InspectedSocket { name: name.to_owned(), role, file: shown(&path), connected, problem: None });
    }
    let tpm = chardevs.into_iter().flatten().find(|chardev| chardev.name == TPM_CHARDEV);
    sockets.extend(tpm.map(|chardev| InspectedSocket {
        name: TPM_CHARDEV.to_owned(),
        role: SocketRole::Tpm,
        file: shown(&run.tpm_socket()),
        connected: Some(chardev.connected),
        problem: (!chardev.connected).then(|| TPM_LOST.to_owned()),
    }));
    sockets
}
