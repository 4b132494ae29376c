//! Running the built CLI as a user would: another process, its own environment, a deadline.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::de::DeserializeOwned;

use crate::guest;
use crate::variable::BINARY;
use crate::{Terminal, wait};

/// Longer than any command may take on a busy host.
const DEADLINE: Duration = Duration::from_mins(1);

/// How long output may stay open after the command ended, also on a busy host; longer means that a child process holds
/// it.
const OUTPUT_GRACE: Duration = Duration::from_secs(15);

/// Returns the built CLI: `MAQET_BIN`, else the `maqet` next to this test's executable.
pub(crate) fn binary() -> PathBuf {
    let beside = || guest::profile_dir().map(|dir| dir.join("maqet"));
    let found = std::env::var_os(BINARY).map(PathBuf::from).or_else(beside);
    match found {
        Some(binary) if binary.is_file() => binary,
        other => panic!(
            "the CLI is not built ({}); run the tests with `cargo xtask test`, or build it with \
             `cargo build --package maqet-cli` first",
            other.unwrap_or_default().display(),
        ),
    }
}

/// A run of the CLI, not yet started.
#[derive(Debug)]
#[must_use = "nothing runs before `run` or `spawn`"]
pub struct Maqet {
    command: Command,
    deadline: Duration,
    grace: Duration,
}

impl Maqet {
    pub(crate) fn new(binary: PathBuf, folder: &Path, environment: Vec<(OsString, OsString)>) -> Self {
        let mut command = Command::new(binary);
        command
            .current_dir(folder)
            .env_clear()
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self { command, deadline: DEADLINE, grace: OUTPUT_GRACE }
    }

    /// Adds an argument.
    pub fn arg(self, argument: impl AsRef<OsStr>) -> Self {
        self.args([argument])
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Sets a variable.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs in `folder` instead of the home's root.
    pub fn in_folder(mut self, folder: impl AsRef<Path>) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Allows `deadline` instead of a minute.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Gives it a terminal for standard input, output and error.
    pub fn on(mut self, terminal: &Terminal) -> Self {
        self.command.stdin(terminal.stdio()).stdout(terminal.stdio()).stderr(terminal.stdio());
        self
    }

    /// Gives it this for standard input, which is `/dev/null` otherwise.
    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.command.stdin(stdin);
        self
    }

    /// Runs it through another program, which gets the command as its last arguments.
    pub fn through(self, launcher: &[OsString]) -> Self {
        let [program, arguments @ ..] = launcher else { return self };
        let mut command = Command::new(program);
        command.args(arguments).arg(self.command.get_program()).args(self.command.get_args());
        let variables = self.command.get_envs().filter_map(|(name, value)| Some((name, value?)));
        command.env_clear().envs(variables);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(folder) = self.command.get_current_dir() {
            command.current_dir(folder);
        }
        Self { command, ..self }
    }

    /// Returns the prepared command, for callers that need other pipes.
    #[must_use]
    pub fn into_command(self) -> Command {
        self.command
    }

    /// Runs to the end; past the deadline the process is killed and the test fails with its output.
    #[track_caller]
    #[must_use = "a run that is not looked at may have failed"]
    pub fn run(self) -> Finished {
        self.spawn().wait()
    }

    /// Starts without waiting.
    #[track_caller]
    pub fn spawn(mut self) -> Running {
        let shown = shown(&self.command);
        let started = Instant::now();
        let mut child = match self.command.spawn() {
            Ok(child) => child,
            Err(error) => panic!("cannot run {shown}: {error}"),
        };
        let stdout = child.stdout.take().map(Collected::new);
        let stderr = child.stderr.take().map(Collected::new);
        let Self { deadline, grace, .. } = self;
        Running { child, shown, started, deadline, grace, stdout, stderr, reaped: false }
    }
}

/// A run of the CLI in progress; killed if dropped before its end.
#[derive(Debug)]
#[must_use = "dropping it kills the process"]
pub struct Running {
    child: Child,
    shown: String,
    started: Instant,
    deadline: Duration,
    grace: Duration,
    stdout: Option<Collected>,
    stderr: Option<Collected>,
    reaped: bool,
}

