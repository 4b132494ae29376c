//! `exec` in a real Debian guest, which all tests share.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use maqet_testkit::{TestHome, guest};

use crate::debian::Booted;

/// One test, as its parts take turns at one guest: each on its own would keep a thread from other tests meanwhile.
#[test]
fn test_exec_runs_commands_in_a_debian_guest() {
    let booted = Booted::get();
    let _turn = booted.turn();
    for part in [
        streams_and_exit_code_are_those_of_the_command,
        what_cannot_run_has_the_codes_of_shells,
        user_directory_and_environment_are_as_requested,
        input_reaches_the_command_whole,
        timeout_ends_everything_in_time,
        after_a_killed_one_shows_nothing_of_it,
        many_at_once_have_their_own_codes,
        report_and_json_say_the_outcome,
    ] {
        part(&booted);
    }
}

/// Streams are apart, the exit code is that of the command, and nothing else is written.
fn streams_and_exit_code_are_those_of_the_command(booted: &Booted) {
    let both = booted.shell("echo out; echo err >&2; exit 7");
    let merged = booted.exec(["--merge", "--", "sh", "-c", "echo 1; echo 2 >&2; echo 3"]).run();
    let killed = booted.shell("kill -9 $$");

    assert_eq!((both.code, both.stdout.as_str(), both.stderr.as_str()), (Some(7), "out\n", "err\n"));
    assert_eq!((merged.code, merged.stdout.as_str(), merged.stderr.as_str()), (Some(0), "1\n2\n3\n", ""));
    assert_eq!((killed.code, killed.stderr.as_str()), (Some(137), ""));
}

fn what_cannot_run_has_the_codes_of_shells(booted: &Booted) {
    let code = |arguments: [&str; 4], code: &str, exit: i32| {
        let failed = booted.exec(arguments).env("MAQET_FORMAT", "json").run();
        assert_eq!(
            (failed.json_error()["error"]["code"].as_str(), failed.code),
            (Some(code), Some(exit)),
            "{arguments:?}"
        );
    };

    code(["--merge", "--", "nope", ""], "guest.program-not-found", 127);
    code(["--merge", "--", "/etc/passwd", ""], "guest.program-invalid", 126);
    code(["-w/nope", "--merge", "--", "true"], "guest.directory-not-found", 125);
    code(["-unope", "--merge", "--", "true"], "guest.user-not-found", 125);
    code(["-eA-B=1", "--merge", "--", "true"], "guest.variable-invalid", 125);
}

fn user_directory_and_environment_are_as_requested(booted: &Booted) {
    let plain = booted.shell("pwd; id -un; echo $HOME $SECRET; wc -c </run/credentials/@system/large");
    let script = "pwd; id -un; echo $HOME $A $SECRET";
    let other = booted.exec(["-u", "www-data", "-w", "/tmp", "-e", "A=b c", "-e", "SECRET", "--", "sh", "-c", script]);
    let other = other.env("SECRET", "x;y").run();

    assert_eq!(plain.stdout, "/root\nroot\n/root\n5000\n");
    assert_eq!(other.stdout, "/tmp\nwww-data\n/var/www b c x;y\n", "{}", other.stderr);
}

/// Variables are those of the command, whatever the script that starts it calls its own, and hide none of its tools.
#[test]
fn test_exec_variables_change_nothing_but_the_environment() {
    let booted = Booted::get();
    let _turn = booted.turn();
    let variables =
        ["id=1", "n=2", "user=www-data", "how=im", "found=x", "variables=y", "PATH=/nope", "IFS=a", "HOME=/b"];

    for via in ["ports", "agent"] {
        let flags = variables.iter().flat_map(|variable| ["-e", variable]);
        let seen = booted.exec(["--via", via]).args(flags).args(["--", "/usr/bin/env"]).run();
        for variable in variables {
            assert!(seen.stdout.lines().any(|line| line == variable), "{via}: {variable}: {}", seen.stdout);
        }
        let script = "/usr/bin/setsid /bin/sleep 985 & /bin/sleep 985 & /bin/sleep 985";
        let flags = ["--via", via, "-e", "PATH=/nope", "--timeout", "1s", "--kill-after", "1s"];
        let ended = booted.exec(flags).args(["--", "/bin/sh", "-c", script]).run();
        assert_eq!(ended.code, Some(124), "{via}: {}", ended.stderr);
    }
    let left = booted.shell("grep -ls '^/bin/sleep.985' /proc/[0-9]*/cmdline | wc -l");
    assert_eq!(left.stdout, "0\n");
}

/// A command that goes on writing is ended when its output is not read any more, as by a pipe.
#[test]
fn test_exec_output_that_is_not_read_ends_the_command() {
    let booted = Booted::get();
    let _turn = booted.turn();

    let mut child = booted.exec(["--", "yes"]).into_command().stdout(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 2];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();

    assert_eq!((first, child.wait().unwrap().code()), (*b"y\n", Some(141)));
}

