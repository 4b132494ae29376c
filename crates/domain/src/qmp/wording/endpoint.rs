//! The port that a rule or a switch listens at.

use core::net::{IpAddr, Ipv4Addr};
use std::fmt;

use crate::qemu::OptionString;

/// A protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::Display)]
pub enum Transport {
    /// TCP.
    #[strum(to_string = "TCP")]
    Tcp,
    /// UDP.
    #[strum(to_string = "UDP")]
    Udp,
}

/// A port of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// The protocol.
    pub transport: Transport,
    /// The address; the unspecified one for all.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    /// Writes it as in `TCP port 80 of 127.0.0.1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} port {}", self.transport, self.port)?;
        if self.address.is_unspecified() { Ok(()) } else { write!(f, " of {}", self.address) }
    }
}

/// The first port of VNC; displays are counted from it.
const VNC: u16 = 5900;

impl Endpoint {
    /// Returns the port of a forwarding rule: `tcp:127.0.0.1:80-:80` of QEMU, or `-t 127.0.0.1/80:80` of passt.
    pub fn of_rule(rule: &str) -> Option<Self> {
        let (transport, rest) = match rule.split_once([':', ' '])? {
            ("tcp" | "-t", rest) => (Transport::Tcp, rest),
            ("udp" | "-u", rest) => (Transport::Udp, rest),
            _ => return None,
        };
        let (address, port) = match rest.split_once('/') {
            Some((address, ports)) => (address, ports.split(':').next()?),
            None => rest.split('-').next()?.rsplit_once(':')?,
        };
        Some(Self { transport, address: parsed_address(address)?, port: port.parse().ok()? })
    }

    /// Returns the port that a switch with its argument listens at, as `-vnc :1` or `-serial tcp::4444,server=on`.
    pub fn of_switch(switch: &str) -> Option<Self> {
        let (name, argument) = switch.split_once(' ')?;
        let options = OptionString::parse(name.trim_start_matches('-'), argument);
        let option = |names: [&str; 2]| names.into_iter().find_map(|name| options.get(name));
        let (address, port) = if let Some(port) = option(["port", "addr.port"]) {
            (option(["host", "addr.host"]).unwrap_or_default(), port)
        } else {
            let first = options.iter().find(|option| option.value.contains(':'))?.value.as_str();
            let first = first.split_once("tcp:").or(first.split_once("telnet:")).map_or(first, |(_, rest)| rest);
            first.rsplit_once(':')?
        };
        let port: u16 = port.parse().ok()?;
        let port = if name == "-vnc" { port.checked_add(VNC)? } else { port };
        Some(Self { transport: Transport::Tcp, address: parsed_address(address)?, port })
    }
}

/// Parses an address; an empty one is that of all interfaces.
fn parsed_address(text: &str) -> Option<IpAddr> {
    match text.trim_matches(['[', ']']) {
        "" => Some(Ipv4Addr::UNSPECIFIED.into()),
        "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
        address => address.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(endpoint: Option<Endpoint>) -> String {
        endpoint.map_or_else(|| "none".to_owned(), |endpoint| endpoint.to_string())
    }

    #[test]
    fn test_endpoint_of_rule_takes_both_forms() {
        for (rule, expected) in [
            ("tcp:127.0.0.1:34567-:22", "TCP port 34567 of 127.0.0.1"),
            ("udp::53-10.0.2.15:53", "UDP port 53"),
            ("tcp::80-:80", "TCP port 80"),
            ("-t 127.0.0.1/80:22", "TCP port 80 of 127.0.0.1"),
            ("-u 127.0.0.1/53:53", "UDP port 53 of 127.0.0.1"),
            ("sctp::80-:80", "none"),
            ("tcp:nonsense", "none"),
        ] {
            assert_eq!(shown(Endpoint::of_rule(rule)), expected, "{rule}");
        }
    }

    #[test]
    fn test_endpoint_of_switch_takes_addresses_and_options() {
        for (switch, expected) in [
            ("-vnc 127.0.0.1:1", "TCP port 5901 of 127.0.0.1"),
            ("-vnc :1,password=on", "TCP port 5901"),
            ("-vnc localhost:0", "TCP port 5900 of 127.0.0.1"),
            ("-serial tcp:127.0.0.1:4444,server=on,wait=off", "TCP port 4444 of 127.0.0.1"),
            ("-gdb tcp::1234", "TCP port 1234"),
            ("-monitor telnet:[::1]:5,server=on", "TCP port 5 of ::1"),
            ("-chardev socket,id=c,host=127.0.0.1,port=9,server=on", "TCP port 9 of 127.0.0.1"),
            ("-netdev socket,id=n,listen=:1234", "TCP port 1234"),
            ("-spice port=5930,disable-ticketing=on", "TCP port 5930"),
            ("-vnc 127.0.0.1:65000", "none"),
            ("-vnc none", "none"),
        ] {
            assert_eq!(shown(Endpoint::of_switch(switch)), expected, "<switch>");
        }
    }
}
