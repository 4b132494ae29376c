//! The same steps as those of maqet, by a client without maqet.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Result;
use crate::bench::baseline::{Baseline, Running};
use crate::bench::compare::output;
use crate::bench::env::Env;
use crate::bench::monitor::Monitor;
use crate::failure::{Failure, OrFailure};

/// How often QEMU is asked whether it is done.
const INTERVAL: Duration = Duration::from_millis(1);

/// Far more than any step needs.
const TIMEOUT: Duration = Duration::from_mins(2);

/// The name of a descriptor in QEMU.
const DESCRIPTOR: &str = "limit";

/// A QEMU without maqet, with its session.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) running: Running,
    pub(super) session: Monitor,
}

/// How long the parts of a checkpoint took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts {
    /// From the first command to the copy.
    pub(super) whole: Duration,
    /// Copying what QEMU has written.
    pub(super) copy: Duration,
}

impl Raw {
    /// Starts QEMU, and waits for its monitor.
    pub(super) fn start(env: &Env<'_>, baseline: &Baseline) -> Result<Self> {
        baseline.set_up(env)?;
        Self::start_prepared(env, baseline)
    }

    /// Does the same with what is set up.
    pub(super) fn start_prepared(env: &Env<'_>, baseline: &Baseline) -> Result<Self> {
        let running = Running::spawn(&mut baseline.command(env)?)?;
        Ok(Self { running, session: connected(baseline.monitor())? })
    }

    /// Takes a checkpoint in `directory` with a new overlay on each of the disks; `round` names the overlays.
    pub(super) fn checkpoint(&mut self, env: &Env<'_>, directory: &Path, disks: usize, round: usize) -> Result<Parts> {
        let session = &mut self.session;
        let version = session.command("query-version", &json!({}))?["qemu"]["major"].as_u64().unwrap_or_default();
        let stream = directory.join(format!("stream-{round}"));
        let what = || format!("cannot create `{}`", stream.display());

        let began = Instant::now();
        let mut actions = Vec::new();
        for disk in 0..disks {
            let (below, node) = (node(disk, round), node(disk, round + 1));
            let overlay = directory.join(format!("{node}.qcow2"));
            output(env.other("qemu-img", ["create", "-q", "-f", "qcow2", &overlay.to_string_lossy(), "1G"]))?;
            let file = json!({ "driver": "file", "filename": overlay });
            let add = json!({ "driver": "qcow2", "node-name": node, "backing": null, "file": file });
            session.command("blockdev-add", &add)?;
            actions.push(json!({ "type": "blockdev-snapshot", "data": { "node": below, "overlay": node } }));
        }
        let file = OpenOptions::new().write(true).create_new(true).open(&stream).or_failure(what)?;
        // From 9.0 on, a descriptor with a name is a socket or a pipe.
        let uri = if version >= 9 {
            format!("file:{}", stream.display())
        } else {
            session.command_with("getfd", &json!({ "fdname": DESCRIPTOR }), &file)?;
            format!("fd:{DESCRIPTOR}")
        };
        background_snapshot(session, true)?;
        session.command("migrate-set-parameters", &json!({ "max-bandwidth": 0 }))?;
        session.command("stop", &json!({}))?;
        if !actions.is_empty() {
            session.command("transaction", &json!({ "actions": actions }))?;
        }
        session.command("migrate", &json!({ "uri": uri }))?;
        until(session, |info| {
            let count = |name: &str| info["ram"][name].as_u64().unwrap_or_default();
            count("normal") + count("duplicate") > 0
        })?;
        if version >= 10 {
            session.command("cont", &json!({}))?;
        }
        until(session, |info| info["status"] == "completed")?;
        background_snapshot(session, false)?;
        let written = began.elapsed();
        let copied = Instant::now();
        fs::copy(&stream, stream.with_extension("copy")).or_failure(what)?;
        let copy = copied.elapsed();
        for file in [&stream, &stream.with_extension("copy")] {
            fs::remove_file(file).or_failure(what)?;
        }
        Ok(Parts { whole: written + copy, copy })
    }

    /// Loads the state of a checkpoint, and lets the guest run.
    pub(super) fn go_on(&mut self, state: &Path) -> Result<()> {
        let file = File::open(state).or_failure(|| format!("cannot read `{}`", state.display()))?;
        self.session.command_with("getfd", &json!({ "fdname": DESCRIPTOR }), &file)?;
        self.session.command("migrate-incoming", &json!({ "uri": format!("fd:{DESCRIPTOR}") }))?;
        self.loaded()?;
        self.session.command("cont", &json!({})).map(drop)
    }

