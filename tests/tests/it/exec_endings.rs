//! `exec` when the guest, its agent or the user ends it: each way has its exit code, within seconds.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use maqet_testkit::guest::{DebianFiles, Shell, debian_yaml};
use maqet_testkit::wait::{LONG, until};
use maqet_testkit::{Maqet, Running, TestHome};
use rustix::process::{Pid, Signal, kill_process};

use crate::debian::Booted;
use crate::first_boot::make_key;

/// How long the end may take: the agent gets four seconds to answer, and the host may be busy.
const SOON: Duration = Duration::from_secs(15);

/// Asserts that a command is not started, with this code, soon.
#[track_caller]
fn assert_refused(booted: &Booted, code: &str) {
    let began = Instant::now();

    let refused = booted.exec(["--", "true"]).env("MAQET_FORMAT", "json").run();

    assert_eq!((refused.json_error()["error"]["code"].as_str(), refused.code), (Some(code), Some(125)));
    assert!(began.elapsed() < SOON, "{code}: {:?}", began.elapsed());
}

/// Returns the socket with this name in the private directory of the run.
fn socket(booted: &Booted, name: &str) -> PathBuf {
    let files = booted.0.files();
    files.into_iter().find(|path| path.ends_with(name)).unwrap_or_else(|| panic!("there is no {name}"))
}

/// Sends a request to the agent as a foreign program does, and returns its reply.
fn request(booted: &Booted, command: &str) -> String {
    let mut agent = UnixStream::connect(socket(booted, "agent.sock")).unwrap();
    agent.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    writeln!(agent, "{{\"execute\":\"{command}\"}}").unwrap();
    let mut reply = String::new();
    BufReader::new(agent).read_line(&mut reply).unwrap();
    reply
}

/// One test, as its parts take turns at one guest: each on its own would keep a thread from other tests meanwhile.
#[test]
fn test_exec_in_a_debian_guest_that_ends_it_has_the_reason() {
    let booted = Booted::get();
    let _turn = booted.turn();
    for part in [
        with_a_stopped_agent_ends_soon,
        stopped_process_that_has_the_agent_is_named,
        with_a_restricted_agent_names_the_reason,
        with_a_flooding_agent_ends_soon,
        timeout_cuts_the_wait_for_the_agent,
        signals_reach_the_process_group,
    ] {
        part(&booted);
    }
}

/// A stopped agent: a command whose end is not known is lost, and the next one is not started.
fn with_a_stopped_agent_ends_soon(booted: &Booted) {
    let mut shell = Shell::of(&booted.0);

    let lost = booted.shell("echo begun; kill -STOP $(pidof qemu-ga); exit 3");
    assert_refused(booted, "guest.agent-unresponsive");
    shell.run(&["kill -CONT $(pidof qemu-ga)"]);

    assert_eq!((lost.code, lost.stdout.as_str()), (Some(255), "begun\n"), "{}", lost.stderr);
    assert_eq!(booted.shell("echo again").stdout, "again\n");
}

