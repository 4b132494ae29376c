//! Network cards of a VM as its definition describes them.

mod usernet;

pub use self::usernet::{forwards_of, is_established, taken_ports};

use core::net::{IpAddr, Ipv4Addr};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::config::shortened;
use crate::qemu::{Helper, Switch};
use crate::storage::DriveName;
use crate::vm::VmId;

/// What a card is connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NetworkMode {
    /// QEMU's own network: the guest reaches out, and only forwarded ports reach in.
    User,
    /// A tap device that is there already.
    Tap,
    /// A bridge that is there already, through QEMU's set-uid helper.
    Bridge,
    /// A `passt` of the card's own, which lets the guest use the host's network as programs of the user do.
    Passt,
    /// No card at all.
    None,
}

impl NetworkMode {
    /// The words of the configuration.
    pub const WORDS: [(&'static str, Self); 5] = [
        ("user", Self::User),
        ("tap", Self::Tap),
        ("bridge", Self::Bridge),
        ("passt", Self::Passt),
        ("none", Self::None),
    ];

    /// Returns the word of the configuration.
    pub fn as_str(self) -> &'static str {
        Self::WORDS.iter().find(|(_, mode)| *mode == self).map_or("none", |(word, _)| word)
    }
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Returns QEMU's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// A port of the host that leads to one of the guest: `[tcp:|udp:][ADDRESS:]HOST:GUEST`.
///
/// The host's address is 127.0.0.1 unless given; host port 0 takes a free one.
///
/// ```
/// use maqet_domain::network::Forward;
///
/// let forward: Forward = "2222:22".parse().unwrap();
/// assert_eq!(forward.hostfwd(), "tcp:127.0.0.1:2222-:22");
/// assert_eq!("udp:0.0.0.0:53:53".parse::<Forward>().unwrap().hostfwd(), "udp:0.0.0.0:53-:53");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Forward {
    /// The protocol.
    pub protocol: Protocol,
    /// The address of the host that is listened on.
    pub host_address: IpAddr,
    /// The port of the host; 0 means any free one.
    pub host_port: u16,
    /// The port of the guest.
    pub guest_port: u16,
}

/// A text that is no [`Forward`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not a forwarded port: {why}", shortened(given))]
pub struct InvalidForward {
    /// What was given.
    pub given: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl Forward {
    /// Returns the value of QEMU's `hostfwd=`.
    pub fn hostfwd(&self) -> String {
        let Self { protocol, host_address, host_port, guest_port } = self;
        format!("{}:{host_address}:{host_port}-:{guest_port}", protocol.as_str())
    }

    /// Returns the option of passt (passt(1)) and its value.
    fn passt(&self) -> [String; 2] {
        let Self { protocol, host_address, host_port, guest_port } = self;
        let option = match protocol {
            Protocol::Tcp => "--tcp-ports",
            Protocol::Udp => "--udp-ports",
        };
        [option.to_owned(), format!("{host_address}/{host_port}:{guest_port}")]
    }
}

impl FromStr for Forward {
    type Err = InvalidForward;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = |why| InvalidForward { given: text.to_owned(), why };
        let (protocol, rest) = match (text.strip_prefix("tcp:"), text.strip_prefix("udp:")) {
            (Some(rest), _) => (Protocol::Tcp, rest),
            (None, Some(rest)) => (Protocol::Udp, rest),
            (None, None) => match foreign_protocol(text) {
                Some(why) => return Err(invalid(why)),
                None => (Protocol::Tcp, text),
            },
        };
        let form = "write it as `HOST:GUEST`, as in `2222:22`";
        let (before, guest) = rest.rsplit_once(':').ok_or_else(|| invalid(form))?;
        let (address, host) = match before.rsplit_once(':') {
            Some((address, host)) => (Some(address), host),
            None => (None, before),
        };
        let port = |text: &str| text.parse::<u16>().map_err(|_| invalid("a port is a number from 0 to 65535"));
        let host_address = match address {
            Some(address) => {
                let address: Ipv4Addr = address.parse().map_err(|_| invalid("the address is not an IPv4 address"))?;
                IpAddr::V4(address)
            }
            None => IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        match (port(host)?, port(guest)?) {
            (_, 0) => Err(invalid("the guest's port is from 1 to 65535")),
            (host_port, guest_port) => Ok(Self { protocol, host_address, host_port, guest_port }),
        }
    }
}

/// Returns what is wrong with a text that begins with a word where only a protocol or an address may stand.
fn foreign_protocol(text: &str) -> Option<&'static str> {
    let parts: Vec<&str> = text.split(':').collect();
    let is_word = parts[0].starts_with(|c: char| c.is_alphabetic());
    match parts.len() {
        4.. if is_word => Some("the protocol is `tcp` or `udp`"),
        3 if is_word => Some("the protocol is `tcp` or `udp`, and an address is IPv4, as in `127.0.0.1`"),
        _ => None,
    }
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { protocol, host_address, host_port, guest_port } = self;
        write!(f, "{}:{host_address}:{host_port}:{guest_port}", protocol.as_str())
    }
}

