//! What a guest finds by a name that two devices have: mount tags of shares, and MAC addresses of network cards.

use super::{Refusal, UserSwitch};
use crate::machine::Machine;
use crate::network::MacAddress;
use crate::qemu::OptionString;

/// What a guest finds a device by.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    /// A mount tag, for `virtfs` or `virtiofs`: a guest mounts only the first share of a type that has it.
    Tag(&'static str, String),
    /// The address of a card on its network.
    Address(MacAddress),
}

/// Returns the MAC address of a card as maqet writes it; QEMU takes hyphens as well.
pub(super) fn address(options: &OptionString) -> Option<String> {
    let address = options.get("mac").or_else(|| options.get("macaddr"))?;
    Some(address.replace('-', ":"))
}

impl Name {
    /// Returns the name that a switch gives to a device.
    fn of(switch: &str, options: &OptionString) -> Option<Self> {
        let tag = |kind, key| Some(Self::Tag(kind, options.get(key)?.to_owned()));
        match (switch, options.head()) {
            ("device", driver) if driver.starts_with("virtio-9p") => tag("virtfs", "mount_tag"),
            ("virtfs", _) => tag("virtfs", "mount_tag"),
            ("device", driver) if driver.starts_with("vhost-user-fs") => tag("virtiofs", "tag"),
            ("device" | "nic" | "net", _) => Some(Self::Address(address(options)?.parse().ok()?)),
            _ => None,
        }
    }
}

impl Machine {
    /// Returns the switches that give a device the name of another one.
    pub(super) fn twice_refusals<'s, 'd>(&self, switches: &'s [UserSwitch<'d>]) -> Vec<(&'s UserSwitch<'d>, Refusal)> {
        let named = switches.iter().filter_map(|switch| Some((switch, Name::of(&switch.name, &switch.options)?)));
        let named: Vec<_> = named.collect();
        if named.is_empty() {
            return Vec::new();
        }
        let shares = self.storage.iter().filter_map(|storage| {
            let name = Name::Tag(storage.driver.type_name(), storage.driver.mount_tag(storage)?);
            Some((name, format!("drive `{}`", storage.name)))
        });
        let cards = self.network.iter().filter_map(|card| {
            let owner = format!("network card `{}`", card.name);
            Some((Name::Address(card.mac?), owner))
        });
        let mut owners: Vec<(Name, String)> = shares.chain(cards).collect();
        let mut refusals = Vec::new();
        for (switch, name) in named {
            let Some((_, owner)) = owners.iter().find(|(known, _)| *known == name) else {
                owners.push((name, format!("another `-{}`", switch.name)));
                continue;
            };
            let (what, help) = match &name {
                Name::Tag(_, tag) => (format!("the mount tag `{}`", tag.escape_debug()), "choose another mount tag"),
                Name::Address(address) => {
                    (format!("the MAC address {address}"), "remove it: each card has an address of its own")
                }
            };
            refusals.push((switch, Refusal { message: format!("{what} is that of {owner}"), help: help.to_owned() }));
        }
        refusals
    }
}
