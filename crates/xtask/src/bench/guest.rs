//! Work inside a guest: `exec`, `cp`, and the output of a command.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use maqet_testkit::guest;

use super::agent::Agent;
use super::baseline::{command_line, path_in};
use super::compare::{Comparison, output, output_with_code, timed};
use super::env::Env;
use super::row::{Bar, Row};
use crate::Result;
use crate::failure::{Failure, OrFailure};
use crate::task::{remark, warning};

const VM: &str = "guest";

/// How large a file is that is copied.
const FILE_BYTES: usize = 100 << 20;

/// How many small files are copied.
const FILES: usize = 2000;

/// The agent alone copies this part of the bytes, at a few megabytes a second, and of the files; the time is multiplied.
const BYTES_SHARE: u32 = 20;
const FILES_SHARE: u32 = 10;

/// How much a command writes to its standard output.
const OUTPUT_BYTES: u64 = 1 << 30;

/// How much memory `exec` may use meanwhile.
const MAX_OUTPUT_MEMORY_KIB: u64 = 32 << 10;

/// The port set that the raw stream uses: the last one that `exec` takes.
const RAW_SET: u8 = 4;

/// How many commands run at once.
const CONCURRENT: u8 = 20;

/// The guest, which has booted.
struct Guest<'a> {
    env: &'a Env<'a>,
    agent: PathBuf,
    raw_output: PathBuf,
}

pub(crate) fn guest(env: &Env<'_>) -> Result<Vec<Row>> {
    let guest = Guest::boot(env)?;
    let measured = guest.rows();
    output(env.maqet(["stop", VM, "--force"]))?;
    measured
}

impl<'a> Guest<'a> {
    fn boot(env: &'a Env<'a>) -> Result<Self> {
        crate::guest::ensure_debian(env.workspace.guest())?;
        let yaml = guest::debian_yaml(VM, &env.workspace.guest().debian());
        let file = env.home.write("guest.yaml", yaml);
        output(env.maqet([OsStr::new("add"), file.as_os_str()]))?;
        let arguments = command_line(env, VM)?;
        let socket = |id: &str| {
            let path = path_in(&arguments, &format!("socket,id={id},"));
            path.ok_or_else(|| Failure::new(format!("no channel `{id}` on the command line")))
        };
        let (agent, raw_output) = (socket("maqet-agent")?, socket(&format!("maqet-out{RAW_SET}"))?);
        output(env.maqet(["start", VM, "--wait", "agent", "--timeout", "5m"]))?;
        Ok(Self { env, agent, raw_output })
    }

    fn rows(&self) -> Result<Vec<Row>> {
        let mut rows = vec![self.exec()?, self.copy_in()?, self.copy_out()?];
        rows.extend([self.copy_files()?, self.output()?, self.concurrent()?]);
        Ok(rows)
    }

    fn agent(&self) -> Result<Agent> {
        Agent::connect(&self.agent)
    }

    fn exec(&self) -> Result<Row> {
        self.env.compare("`exec VM -- /bin/true`", "raw agent exec", Bar::TimesPlus(1.5, 15)).run(
            |_| timed(self.env.maqet(["exec", VM, "--", "/bin/true"])),
            |_| measured(|| self.agent()?.run("/bin/true", &[])),
        )
    }

    /// Returns a comparison of a fifth of the rounds: each takes seconds.
    fn compare_slow(&self, work: String, limit: &'static str, bar: Bar) -> Comparison {
        let comparison = self.env.compare(work, limit, bar);
        Comparison { runs: comparison.runs.div_ceil(5), ..comparison }
    }

    fn copy_in(&self) -> Result<Row> {
        let file = self.env.home.write("large", vec![0; FILE_BYTES]);
        let target = format!("{VM}:/root/large");
        self.compare_slow("`cp` of 100 MiB into the guest".to_owned(), "guest-file-write", Bar::Times(0.1)).run(
            |_| timed(self.env.maqet([OsStr::new("cp"), file.as_os_str(), OsStr::new(&target)])),
            |_| {
                let took = measured(|| self.agent()?.write("/root/part", FILE_BYTES / BYTES_SHARE as usize))?;
                Ok(took * BYTES_SHARE)
            },
        )
    }

    fn copy_out(&self) -> Result<Row> {
        let target = self.env.home.path("copied");
        let source = format!("{VM}:/root/large");
        self.compare_slow("`cp` of 100 MiB from the guest".to_owned(), "guest-file-read", Bar::Times(0.125)).run(
            |_| {
                let took = timed(self.env.maqet([OsStr::new("cp"), OsStr::new(&source), target.as_os_str()]))?;
                let length = fs::metadata(&target).or_failure(|| "nothing was copied".to_owned())?.len();
                if length == FILE_BYTES as u64 {
                    Ok(took)
                } else {
                    Err(Failure::new(format!("{length} bytes were copied")))
                }
            },
            |_| {
                let took = measured(|| self.agent()?.read("/root/part").map(drop))?;
                Ok(took * BYTES_SHARE)
            },
        )
    }

