//! `console` on real QEMU, at a real pseudo-terminal and in pipes.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use maqet_testkit::{Running, Shared, Terminal, TestHome, guest, process, serial, wait};
use serde_json::{Value, json};

/// The key that detaches.
const CTRL_BRACKET: &str = "\u{1d}";

const CTRL_C: &str = "\u{3}";

/// A Linux guest with a shell on its serial port, shared by the tests, which take turns at its console.
struct Booted {
    home: TestHome,
    console: Mutex<()>,
    serial_log: String,
}

static BOOTED: Shared<Booted> = Shared::new();

impl Booted {
    fn boot() -> Self {
        let home = TestHome::new();
        home.add(&guest::linux_yaml("web", &guest::Files::built()));
        let started = home.json(&["start", "web"]);
        let serial_log = started["serial_log"].as_str().unwrap().to_owned();
        serial::wait_for(serial_log.as_ref(), guest::READY, Duration::from_secs(90));
        Self { home, console: Mutex::new(()), serial_log }
    }

    /// Waits for exclusive use of the console.
    fn turn(&self) -> MutexGuard<'_, ()> {
        self.console.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_running(&self) -> bool {
        self.home.json(&["status", "web"])["status"] == "running"
    }
}

/// Attaches on a terminal and returns once keys reach the guest.
fn attach(home: &TestHome, terminal: &Terminal, arguments: &[&str]) -> Running {
    let console = home.maqet(["console", "web"]).args(arguments).on(terminal).spawn();
    terminal.wait_until_raw();
    console
}

fn standing_still() -> TestHome {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    home.json(&["start", "web"]);
    home
}

fn signal(name: &str, pid: &Value) {
    assert!(Command::new("kill").args([format!("-{name}"), pid.to_string()]).status().unwrap().success());
}

/// Starts a guest that prints without end; returns its serial log.
fn flooding() -> (TestHome, PathBuf) {
    let home = TestHome::new();
    let image = guest::BootSector::new("maqet-flood", guest::AfterMarker::Flood).write(&home);
    home.add(&guest::BootSector::yaml("web", &image));
    let log = PathBuf::from(home.json(&["start", "web"])["serial_log"].as_str().unwrap());
    serial::wait_for(&log, "XYZ", wait::LONG);
    (home, log)
}

/// Waits until a log has grown by more than pipes, sockets and buffers hold.
#[track_caller]
fn wait_for_growth(log: &Path) {
    let length = || fs::metadata(log).unwrap().len();
    let before = length();
    wait::until(Duration::from_mins(1), "the guest to print on", || (length() > before + (2 << 20)).then_some(()));
}
#[test]
fn test_console_on_terminal_talks_to_guest_and_restores_modes() {
    let guest = BOOTED.get_or_make(Booted::boot);
    let _turn = guest.turn();
    let terminal = Terminal::new();
    let before = terminal.modes();
    let console = attach(&guest.home, &terminal, &[]);

    terminal.type_keys("echo a$((20+22))b\r");
    terminal.wait_for(0, "a42b");
    signal("WINCH", &json!(console.pid()));
    terminal.type_keys("echo c$((20+23))d\r");
    terminal.wait_for(0, "c43d");
    terminal.type_keys(CTRL_BRACKET);
    console.wait().ok();

    assert_eq!(terminal.modes(), before);
    terminal.wait_for(0, "detached from `web`, which keeps running");
    let shown = terminal.shown();
    assert!(shown.starts_with("attached to the serial console of `web`; Ctrl-] detaches\r\n"), "{shown:?}");
    assert!(shown.contains("\u{1b}[?25h"), "{shown:?}");
    assert!(guest.is_running());
}

#[test]
fn test_console_ctrl_c_interrupts_only_the_guest_program() {
    let guest = BOOTED.get_or_make(Booted::boot);
    let _turn = guest.turn();
    let terminal = Terminal::new();
    let console = attach(&guest.home, &terminal, &[]);

    // Of one command: between two, the terminal belongs to the shell.
    terminal.type_keys("sh -c \"echo slee''ps; exec sleep 1000\"\r");
    terminal.wait_for(0, "\nsleeps");
    terminal.type_keys(CTRL_C);
    terminal.type_keys("echo wo''ken\r");
    terminal.wait_for(0, "\nwoken");
    terminal.type_keys(CTRL_BRACKET);

    console.wait().ok();
}

