//! `qmp shell` on real QEMU: on a real pseudo-terminal, and with a script.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use maqet_testkit::{Finished, Running, Terminal, TestHome, guest, wait};
use serde_json::{Value, json};

const TIMEOUT: Duration = Duration::from_mins(1);

const CTRL_C: &str = "\u{3}";
const CTRL_D: &str = "\u{4}";
const UP: &str = "\u{1b}[A";

const PROMPT: &str = "web> ";

fn with_web() -> TestHome {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    home.json(&["start", "web"]);
    home
}

/// A shell at a terminal.
struct Shell {
    terminal: Terminal,
    modes: String,
    running: Running,
}

impl Shell {
    /// Opens a shell with JSON output.
    fn open(home: &TestHome, arguments: &[&str]) -> Self {
        Self::of(home, &[&["--format", "json"], arguments].concat())
    }

    fn of(home: &TestHome, arguments: &[&str]) -> Self {
        let terminal = Terminal::new();
        let modes = terminal.modes();
        let command = home.maqet(["qmp", "shell", "web"]).args(arguments).env("TERM", "xterm");
        let running = command.on(&terminal).spawn();
        let shell = Self { terminal, modes, running };
        shell.wait_for(0, PROMPT);
        shell
    }

    /// Types a line, waits for the expected output, and returns all output since.
    fn query(&self, line: &str, answer: &str) -> String {
        let past = self.terminal.shown().len();
        self.terminal.type_keys(format!("{line}\r"));
        self.wait_for(past, answer);
        // The echo contains the current prompt.
        let behind = self.terminal.shown()[past..].find(answer).unwrap() + past;
        self.wait_for(behind, PROMPT);
        self.terminal.shown()[past..].to_owned()
    }

    /// Presses Ctrl-C and waits for the next prompt.
    fn clear(&self) {
        let past = self.terminal.shown().len();
        self.terminal.type_keys(CTRL_C);
        self.wait_for(past, PROMPT);
    }

    fn wait_for(&self, past: usize, text: &str) {
        self.terminal.wait_for(past, text);
    }

    /// Waits for the end, and asserts that the terminal modes are restored and `last` is its last output.
    fn ends(self, last: &str) -> Finished {
        let finished = self.running.wait();
        assert_eq!(self.terminal.modes(), self.modes);
        self.terminal.wait_for(0, last);
        finished
    }
}

fn signal(name: &str, pid: u32) {
    assert!(Command::new("kill").args([format!("-{name}"), pid.to_string()]).status().unwrap().success());
}

