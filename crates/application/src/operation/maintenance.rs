//! Checks and repairs of maqet itself.

mod cleanup;
mod doctor;

pub use self::cleanup::{Cleaned, CleanedItem, Cleanup, CleanupOutcome};
pub use self::doctor::{Diagnosis, Doctor};
