//! The UNIX sockets at which QEMU listens, and the streams that it connects.

use crate::qemu::{OptionString, switch_values};

/// A UNIX socket at which QEMU listens: it removes what is at the path before (7.2, 10.0).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListeningSocket {
    /// The switch with its argument.
    pub switch: String,
    /// The ID of the network backend that listens.
    pub netdev: Option<String>,
    /// The path.
    pub path: String,
}

/// A network backend that is a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamBackend {
    /// Its ID.
    pub id: String,
    /// Whether QEMU listens; else it connects.
    pub listens: bool,
    /// Whether QEMU tries again if it cannot connect.
    pub reconnects: bool,
    /// The path of its UNIX socket.
    pub path: Option<String>,
}

impl ListeningSocket {
    /// Returns the sockets of the arguments of QEMU.
    pub fn of_args(args: &[String]) -> Vec<Self> {
        switch_values(args).filter_map(|(name, argument)| Self::of_argument(name, argument)).collect()
    }

    fn of_argument(name: &str, argument: &str) -> Option<Self> {
        let options = OptionString::parse(name, argument);
        let first = options.iter().next().map_or("", |option| option.value.as_str());
        let is_server = options.is_on("server") == Some(true);
        let path = match name {
            "netdev" | "nic" | "net" => match options.head() {
                "stream" if is_server => options.get("addr.path"),
                "dgram" => options.get("local.path"),
                _ => None,
            },
            "chardev" if options.head() == "socket" && is_server && options.is_on("abstract") != Some(true) => {
                options.get("path")
            }
            "serial" | "parallel" | "monitor" | "qmp" | "qmp-pretty" | "debugcon" | "gdb" if is_server => {
                first.strip_prefix("unix:")
            }
            "vnc" | "incoming" => first.strip_prefix("unix:"),
            "spice" if options.is_on("unix") == Some(true) => options.get("addr"),
            _ => None,
        };
        let netdev = if name == "netdev" { options.get("id").map(str::to_owned) } else { None };
        let path = path.filter(|path| !path.is_empty())?.to_owned();
        Some(Self { switch: format!("-{name} {argument}"), netdev, path })
    }
}

impl StreamBackend {
    /// Returns the streams of the arguments of QEMU.
    pub fn of_args(args: &[String]) -> Vec<Self> {
        let netdevs = switch_values(args).filter(|(name, _)| *name == "netdev");
        let options = netdevs.map(|(name, argument)| OptionString::parse(name, argument));
        let stream = |options: OptionString| {
            let is_set = |key| options.get(key).is_some_and(|value| value != "0");
            Some(Self {
                id: options.get("id")?.to_owned(),
                listens: options.is_on("server") == Some(true),
                reconnects: is_set("reconnect") || is_set("reconnect-ms"),
                path: options.get("addr.path").map(str::to_owned),
            })
        };
        options.filter(|options| options.head() == "stream").filter_map(stream).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(switch: &str, argument: &str) -> Vec<String> {
        vec![switch.to_owned(), argument.to_owned()]
    }

    #[test]
    fn test_listening_sockets_are_those_with_a_server_in_any_form() {
        for (switch, argument, path) in [
            ("-netdev", "stream,id=n,server=on,addr.type=unix,addr.path=/s", Some("/s")),
            ("--netdev", r#"{"type":"stream","id":"n","server":true,"addr":{"type":"unix","path":"/s"}}"#, Some("/s")),
            ("-netdev", "dgram,id=n,local.type=unix,local.path=/s,remote.type=unix,remote.path=/r", Some("/s")),
            ("-chardev", "socket,id=c,path=/a,,b,server=on,wait=off", Some("/a,b")),
            ("-serial", "unix:/s,server=on,wait=off", Some("/s")),
            ("-qmp", "unix:/s,server,nowait", Some("/s")),
            ("-vnc", "unix:/s,password=on", Some("/s")),
            ("-spice", "unix=on,addr=/s,disable-ticketing=on", Some("/s")),
            ("-incoming", "unix:/s", Some("/s")),
            ("-netdev", "stream,id=n,server=off,addr.type=unix,addr.path=/s", None),
            ("-chardev", "socket,id=c,path=/s", None),
            ("-chardev", "socket,id=c,path=s,abstract=on,server=on", None),
            ("-chardev", "socket,id=c,host=127.0.0.1,port=1,server=on", None),
            ("-serial", "unix:/s", None),
            ("-append", "unix:/s,server=on", None),
        ] {
            let found = ListeningSocket::of_args(&args(switch, argument));
            assert_eq!(found.first().map(|socket| socket.path.as_str()), path, "{switch} {argument}");
        }
    }

    #[test]
    fn test_stream_backends_say_whether_they_listen_or_try_again() {
        let of = |argument: &str| {
            let found = StreamBackend::of_args(&args("-netdev", argument));
            found.into_iter().next().map(|stream| (stream.listens, stream.reconnects, stream.path))
        };
        let path = || Some("/s".to_owned());

        for argument in [
            "stream,id=n,server=on,addr.type=unix,addr.path=/s",
            "type=stream,id=n,server=true,addr.path=/s",
            "id=n,addr.path=/s,server=yes,type=stream",
            r#"{"type": "stream", "id": "n", "server": true, "addr": {"type": "unix", "path": "/s"}}"#,
        ] {
            assert_eq!(of(argument), Some((true, false, path())), "{argument}");
        }
        assert_eq!(of("stream,id=n,server=off,addr.path=/s"), Some((false, false, path())));
        assert_eq!(of("stream,id=n,addr.path=/s"), Some((false, false, path())));
        assert_eq!(of("stream,id=n,addr.path=/s,reconnect-ms=1000"), Some((false, true, path())));
        assert_eq!(of("stream,id=n,addr.path=/s,reconnect=0"), Some((false, false, path())));
        assert_eq!(of("stream,id=n,addr.host=a,addr.port=1,reconnect=1"), Some((false, true, None)));
        assert_eq!(of("socket,id=n,listen=:1"), None);
        assert_eq!(of("dgram,id=n,server=on"), None);
    }
}
