//! The port that a rule or a switch listens at.

use core::net::{IpAddr, Ipv4Addr};
use std::fmt;

use crate::qemu::{OptionString, RawPart, raw_parts, switch_values};

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

/// The first port of the web sockets of VNC.
const VNC_WEB: u16 = 5700;

/// The address that `-s` stands for.
const GDB: &str = ":1234";

impl Endpoint {
    /// Returns the port of a forwarding rule: `tcp:127.0.0.1:80-:80` of QEMU, or `-t 127.0.0.1/80:80` of passt.
    pub fn of_rule(rule: &str) -> Option<Self> {
        let (transport, rest) = match rule.split_once([':', ' '])? {
            ("tcp" | "-t" | "--tcp-ports", rest) => (Transport::Tcp, rest),
            ("udp" | "-u" | "--udp-ports", rest) => (Transport::Udp, rest),
            _ => return None,
        };
        let (address, port) = match rest.split_once('/') {
            Some((address, ports)) => (address, ports.split(':').next()?),
            None => rest.split('-').next()?.rsplit_once(':')?,
        };
        Some(Self { transport, address: parsed_address(address)?, port: port.parse().ok()? })
    }

    /// Returns the TCP port of an address, as `127.0.0.1:5930` or `:5930`.
    pub fn of_address(address: &str) -> Option<Self> {
        let (address, port) = address.rsplit_once(':')?;
        Some(Self { transport: Transport::Tcp, address: parsed_address(address)?, port: port.parse().ok()? })
    }

    /// Returns the ports that a switch with its argument can listen at, as `-vnc :1` or `-serial tcp::4444,server=on`.
    pub fn of_switch(switch: &str) -> Vec<Self> {
        let (name, argument) = switch.split_once(' ').unwrap_or((switch, ""));
        let (name, argument) = as_vnc(name.trim_start_matches('-'), argument);
        if name == "s" {
            return Self::of_address(GDB).into_iter().collect();
        }
        let options = OptionString::parse(name, argument);
        let Some(first) = options.iter().next().map(|option| option.value.as_str()) else { return Vec::new() };
        // `-netdev socket,udp=REMOTE,localaddr=LOCAL`, `-serial udp:REMOTE@LOCAL`
        let local = options.get("udp").and(options.get("localaddr"));
        let local =
            local.or_else(|| first.strip_prefix("udp:").map(|both| both.rsplit_once('@').map_or(both, |(_, at)| at)));
        if let Some(local) = local {
            let local = Self::of_address(local).map(|at| Self { transport: Transport::Udp, ..at });
            return local.into_iter().collect();
        }
        let transport = if matches!(first, "udp" | "dgram") { Transport::Udp } else { Transport::Tcp };
        let of_keys = |(host, port): (&str, &str)| {
            // The address of `-spice` has another key.
            let host = options.get(host).or_else(|| options.get("addr")).unwrap_or_default();
            let port = options.get(port)?.parse().ok()?;
            Some(Self { transport, address: parsed_address(host)?, port })
        };
        if name == "spice" {
            return [("addr", "port"), ("addr", "tls-port")].into_iter().filter_map(of_keys).collect();
        }
        let keys =
            [("local.host", "local.port"), ("localaddr", "localport"), ("addr.host", "addr.port"), ("host", "port")];
        if let Some(keys) = keys.into_iter().find(|(_, port)| options.get(port).is_some()) {
            return of_keys(keys).into_iter().collect();
        }
        let Some(address) = options.iter().find(|option| option.value.contains(':')) else { return Vec::new() };
        let address = address.value.as_str();
        let address = address.split_once("tcp:").or(address.split_once("telnet:")).map_or(address, |(_, rest)| rest);
        let Some(at) = Self::of_address(address) else { return Vec::new() };
        if name == "vnc" { at.of_display(&options).collect() } else { vec![at] }
    }

