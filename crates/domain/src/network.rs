//! Network cards of a VM, as its definition describes them.

mod forward;
mod link;
mod subnet;
mod usernet;

pub use self::forward::{Forward, InvalidForward, Protocol};
pub use self::link::{InvalidLink, Link, LinkAddress};
pub use self::subnet::{InvalidSubnet, Subnet};
pub use self::usernet::{bound_ports, forwards_of, is_established};

use std::fmt;
use std::str::FromStr;

use crate::qemu::{Helper, NodeName, Switch};
use crate::text::shortened;

/// Returns the name of a card whose entry has none, by its position.
pub fn default_card_name(index: usize) -> String {
    format!("net{index}")
}

/// What a card is connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::Display, strum::EnumString, strum::VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum NetworkMode {
    /// QEMU's user network: outgoing connections, and incoming ones to forwarded ports.
    User,
    /// An existing tap device.
    Tap,
    /// An existing bridge, through QEMU's set-uid helper.
    Bridge,
    /// A `passt` process per card, which gives the guest the network access of the user's programs.
    Passt,
    /// The card of another VM, through a stream socket.
    Stream,
    /// The cards of other VMs, through a datagram socket.
    Dgram,
    /// No card.
    None,
}

/// Keys of a card that only some modes have, with these modes.
pub(crate) const KEYS_OF_MODES: [(&str, &[NetworkMode]); 12] = {
    use NetworkMode::{Bridge, Dgram, Passt, Stream, Tap, User};
    const CARDS: &[NetworkMode] = &[User, Tap, Bridge, Passt, Stream, Dgram];
    [
        ("forward", &[User, Passt]),
        ("restrict", &[User]),
        ("subnet", &[User]),
        ("bridge", &[Bridge]),
        ("interface", &[Tap]),
        ("listen", &[Stream]),
        ("connect", &[Stream]),
        ("local", &[Dgram]),
        ("remote", &[Dgram]),
        ("model", CARDS),
        ("mac", CARDS),
        ("bootindex", CARDS),
    ]
};

impl NetworkMode {
    /// Returns whether a card with this mode may have the key.
    pub fn has_key(self, key: &str) -> bool {
        KEYS_OF_MODES.iter().all(|(known, modes)| *known != key || modes.contains(&self))
    }
}

/// The MAC address of a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MacAddress([u8; 6]);

/// A text that is not a valid [`MacAddress`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid MAC address {}: {reason}", shortened(value))]
#[expect(missing_docs, reason = "the message names the fields")]
pub struct InvalidMac {
    pub value: String,
    pub reason: &'static str,
}

/// Why bytes are not the address of a card.
const MULTICAST: &str = "a multicast address";
const ALL_ZERO: &str = "all zero, which no card has";

impl InvalidMac {
    /// Returns whether the text is not a MAC address at all.
    pub fn is_malformed(&self) -> bool {
        ![MULTICAST, ALL_ZERO].contains(&self.reason)
    }
}

impl MacAddress {
    /// Returns the address of the card `index` of a VM: the same at every start, and different for other VMs.
    ///
    /// It starts with QEMU's prefix 52:54:00.
    pub fn for_card(vm: &[u8; 16], index: u8) -> Self {
        Self([0x52, 0x54, 0x00, vm[0], vm[1], vm[2].wrapping_add(index)])
    }

    /// Returns the address of a hot-plugged card with the id `device`: different for each device and VM. QEMU's default
    /// is the same for the first card of every VM.
    pub fn for_hotplugged(vm: &[u8; 16], device: &str) -> Self {
        // FNV-1a, because it is stable across builds.
        let mix = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        let hash = vm.iter().chain(device.as_bytes()).fold(0x811c_9dc5, mix);
        let [first, second, third, fourth] = hash.to_be_bytes();
        Self([0x52, 0x54, 0x00, first ^ fourth, second, third])
    }
}

impl FromStr for MacAddress {
    type Err = InvalidMac;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = |reason| InvalidMac { value: text.to_owned(), reason };
        let mut bytes = [0_u8; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2);
            let value = part.and_then(|part| u8::from_str_radix(part, 16).ok());
            *byte = value.ok_or_else(|| invalid("expected six bytes, as in `52:54:00:12:34:56`"))?;
        }
        match parts.next() {
            Some(_) => Err(invalid("more than six bytes")),
            None if bytes[0] & 1 == 1 => Err(invalid(MULTICAST)),
            None if bytes == [0; 6] => Err(invalid(ALL_ZERO)),
            None => Ok(Self(bytes)),
        }
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.0.map(|byte| format!("{byte:02x}"));
        f.write_str(&parts.join(":"))
    }
}

