//! IDs of the user's switches that maqet's part of the command line has already.

use std::collections::HashMap;

use super::{Refusal, UserSwitch};
use crate::machine::defaults::{EVENTS_CHARDEV, SERIAL_CHARDEV};
use crate::machine::{Machine, PORT_PREFIX};
use crate::network::NetworkMode;
use crate::storage::Interface;
use crate::vm::MonitorRole;

/// A space of names, in which an ID is unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Space {
    CharacterDevices,
    BlockNodes,
    NetworkBackends,
    Devices,
    Objects,
}

impl Space {
    /// Returns the space that the ID of a switch is in, and the option that holds it.
    fn of(switch: &str) -> Option<(Self, &'static str)> {
        Some(match switch {
            "chardev" => (Self::CharacterDevices, "id"),
            "mon" => (Self::CharacterDevices, "chardev"),
            "blockdev" => (Self::BlockNodes, "node-name"),
            "drive" => (Self::BlockNodes, "id"),
            "netdev" => (Self::NetworkBackends, "id"),
            "device" => (Self::Devices, "id"),
            "object" => (Self::Objects, "id"),
            _ => return None,
        })
    }
}

impl Machine {
    /// Returns the switches with an ID that maqet gives to something else; QEMU refuses the second one.
    pub(super) fn id_refusals<'s, 'd>(&self, switches: &'s [UserSwitch<'d>]) -> Vec<(&'s UserSwitch<'d>, Refusal)> {
        let named: Vec<_> = switches
            .iter()
            .filter_map(|switch| {
                let (space, key) = Space::of(&switch.name)?;
                let id = switch.option(key)?;
                Some((switch, space, id))
            })
            .collect();
        if named.is_empty() {
            return Vec::new();
        }
        let owners = self.owners();
        let refusal = |(switch, space, id): (&'s UserSwitch<'d>, Space, &str)| {
            let owner = owners.get(&(space, id.to_owned()))?;
            let help = match switch.name.as_str() {
                "mon" => "define a `-chardev` of your own",
                _ => "choose another ID",
            };
            Some((switch, Refusal { message: format!("the ID `{id}` is that of {owner}"), help: help.to_owned() }))
        };
        named.into_iter().filter_map(refusal).collect()
    }

    /// Returns the IDs in maqet's part of the command line, with what has them.
    fn owners(&self) -> HashMap<(Space, String), String> {
        const MAQET: &str = "a part that maqet adds";
        let mut owners = HashMap::new();
        let mut add = |space, id: &str, owner: &str| drop(owners.insert((space, id.to_owned()), owner.to_owned()));
        for role in MonitorRole::ALL {
            add(Space::CharacterDevices, role.name(), MAQET);
        }
        add(Space::CharacterDevices, EVENTS_CHARDEV, MAQET);
        if self.serial_redirection().is_none() {
            add(Space::CharacterDevices, SERIAL_CHARDEV, MAQET);
        }
        if self.tpm {
            add(Space::CharacterDevices, "tpm", MAQET);
        }
        if self.firmware.is_uefi() {
            for node in ["uefi-code", "uefi-code-file", "uefi-vars", "uefi-vars-file"] {
                add(Space::BlockNodes, node, MAQET);
            }
        }
        for storage in &self.storage {
            let (name, owner) = (storage.name.as_str(), format!("drive `{}`", storage.name));
            if storage.driver.image_format().is_some() {
                add(Space::BlockNodes, name, &owner);
                add(Space::BlockNodes, &storage.name.file_node(), &owner);
            }
            if storage.interface != Interface::None {
                add(Space::Devices, name, &owner);
            }
            if let Some(controller) = storage.controller_id() {
                add(Space::Devices, controller, MAQET);
            }
            if storage.driver.features().shared_memory && self.numa.is_empty() {
                add(Space::Objects, "shared-memory", MAQET);
            }
        }
        for id in self.numa_memory_ids() {
            add(Space::Objects, &id, MAQET);
        }
        for card in self.network.iter().filter(|card| card.mode != NetworkMode::None) {
            let owner = format!("network card `{}`", card.name);
            add(Space::NetworkBackends, card.name.as_str(), &owner);
            add(Space::Devices, &format!("{}-card", card.name), &owner);
        }
        for id in self.device_ids() {
            add(Space::Devices, &id, MAQET);
        }
        for number in 0..self.spare_ports() {
            add(Space::Devices, &format!("{PORT_PREFIX}{number}"), MAQET);
        }
        owners
    }
}
