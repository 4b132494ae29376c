//! Checkpoints, forks and upgrades of running guests, against the same steps by a client without maqet.
//!
//! The steps of QEMU are measured by QEMU's own events, those of a guest by its pulse.

mod fork;
mod pulse;
mod raw;
mod upgrade;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::pulse::{Pulse, filled, standstill};
use self::raw::{Raw, between};
use super::baseline::{Baseline, command_line, path_in};
use super::compare::{Comparison, output, timed};
use super::env::{Env, json};
use super::monitor::Monitor;
use super::row::{Bar, Row};
use crate::Result;
use crate::failure::Failure;

/// The VM that maqet saves, and the one that it does not start.
const OURS: &str = "saved";
const THEIRS: &str = "raw-saved";

/// How many disks both have.
const DISKS: usize = 4;

const SAVED: Pulse = Pulse { memory_mib: 1024, filled_mib: 768, disks: DISKS, has_file: false };

/// How often it is looked whether the parts of a checkpoint are done.
const INTERVAL: Duration = Duration::from_millis(1);

pub(crate) fn checkpoint(env: &Env<'_>) -> Result<Vec<Row>> {
    let mut rows = create(env)?;
    rows.extend(fork::forks(env)?);
    rows.push(upgrade::upgrade(env)?);
    Ok(rows)
}

/// A VM that maqet has started, with the sessions and files by which it is watched.
struct Watched {
    log: PathBuf,
    session: Monitor,
    /// The directory of its checkpoints.
    checkpoints: PathBuf,
}

impl Watched {
    fn start(env: &Env<'_>, vm: &str) -> Result<Self> {
        let arguments = command_line(env, vm)?;
        let monitor = path_in(&arguments, "socket,id=qmp-free,")
            .ok_or_else(|| Failure::new("no external monitor on the command line"))?;
        let started = json(env.maqet(["start", vm, "--format", "json"]))?;
        let text = |name: &str| started[name].as_str().unwrap_or_default().to_owned();
        let log = PathBuf::from(text("serial_log"));
        filled(&log)?;
        let checkpoints = env.home.data().join("checkpoints").join(text("id"));
        Ok(Self { log, session: Monitor::connect(&monitor)?, checkpoints })
    }
}

/// Both sides of the rows about taking a checkpoint; each is done once in a round, for all rows.
struct Sides<'a> {
    env: &'a Env<'a>,
    ours: Watched,
    theirs: Raw,
    their_log: PathBuf,
    directory: PathBuf,
    /// How often the other side was done.
    done: usize,
}

fn create(env: &Env<'_>) -> Result<Vec<Row>> {
    for name in [OURS, THEIRS] {
        define(env, name, SAVED)?;
    }
    let baseline = Baseline::new(env, THEIRS)?;
    let their_log = log_of(&baseline)?;
    let directory = env.home.path("raw-checkpoints");
    fs::create_dir_all(&directory).map_err(|error| Failure::new("cannot create a directory").because(error))?;
    let theirs = Raw::start(env, &baseline)?;
    filled(&their_log)?;
    let mut sides = Sides { env, ours: Watched::start(env, OURS)?, theirs, their_log, directory, done: 0 };
    let rows = sides.rows();
    drop(sides);
    output(env.maqet(["stop", OURS, "--force"]))?;
    output(env.maqet(["checkpoint", "rm", OURS, "--all"]))?;
    rows
}

