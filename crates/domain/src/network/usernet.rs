//! The output of `info usernet`: QEMU's user networks (7.2).

use core::net::{IpAddr, Ipv4Addr};

use super::{Forward, Protocol};
use crate::qmp::wording::{TCP_ESTABLISHED, TCP_FORWARD, UDP_FORWARD};

/// Returns the forwarded ports of the user network `backend`.
///
/// QEMU writes a heading such as `Hub -1 (net0):`, and below it a line per forward, such as
/// `TCP[HOST_FORWARD]  15  127.0.0.1 43211 10.0.2.15  22  0  0`.
pub fn forwards_of(backend: &str, usernet: &str) -> Vec<Forward> {
    let heading = |line: &str| line.trim_end().strip_suffix("):")?.split_once('(').map(|(_, name)| name == backend);
    let lines = usernet.lines().skip_while(|line| heading(line) != Some(true)).skip(1);
    lines.take_while(|line| heading(line).is_none()).filter_map(shown_forward).collect()
}

/// Returns the `requested` forwards of the user network `backend` with the host ports that QEMU bound.
///
/// A forward that is not in the output is returned unchanged.
pub fn bound_ports(requested: &[Forward], backend: &str, usernet: &str) -> Vec<Forward> {
    let mut shown = forwards_of(backend, usernet);
    requested
        .iter()
        .map(|forward| {
            let matches = |other: &Forward| {
                (other.protocol, other.host_address, other.guest_port)
                    == (forward.protocol, forward.host_address, forward.guest_port)
                    && (forward.host_port == 0 || forward.host_port == other.host_port)
            };
            shown.iter().position(matches).map_or(*forward, |index| shown.remove(index))
        })
        .collect()
}

/// Returns whether a connection to `host_port` has reached a server in the guest.
///
/// QEMU accepts such a connection at once, even if nothing in the guest listens (tested with 7.2). Its state is
/// `TCP[SYN_SENT]` until the guest accepts it, and `TCP[ESTABLISHED]` then.
pub fn is_established(host_port: u16, usernet: &str) -> bool {
    usernet.lines().any(|line| {
        let mut columns = line.split_whitespace();
        columns.next() == Some(TCP_ESTABLISHED) && columns.nth(2).and_then(|port| port.parse().ok()) == Some(host_port)
    })
}

fn shown_forward(line: &str) -> Option<Forward> {
    let mut columns = line.split_whitespace();
    let protocol = match columns.next()? {
        TCP_FORWARD => Protocol::Tcp,
        UDP_FORWARD => Protocol::Udp,
        _ => return None,
    };
    let mut columns = columns.skip(1);
    let host_address = match columns.next()? {
        "*" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        address => address.parse().ok()?,
    };
    let host_port = columns.next()?.parse().ok()?;
    let guest_port = columns.nth(1)?.parse().ok()?;
    Some(Forward { protocol, host_address, host_port, guest_port })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As QEMU 7.2 writes it.
    const USERNET: &str = "Hub -1 (net0):\r\n  \
        Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n  \
        TCP[HOST_FORWARD]  15       127.0.0.1 43211       10.0.2.15    22     0     0\r\n  \
        TCP[HOST_FORWARD]  16       127.0.0.1  2222       10.0.2.15    80     0     0\r\n\
        Hub -1 (hotplug-card):\r\n  \
        Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n  \
        TCP[HOST_FORWARD]  13               * 46039       10.0.2.15    22     0     0\r\n  \
        TCP[HOST_FORWARD]  12       127.0.0.1 35503       10.0.2.15    22     0     0\r\n  \
        UDP[HOST_FORWARD]   8       127.0.0.1 53697       10.0.2.20    53     0     0\r\n";

    fn bound(requested: &[&str], backend: &str, usernet: &str) -> Vec<u16> {
        let requested: Vec<Forward> = requested.iter().map(|text| text.parse().unwrap()).collect();
        bound_ports(&requested, backend, usernet).iter().map(|forward| forward.host_port).collect()
    }

    #[test]
    fn test_bound_ports_port_zero_becomes_the_bound_one() {
        assert_eq!(bound(&["0:22", "2222:80", "0:443"], "net0", USERNET), [43211, 2222, 0]);
    }

    #[test]
    fn test_bound_ports_are_those_of_the_network() {
        assert_eq!(bound(&["0:22", "0:80"], "hotplug-card", USERNET), [35503, 0]);
        assert_eq!(bound(&["0:22"], "card", USERNET), [0]);
    }

    #[test]
    fn test_bound_ports_on_all_addresses_are_read() {
        assert_eq!(bound(&["0.0.0.0:0:22"], "hotplug-card", USERNET), [46039]);
    }

    #[test]
    fn test_bound_ports_match_protocol_and_port() {
        let usernet = "Hub -1 (net0):\r\n\
                       UDP[HOST_FORWARD]  15  127.0.0.1 5353  10.0.2.15  53  0  0\r\n\
                       TCP[HOST_FORWARD]  16  127.0.0.1 4040  10.0.2.15  53  0  0\r\n\
                       TCP[HOST_FORWARD]  17  127.0.0.1 9090  10.0.2.15  53  0  0\r\n";

        assert_eq!(bound(&["9090:53", "udp:0:53", "0:53", "7070:53"], "net0", usernet), [9090, 5353, 4040, 7070]);
    }

    #[test]
    fn test_forwards_of_lists_all_of_the_network() {
        let forwards = |backend| forwards_of(backend, USERNET).iter().map(Forward::to_string).collect::<Vec<_>>();

        let of_card = ["tcp:0.0.0.0:46039:22", "tcp:127.0.0.1:35503:22", "udp:127.0.0.1:53697:53"];
        assert_eq!(forwards("hotplug-card"), of_card);
        assert!(forwards("net1").is_empty());
    }

    #[test]
    fn test_is_established_differs_from_syn_sent() {
        let line = |state: &str, port: u16| {
            format!("  TCP[{state}]      17       127.0.0.1 {port}       10.0.2.15    80     0     0\r\n")
        };

        assert!(is_established(41_617, &(line("HOST_FORWARD", 41_617) + &line("ESTABLISHED", 41_617))));
        assert!(!is_established(41_617, &(line("SYN_SENT", 41_617) + &line("ESTABLISHED", 41_618))));
        assert!(!is_established(41_617, &line("HOST_FORWARD", 41_617)));
        assert!(!is_established(41_617, "Hub -1 (net0):\r\n"));
    }
}
