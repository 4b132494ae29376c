//! Reverting changes: what an inverse expects to find, and which change is next.
//!
//! An operation that reverts a change has a [`Revert`](maqet_domain::revert::Revert) among its arguments. It calls
//! [`require_expected`] once it holds the lock of its VM, so that what was checked stays as it is. [`reverting`] finds the
//! changes that an undo or a redo reverts, and calls their inverses one by one, each with a commit of its own: after a
//! kill, those before are reverted, and the operation that was killed is recovered as ever.

pub(crate) mod error;
mod expectation;
mod records;
pub(crate) mod reverting;

pub(crate) use self::expectation::{find_problem, require_expected};
pub(crate) use self::records::restore_records;
