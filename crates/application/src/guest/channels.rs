//! Which channels of a VM the guest has open, as QEMU says.

use maqet_domain::guest::{AGENT_PORT, GuestStream, PortSet, is_open};
use maqet_domain::port::Monitors;
use maqet_domain::qmp::{QmpCommand, QmpError};
use maqet_domain::vm::RunPaths;
use serde_json::Value;

use crate::limits;
use crate::vm::monitor::Monitored;

/// The state of a VM's channels at one moment.
#[derive(Debug)]
pub(crate) struct Channels(Value);

impl Channels {
    /// Queries QEMU.
    pub(crate) async fn query(vm: &Monitored<'_>) -> Result<Self, QmpError> {
        vm.execute_watched(&QmpCommand::new("query-chardev"), limits::QUERY_TIMEOUT).await.map(Self)
    }

    /// Queries the QEMU of a run.
    pub(crate) async fn of_run(monitors: &dyn Monitors, paths: &RunPaths) -> Result<Self, QmpError> {
        monitors.execute(paths, &QmpCommand::new("query-chardev"), limits::QUERY_TIMEOUT).await.map(Self)
    }

    /// Returns whether the guest's agent has its port open; `None` if the VM has no such port.
    pub(crate) fn agent(&self) -> Option<bool> {
        is_open(&self.0, AGENT_PORT)
    }

    /// Returns whether the guest has the output of a set of ports open.
    pub(crate) fn has_open_output(&self, set: PortSet) -> bool {
        [GuestStream::Out, GuestStream::Err].iter().any(|stream| is_open(&self.0, &set.id(*stream)) == Some(true))
    }
}