impl Sides<'_> {
    fn rows(&mut self) -> Result<Vec<Row>> {
        let sides = std::cell::RefCell::new(self);
        let env = sides.borrow().env;
        let pause = slow(env, "`checkpoint create`, stop to running", "raw steps", Bar::Times(1.5))
            .run(|_| Ok(sides.borrow_mut().ours()?.pause), |_| Ok(sides.borrow_mut().theirs()?.pause))?;
        let pulse = slow(env, "`checkpoint create`, standstill of the guest", "raw steps", Bar::Times(2.0))
            .run(|_| Ok(sides.borrow_mut().ours()?.standstill), |_| Ok(sides.borrow_mut().theirs()?.standstill))?;
        let whole = slow(env, "`checkpoint create` of 768 MiB", "raw steps and `cp`", Bar::Times(1.2))
            .run(|_| Ok(sides.borrow_mut().ours()?.whole), |_| Ok(sides.borrow_mut().theirs()?.whole))?;
        let apart = slow(env, "taking 768 MiB apart", "`cp`", Bar::Times(1.4))
            .run(|_| Ok(sides.borrow_mut().ours()?.apart), |_| Ok(sides.borrow_mut().theirs()?.apart))?;
        Ok(vec![pause, pulse, whole, apart])
    }

    /// Has maqet take a checkpoint, and remove it.
    fn ours(&mut self) -> Result<Taken> {
        let Self { env, ours: Watched { log, session, checkpoints }, .. } = self;
        session.events()?;
        let ((whole, apart), standstill) = standstill(log, || {
            let complete = checkpoints.join("bench");
            thread::scope(|scope| {
                let apart = scope.spawn(|| taken_apart(session, &complete));
                let whole = timed(env.maqet(["checkpoint", "create", OURS, "bench"]))?;
                let apart = apart.join().map_err(|_| Failure::new("the checkpoint was not watched"))??;
                Ok((whole, apart))
            })
        })?;
        let pause = between(&session.events()?, "STOP", "RESUME")?;
        output(env.maqet(["checkpoint", "rm", OURS, "--all"]))?;
        Ok(Taken { pause, standstill, whole, apart })
    }

    /// Takes one without maqet.
    fn theirs(&mut self) -> Result<Taken> {
        let Self { env, theirs, their_log, directory, done, .. } = self;
        theirs.session.events()?;
        let (parts, standstill) = standstill(their_log, || theirs.checkpoint(env, directory, DISKS, *done))?;
        *done += 1;
        let pause = between(&theirs.session.events()?, "STOP", "RESUME")?;
        Ok(Taken { pause, standstill, whole: parts.whole, apart: parts.copy })
    }
}

/// How long the parts of a checkpoint took.
struct Taken {
    pause: Duration,
    standstill: Duration,
    whole: Duration,
    apart: Duration,
}

/// Returns the time from when QEMU has written everything until the checkpoint is complete.
fn taken_apart(session: &mut Monitor, complete: &Path) -> Result<Duration> {
    let number = |info: &Value| info["total-time"].as_u64();
    let earlier = number(&session.command("query-migrate", &json!({}))?);
    let began = Instant::now();
    let wait = |is_over: &mut dyn FnMut() -> Result<bool>| {
        while !is_over()? {
            if began.elapsed() > Duration::from_mins(2) {
                return Err(Failure::new("the checkpoint is not complete"));
            }
            thread::sleep(INTERVAL);
        }
        Ok(())
    };
    wait(&mut || {
        let info = session.command("query-migrate", &json!({}))?;
        Ok(info["status"] == "completed" && number(&info) != earlier)
    })?;
    let written = Instant::now();
    wait(&mut || Ok(complete.exists()))?;
    Ok(written.elapsed())
}

/// Returns a comparison of a third of the rounds: each takes seconds.
fn slow(env: &Env<'_>, work: impl Into<String>, limit: &'static str, bar: Bar) -> Comparison {
    let comparison = env.compare(work, limit, bar);
    Comparison { runs: comparison.runs.div_ceil(3), ..comparison }
}

/// Returns the log of the serial port of a command line.
fn log_of(baseline: &Baseline) -> Result<PathBuf> {
    let options = baseline.arguments().iter().flat_map(|argument| argument.split(','));
    let mut logs = options.filter_map(|option| option.strip_prefix("logfile="));
    logs.next().map(PathBuf::from).ok_or_else(|| Failure::new("no serial log on the command line"))
}

/// Defines a VM with a pulse.
fn define(env: &Env<'_>, name: &str, pulse: Pulse) -> Result<()> {
    let file = env.home.write(format!("{name}.yaml"), pulse.yaml(env, name));
    output(env.maqet([OsStr::new("add"), file.as_os_str()])).map(drop)
}