    /// Gives the guest of this QEMU to another one that waits; returns how long it was paused.
    pub(super) fn hand_over(&mut self, next: &mut Self, socket: &Path) -> Result<Duration> {
        let ignore = |state: bool| json!({ "capabilities": [{ "capability": "x-ignore-shared", "state": state }] });
        let uri = json!({ "uri": format!("unix:{}", socket.display()) });
        let late = json!({ "capabilities": [{ "capability": "late-block-activate", "state": true }] });
        for capability in [&ignore(true), &late] {
            next.session.command("migrate-set-capabilities", capability)?;
        }
        next.session.command("migrate-incoming", &uri)?;
        self.session.command("migrate-set-capabilities", &ignore(true))?;
        self.session.command("migrate-set-parameters", &json!({ "max-bandwidth": 0 }))?;

        let began = Instant::now();
        self.session.command("stop", &json!({}))?;
        self.session.command("migrate", &uri)?;
        until(&mut self.session, |info| info["status"] == "completed")?;
        next.loaded()?;
        next.session.command("cont", &json!({}))?;
        let pause = began.elapsed();
        next.session.command("migrate-set-capabilities", &ignore(false))?;
        Ok(pause)
    }

    fn loaded(&mut self) -> Result<()> {
        let began = Instant::now();
        while self.session.command("query-status", &json!({}))?["status"] == "inmigrate" {
            if began.elapsed() > TIMEOUT {
                return Err(Failure::new("QEMU does not load the state"));
            }
            thread::sleep(INTERVAL);
        }
        Ok(())
    }
}

/// Returns the block node of a disk after so many checkpoints.
fn node(disk: usize, round: usize) -> String {
    if round == 0 { format!("disk{disk}") } else { format!("disk{disk}-{round}") }
}

fn background_snapshot(session: &mut Monitor, state: bool) -> Result<()> {
    let capability = json!({ "capability": "background-snapshot", "state": state });
    session.command("migrate-set-capabilities", &json!({ "capabilities": [capability] })).map(drop)
}

/// Waits until a migration is as wanted.
fn until(session: &mut Monitor, is_it: impl Fn(&Value) -> bool) -> Result<()> {
    let began = Instant::now();
    loop {
        let info = session.command("query-migrate", &json!({}))?;
        if is_it(&info) {
            return Ok(());
        }
        if ["failed", "cancelled"].iter().any(|status| info["status"] == **status) || began.elapsed() > TIMEOUT {
            return Err(Failure::new("QEMU did not save the guest").because(io::Error::other(info.to_string())));
        }
        thread::sleep(INTERVAL);
    }
}

/// Connects to a QEMU that starts.
fn connected(monitor: &Path) -> Result<Monitor> {
    let began = Instant::now();
    loop {
        match Monitor::connect(monitor) {
            Ok(session) => return Ok(session),
            Err(failure) if began.elapsed() > TIMEOUT => return Err(failure),
            Err(_) => thread::sleep(Duration::from_micros(200)),
        }
    }
}

/// Returns the time between the first event of one name and the next one of another.
pub(super) fn between(events: &[Value], first: &str, second: &str) -> Result<Duration> {
    let at = |event: &Value| {
        let part = |name: &str| event["timestamp"][name].as_u64().unwrap_or_default();
        Duration::from_secs(part("seconds")) + Duration::from_micros(part("microseconds"))
    };
    let begin = events.iter().position(|event| event["event"] == first);
    let end = begin.and_then(|begin| events[begin..].iter().find(|event| event["event"] == second));
    match (begin, end) {
        (Some(begin), Some(end)) => Ok(at(end).saturating_sub(at(&events[begin]))),
        _ => Err(Failure::new(format!("no `{first}` and `{second}` among the events"))),
    }
}

/// Returns how much memory a process has that is its own, in KiB.
pub(super) fn own_memory(pid: u32) -> Result<u64> {
    let file = PathBuf::from(format!("/proc/{pid}/smaps_rollup"));
    let text = fs::read_to_string(&file).or_failure(|| format!("cannot read `{}`", file.display()))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Anonymous:"));
    let number = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok());
    number.ok_or_else(|| Failure::new(format!("no `Anonymous` in `{}`", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_between_takes_the_next_event_of_the_name() {
        let event = |name: &str, microseconds: u64| json!({ "event": name, "timestamp": { "seconds": 5, "microseconds": microseconds } });
        let events = [event("RESUME", 1), event("STOP", 1_000), event("RESUME", 4_000), event("RESUME", 9_000)];

        assert_eq!(between(&events, "STOP", "RESUME").unwrap(), Duration::from_millis(3));
        assert!(between(&events, "RESET", "RESUME").is_err());
        assert!(own_memory(std::process::id()).unwrap() > 100);
    }
}