/// A stopped `exec` that has the agent keeps it; the others name it, and go on once it does.
fn stopped_process_that_has_the_agent_is_named(booted: &Booted) {
    let mut shell = Shell::of(&booted.0);
    let lock = File::open(socket(booted, "agent.lock")).unwrap();
    let signal = |running: &Running, signal| {
        let pid = Pid::from_raw(i32::try_from(running.pid()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    };

    // It waits for an agent that does not answer.
    shell.run(&["kill -STOP $(pidof qemu-ga)"]);
    let stopped = booted.exec(["--", "true"]).spawn();
    until(LONG, "the agent to be in use", || match lock.try_lock() {
        Ok(()) => {
            lock.unlock().unwrap();
            None
        }
        Err(_) => Some(()),
    });
    signal(&stopped, Signal::STOP);
    shell.run(&["kill -CONT $(pidof qemu-ga)"]);
    let refused = booted.exec(["--", "true"]).env("MAQET_FORMAT", "json").run();
    let pid = stopped.pid();
    signal(&stopped, Signal::CONT);
    let _ = stopped.wait();

    let error = &refused.json_error()["error"];
    assert_eq!((error["code"].as_str(), refused.code), (Some("guest.agent-busy"), Some(125)), "{error}");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(&format!("process {pid} uses the guest agent and is stopped")), "{error}");
    assert_eq!(booted.shell("echo again").stdout, "again\n");
}

/// Frozen file systems, and an agent that must not run commands, are said to be the reason.
fn with_a_restricted_agent_names_the_reason(booted: &Booted) {
    let mut shell = Shell::of(&booted.0);

    let frozen = request(booted, "guest-fsfreeze-freeze");
    assert_refused(booted, "guest.agent-conflict");
    let thawed = request(booted, "guest-fsfreeze-thaw");
    shell.run(&["systemctl stop qemu-guest-agent", "/usr/sbin/qemu-ga -d -b guest-exec -f /run/restricted.pid"]);
    booted.wait_for_agent();
    assert_refused(booted, "guest.command-unsupported");
    shell.run(&["pid=$(cat /run/restricted.pid)", "while kill $pid 2>/dev/null; do sleep 0.1; done"]);
    let stopped = booted.exec(["--", "true"]).env("MAQET_FORMAT", "json").run();
    shell.run(&["systemctl start qemu-guest-agent"]);
    booted.wait_for_agent();

    assert!(frozen.contains("return") && thawed.contains("return"), "{frozen} {thawed}");
    assert_eq!(stopped.json_error()["error"]["code"], "guest.agent-unavailable");
    assert_eq!(booted.shell("echo again").stdout, "again\n");
}

/// A guest that floods the channel of the agent costs neither time nor memory, and is forgotten afterward.
fn with_a_flooding_agent_ends_soon(booted: &Booted) {
    let mut shell = Shell::of(&booted.0);
    let port = "/dev/virtio-ports/org.qemu.guest_agent.0";

    shell.run(&["systemctl stop qemu-guest-agent", &format!("yes >{port} & echo $! >/run/flood.pid")]);
    shell.run(&["sleep 0.2"]);
    assert_refused(booted, "guest.agent-unresponsive");
    shell.run(&["kill $(cat /run/flood.pid)", "systemctl start qemu-guest-agent"]);

    booted.wait_for_agent();
    assert_eq!(booted.shell("echo again").stdout, "again\n");
}

/// The lock of the agent is waited for no longer than the timeout.
fn timeout_cuts_the_wait_for_the_agent(booted: &Booted) {
    let lock = File::open(socket(booted, "agent.lock")).unwrap();
    lock.lock().unwrap();
    let report = booted.0.path("cut.json");

    let cut = booted.exec(["--timeout", "1s", "--report", report.to_str().unwrap(), "--", "true"]).run();

    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    assert_eq!((cut.code, report["outcome"].as_str()), (Some(124), Some("timed-out")), "{}", cut.stderr);
    assert_eq!(report["reason"], "it was not started yet");
}

/// Starts `exec` of a script that has a child and prints a line, and returns it once the line is there.
fn begun(booted: &Booted) -> Child {
    let script = "trap 'echo caught >&2; kill $!' INT; sleep 986 & echo begun; wait; wait; exit 5";
    let mut command = booted.exec(["--kill-after", "30s", "--", "sh", "-c", script]).into_command();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "begun\n");
    child
}