    /// Returns the ports of VNC with this display as port: that of VNC itself, and that of its web socket, if it has one.
    fn of_display(self, options: &OptionString) -> impl Iterator<Item = Self> {
        let own = self.port.checked_add(VNC).map(|port| Self { port, ..self });
        let web = options.get("websocket").and_then(|web| match web.parse() {
            Ok(port) => Some(Self { port, ..self }),
            Err(_) if web.contains(':') => Self::of_address(web),
            Err(_) if options.is_on("websocket") == Some(true) => {
                self.port.checked_add(VNC_WEB).map(|port| Self { port, ..self })
            }
            Err(_) => None,
        });
        own.into_iter().chain(web)
    }

    /// Returns the ports that the arguments of QEMU have it listen at.
    pub fn of_args(args: &[String]) -> Vec<Self> {
        let debugger = raw_parts(args).filter(|part| *part == RawPart::Switch("s")).flat_map(|_| Self::of_switch("-s"));
        let with_values = switch_values(args).flat_map(|(name, argument)| Self::of_argument(name, argument));
        with_values.chain(debugger).collect()
    }

    fn of_argument(name: &str, argument: &str) -> Vec<Self> {
        let (name, argument) = as_vnc(name, argument);
        let options = OptionString::parse(name, argument);
        let rules = options.iter().filter(|option| option.key.starts_with("hostfwd"));
        let rules = rules.filter_map(|option| Self::of_rule(&option.value));
        let first = options.iter().next().map_or("", |option| option.value.as_str());
        let is_udp = matches!(first, "udp" | "dgram") || first.starts_with("udp:");
        let listens = match name {
            "vnc" => options.is_on("reverse") != Some(true),
            "spice" | "gdb" | "incoming" => true,
            "netdev" | "nic" | "net" => {
                first == "dgram"
                    || options.get("listen").or(options.get("udp")).is_some()
                    || options.is_on("server") == Some(true)
            }
            "chardev" | "serial" | "parallel" | "monitor" | "qmp" | "qmp-pretty" | "debugcon" => {
                is_udp || options.is_on("server") == Some(true)
            }
            _ => false,
        };
        let own = if listens { Self::of_switch(&format!("-{name} {argument}")) } else { Vec::new() };
        rules.chain(own).collect()
    }

    /// Returns whether two programs cannot listen at both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let is_same_address =
            self.address == other.address || self.address.is_unspecified() || other.address.is_unspecified();
        is_same_address && (self.transport, self.port) == (other.transport, other.port)
    }
}