/// One checked entry of `network`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSpec {
    /// The index of its entry in `network`; ignored entries count too.
    pub index: usize,
    /// Its name, unique in the VM; also the id of its backend and, with `-card`, of its device.
    pub name: NodeName,
    /// What it is connected to.
    pub mode: NetworkMode,
    /// Its device, as QEMU names it.
    pub model: String,
    /// Its MAC address; derived from the VM's id if `None`.
    pub mac: Option<MacAddress>,
    /// Its forwarded ports.
    pub forward: Vec<Forward>,
    /// Its position in the boot order, if any.
    pub bootindex: Option<u16>,
    /// Whether the guest cannot open connections; for [`NetworkMode::User`].
    pub restrict: bool,
    /// The network of the guest's addresses, for [`NetworkMode::User`]; QEMU's default if `None`.
    pub subnet: Option<Subnet>,
    /// The other end, for [`NetworkMode::Stream`] and [`NetworkMode::Dgram`].
    pub link: Option<Link>,
    /// The bridge, for [`NetworkMode::Bridge`].
    pub bridge: Option<String>,
    /// The tap device, for [`NetworkMode::Tap`].
    pub interface: Option<String>,
}

/// Returns the id of the device of the card `name`.
pub fn card_of(name: &str) -> String {
    format!("{name}-card")
}

/// The bytes that the name of a network device can have (`IFNAMSIZ`, less the NUL).
const MAX_INTERFACE_NAME: usize = 15;

/// Returns why the kernel has no network device of this name (`dev_valid_name`, Linux 6.1).
pub fn invalid_interface_name(name: &str) -> Option<String> {
    if name.len() > MAX_INTERFACE_NAME {
        return Some(format!("has {} bytes, and a network device has at most {MAX_INTERFACE_NAME}", name.len()));
    }
    if matches!(name, "" | "." | "..") {
        return Some("is not the name of a network device".to_owned());
    }
    let wrong = name.chars().find(|c| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':'))?;
    Some(format!("has `{}`, which no name of a network device has", wrong.escape_debug()))
}

impl NetworkSpec {
    /// Returns the switches of the card at position `index`; `socket` is that of its passt, and `reconnects` is whether
    /// QEMU can connect a stream again.
    pub fn switches(&self, vm: &[u8; 16], index: u8, socket: &str, reconnects: bool) -> Vec<Switch> {
        let name = self.name.as_str();
        let backend = Switch::new("netdev");
        let backend = match self.mode {
            NetworkMode::None => return vec![Switch::new("nic").head("none")],
            NetworkMode::User => self.user_network(backend.head("user").option("id", name)),
            NetworkMode::Stream | NetworkMode::Dgram => match &self.link {
                Some(link) => link.switch(name, reconnects),
                None => return Vec::new(),
            },
            NetworkMode::Tap => {
                let interface = self.interface.as_deref().unwrap_or_default();
                let tap = backend.head("tap").option("id", name).option("ifname", interface);
                tap.option("script", "no").option("downscript", "no")
            }
            NetworkMode::Bridge => {
                backend.head("bridge").option("id", name).option("br", self.bridge.as_deref().unwrap_or_default())
            }
            NetworkMode::Passt => {
                let stream = backend.head("stream").option("id", name).flag("server", false);
                stream.option("addr.type", "unix").option("addr.path", socket)
            }
        };
        let mac = self.mac.unwrap_or_else(|| MacAddress::for_card(vm, index));
        let card = Switch::new("device").head(&self.model).option("netdev", name);
        let card = card.option("id", card_of(name)).option("mac", mac.to_string());
        let card = self.bootindex.iter().fold(card, |card, index| card.option("bootindex", index.to_string()));
        vec![backend, card]
    }

    /// Returns the host and the port at which QEMU listens for the other end of a link.
    pub fn listening_port(&self) -> Option<(&str, u16)> {
        match self.link.as_ref()? {
            Link::Listen(LinkAddress::Host { host, port }) => Some((host, *port)),
            Link::Listen(LinkAddress::Path(_)) | Link::Connect(_) | Link::Datagram { .. } => None,
        }
    }

