//! The conditions of `wait`, and the watcher that waits for them.
//!
//! [`condition`] parses a condition, [`watcher`] observes whether it is met, [`screen_stability`] compares screens,
//! [`guest_progress`] asks the agent how far the guest is, [`serial_output`] searches the output of the guest [`since`] a moment, and
//! [`error`] says why waiting failed.

pub(crate) mod condition;
pub(crate) mod error;
pub(crate) mod guest_progress;
pub(crate) mod screen_stability;
pub(crate) mod serial_output;
pub(crate) mod since;
pub(crate) mod watcher;
