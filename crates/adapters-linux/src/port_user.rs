//! What keeps a program from a port, and the process that listens there.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use maqet_domain::port::{PortObstacle, PortUser};
use maqet_domain::qmp::wording::{Endpoint, Transport};

use crate::process::{PidScope, process_name};

/// The state of a TCP socket that listens, and of a UDP socket that is not connected (`/proc/net`).
const LISTENING: [&str; 2] = ["0A", "07"];

/// Tries to listen at a port, and finds the process that does if it is in use.
pub(crate) fn port_obstacle(endpoint: &Endpoint) -> Option<PortObstacle> {
    let address = SocketAddr::new(endpoint.address, endpoint.port);
    let tried = match endpoint.transport {
        Transport::Tcp => TcpListener::bind(address).map(drop),
        Transport::Udp => UdpSocket::bind(address).map(drop),
    };
    match tried.err()?.kind() {
        io::ErrorKind::AddrInUse => Some(PortObstacle::InUse(user(endpoint))),
        io::ErrorKind::PermissionDenied => Some(PortObstacle::Privileged),
        io::ErrorKind::AddrNotAvailable => Some(PortObstacle::NoAddress),
        _ => None,
    }
}

/// Finds the process that listens at a UNIX socket; connecting to it would take the only place of a network link.
pub(crate) fn socket_obstacle(path: &Path) -> Option<PortObstacle> {
    let wanted = path.canonicalize().ok()?;
    let table = fs::read("/proc/net/unix").ok()?;
    let bound = table.split(|byte| *byte == b'\n').filter_map(bound_at);
    let is_it =
        |bound: &Path| bound.file_name() == wanted.file_name() && bound.canonicalize().is_ok_and(|at| at == wanted);
    let sockets: Vec<String> = bound.filter(|(bound, _)| is_it(bound)).map(|(_, socket)| socket).collect();
    if sockets.is_empty() {
        return None;
    }
    Some(PortObstacle::InUse(process_with(&sockets)))
}

/// Returns the path of a socket that receives at it, and the link to the socket, of a line of `/proc/net/unix`.
fn bound_at(line: &[u8]) -> Option<(&Path, String)> {
    /// The flag of a socket that listens, and the type of one for datagrams.
    const LISTENS: u32 = 0x1_0000;
    const DATAGRAMS: &str = "0002";
    let mut rest = line;
    let mut fields = [""; 7];
    for field in &mut fields {
        rest = rest.trim_ascii_start();
        let end = rest.iter().position(u8::is_ascii_whitespace)?;
        *field = str::from_utf8(&rest[..end]).ok()?;
        rest = &rest[end..];
    }
    let [_, _, _, flags, kind, _, inode] = fields;
    let receives = kind == DATAGRAMS || u32::from_str_radix(flags, 16).ok()? & LISTENS != 0;
    let path = rest.strip_prefix(b" ").filter(|path| receives && path.starts_with(b"/"))?;
    Some((Path::new(OsStr::from_bytes(path)), format!("socket:[{inode}]")))
}

/// Returns the process that listens at a port; without root, only one of the same user is found.
fn user(endpoint: &Endpoint) -> Option<PortUser> {
    let tables: [(&str, Transport); 4] =
        [("tcp", Transport::Tcp), ("tcp6", Transport::Tcp), ("udp", Transport::Udp), ("udp6", Transport::Udp)];
    let sockets: Vec<String> = tables
        .into_iter()
        .filter(|(_, transport)| *transport == endpoint.transport)
        .map(|(table, _)| fs::read_to_string(Path::new("/proc/net").join(table)).unwrap_or_default())
        .flat_map(|table| table.lines().filter_map(|line| socket_at(line, endpoint)).collect::<Vec<_>>())
        .collect();
    process_with(&sockets)
}

/// Returns the process that made the sockets. A child that has not begun its program yet has those of its parent, and may
/// have a lower number.
fn process_with(sockets: &[String]) -> Option<PortUser> {
    let scope = PidScope::current();
    let holders = scope.pids().filter(|pid| has_socket(*pid, sockets)).filter_map(|pid| scope.identify(pid));
    let mut holders: Vec<_> = holders.map(|process| (process.start_ticks, process.pid)).collect();
    holders.sort_unstable();
    holders.into_iter().find_map(|(_, pid)| Some(PortUser { pid, program: process_name(pid)? }))
}