/// Runs a script of commands; returns its exit code and the replies.
fn script(home: &TestHome, arguments: &[&str], lines: &str) -> (Option<i32>, Vec<Value>) {
    let file = home.write("script", lines);
    let finished = home.maqet(["qmp", "shell", "web"]).args(arguments).stdin(fs::File::open(file).unwrap()).run();
    (finished.code, finished.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[test]
fn test_shell_replies_completes_and_restores_terminal() {
    let home = with_web();
    let shell = Shell::open(&home, &[]);

    shell.query("query-na\t", "\"name\": \"web\"");
    shell.query("qom-list pa\t/machine", "\"type\"");
    shell.query("{\"execute\": \"query-name\"}", "\"name\": \"web\"");
    let refused = shell.query("query-nam", "QEMU has no command `query-nam`");
    let invalid = shell.query("qom-list path='", "unclosed `'`");
    shell.terminal.type_keys(CTRL_D);

    assert!(refused.contains("did you mean") && refused.contains("`query-name`"), "{refused}");
    assert!(invalid.contains("error"), "{invalid}");
    shell.ends(PROMPT).ok();
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_shell_pasted_lines_are_all_executed() {
    let home = with_web();
    let shell = Shell::open(&home, &[]);

    let past = shell.terminal.shown().len();
    shell.terminal.type_keys("query-name\rquery-uuid\r");
    shell.wait_for(past, "\"UUID\"");
    let past = shell.terminal.shown().len();
    shell.terminal.type_keys("\x1b[200~query-name\nquery-kvm\x1b[201~\r");
    shell.wait_for(past, "\"present\"");
    let behind = shell.terminal.shown()[past..].find("\"present\"").unwrap() + past;
    shell.wait_for(behind, PROMPT);
    shell.terminal.type_keys(CTRL_D);

    shell.ends(PROMPT).ok();
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_shell_text_output_has_greeting_replies_and_errors() {
    let home = with_web();
    let shell = Shell::of(&home, &[]);

    shell.query("human-monitor-command command-line='info name'", "\nweb\r\n");
    let refused = shell.query("query-nam", "QEMU has no command `query-nam`");
    let leaving = shell.query("exit", "QEMU has no command `exit`");
    shell.terminal.type_keys(CTRL_D);

    assert!(refused.contains("run `query-commands`") && !refused.contains("maqet qmp"), "{refused}");
    assert!(leaving.contains("press Ctrl-D to exit"), "{leaving}");
    shell.ends("connected to QEMU of `web`; Tab completes, Ctrl-D exits").ok();
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_shell_completes_values_and_lists_candidates() {
    let home = with_web();
    let shell = Shell::open(&home, &[]);
    let past = shell.terminal.shown().len();

    shell.terminal.type_keys("set-action pan\tpa\t");
    shell.wait_for(past, "panic=pause");
    shell.terminal.type_keys("\r");
    shell.wait_for(past, "{}");
    let past = shell.terminal.shown().len();
    shell.terminal.type_keys("set-action \t\t");
    shell.wait_for(past, "watchdog=");
    shell.clear();
    shell.terminal.type_keys(CTRL_D);

    shell.ends(PROMPT).ok();
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_shell_events_appear_above_edited_line() {
    let home = with_web();
    let shell = Shell::open(&home, &[]);
    let past = shell.terminal.shown().len();

    shell.terminal.type_keys("query-na");
    shell.wait_for(past, "query-na");
    home.json(&["resume", "web"]);
    shell.wait_for(past, "RESUME");
    let past = past + shell.terminal.shown()[past..].find("RESUME").unwrap();
    shell.wait_for(past, "web> query-na");
    shell.query("me", "\"name\": \"web\"");
    let own = shell.query("stop", "{}");
    shell.terminal.type_keys(CTRL_D);

    assert!(own.find("STOP").unwrap() < own.find("{}").unwrap(), "{own}");
    shell.ends(PROMPT).ok();
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_shell_ctrl_c_clears_only_the_line() {
    let home = with_web();
    let shell = Shell::open(&home, &[]);
    let past = shell.terminal.shown().len();

    shell.terminal.type_keys("quit");
    shell.wait_for(past, "quit");
    shell.clear();
    shell.query("query-name", "\"name\": \"web\"");
    shell.terminal.type_keys(CTRL_D);

    shell.ends(PROMPT).ok();
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_shell_ctrl_c_cancels_wait_and_session_continues() {
    let home = with_web();
    let fifo = home.path("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let shell = Shell::open(&home, &["--allow-dangerous"]);
    let past = shell.terminal.shown().len();

    // QEMU opens the FIFO in its main loop, and waits there for a reader.
    shell.terminal.type_keys(format!("pmemsave val=0 size=16 filename={}\r", fifo.display()));
    wait::until(TIMEOUT, "the main loop to hang", || (home.json(&["status", "web"])["status"] == "busy").then_some(()));
    // The signal that Ctrl-C sends while no line is edited.
    signal("INT", shell.running.pid());
    shell.wait_for(past, "no longer waiting for `pmemsave`");
    fs::read(fifo).unwrap();
    shell.query("query-name", "\"name\": \"web\"");
    shell.terminal.type_keys(CTRL_D);

    shell.ends(PROMPT).ok();
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_shell_resumed_after_ctrl_z_keeps_the_line() {
    let home = with_web();
    let terminal = Terminal::new();
    let shell = home.maqet(["qmp", "shell", "web"]).into_command();
    let line = format!("{} qmp shell web --format json\r", shell.get_program().display());
    // Job control needs a program in a session of its own whose controlling terminal this is.
    let mut bash = Command::new("setsid")
        .args(["--ctty", "--wait", "bash", "--norc", "-i"])
        .env_clear()
        .envs(home.environment())
        .envs([("TERM", "xterm"), ("PS1", "bash> ")])
        .stdin(terminal.stdio())
        .stdout(terminal.stdio())
        .stderr(terminal.stdio())
        .spawn()
        .unwrap();
    terminal.wait_for(0, "bash> ");
    terminal.type_keys(line);
    terminal.wait_for(0, PROMPT);

    terminal.type_keys("query-na");
    terminal.wait_for(0, "query-na");
    terminal.type_keys("\u{1a}");
    terminal.wait_for(0, "Stopped");
    let past = terminal.shown().len();
    terminal.type_keys("fg\r");
    terminal.wait_for(past, "web> query-na");
    terminal.type_keys("me\r");
    terminal.wait_for(past, "\"name\": \"web\"");
    home.json(&["stop", "web", "--force"]);
    terminal.wait_for(past, "VM `web` has stopped");
    terminal.type_keys("exit\r");

    wait::until(TIMEOUT, "the end of bash", || bash.try_wait().unwrap());
}

#[test]
fn test_shell_of_ended_vm_reports_it_and_exits() {
    let home = with_web();
    let shell = Shell::open(&home, &[]);
    shell.terminal.type_keys("half a li");

    home.json(&["stop", "web", "--force"]);

    shell.ends("VM `web` has stopped: QEMU was terminated by a signal").code(4);
}

#[test]
fn test_shell_after_quit_command_exits_successfully() {
    let home = with_web();
    let shell = Shell::open(&home, &[]);

    shell.terminal.type_keys("quit\r");
    shell.wait_for(0, "SHUTDOWN");

    shell.ends("QEMU of `web` has exited").ok();
}

#[test]
fn test_shell_ended_by_signal_restores_terminal() {
    let home = with_web();
    for name in ["TERM", "HUP", "QUIT"] {
        let shell = Shell::open(&home, &[]);
        shell.terminal.wait_until_raw();
        shell.terminal.type_keys("half a li");

        signal(name, shell.running.pid());

        shell.ends("\u{1b}[?2004l").code(130);
    }
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_shell_history_is_kept_without_secrets() {
    let home = with_web();
    let first = Shell::open(&home, &[]);
    first.query("query-name", "\"name\": \"web\"");
    first.query(" query-uuid", "\"UUID\"");
    first.query("set_password protocol=vnc password=hunter2", "error");
    first.terminal.type_keys(CTRL_D);
    first.ends(PROMPT).ok();

    let second = Shell::open(&home, &[]);
    second.query(UP, "\"name\": \"web\"");
    second.terminal.type_keys(CTRL_D);
    second.ends(PROMPT).ok();

    let file = home.state().join("qmp-history");
    assert_eq!(fs::read_to_string(&file).unwrap(), "query-name\nquery-name\n");
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_shell_script_prints_replies_and_stops_at_first_failure() {
    let home = with_web();
    let lines = "query-name\n\n# nothing\n{\"execute\": \"query-uuid\"}\nquery-nam\nqom-list\nstop\n";

    let (code, answers) = script(&home, &[], lines);
    let (good, none) = (script(&home, &["--format", "yaml"], "query-name\nquery-name"), script(&home, &[], ""));

    assert_eq!(answers[0], json!({"return": {"name": "web"}}));
    assert!(answers[1]["return"]["UUID"].is_string(), "{answers:?}");
    assert_eq!(answers[2]["error"]["code"], "qmp.command-not-found");
    assert_eq!(answers[3]["error"]["code"], "qmp.argument-required");
    assert_eq!((&answers[4..], code), ([json!({"return": {}})].as_slice(), Some(2)));
    assert_eq!((good.0, good.1.len()), (Some(0), 2));
    assert_eq!(none, (Some(0), Vec::new()));
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_shell_script_host_access_requires_flag() {
    let home = with_web();
    let line = "human-monitor-command command-line='gva2gpa 0'\n";

    let (code, refused) = script(&home, &[], line);
    let (_, done) = script(&home, &["--allow-dangerous"], line);

    assert_eq!((code, &refused[0]["error"]["code"]), (Some(2), &json!("qmp.host-access-refused")));
    assert_ne!(done[0]["error"]["code"], "qmp.host-access-refused");
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_shell_script_checks_device_properties_as_run() {
    let home = with_web();

    let (code, answers) = script(&home, &[], "device_add driver=virtio-rng-pci rngg=x\n");

    assert_eq!((code, &answers[0]["error"]["code"]), (Some(2), &json!("qmp.argument-not-found")));
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_shell_script_unreadable_is_reported() {
    let home = with_web();
    let file = home.write("script", "query-name\n");
    fs::write(&file, b"\xff\n").unwrap();

    let finished = home.maqet(["qmp", "shell", "web"]).stdin(fs::File::open(file).unwrap()).run();

    assert_eq!(finished.code, Some(2));
    assert!(finished.stderr.contains("cannot read `standard input`"), "{}", finished.stderr);
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_shell_script_quit_succeeds_and_ends_script() {
    let home = with_web();

    let (code, answers) = script(&home, &[], "quit\n");
    home.json(&["start", "web"]);
    let (further, less) = script(&home, &[], "quit\nquery-name\n");

    assert_eq!((code, answers), (Some(0), vec![json!({"return": {}})]));
    assert_eq!((further, less), (Some(4), vec![json!({"return": {}})]));
}

#[test]
fn test_shell_script_waiting_ends_with_vm() {
    let home = with_web();
    let mut command = home.maqet(["qmp", "shell", "web"]).into_command();
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut keys = child.stdin.take().unwrap();
    keys.write_all(b"query-name\n").unwrap();
    let mut answer = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut answer).unwrap();

    home.json(&["stop", "web", "--force"]);

    let status = wait::until(TIMEOUT, "its end", || child.try_wait().unwrap());
    assert_eq!((answer.as_str(), status.code()), ("{\"return\":{\"name\":\"web\"}}\n", Some(4)));
}

#[test]
fn test_shell_of_stopped_vm_is_refused() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));

    assert_eq!(home.json_error(&["qmp", "shell", "web"], 4)["code"], "vm.status-conflict");
    assert_eq!(home.json_error(&["qmp", "shell", "wep"], 3)["code"], "vm.not-found");
}