impl Running {
    /// Returns the process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns whether the process has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        ends_within(&self.child, Duration::ZERO)
    }

    /// Waits until standard output contains `text`; panics with the output otherwise.
    #[track_caller]
    pub fn wait_for_stdout(&mut self, text: &str) {
        wait_for(self.stdout.as_mut(), text, 1);
    }

    /// Waits until standard error contains `text`; panics with the output otherwise.
    #[track_caller]
    pub fn wait_for_stderr(&mut self, text: &str) {
        self.wait_for_stderr_times(text, 1);
    }

    /// Waits until standard error contains `text` this many times; panics with the output otherwise.
    #[track_caller]
    pub fn wait_for_stderr_times(&mut self, text: &str, times: usize) {
        wait_for(self.stderr.as_mut(), text, times);
    }

    /// Waits for the end, no longer than the deadline counted from the start.
    #[track_caller]
    #[must_use = "a run that is not looked at may have failed"]
    pub fn wait(mut self) -> Finished {
        let in_time = ends_within(&self.child, self.deadline.saturating_sub(self.started.elapsed()));
        if !in_time {
            let _gone_already = self.child.kill();
        }
        let status = self.child.wait().expect("our own child can be waited for");
        self.reaped = true;
        let duration = self.started.elapsed();
        let until = Instant::now() + self.grace;
        let text = |pipe: Option<Collected>| pipe.map_or_else(|| (String::new(), true), |pipe| pipe.text(until));
        let (stdout, stdout_closed) = text(self.stdout.take());
        let (stderr, stderr_closed) = text(self.stderr.take());
        let shown = std::mem::take(&mut self.shown);
        let finished = Finished { code: status.code(), stdout, stderr, duration, status, shown };

        assert!(in_time, "still running after {:?}, now killed:\n{finished}", self.deadline);
        assert!(
            stdout_closed && stderr_closed,
            "the command ended, but a child process holds its output open, so `$(…)` would hang:\n{finished}"
        );
        finished
    }

    /// Kills the process this long after its start, unless it has ended by then, and returns its output.
    #[track_caller]
    #[must_use = "a run that is not looked at may have failed"]
    pub fn kill_after(self, delay: Duration) -> Finished {
        // Not slept: a sleep is late by more than a step of a command takes.
        while self.started.elapsed() < delay {
            std::hint::spin_loop();
        }
        self.kill()
    }

    /// Kills the process at once and returns its output.
    #[track_caller]
    #[must_use = "a run that is not looked at may have failed"]
    pub fn kill(mut self) -> Finished {
        let _gone_already = self.child.kill();
        self.deadline = DEADLINE + self.started.elapsed();
        self.wait()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.reaped {
            let _gone_already = self.child.kill();
            let _reaped = self.child.wait();
        }
    }
}

/// The result of a run of the CLI.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// All of standard output.
    pub stdout: String,
    /// All of standard error.
    pub stderr: String,
    /// From start to end.
    pub duration: Duration,
    status: ExitStatus,
    shown: String,
}

impl Finished {
    /// Asserts success.
    #[track_caller]
    #[expect(clippy::must_use_candidate, reason = "the assertion is the use")]
    #[expect(clippy::return_self_not_must_use, reason = "the assertion is the use")]
    pub fn ok(self) -> Self {
        self.code(0)
    }

    /// Asserts the exit code.
    #[track_caller]
    #[expect(clippy::must_use_candidate, reason = "the assertion is the use")]
    #[expect(clippy::return_self_not_must_use, reason = "the assertion is the use")]
    pub fn code(self, expected: i32) -> Self {
        assert!(self.code == Some(expected), "expected exit code {expected} of:\n{self}");
        self
    }

    /// Reads standard output as one JSON document.
    #[track_caller]
    #[must_use]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        match serde_json::from_str(&self.stdout) {
            Ok(value) => value,
            Err(error) => panic!("standard output is not the expected JSON: {error}\n{self}"),
        }
    }

    /// Reads standard output as any JSON document.
    #[track_caller]
    #[must_use]
    pub fn json_value(&self) -> serde_json::Value {
        self.json()
    }

    /// Reads standard error as JSON, an object a line as under `--format json`, and returns the one that is an error.
    #[track_caller]
    #[must_use]
    pub fn json_error(&self) -> serde_json::Value {
        let read = |line: &str| match serde_json::from_str(line) {
            Ok(value) => value,
            Err(error) => panic!("standard error is not JSON: {error}\n{self}"),
        };
        let messages: Vec<serde_json::Value> = self.stderr.lines().map(read).collect();
        let mut errors = messages.into_iter().filter(|message| message.get("error").is_some());
        match (errors.next(), errors.next()) {
            (Some(error), None) => error,
            _ => panic!("standard error has not exactly one error\n{self}"),
        }
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shown, status, duration, stdout, stderr, .. } = self;
        write!(f, "$ {shown}\n{status} after {duration:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}\n---")
    }
}