/// Returns `-display vnc=…` as the `-vnc` that it stands for, and any other switch as it is.
fn as_vnc<'a>(name: &'a str, argument: &'a str) -> (&'a str, &'a str) {
    match argument.strip_prefix("vnc=") {
        Some(vnc) if name == "display" => ("vnc", vnc),
        _ => (name, argument),
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
            ("--udp-ports 0.0.0.0/53:5353", "UDP port 53"),
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
            ("-display vnc=127.0.0.1:40097", "TCP port 45997 of 127.0.0.1"),
            ("-display vnc=[::1]:1,password=on", "TCP port 5901 of ::1"),
            ("-display vnc=unix:/s", "none"),
            ("-display gtk,gl=on", "none"),
            ("-serial tcp:127.0.0.1:4444,server=on,wait=off", "TCP port 4444 of 127.0.0.1"),
            ("-gdb tcp::1234", "TCP port 1234"),
            ("-monitor telnet:[::1]:5,server=on", "TCP port 5 of ::1"),
            ("-chardev socket,id=c,host=127.0.0.1,port=9,server=on", "TCP port 9 of 127.0.0.1"),
            ("-netdev socket,id=n,listen=:1234", "TCP port 1234"),
            ("-spice port=5930,disable-ticketing=on", "TCP port 5930"),
            ("-spice tls-port=5931,addr=127.0.0.1,x509-dir=/x", "TCP port 5931 of 127.0.0.1"),
            ("-spice port=5930,addr=::1", "TCP port 5930 of ::1"),
            (
                "-netdev dgram,id=n,local.type=inet,local.host=127.0.0.1,local.port=7,remote.port=8",
                "UDP port 7 of 127.0.0.1",
            ),
            (
                r#"-netdev {"type":"dgram","id":"n","local":{"type":"inet","host":"::1","port":"7"}}"#,
                "UDP port 7 of ::1",
            ),
            ("-netdev stream,id=n,server=on,addr.type=inet,addr.host=127.0.0.1,addr.port=9", "TCP port 9 of 127.0.0.1"),
            ("-netdev socket,id=n,udp=10.0.0.1:1,localaddr=127.0.0.1:2", "UDP port 2 of 127.0.0.1"),
            ("-chardev udp,id=c,host=10.0.0.1,port=1,localaddr=127.0.0.1,localport=2", "UDP port 2 of 127.0.0.1"),
            ("-serial udp:10.0.0.1:1@127.0.0.1:2", "UDP port 2 of 127.0.0.1"),
            ("-serial udp::1@:2", "UDP port 2"),
            ("-incoming tcp:127.0.0.1:4444", "TCP port 4444 of 127.0.0.1"),
            ("-vnc 127.0.0.1:65000", "none"),
            ("-vnc none", "none"),
        ] {
            let first = Endpoint::of_switch(switch).into_iter().next();
            assert_eq!(shown(first), expected, "{switch}");
        }
    }

    #[test]
    fn test_endpoints_of_a_switch_are_all_of_them() {
        for (switch, expected) in [
            ("-spice port=5930,tls-port=5931,addr=127.0.0.1", vec![5930, 5931]),
            ("-vnc :1,websocket=on", vec![5901, 5701]),
            ("-vnc :1,websocket=8080", vec![5901, 8080]),
            ("-vnc :1,password=on,websocket=127.0.0.1:8081", vec![5901, 8081]),
            ("-vnc :1,websocket=off", vec![5901]),
            ("-display vnc=:1,websocket=8080", vec![5901, 8080]),
            ("-s", vec![1234]),
            ("-S", vec![]),
        ] {
            let ports: Vec<u16> = Endpoint::of_switch(switch).iter().map(|at| at.port).collect();
            assert_eq!(ports, expected, "{switch}");
        }
    }

    #[test]
    fn test_endpoint_of_args_are_those_that_qemu_listens_at() {
        let args = [
            "-vnc",
            ":1",
            "-display",
            "vnc=:2",
            "-vnc",
            "127.0.0.1:3,reverse=on",
            "-nic",
            "user,hostfwd=tcp::80-:80,hostfwd=udp:127.0.0.1:53-:53",
            "-S",
            "-serial",
            "tcp::5,server=on",
            "-serial",
            "tcp:10.0.0.1:6",
            "-netdev",
            "socket,id=a,connect=:7",
            "-device",
            "e1000,port=8",
            "-append",
            "-gdb",
            "tcp::10",
            "--s",
            "-netdev",
            r#"{"type": "user", "id": "n", "hostfwd": [{"str": "tcp::9-:9"}]}"#,
        ];

        let ports = Endpoint::of_args(&args.map(str::to_owned));

        assert_eq!(ports.iter().map(|at| at.port).collect::<Vec<_>>(), [5901, 5902, 80, 53, 5, 9, 1234]);
    }

    #[test]
    fn test_endpoint_overlaps_on_all_addresses() {
        let at = |text: &str| Endpoint::of_address(text).unwrap();

        assert!(at(":80").overlaps(&at("127.0.0.1:80")));
        assert!(!at("127.0.0.2:80").overlaps(&at("127.0.0.1:80")));
        assert!(!at(":80").overlaps(&at(":81")));
        assert!(!at(":80").overlaps(&Endpoint { transport: Transport::Udp, ..at(":80") }));
    }
}
