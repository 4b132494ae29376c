//! Another program serves the monitor of a running VM and misbehaves: commands need bounded time and memory, and
//! report the problem.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use maqet_testkit::{Finished, TestHome, guest};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::json;

/// The address space of a command: it needs 40 MiB on its own, and a line of 16 MiB more than once while reading it.
/// A hundredth of what it is sent.
const MEMORY: u64 = 192 << 20;

/// Longer than a million events take on a busy host.
const DEADLINE: Duration = Duration::from_mins(6);

const GREETING: &str = r#"{"QMP": {"version": {}, "capabilities": []}}"#;
const EVENT: &str = r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "X", "data": {"x": "y"}}"#;

/// Queries the status of the VM `web` with little memory, with `monitor` in place of its command monitor.
fn query(home: &TestHome, monitor: impl FnOnce(BufReader<UnixStream>) + Send + 'static) -> Finished {
    let status = home.json(&["status", "web"]);
    let free = Path::new(status["external_monitor"].as_str().expect("it runs"));
    let socket = free.with_file_name("qmp.sock");
    fs::remove_file(&socket).expect("QEMU has made it");
    let listener = UnixListener::bind(&socket).expect("there is room for ours");

    let running =
        home.maqet(["qmp", "web", "query-status", "--timeout", "5m", "--format", "json"]).deadline(DEADLINE).spawn();
    let pid = Pid::from_raw(running.pid().try_into().expect("pids are small"));
    prlimit(pid, Resource::As, Rlimit { current: Some(MEMORY), maximum: Some(MEMORY) }).expect("it is ours");
    // The limit is set before anything is sent.
    let (stream, _) = listener.accept().expect("it connects");
    let server = std::thread::spawn(move || monitor(BufReader::new(stream)));
    let finished = running.wait();
    server.join().expect("the monitor does not panic");
    finished
}

fn with_web() -> TestHome {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    home.json(&["start", "web"]);
    // Caches the schema of this QEMU.
    home.json(&["qmp", "web", "query-status"]);
    home
}

/// Writes, and returns whether the client still reads.
fn write(stream: &mut BufReader<UnixStream>, what: &[u8]) -> bool {
    stream.get_mut().write_all(what).is_ok()
}

fn read_line(stream: &mut BufReader<UnixStream>) {
    stream.read_line(&mut String::new()).expect("a command");
}

#[test]
fn test_qmp_gigabyte_line_is_invalid_in_bounded_memory() {
    let home = with_web();

    let finished = query(&home, |mut stream| {
        write(&mut stream, format!("{GREETING}\n").as_bytes());
        read_line(&mut stream);
        let piece = vec![b'x'; 1 << 20];
        // The client stops reading early.
        let taken = (0..1024).take_while(|_| write(&mut stream, &piece)).count();
        assert!(taken < 64, "{taken} MiB were taken");
    });

    let error = &finished.code(1).json_error()["error"];
    assert_eq!(error["code"], "qmp.response-invalid", "{error}");
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_qmp_million_events_need_bounded_memory() {
    let home = with_web();

    let finished = query(&home, |mut stream| {
        write(&mut stream, format!("{GREETING}\n").as_bytes());
        read_line(&mut stream);
        write(&mut stream, b"{\"return\": {}, \"id\": 0}\n");
        read_line(&mut stream);
        let thousand = format!("{EVENT}\r\n").repeat(1_000);
        assert!((0..1_000).all(|_| write(&mut stream, thousand.as_bytes())), "all is taken");
        write(&mut stream, b"{\"return\": {\"status\": \"running\"}}\n");
    });

    assert_eq!(finished.ok().json_value()["status"], "running");
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_qmp_foreign_protocol_is_shown_escaped() {
    let home = with_web();

    let finished = query(&home, |mut stream| {
        write(&mut stream, b"HTTP/1.1 400 Bad \x1b[31mRequest\r\n");
    });

    let error = &finished.code(1).json_error()["error"];
    assert_eq!(error["code"], "qmp.response-invalid");
    let message = error["message"].as_str().expect("it has one");
    assert!(message.contains("400 Bad") && !message.contains('\x1b'), "{message}");
    assert_eq!(home.json(&["ls"])[0]["name"], json!("web"));
    home.json(&["stop", "web", "--force"]);
}
