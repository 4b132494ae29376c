//! `network: passt`: a program that runs alongside QEMU, and starts and exits with it.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use maqet_testkit::{TestHome, guest, port, serial, wait};
use serde_json::{Value, json};

/// Longer than anything here takes on a busy host.
const LONG: Duration = Duration::from_secs(90);

fn network(port: u16) -> String {
    format!("network: {{mode: passt, forward: [\"{port}:80\"]}}\n")
}

/// Returns the processes whose arguments name this home.
fn running(home: &TestHome) -> Vec<PathBuf> {
    let program = |pid: i32| fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    home.processes().into_iter().map(|process| program(process.pid)).collect()
}

/// Returns the passt processes of VMs of this home.
fn passts(home: &TestHome) -> Vec<PathBuf> {
    running(home).into_iter().filter(|program| program.to_string_lossy().contains("passt")).collect()
}

#[track_caller]
fn assert_no_passt(home: &TestHome) {
    wait::until(LONG, "the end of passt", || passts(home).is_empty().then_some(()));
}

#[test]
fn test_passt_listens_while_vm_runs_and_ends_with_stop() {
    let home = TestHome::new();
    let port = port::free();
    home.add(&(guest::paused_yaml("web") + &network(port)));

    let started = home.json(&["start", "web"]);

    assert_eq!(started["status"], "paused");
    assert_eq!((&started["forwards"][0]["host_port"], passts(&home).len()), (&json!(port), 1));
    TcpStream::connect(("127.0.0.1", port)).unwrap();

    home.json(&["stop", "web", "--force"]);
    assert_eq!(passts(&home), Vec::<PathBuf>::new());
    assert_eq!(home.stale_files().into_iter().filter(|path| path.starts_with(home.runtime())).count(), 0);

    // The port is free again.
    home.json(&["start", "web"]);
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_passt_ends_when_qemu_is_killed() {
    let home = TestHome::new();
    home.add(&(guest::paused_yaml("web") + &network(port::free())));
    let pid = home.json(&["start", "web"])["pid"].to_string();

    assert!(std::process::Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());

    assert_no_passt(&home);
    assert_eq!(home.json(&["status", "web"])["status"], "stopped");
}

#[test]
fn test_passt_of_failed_start_ends() {
    let home = TestHome::new();
    let yaml = guest::paused_yaml("web") + &network(port::free());
    home.add(&yaml);
    home.json(&["apply", "web", "--set", "cpu_model=nonsense"]);

    assert_eq!(home.json_error(&["start", "web"], 2)["code"], "qemu.cpu-model-not-found");

    assert_eq!(passts(&home), Vec::<PathBuf>::new());
    assert_eq!(home.json(&["status", "web"])["status"], "defined");
}

#[test]
fn test_passt_port_in_use_fails_start_with_its_message() {
    let home = TestHome::new();
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    // The passt of the first card is up by the time that of the second one fails.
    let cards = format!("network:\n  - {{mode: passt}}\n  - {{mode: passt, forward: [\"{port}:80\"]}}\n");
    home.add(&(guest::paused_yaml("web") + &cards));

    let error = home.json_error(&["start", "web"], 75);

    assert_eq!(error["code"], "host.port-in-use", "{error}");
    assert!(error["causes"][0].as_str().unwrap().contains(&format!("127.0.0.1/{port}:80")), "{error}");
    assert_eq!(passts(&home), Vec::<PathBuf>::new());
    assert_eq!((home.qemu_pids(), &home.json(&["status", "web"])["status"]), (vec![], &json!("defined")));
}

#[test]
fn test_passt_not_installed_suggests_package() {
    let home = TestHome::new();
    home.add(&(guest::paused_yaml("web") + &network(port::free())));

    let start = home.maqet(["start", "web", "--format", "json"]).env("PATH", home.folder_of_qemu()).run().code(69);

    let error = start.json_error()["error"].clone();
    assert_eq!(error["code"], "host.tool-not-found", "{error}");
    assert!(error["hints"][0].as_str().unwrap().contains("apt install passt"), "{error}");
}

#[test]
fn test_passt_of_killed_start_ends_with_next_command() {
    let home = TestHome::new();
    home.add(&(guest::paused_yaml("web") + &network(port::free())));
    // A QEMU that never answers: its start is killed while passt waits for it.
    let mute = home.write(
        "bin/qemu-system-x86_64",
        "#!/bin/sh\n[ \"$1\" = --version ] && echo 'QEMU emulator version 7.2.0' && exit\nexec tail -f \"$0\"\n",
    );
    fs::set_permissions(&mute, fs::Permissions::from_mode(0o700)).unwrap();
    let path = format!("{}:{}", home.path("bin").display(), std::env::var("PATH").unwrap());
    let starter = home.maqet(["start", "web"]).env("PATH", path).spawn();
    let is_up = |program: &str| running(&home).iter().any(|path| path.to_string_lossy().contains(program));
    wait::until(LONG, "a QEMU that never answers", || is_up("tail").then_some(()));
    let _killed = starter.kill();
    assert_eq!(passts(&home).len(), 1);

    home.json(&["rm", "web", "--force"]);

    assert_eq!(passts(&home), Vec::<PathBuf>::new());
}

#[test]
fn test_passt_is_first_in_shell_command_line() {
    let home = TestHome::new();
    home.add(&(guest::paused_yaml("web") + &network(2222)));

    let info = home.json(&["info", "web", "--command-line"]);

    let line = info["command_line"].as_str().unwrap();
    let (passt, qemu) = line.split_once(" && ").unwrap();
    assert!(passt.starts_with("passt --one-off ") && passt.ends_with(" --tcp-ports 127.0.0.1/2222:80"), "{passt}");
    assert!(qemu.contains("qemu-system-") && !info["argv"].to_string().contains("--one-off"), "{qemu}");
}

#[test]
fn test_passt_with_port_zero_is_refused() {
    let home = TestHome::new();
    home.write("vm.yaml", "name: web\nnetwork: {mode: passt, forward: [\"0:22\"]}\n");

    let error = home.json_error(&["config", "check", "vm.yaml"], 2);

    let problem: &Value = &error["problems"][0];
    assert_eq!(problem["path"], "network.forward");
    assert!(problem["message"].as_str().unwrap().contains("set the host port"), "{problem}");
}

/// Returns the address passt assigns to a guest: that of the host's outgoing interface.
fn address() -> String {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    // Sends nothing; the address is reserved for documentation (RFC 5737).
    socket.connect("198.51.100.1:9").expect("passt needs a host with a route out");
    socket.local_addr().unwrap().ip().to_string()
}

/// Fetches the first page of a web server.
fn fetched(port: u16) -> std::io::Result<String> {
    let mut connection = TcpStream::connect(("127.0.0.1", port))?;
    connection.set_read_timeout(Some(Duration::from_secs(5)))?;
    connection.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn test_passt_guest_answers_at_forwarded_port() {
    let home = TestHome::new();
    let port = port::free();
    home.add(&(guest::linux_yaml("web", &guest::Files::built()) + &network(port)));
    let started = home.json(&["start", "web"]);
    serial::wait_for(Path::new(started["serial_log"].as_str().unwrap()), guest::READY, LONG);

    let mut console = serial::Line::of(&home);
    let lines = [
        "load virtio_net",
        &format!("ip addr add {}/32 dev eth0; ip link set eth0 up; ip route add default dev eth0", address()),
        "mkdir /www; echo 'the guest answers' >/www/index.html; httpd -h /www",
    ];
    console.write_all((lines.join("\n") + "\n").as_bytes()).unwrap();

    wait::until(LONG, "the answer of the guest's web server", || {
        fetched(port).ok().filter(|answer| answer.ends_with("the guest answers\n"))
    });
    home.json(&["stop", "web", "--force"]);
    assert_no_passt(&home);
}
