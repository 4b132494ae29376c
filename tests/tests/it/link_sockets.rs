//! Sockets at which QEMU listens, and links that it connects: nothing is taken over, and no link is dead without a word.

use std::fs;
use std::os::unix::net::{UnixDatagram, UnixListener};

use maqet_testkit::{TestHome, guest, qemu};

/// A VM without devices of its own.
const BASE: &str = "name: web\naccel: tcg\nmemory: 32M\n";

fn card(options: &str) -> String {
    format!("network: [{{name: lan, {options}}}]\n")
}

/// QEMU removes what is at the path of a socket.
#[test]
fn test_socket_that_another_process_listens_at_is_not_taken_over() {
    let home = TestHome::new();
    let (stream, datagrams, file) = (home.path("stream.sock"), home.path("datagrams.sock"), home.path("file"));
    let listener = UnixListener::bind(&stream).unwrap();
    let receiver = UnixDatagram::bind(&datagrams).unwrap();
    fs::write(&file, "data").unwrap();
    let (at, local, remote) = (stream.display(), datagrams.display(), home.path("r"));
    let this = std::process::id();

    for (keys, what) in [
        (card(&format!("mode: stream, listen: '{at}'")), "network card `lan`"),
        (card(&format!("mode: dgram, local: '{local}', remote: '{}'", remote.display())), "network card `lan`"),
        (format!("serial: 'unix:{at},server=on,wait=off'\n"), "unix:"),
        (
            format!("arguments: [{{chardev: socket, id: c, path: '{at}', server: on, wait: off}}]\n"),
            "`-chardev socket,",
        ),
        (format!("arguments: [{{vnc: 'unix:{at}'}}]\n"), "`-vnc unix:"),
    ] {
        home.add(&format!("{BASE}{keys}"));
        let error = home.json_error(&["start", "web"], 75);
        assert_eq!(error["code"], "host.socket-in-use", "{keys}: {error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(what) && message.contains(&format!("(process {this})")), "{keys}: {error}");
        assert_eq!(error["hints"][0], format!("stop process {this}"));
        home.json(&["rm", "web"]);
    }
    home.add(&format!("{BASE}serial: 'unix:{},server=on,wait=off'\n", file.display()));
    let refused = home.json_error(&["start", "web"], 2);
    home.json(&["rm", "web"]);
    drop((listener, receiver));

    assert!(stream.exists() && datagrams.exists(), "one was removed");
    let content = fs::read_to_string(&file).unwrap();
    assert_eq!((refused["code"].as_str(), content.as_str()), (Some("config.path-refused"), "data"));
}

/// What a process left that is gone is replaced, and so is a VM's own.
#[test]
fn test_socket_of_a_link_that_is_free_is_used() {
    let home = TestHome::new();
    let path = home.path("stream.sock");
    drop(UnixListener::bind(&path).unwrap());
    let link = card(&format!("mode: stream, listen: '{}'", path.display()));
    home.add(&(guest::paused_yaml("web") + &link));
    home.add(&(guest::paused_yaml("db") + &link));

    home.json(&["start", "web"]);
    let of_vm = home.json_error(&["start", "db"], 75);
    home.json(&["restart", "web", "--force"]);
    home.json(&["stop", "web", "--force"]);
    home.json(&["start", "db"]);
    home.json(&["stop", "db", "--force"]);

    assert!(of_vm["message"].as_str().unwrap().ends_with("is in use by VM `web`"), "{of_vm}");
}

/// QEMU starts without the link, and tries again only with an option, which an old one lacks.
#[test]
fn test_link_to_nothing_is_refused_unless_qemu_tries_again() {
    let home = TestHome::new();
    let path = home.path("none.sock").display().to_string();
    let card = card(&format!("mode: stream, connect: '{path}'"));
    let raw = |more: &str| {
        format!("arguments: [{{netdev: \"stream,id=lan,server=off,addr.type=unix,addr.path={path}{more}\"}}]\n")
    };
    let refused = |keys: &str| {
        home.add(&format!("{BASE}{keys}"));
        let error = home.json_error(&["start", "web"], 3);
        home.json(&["rm", "web"]);
        assert_eq!(error["code"], "network.peer-not-found", "{keys}: {error}");
        error["message"].as_str().unwrap().to_owned()
    };
    let starts = |keys: &str| {
        home.add(&format!("{BASE}{keys}"));
        home.json(&["start", "web", "--paused"]);
        home.json(&["rm", "web", "--force"]);
    };

    let missing = refused(&raw(""));
    // QEMU itself finds out that none listens.
    drop(UnixListener::bind(&path).unwrap());
    let unused = refused(&raw(""));
    fs::remove_file(&path).unwrap();
    if qemu::is_unpacked() {
        starts(&card);
        starts(&raw(",reconnect-ms=1000"));
    } else {
        refused(&card);
    }

    assert!(missing.ends_with(&format!("network card `lan` cannot connect: `{path}` does not exist")), "{missing}");
    assert!(unused.contains("network card `lan` cannot connect"), "{unused}");
}
