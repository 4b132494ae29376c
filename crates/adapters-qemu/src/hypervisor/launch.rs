//! Starts QEMU and waits for its command monitor, raced against its death and a deadline.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use maqet_adapters_linux::ProcessEnvironment;
use maqet_adapters_linux::limits::KILL_DEADLINE;
use maqet_adapters_linux::private_file::private_log;
use maqet_adapters_linux::process::{Leashed, identity_of, in_words, kill_now};
use maqet_domain::port::{Launch, LaunchError, Launched};
use maqet_domain::qmp::RunState;
use maqet_domain::qmp::{QmpCommand, QmpError};
use maqet_domain::vm::{MonitorRole, ProcessIdentity, RunPaths};
use maqet_fault_points::{FaultPoint, FaultPoints};
use process_wrap::std::{CommandWrap, ProcessSession};
use rustix::process::{Pid, getsid};
use serde::Deserialize;

use super::places::{clear, close_files, failed, make, rotate};
use super::recorder::Recorder;
use crate::image::user_of;
use crate::limits::{CONNECT_PAUSE, ENDING_DEADLINE, GREETING_DEADLINE, LAST_WORDS_BYTES, LAST_WORDS_LINES};
use crate::qmp::QmpSession;

/// A QEMU on its way up; dropped before it answered, nothing of it is left but its logs.
struct Attempt<'a> {
    child: Option<Leashed>,
    paths: &'a RunPaths,
    is_over: bool,
}

impl Attempt<'_> {
    /// Ends the process and all that it started, and its helpers.
    fn undo(&mut self) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        if let Some(child) = self.child.take() {
            self.end(child);
        }
        clear(self.paths);
    }

    fn end(&self, mut child: Leashed) {
        child.kill();
        // A QEMU told to go into the background left its session, but its words tell whose it is.
        let until = std::time::Instant::now() + KILL_DEADLINE;
        while let Some(stray) = super::find::find(self.paths)
            && std::time::Instant::now() < until
        {
            kill_now(&stray);
            std::thread::sleep(CONNECT_PAUSE);
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.undo();
    }
}

/// What came of an attempt.
enum Outcome {
    Ready(Launched),
    /// How it ended, in words.
    Ended(String),
    Late,
}

/// What the command monitor of a machine told.
struct Told {
    state: RunState,
    /// Who listens at the monitor: QEMU itself, whatever wraps it.
    listener: Option<u32>,
}

/// Starts QEMU; the second that is returned is the program that wraps it and lives on, if there is one.
pub(super) async fn launch(
    environment: &ProcessEnvironment,
    faults: &FaultPoints,
    launch: &Launch,
) -> Result<(Launched, Option<ProcessIdentity>), LaunchError> {
    let paths = &launch.paths;
    let longest = paths.longest_socket();
    if longest.as_os_str().len() > RunPaths::SOCKET_PATH_MAX {
        return Err(LaunchError::SocketPathTooLong { path: longest });
    }
    make(paths)?;
    rotate(&paths.records);
    let recorder = Recorder::prepare(paths).map_err(|why| failed("make the flight recorder", &paths.records, why))?;

    faults.reach(FaultPoint::LaunchPlacesMade);
    let mut attempt = Attempt { child: None, paths, is_over: false };
    super::helper::start(environment, launch.command_line.helpers()).await?;
    attempt.child = Some(spawn(environment, launch)?);
    faults.reach(FaultPoint::LaunchSpawned);
    let outcome = match &mut attempt.child {
        Some(child) => race(child, launch, &recorder).await,
        None => Outcome::Late,
    };
    // By now QEMU has the FIFO open itself, or is gone.
    drop(recorder);

    match outcome {
        Outcome::Ready(launched) => {
            faults.reach(FaultPoint::LaunchAnswered);
            attempt.is_over = true;
            close_files(paths);
            let started = attempt.child.take().map(|child| (child.pid(), child.let_go()));
            let wrapper = started.filter(|(pid, ())| *pid != launched.process.pid);
            Ok((launched, wrapper.and_then(|(pid, ())| identity_of(pid))))
        }
        Outcome::Ended(status) => {
            attempt.undo();
            if let Some(full) = full_disk(paths) {
                return Err(full);
            }
            let last_words = last_words(&paths.qemu_log());
            Err(image_in_use(&last_words).unwrap_or(LaunchError::Exited { status, last_words }))
        }
        Outcome::Late => {
            attempt.undo();
            Err(LaunchError::TimedOut { after: launch.deadline, last_words: last_words(&paths.qemu_log()) })
        }
    }
}

async fn race(child: &mut Leashed, launch: &Launch, recorder: &Recorder) -> Outcome {
    let told = tokio::select! {
        told = answered(&launch.paths, recorder) => told,
        status = child.ended() => return Outcome::Ended(ending(status)),
        () = tokio::time::sleep(launch.deadline) => return Outcome::Late,
    };
    let process = identity_of(told.listener.unwrap_or_else(|| child.pid()));
    match process {
        Some(process) if is_in_session_of(child, &process) => Outcome::Ready(Launched { process, state: told.state }),
        // It ended as soon as it had answered, or it went into the background, and then its starter ends.
        process => match (tokio::time::timeout(ENDING_DEADLINE, child.ended()).await, process) {
            (Ok(status), _) => Outcome::Ended(ending(status)),
            (Err(_), Some(process)) => Outcome::Ready(Launched { process, state: told.state }),
            (Err(_), None) => Outcome::Ended("an exit code that the program around it did not tell".to_owned()),
        },
    }
}

