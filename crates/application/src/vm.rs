//! The state of a VM: observing it, recording it, and stopping the VM.
//!
//! - [`observe`] computes the state from the recorded run, the process, QEMU's own event log and the monitor's reply;
//!   it writes nothing. The rules are [`maqet_domain::vm::Status`].
//! - [`latest`] observes again where another process has ended a run meanwhile.
//! - [`reconcile`] records what happened unobserved, such as a guest that powered off overnight.
//! - [`orphan`] finds QEMU processes whose VM is not in the store.
//! - [`shutdown`] stops a VM: power-down, quit, SIGTERM, SIGKILL; [`power_button`] is the first of these.
//! - [`hidden`] is a QEMU in another PID namespace, which cannot be signaled.
//! - [`ended`] is the error of a VM that ended while an operation used it.
//! - [`monitor`] finds the monitors of a running VM; [`unresponsive`] is the error of a QEMU that does not answer.

pub(crate) mod ended;
pub(crate) mod halt;
pub(crate) mod hidden;
mod latest;
pub(crate) mod monitor;
pub(crate) mod observe;
pub(crate) mod orphan;
pub(crate) mod power_button;
pub(crate) mod reconcile;
pub(crate) mod shutdown;
pub(crate) mod unresponsive;
