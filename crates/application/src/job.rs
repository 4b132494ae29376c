//! Long work: its progress.

pub(crate) mod progress;
