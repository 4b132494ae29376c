//! IDs of the user's switches that maqet's part of the command line has already.

use std::collections::HashMap;
use std::path::Path;

use super::{Refusal, UserSwitch};
use crate::guest::channel_ids;
use crate::machine::Machine;
use crate::machine::defaults::{EVENTS_CHARDEV, SERIAL_CHARDEV};
use crate::qemu::{OptionString, QemuOption, Switch};
use crate::storage::HostFile;
use crate::vm::MonitorRole;

/// A space of names, in which an ID is unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Space {
    AudioBackends,
    BlockNodes,
    CharacterDevices,
    Devices,
    FileSystems,
    NetworkBackends,
    Objects,
    TpmBackends,
}

/// An ID and its space.
type Id = (Space, String);

/// What has an ID that maqet gives.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Owner(String);

/// Switches whose argument may be a character device, as `chardev:ID`.
const CONNECTED: [&str; 7] = ["serial", "parallel", "monitor", "qmp", "qmp-pretty", "debugcon", "gdb"];

/// Options of a device that connect it; of the others, as `serial`, a `-set` is welcome.
const CONNECTIONS: [&str; 8] = ["driver", "id", "drive", "netdev", "chardev", "fsdev", "tpmdev", "audiodev"];

impl Space {
    /// Returns the space that the ID of a switch, or of a group of options, is in.
    fn of(switch: &str) -> Option<Self> {
        Some(match switch {
            "audiodev" => Self::AudioBackends,
            "blockdev" | "drive" => Self::BlockNodes,
            "chardev" => Self::CharacterDevices,
            "device" => Self::Devices,
            "fsdev" | "virtfs" => Self::FileSystems,
            "netdev" | "nic" | "net" => Self::NetworkBackends,
            "object" => Self::Objects,
            "tpmdev" => Self::TpmBackends,
            _ => return None,
        })
    }

    /// Returns whether an option of a switch holds its ID, or that of a part of it.
    fn is_id(switch: &str, option: &QemuOption) -> bool {
        match switch {
            // Nested nodes have names, too.
            "blockdev" | "drive" => {
                option.key == "node-name"
                    || option.key.ends_with(".node-name")
                    || switch == "drive" && option.key == "id"
            }
            // Without an ID, it is the mount tag.
            "virtfs" => matches!(option.key.as_str(), "id" | "mount_tag"),
            _ => option.key == "id",
        }
    }
}

/// Returns the IDs that a switch gives.
fn ids_of(switch: &str, options: &OptionString) -> Vec<Id> {
    let Some(space) = Space::of(switch) else { return Vec::new() };
    let ids = options.iter().filter(|option| Space::is_id(switch, option));
    ids.map(|option| (space, option.value.clone())).collect()
}

/// Returns the character devices that a switch connects to something.
fn used_by(switch: &UserSwitch<'_>) -> Vec<Id> {
    let of_option = switch.option("chardev").filter(|_| !matches!(switch.name.as_str(), "chardev" | "set"));
    let connected = switch.argument.strip_prefix("chardev:").filter(|_| CONNECTED.contains(&switch.name.as_str()));
    of_option.into_iter().chain(connected).map(|id| (Space::CharacterDevices, id.to_owned())).collect()
}

/// Returns the ID whose options `-set GROUP.ID.OPTION=VALUE` changes, unless it is one of those that a user may change.
fn changed_by(switch: &UserSwitch<'_>) -> Option<Id> {
    let mut parts = switch.argument.split('=').next()?.splitn(3, '.');
    let (group, id, option) = (parts.next()?, parts.next()?, parts.next()?);
    let is_free = group == "device" && !CONNECTIONS.contains(&option);
    let space = Space::of(group).filter(|_| switch.name == "set" && !is_free)?;
    Some((space, id.to_owned()))
}

