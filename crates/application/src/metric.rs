//! Metrics: measuring operations and their steps.

pub(crate) mod meter;
pub(crate) mod monitors;
