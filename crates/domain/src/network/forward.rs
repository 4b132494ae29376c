//! Forwarded ports.

use core::net::{IpAddr, Ipv4Addr};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text::shortened;

/// A transport protocol, by its name in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A forwarded port: `[tcp:|udp:][ADDRESS:]HOST:GUEST`.
///
/// The host address defaults to 127.0.0.1; host port 0 means any free port.
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
    /// The host address to listen on.
    pub host_address: IpAddr,
    /// The host port; 0 means any free port.
    pub host_port: u16,
    /// The guest port.
    pub guest_port: u16,
}

/// A text that is not a valid [`Forward`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid port forward {}: {reason}", shortened(value))]
#[expect(missing_docs, reason = "the message names the fields")]
pub struct InvalidForward {
    pub value: String,
    pub reason: &'static str,
}

impl Forward {
    /// Returns the value of QEMU's `hostfwd=`.
    pub fn hostfwd(&self) -> String {
        let Self { protocol, host_address, host_port, guest_port } = self;
        format!("{protocol}:{host_address}:{host_port}-:{guest_port}")
    }

    /// Returns the passt option (passt(1)) and its value.
    pub(super) fn passt(&self) -> [String; 2] {
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
        let invalid = |reason| InvalidForward { value: text.to_owned(), reason };
        let (protocol, rest) = match (text.strip_prefix("tcp:"), text.strip_prefix("udp:")) {
            (Some(rest), _) => (Protocol::Tcp, rest),
            (None, Some(rest)) => (Protocol::Udp, rest),
            (None, None) => match prefix_error(text) {
                Some(reason) => return Err(invalid(reason)),
                None => (Protocol::Tcp, text),
            },
        };
        let form = "expected `HOST:GUEST`, as in `2222:22`";
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
            (_, 0) => Err(invalid("the guest port is a number from 1 to 65535")),
            (host_port, guest_port) => Ok(Self { protocol, host_address, host_port, guest_port }),
        }
    }
}

/// Returns what is wrong with a text that starts with a word that is neither a protocol nor an address.
fn prefix_error(text: &str) -> Option<&'static str> {
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
        write!(f, "{protocol}:{host_address}:{host_port}:{guest_port}")
    }
}
