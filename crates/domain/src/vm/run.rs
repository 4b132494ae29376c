//! A run: one start of a VM, from the spawn of QEMU to its end.

use std::fmt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::network::Forward;

/// Names one boot of the host's kernel (`/proc/sys/kernel/random/boot_id`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootId(pub String);

/// A process that cannot be mistaken for another one, not even after its pid was used again.
///
/// A pid is only a number that the kernel reuses; together with the moment the process started and
/// the boot of the kernel that counted it, it names one process.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// The process id.
    pub pid: u32,
    /// When it started, in clock ticks since boot (`/proc/PID/stat`, field 22; see proc(5)).
    pub start_ticks: u64,
    /// The boot of the kernel it runs on.
    pub boot_id: BootId,
}

/// Counts the starts of a VM, beginning at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootNumber(pub u32);

impl BootNumber {
    /// Returns the number of the boot after `last`.
    pub fn after(last: Option<Self>) -> Self {
        Self(last.map_or(1, |boot| boot.0.saturating_add(1)))
    }
}

impl fmt::Display for BootNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What one of a VM's monitors is for.
///
/// A QMP socket serves one client at a time (QEMU 7.2), so each kind of client has its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MonitorRole {
    /// Short commands; callers queue.
    Command,
    /// Sessions that stay; the first of two.
    SessionOne,
    /// Sessions that stay; the second of two.
    SessionTwo,
    /// Left free for tools that are not ours.
    External,
}

impl MonitorRole {
    /// All of them, in the order QEMU is given them.
    pub const ALL: [Self; 4] = [Self::Command, Self::SessionOne, Self::SessionTwo, Self::External];

    /// Returns the name of its socket and character device.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Command => "qmp",
            Self::SessionOne => "qmp-s1",
            Self::SessionTwo => "qmp-s2",
            Self::External => "qmp-external",
        }
    }
}

/// Where the files of one run are; absolute, private, and new for every run.
///
/// New, because a QEMU that is given a socket path in use takes it over without a word (7.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunPaths {
    /// The folder of the sockets; its path is short, sockets allow 107 bytes.
    pub sockets: PathBuf,
    /// The folder of what outlives the run: logs and the flight recorder.
    pub records: PathBuf,
}

impl RunPaths {
    /// The longest path of a socket, in bytes (`sun_path` holds 108 with its NUL; unix(7)).
    pub const SOCKET_PATH_MAX: usize = 107;

    /// Returns the places of boot `boot` of the VM whose folders these are.
    pub fn new(vm_sockets: &Path, vm_records: &Path, boot: BootNumber) -> Self {
        Self { sockets: vm_sockets.join(format!("b{boot}")), records: vm_records.join(format!("boot-{boot}")) }
    }

    /// Returns the boot a folder of records belongs to, if it is one.
    pub fn boot_of(records: &Path) -> Option<BootNumber> {
        records.file_name()?.to_str()?.strip_prefix("boot-")?.parse().ok().map(BootNumber)
    }

    /// Returns the socket of a monitor.
    pub fn monitor(&self, role: MonitorRole) -> PathBuf {
        self.sockets.join(format!("{}.sock", role.name()))
    }

    /// Returns the socket of the serial console.
    pub fn serial_socket(&self) -> PathBuf {
        self.sockets.join("serial.sock")
    }

    /// Returns the socket at which the helper of a network card listens.
    pub fn card_socket(&self, index: u8) -> PathBuf {
        self.sockets.join(format!("card-{index}.sock"))
    }

    /// Returns QEMU's own pid file.
    pub fn pid_file(&self) -> PathBuf {
        self.sockets.join("qemu.pid")
    }

    /// Returns the log of what the guest wrote to its first serial port.
    pub fn serial_log(&self) -> PathBuf {
        self.records.join("serial.log")
    }

    /// Returns what QEMU wrote to its standard error.
    pub fn qemu_log(&self) -> PathBuf {
        self.records.join("qemu.log")
    }

    /// Returns the path QEMU is given for the flight recorder; it adds `.in` and `.out`.
    pub fn recorder(&self) -> PathBuf {
        self.records.join("events")
    }