#[test]
fn test_console_of_endless_guest_output_can_be_left() {
    let guest = BOOTED.get_or_make(Booted::boot);
    let _turn = guest.turn();
    let terminal = Terminal::new();

    let console = attach(&guest.home, &terminal, &[]);
    terminal.type_keys("yes fl''ood\r");
    terminal.wait_for(0, "\nflood");
    terminal.type_keys(CTRL_BRACKET);
    console.wait().ok();
    let console = attach(&guest.home, &terminal, &[]);
    terminal.type_keys(CTRL_C);
    terminal.type_keys("echo eb''b\r");
    terminal.wait_for(0, "\nebb");
    terminal.type_keys(CTRL_BRACKET);

    console.wait().ok();
}

#[test]
fn test_console_attach_repeatedly_always_works() {
    let guest = BOOTED.get_or_make(Booted::boot);
    let _turn = guest.turn();
    let terminal = Terminal::new();
    let before = terminal.modes();

    for number in 0..5 {
        let past = terminal.shown().len();
        let console = attach(&guest.home, &terminal, &[]);
        terminal.type_keys(format!("echo turn-$(({number}+100))\r"));
        terminal.wait_for(past, &format!("\nturn-{}", number + 100));
        // Input typed right before detaching arrives; it fits into the buffer of a serial port.
        terminal.type_keys(format!("echo l'{number}'\r{CTRL_BRACKET}"));
        console.wait().ok();
        serial::wait_for(guest.serial_log.as_ref(), &format!("l{number}"), wait::LONG);
        assert_eq!(terminal.modes(), before);
    }
}

#[test]
fn test_console_serial_log_is_written_attached_or_not() {
    let guest = BOOTED.get_or_make(Booted::boot);
    let _turn = guest.turn();
    let terminal = Terminal::new();
    let console = attach(&guest.home, &terminal, &["--tail", "100"]);

    terminal.type_keys("(sleep 2; echo un''seen) & echo se''en\r");
    terminal.wait_for(0, "\nseen");
    terminal.type_keys(CTRL_BRACKET);
    console.wait().ok();
    // What is shown from here on is not of the console.
    terminal.wait_for(0, "detached from");
    serial::wait_for(guest.serial_log.as_ref(), "unseen", wait::LONG);

    assert!(serial::text(guest.serial_log.as_ref()).contains("\nseen"));
    let logs = guest.home.maqet(["logs", "web"]).on(&terminal);
    let past = terminal.shown().len();
    logs.run().ok();
    terminal.wait_for(past, "unseen");
    let shown = terminal.shown()[past..].to_owned();
    assert!(!shown.contains('\u{1b}') && !shown.contains('\u{7}'), "{shown:?}");
    assert!(fs::read_to_string(&guest.serial_log).unwrap().contains('\u{1b}'), "the guest wrote no sequence at all");
}

#[test]
fn test_console_second_client_error_names_holder() {
    let guest = BOOTED.get_or_make(Booted::boot);
    let _turn = guest.turn();
    let terminal = Terminal::new();
    let first = attach(&guest.home, &terminal, &[]);

    let second = guest.home.json_error(&["console", "web"], 75);
    terminal.type_keys("echo st''ill\r");
    terminal.wait_for(0, "\nstill");
    terminal.type_keys(CTRL_BRACKET);
    let pid = first.pid();
    first.wait().ok();

    assert_eq!(second["code"], "console.in-use");
    let cause = second["causes"][0].as_str().unwrap();
    assert!(cause.contains(&format!("`console` (process {pid}, since ")), "{cause}");
    assert!(second["hints"][0].as_str().unwrap().contains("`maqet logs web --follow`"), "{second}");
}

#[test]
fn test_console_in_pipe_ends_once_guest_is_quiet() {
    let guest = BOOTED.get_or_make(Booted::boot);
    let _turn = guest.turn();
    // In a pipe, the detach key is an ordinary byte.
    let input = guest.home.write("input", format!("{CTRL_BRACKET}echo pi''ped\n"));

    let console = guest.home.maqet(["console", "web", "--idle", "3s"]).stdin(fs::File::open(input).unwrap());
    let finished = console.run().ok();

    assert!(finished.stdout.contains("\r\npiped\r\n"), "{:?}", finished.stdout);
    assert_eq!(finished.stderr, "attached to the serial console of `web`\n");
    assert!(guest.is_running());
}

