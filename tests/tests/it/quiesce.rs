//! Frozen file systems and the clock of a real Debian guest.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

use maqet_fault_points::VARIABLE;
use maqet_testkit::guest::Shell;
use maqet_testkit::wait::{LONG, until};

use crate::debian::Booted;

#[test]
fn test_quiesced_guest_is_thawed_and_its_clock_is_set() {
    let booted = Booted::get();
    let _turn = booted.turn();
    file_systems_are_frozen_for_the_moment_of_a_snapshot(&booted);
    what_a_killed_process_froze_is_thawed(&booted);
    what_a_killed_process_froze_is_thawed_by_the_guest(&booted);
    nothing_is_pending_without_an_agent(&booted);
    guest_that_would_not_thaw_on_its_own_is_named(&booted);
    clock_of_a_resumed_guest_is_set(&booted);
}

const SNAPSHOT: [&str; 6] = ["snapshot", "create", "deb", "root", "--live", "--quiesce"];

/// Returns how often the agent has frozen the file systems.
fn times_frozen(booted: &Booted) -> usize {
    let log = booted.shell("journalctl --sync && journalctl -b -u qemu-guest-agent -o cat").ok().stdout;
    log.lines().filter(|line| line.contains("guest-fsfreeze called")).count()
}

/// Writes to the disk of the guest, which waits for as long as it is frozen.
fn assert_is_thawed(booted: &Booted) {
    let written =
        booted.exec(["--timeout", "30s", "--", "sh", "-c", "date >/root/written && sync /root/written"]).run();
    assert_eq!(written.code, Some(0), "{}", written.stderr);
}

fn file_systems_are_frozen_for_the_moment_of_a_snapshot(booted: &Booted) {
    let before = times_frozen(booted);

    booted.0.maqet(SNAPSHOT).arg("one").run().ok();
    assert_is_thawed(booted);

    assert_eq!(times_frozen(booted), before + 1);
    let memory = booted.0.maqet(["--format", "json", "snapshot", "create", "deb", "all", "x", "--live", "--quiesce"]);
    let memory = memory.run();
    assert_eq!(memory.json_error()["error"]["code"], "guest.quiesce-unsupported");
}

fn what_a_killed_process_froze_is_thawed(booted: &Booted) {
    let create = booted.0.maqet_with_fault_points(SNAPSHOT).arg("two").env(VARIABLE, "snapshot.saved");

    let killed = create.run();
    let refused = booted.exec(["--", "true"]).env("MAQET_FORMAT", "json").run();
    booted.0.maqet(SNAPSHOT).arg("three").run().ok();

    assert_eq!(killed.code, None, "{}", killed.stderr);
    assert_eq!(refused.json_error()["error"]["code"], "guest.agent-conflict");
    let events = booted.0.json(&["events", "deb", "--type", "vm.recovered"]);
    let data = &events.as_array().unwrap().last().unwrap()["data"];
    assert_eq!((&data["thawed"], &data["outcome"]), (&true.into(), &"rolled-back".into()), "{events}");
    assert_is_thawed(booted);
    let names = booted.0.json(&["snapshot", "ls", "deb"]);
    let names: Vec<&str> = names.as_array().unwrap().iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(names, ["one", "three"]);
}