/// The hardware address of a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MacAddress([u8; 6]);

/// A text that is no [`MacAddress`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not the address of a network card: {why}", shortened(given))]
pub struct InvalidMac {
    /// What was given.
    pub given: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl MacAddress {
    /// Returns the address of the card `index` of a VM: the same at every start, and another for another VM.
    ///
    /// It begins with QEMU's own prefix 52:54:00.
    pub fn of_card(id: &VmId, index: u8) -> Self {
        let bytes = id.bytes();
        Self([0x52, 0x54, 0x00, bytes[0], bytes[1], bytes[2].wrapping_add(index)])
    }

    /// Returns the address of a card that is plugged into a running VM as `device`: another for each device of each VM,
    /// as QEMU itself gives the first one of every machine the same.
    pub fn of_plugged(id: &VmId, device: &str) -> Self {
        // FNV-1a, which is the same in every build.
        let mix = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        let hash = id.bytes().iter().chain(device.as_bytes()).fold(0x811c_9dc5, mix);
        let [first, second, third, fourth] = hash.to_be_bytes();
        Self([0x52, 0x54, 0x00, first ^ fourth, second, third])
    }
}

impl FromStr for MacAddress {
    type Err = InvalidMac;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = |why| InvalidMac { given: text.to_owned(), why };
        let mut bytes = [0_u8; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2);
            let value = part.and_then(|part| u8::from_str_radix(part, 16).ok());
            *byte = value.ok_or_else(|| invalid("write it as `52:54:00:12:34:56`"))?;
        }
        if parts.next().is_some() {
            return Err(invalid("it has more than six parts"));
        }
        if bytes[0] & 1 == 1 {
            return Err(invalid("it is a multicast address, which no card may have"));
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.0.map(|byte| format!("{byte:02x}"));
        f.write_str(&parts.join(":"))
    }
}

/// One entry under `network`, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSpec {
    /// Unique in the machine; the name of its back end in QEMU, and with `-card` of its device.
    pub name: DriveName,
    /// What it is connected to.
    pub mode: NetworkMode,
    /// The device the guest sees, by QEMU's name.
    pub model: String,
    /// Its hardware address; made from the VM's id if it is not given.
    pub mac: Option<MacAddress>,
    /// Ports that lead to the guest.
    pub forward: Vec<Forward>,
    /// The bridge, for [`NetworkMode::Bridge`].
    pub bridge: Option<String>,
    /// The tap device, for [`NetworkMode::Tap`].
    pub interface: Option<String>,
}

/// Returns the id of the device of the card `name` of a definition.
pub fn card_of(name: &str) -> String {
    format!("{name}-card")
}