#[test]
fn test_console_every_signal_restores_terminal() {
    let home = standing_still();

    for name in ["INT", "TERM", "HUP", "QUIT"] {
        let terminal = Terminal::new();
        let before = terminal.modes();
        let console = attach(&home, &terminal, &[]);

        signal(name, &json!(console.pid()));
        console.wait().code(130);

        assert_eq!(terminal.modes(), before, "{name}");
    }
    assert_eq!(home.json(&["status", "web"])["status"], "paused");
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_console_qemu_exit_restores_terminal_and_names_reason() {
    for (how, reason) in [("stop", "QEMU was asked to quit"), ("kill", "QEMU crashed or was killed")] {
        let home = standing_still();
        let terminal = Terminal::new();
        let before = terminal.modes();
        let console = attach(&home, &terminal, &[]);

        match how {
            "stop" => drop(home.json(&["stop", "web"])),
            _ => signal("KILL", &home.json(&["status", "web"])["pid"]),
        }
        console.wait().code(4);

        assert_eq!(terminal.modes(), before, "{how}");
        terminal.wait_for(0, &format!("error: VM `web` has stopped: {reason}"));
    }
}

#[test]
fn test_console_suspended_and_resumed_is_raw_again() {
    let home = standing_still();
    let terminal = Terminal::new();
    let before = terminal.modes();
    let console = attach(&home, &terminal, &[]);

    signal("STOP", &json!(console.pid()));
    // As a shell does when its job stops.
    let put_back = Command::new("stty").arg("sane").stdin(terminal.stdio()).status().unwrap();
    assert!(put_back.success() && terminal.is_cooked());
    signal("CONT", &json!(console.pid()));
    terminal.wait_until_raw();
    terminal.type_keys(CTRL_BRACKET);
    console.wait().ok();

    assert_eq!(terminal.modes(), before);
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_console_of_guest_not_reading_can_be_left() {
    let home = standing_still();
    let terminal = Terminal::new();
    let console = attach(&home, &terminal, &["--escape", "^A"]);

    for _ in 0..200 {
        terminal.type_keys([b'x'; 4096]);
    }
    terminal.type_keys(CTRL_BRACKET);
    terminal.type_keys("\u{1}");

    console.wait().ok();
    terminal.wait_for(0, "; Ctrl-A detaches");
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_console_of_stopped_process_can_be_attached_and_left() {
    let home = standing_still();
    let pid = home.json(&["status", "web"])["pid"].clone();
    let terminal = Terminal::new();

    process::suspend(u32::try_from(pid.as_u64().unwrap()).unwrap());
    let console = attach(&home, &terminal, &[]);
    terminal.type_keys(format!("ls\r{CTRL_BRACKET}"));
    console.wait().ok();
    let piped = home.maqet(["console", "web", "--timeout", "100ms"]).run().code(124);
    assert!(piped.stderr.contains("QEMU was stopped by a signal"), "{piped}");

    signal("CONT", &pid);
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_console_client_that_stops_reading_does_not_stop_guest() {
    let (home, log) = flooding();
    // One whose output is not read, and one that is suspended, with its terminal.
    let mut unread = home.maqet(["console", "web"]).stdin(Stdio::piped()).into_command().spawn().unwrap();
    wait_for_growth(&log);
    let _gone_already = unread.kill();
    unread.wait().unwrap();
    let terminal = Terminal::new();
    let suspended = attach(&home, &terminal, &[]);
    signal("STOP", &json!(suspended.pid()));

    wait_for_growth(&log);

    signal("CONT", &json!(suspended.pid()));
    terminal.type_keys(CTRL_BRACKET);
    suspended.wait().ok();
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_console_of_killed_client_is_free_at_once() {
    let home = standing_still();

    for _ in 0..5 {
        let terminal = Terminal::new();
        let console = attach(&home, &terminal, &[]);
        terminal.type_keys("left behind");
        signal("KILL", &json!(console.pid()));
        let _killed = console.wait();

        let free = home.json_error(&["console", "web", "--timeout", "10ms"], 124);
        assert_eq!(free["code"], "console.timed-out");
    }
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_console_input_left_unread_does_not_reach_guest_later() {
    let home = standing_still();
    let input = home.write("input", "left behind\n".repeat(100));
    let command = home.maqet(["console", "web", "--idle", "10ms"]).stdin(fs::File::open(&input).unwrap());
    command.run().ok();
    let pipe = home.files().into_iter().find(|path| path.ends_with("serial.in")).unwrap();

    let pipe = fs::OpenOptions::new().read(true).write(true).open(pipe).unwrap();
    let unread = rustix::io::ioctl_fionread(&pipe).unwrap();

    assert_eq!(unread, 0);
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_console_tail_and_output_have_no_gap_and_no_overlap() {
    let (home, _log) = flooding();

    let shown = home.maqet(["console", "web", "--tail", "3", "--timeout", "1s"]).run().code(124).stdout;

    let line = "ABCDEFGHIJKLMNOPQRSTUVWXYZ\n";
    let whole = shown.trim_end_matches(|one| one != '\n');
    assert!(whole.len() > line.len() * 1_000, "{}", whole.len());
    // Without the output of a megabyte in the message.
    let expected = line.repeat(whole.len() / line.len());
    let differs = whole.bytes().zip(expected.bytes()).position(|(one, other)| one != other);
    assert_eq!((whole.len() % line.len(), differs), (0, None));
    home.json(&["stop", "web", "--force"]);
}

/// Starts a guest with a console at a socket, as older versions of maqet did.
fn with_socket() -> (TestHome, UnixStream) {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    let id = home.json(&["status", "web"])["id"].as_str().unwrap().replace('-', "");
    let folder = home.path("run/maqet").join(&id[..12]).join("b1");
    let socket = folder.join("serial.sock");
    let (pipe, log) = (folder.join("serial.in"), home.path("serial.log"));
    let chardev = "{socket: null, id: serial0, server: \"on\", wait: \"off\"";
    let chardev = format!("{chardev}, path: \"{}\", logfile: \"{}\"}}", socket.display(), log.display());
    home.write(
        "old.yaml",
        guest::paused_yaml("web") + &format!("  - {{chardev: {chardev}}}\n  - {{serial: chardev:serial0}}\n"),
    );
    home.json(&["apply", "web", "old.yaml"]);
    home.json(&["start", "web"]);
    fs::remove_file(pipe).unwrap();
    let stranger = UnixStream::connect(socket).unwrap();
    (home, stranger)
}

#[test]
fn test_console_at_socket_of_older_maqet_is_served_to_one() {
    let (home, stranger) = with_socket();
    wait::until(wait::LONG, "QEMU to serve the stranger", || {
        let sockets = home.json(&["inspect", "web"])["sockets"].clone();
        sockets.as_array().unwrap().iter().any(|one| one["role"] == "serial" && one["connected"] == true).then_some(())
    });

    let taken = home.json_error(&["console", "web"], 75);
    drop(stranger);
    let free = home.json_error(&["console", "web", "--timeout", "100ms"], 124);

    assert_eq!(taken["causes"][0], "another client is attached");
    assert_eq!(free["code"], "console.timed-out");
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_console_without_input_follows_until_vm_stops() {
    let home = TestHome::new();
    let image = guest::BootSector::new("maqet-console", guest::AfterMarker::WaitForByte).write(&home);
    home.add(&guest::BootSector::yaml("web", &image));
    let started = home.json(&["start", "web"]);
    serial::wait_for(started["serial_log"].as_str().unwrap().as_ref(), "maqet-console", wait::LONG);

    // The byte makes the guest exit; the end of the input alone does not.
    let mut with_byte =
        home.maqet(["console", "web", "--tail", "1"]).stdin(Stdio::piped()).into_command().spawn().unwrap();
    with_byte.stdin.take().unwrap().write_all(b"x").unwrap();
    let finished = with_byte.wait_with_output().unwrap();

    assert_eq!(finished.status.code(), Some(4), "{finished:?}");
    assert_eq!(String::from_utf8(finished.stdout).unwrap(), "maqet-console\r\n");
    let stderr = String::from_utf8(finished.stderr).unwrap();
    assert!(stderr.contains("error: VM `web` has stopped: "), "{stderr}");
}

#[test]
fn test_console_with_closed_output_ends() {
    let guest = BOOTED.get_or_make(Booted::boot);
    let _turn = guest.turn();
    let input = guest.home.write("unread", "echo unread\n");

    let command = guest.home.maqet(["console", "web"]).stdin(fs::File::open(input).unwrap());
    let mut console = command.into_command().spawn().unwrap();
    drop(console.stdout.take());
    let ended = wait::try_until(wait::LONG, || console.try_wait().unwrap());
    let _gone_already = console.kill();

    assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
}

#[test]
fn test_console_unavailable_explains_why() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    home.add(&format!("{}serial: none\n", guest::paused_yaml("mute")));
    home.json(&["start", "mute"]);

    let stopped = home.json_error(&["console", "web"], 4);
    let mute = home.json_error(&["console", "mute"], 4);
    let unknown = home.json_error(&["console", "wbe"], 3);
    let escape = home.json_error(&["console", "web", "--escape", "q"], 2);

    assert_eq!((&stopped["code"], &mute["code"]), (&json!("vm.status-conflict"), &json!("console.unavailable")));
    assert!(mute["causes"][0].as_str().unwrap().ends_with("the definition has `serial: none`"), "{mute}");
    assert_eq!((&unknown["code"], &escape["code"]), (&json!("vm.not-found"), &json!("usage.invalid")));
    let none: Vec<Value> = Vec::new();
    assert_eq!(stopped["causes"], json!(none));
    home.json(&["stop", "mute", "--force"]);
}
