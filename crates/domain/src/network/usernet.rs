//! What QEMU's human monitor shows of its user networks (`info usernet`, 7.2).

use core::net::{IpAddr, Ipv4Addr};

use super::{Forward, Protocol};
use crate::qmp::wording::{TCP_ESTABLISHED, TCP_FORWARD, UDP_FORWARD};

/// Returns the forwards of the user network `back_end`, as `info usernet` shows them.
///
/// Below a heading such as `Hub -1 (net0):` QEMU writes a line such as `TCP[HOST_FORWARD]  15  127.0.0.1 43211
/// 10.0.2.15  22  0  0` for each.
pub fn forwards_of(back_end: &str, usernet: &str) -> Vec<Forward> {
    let heading = |line: &str| line.trim_end().strip_suffix("):")?.split_once('(').map(|(_, name)| name == back_end);
    let lines = usernet.lines().skip_while(|line| heading(line) != Some(true)).skip(1);
    lines.take_while(|line| heading(line).is_none()).filter_map(shown_forward).collect()
}

/// Returns what is `wanted` of the user network `back_end` with the host ports that QEMU really took.
///
/// What it does not show stays as it was wanted.
pub fn taken_ports(wanted: &[Forward], back_end: &str, usernet: &str) -> Vec<Forward> {
    let mut shown = forwards_of(back_end, usernet);
    wanted
        .iter()
        .map(|forward| {
            let is_it = |other: &Forward| {
                (other.protocol, other.host_address, other.guest_port)
                    == (forward.protocol, forward.host_address, forward.guest_port)
                    && (forward.host_port == 0 || forward.host_port == other.host_port)
            };
            shown.iter().position(is_it).map_or(*forward, |index| shown.remove(index))
        })
        .collect()
}

/// Returns whether a connection through port `host_port` of the host has reached a server in the guest, as `info usernet`
/// shows it.
///
/// QEMU itself takes such a connection at once, whether or not anybody in the guest listens (tried with 7.2):
/// `TCP[SYN_SENT]` is one that the guest was asked for, `TCP[ESTABLISHED]` one that it took.
pub fn is_established(host_port: u16, usernet: &str) -> bool {
    usernet.lines().any(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some(TCP_ESTABLISHED) && words.nth(2).and_then(|port| port.parse().ok()) == Some(host_port)
    })
}

fn shown_forward(line: &str) -> Option<Forward> {
    let mut words = line.split_whitespace();
    let protocol = match words.next()? {
        TCP_FORWARD => Protocol::Tcp,
        UDP_FORWARD => Protocol::Udp,
        _ => return None,
    };
    let mut words = words.skip(1);
    let host_address = match words.next()? {
        "*" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        address => address.parse().ok()?,
    };
    let host_port = words.next()?.parse().ok()?;
    let guest_port = words.nth(1)?.parse().ok()?;
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

    fn taken(wanted: &[&str], back_end: &str, usernet: &str) -> Vec<u16> {
        let wanted: Vec<Forward> = wanted.iter().map(|text| text.parse().unwrap()).collect();
        taken_ports(&wanted, back_end, usernet).iter().map(|forward| forward.host_port).collect()
    }

    #[test]
    fn test_taken_ports_free_port_is_read_from_the_monitor() {
        assert_eq!(taken(&["0:22", "2222:80", "0:443"], "net0", USERNET), [43211, 2222, 0]);
    }

    #[test]
    fn test_taken_ports_of_one_network_are_not_those_of_another() {
        assert_eq!(taken(&["0:22", "0:80"], "hotplug-card", USERNET), [35503, 0]);
        assert_eq!(taken(&["0:22"], "card", USERNET), [0]);
    }

    #[test]
    fn test_taken_ports_on_all_addresses_of_the_host_are_read_too() {
        assert_eq!(taken(&["0.0.0.0:0:22"], "hotplug-card", USERNET), [46039]);
    }

    #[test]
    fn test_taken_ports_of_another_protocol_or_wanted_by_number_are_not_mixed_up() {
        let usernet = "Hub -1 (net0):\r\n\
                       UDP[HOST_FORWARD]  15  127.0.0.1 5353  10.0.2.15  53  0  0\r\n\
                       TCP[HOST_FORWARD]  16  127.0.0.1 4040  10.0.2.15  53  0  0\r\n\
                       TCP[HOST_FORWARD]  17  127.0.0.1 9090  10.0.2.15  53  0  0\r\n";

        assert_eq!(taken(&["9090:53", "udp:0:53", "0:53", "7070:53"], "net0", usernet), [9090, 5353, 4040, 7070]);
    }

    #[test]
    fn test_forwards_of_a_network_are_all_that_it_has() {
        let told = |back_end| forwards_of(back_end, USERNET).iter().map(Forward::to_string).collect::<Vec<_>>();

        let of_card = ["tcp:0.0.0.0:46039:22", "tcp:127.0.0.1:35503:22", "udp:127.0.0.1:53697:53"];
        assert_eq!(told("hotplug-card"), of_card);
        assert!(told("net1").is_empty());
    }

    #[test]
    fn test_is_established_is_told_from_one_that_is_only_asked_for() {
        let line = |state: &str, port: u16| {
            format!("  TCP[{state}]      17       127.0.0.1 {port}       10.0.2.15    80     0     0\r\n")
        };

        assert!(is_established(41_617, &(line("HOST_FORWARD", 41_617) + &line("ESTABLISHED", 41_617))));
        assert!(!is_established(41_617, &(line("SYN_SENT", 41_617) + &line("ESTABLISHED", 41_618))));
        assert!(!is_established(41_617, &line("HOST_FORWARD", 41_617)));
        assert!(!is_established(41_617, "Hub -1 (net0):\r\n"));
    }
}
