//! A run: one start of a VM, until its process exits.

use std::fmt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::reason::StopReason;
use crate::guest::{GuestStream, PortSet};
use crate::network::Forward;
use crate::qemu::NodeName;

/// The directory of the overlays of a run, beside its logs.
const OVERLAYS: &str = "overlays";

/// The directory of QEMU's temporary files, beside it.
const TEMPORARY: &str = "tmp";

/// The id of one boot of the host (`/proc/sys/kernel/random/boot_id`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootId(pub String);

/// A PID namespace of the host: the inode of `/proc/self/ns/pid` (`pid_namespaces(7)`).
///
/// The kernel reuses the numbers of namespaces that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PidNamespace(pub u64);

impl PidNamespace {
    /// A namespace that cannot be identified, which differs from all others.
    pub const UNIDENTIFIED: Self = Self(0);
}

/// Identifies a process even after its pid was reused.
///
/// The kernel reuses pids; a pid is unique only together with the start time and the boot of the host. It is valid in one
/// PID namespace: in another one, the same number is another process, or none.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// The process id.
    pub pid: u32,
    /// When it started, in clock ticks since boot (`/proc/PID/stat`, field 22; see proc(5)).
    pub start_ticks: u64,
    /// The boot of the host it was started in.
    pub boot_id: BootId,
    /// The PID namespace in which it has this process id; `None` if that was not recorded, which means the same one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<PidNamespace>,
}

/// The process of a QEMU that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QemuProcess {
    /// It has a process id here.
    Visible(ProcessIdentity),
    /// It runs in a PID namespace whose processes are not visible here: it has no process id and cannot be signaled.
    ///
    /// Its sockets work all the same where their directory is shared.
    Hidden,
}

impl QemuProcess {
    /// Returns the process, if it is visible.
    pub const fn visible(&self) -> Option<&ProcessIdentity> {
        match self {
            Self::Visible(process) => Some(process),
            Self::Hidden => None,
        }
    }
}

/// The number of a run of a VM, starting at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootNumber(pub u32);

impl BootNumber {
    /// Returns the number after `last`.
    pub fn after(last: Option<Self>) -> Self {
        Self(last.map_or(1, |boot| boot.0.saturating_add(1)))
    }
}

impl fmt::Display for BootNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The purpose of one of a VM's monitors.
///
/// A QMP socket serves one client at a time (QEMU 7.2), so each kind of client has its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MonitorRole {
    /// For short commands; callers queue.
    Command,
    /// For long sessions; the first of two.
    SessionOne,
    /// For long sessions; the second of two.
    SessionTwo,
    /// Reserved for other tools; maqet never connects to it.
    External,
}

impl MonitorRole {
    /// All of them, in the order of the command line.
    pub const ALL: [Self; 4] = [Self::Command, Self::SessionOne, Self::SessionTwo, Self::External];

    /// Returns the name of its socket and character device; running VMs keep it across versions of maqet.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Command => "qmp",
            Self::SessionOne => "qmp-s1",
            Self::SessionTwo => "qmp-s2",
            Self::External => "qmp-free",
        }
    }
}

/// The folders of the files of one run: absolute, private, and new for every run.
///
/// New, because QEMU silently takes over the path of a socket in use (7.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunPaths {
    /// The folder of the sockets; its path is short, because socket paths have at most 107 bytes.
    pub sockets: PathBuf,
    /// The folder of the files that outlive the run: its logs and its QMP log.
    pub records: PathBuf,
}

impl RunPaths {
    /// The longest path of a socket, in bytes (`sun_path` holds 108 with its NUL; unix(7)).
    pub const SOCKET_PATH_MAX: usize = 107;

    /// Returns the paths of one boot of the VM with these folders.
    pub fn new(vm_sockets: &Path, vm_records: &Path, boot: BootNumber) -> Self {
        Self { sockets: vm_sockets.join(format!("b{boot}")), records: vm_records.join(format!("boot-{boot}")) }
    }

    /// Returns the boot number of a folder of records; `None` if it is not one.
    pub fn boot_of(records: &Path) -> Option<BootNumber> {
        records.file_name()?.to_str()?.strip_prefix("boot-")?.parse().ok().map(BootNumber)
    }

    /// Returns the socket of a monitor.
    pub fn monitor(&self, role: MonitorRole) -> PathBuf {
        self.sockets.join(format!("{}.sock", role.name()))
    }