impl NetworkSpec {
    /// Returns the switches of the card, which is the `index`th of the VM; `socket` is where its passt listens.
    pub fn switches(&self, id: &VmId, index: u8, socket: &str) -> Vec<Switch> {
        let name = self.name.as_str();
        let back_end = Switch::new("netdev");
        let back_end = match self.mode {
            NetworkMode::None => return vec![Switch::new("nic").head("none")],
            NetworkMode::User => {
                self.forward.iter().fold(back_end.head("user").option("id", name), |switch, forward| {
                    switch.option("hostfwd", forward.hostfwd())
                })
            }
            NetworkMode::Tap => {
                let interface = self.interface.as_deref().unwrap_or_default();
                let tap = back_end.head("tap").option("id", name).option("ifname", interface);
                tap.option("script", "no").option("downscript", "no")
            }
            NetworkMode::Bridge => {
                back_end.head("bridge").option("id", name).option("br", self.bridge.as_deref().unwrap_or_default())
            }
            NetworkMode::Passt => {
                let stream = back_end.head("stream").option("id", name).flag("server", false);
                stream.option("addr.type", "unix").option("addr.path", socket)
            }
        };
        let mac = self.mac.unwrap_or_else(|| MacAddress::of_card(id, index));
        let card = Switch::new("device").head(&self.model).option("netdev", name);
        vec![back_end, card.option("id", card_of(name)).option("mac", mac.to_string())]
    }
}

impl NetworkSpec {
    /// Returns the passt that serves the card at `socket`, if it has one.
    ///
    /// With `--one-off` it ends with its QEMU. Started by root, it would become `nobody`, who cannot make a socket in a
    /// folder of root's.
    pub fn helper(&self, socket: &str, is_root: bool) -> Option<Helper> {
        if self.mode != NetworkMode::Passt {
            return None;
        }
        let fixed = ["--one-off", "--quiet", "--socket", socket].map(str::to_owned);
        let user = is_root.then(|| ["--runas", "0:0"].map(str::to_owned)).into_iter().flatten();
        let forward = self.forward.iter().flat_map(Forward::passt);
        Some(Helper {
            program: "passt",
            package: "passt",
            words: fixed.into_iter().chain(user).chain(forward).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_forward_usual_forms_are_read() {
        for (text, expected) in [
            ("2222:22", "tcp:127.0.0.1:2222-:22"),
            ("0:22", "tcp:127.0.0.1:0-:22"),
            ("udp:53:53", "udp:127.0.0.1:53-:53"),
            ("0.0.0.0:80:80", "tcp:0.0.0.0:80-:80"),
        ] {
            assert_eq!(text.parse::<Forward>().unwrap().hostfwd(), expected, "{text}");
        }
    }

    #[test]
    fn test_forward_nonsense_is_refused() {
        for text in ["", "22", "a:22", "22:a", "22:0", "70000:22", "host:1:2", "::1:1:2", "2222-:22", "1:2,hostfwd=x"] {
            assert!(text.parse::<Forward>().is_err(), "{text}");
        }
    }

    #[test]
    fn test_forward_unknown_protocol_is_called_that_and_both_known_are_named() {
        for text in ["sctp:1:2", "sctp:0.0.0.0:1:2", "TCP:1:2"] {
            let told = text.parse::<Forward>().unwrap_err().to_string();

            assert!(told.contains("the protocol is `tcp` or `udp`"), "{told}");
        }
    }

    #[test]
    fn test_forward_written_and_mac_written_are_read_again() {
        for text in ["tcp:127.0.0.1:2222:22", "udp:0.0.0.0:53:53"] {
            assert_eq!(text.parse::<Forward>().unwrap().to_string(), text);
        }
        for text in ["52:54:00:12:34:56", "02:00:00:00:00:00"] {
            assert_eq!(text.parse::<MacAddress>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn test_mac_of_card_is_stable_and_its_own() {
        let id: VmId = "0d9f2ac3-58b1-4c3e-9a5e-2f1f6f0f7a11".parse().unwrap();

        assert_eq!(MacAddress::of_card(&id, 0).to_string(), "52:54:00:0d:9f:2a");
        assert_ne!(MacAddress::of_card(&id, 0), MacAddress::of_card(&id, 1));
        let plugged = MacAddress::of_plugged(&id, "card");
        assert_eq!(plugged, MacAddress::of_plugged(&id, "card"));
        assert!(plugged != MacAddress::of_card(&id, 0) && plugged != MacAddress::of_plugged(&id, "card2"));
    }

    #[test]
    fn test_mac_multicast_or_broken_is_refused() {
        for text in
            ["01:00:00:00:00:00", "52:54:00:12:34", "52:54:00:12:34:5g", "52-54-00-12-34-56", "52:54:00:12:34:56:78"]
        {
            assert!(text.parse::<MacAddress>().is_err(), "{text}");
        }
    }
}
