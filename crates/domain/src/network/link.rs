//! Links between network cards of different VMs, through a socket.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::fmt;
use std::str::FromStr;

use crate::qemu::Switch;
use crate::text::shortened;

/// Where the other end of a link is: `/PATH` or `HOST:PORT`.
///
/// ```
/// use maqet_domain::network::LinkAddress;
///
/// assert!("/run/lab/a.sock".parse::<LinkAddress>().unwrap().is_path());
/// assert_eq!("[::1]:4000".parse::<LinkAddress>().unwrap().to_string(), "[::1]:4000");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LinkAddress {
    /// The path of a UNIX socket.
    Path(String),
    /// A host and a port.
    Host {
        /// Its name or address.
        host: String,
        /// The port.
        port: u16,
    },
}

/// A text that is not a valid [`LinkAddress`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid address {}: {reason}", shortened(value))]
#[expect(missing_docs, reason = "the message names the fields")]
pub struct InvalidLink {
    pub value: String,
    pub reason: &'static str,
}

/// A link through a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// A stream; the other end connects to this address.
    Listen(LinkAddress),
    /// A stream to the end that listens at this address.
    Connect(LinkAddress),
    /// Datagrams to `remote`, which sends its own to `local`; a multicast group needs no `local`.
    Datagram {
        /// The address of this end.
        local: Option<LinkAddress>,
        /// The address of the other end, or of a multicast group.
        remote: LinkAddress,
    },
}

/// The longest path of a socket, in bytes (unix(7)).
const MAX_SOCKET_PATH: usize = 107;

/// How long QEMU waits before it connects again, in milliseconds.
const RECONNECT_MS: &str = "1000";

impl LinkAddress {
    /// Returns whether it is a path.
    pub const fn is_path(&self) -> bool {
        matches!(self, Self::Path(_))
    }

    /// Returns whether it is a multicast group.
    pub fn is_multicast(&self) -> bool {
        match self {
            Self::Path(_) => false,
            Self::Host { host, .. } => host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_multicast()),
        }
    }

    /// Returns whether it is an IPv6 address, which QEMU does not take for datagrams (7.2, 10.0).
    pub fn is_ipv6(&self) -> bool {
        matches!(self, Self::Host { host, .. } if host.parse::<Ipv6Addr>().is_ok())
    }

    fn options(&self, switch: Switch, key: &str) -> Switch {
        match self {
            Self::Path(path) => switch.option(&format!("{key}.type"), "unix").option(&format!("{key}.path"), path),
            Self::Host { host, port } => {
                let switch = switch.option(&format!("{key}.type"), "inet").option(&format!("{key}.host"), host);
                switch.option(&format!("{key}.port"), port.to_string())
            }
        }
    }
}

impl Link {
    /// Returns the switch of the backend `name`; `reconnects` is whether QEMU can connect again.
    pub(super) fn switch(&self, name: &str, reconnects: bool) -> Switch {
        let backend = |kind: &str| Switch::new("netdev").head(kind).option("id", name);
        match self {
            Self::Listen(address) => address.options(backend("stream").flag("server", true), "addr"),
            Self::Connect(address) => {
                let stream = address.options(backend("stream").flag("server", false), "addr");
                if reconnects { stream.option("reconnect-ms", RECONNECT_MS) } else { stream }
            }
            Self::Datagram { local, remote } => {
                let datagram = remote.options(backend("dgram"), "remote");
                local.iter().fold(datagram, |switch, local| local.options(switch, "local"))
            }
        }
    }
}

impl FromStr for LinkAddress {
    type Err = InvalidLink;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = |reason| InvalidLink { value: text.to_owned(), reason };
        if text.contains('/') {
            return match text.len() {
                ..=MAX_SOCKET_PATH if text.starts_with('/') => Ok(Self::Path(text.to_owned())),
                ..=MAX_SOCKET_PATH => Err(invalid("a path must be absolute here")),
                _ => Err(invalid("the path of a socket has at most 107 bytes")),
            };
        }
        let form = "expected `HOST:PORT`, or a path with a `/`";
        let (host, port) = text.rsplit_once(':').ok_or_else(|| invalid(form))?;
        let port = port.parse().ok().filter(|port| *port > 0);
        let port = port.ok_or_else(|| invalid("a port is a number from 1 to 65535"))?;
        let bare = match host.strip_prefix('[') {
            Some(rest) => {
                let inner = rest.strip_suffix(']').filter(|inner| inner.parse::<Ipv6Addr>().is_ok());
                inner.ok_or_else(|| invalid("expected an IPv6 address in brackets, as in `[::1]:4000`"))?
            }
            None if host.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6()) => {
                return Err(invalid("an IPv6 address needs brackets, as in `[::1]:4000`"));
            }
            None if is_host_name(host) => host,
            None => return Err(invalid(form)),
        };
        Ok(Self::Host { host: bare.to_owned(), port })
    }
}

fn is_host_name(host: &str) -> bool {
    !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
}

impl fmt::Display for LinkAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => f.write_str(path),
            Self::Host { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Host { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_link_address_usual_forms_round_trip() {
        for text in ["/run/a.sock", "127.0.0.1:4000", "[::1]:4000", "lab-host.example:1", "230.0.0.1:1234"] {
            assert_eq!(text.parse::<LinkAddress>().unwrap().to_string(), text);
        }
        assert!("239.255.0.1:1".parse::<LinkAddress>().unwrap().is_multicast());
        assert!(!"10.0.0.1:1".parse::<LinkAddress>().unwrap().is_multicast());
    }

    #[test]
    fn test_link_address_malformed_is_invalid() {
        let long = format!("/{}", "x".repeat(107));
        for text in [
            "", "a.sock", "./a.sock", ":4000", "host:", "host:0", "host:65536", "::1:4000", "[::1:4000", "[a]:1",
            "a b:1", &long,
        ] {
            assert!(text.parse::<LinkAddress>().is_err(), "{text}");
        }
    }
}
