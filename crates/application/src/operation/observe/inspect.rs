//! `inspect`: what a VM really is and costs right now, asked of the kernel, of QEMU and of its disks.

mod disk;
mod machine;

use std::time::{Duration, Instant};

use jiff::Timestamp;
use maqet_domain::port::{PathKind, ProcessUsage};
use maqet_domain::vm::{MonitorRole, ProcessIdentity, Run, Status};
use serde::{Deserialize, Serialize};

pub use self::disk::InspectedDisk;
pub use self::machine::InspectedMachine;

use crate::app::operations::{Done, Effect, Operation};
use crate::app::shown;
use crate::vm::observe::{BusyReason, VmStatus};
use crate::{App, Error, limits};

/// Tells what a VM really is and costs right now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inspect {
    /// The VM: a name, an ID, or a unique prefix of an ID.
    pub vm: String,
}

/// What a VM really is and costs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VmInspection {
    /// Its state and its last run.
    #[serde(flatten)]
    pub vm: VmStatus,
    /// Its QEMU, while that lives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<InspectedProcess>,
    /// The machine, as QEMU itself tells it; nothing where its monitor does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<InspectedMachine>,
    /// Its disks and shares: those of the definition, then what else the machine has.
    pub disks: Vec<InspectedDisk>,
    /// Its sockets, while it lives.
    pub sockets: Vec<InspectedSocket>,
}

/// A QEMU that lives.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InspectedProcess {
    /// The process id.
    pub pid: u32,
    /// The program it runs, where that may be seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binary: Option<String>,
    /// Whether that program was removed or replaced since.
    pub binary_is_gone: bool,
    /// When the process started.
    pub started_at: Timestamp,
    /// How long it has been there.
    pub uptime_seconds: f64,
    /// How many threads it has.
    pub threads: u32,
    /// What it takes of the CPUs.
    pub cpu: CpuUse,
    /// The memory it has in RAM, shared pages counted in full.
    pub rss_bytes: u64,
    /// The same with shared pages divided among those who share them; left out where the kernel refuses to tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pss_bytes: Option<u64>,
}

/// What a process takes of the CPUs; 100 percent is one CPU all the time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CpuUse {
    /// Over the sample taken just now.
    pub percent: f64,
    /// How long that sample was.
    pub sample_seconds: f64,
    /// On average since the process started.
    pub percent_since_start: f64,
    /// All it took since then.
    pub seconds: f64,
}

/// A socket of a VM that lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InspectedSocket {
    /// The name of its character device in QEMU.
    pub name: String,
    /// What it is for.
    pub role: SocketRole,
    /// Where it is.
    pub file: String,
    /// Whether somebody is connected; left out where QEMU did not tell, and of the monitor it was asked on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connected: Option<bool>,
}

/// What a socket of a VM is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SocketRole {
    /// Short QMP commands; callers queue.
    Commands,
    /// QMP sessions that stay.
    Sessions,
    /// QMP, left to tools that are not ours.
    Free,
    /// The guest's first serial port.
    Serial,
}

impl SocketRole {
    const fn of(role: MonitorRole) -> Self {
        match role {
            MonitorRole::Command => Self::Commands,
            MonitorRole::SessionOne | MonitorRole::SessionTwo => Self::Sessions,
            MonitorRole::External => Self::Free,
        }
    }

    /// Returns what it is for, for people.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Commands => "QMP, short commands",
            Self::Sessions => "QMP, sessions that stay",
            Self::Free => "QMP, free for other tools",
            Self::Serial => "serial console",
        }
    }
}

impl Operation for Inspect {
    const NAME: &'static str = "inspect";
    const EFFECT: Effect = Effect::Reads;
    type Output = VmInspection;

