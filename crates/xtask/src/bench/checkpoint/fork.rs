//! VMs that go on from a checkpoint.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use super::pulse::{Pulse, filled};
use super::raw::{Raw, own_memory};
use super::{define, slow};
use crate::Result;
use crate::bench::baseline::Baseline;
use crate::bench::compare::output;
use crate::bench::env::{Env, json};
use crate::bench::row::{Bar, Row};
use crate::failure::{Failure, OrFailure};
use crate::task::{remark, warning};

/// The VMs of which there are checkpoints: with little memory, and with more.
const SMALL: &str = "small";
const LARGE: &str = "large";

/// The checkpoint.
const BOOTED: &str = "booted";

/// How many forks are started at once.
const MANY: usize = 10;

/// A VM with a checkpoint.
struct Saved<'a> {
    env: &'a Env<'a>,
    vm: &'static str,
    /// The state of its devices.
    state: PathBuf,
}

/// A fork that maqet has started.
struct Forked {
    /// The whole command.
    whole: Duration,
    /// From the start of QEMU until the guest ran.
    until_running: Duration,
    pid: u32,
}

pub(super) fn forks(env: &Env<'_>) -> Result<Vec<Row>> {
    let small = Saved::new(env, SMALL, Pulse { memory_mib: 256, filled_mib: 128, disks: 1, has_file: false })?;
    let large = Saved::new(env, LARGE, Pulse { memory_mib: 2048, filled_mib: 1024, disks: 1, has_file: false })?;
    let raw = small.raw(1)?;
    let raw_one = || small.start_raw(&raw[..1]).map(|(took, _)| took);
    let until = env
        .compare("`fork`, exec to running", "raw fork", Bar::Times(1.15))
        .run(|round| small.fork(&format!("f{round}")).map(|forked| forked.until_running), |_| raw_one())?;
    let whole = env
        .compare("`fork`", "raw fork", Bar::Plus(25))
        .run(|round| small.fork(&format!("w{round}")).map(|forked| forked.whole), |_| raw_one())?;
    let memory = env.compare("`fork` with 2 GiB", "`fork` with 256 MiB", Bar::Times(1.15)).run(
        |round| large.fork(&format!("l{round}")).map(|forked| forked.whole),
        |round| small.fork(&format!("s{round}")).map(|forked| forked.whole),
    )?;
    small.remark_memory(&raw[0])?;
    let raw = small.raw(MANY)?;
    let many = slow(env, format!("`fork --count {MANY}`"), "raw forks", Bar::Times(1.3))
        .run(|round| small.fork_many(round), |_| small.start_raw(&raw).map(|(took, _)| took))?;
    Ok(vec![until, whole, memory, many])
}

impl<'a> Saved<'a> {
    fn new(env: &'a Env<'a>, vm: &'static str, pulse: Pulse) -> Result<Self> {
        define(env, vm, pulse)?;
        let started = json(env.maqet(["start", vm, "--format", "json"]))?;
        filled(Path::new(started["serial_log"].as_str().unwrap_or_default()))?;
        output(env.maqet(["checkpoint", "create", vm, BOOTED]))?;
        output(env.maqet(["stop", vm, "--force"]))?;
        let id = started["id"].as_str().unwrap_or_default();
        let state = env.home.data().join("checkpoints").join(id).join(BOOTED).join("state");
        Ok(Self { env, vm, state })
    }

    fn checkpoint(&self) -> String {
        format!("{}@{BOOTED}", self.vm)
    }

    /// Has maqet start a fork, and removes it.
    fn fork(&self, name: &str) -> Result<Forked> {
        let forked = self.fork_kept(name)?;
        self.remove(name)?;
        Ok(forked)
    }