/// Signals reach the process group of the command; the exit code is that of the command, or of the signal.
fn signals_reach_the_process_group(booted: &Booted) {
    let signal = |child: &Child, signal| {
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    };

    let terminated = begun(booted);
    signal(&terminated, Signal::TERM);
    let terminated = terminated.wait_with_output().unwrap();
    let interrupted = begun(booted);
    signal(&interrupted, Signal::INT);
    let interrupted = interrupted.wait_with_output().unwrap();

    assert_eq!(terminated.status.code(), Some(143));
    let stderr = String::from_utf8_lossy(&interrupted.stderr);
    assert_eq!((interrupted.status.code(), stderr.lines().next()), (Some(5), Some("caught")), "{stderr}");
    let left = booted.shell("grep -ls '^sleep.986' /proc/[0-9]*/cmdline | wc -l");
    assert_eq!(left.stdout, "0\n");
}

/// A guest with an agent and a server for SSH, which QEMU keeps after a panic.
struct Ending(TestHome);

impl Ending {
    fn boot() -> Self {
        let home = TestHome::new();
        make_key(&home, "login");
        let yaml = debian_yaml("ends", &DebianFiles::built()).replace(" systemd.mask=ssh.service", "");
        let network = "network: [{mode: user, forward: [\"0:22\"]}]\npanic: pause\nssh: {user: root, key: login}\n";
        let yaml = home.write("ends.yaml", yaml + network);
        home.maqet(["add"]).arg(&yaml).run().ok();
        home.json(&["start", "ends"]);
        let ending = Self(home);
        ending.serve();
        ending
    }

    fn exec<const N: usize>(&self, arguments: [&str; N]) -> Maqet {
        self.0.maqet(["exec", "ends"]).args(arguments).deadline(Duration::from_mins(3))
    }

    /// Waits for the agent, has the guest take the key, and waits for the server.
    fn serve(&self) {
        let wait = |condition: &str| {
            let wait = self.0.maqet(["wait", "ends", "--for", condition, "--timeout", "4m"]);
            wait.deadline(Duration::from_mins(5)).run().ok();
        };
        wait("agent");
        let key = std::fs::read_to_string(self.0.path("login.pub")).unwrap();
        let keys = format!("set -e; mkdir -p -m 700 .ssh; echo '{}' >.ssh/authorized_keys", key.trim());
        self.exec(["--", "sh", "-c", &format!("{keys}; modprobe pvpanic-mmio")]).run().ok();
        wait("ssh");
    }

    /// Starts a command in each way, returns them once they have begun, and ends the guest by this request to its kernel.
    fn end(&self, key: &str) -> Vec<(&'static str, Running)> {
        let ways = ["ports", "agent", "ssh"];
        let running = ways.map(|via| {
            let script = format!("touch /run/begun-{via}; exec sleep 985");
            let report = self.0.path(via);
            let exec = ["--via", via, "--report", report.to_str().unwrap(), "--", "sh", "-c", &script];
            (via, self.exec(exec).spawn())
        });
        let begun = "until [ -e /run/begun-ports -a -e /run/begun-agent -a -e /run/begun-ssh ]; do sleep 0.1; done";
        self.exec(["--", "sh", "-c", begun]).run().ok();
        let _ = self.exec(["--detach", "--", "sh", "-c", &format!("echo {key} >/proc/sysrq-trigger")]).run();
        running.into()
    }

    /// Asserts that all of them end with the guest, for this reason.
    #[track_caller]
    fn assert_ended(&self, running: Vec<(&'static str, Running)>, reason: &str) {
        for (via, running) in running {
            let ended = running.wait();
            let report: serde_json::Value = serde_json::from_slice(&std::fs::read(self.0.path(via)).unwrap()).unwrap();
            assert_eq!((ended.code, report["outcome"].as_str()), (Some(255), Some("vm-ended")), "{via}: {report}");
            assert_eq!(report["reason"], reason, "{via}: {report}");
        }
    }
}

/// Whichever way a command goes: if its guest does not go on, neither does it.
#[test]
fn test_exec_ends_with_a_guest_that_resets_or_panics() {
    let ending = Ending::boot();

    let running = ending.end("b");
    ending.assert_ended(running, "the guest was reset");
    ending.serve();
    let running = ending.end("c");
    ending.assert_ended(running, "the guest's kernel panicked");
}
