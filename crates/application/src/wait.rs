//! Conditions of `wait`, and what watches for them.

pub(crate) mod condition;
pub(crate) mod error;
pub(crate) mod screen_stability;
pub(crate) mod watcher;