/// Returns the link to a socket, as in `socket:[4711]`, if a line of `/proc/net/tcp` is one that listens at `endpoint`.
fn socket_at(line: &str, endpoint: &Endpoint) -> Option<String> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (address, port) = fields.get(1)?.split_once(':')?;
    let is_port = u16::from_str_radix(port, 16) == Ok(endpoint.port) && LISTENING.contains(fields.get(3)?);
    let address = parsed(address)?;
    let overlaps = address == endpoint.address || address.is_unspecified() || endpoint.address.is_unspecified();
    (is_port && overlaps).then_some(())?;
    Some(format!("socket:[{}]", fields.get(9)?))
}

/// Parses an address of `/proc/net`: words of four bytes, each in the order of the host.
fn parsed(text: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(text.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    if text.len() == 8 {
        return Some(Ipv4Addr::from(word(0)?).into());
    }
    let words = [word(0)?, word(1)?, word(2)?, word(3)?];
    let address = Ipv6Addr::from(<[u8; 16]>::try_from(words.concat()).ok()?);
    Some(address.to_ipv4_mapped().map_or(address.into(), Into::into))
}

fn has_socket(pid: u32, sockets: &[String]) -> bool {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    files
        .filter_map(|file| fs::read_link(file.path()).ok())
        .any(|link| sockets.iter().any(|socket| socket.as_bytes() == link.as_os_str().as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    use super::*;

    fn endpoint(transport: Transport, address: &str, port: u16) -> Endpoint {
        Endpoint { transport, address: address.parse().unwrap(), port }
    }

    fn own() -> PortObstacle {
        let pid = std::process::id();
        PortObstacle::InUse(Some(PortUser { pid, program: process_name(pid).unwrap() }))
    }

    #[test]
    fn test_port_obstacle_names_the_process_that_listens() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("0.0.0.0:0").unwrap();
        let tcp_port = tcp.local_addr().unwrap().port();
        let udp_port = udp.local_addr().unwrap().port();

        assert_eq!(port_obstacle(&endpoint(Transport::Tcp, "127.0.0.1", tcp_port)), Some(own()));
        assert_eq!(port_obstacle(&endpoint(Transport::Tcp, "0.0.0.0", tcp_port)), Some(own()));
        assert_eq!(port_obstacle(&endpoint(Transport::Udp, "127.0.0.1", udp_port)), Some(own()));
        drop(tcp);
        assert_eq!(port_obstacle(&endpoint(Transport::Tcp, "127.0.0.1", tcp_port)), None);
    }

    #[test]
    fn test_port_obstacle_of_a_foreign_address_is_the_address() {
        // An address for documentation (RFC 5737).
        assert_eq!(port_obstacle(&endpoint(Transport::Tcp, "192.0.2.1", 0)), Some(PortObstacle::NoAddress));
    }

    #[test]
    fn test_socket_obstacle_names_the_process_that_receives_there() {
        let folder = tempfile::tempdir().unwrap();
        let (stream, datagram) = (folder.path().join("a socket"), folder.path().join("d"));
        let listener = UnixListener::bind(&stream).unwrap();
        let receiver = UnixDatagram::bind(&datagram).unwrap();
        std::os::unix::fs::symlink(&stream, folder.path().join("link")).unwrap();

        assert_eq!(socket_obstacle(&stream), Some(own()));
        assert_eq!(socket_obstacle(&folder.path().join("link")), Some(own()));
        assert_eq!(socket_obstacle(&datagram), Some(own()));
        // A connection that was accepted has the path, too, and does not listen.
        let client = UnixStream::connect(&stream).unwrap();
        let accepted = listener.accept().unwrap();
        drop((listener, receiver));
        assert_eq!((socket_obstacle(&stream), socket_obstacle(&datagram)), (None, None));
        drop((client, accepted));
        assert_eq!(socket_obstacle(&folder.path().join("none")), None);
    }

    #[test]
    fn test_parsed_addresses_are_words_of_the_host() {
        let word = |bytes: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(bytes));

        assert_eq!(parsed(&word([127, 0, 0, 1])), Some(Ipv4Addr::LOCALHOST.into()));
        let mapped = [word([0; 4]), word([0; 4]), word([0, 0, 255, 255]), word([127, 0, 0, 1])].concat();
        assert_eq!(parsed(&mapped), Some(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(parsed("x"), None);
    }
}
