//! Work that is mostly done by QEMU: `start`, `qmp`, `stop`.

use std::ffi::OsStr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use maqet_testkit::guest;

use super::baseline::{Baseline, command_line, path_in, until_running};
use super::compare::{output, timed};
use super::env::{Env, QMP};
use super::example;
use super::row::{Bar, Row};
use crate::Result;
use crate::failure::{Failure, OrFailure};

/// The VM that maqet starts, and one with the same command line that it does not start.
const OURS: &str = "ours";
const BASELINE: &str = "baseline";

const PAUSED: &str = "paused";

/// The number of commands on one session.
const COMMANDS: &str = "1000";

pub(crate) fn start(env: &Env<'_>) -> Result<Vec<Row>> {
    let baseline = pair(env)?;
    let alone = || baseline.start(env).map(|(took, _)| took);
    let answers = env.compare("`start` until QMP answers `running`", "bare exec", Bar::Plus(10)).run(
        |_| {
            let took = start_until_running(env)?;
            output(kill(env)).map(|_| took)
        },
        |_| alone(),
    )?;
    let returns = env.compare("`start` until it returns", "bare exec", Bar::Plus(20)).run(
        |_| {
            let took = timed(env.maqet(["start", OURS]))?;
            output(kill(env)).map(|_| took)
        },
        |_| alone(),
    )?;
    Ok(vec![answers, returns])
}

pub(crate) fn stop(env: &Env<'_>) -> Result<Vec<Row>> {
    let baseline = pair(env)?;
    let row = env.compare("`stop --force`", "SIGKILL + pidfd", Bar::Times(3.0)).run(
        |_| {
            output(env.maqet(["start", OURS]))?;
            timed(kill(env))
        },
        |_| baseline.start(env).and_then(|(_, running)| running.kill()),
    )?;
    Ok(vec![row])
}

pub(crate) fn qmp(env: &Env<'_>) -> Result<Vec<Row>> {
    let client = env.compiled(QMP)?;
    let one_session = example(env.workspace, "one_session")?;
    // The CPU of this guest is stopped, so it takes no time from either side.
    define(env, &guest::paused_yaml(PAUSED))?;
    let arguments = command_line(env, PAUSED)?;
    let monitor =
        path_in(&arguments, "socket,id=qmp,").ok_or_else(|| Failure::new("no command monitor on the command line"))?;
    output(env.maqet(["start", PAUSED]))?;
    let row = env
        .compare("`qmp query-status`", "C program", Bar::Times(2.5))
        .run(|_| timed(env.maqet(["qmp", PAUSED, "query-status"])), |_| timed(env.other(&client, [&monitor])))?;
    let session = env.compare("1,000 commands on one session", "C program", Bar::Times(1.15)).run(
        |_| microseconds(env.other(&one_session, [PAUSED, "query-status", COMMANDS])),
        |_| microseconds(env.other(&client, [monitor.as_os_str(), OsStr::new(COMMANDS)])),
    )?;
    output(env.maqet(["stop", PAUSED, "--force"]))?;
    Ok(vec![row, session])
}

/// Runs a program whose last line is the duration of its work in microseconds.
fn microseconds(command: Command) -> Result<Duration> {
    let (_, stdout) = output(command)?;
    let last = stdout.lines().last().and_then(|line| line.parse().ok());
    last.map(Duration::from_micros)
        .ok_or_else(|| Failure::new("no duration in the output of a program").because(stdout))
}

/// Starts a VM with maqet and returns the time until it reports `running` on the external monitor.
fn start_until_running(env: &Env<'_>) -> Result<Duration> {
    let arguments = command_line(env, OURS)?;
    let external = path_in(&arguments, "socket,id=qmp-free,")
        .ok_or_else(|| Failure::new("no external monitor on the command line"))?;
    let mut command = env.maqet(["start", OURS]);
    command.stdout(Stdio::null()).stderr(Stdio::null());

    let began = Instant::now();
    let mut child = command.spawn().or_failure(|| "cannot run `maqet start`".to_owned())?;
    let running = until_running(&external).map(|()| began.elapsed());
    let status = child.wait().or_failure(|| "cannot wait for `maqet start`".to_owned())?;
    let took = running?;
    if status.success() { Ok(took) } else { Err(Failure::new(format!("`maqet start {OURS}` failed with {status}"))) }
}

fn kill(env: &Env<'_>) -> Command {
    env.maqet(["stop", OURS, "--force"])
}

/// Defines two equal VMs unless they exist, and returns the QEMU of the second.
fn pair(env: &Env<'_>) -> Result<Baseline> {
    for name in [OURS, BASELINE] {
        define(env, &format!("name: {name}\naccel: tcg\nmemory: 32M\n"))?;
    }
    Baseline::new(env, BASELINE)
}

fn define(env: &Env<'_>, yaml: &str) -> Result<()> {
    // Every row can be measured alone, so each defines what it needs.
    let name = yaml.lines().next().unwrap_or_default().replace(": ", "-");
    if env.home.path(&name).exists() {
        return Ok(());
    }
    let file = env.home.write(name, yaml);
    output(env.maqet([OsStr::new("add"), file.as_os_str()])).map(drop)
}
