//! Devices that are plugged in while a machine runs: their names, those of their back ends, and where they go.
//!
//! The name of a back end that maqet made says so, and whose it is: nothing has to be written down for it to be found
//! and removed, by any process, also after the one that made it was killed.

mod boot_devices;
mod network_info;
mod program;
mod property;

pub use self::boot_devices::{Backend, BootDevices};
pub use self::network_info::{InvalidNetdev, Netdev};
pub use self::program::{may_start_programs, starts_program};
pub use self::property::{InvalidProperty, driver_named, parse_pair};

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::network::card_of;
use crate::qemu::HOTPLUG_PREFIX;

/// The id of a device that is plugged in.
///
/// QEMU's ids begin with a letter (`id_wellformed`, 7.2). Its node names hold 31 bytes, of which eight are the prefix of
/// a back end's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceId(String);

/// A text that cannot be a [`DeviceId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("device id `{}` is not usable: {why}", given.escape_debug())]
pub struct InvalidDeviceId {
    /// What was given.
    pub given: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl DeviceId {
    /// The longest id, in bytes.
    pub const MAX_LEN: usize = 23;

    /// Checks an id.
    pub fn parse(text: &str) -> Result<Self, InvalidDeviceId> {
        let invalid = |why| Err(InvalidDeviceId { given: text.chars().take(80).collect(), why });
        if text.len() > Self::MAX_LEN {
            return invalid("it is longer than 23 bytes");
        }
        if !text.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return invalid("it begins with a letter (a to z)");
        }
        if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
            return invalid("it may hold a to z, digits and - _ . only");
        }
        Ok(Self(text.to_owned()))
    }

    /// Returns an id for a device of this kind that none of `taken` has: `virtio-blk-0` and so on.
    pub fn free(driver: &str, taken: &[String]) -> Self {
        const ENDS: [&str; 5] = ["-non-transitional", "-transitional", "-pci", "-ccw", "-device"];
        let kind = ENDS.iter().fold(driver, |kind, end| kind.strip_suffix(end).unwrap_or(kind));
        let allowed = |c: &char| c.is_ascii_alphanumeric() || "-_.".contains(*c);
        // A dash and three digits are to find room.
        let kind: String = kind.chars().filter(allowed).take(Self::MAX_LEN - 4).collect();
        let kind = if kind.starts_with(|c: char| c.is_ascii_alphabetic()) { kind } else { "device".to_owned() };
        let id = |number: usize| format!("{kind}-{number}");
        let free = (0..=taken.len()).map(id).find(|id| !taken.contains(id));
        Self(free.unwrap_or_else(|| id(taken.len())))
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name of the back end that maqet makes for the device.
    pub fn back_end(&self) -> String {
        backend_name(&self.0)
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for DeviceId {
    type Err = InvalidDeviceId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<String> for DeviceId {
    type Error = InvalidDeviceId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<DeviceId> for String {
    fn from(id: DeviceId) -> Self {
        id.0
    }
}

/// Returns the name of the back end that maqet makes for a device.
pub fn backend_name(device: &str) -> String {
    format!("{HOTPLUG_PREFIX}{device}")
}

/// Returns the network back ends that no card uses, as `info network` of the human monitor shows them; nothing else does
/// (7.2).
///
/// What a card uses stands below it, behind a backslash.
pub fn unused_netdevs(info_network: &str) -> Vec<String> {
    let alone = |line: &&str| !line.starts_with(' ') && !line.contains("type=nic");
    let names = info_network.lines().filter(alone).filter_map(|line| line.split_once(": index="));
    names.map(|(name, _)| name.to_owned()).collect()
}

/// Returns those of them that were made for hot-plugged cards.
pub fn unused_hotplug_netdevs(info_network: &str) -> Vec<String> {
    unused_netdevs(info_network).into_iter().filter(|name| name.starts_with(HOTPLUG_PREFIX)).collect()
}

/// A network card of a running machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// The id of its device.
    pub device: String,
    /// The name of what it is connected to.
    pub back_end: Option<String>,
}

impl Card {
    /// Returns what people call it: its name under `network` where it has one, else the id of its device.
    pub fn name(&self) -> &str {
        let back_end = self.back_end.as_deref();
        back_end.filter(|name| self.device == card_of(name)).unwrap_or(&self.device)
    }
}

/// Returns the cards, as `info network` shows them.
pub fn cards(info_network: &str) -> Vec<Card> {
    let mut cards: Vec<Card> = Vec::new();
    for (name, kind, is_below) in info_network.lines().filter_map(link) {
        if kind.starts_with("nic,") {
            cards.push(Card { device: name.to_owned(), back_end: None });
        } else if let Some(card) = cards.last_mut().filter(|card| is_below && card.back_end.is_none()) {
            card.back_end = Some(name.to_owned());
        }
    }
    cards
}

/// Returns the names of cards and of their back ends, as `info network` shows them.
pub fn link_names(info_network: &str) -> Vec<String> {
    info_network.lines().filter_map(link).map(|(name, _, _)| name.to_owned()).collect()
}

/// Returns the name of one end of a cable, what it is, and whether it stands below another one.
fn link(line: &str) -> Option<(&str, &str, bool)> {
    let (name, about) = line.split_once(": index=")?;
    let (_, kind) = about.split_once("type=")?;
    // A card of QEMU's own choice hangs on a hub, and stands behind the port of that.
    Some((name.rsplit([' ', '\\']).next()?, kind, line.starts_with(" \\")))
}

/// Returns an address on a PCI bus as people write it: `04.0`.
pub fn pci_address(devfn: u8) -> String {
    format!("{:02x}.{}", devfn >> 3, devfn & 7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_device_id_that_qemu_would_refuse_is_refused() {
        let most = "x".repeat(DeviceId::MAX_LEN);
        for id in ["disk1", "a.b_c-d", &most] {
            assert_eq!(DeviceId::parse(id).unwrap().back_end(), format!("hotplug-{id}"));
            assert!(DeviceId::parse(id).unwrap().back_end().len() <= 31);
        }
        for id in ["", "1st", "a b", "a,b", "a/b", "ä", &format!("{most}x")] {
            assert!(DeviceId::parse(id).is_err(), "{id:?}");
        }
    }

    #[test]
    fn test_device_id_is_written_as_it_was_read() {
        let id: DeviceId = "a.b_c-d".parse().unwrap();

        assert_eq!((id.to_string(), String::from(id)), ("a.b_c-d".to_owned(), "a.b_c-d".to_owned()));
    }

    #[test]
    fn test_device_id_free_is_short_and_new() {
        let taken = ["virtio-blk-0", "virtio-blk-2"].map(str::to_owned);

        assert_eq!(DeviceId::free("virtio-blk-pci", &taken).as_str(), "virtio-blk-1");
        assert_eq!(DeviceId::free("e1000", &taken).as_str(), "e1000-0");
        assert_eq!(DeviceId::free("virtio-net-pci-non-transitional", &[]).as_str(), "virtio-net-0");
        assert_eq!(DeviceId::free("82801b11-bridge", &[]).as_str(), "device-0");
        for driver in ["x".repeat(60), "a".to_owned(), ",,".to_owned()] {
            assert!(DeviceId::parse(DeviceId::free(&driver, &[]).as_str()).is_ok(), "{driver}");
        }
    }

    /// As QEMU 7.2 writes it.
    const INFO_NETWORK: &str = "n: index=0,type=nic,model=virtio-net-pci,macaddr=52:54:00:12:34:56\r\n \
        \\ hotplug-n: index=0,type=user,net=10.0.2.0,restrict=off\r\n\
        hotplug-left: index=0,type=user,net=10.0.2.0,restrict=off\r\n\
        own: index=0,type=user,net=10.0.2.0,restrict=off\r\n\
        hotplug-card: index=0,type=nic,model=e1000,macaddr=52:54:00:12:34:57\r\n\
        hub 0\r\n \\ hub0port0: e1000.0: index=0,type=nic,model=e1000,macaddr=52:54:00:12:34:58\r\n";

    #[test]
    fn test_unused_netdevs_are_nobodys_and_the_left_ones_are_ours() {
        assert_eq!(unused_netdevs(INFO_NETWORK), ["hotplug-left", "own"]);
        assert_eq!(unused_hotplug_netdevs(INFO_NETWORK), ["hotplug-left"]);
    }

    #[test]
    fn test_link_names_are_all_ends_of_cables() {
        assert_eq!(link_names(INFO_NETWORK), ["n", "hotplug-n", "hotplug-left", "own", "hotplug-card", "e1000.0"]);
        assert!(link_names("Hub -1 (x):\r\n").is_empty());
    }

    #[test]
    fn test_cards_are_called_as_in_the_definition_or_by_their_ids() {
        let of_definition = "lan-card: index=0,type=nic,model=e1000\r\n \\ lan: index=0,type=user,net=10.0.2.0\r\n";
        let bare = "bare: index=0,type=nic,model=e1000\r\nown: index=0,type=tap,ifname=t\r\n";

        let found = cards(&(of_definition.to_owned() + bare + INFO_NETWORK));

        let names: Vec<&str> = found.iter().map(Card::name).collect();
        assert_eq!(names, ["lan", "bare", "n", "hotplug-card", "e1000.0"]);
        let devices: Vec<&str> = found.iter().map(|card| card.device.as_str()).collect();
        assert_eq!(devices, ["lan-card", "bare", "n", "hotplug-card", "e1000.0"]);
        assert_eq!((&found[1].back_end, found[2].back_end.as_deref()), (&None, Some("hotplug-n")));
    }

    #[test]
    fn test_pci_address_is_slot_and_function() {
        assert_eq!([pci_address(0), pci_address(0x20), pci_address(0xe3)], ["00.0", "04.0", "1c.3"]);
    }
}
