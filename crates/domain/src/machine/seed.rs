//! The disk with the seed of the guest.

use std::path::Path;

use super::Machine;
use super::bus::Bus;

impl Machine {
    /// Returns the bus of the disk with the seed; `None` if there is no seed.
    pub(crate) fn seed_bus(&self, architecture: &str, binary: &Path) -> Option<Bus> {
        self.seed.as_ref()?;
        Some(self.bus(architecture, binary).unwrap_or(Bus::Pci))
    }
}