impl Machine {
    /// Returns the switches with an ID that maqet gives to something else, of which QEMU refuses the second one, and those
    /// that connect or change a part of maqet.
    pub(super) fn id_refusals<'s, 'd>(&self, switches: &'s [UserSwitch<'d>]) -> Vec<(&'s UserSwitch<'d>, Refusal)> {
        let given = |switch: &'s UserSwitch<'d>| {
            let ids = if switch.is_key { Vec::new() } else { ids_of(&switch.name, &switch.options) };
            ids.into_iter().map(move |id| (switch, id, "choose another ID"))
        };
        let used = |switch: &'s UserSwitch<'d>| {
            used_by(switch).into_iter().map(move |id| (switch, id, "define a `-chardev` of your own"))
        };
        let changed = |switch: &'s UserSwitch<'d>| {
            let help = "remove it: maqet could not use the VM any more";
            changed_by(switch).into_iter().map(move |id| (switch, id, help))
        };
        let named: Vec<_> =
            switches.iter().flat_map(|switch| given(switch).chain(used(switch)).chain(changed(switch))).collect();
        if named.is_empty() {
            return Vec::new();
        }
        let owners = self.owners();
        let refusal = |(switch, id, help): (&'s UserSwitch<'d>, Id, &str)| {
            let Owner(owner) = owners.get(&id)?;
            let message = format!("the ID `{}` is that of {owner}", id.1.escape_debug());
            Some((switch, Refusal { message, help: help.to_owned() }))
        };
        let mut refusals: Vec<_> = named.into_iter().filter_map(refusal).collect();
        // One for each switch.
        refusals.dedup_by(|(a, _), (b, _)| std::ptr::eq::<UserSwitch<'_>>(*a, *b));
        refusals
    }

    /// Returns the IDs in maqet's part of the command line, with what has them.
    fn owners(&self) -> HashMap<Id, Owner> {
        const MAQET: &str = "a part that maqet adds";
        let mut owners = HashMap::new();
        let mut add = |switch: &Switch, owner: &str| {
            let options = OptionString::parse(switch.name(), switch.argument().unwrap_or_default());
            for id in ids_of(switch.name(), &options) {
                owners.insert(id, Owner(owner.to_owned()));
            }
        };
        self.fixed_parts().iter().for_each(|part| add(part, MAQET));
        let devices = self.usb_switches().into_iter().chain(self.device_switches("x86_64", Path::new("qemu")));
        let memory = self.numa_switches(false).into_iter();
        devices.chain(memory).chain(self.port_switches()).for_each(|part| add(&part, MAQET));
        for id in channel_ids().filter(|_| self.agent != Some(false)) {
            for switch in ["device", "chardev"] {
                add(&Switch::new(switch).option("id", &id), MAQET);
            }
        }
        for storage in &self.storage {
            let owner = format!("drive `{}`", storage.name);
            storage.driver.backend(storage, HostFile::regular("")).iter().for_each(|node| add(node, &owner));
            let slot = crate::storage::DriveSlot { position: 0, is_q35: false, is_numbered: false };
            storage.driver.frontend(storage, slot).iter().for_each(|device| add(device, &owner));
            let controller = storage.controller_id().into_iter();
            controller.for_each(|id| add(&Switch::new("device").option("id", id), MAQET));
        }
        for card in &self.network {
            let owner = format!("network card `{}`", card.name);
            card.switches(&[0; 16], 0, "", true).iter().for_each(|part| add(part, &owner));
        }
        owners
    }

    /// Returns the parts that do not follow from a list of the definition, with nothing but their IDs.
    fn fixed_parts(&self) -> Vec<Switch> {
        let part = |switch: &str, id: &str| Switch::new(switch).option("id", id);
        let mut parts: Vec<Switch> = MonitorRole::ALL.iter().map(|role| part("chardev", role.name())).collect();
        parts.push(part("chardev", EVENTS_CHARDEV));
        if self.serial_redirection().is_none() {
            parts.push(part("chardev", SERIAL_CHARDEV));
        }
        if self.tpm {
            parts.extend([part("chardev", "tpm"), part("tpmdev", "tpm")]);
        }
        if self.firmware.is_uefi() {
            let nodes = ["uefi-code", "uefi-code-file", "uefi-vars", "uefi-vars-file"];
            parts.extend(nodes.map(|node| Switch::new("blockdev").option("node-name", node)));
        }
        let is_shared = self.storage.iter().any(|storage| storage.driver.features().shared_memory);
        if is_shared && self.numa.is_empty() {
            parts.push(part("object", crate::machine::SHARED_MEMORY));
        }
        parts
    }
}
