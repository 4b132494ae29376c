//! `exec` and `cp` by SSH, in a real Debian guest that cloud-init has set up.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::time::Duration;

use maqet_testkit::{Finished, Maqet, TestHome, guest};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::first_boot::Seeded;

/// Returns `exec` with these arguments; a login takes an emulated guest on a busy host many seconds.
fn exec<const N: usize>(seeded: &Seeded, arguments: [&str; N]) -> Maqet {
    seeded.0.maqet(["exec", "seeded"]).args(arguments).deadline(Duration::from_mins(3))
}

/// Runs a script of a shell by SSH.
fn by_ssh(seeded: &Seeded, script: &str) -> Finished {
    exec(seeded, ["--via", "ssh", "--", "sh", "-c", script]).run()
}

/// Returns the code and the message of the error, and the exit code.
#[track_caller]
fn refused<const N: usize>(seeded: &Seeded, arguments: [&str; N]) -> (String, String, Option<i32>) {
    let failed = exec(seeded, arguments).env("MAQET_FORMAT", "json").run();
    let error = failed.json_error()["error"].take();
    (error["code"].as_str().unwrap().to_owned(), error["message"].as_str().unwrap().to_owned(), failed.code)
}

/// One test, as its parts take turns at one guest.
#[test]
fn test_exec_by_ssh_does_what_the_agent_does() {
    let seeded = Seeded::get();
    let _turn = seeded.turn();
    let wait = seeded.0.maqet(["wait", "seeded", "--for", "ssh", "--for", "cloud-init", "--timeout", "5m"]);
    wait.deadline(Duration::from_mins(6)).run().ok();

    user_is_the_one_of_the_seed(&seeded);
    seeded.0.maqet(["apply", "seeded", "--set", "ssh.user=root"]).run().ok();
    for part in [
        streams_and_exit_code_are_those_of_the_command,
        what_cannot_run_has_the_codes_of_shells,
        input_comes_back_as_it_was,
        signals_reach_the_process_group,
        lost_connection_is_no_exit_code,
        without_an_agent_it_is_the_way,
        key_that_is_not_accepted_is_named,
    ] {
        part(&seeded);
    }
    seeded.0.maqet(["apply", "seeded", "--set", "ssh.user=alice"]).run().ok();
}

/// The user who logs in runs commands as that user; without sudo(8), not as another one.
fn user_is_the_one_of_the_seed(seeded: &Seeded) {
    let script = "id -un; pwd; echo $HOME $A";
    let own = exec(seeded, ["--via", "ssh", "-u", "alice", "-e", "A=b c;'$x", "--", "sh", "-c", script]).run();
    let root = refused(seeded, ["--via", "ssh", "--", "true"]);

    assert_eq!(
        (own.code, own.stdout.as_str()),
        (Some(0), "alice\n/home/alice\n/home/alice b c;'$x\n"),
        "{}",
        own.stderr
    );
    assert_eq!((root.0.as_str(), root.2), ("guest.ssh-unavailable", Some(125)));
    assert!(root.1.contains("sudo"), "{}", root.1);
}

fn streams_and_exit_code_are_those_of_the_command(seeded: &Seeded) {
    let both = by_ssh(seeded, "echo out; echo err >&2; id -un; exit 7");
    let merged =
        exec(seeded, ["--via", "ssh", "--merge", "--", "sh", "-c", "echo 1; echo 2 >&2; echo 3; exit 255"]).run();
    let script = "kill -9 $$";
    let killed =
        exec(seeded, ["--via", "ssh", "--capture", "--", "sh", "-c", script]).env("MAQET_FORMAT", "json").run();

    assert_eq!((both.code, both.stdout.as_str(), both.stderr.as_str()), (Some(7), "out\nroot\n", "err\n"));
    assert_eq!((merged.code, merged.stdout.as_str(), merged.stderr.as_str()), (Some(255), "1\n2\n3\n", ""));
    let result = killed.json_value();
    assert_eq!(
        (killed.code, &result["via"], &result["outcome"]),
        (Some(137), &"ssh".into(), &"exited".into()),
        "{result}"
    );
}