/// Input of any bytes goes in and comes out whole, by ports and by the agent alone.
fn input_reaches_the_command_whole(booted: &Booted) {
    let bytes: Vec<u8> = (0..300_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let path = booted.0.write("input", &bytes);
    let expected = std::process::Command::new("sha256sum").stdin(File::open(&path).unwrap()).output().unwrap();
    let expected = String::from_utf8(expected.stdout).unwrap();

    for via in ["ports", "agent"] {
        let sent = booted.exec(["-i", "--via", via, "--", "sha256sum"]).stdin(File::open(&path).unwrap()).run();
        assert_eq!((sent.stdout.as_str(), sent.code), (expected.as_str(), Some(0)), "{via}: {}", sent.stderr);
    }
    let back = booted.exec(["-i", "--via", "ports", "--", "cat"]).stdin(File::open(&path).unwrap());
    let output = booted.0.path("output");
    let mut back = back.into_command();
    assert!(back.stdout(File::create(&output).unwrap()).stderr(Stdio::inherit()).status().unwrap().success());
    assert!(std::fs::read(&output).unwrap() == bytes, "the output differs from the input");
}

/// The timeout reaches the whole process group, whatever holds the output or the input.
fn timeout_ends_everything_in_time(booted: &Booted) {
    // Those that end by themselves first get time to do so on a busy host.
    let stubborn = "trap '' TERM; sleep 987; sleep 987";
    for (script, timeout, code) in
        [("sleep 987 & sleep 987", "2s", 124), ("sleep 987 & echo hi", "6s", 0), (stubborn, "2s", 124)]
    {
        let ended = booted.exec(["--timeout", timeout, "--kill-after", "1s", "--", "sh", "-c", script]).run();
        assert_eq!(ended.code, Some(code), "{script}: {}", ended.stderr);
    }

    let left =
        booted.shell("for f in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$f; done 2>/dev/null | grep -c '^sleep 987'");
    assert_eq!(left.stdout, "0\n");
}

/// A killed `exec` leaves its command; the next one ends it and shows nothing of it.
fn after_a_killed_one_shows_nothing_of_it(booted: &Booted) {
    for _ in 0..4 {
        let flood = booted.exec(["--", "sh", "-c", "while :; do echo flood-flood-flood; done"]).spawn();
        let _ = flood.kill_after(Duration::from_millis(1500));
    }

    let next = booted.exec(["--via", "ports", "--", "echo", "mine"]).run();
    assert_eq!((next.stdout.as_str(), next.code), ("mine\n", Some(0)), "{}", next.stderr);
}

/// More commands than there are ports: all have their own exit codes.
fn many_at_once_have_their_own_codes(booted: &Booted) {
    let running: Vec<_> = (1..=8)
        .map(|code| booted.exec(["--", "sh", "-c", &format!("sleep 1; echo {code}; exit {code}")]).spawn())
        .collect();

    for (code, running) in (1..).zip(running) {
        let ended = running.wait();
        assert_eq!((ended.code, ended.stdout), (Some(code), format!("{code}\n")), "{}", ended.stderr);
    }
}

/// The report says how it ended, in any case.
fn report_and_json_say_the_outcome(booted: &Booted) {
    let path = booted.0.path("report.json");
    let report = |arguments: [&str; 2]| -> serde_json::Value {
        let _ = booted.exec(["--report", path.to_str().unwrap(), "--"]).args(arguments).run();
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap()
    };

    let exited = report(["false", ""]);
    let missing = report(["nope", ""]);
    let link = booted.0.path("link.json");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    for place in [link.to_str().unwrap(), "/dev/null"] {
        booted.exec(["--report", place, "--", "true"]).run().ok();
    }
    assert!(link.is_symlink() && path.is_file());
    assert!(!Path::new("/dev/null").metadata().unwrap().is_file());
    let captured = booted.0.maqet(["--format", "json", "exec", "deb", "--capture", "--", "echo", "hi"]).run().ok();
    let captured = captured.json_value();
    let piped =
        booted.exec(["-i", "--capture", "--", "cat"]).stdin(File::open(booted.0.write("in", b"given")).unwrap());
    let nowhere = booted.exec(["--report", "/nope/report.json", "--", "true"]).run();
    let full = booted.exec(["--report", path.to_str().unwrap(), "--", "echo", "hi"]).into_command();
    let full = { full }.stdout(File::create("/dev/full").unwrap()).status().unwrap();
    let full_report: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();

    assert_eq!(piped.run().stdout, "given");
    assert_eq!(nowhere.code, Some(125), "{}", nowhere.stderr);
    assert_eq!((full.code(), full_report["outcome"].as_str()), (Some(125), Some("exited")));
    assert_eq!(full_report["error"]["code"], "output.failed");
    assert_eq!((exited["outcome"].as_str(), exited["exit_code"].as_u64()), (Some("exited"), Some(1)));
    assert_eq!((missing["outcome"].as_str(), missing["exit_code"].as_u64()), (Some("not-started"), Some(127)));
    assert_eq!((captured["stdout"].as_str(), captured["outcome"].as_str()), (Some("hi\n"), Some("exited")));
    let inspected = booted.0.json(&["inspect", "deb"]);
    assert_eq!(inspected["guest"]["system"]["id"], "debian");
}

/// Agents that cannot run commands are named at once.
#[test]
fn test_exec_without_an_agent_is_refused_at_once() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("with"));
    home.add(&format!("{}guest: {{agent: false}}\n", guest::paused_yaml("without")));
    let error = |vm: &str| {
        let failed = home.maqet(["--format", "json", "exec", vm, "--", "true"]).run();
        (failed.json_error()["error"]["code"].as_str().unwrap().to_owned(), failed.code)
    };
    let stopped = error("with");
    home.json(&["start", "with"]);
    home.json(&["start", "without"]);

    assert_eq!(stopped, ("vm.status-conflict".to_owned(), Some(125)));
    assert_eq!(error("with"), ("guest.agent-unavailable".to_owned(), Some(125)));
    assert_eq!(error("without"), ("guest.channel-not-found".to_owned(), Some(125)));
}