    fn fork_kept(&self, name: &str) -> Result<Forked> {
        let command = self.env.maqet(["fork", &self.checkpoint(), "--name", name, "--format", "json"]);
        let (whole, text) = output(command)?;
        let forks: Value = serde_json::from_str(&text).or_failure(|| "`fork` did not print JSON".to_owned())?;
        let fork = &forks["forks"][0];
        let records = PathBuf::from(fork["qmp_log"].as_str().unwrap_or_default());
        let pid = fork["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
        let pid = pid.ok_or_else(|| Failure::new("`fork` reports no process"))?;
        Ok(Forked { whole, until_running: until_running(&records)?, pid })
    }

    fn fork_many(&self, round: usize) -> Result<Duration> {
        let (prefix, count) = (format!("m{round}"), MANY.to_string());
        let command = ["fork", &self.checkpoint(), "--name", &prefix, "--count", &count];
        let (took, _) = output(self.env.maqet(command))?;
        (1..=MANY).try_for_each(|number| self.remove(&format!("{prefix}-{number}")))?;
        Ok(took)
    }

    fn remove(&self, name: &str) -> Result<()> {
        output(self.env.maqet(["rm", name, "--force", "--delete-storage"]))?;
        output(self.env.maqet(["storage", "trash", "empty"])).map(drop)
    }

    /// Returns command lines of forks that maqet has made, which go on from the checkpoint without it.
    fn raw(&self, count: usize) -> Result<Vec<Baseline>> {
        let mut all = Vec::new();
        for number in 0..count {
            let name = format!("raw{count}-{number}");
            let command = self.env.maqet(["fork", &self.checkpoint(), "--name", &name, "--paused", "--format", "json"]);
            let forked = json(command)?;
            let process = format!("/proc/{}/cmdline", forked["forks"][0]["pid"]);
            let line = fs::read_to_string(&process).or_failure(|| format!("cannot read `{process}`"))?;
            output(self.env.maqet(["stop", &name, "--force"]))?;
            let arguments: Vec<String> = line.split_terminator('\0').map(str::to_owned).collect();
            let memory = arguments.iter().position(|argument| argument.starts_with("memory-backend-file,"));
            // With the switch before it.
            let tail = memory.and_then(|at| arguments.get(at.checked_sub(1)?..));
            let tail = tail.ok_or_else(|| Failure::new("a fork without memory in a file"))?;
            all.push(Baseline::new(self.env, &name)?.with_arguments(tail));
        }
        Ok(all)
    }

    /// Starts forks without maqet, all at once; returns how long that took, and one of them.
    fn start_raw(&self, all: &[Baseline]) -> Result<(Duration, Raw)> {
        all.iter().try_for_each(|baseline| baseline.set_up(self.env))?;
        let began = Instant::now();
        let started = std::thread::scope(|scope| {
            let start = |baseline| {
                let mut raw = Raw::start_prepared(self.env, baseline)?;
                raw.go_on(&self.state)?;
                Ok::<_, Failure>(raw)
            };
            let threads: Vec<_> = all.iter().map(|baseline| scope.spawn(move || start(baseline))).collect();
            let joined = threads.into_iter().map(std::thread::ScopedJoinHandle::join);
            joined.map(|raw| raw.map_err(|_| Failure::new("a raw fork failed"))?).collect::<Result<Vec<Raw>>>()
        })?;
        let took = began.elapsed();
        started.into_iter().next().map(|raw| (took, raw)).ok_or_else(|| Failure::new("there is no fork"))
    }

    /// Says how much memory a fork that does nothing has of its own.
    fn remark_memory(&self, raw: &Baseline) -> Result<()> {
        let forked = self.fork_kept("idle")?;
        let (_, theirs) = self.start_raw(std::slice::from_ref(raw))?;
        let (ours, theirs) = (own_memory(forked.pid)?, own_memory(theirs.running.id())?);
        self.remove("idle")?;
        let text = format!("a fork has {ours} KiB of its own, and a raw fork {theirs} KiB (at most 1.1 times)");
        if ours * 10 <= theirs * 11 {
            remark(&text);
        } else {
            warning(&text);
        }
        Ok(())
    }
}

/// Returns the time from when the QEMU of a run was started until its guest ran, by its QMP log.
fn until_running(qmp_log: &Path) -> Result<Duration> {
    let what = || format!("cannot read `{}`", qmp_log.display());
    // Written right after QEMU was started.
    let notes = qmp_log.with_file_name("start.json");
    let started = fs::metadata(notes).and_then(|notes| notes.modified()).or_failure(what)?;
    let log = fs::read_to_string(qmp_log).or_failure(what)?;
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line.trim_end_matches('\0')).ok());
    let resumed = events.into_iter().find(|event| event["event"] == "RESUME");
    let part = |name: &str| resumed.as_ref().and_then(|event| event["timestamp"][name].as_u64());
    let (Some(seconds), Some(microseconds)) = (part("seconds"), part("microseconds")) else {
        return Err(Failure::new(what()));
    };
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_micros(microseconds);
    at.duration_since(started).or_failure(what)
}