fn what_cannot_run_has_the_codes_of_shells(seeded: &Seeded) {
    for (arguments, code, exit) in [
        (["--", "nope", ""], "guest.program-not-found", 127),
        (["-w/nope", "--", "true"], "guest.directory-not-found", 125),
        (["-unope", "--", "true"], "guest.user-not-found", 125),
    ] {
        let failed = exec(seeded, ["--via", "ssh"]).args(arguments).env("MAQET_FORMAT", "json").run();
        assert_eq!(
            (failed.json_error()["error"]["code"].as_str(), failed.code),
            (Some(code), Some(exit)),
            "{arguments:?}"
        );
    }
}

/// Bytes of any kind go in and come out, by a command and by copies.
fn input_comes_back_as_it_was(seeded: &Seeded) {
    let bytes: Vec<u8> = (0..150_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let (path, output) = (seeded.0.write("ssh-input", &bytes), seeded.0.path("ssh-output"));

    let mut back = exec(seeded, ["-i", "--via", "ssh", "--", "cat"]).stdin(File::open(&path).unwrap()).into_command();
    let status = back.stdout(File::create(&output).unwrap()).stderr(Stdio::inherit()).status().unwrap();
    assert!(status.success() && fs::read(&output).unwrap() == bytes, "the output differs from the input");

    let copy = |source: &str, target: &str| -> Value {
        let cp = seeded.0.maqet(["--format", "json", "cp", "--verify", "--via", "ssh", source, target]);
        cp.deadline(Duration::from_mins(3)).run().ok().json_value()
    };
    let there = copy(path.to_str().unwrap(), "seeded:/srv/ssh-copy");
    let copied = seeded.0.path("ssh-copied");
    let back = copy("seeded:/srv/ssh-copy", copied.to_str().unwrap());
    assert_eq!([&there["via"], &back["via"]], ["ssh", "ssh"]);
    assert!(fs::read(&copied).unwrap() == bytes, "the copy differs");
}

/// Starts a script by SSH, and returns it once its first line is there, with the rest of its output.
fn begun(seeded: &Seeded, script: &str) -> (Child, impl Read) {
    let mut command = exec(seeded, ["--via", "ssh", "--kill-after", "1s", "--", "sh", "-c", script]).into_command();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "begun\n");
    (child, stdout)
}

/// Signals go to the process group by another connection; what ignores them is killed, and nothing is left.
fn signals_reach_the_process_group(seeded: &Seeded) {
    let signal = |child: &Child, signal| {
        kill_process(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), signal).unwrap();
    };

    let (interrupted, mut rest) =
        begun(seeded, "trap 'echo caught; kill $!; exit 5' INT; sleep 986 & echo begun; wait");
    signal(&interrupted, Signal::INT);
    let mut caught = String::new();
    rest.read_to_string(&mut caught).unwrap();
    let interrupted = interrupted.wait_with_output().unwrap();
    let (stubborn, _rest) = begun(seeded, "trap '' TERM; echo begun; sleep 986; sleep 986");
    signal(&stubborn, Signal::TERM);
    let stubborn = stubborn.wait_with_output().unwrap();

    assert_eq!((interrupted.status.code(), caught.as_str()), (Some(5), "caught\n"));
    assert_eq!(stubborn.status.code(), Some(137), "{}", String::from_utf8_lossy(&stubborn.stderr));
    let left = by_ssh(seeded, "grep -ls '^sleep.986' /proc/[0-9]*/cmdline | wc -l");
    assert_eq!(left.stdout, "0\n", "{}", left.stderr);
}

/// ssh(1) exits with 255 for a connection that is lost, as for a command that does.
fn lost_connection_is_no_exit_code(seeded: &Seeded) {
    let result = |script: &str| {
        let command = exec(seeded, ["--via", "ssh", "--capture", "--", "sh", "-c", script]);
        command.env("MAQET_FORMAT", "json").run().json_value()
    };

    // The shell that waits for the command is a child of the server.
    let lost = result("echo begun; kill -9 $(ps -o ppid= -p $PPID); sleep 986");
    let exited = result("printf '\\031\\031ab'; (sleep 1; echo later) & exit 255");

    assert_eq!(
        (&lost["outcome"], &lost["exit_code"], &lost["stdout"]),
        (&"lost".into(), &255.into(), &"begun\n".into())
    );
    assert_eq!(lost["reason"], "the connection was lost", "{lost}");
    assert_eq!((&exited["outcome"], &exited["exit_code"]), (&"exited".into(), &255.into()), "{exited}");
    assert_eq!(exited["stdout"], "\u{19}\u{19}ablater\n");
    by_ssh(seeded, "pkill -9 -f '^sleep.986'").ok();
}

