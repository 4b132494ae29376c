//! IDE slots: those of `-hda` and its kin beside those of drives with `interface: ide`.

use std::collections::HashSet;

use super::{Refusal, UserSwitch};
use crate::machine::Machine;
use crate::storage::Interface;

impl Machine {
    /// Returns the switches whose drives are in the slots of drives with `interface: ide`.
    pub(super) fn ide_refusals<'s, 'd>(&self, switches: &'s [UserSwitch<'d>]) -> Vec<(&'s UserSwitch<'d>, Refusal)> {
        let drives: Vec<_> =
            self.storage.iter().filter(|storage| storage.interface == Interface::Ide).take(8).collect();
        if drives.is_empty() {
            return Vec::new();
        }
        let mut taken = HashSet::new();
        let mut refusals = Vec::new();
        for switch in switches.iter().filter(|switch| !switch.is_key) {
            let Some(slot) = self.slot(switch, &taken) else { continue };
            taken.insert(slot);
            let in_slot = drives
                .iter()
                .enumerate()
                .find(|(position, _)| Interface::ide_index(*position, self.is_q35()) == Some(slot));
            if let Some((_, drive)) = in_slot {
                let message = format!("`-{}` has the IDE slot of drive `{}`", switch.name, drive.name);
                let help = "declare the image under `storage`, or set `interface: sata` for the drive".to_owned();
                refusals.push((switch, Refusal { message, help }));
            }
        }
        refusals
    }

    /// Returns the slot of a drive; `taken` are those of drives before it, of which QEMU takes the first free one.
    fn slot(&self, switch: &UserSwitch<'_>, taken: &HashSet<u8>) -> Option<u8> {
        let number = |key| switch.option(key).and_then(|text| text.parse::<u8>().ok());
        match switch.name.as_str() {
            "hda" => Some(0),
            "hdb" => Some(1),
            "hdc" | "cdrom" => Some(2),
            "hdd" => Some(3),
            "drive" if matches!(switch.option("if"), None | Some("ide")) => {
                let units = if self.is_q35() { 1 } else { 2 };
                let by_bus = number("bus").map(|bus| bus.saturating_mul(units) + number("unit").unwrap_or_default());
                number("index").or(by_bus).or_else(|| (0..=u8::MAX).find(|slot| !taken.contains(slot)))
            }
            _ => None,
        }
    }
}