fn is_in_session_of(child: &Leashed, process: &ProcessIdentity) -> bool {
    let pid_of = |pid: u32| i32::try_from(pid).ok().and_then(Pid::from_raw);
    let session = pid_of(process.pid).and_then(|pid| getsid(Some(pid)).ok());
    session.is_some() && session == pid_of(child.pid())
}

fn ending(status: io::Result<ExitStatus>) -> String {
    status.map_or_else(|why| why.to_string(), in_words)
}

fn spawn(environment: &ProcessEnvironment, launch: &Launch) -> Result<Leashed, LaunchError> {
    let log = launch.paths.qemu_log();
    let errors = private_log(&log).map_err(|why| failed("make the log", &log, why))?;
    let output = errors.try_clone().map_err(|why| failed("make the log", &log, why))?;
    let binary = launch.command_line.binary();

    let mut command = environment.command(binary);
    command.args(launch.command_line.words()).current_dir("/");
    command.stdin(Stdio::null()).stdout(output).stderr(errors);
    let mut command = CommandWrap::from(command);
    command.wrap(ProcessSession);

    // What a shell handed us, a lock of `flock(1)` or a pipe, must not live on in QEMU.
    close_fds::set_fds_cloexec_threadsafe(3, &[]);
    Leashed::spawn(&mut command).map_err(|why| failed("run", binary, why))
}

/// Waits until the command monitor told the run state and the flight recorder is on.
///
/// Asked on the same connection: by now the guest runs, and every further turn of QEMU's main loop may take long.
async fn answered(paths: &RunPaths, recorder: &Recorder) -> Told {
    let socket = paths.monitor(MonitorRole::Command);
    // A socket that is there and does not answer yet is asked again; the launch has its own deadline.
    let told = loop {
        match told_by(&socket).await {
            Ok(told) => break told,
            Err(_) => tokio::time::sleep(CONNECT_PAUSE).await,
        }
    };
    recorder.is_on().await;
    told
}

async fn told_by(socket: &Path) -> Result<Told, QmpError> {
    let mut session = QmpSession::connect(socket, GREETING_DEADLINE).await?;
    let told = session.execute(&QmpCommand::new("query-status"), GREETING_DEADLINE).await?;
    let state = told.get("status").map(RunState::deserialize).and_then(Result::ok);
    Ok(Told { state: state.unwrap_or(RunState::Unrecognised), listener: session.peer() })
}

/// Returns why QEMU ended without a word, if it is that its words had no place to go.
fn full_disk(paths: &RunPaths) -> Option<LaunchError> {
    let has_words = std::fs::metadata(paths.qemu_log()).is_ok_and(|log| log.len() > 0);
    let is_full = |folder: &&Path| rustix::fs::statvfs(*folder).is_ok_and(|disk| disk.f_bavail == 0);
    // The folder of the sockets is gone by now; the one above it is on the same disk.
    let folders = [paths.records.as_path(), paths.sockets.parent()?];
    let full = folders.into_iter().filter(|_| !has_words).find(is_full)?;
    Some(failed("write to", full, io::ErrorKind::StorageFull.into()))
}

/// Returns why QEMU ended, if it is that somebody else has an image open, and who that is.
///
/// QEMU 7.2 says `Failed to get "write" lock`, and on the next line which image it was.
fn image_in_use(last_words: &str) -> Option<LaunchError> {
    let named = |line: &str| {
        let path = line.strip_prefix("Is another process using the image [")?.strip_suffix("]?")?;
        Some(std::path::PathBuf::from(path))
    };
    let path = last_words.lines().find_map(named)?;
    Some(LaunchError::ImageInUse { by: user_of(&path), path })
}

/// Returns the end of what QEMU wrote to its standard error, without its name before each line.
fn last_words(log: &Path) -> String {
    let tail = tail_of(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&tail);
    let lines: Vec<&str> = text.lines().map(without_name).filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LAST_WORDS_LINES)..].join("\n")
}

fn without_name(line: &str) -> &str {
    match line.split_once(": ") {
        Some((name, words)) if name.starts_with("qemu-system-") || name.contains("/qemu-system-") => words,
        Some(_) | None => line,
    }
}

fn tail_of(log: &Path) -> io::Result<Vec<u8>> {
    let mut file = std::fs::File::open(log)?;
    let length = file.metadata()?.len();
    let most = u64::try_from(LAST_WORDS_BYTES).unwrap_or(u64::MAX);
    file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
    let mut tail = Vec::new();
    file.take(most).read_to_end(&mut tail)?;
    Ok(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(log: &[u8], expected: &str) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), log).unwrap();

        assert_eq!(last_words(file.path()), expected);
    }

    #[test]
    fn test_last_words_name_of_the_binary_is_left_out() {
        check(b"qemu-system-x86_64: -foo: invalid option\n", "-foo: invalid option");
        check(b"/opt/qemu-system-arm: warning: x: y\n", "warning: x: y");
        check(b"other: x\n", "other: x");
    }

    #[test]
    fn test_last_words_are_few_even_of_a_flood() {
        let flood = b"line\n".repeat(100_000);

        check(&flood, &["line"; LAST_WORDS_LINES].join("\n"));
    }

    #[test]
    fn test_last_words_broken_text_is_shown_as_far_as_possible() {
        check(b"\xff ok\n\n", "\u{fffd} ok");
    }

    #[test]
    fn test_last_words_no_log_is_silence() {
        assert_eq!(last_words(Path::new("/nonexistent")), "");
    }
}
