//! QEMU without maqet: started with the same words, asked until it answers, killed.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::ground::{Ground, json};
use crate::Result;
use crate::failure::{Failure, OrFailure};

/// Short against the start of QEMU, and long enough to leave it the processor.
const PAUSE: Duration = Duration::from_micros(200);

/// Far more than QEMU takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A QEMU that maqet knows nothing of.
#[derive(Debug)]
pub(crate) struct Bare {
    words: Vec<String>,
    monitor: PathBuf,
    events: PathBuf,
}

/// One that runs; dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Running(Child);

impl Bare {
    /// Takes the command line of a VM that is never started by maqet.
    pub(crate) fn of(ground: &Ground<'_>, vm: &str) -> Result<Self> {
        let words = command_line(ground, vm)?;
        let missing = |what| Failure::new(format!("the command line of `{vm}` has no {what}"));
        let monitor = path_in(&words, "socket,id=qmp,").ok_or_else(|| missing("command monitor"))?;
        let events = path_in(&words, "pipe,id=events,").ok_or_else(|| missing("flight recorder"))?;
        Ok(Self { words, monitor, events })
    }

    /// Starts it and returns how long it took until it answered `running`.
    pub(crate) fn start(&self, ground: &Ground<'_>) -> Result<(Duration, Running)> {
        self.make_places().or_failure(|| format!("cannot make the folders of `{}`", self.monitor.display()))?;
        let (program, arguments) = self.words.split_first().ok_or_else(|| Failure::new("the command line is empty"))?;
        let mut command: Command = ground.other(program, arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());

        let began = Instant::now();
        let running = Running(command.spawn().or_failure(|| format!("cannot run `{program}`"))?);
        until_running(&self.monitor)?;
        Ok((began.elapsed(), running))
    }

    /// Makes what its command line takes for granted, anew.
    fn make_places(&self) -> io::Result<()> {
        for folder in [&self.monitor, &self.events].into_iter().filter_map(|path| path.parent()) {
            match fs::remove_dir_all(folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => fs::create_dir_all(folder)?,
            }
        }
        fs::File::create(self.events.with_extension("out"))?;
        mkfifoat(CWD, self.events.with_extension("in"), Mode::RUSR | Mode::WUSR)?;
        Ok(())
    }
}

impl Running {
    /// Kills it and returns how long it took until it was gone.
    pub(crate) fn kill(self) -> Result<Duration> {
        let what = || "cannot kill a QEMU of our own".to_owned();
        let pidfd = pidfd_open(Pid::from_child(&self.0), PidfdFlags::empty()).or_failure(what)?;
        let patience = Timespec::try_from(PATIENCE).ok();

        let began = Instant::now();
        pidfd_send_signal(&pidfd, Signal::KILL).or_failure(what)?;
        let gone = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], patience.as_ref()).or_failure(what)?;
        let took = began.elapsed();
        if gone == 0 { Err(Failure::new("a killed QEMU does not die")) } else { Ok(took) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone_already = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Returns the words that would start a VM now.
pub(crate) fn command_line(ground: &Ground<'_>, vm: &str) -> Result<Vec<String>> {
    let info = json(ground.maqet(["info", vm, "--command-line", "--format", "json"]))?;
    let words = info["argv"].as_array().into_iter().flatten();
    Ok(words.filter_map(|word| word.as_str().map(str::to_owned)).collect())
}

/// Returns the path in the word that begins with `beginning`; paths of a test home have no commas.
pub(crate) fn path_in(words: &[String], beginning: &str) -> Option<PathBuf> {
    let options = words.iter().find_map(|word| word.strip_prefix(beginning))?;
    options.split(',').find_map(|option| option.strip_prefix("path=")).map(PathBuf::from)
}

/// Waits until a QEMU that is coming up answers `running` on `monitor`.
pub(crate) fn until_running(monitor: &Path) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        match is_running(monitor) {
            Ok(true) => return Ok(()),
            Err(error) if Instant::now() > end => {
                return Err(error).or_failure(|| format!("nobody answers on `{}`", monitor.display()));
            }
            Ok(false) if Instant::now() > end => {
                return Err(Failure::new(format!("the machine of `{}` does not run", monitor.display())));
            }
            Ok(false) | Err(_) => thread::sleep(PAUSE),
        }
    }
}

fn is_running(monitor: &Path) -> io::Result<bool> {
    let stream = UnixStream::connect(monitor)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(&stream).lines();
    let mut await_key = |key: &str| {
        let found = lines.find(|line| line.as_ref().map_or(true, |line| line.contains(key)));
        found.unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))
    };
    await_key("\"QMP\"")?;
    for command in ["qmp_capabilities", "query-status"] {
        (&stream).write_all(format!("{{\"execute\":\"{command}\"}}\n").as_bytes())?;
        let answer = await_key("\"return\"")?;
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
    fn test_path_in_words_is_that_of_the_named_option() {
        let words = ["-chardev", "socket,id=qmp-s1,path=/a,wait=off", "-chardev", "socket,id=qmp,path=/b/c,wait=off"]
            .map(str::to_owned);

        assert_eq!(path_in(&words, "socket,id=qmp,"), Some(PathBuf::from("/b/c")));
        assert_eq!(path_in(&words, "pipe,id=events,"), None);
    }
}