    /// Returns the path of the pipe of the serial console; QEMU adds `.in` and `.out`.
    pub fn serial_pipe(&self) -> PathBuf {
        self.sockets.join("serial")
    }

    /// Returns the FIFO with the input of the serial console; its output is in the [log](Self::serial_log).
    pub fn serial_input(&self) -> PathBuf {
        self.sockets.join("serial.in")
    }

    /// Returns the output of the pipe of the serial console, a link to `/dev/null`: QEMU writes the log beside it.
    pub fn serial_output(&self) -> PathBuf {
        self.sockets.join("serial.out")
    }

    /// Returns the socket of the serial console of a VM that was started before the console was a pipe.
    pub fn serial_socket(&self) -> PathBuf {
        self.sockets.join("serial.sock")
    }

    /// Returns the socket of the helper of a network card.
    pub fn card_socket(&self, index: u8) -> PathBuf {
        self.sockets.join(format!("card-{index}.sock"))
    }

    /// Returns the socket of the TPM.
    pub fn tpm_socket(&self) -> PathBuf {
        self.sockets.join("tpm.sock")
    }

    /// Returns the socket at which the QEMU of this run waits for the state of a guest that it is to take over.
    pub fn takeover_socket(&self) -> PathBuf {
        self.sockets.join("takeover.sock")
    }

    /// Returns the image with the seed of the guest; QEMU has it open, and its name is removed.
    pub fn seed_image(&self) -> PathBuf {
        self.sockets.join("seed.iso")
    }

    /// Returns the file with a credential, which QEMU reads while it starts.
    pub fn credential(&self, index: u8) -> PathBuf {
        self.sockets.join(format!("credential-{index}"))
    }

    /// Returns the socket of the guest agent.
    pub fn agent_socket(&self) -> PathBuf {
        self.sockets.join("agent.sock")
    }

    /// Returns the socket of the console that is named to the guest.
    pub fn guest_console(&self) -> PathBuf {
        self.sockets.join("tty.sock")
    }

    /// Returns the socket of a port for a stream of a command.
    pub fn guest_stream(&self, set: PortSet, stream: GuestStream) -> PathBuf {
        self.sockets.join(format!("{stream}{set}.sock"))
    }

    /// Returns the sockets of all channels to the guest.
    pub fn guest_sockets(&self) -> impl Iterator<Item = PathBuf> + '_ {
        let ports = PortSet::all().flat_map(|set| GuestStream::ALL.map(|stream| self.guest_stream(set, stream)));
        [self.agent_socket(), self.guest_console()].into_iter().chain(ports)
    }

    /// Returns the directory of the overlays that the run writes to instead of images.
    pub fn overlays(&self) -> PathBuf {
        self.records.join(OVERLAYS)
    }

    /// Returns the directory of the temporary files of QEMU, which it does not remove if it is killed.
    pub fn temporary(&self) -> PathBuf {
        self.records.join(TEMPORARY)
    }

    /// Returns the overlay of a drive.
    pub fn overlay(&self, drive: &NodeName) -> PathBuf {
        self.overlays().join(format!("{drive}.qcow2"))
    }

    /// Returns whether `file` is the overlay of a run.
    pub fn is_overlay(file: &Path) -> bool {
        let directory = file.parent().filter(|directory| directory.ends_with(OVERLAYS));
        directory.and_then(Path::parent).is_some_and(|records| Self::boot_of(records).is_some())
    }

    /// Returns QEMU's own pid file.
    pub fn pid_file(&self) -> PathBuf {
        self.sockets.join("qemu.pid")
    }

    /// Returns the log of what the guest wrote to its first serial port.
    pub fn serial_log(&self) -> PathBuf {
        self.records.join("serial.log")
    }

    /// Returns the log of QEMU's standard error.
    pub fn qemu_log(&self) -> PathBuf {
        self.records.join("qemu.log")
    }

    /// Returns the log of the processors: their resets, if QEMU exits on a reset.
    pub fn cpu_log(&self) -> PathBuf {
        self.records.join("cpu.log")
    }

    /// Returns what was noted when QEMU was started, to conclude later why it ended.
    pub fn start_notes(&self) -> PathBuf {
        self.records.join("start.json")
    }

    /// Returns what the kernel said about the end of QEMU, where nothing else explains it.
    pub fn exit_notes(&self) -> PathBuf {
        self.records.join("exit.json")
    }

    /// Returns the path of the pipe of the QMP log; QEMU adds `.in` and `.out`.
    pub fn qmp_log_pipe(&self) -> PathBuf {
        self.records.join("events")
    }

    /// Returns the QMP log: events, one JSON object per line.
    pub fn qmp_log(&self) -> PathBuf {
        self.records.join("events.out")
    }

    /// Returns the FIFO through which the QMP log is negotiated.
    pub fn qmp_log_fifo(&self) -> PathBuf {
        self.records.join("events.in")
    }

    /// Returns the longest of these socket paths.
    pub fn longest_socket(&self) -> PathBuf {
        let mut paths: Vec<PathBuf> = MonitorRole::ALL.iter().map(|role| self.monitor(*role)).collect();
        paths.extend([self.serial_socket(), self.card_socket(u8::MAX)].into_iter().chain(self.guest_sockets()));
        paths.into_iter().max_by_key(|path| path.as_os_str().len()).unwrap_or_default()
    }
}

