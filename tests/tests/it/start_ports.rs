//! Starts that fail because QEMU cannot listen at a port of the host: the process or the VM that has it is named.

use std::net::{TcpListener, UdpSocket};

use maqet_testkit::{TestHome, qemu};

use crate::start_failures::{assert_explained, error_of};

#[test]
fn test_port_in_use_names_the_process_that_has_it() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (tcp_port, udp_port) = (tcp.local_addr().unwrap().port(), udp.local_addr().unwrap().port());
    let (pid, display) = (std::process::id(), free_display());

    for (keys, transport, port) in [
        (format!("network: {{forward: [\"{tcp_port}:22\"]}}\n"), "TCP", tcp_port),
        (format!("network: {{forward: [\"udp:{udp_port}:53\"]}}\n"), "UDP", udp_port),
        (format!("network: {{mode: passt, forward: [\"{tcp_port}:22\"]}}\n"), "TCP", tcp_port),
        (format!("arguments: [{{gdb: \"tcp:127.0.0.1:{tcp_port}\"}}]\n"), "TCP", tcp_port),
        (format!("serial: \"tcp:127.0.0.1:{tcp_port},server=on,wait=off\"\n"), "TCP", tcp_port),
        (format!("serial: \"udp:127.0.0.1:9@127.0.0.1:{udp_port}\"\n"), "UDP", udp_port),
        (
            format!("arguments: [{{netdev: \"socket,id=n,udp=127.0.0.1:9,localaddr=127.0.0.1:{udp_port}\"}}]\n"),
            "UDP",
            udp_port,
        ),
        (format!("arguments: [{{netdev: \"socket,id=n,listen=127.0.0.1:{tcp_port}\"}}]\n"), "TCP", tcp_port),
        (
            format!("network: {{mode: dgram, local: \"127.0.0.1:{udp_port}\", remote: \"127.0.0.1:9\"}}\n"),
            "UDP",
            udp_port,
        ),
        (
            format!(
                "arguments: [{{netdev: \"stream,id=n,server=on,addr.type=inet,addr.host=127.0.0.1,addr.port={tcp_port}\"}}]\n"
            ),
            "TCP",
            tcp_port,
        ),
        (
            format!("arguments: [{{nic: \"stream,server=on,addr.type=inet,addr.host=127.0.0.1,addr.port={tcp_port}\"}}]\n"),
            "TCP",
            tcp_port,
        ),
        (
            format!(
                "arguments: [{{netdev: \"dgram,id=n,local.type=inet,local.host=127.0.0.1,local.port={udp_port},\
                 remote.type=inet,remote.host=127.0.0.1,remote.port=9\"}}]\n"
            ),
            "UDP",
            udp_port,
        ),
        (format!("arguments: [{{incoming: \"tcp:127.0.0.1:{tcp_port}\"}}]\n"), "TCP", tcp_port),
        (format!("arguments: [{{vnc: \"127.0.0.1:{display},websocket={tcp_port}\"}}]\n"), "TCP", tcp_port),
    ]
    .into_iter()
    .chain(has_spice().then(|| {
        (format!("arguments: [{{spice: \"port={tcp_port},addr=127.0.0.1,disable-ticketing=on\"}}]\n"), "TCP", tcp_port)
    })) {
        let error = error_of(&keys, 75);

        assert_eq!(error["code"], "host.port-in-use", "{error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(&format!("{transport} port {port} of 127.0.0.1 is in use by `")), "{message}");
        assert!(message.ends_with(&format!("(process {pid})")), "{message}");
    }
}

/// Returns the number of a VNC display whose port is free.
fn free_display() -> u16 {
    let mut ports = std::iter::repeat_with(maqet_testkit::port::free);
    ports.find_map(|port| port.checked_sub(5900)).unwrap()
}

#[test]
fn test_vnc_port_in_use_is_counted_from_the_display() {
    let (home, display) = (TestHome::new(), free_display());
    let port = display + 5900;
    let yaml = |name: &str, keys: &str| format!("name: {name}\naccel: tcg\nmemory: 32M\n{keys}\n");
    home.add(&yaml("first", &format!("display: \"vnc=127.0.0.1:{display}\"\narguments: [S]")));
    home.json(&["start", "first"]);

    for (name, keys) in [
        ("key", format!("display: \"vnc=127.0.0.1:{display}\"")),
        ("switch", format!("arguments: [{{vnc: \"127.0.0.1:{display}\"}}]")),
        ("display", format!("arguments: [{{display: \"vnc=127.0.0.1:{display},password=on\"}}]")),
    ] {
        home.add(&yaml(name, &keys));

        let error = home.json_error(&["start", name], 75);

        assert_explained(&error);
        let message = format!("VM `{name}` failed to start: TCP port {port} of 127.0.0.1 is in use by VM `first`");
        assert_eq!((error["code"].as_str(), error["message"].as_str()), (Some("host.port-in-use"), Some(&*message)));
    }
}

/// SPICE is a module in 10.0, which is not unpacked.
fn has_spice() -> bool {
    !qemu::is_unpacked()
}

#[test]
fn test_port_that_a_vm_uses_twice_is_said_to_be() {
    let display = free_display();
    let port = display + 5900;
    for keys in [
        format!("network: {{forward: [\"{port}:22\"]}}\ndisplay: \"vnc=127.0.0.1:{display}\"\n"),
        format!("network: {{forward: [\"{port}:22\"]}}\nserial: \"tcp:127.0.0.1:{port},server=on,wait=off\"\n"),
        format!("network: {{mode: passt, forward: [\"{port}:22\"]}}\narguments: [{{gdb: \"tcp:127.0.0.1:{port}\"}}]\n"),
    ] {
        let error = error_of(&keys, 2);

        assert_eq!(error["code"], "network.port-conflict", "{error}");
        let message = format!("VM `web` failed to start: it uses TCP port {port} of 127.0.0.1 twice");
        assert_eq!(error["message"], message);
    }
}

#[test]
fn test_port_in_use_names_the_vm_that_has_it() {
    let home = TestHome::new();
    let yaml = |name: &str| format!("name: {name}\naccel: tcg\nmemory: 32M\narguments: [S]\n");
    let port = maqet_testkit::port::free();
    home.add(&format!("{}network: {{forward: [\"{port}:22\"]}}\n", yaml("first")));
    home.json(&["start", "first"]);
    home.add(&format!("{}network: {{forward: [\"{port}:22\"]}}\n", yaml("second")));

    let error = home.json_error(&["start", "second"], 75);

    assert_explained(&error);
    assert!(error["message"].as_str().unwrap().ends_with("is in use by VM `first`"), "{error}");
    assert_eq!(error["hints"][0], "stop it with `maqet stop first`");
    home.json(&["stop", "first", "--force"]);
    home.json(&["start", "second"]);
}

#[test]
fn test_address_that_the_host_does_not_have_is_named() {
    // An address for documentation (RFC 5737).
    let forward = error_of("network: {forward: [\"192.0.2.1:8022:22\"]}\n", 69);
    let serial = error_of("serial: \"tcp:192.0.2.1:8022,server=on,wait=off\"\n", 69);

    for error in [forward, serial] {
        assert_eq!(error["code"], "host.address-not-found");
        assert!(error["message"].as_str().unwrap().contains("192.0.2.1"), "{error}");
    }
}
