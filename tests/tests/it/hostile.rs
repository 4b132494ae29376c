//! A QEMU gone mad: something else talks at the monitor of a running VM, and the command line costs bounded time and
//! memory, and says what is wrong.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use maqet_testkit::{Finished, TestHome, guest};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::json;

/// What a command may have of memory: it takes 40 MiB of addresses by itself, and a line of 16 MiB more than once while it
/// is read. A hundredth of what it is sent.
const MEMORY: u64 = 192 << 20;

const GREETING: &str = r#"{"QMP": {"version": {}, "capabilities": []}}"#;
const EVENT: &str = r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "X", "data": {"x": "y"}}"#;

/// Asks the VM `web` for its status, whose command monitor talks like `monitor`, with little memory.
fn ask(home: &TestHome, monitor: impl FnOnce(BufReader<UnixStream>) + Send + 'static) -> Finished {
    let status = home.json(&["status", "web"]);
    let free = Path::new(status["external_monitor"].as_str().expect("it runs"));
    let socket = free.with_file_name("qmp.sock");
    fs::remove_file(&socket).expect("QEMU has made it");
    let listener = UnixListener::bind(&socket).expect("there is room for ours");

    let running = home.maqet(["qmp", "web", "query-status", "--timeout", "50s", "--format", "json"]).spawn();
    let pid = Pid::from_raw(running.pid().try_into().expect("pids are small"));
    prlimit(pid, Resource::As, Rlimit { current: Some(MEMORY), maximum: Some(MEMORY) }).expect("it is ours");
    // Before anything is said to it, it has its limit.
    let (stream, _) = listener.accept().expect("it connects");
    let said = std::thread::spawn(move || monitor(BufReader::new(stream)));
    let finished = running.wait();
    said.join().expect("a monitor talks to its end");
    finished
}

fn with_web() -> TestHome {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    home.json(&["start", "web"]);
    // From here on the schema of this QEMU is known, and nobody else is asked for it.
    home.json(&["qmp", "web", "query-status"]);
    home
}

/// Says what is left to be said, until nobody listens.
fn say(stream: &mut BufReader<UnixStream>, what: &[u8]) -> bool {
    stream.get_mut().write_all(what).is_ok()
}

fn hear(stream: &mut BufReader<UnixStream>) {
    stream.read_line(&mut String::new()).expect("a command");
}

#[test]
fn test_qmp_gigabyte_line_is_invalid_in_bounded_memory() {
    let home = with_web();

    let finished = ask(&home, |mut stream| {
        say(&mut stream, format!("{GREETING}\n").as_bytes());
        hear(&mut stream);
        let piece = vec![b'x'; 1 << 20];
        // Nobody takes all of it.
        let taken = (0..1024).take_while(|_| say(&mut stream, &piece)).count();
        assert!(taken < 64, "{taken} MiB were taken");
    });

    let error = &finished.code(1).json_error()["error"];
    assert_eq!(error["code"], "qmp.garbled", "{error}");
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_qmp_million_events_need_bounded_memory() {
    let home = with_web();

    let finished = ask(&home, |mut stream| {
        say(&mut stream, format!("{GREETING}\n").as_bytes());
        hear(&mut stream);
        say(&mut stream, b"{\"return\": {}, \"id\": 0}\n");
        hear(&mut stream);
        let thousand = format!("{EVENT}\r\n").repeat(1_000);
        assert!((0..1_000).all(|_| say(&mut stream, thousand.as_bytes())), "all is taken");
        say(&mut stream, b"{\"return\": {\"status\": \"running\"}}\n");
    });

    assert_eq!(finished.ok().json_value()["status"], "running");
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_qmp_foreign_protocol_is_shown_escaped() {
    let home = with_web();

    let finished = ask(&home, |mut stream| {
        say(&mut stream, b"HTTP/1.1 400 Bad \x1b[31mRequest\r\n");
    });

    let error = &finished.code(1).json_error()["error"];
    assert_eq!(error["code"], "qmp.garbled");
    let message = error["message"].as_str().expect("it has one");
    assert!(message.contains("400 Bad") && !message.contains('\x1b'), "{message}");
    assert_eq!(home.json(&["ls"])[0]["name"], json!("web"));
    home.json(&["stop", "web", "--force"]);
}
