//! QEMU without maqet: started with the same arguments, queried until it answers, killed.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::Value;

use super::compare::output;
use super::env::{Env, json};
use crate::Result;
use crate::failure::{Failure, OrFailure};

/// Short compared to the start of QEMU, and long enough not to compete with it for the CPU.
const RETRY_INTERVAL: Duration = Duration::from_micros(200);

/// Far more than QEMU needs.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A QEMU command line, run without maqet.
#[derive(Debug)]
pub(crate) struct Baseline {
    arguments: Vec<String>,
    /// Shell commands that create what the command line refers to.
    setup: String,
    monitor: PathBuf,
}

/// A running QEMU, killed when dropped.
#[derive(Debug)]
pub(crate) struct Running(Child);

impl Baseline {
    /// Takes the command line of a VM that maqet never starts.
    pub(crate) fn new(env: &Env<'_>, vm: &str) -> Result<Self> {
        let info = info(env, vm)?;
        let arguments = texts(&info["argv"]);
        let monitor = path_in(&arguments, "socket,id=qmp,")
            .ok_or_else(|| Failure::new(format!("the command line of `{vm}` has no command monitor")))?;
        Ok(Self { arguments, setup: texts(&info["setup_commands"]).join(" && "), monitor })
    }

    /// Returns this command line with more arguments at its end.
    pub(crate) fn with_arguments(mut self, more: &[String]) -> Self {
        self.arguments.extend_from_slice(more);
        self
    }

    /// Returns this command line with another text in the place of one in it, as for another directory.
    pub(crate) fn replaced(&self, from: &str, to: &str) -> Self {
        let arguments = self.arguments.iter().map(|argument| argument.replace(from, to)).collect();
        let monitor = PathBuf::from(self.monitor.to_string_lossy().replace(from, to));
        Self { arguments, setup: self.setup.replace(from, to), monitor }
    }

    /// Returns its monitor for commands.
    pub(crate) fn monitor(&self) -> &Path {
        &self.monitor
    }

    /// Returns its arguments.
    pub(crate) fn arguments(&self) -> &[String] {
        &self.arguments
    }

    /// Starts QEMU and returns the time until it reports `running`.
    pub(crate) fn start(&self, env: &Env<'_>) -> Result<(Duration, Running)> {
        self.set_up(env)?;
        let mut command = self.command(env)?;

        let began = Instant::now();
        let running = Running::spawn(&mut command)?;
        until_running(&self.monitor)?;
        Ok((began.elapsed(), running))
    }

    /// Returns the command that runs QEMU, once what it refers to is [set up](Self::set_up).
    pub(crate) fn command(&self, env: &Env<'_>) -> Result<Command> {
        let (program, arguments) =
            self.arguments.split_first().ok_or_else(|| Failure::new("the command line is empty"))?;
        let mut command: Command = env.other(program, arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(command)
    }

    /// Creates what the command line refers to, without the sockets of an earlier start.
    pub(crate) fn set_up(&self, env: &Env<'_>) -> Result<()> {
        if let Some(sockets) = self.monitor.parent().filter(|sockets| sockets.exists()) {
            fs::remove_dir_all(sockets).or_failure(|| format!("cannot remove `{}`", sockets.display()))?;
        }
        output(env.other("sh", ["-c", &self.setup])).map(drop)
    }
}

impl Running {
    /// Starts a command that runs QEMU.
    pub(crate) fn spawn(command: &mut Command) -> Result<Self> {
        let what = || "cannot run QEMU".to_owned();
        command.spawn().map(Self).or_failure(what)
    }

    /// Returns its process.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Kills QEMU and returns the time until it has exited.
    pub(crate) fn kill(self) -> Result<Duration> {
        let what = || "cannot kill QEMU".to_owned();
        let pidfd = pidfd_open(Pid::from_child(&self.0), PidfdFlags::empty()).or_failure(what)?;
        let timeout = Timespec::try_from(TIMEOUT).ok();

        let began = Instant::now();
        pidfd_send_signal(&pidfd, Signal::KILL).or_failure(what)?;
        let exited = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], timeout.as_ref()).or_failure(what)?;
        let took = began.elapsed();
        if exited == 0 { Err(Failure::new("QEMU has not exited after SIGKILL")) } else { Ok(took) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone_already = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Returns the arguments that `start` would run now.
pub(crate) fn command_line(env: &Env<'_>, vm: &str) -> Result<Vec<String>> {
    Ok(texts(&info(env, vm)?["argv"]))
}

fn info(env: &Env<'_>, vm: &str) -> Result<Value> {
    json(env.maqet(["info", vm, "--command-line", "--format", "json"]))
}

fn texts(array: &Value) -> Vec<String> {
    array.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

/// Returns the path in the argument that starts with `prefix`; paths in a test home have no commas.
pub(crate) fn path_in(arguments: &[String], prefix: &str) -> Option<PathBuf> {
    let options = arguments.iter().find_map(|argument| argument.strip_prefix(prefix))?;
    options.split(',').find_map(|option| option.strip_prefix("path=")).map(PathBuf::from)
}

/// Waits until a starting QEMU reports `running` on `monitor`.
pub(crate) fn until_running(monitor: &Path) -> Result<()> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match is_running(monitor) {
            Ok(true) => return Ok(()),
            Err(error) if Instant::now() > deadline => {
                return Err(error).or_failure(|| format!("no answer from `{}`", monitor.display()));
            }
            Ok(false) if Instant::now() > deadline => {
                return Err(Failure::new(format!("the VM of `{}` is not running", monitor.display())));
            }
            Ok(false) | Err(_) => thread::sleep(RETRY_INTERVAL),
        }
    }
}

fn is_running(monitor: &Path) -> io::Result<bool> {
    let stream = UnixStream::connect(monitor)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let mut lines = BufReader::new(&stream).lines();
    let mut wait_for_key = |key: &str| {
        let found = lines.find(|line| line.as_ref().map_or(true, |line| line.contains(key)));
        found.unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))
    };
    wait_for_key("\"QMP\"")?;
    for command in ["qmp_capabilities", "query-status"] {
        (&stream).write_all(format!("{{\"execute\":\"{command}\"}}\n").as_bytes())?;
        let answer = wait_for_key("\"return\"")?;
        if command == "query-status" {
            return Ok(answer.contains("\"running\": true"));
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_path_in_several_sockets_is_of_the_named_one() {
        let arguments =
            ["-chardev", "socket,id=qmp-s1,path=/a,wait=off", "-chardev", "socket,id=qmp,path=/b/c,wait=off"]
                .map(str::to_owned);

        assert_eq!(path_in(&arguments, "socket,id=qmp,"), Some(PathBuf::from("/b/c")));
        assert_eq!(path_in(&arguments, "socket,id=qmp-free,"), None);
    }
}