/// Why and when a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunEnd {
    /// Why.
    pub reason: StopReason,
    /// When, if known.
    pub at: Option<Timestamp>,
}

impl RunEnd {
    /// Returns the end of a run whose process has exited in `phase`: as its traces say, or as can be concluded without
    /// them.
    pub fn from_exit(phase: Phase, reported: Option<Self>, host_rebooted: bool) -> Self {
        if let Some(end) = reported {
            return end;
        }
        let reason = match phase {
            _ if host_rebooted => StopReason::HostReboot,
            Phase::Starting => StopReason::Unknown,
            Phase::Running | Phase::Stopping | Phase::Ended(_) => StopReason::Crashed,
        };
        Self { reason, at: None }
    }
}

/// The progress of a run, as it was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Stored before QEMU is spawned.
    Starting,
    /// Stored once its monitor responded.
    Running,
    /// Stored before it is asked to stop.
    Stopping,
    /// Stored once its process exited.
    Ended(RunEnd),
}

/// One start of a VM and its outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Its number.
    pub boot: BootNumber,
    /// Its progress.
    pub phase: Phase,
    /// QEMU's process; `None` until it was stored.
    pub process: Option<ProcessIdentity>,
    /// When the start was requested.
    pub started_at: Timestamp,
    /// Where its files are.
    pub paths: RunPaths,
    /// The forwarded ports, with the host ports that were actually bound.
    pub forwards: Vec<Forward>,
}

impl Run {
    /// Returns this run as it is once its VM was removed: QEMU was killed, if it was running.
    #[must_use]
    pub fn ended_by_removal(self) -> Self {
        match self.phase {
            Phase::Ended(_) => self,
            Phase::Starting | Phase::Running | Phase::Stopping => {
                let phase = Phase::Ended(RunEnd { reason: StopReason::HostSignal, at: None });
                Self { phase, ..self }
            }
        }
    }

    /// Returns this run in another phase.
    #[must_use]
    pub fn at_phase(&self, phase: Phase) -> Self {
        Self { phase, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_overlay_is_recognized_by_its_directory() {
        let paths = RunPaths::new(Path::new("/r/web"), Path::new("/s/web"), BootNumber(7));
        let overlay = paths.overlay(&NodeName::parse("hdd").unwrap());

        assert_eq!(overlay, Path::new("/s/web/boot-7/overlays/hdd.qcow2"));
        assert!(RunPaths::is_overlay(&overlay));
        for other in ["/s/web/boot-7/hdd.qcow2", "/d/overlays/hdd.qcow2", "/s/web/boot-7/overlays", "hdd.qcow2"] {
            assert!(!RunPaths::is_overlay(Path::new(other)), "{other}");
        }
    }

    #[test]
    fn test_run_paths_usual_runtime_folder_fits_a_socket() {
        let vm = Path::new("/run/user/1000/maqet/0d9f2ac358b1");

        let paths = RunPaths::new(vm, Path::new("/s"), BootNumber(4_000_000_000));

        assert!(paths.longest_socket().as_os_str().len() <= RunPaths::SOCKET_PATH_MAX);
    }

    #[test]
    fn test_run_paths_boot_of_reads_the_folder_name() {
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