    async fn run(&self, app: &App) -> Result<Done<VmInspection>, Error> {
        let vm = app.vm(&self.vm).await?;
        let seen = app.observer().observe(&vm.entry).await;
        let live = vm.entry.run.as_ref().zip(seen.process.as_ref());

        // The sample runs while the rest is asked, so that it costs little time of its own.
        let sample = live.and_then(|(_, process)| Sample::begin(app, process));
        let is_deaf = seen.status == Status::Unreachable || seen.busy.as_ref().is_some_and(BusyReason::is_unresponsive);
        let machine = match live {
            // It was just found not to answer; asking again would only take as long again.
            Some(_) if is_deaf => None,
            Some((run, _)) => app.machine_of(run).await,
            None => None,
        };
        let disks = app.disks_of(&vm, machine.as_ref().map(|told| told.drives.as_slice())).await;
        let sockets = match live {
            Some((run, _)) => app.sockets_of(run, machine.as_ref().map(|told| told.chardevs.as_slice())).await,
            None => Vec::new(),
        };
        let process = match sample {
            Some(sample) => sample.end(app).await,
            None => None,
        };
        Ok(Done::reading(VmInspection {
            vm: VmStatus::new(&vm.entry, &seen),
            process,
            machine: machine.map(|told| told.machine),
            disks,
            sockets,
        }))
    }
}

impl App {
    async fn sockets_of(&self, run: &Run, chardevs: Option<&[(String, bool)]>) -> Vec<InspectedSocket> {
        let monitors = MonitorRole::ALL.map(|role| (role.name(), SocketRole::of(role), run.paths.monitor(role)));
        let serial = (maqet_domain::command_line::SERIAL_CHARDEV, SocketRole::Serial, run.paths.serial_socket());
        let mut sockets = Vec::new();
        for (name, role, path) in monitors.into_iter().chain([serial]) {
            // A definition may send its serial port elsewhere.
            if self.ports.paths.kind(&path).await == PathKind::Other {
                // On the monitor for commands QEMU sees nobody but this very question.
                let asked = chardevs.filter(|_| role != SocketRole::Commands);
                let told = asked.and_then(|all| all.iter().find(|(known, _)| known == name));
                let connected = told.map(|(_, connected)| *connected);
                sockets.push(InspectedSocket { name: name.to_owned(), role, file: shown(&path), connected });
            }
        }
        sockets
    }
}

/// A look at what a process takes of the CPUs, begun and not yet ended.
struct Sample {
    process: ProcessIdentity,
    began: Instant,
    cpu_time: Duration,
}

impl Sample {
    fn begin(app: &App, process: &ProcessIdentity) -> Option<Self> {
        let cpu_time = app.ports.stats.cpu_time(process)?;
        Some(Self { process: process.clone(), began: Instant::now(), cpu_time })
    }

    /// Waits until the sample is long enough, and tells of the process, if it lives still.
    async fn end(self, app: &App) -> Option<InspectedProcess> {
        tokio::time::sleep(limits::CPU_SAMPLE.saturating_sub(self.began.elapsed())).await;
        let sampled = self.began.elapsed();
        let usage = app.ports.stats.usage(&self.process)?;
        let used = usage.cpu_time.saturating_sub(self.cpu_time);
        let cpu = CpuUse {
            percent: percent(used, sampled),
            sample_seconds: rounded(sampled.as_secs_f64()),
            percent_since_start: percent(usage.cpu_time, usage.uptime),
            seconds: rounded(usage.cpu_time.as_secs_f64()),
        };
        Some(inspected(self.process.pid, &usage, cpu))
    }
}

fn inspected(pid: u32, usage: &ProcessUsage, cpu: CpuUse) -> InspectedProcess {
    InspectedProcess {
        pid,
        binary: usage.binary.as_deref().map(shown),
        binary_is_gone: usage.is_binary_deleted,
        started_at: usage.started_at,
        uptime_seconds: rounded(usage.uptime.as_secs_f64()),
        threads: usage.threads,
        cpu,
        rss_bytes: usage.rss.bytes(),
        pss_bytes: usage.pss.map(maqet_domain::size::ByteSize::bytes),
    }
}

/// Returns how much of `time` was used, in percent.
fn percent(used: Duration, time: Duration) -> f64 {
    if time.is_zero() {
        return 0.0;
    }
    rounded(used.as_secs_f64() / time.as_secs_f64() * 100.0)
}

/// Cuts to two decimals: the kernel counts in hundredths of a second.
fn rounded(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_percent_of_one_busy_cpu_is_a_hundred() {
        let second = Duration::from_secs(1);

        assert!((percent(second, second) - 100.0).abs() < 0.001);
        assert!((percent(second, second * 3) - 33.33).abs() < 0.001);
        assert!((percent(second * 2, second) - 200.0).abs() < 0.001);
    }

    #[test]
    fn test_percent_of_no_time_is_nothing() {
        assert!(percent(Duration::from_secs(1), Duration::ZERO).abs() < 0.001);
    }
}
