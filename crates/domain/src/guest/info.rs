//! What the agent says about the guest.

use core::net::IpAddr;

use serde::Serialize;
use serde_json::Value;

/// The version of the agent, from the reply to `guest-info`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct AgentVersion(pub String);

/// The operating system of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GuestSystem {
    /// Its name and version, as in `Debian GNU/Linux 12 (bookworm)`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its ID, as in `debian`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The version of its kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
}

/// A network card as the guest sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GuestInterface {
    /// Its name in the guest.
    pub name: String,
    /// Its MAC address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Its addresses.
    pub addresses: Vec<GuestAddress>,
}

/// An address of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GuestAddress {
    /// The address.
    pub address: String,
    /// The length of its prefix.
    pub prefix: u64,
}

/// How many interfaces and addresses of a guest are read: a guest may list any number.
const MAX_ENTRIES: usize = 64;

/// How long a text of the guest is kept.
const MAX_TEXT_CHARS: usize = 256;

impl AgentVersion {
    /// Reads the reply to `guest-info`.
    pub fn from_reply(reply: &Value) -> Option<Self> {
        text(reply, "version").map(Self)
    }
}

impl GuestSystem {
    /// Reads the reply to `guest-get-osinfo`.
    pub fn from_reply(reply: &Value) -> Self {
        let [name, id, kernel] = ["pretty-name", "id", "kernel-release"].map(|key| text(reply, key));
        Self { name, id, kernel }
    }
}

impl GuestInterface {
    /// Reads the reply to `guest-network-get-interfaces`, without the loopback interface.
    pub fn from_reply(reply: &Value) -> Vec<Self> {
        let entries = reply.as_array().map(Vec::as_slice).unwrap_or_default();
        let interfaces = entries.iter().take(MAX_ENTRIES).filter_map(|entry| {
            let addresses = entry.get("ip-addresses").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let addresses = addresses.iter().take(MAX_ENTRIES).filter_map(|address| {
                let prefix = address.get("prefix").and_then(Value::as_u64).unwrap_or_default();
                Some(GuestAddress { address: text(address, "ip-address")?, prefix })
            });
            let (name, mac) = (text(entry, "name")?, text(entry, "hardware-address"));
            Some(Self { name, mac, addresses: addresses.collect() })
        });
        interfaces.filter(|interface| interface.name != "lo").collect()
    }
}

impl GuestAddress {
    /// Returns whether others can reach the guest at it: it is neither of the guest itself nor of its link only.
    pub fn is_reachable(&self) -> bool {
        match self.address.parse() {
            Ok(IpAddr::V4(address)) => !address.is_loopback() && !address.is_link_local() && !address.is_unspecified(),
            // Of the link: fe80::/10.
            Ok(IpAddr::V6(address)) => !address.is_loopback() && address.segments()[0] & 0xffc0 != 0xfe80,
            Err(_) => false,
        }
    }
}

/// Returns a text of the guest, which is shown: without control characters.
fn text(value: &Value, key: &str) -> Option<String> {
    let text = value.get(key)?.as_str()?;
    Some(text.chars().filter(|char| !char.is_control()).take(MAX_TEXT_CHARS).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn test_interfaces_are_those_with_a_name() {
        let reply = json!([
            {"name": "lo", "ip-addresses": [{"ip-address": "127.0.0.1", "prefix": 8}]},
            {"name": "ens3", "hardware-address": "52:54:00:12:34:56", "ip-addresses": [
                {"ip-address": "10.0.2.15", "prefix": 24, "ip-address-type": "ipv4"}, {"prefix": 1}, 7,
            ]},
            {"name": "e\u{1b}[2J1"},
            {},
        ]);

        let found = GuestInterface::from_reply(&reply);

        let names: Vec<&str> = found.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["ens3", "e[2J1"]);
        assert_eq!(found[0].addresses, [GuestAddress { address: "10.0.2.15".to_owned(), prefix: 24 }]);
        assert_eq!(GuestInterface::from_reply(&json!("x")), []);
    }

    #[test]
    fn test_interfaces_of_a_hostile_guest_are_bounded() {
        let address = json!({"ip-address": "x".repeat(1000), "prefix": 1});
        let entry = json!({"name": "y".repeat(1000), "ip-addresses": vec![address; 100]});

        let found = GuestInterface::from_reply(&json!(vec![entry; 100]));

        assert_eq!((found.len(), found[0].addresses.len()), (MAX_ENTRIES, MAX_ENTRIES));
        assert_eq!((found[0].name.len(), found[0].addresses[0].address.len()), (MAX_TEXT_CHARS, MAX_TEXT_CHARS));
    }

    #[test]
    fn test_address_of_the_link_or_the_guest_itself_is_not_reachable() {
        let is_reachable = |address: &str| GuestAddress { address: address.to_owned(), prefix: 8 }.is_reachable();

        assert!(["10.0.2.15", "fec0::5054:ff:fe1d:6a62", "2001:db8::1"].into_iter().all(is_reachable));
        assert!(!["169.254.1.2", "fe80::1", "febf::1", "127.0.0.1", "::1", "x", ""].into_iter().any(is_reachable));
    }

    #[test]
    fn test_system_takes_what_is_there() {
        let system = GuestSystem::from_reply(&json!({"pretty-name": "Debian", "id": 7}));

        assert_eq!(system, GuestSystem { name: Some("Debian".to_owned()), id: None, kernel: None });
    }
}
