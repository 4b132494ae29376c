//! Inside the guest: requests to its agent, and commands.
//!
//! A command is started by the agent, and its streams are [ports](by_ports) of the VM, or [what the agent passes
//! on](by_agent) where there are none. Without an agent, it is run [by SSH](by_ssh).

pub(crate) mod agent;
pub(crate) mod by_agent;
pub(crate) mod by_ports;
pub(crate) mod by_ssh;
pub(crate) mod channels;
pub(crate) mod clock;
pub(crate) mod control;
pub(crate) mod copy;
pub(crate) mod detached;
pub(crate) mod error;
mod passing;
pub(crate) mod pump;
pub(crate) mod quiesce;
pub(crate) mod request;
pub(crate) mod streams;
mod watch;
