//! The subnet of a user network.

use core::net::Ipv4Addr;
use std::fmt;
use std::str::FromStr;

use crate::text::shortened;

/// An IPv4 network in which QEMU's user network can give addresses: `ADDRESS/PREFIX`.
///
/// ```
/// use maqet_domain::network::Subnet;
///
/// assert_eq!("192.168.76.0/24".parse::<Subnet>().unwrap().to_string(), "192.168.76.0/24");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Subnet {
    network: Ipv4Addr,
    prefix: u8,
}

/// A text that is not a valid [`Subnet`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid subnet {}: {reason}", shortened(value))]
#[expect(missing_docs, reason = "the message names the fields")]
pub struct InvalidSubnet {
    pub value: String,
    pub reason: String,
}

/// The shortest prefix.
const MIN_PREFIX: u8 = 8;

/// The longest prefix: QEMU gives the guest the address 15 of its network, which is the broadcast address of a smaller one
/// (7.2, 10.0).
const MAX_PREFIX: u8 = 27;

impl FromStr for Subnet {
    type Err = InvalidSubnet;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = |reason: &str| InvalidSubnet { value: text.to_owned(), reason: reason.to_owned() };
        let form = "expected an IPv4 network, as in `192.168.76.0/24`";
        let (address, prefix) = text.split_once('/').ok_or_else(|| invalid(form))?;
        let address: Ipv4Addr = address.parse().map_err(|_| invalid(form))?;
        let prefix: u8 = prefix.parse().map_err(|_| invalid(form))?;
        if !(MIN_PREFIX..=MAX_PREFIX).contains(&prefix) {
            return Err(invalid("the prefix is a number from 8 to 27"));
        }
        let network = Ipv4Addr::from_bits(address.to_bits() & (u32::MAX << (32 - prefix)));
        if network != address {
            return Err(invalid(&format!("`{address}` is an address in the network `{network}/{prefix}`")));
        }
        if network.is_unspecified() || network.is_loopback() || network.is_multicast() || network.is_broadcast() {
            return Err(invalid("no guest can have an address in this network"));
        }
        Ok(Self { network, prefix })
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_subnet_that_qemu_serves_is_valid() {
        for text in ["10.0.2.0/24", "192.168.0.0/16", "10.0.0.0/8", "10.0.5.32/27"] {
            assert_eq!(text.parse::<Subnet>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn test_subnet_that_qemu_does_not_serve_is_invalid() {
        for text in [
            "", "10.0.2.0", "10.0.2.0/", "10.0.2.0/28", "10.0.2.0/33", "10.0.2.0/7", "10.0.2/24", "0.0.0.0/8",
            "127.0.0.0/8", "224.0.0.0/8", "fd00::/64", "10.0.2.0/24,x=y", "lan/24",
        ] {
            assert!(text.parse::<Subnet>().is_err(), "{text}");
        }
        let message = "10.0.2.7/24".parse::<Subnet>().unwrap_err().to_string();
        assert_eq!(message, "invalid subnet `10.0.2.7/24`: `10.0.2.7` is an address in the network `10.0.2.0/24`");
    }
}