    fn copy_files(&self) -> Result<Row> {
        for index in 0..FILES {
            self.env.home.write(format!("many/{index}"), [b'x'; 1000]);
        }
        let (source, target) = (self.env.home.path("many"), format!("{VM}:/root/many"));
        let work = format!("`cp -r` of {FILES} files of 1 kB into the guest");
        self.compare_slow(work, "guest-file-write", Bar::Times(0.1)).run(
            |_| timed(self.env.maqet([OsStr::new("cp"), OsStr::new("-r"), source.as_os_str(), OsStr::new(&target)])),
            |_| {
                let took = measured(|| {
                    let mut agent = self.agent()?;
                    (0..FILES / FILES_SHARE as usize)
                        .try_for_each(|index| agent.write(&format!("/root/part-{index}"), 1000))
                })?;
                Ok(took * FILES_SHARE)
            },
        )
    }

    fn output(&self) -> Result<Row> {
        let mut most = 0;
        let row = self.compare_slow("1 GiB of output of `exec`".to_owned(), "raw port", Bar::Times(1.0 / 0.7)).run(
            |_| {
                let script = format!("head -c {OUTPUT_BYTES} /dev/zero");
                let (took, memory) = counted(self.env.maqet(["exec", VM, "--", "sh", "-c", &script]))?;
                most = most.max(memory);
                Ok(took)
            },
            |_| measured(|| self.raw_output()),
        )?;
        let text = format!("`exec` used at most {most} KiB of memory for 1 GiB of output");
        if most <= MAX_OUTPUT_MEMORY_KIB {
            remark(&text);
        } else {
            warning(&text);
        }
        Ok(row)
    }

    /// Reads the same from a port that a program in the guest writes to.
    fn raw_output(&self) -> Result<()> {
        let what = || format!("cannot read from `{}`", self.raw_output.display());
        let port = UnixStream::connect(&self.raw_output).or_failure(what)?;
        let script = format!("head -c {OUTPUT_BYTES} /dev/zero >/dev/virtio-ports/org.maqet.out.{RAW_SET}");
        self.agent()?.start("/bin/sh", &["-c", &script])?;
        let read = io::copy(&mut port.take(OUTPUT_BYTES), &mut io::sink()).or_failure(what)?;
        if read == OUTPUT_BYTES { Ok(()) } else { Err(Failure::new(what()).because(format!("{read} bytes came"))) }
    }

    fn concurrent(&self) -> Result<Row> {
        let script = |code: u8| format!("sleep 1; exit {code}");
        let command = |code: u8| self.env.maqet(["exec", VM, "--", "sh", "-c", &script(code)]);
        let work = format!("{CONCURRENT} concurrent `exec` of `sleep 1; exit N`");
        self.compare_slow(work, "one of them", Bar::Times(4.0)).run(
            |_| {
                measured(|| {
                    let what = || "cannot run `maqet exec`".to_owned();
                    let mut running = Vec::new();
                    for code in 1..=CONCURRENT {
                        let mut command = command(code);
                        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                        running.push((code, command.spawn().or_failure(what)?));
                    }
                    for (code, mut child) in running {
                        let status = child.wait().or_failure(what)?;
                        if status.code() != Some(i32::from(code)) {
                            return Err(Failure::new(format!("`exec` with exit code {code} ended with {status}")));
                        }
                    }
                    Ok(())
                })
            },
            |_| output_with_code(command(CONCURRENT), i32::from(CONCURRENT)).map(|(took, _)| took),
        )
    }
}

fn measured(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let began = Instant::now();
    work()?;
    Ok(began.elapsed())
}

/// Runs a command whose output is counted and has [`OUTPUT_BYTES`]; returns the duration, and how much memory it used at
/// most, in KiB.
fn counted(mut command: Command) -> Result<(Duration, u64)> {
    let what = || "cannot run `maqet exec`".to_owned();
    let began = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().or_failure(what)?;
    let status_file = format!("/proc/{}/status", child.id());
    let (mut buffer, mut count, mut memory) = (vec![0; 1 << 20], 0, 0);
    if let Some(mut pipe) = child.stdout.take() {
        loop {
            let read = pipe.read(&mut buffer).or_failure(what)?;
            if read == 0 {
                break;
            }
            // The kernel keeps the maximum, so that the last one that is read here is that of all output.
            let before = count >> 24;
            count += read as u64;
            if count >> 24 != before {
                memory = most_memory(&status_file).unwrap_or(memory);
            }
        }
    }
    let status = child.wait().or_failure(what)?;
    let took = began.elapsed();
    if status.success() && count == OUTPUT_BYTES {
        Ok((took, memory))
    } else {
        Err(Failure::new(format!("`maqet exec` ended with {status} after {count} bytes")))
    }
}

/// Returns the most memory that a process has used, in KiB.
fn most_memory(status: &str) -> Option<u64> {
    let status = fs::read_to_string(status).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_most_memory_of_this_process_is_known() {
        assert!(most_memory("/proc/self/status").is_some_and(|memory| memory > 100));
        assert_eq!(most_memory("/proc/self/none"), None);
    }
}
