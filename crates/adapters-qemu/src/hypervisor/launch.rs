//! Starts QEMU and waits for its command monitor, raced against its death and a deadline.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::process::Stdio;

use maqet_domain::port::{Launch, LaunchError, Launched, QmpCommand, QmpError};
use maqet_domain::vm::{MonitorRole, RunPlaces, RunState};
use process_wrap::std::{CommandWrap, ProcessSession};
use serde::Deserialize;
use tokio::time::Instant;

use super::places::{clear, close_files, failed, make, rotate};
use super::recorder::Recorder;
use crate::environment::ProcessEnvironment;
use crate::limits::{CONNECT_PAUSE, GREETING_DEADLINE, KILL_DEADLINE, LAST_WORDS_BYTES, LAST_WORDS_LINES};
use crate::private::private_log;
use crate::process::{Leashed, identity_of, in_words, kill_now};
use crate::qmp::QmpSession;

/// A QEMU on its way up; dropped before it answered, nothing of it is left but its logs.
struct Attempt<'a> {
    child: Option<Leashed>,
    places: &'a RunPlaces,
}

impl Attempt<'_> {
    /// Ends the process and all that it started.
    fn undo(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        child.kill();
        // A QEMU told to go into the background left its session, but its words tell whose it is.
        let until = std::time::Instant::now() + KILL_DEADLINE;
        while let Some(stray) = super::find::find(self.places)
            && std::time::Instant::now() < until
        {
            kill_now(&stray);
            std::thread::sleep(CONNECT_PAUSE);
        }
        clear(self.places);
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.undo();
    }
}

enum Outcome {
    Ready(RunState),
    Ended(io::Result<std::process::ExitStatus>),
    Late,
}

pub(super) async fn launch(environment: &ProcessEnvironment, launch: &Launch) -> Result<Launched, LaunchError> {
    let places = &launch.places;
    let longest = places.longest_socket();
    if longest.as_os_str().len() > RunPlaces::SOCKET_PATH_MAX {
        return Err(LaunchError::SocketPathTooLong { path: longest });
    }
    make(places)?;
    rotate(&places.records);
    let recorder = Recorder::prepare(places).map_err(|why| failed("make the flight recorder", &places.records, why))?;

    let started = Instant::now();
    let mut attempt = Attempt { child: Some(spawn(environment, launch)?), places };
    let outcome = match &mut attempt.child {
        Some(child) => {
            tokio::select! {
                state = answered(places, &recorder) => Outcome::Ready(state),
                status = child.ended() => Outcome::Ended(status),
                () = tokio::time::sleep(launch.deadline) => Outcome::Late,
            }
        }
        None => Outcome::Late,
    };
    // By now QEMU has the FIFO open itself, or is gone.
    drop(recorder);

    let identity = attempt.child.as_ref().and_then(|child| identity_of(child.pid()));
    match (outcome, identity) {
        (Outcome::Ready(state), Some(process)) => {
            close_files(places);
            if let Some(child) = attempt.child.take() {
                child.let_go();
            }
            Ok(Launched { process, state })
        }
        (Outcome::Ended(status), _) => {
            attempt.undo();
            if let Some(full) = full_disk(places) {
                return Err(full);
            }
            let status = status.map_or_else(|why| why.to_string(), in_words);
            Err(LaunchError::Exited { status, last_words: last_words(&places.qemu_log()) })
        }
        (Outcome::Late | Outcome::Ready(_), _) => {
            attempt.undo();
            Err(LaunchError::TimedOut { after: started.elapsed(), last_words: last_words(&places.qemu_log()) })
        }
    }
}

fn spawn(environment: &ProcessEnvironment, launch: &Launch) -> Result<Leashed, LaunchError> {
    let log = launch.places.qemu_log();
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
async fn answered(places: &RunPlaces, recorder: &Recorder) -> RunState {
    let socket = places.monitor(MonitorRole::Command);
    // A socket that is there and does not answer yet is asked again; the launch has its own deadline.
    let state = loop {
        match told_state(&socket).await {
            Ok(state) => break state,
            Err(_) => tokio::time::sleep(CONNECT_PAUSE).await,
        }
    };
    recorder.is_on().await;
    state
}

async fn told_state(socket: &Path) -> Result<RunState, QmpError> {
    let mut session = QmpSession::connect(socket, GREETING_DEADLINE).await?;
    let told = session.execute(&QmpCommand::new("query-status"), GREETING_DEADLINE).await?;
    let state = told.get("status").map(RunState::deserialize).and_then(Result::ok);
    Ok(state.unwrap_or(RunState::Unrecognised))
}

/// Returns why QEMU ended without a word, if it is that its words had no place to go.
fn full_disk(places: &RunPlaces) -> Option<LaunchError> {
    let has_words = std::fs::metadata(places.qemu_log()).is_ok_and(|log| log.len() > 0);
    let is_full = |folder: &&Path| rustix::fs::statvfs(*folder).is_ok_and(|disk| disk.f_bavail == 0);
    // The folder of the sockets is gone by now; the one above it is on the same disk.
    let folders = [places.records.as_path(), places.sockets.parent()?];
    let full = folders.into_iter().filter(|_| !has_words).find(is_full)?;
    Some(failed("write to", full, io::ErrorKind::StorageFull.into()))
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
