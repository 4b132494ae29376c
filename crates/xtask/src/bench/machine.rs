//! What is mostly work of QEMU: `start`, `qmp`, `stop`.

use std::ffi::OsStr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use maqet_testkit::guest;

use super::bare::{Bare, command_line, path_in, until_running};
use super::ground::{Ground, QMP};
use super::race::{timed, told};
use super::row::{Bar, Row};
use crate::Result;
use crate::failure::{Failure, OrFailure};

/// The VM that maqet starts, and the one with the same command line that it does not.
const OURS: &str = "ours";
const BARE: &str = "bare";

const PAUSED: &str = "paused";

/// How many commands one session is asked.
const COMMANDS: &str = "1000";

pub(crate) fn start(ground: &Ground<'_>) -> Result<Vec<Row>> {
    let bare = pair(ground)?;
    let alone = || bare.start(ground).map(|(took, _)| took);
    let answers = ground.race("`start` until QMP answers `running`", "bare exec", Bar::Plus(10)).run(
        |_| {
            let took = start_until_running(ground)?;
            told(kill(ground)).map(|_| took)
        },
        |_| alone(),
    )?;
    let returns = ground.race("`start` until it returns", "bare exec", Bar::Plus(20)).run(
        |_| {
            let took = timed(ground.maqet(["start", OURS]))?;
            told(kill(ground)).map(|_| took)
        },
        |_| alone(),
    )?;
    Ok(vec![answers, returns])
}

pub(crate) fn stop(ground: &Ground<'_>) -> Result<Vec<Row>> {
    let bare = pair(ground)?;
    let row = ground.race("`stop --force`", "SIGKILL + pidfd", Bar::Times(3.0)).run(
        |_| {
            told(ground.maqet(["start", OURS]))?;
            timed(kill(ground))
        },
        |_| bare.start(ground).and_then(|(_, running)| running.kill()),
    )?;
    Ok(vec![row])
}

pub(crate) fn qmp(ground: &Ground<'_>) -> Result<Vec<Row>> {
    let asker = ground.compiled(QMP)?;
    // No CPU of this guest runs, so that it disturbs neither side.
    define(ground, &guest::paused_yaml(PAUSED))?;
    let words = command_line(ground, PAUSED)?;
    let monitor = path_in(&words, "socket,id=qmp,").ok_or_else(|| Failure::new("there is no command monitor"))?;
    told(ground.maqet(["start", PAUSED]))?;
    let row = ground
        .race("`qmp query-status`", "C program", Bar::Times(2.5))
        .run(|_| timed(ground.maqet(["qmp", PAUSED, "query-status"])), |_| timed(ground.other(&asker, [&monitor])))?;
    let session = ground.race("1,000 commands on one session", "C program", Bar::Times(1.15)).run(
        |_| microseconds(ground.other(ground.session, [PAUSED, "query-status", COMMANDS])),
        |_| microseconds(ground.other(&asker, [monitor.as_os_str(), OsStr::new(COMMANDS)])),
    )?;
    told(ground.maqet(["stop", PAUSED, "--force"]))?;
    Ok(vec![row, session])
}

/// Runs a program whose last line says how many microseconds its work took.
fn microseconds(command: Command) -> Result<Duration> {
    let (_, said) = told(command)?;
    let last = said.lines().last().and_then(|line| line.parse().ok());
    last.map(Duration::from_micros).ok_or_else(|| Failure::new("a program did not say how long it took").because(said))
}

/// Starts our VM, and looks at a monitor that maqet itself does not use for when it runs.
fn start_until_running(ground: &Ground<'_>) -> Result<Duration> {
    let words = command_line(ground, OURS)?;
    let free =
        path_in(&words, "socket,id=qmp-external,").ok_or_else(|| Failure::new("there is no external monitor"))?;
    let mut command = ground.maqet(["start", OURS]);
    command.stdout(Stdio::null()).stderr(Stdio::null());

    let began = Instant::now();
    let mut child = command.spawn().or_failure(|| "cannot run `maqet start`".to_owned())?;
    let running = until_running(&free).map(|()| began.elapsed());
    let status = child.wait().or_failure(|| "cannot wait for `maqet start`".to_owned())?;
    let took = running?;
    if status.success() { Ok(took) } else { Err(Failure::new(format!("`maqet start {OURS}` ended with {status}"))) }
}

fn kill(ground: &Ground<'_>) -> Command {
    ground.maqet(["stop", OURS, "--force"])
}

/// Defines two equal VMs, if they are not there, and returns the second one's QEMU.
fn pair(ground: &Ground<'_>) -> Result<Bare> {
    for name in [OURS, BARE] {
        define(ground, &format!("name: {name}\naccel: tcg\nmemory: 32M\n"))?;
    }
    Bare::of(ground, BARE)
}

fn define(ground: &Ground<'_>, yaml: &str) -> Result<()> {
    // Each row may be asked for alone, so the first one defines.
    let name = yaml.lines().next().unwrap_or_default().replace(": ", "-");
    if ground.home.path(&name).exists() {
        return Ok(());
    }
    let file = ground.home.write(name, yaml);
    told(ground.maqet([OsStr::new("add"), file.as_os_str()])).map(drop)
}