    /// Returns the path of the socket that QEMU creates for the card, with its key.
    pub fn own_socket(&self) -> Option<(&'static str, &str)> {
        let (key, address) = match self.link.as_ref()? {
            Link::Listen(address) => ("listen", address),
            Link::Datagram { local: Some(address), .. } => ("local", address),
            Link::Connect(_) | Link::Datagram { local: None, .. } => return None,
        };
        match address {
            LinkAddress::Path(path) => Some((key, path)),
            LinkAddress::Host { .. } => None,
        }
    }

    fn user_network(&self, backend: Switch) -> Switch {
        let backend = self.subnet.iter().fold(backend, |switch, subnet| switch.option("net", subnet.to_string()));
        let backend = if self.restrict { backend.flag("restrict", true) } else { backend };
        self.forward.iter().fold(backend, |switch, forward| switch.option("hostfwd", forward.hostfwd()))
    }

    /// Returns the passt of the card, listening at `socket`, if the mode needs one.
    ///
    /// `--one-off` makes it exit with QEMU. As root it would switch to an unprivileged user, which cannot create a socket in
    /// a folder of root.
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
            directory: None,
            args: fixed.into_iter().chain(user).chain(forward).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_interface_name_is_one_that_the_kernel_takes() {
        for name in ["tap0", "fifteen-bytes-x", "br0.5", "tap%d"] {
            assert_eq!(invalid_interface_name(name), None, "{name}");
        }
        for name in ["sixteen-bytes-xy", "my tap", "a/b", "a:1", "..", "", "a\u{7f}"] {
            assert!(invalid_interface_name(name).is_some(), "{name}");
        }
    }

    #[test]
    fn test_forward_usual_forms_are_valid() {
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
    fn test_forward_malformed_is_invalid() {
        for text in ["", "22", "a:22", "22:a", "22:0", "70000:22", "host:1:2", "::1:1:2", "2222-:22", "1:2,hostfwd=x"] {
            assert!(text.parse::<Forward>().is_err(), "{text}");
        }
    }

    #[test]
    fn test_forward_unknown_protocol_names_the_known_ones() {
        for text in ["sctp:1:2", "sctp:0.0.0.0:1:2", "TCP:1:2"] {
            let message = text.parse::<Forward>().unwrap_err().to_string();

            assert!(message.contains("the protocol is `tcp` or `udp`"), "{message}");
        }
    }

    #[test]
    fn test_forward_and_mac_round_trip() {
        for text in ["tcp:127.0.0.1:2222:22", "udp:0.0.0.0:53:53"] {
            assert_eq!(text.parse::<Forward>().unwrap().to_string(), text);
        }
        for text in ["52:54:00:12:34:56", "02:00:00:00:00:00"] {
            assert_eq!(text.parse::<MacAddress>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn test_mac_is_stable_and_unique_per_card() {
        let vm = [0x0d, 0x9f, 0x2a, 0xc3, 0x58, 0xb1, 0x4c, 0x3e, 0x9a, 0x5e, 0x2f, 0x1f, 0x6f, 0x0f, 0x7a, 0x11];

        assert_eq!(MacAddress::for_card(&vm, 0).to_string(), "52:54:00:0d:9f:2a");
        assert_ne!(MacAddress::for_card(&vm, 0), MacAddress::for_card(&vm, 1));
        let hotplugged = MacAddress::for_hotplugged(&vm, "card");
        assert_eq!(hotplugged, MacAddress::for_hotplugged(&vm, "card"));
        assert!(hotplugged != MacAddress::for_card(&vm, 0) && hotplugged != MacAddress::for_hotplugged(&vm, "card2"));
    }

    #[test]
    fn test_mac_multicast_or_malformed_is_invalid() {
        for text in [
            "01:00:00:00:00:00",
            "ff:ff:ff:ff:ff:ff",
            "00:00:00:00:00:00",
            "52:54:00:12:34",
            "52:54:00:12:34:5g",
            "52-54-00-12-34-56",
            "52:54:00:12:34:56:78",
        ] {
            assert!(text.parse::<MacAddress>().is_err(), "{text}");
        }
    }
}