    /// Returns the flight recorder's log: QMP events, one JSON object a line.
    pub fn recorder_log(&self) -> PathBuf {
        self.records.join("events.out")
    }

    /// Returns the FIFO through which the flight recorder is negotiated.
    pub fn recorder_fifo(&self) -> PathBuf {
        self.records.join("events.in")
    }

    /// Returns the longest socket path among these.
    pub fn longest_socket(&self) -> PathBuf {
        let mut paths: Vec<PathBuf> = MonitorRole::ALL.iter().map(|role| self.monitor(*role)).collect();
        paths.extend([self.serial_socket(), self.card_socket(u8::MAX)]);
        paths.into_iter().max_by_key(|path| path.as_os_str().len()).unwrap_or_default()
    }
}

/// Why a VM is no longer running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopReason {
    /// The guest powered itself off.
    GuestShutdown,
    /// QEMU was told to quit over its monitor.
    HostQuit,
    /// QEMU was ended by a signal.
    HostSignal,
    /// QEMU ended without a word: it crashed or was killed.
    Crashed,
    /// The host was booted anew while it ran.
    HostReboot,
    /// Nobody can tell.
    Unknown,
}

impl StopReason {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::GuestShutdown, Self::HostQuit, Self::HostSignal, Self::Crashed, Self::HostReboot, Self::Unknown];

    /// Returns the reason whose word this is.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }

    /// Returns the word scripts see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GuestShutdown => "guest-shutdown",
            Self::HostQuit => "host-quit",
            Self::HostSignal => "host-signal",
            Self::Crashed => "crashed",
            Self::HostReboot => "host-reboot",
            Self::Unknown => "unknown",
        }
    }

    /// Returns the same for people.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::GuestShutdown => "the guest powered off",
            Self::HostQuit => "QEMU was told to quit",
            Self::HostSignal => "QEMU was ended by a signal",
            Self::Crashed => "QEMU crashed or was killed",
            Self::HostReboot => "the host was restarted under it",
            Self::Unknown => "nobody can tell why",
        }
    }
}

/// How and when a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// Why.
    pub reason: StopReason,
    /// When, where that is known.
    pub at: Option<Timestamp>,
}

/// How far a run has come, as far as we wrote it down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Written before QEMU is spawned.
    Starting,
    /// Written once its monitor answered.
    Running,
    /// Written before it is asked to stop.
    Stopping,
    /// Written once its process was gone.
    Ended(Ending),
}

/// One start of a VM and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Which start of this VM.
    pub boot: BootNumber,
    /// How far it came.
    pub phase: Phase,
    /// QEMU's process; `None` until it was written down.
    pub process: Option<ProcessIdentity>,
    /// When the start was asked for.
    pub started_at: Timestamp,
    /// Where its files are.
    #[serde(alias = "places")]
    pub paths: RunPaths,
    /// The ports of the host that lead to the guest, with the ports that were really taken.
    pub forwards: Vec<Forward>,
}

impl Run {
    /// Returns this run, come to `phase`.
    #[must_use]
    pub fn at_phase(&self, phase: Phase) -> Self {
        Self { phase, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_run_places_usual_runtime_folder_fits_a_socket() {
        let vm = Path::new("/run/user/1000/maqet/0d9f2ac358b1");

        let paths = RunPaths::new(vm, Path::new("/s"), BootNumber(4_000_000_000));

        assert!(paths.longest_socket().as_os_str().len() <= RunPaths::SOCKET_PATH_MAX);
    }

    #[test]
    fn test_run_places_folder_of_records_tells_its_boot() {
        let paths = RunPaths::new(Path::new("/r"), Path::new("/s"), BootNumber(12));

        assert_eq!(RunPaths::boot_of(&paths.records), Some(BootNumber(12)));
        assert_eq!(RunPaths::boot_of(Path::new("/s/boot-notes")), None);
    }

    #[test]
    fn test_boot_number_after_none_is_one() {
        assert_eq!(BootNumber::after(None), BootNumber(1));
        assert_eq!(BootNumber::after(Some(BootNumber(7))), BootNumber(8));
    }
}
