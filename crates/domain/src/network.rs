//! Network cards of a VM as its definition describes them.

mod forward;
mod usernet;

pub use self::forward::{Forward, InvalidForward, Protocol};
pub use self::usernet::{forwards_of, is_established, taken_ports};

use std::fmt;
use std::str::FromStr;

use crate::qemu::NodeName;
use crate::qemu::{Helper, Switch};
use crate::text::shortened;

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
    pub fn of_card(vm: &[u8; 16], index: u8) -> Self {
        Self([0x52, 0x54, 0x00, vm[0], vm[1], vm[2].wrapping_add(index)])
    }

    /// Returns the address of a card that is plugged into a running VM as `device`: another for each device of each VM,
    /// as QEMU itself gives the first one of every machine the same.
    pub fn of_plugged(vm: &[u8; 16], device: &str) -> Self {
        // FNV-1a, which is the same in every build.
        let mix = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        let hash = vm.iter().chain(device.as_bytes()).fold(0x811c_9dc5, mix);
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
    pub name: NodeName,
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
    pub fn switches(&self, vm: &[u8; 16], index: u8, socket: &str) -> Vec<Switch> {
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
        let mac = self.mac.unwrap_or_else(|| MacAddress::of_card(vm, index));
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
        let vm = [0x0d, 0x9f, 0x2a, 0xc3, 0x58, 0xb1, 0x4c, 0x3e, 0x9a, 0x5e, 0x2f, 0x1f, 0x6f, 0x0f, 0x7a, 0x11];

        assert_eq!(MacAddress::of_card(&vm, 0).to_string(), "52:54:00:0d:9f:2a");
        assert_ne!(MacAddress::of_card(&vm, 0), MacAddress::of_card(&vm, 1));
        let plugged = MacAddress::of_plugged(&vm, "card");
        assert_eq!(plugged, MacAddress::of_plugged(&vm, "card"));
        assert!(plugged != MacAddress::of_card(&vm, 0) && plugged != MacAddress::of_plugged(&vm, "card2"));
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