/// Without an agent, commands and copies go by SSH, and the result says so.
fn without_an_agent_it_is_the_way(seeded: &Seeded) {
    by_ssh(seeded, "systemctl stop qemu-guest-agent").ok();

    let ran = exec(seeded, ["--capture", "--", "echo", "hi"]).env("MAQET_FORMAT", "json").run().ok().json_value();
    let agent = refused(seeded, ["--via", "agent", "--", "true"]);
    let host = seeded.0.path("ssh-hostname");
    let cp = seeded.0.maqet(["--format", "json", "cp", "seeded:/etc/hostname", host.to_str().unwrap()]);
    let copied = cp.deadline(Duration::from_mins(3)).run().ok().json_value();
    by_ssh(seeded, "systemctl start qemu-guest-agent").ok();

    assert_eq!((&ran["via"], &ran["stdout"]), (&"ssh".into(), &"hi\n".into()), "{ran}");
    assert_eq!(ran["refused"][0]["via"], "agent", "{ran}");
    assert!(ran["refused"][0]["reason"].as_str().unwrap().contains("no guest agent runs"), "{ran}");
    assert_eq!((agent.0.as_str(), agent.2), ("guest.agent-unavailable", Some(125)));
    assert_eq!((&copied["via"], &copied["refused"][0]["via"]), (&"ssh".into(), &"agent".into()), "{copied}");
    assert_eq!(fs::read_to_string(&host).unwrap(), "seeded\n");
    let wait = seeded.0.maqet(["wait", "seeded", "--for", "agent", "--timeout", "2m"]);
    wait.deadline(Duration::from_mins(3)).run().ok();
}

/// The server refuses the key: what `ssh` says is the reason.
fn key_that_is_not_accepted_is_named(seeded: &Seeded) {
    let key = seeded.0.path("other-key");
    let made =
        std::process::Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status();
    assert!(made.unwrap().success());
    let set = |key: &str| {
        let value = format!("ssh.key={}", seeded.0.path(key).display());
        seeded.0.maqet(["apply", "seeded", "--set", &value]).run().ok();
    };

    set("other-key");
    let (code, message, exit) = refused(seeded, ["--via", "ssh", "--", "true"]);
    set("login");

    assert_eq!((code.as_str(), exit), ("guest.ssh-unavailable", Some(125)));
    assert!(message.contains("Permission denied (publickey"), "{message}");
}

/// Where no way is ready, each is named with its reason, and the code is that of the first.
#[test]
fn test_exec_without_any_way_names_each() {
    let home = TestHome::new();
    home.add(&format!("{}network: [{{mode: user, forward: [\"0:22\"]}}]\n", guest::paused_yaml("silent")));
    home.add(&guest::paused_yaml("closed"));
    let error = |arguments: [&str; 3]| {
        let failed = home.maqet(["--format", "json", "exec"]).args(arguments).args(["--", "true"]).run();
        let error = failed.json_error()["error"].take();
        (error["code"].as_str().unwrap().to_owned(), error["message"].as_str().unwrap().to_owned())
    };
    home.json(&["start", "closed"]);
    home.json(&["start", "silent"]);

    let any = error(["closed", "--via", "auto"]);
    let ssh = error(["closed", "--via", "ssh"]);
    let stopped = error(["silent", "--via", "ssh"]);

    assert_eq!(any.0, "guest.agent-unavailable");
    assert!(any.1.contains("agent: no guest agent runs") && any.1.contains("ssh: "), "{}", any.1);
    assert_eq!(ssh.0, "guest.ssh-unavailable");
    assert!(ssh.1.contains("no host port is forwarded to its port 22"), "{}", ssh.1);
    // Its CPUs never ran, which is why nothing answers.
    assert_eq!(stopped.0, "guest.exec-unavailable", "{}", stopped.1);
}