/// A process that writes goes on, although no command came.
fn what_a_killed_process_froze_is_thawed_by_the_guest(booted: &Booted) {
    let settings = booted.0.write("freeze.conf", "timeouts: {freeze: 12s}\n");
    let script = "echo begun; read line; echo $line >/root/written; sync /root/written; echo done";
    let mut writer = booted.exec(["-i", "--", "sh", "-c", script]).deadline(2 * LONG).into_command();
    let mut writer = writer.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines().map(Result::unwrap);
    let begun = lines.next();
    let create = booted.0.maqet_with_fault_points(SNAPSHOT).arg("four").env(VARIABLE, "snapshot.saved");

    let killed = create.env("MAQET_CONFIG", settings).run();
    writer.stdin.take().unwrap().write_all(b"line\n").unwrap();
    let done = lines.next();

    assert_eq!((begun.as_deref(), done.as_deref()), (Some("begun"), Some("done")), "{}", killed.stderr);
    assert_eq!(killed.code, None, "{}", killed.stderr);
    // The agent does not know that, nor how the writer ended.
    let refused = booted.exec(["--", "true"]).env("MAQET_FORMAT", "json").run();
    assert_eq!(refused.json_error()["error"]["code"], "guest.agent-conflict");
    drop(writer.wait());
    booted.0.maqet(SNAPSHOT).arg("five").run().ok();
    assert_is_thawed(booted);
    // It is ended a moment after that.
    booted.shell("while grep -qs MAQET_THAW= /proc/[0-9]*/environ; do sleep 0.1; done").ok();
}

/// Work that could not be recovered without the agent is not begun without it.
fn nothing_is_pending_without_an_agent(booted: &Booted) {
    let mut shell = Shell::of(&booted.0);
    let create = booted.0.maqet_with_fault_points(["--format", "json"]).args(SNAPSHOT).arg("six");

    shell.run(&["kill -STOP $(pidof qemu-ga)"]);
    // A process that has begun would be killed there.
    let refused = create.env(VARIABLE, "snapshot.create.marked").run();
    shell.run(&["kill -CONT $(pidof qemu-ga)"]);

    assert_eq!(refused.json_error()["error"]["code"], "guest.agent-unavailable", "{}", refused.stderr);
    assert_is_thawed(booted);
}

/// Without what the deadline in the guest takes, the file systems are frozen all the same, and the result says so.
fn guest_that_would_not_thaw_on_its_own_is_named(booted: &Booted) {
    let mut shell = Shell::of(&booted.0);
    let warning = |name: &str| {
        let created = booted.0.maqet(["--format", "json"]).args(SNAPSHOT).arg(name).run().ok().json_value();
        created["warnings"][0].as_str().unwrap_or_default().to_owned()
    };

    let usual = warning("seven");
    shell.run(&["mv /usr/sbin/fsfreeze /usr/sbin/fsfreeze.away"]);
    let missing = warning("eight");
    shell.run(&["mv /usr/sbin/fsfreeze.away /usr/sbin/fsfreeze", "systemctl stop qemu-guest-agent"]);
    shell.run(&["/usr/sbin/qemu-ga -d -b guest-exec -f /run/restricted.pid"]);
    booted.wait_for_agent();
    let refused = warning("nine");
    shell.run(&["kill $(cat /run/restricted.pid)", "while pidof qemu-ga; do sleep 0.1; done"]);
    shell.run(&["systemctl start qemu-guest-agent"]);
    booted.wait_for_agent();

    assert_eq!(usual, "");
    assert!(missing.contains("`fsfreeze`") && refused.contains("refuses to run commands"), "{missing} {refused}");
    assert_is_thawed(booted);
}

fn clock_of_a_resumed_guest_is_set(booted: &Booted) {
    // An agent on a busy host may be too slow for one of them.
    let resumed = until(LONG, "the clock to be set", || {
        booted.0.json(&["pause", "deb"]);
        until(LONG, "the clock to be behind", || {
            (booted.0.json(&["status", "deb"])["clock_behind_ms"].as_u64()? >= 4000).then_some(())
        });
        Some(booted.0.json(&["resume", "deb"])).filter(|resumed| resumed["clock_set"] == true)
    });

    assert_eq!(resumed.get("clock_behind_ms"), None, "{resumed}");
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let guest: f64 = booted.shell("date +%s.%N").ok().stdout.trim().parse().unwrap();
    let after = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    // The agent may have set the clock as late as it may answer.
    assert!((before - 13.0..after + 3.0).contains(&guest), "{before} {guest} {after}");
}