fn ends_within(child: &Child, limit: Duration) -> bool {
    let pid = Pid::from_child(child);
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
    let end = Instant::now() + limit;
    loop {
        let left = Timespec::try_from(end.saturating_duration_since(Instant::now())).ok();
        match poll(&mut [PollFd::new(&handle, PollFlags::IN)], left.as_ref()) {
            Ok(ready) => return ready > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

#[track_caller]
fn wait_for(pipe: Option<&mut Collected>, text: &str, times: usize) {
    let pipe = pipe.expect("the output is a pipe");
    let seen = wait::try_until(DEADLINE, || (pipe.so_far().matches(text).count() >= times).then_some(()));
    assert!(seen.is_some(), "`{text}` is not {times} times in: {}", pipe.so_far());
}

/// A pipe that is read to its end on its own thread, so that neither pipe can fill up and block the child.
///
/// The content is sent piece by piece, because it is needed even if the end never comes.
#[derive(Debug)]
struct Collected {
    pieces: Receiver<Vec<u8>>,
    bytes: Vec<u8>,
}

impl Collected {
    fn new(mut pipe: impl Read + Send + 'static) -> Self {
        let (sender, pieces) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { pieces, bytes: Vec::new() }
    }

    /// Returns the content so far.
    fn so_far(&mut self) -> String {
        self.bytes.extend(self.pieces.try_iter().flatten());
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Returns the content, and whether it reached its end by then.
    fn text(mut self, until: Instant) -> (String, bool) {
        let closed = loop {
            match self.pieces.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(piece) => self.bytes.extend(piece),
                Err(mpsc::RecvTimeoutError::Disconnected) => break true,
                Err(mpsc::RecvTimeoutError::Timeout) => break false,
            }
        };
        (String::from_utf8_lossy(&self.bytes).into_owned(), closed)
    }
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::TestHome;

    fn shell(home: &TestHome, script: &str) -> Maqet {
        Maqet::new("/bin/sh".into(), home.root(), home.environment()).args(["-c", script])
    }

    fn panic_of(act: impl FnOnce()) -> String {
        *catch_unwind(AssertUnwindSafe(act)).unwrap_err().downcast::<String>().unwrap()
    }

    #[test]
    fn test_run_stdout_and_stderr_are_separate() {
        let home = TestHome::new();

        let done = shell(&home, "echo out; echo err >&2; exit 3").run().code(3);

        assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("out\n", "err\n"));
    }

    #[test]
    fn test_run_large_output_is_read_completely() {
        let home = TestHome::new();

        let done = shell(&home, "head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2").run().ok();

        assert_eq!((done.stdout.len(), done.stderr.len()), (300_000, 300_000));
    }

    #[test]
    fn test_run_environment_is_that_of_the_home() {
        let home = TestHome::new();

        let done = shell(&home, "echo $HOME $MAQET_GUEST $CARGO_PKG_NAME $EXTRA").env("EXTRA", "x").run().ok();

        assert_eq!(done.stdout, format!("{} x\n", home.path("home").display()));
    }

    #[test]
    fn test_run_past_deadline_is_killed_and_shows_output() {
        let home = TestHome::new();

        let message = panic_of(|| {
            let late = shell(&home, "echo begun; exec tail -f /dev/null").deadline(Duration::from_millis(200));
            let _never = late.run();
        });

        assert!(message.contains("still running after 200ms") && message.contains("begun"), "{message}");
    }

    #[test]
    fn test_run_output_held_by_child_is_reported() {
        let home = TestHome::new();

        let message = panic_of(|| {
            // A file of the home, so that the home finds the process and ends it.
            let script = ": > tmp/log; tail -f \"$TMPDIR/log\" & echo started";
            let command = shell(&home, script);
            let _never = Maqet { grace: Duration::from_millis(500), ..command }.run();
        });

        assert!(message.contains("holds its output open"), "{message}");
    }

    #[test]
    fn test_ok_failed_command_panics_with_its_output() {
        let home = TestHome::new();

        let message = panic_of(|| {
            let _never = shell(&home, "echo out; echo err >&2; exit 4").run().ok();
        });

        assert!(["code 0", "exit status: 4", "out", "err"].iter().all(|part| message.contains(part)), "{message}");
    }

    #[test]
    fn test_json_value_document_is_read() {
        let home = TestHome::new();

        let value = shell(&home, r#"echo '{"name": "web"}'"#).run().ok().json_value();

        assert_eq!(value["name"], "web");
    }

    #[test]
    fn test_wait_for_stderr_sees_output_of_running_process() {
        let home = TestHome::new();

        let mut running = shell(&home, "echo one >&2; echo two >&2; exec tail -f /dev/null").spawn();
        running.wait_for_stderr("two");
        let had_ended = running.has_ended();
        let done = running.kill();

        assert_eq!((had_ended, done.stderr.as_str()), (false, "one\ntwo\n"));
    }

    #[test]
    fn test_kill_running_process_has_no_exit_code() {
        let home = TestHome::new();

        let done = shell(&home, "exec tail -f /dev/null").spawn().kill();

        assert_eq!(done.code, None);
    }
}
