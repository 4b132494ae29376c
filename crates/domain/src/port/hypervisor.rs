//! QEMU: its binary and its processes.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;

use super::disk::{ImageUser, used_by};
use crate::command_line::CommandLine;
use crate::error::{Cause, Explain, Explanation, Fault};
use crate::qemu::QemuVersion;
use crate::qmp::RunState;
use crate::qmp::wording::{ListedName, NameList};
use crate::vm::{ExitReport, HaltReason, ProcessIdentity, Run, RunEnd, RunPaths, StateDetails, StoppedTime};

/// A QEMU binary that was run successfully.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QemuBinary {
    /// Its absolute path.
    pub path: PathBuf,
    /// The version it printed.
    pub version: QemuVersion,
    /// The build it printed, as `query-version` reports it; empty if it has no name.
    pub package: String,
}

/// Why a binary cannot be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum BinaryError {
    /// It does not exist; `binary` is a path or a name.
    #[error("QEMU binary `{binary}` not found")]
    NotFound { binary: String },
    #[error("cannot run QEMU binary `{}`", path.display())]
    NotExecutable { path: PathBuf, source: Cause },
    /// It ran, but is not QEMU; `printed` is its output, or states that it printed nothing or did not exit.
    #[error("`{}` is not a QEMU binary: {printed}", path.display())]
    NotQemu { path: PathBuf, printed: String },
}

impl Explain for BinaryError {
    fn explain(&self) -> Explanation {
        match self {
            Self::NotFound { binary } => {
                let package = debian_package(binary.rsplit('/').next().unwrap_or_default());
                Explanation::new("host.binary-not-found", Fault::Host)
                    .hint(format!("install it (Debian: `apt install {package}`), or set `binary:`"))
            }
            Self::NotExecutable { .. } => Explanation::new("host.binary-unavailable", Fault::Host)
                .hint("make it executable, or set `binary:` to another one"),
            Self::NotQemu { .. } => {
                Explanation::new("host.binary-invalid", Fault::Host).hint("set `binary:` to a `qemu-system-…`")
            }
        }
    }
}

/// Returns the Debian 12 package that contains a `qemu-system-…` binary.
fn debian_package(binary: &str) -> &'static str {
    match binary.strip_prefix("qemu-system-") {
        Some("x86_64" | "i386") => "qemu-system-x86",
        Some("aarch64" | "arm") => "qemu-system-arm",
        Some("ppc" | "ppc64") => "qemu-system-ppc",
        Some("mips" | "mipsel" | "mips64" | "mips64el") => "qemu-system-mips",
        Some("sparc" | "sparc64") => "qemu-system-sparc",
        Some(_) => "qemu-system-misc",
        None => "qemu-system",
    }
}

/// What a launch needs.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The command line to run.
    pub command_line: CommandLine,
    /// Where its files are; the launch creates the directories.
    pub paths: RunPaths,
    /// Files that QEMU reads while it starts; they are private, and removed once it has.
    pub files: Vec<RunFile>,
    /// How long QEMU may take to respond on its command monitor.
    pub timeout: Duration,
    /// Whether the process that starts QEMU stays with it: QEMU is killed when that process ends, and does not react to
    /// the signals that a terminal or a job scheduler sends to a whole group of processes.
    pub is_foreground: bool,
    /// Whether another QEMU runs the VM, and this one is to take it over: it gets the lock of the VM by
    /// [`take_over`](Hypervisor::take_over).
    pub is_successor: bool,
}

/// A file of a run, whose content may be secret.
#[derive(Clone, PartialEq, Eq)]
pub struct RunFile {
    /// Its path, in the directory of the sockets.
    pub path: PathBuf,
    /// Its content.
    pub content: Vec<u8>,
}

impl fmt::Debug for RunFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunFile").field("path", &self.path).finish_non_exhaustive()
    }
}

/// A QEMU that was launched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launched {
    /// Its process.
    pub process: ProcessIdentity,
    /// The run state its monitor reported.
    pub state: RunState,
    /// Why its logs cannot be written, as on a full disk.
    pub log_failure: Option<String>,
    /// What QEMU complained about.
    pub warnings: Vec<String>,
}

/// Why a launch failed before the monitor responded; none of its processes is left.
///
/// `stderr_tail` is the end of what the program wrote to its standard error.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum LaunchError {
    /// QEMU exited; `status` is its exit code or signal.
    #[error("QEMU exited with {status}{}", suffix(stderr_tail))]
    Exited { status: String, stderr_tail: String },
    /// The guest ran, and ended QEMU; `warnings` are what QEMU complained about before.
    #[error("the guest ended QEMU before its monitor responded")]
    GuestEnded { report: Box<ExitReport>, warnings: Vec<String> },
    /// QEMU did not respond in time and was killed.
    #[error("QEMU did not respond on its monitor within {after:?}{}", suffix(stderr_tail))]
    TimedOut { after: Duration, stderr_tail: String },
    /// QEMU exited because another process has a disk image open.
    #[error("disk image `{}` is in use{}", path.display(), used_by(by.as_ref()))]
    ImageInUse { path: PathBuf, by: Option<ImageUser> },
    #[error("socket path is too long ({} bytes, the limit is {}): `{}`", path.as_os_str().len(), RunPaths::SOCKET_PATH_MAX, path.display())]
    SocketPathTooLong { path: PathBuf },
    /// A program that QEMU needs, or its start, is not installed; `package` is the Debian package.
    #[error("`{program}` is not installed")]
    HelperNotFound { program: &'static str, package: &'static str },
    /// QEMU runs the VM already, in a process that is not visible here.
    #[error("QEMU runs in another PID namespace")]
    RunsElsewhere,
    /// A QEMU process that the store does not record holds the lock that QEMU holds while it runs.
    #[error("QEMU process {pid} holds the lock of the VM")]
    RunLocked { pid: u32 },
    /// The processes in `/proc` are those of another PID namespace.
    #[error("`/proc` belongs to another PID namespace")]
    ForeignProc,
    #[error("`{program}` failed to start{}", suffix(stderr_tail))]
    HelperFailed { program: &'static str, stderr_tail: String },
    /// A directory or file of the run could not be created, or is not safe.
    #[error("cannot {action} `{}`", path.display())]
    Io { action: &'static str, path: PathBuf, source: Cause },
}

fn suffix(stderr_tail: &str) -> String {
    match stderr_tail.trim() {
        "" => String::new(),
        text => format!(": {text}"),
    }
}

impl Explain for LaunchError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Exited { .. } | Self::GuestEnded { .. } => Explanation::new("vm.start-failed", Fault::Failed),
            Self::TimedOut { .. } => {
                Explanation::new("vm.start-timed-out", Fault::TimedOut).hint("pass a longer `--timeout`")
            }
            Self::ImageInUse { .. } => {
                Explanation::new("storage.in-use", Fault::Busy).hint("stop the process that uses it, or try again")
            }
            Self::SocketPathTooLong { .. } => Explanation::new("host.socket-path-invalid", Fault::Host)
                .hint("pass a shorter path with `--runtime-dir`"),
            Self::HelperNotFound { program, package } => Explanation::new("host.tool-not-found", Fault::Host)
                .hint(format!("install it (Debian: `apt install {package}`), or add `{program}` to PATH")),
            Self::RunsElsewhere => Explanation::new("vm.run-in-use", Fault::State)
                .hint("run maqet in the container or PID namespace in which the VM was started"),
            Self::RunLocked { .. } => Explanation::new("vm.orphan-conflict", Fault::State)
                .hint("adopt it with `maqet cleanup --adopt-orphans`")
                .hint("end it with `maqet cleanup --end-orphans`"),
            Self::ForeignProc => Explanation::new("host.proc-invalid", Fault::Host)
                .hint("mount `/proc` for this namespace, as `unshare --mount-proc` does"),
            Self::HelperFailed { program, .. } => {
                Explanation::new("vm.helper-failed", Fault::Failed).hint(match *program {
                    "swtpm" => "check the permissions and the free space of the storage directory of the VM",
                    _ => "check the forwarded ports: another program may use them",
                })
            }
            Self::Io { .. } => Explanation::new("host.io-failed", Fault::Host)
                .hint("check the owner, the permissions and the free space of its directory"),
        }
    }
}

/// A QEMU without a guest, which has images open; it is killed, and its directory removed, on drop.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait ImageServer: Send + Sync {
    /// Waits at most `timeout` until it has exited; returns whether it has.
    async fn wait(&mut self, timeout: Duration) -> bool;
}

/// Starts QEMU and manages the files of its runs.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Hypervisor: Send + Sync {
    /// Finds a binary and runs its `--version`; a name without a slash is searched for in PATH.
    ///
    /// Errors: `NotFound`, `NotExecutable`, `NotQemu`.
    async fn binary(&self, binary: &str) -> Result<QemuBinary, BinaryError>;

    /// Returns the names that a binary prints in a list; none if it cannot be run.
    async fn names(&self, binary: &Path, list: NameList) -> Vec<ListedName>;

    /// Starts QEMU in its own session, and returns once its command monitor reported the run state.
    ///
    /// Creates the directories of the run, captures QEMU's standard error, and starts the QMP log. On an error, and
    /// when the future is dropped, no process of the launch is left; its logs stay.
    async fn launch(&self, launch: &Launch) -> Result<Launched, LaunchError>;

    /// Makes the lock of a successor that of the VM: from then on, it is the QEMU that runs the VM; without one, nothing
    /// changes.
    async fn take_over(&self, paths: &RunPaths) -> Result<(), LaunchError>;

    /// Removes the lock of a successor that is gone.
    async fn discard_successor(&self, paths: &RunPaths);

    /// Starts a QEMU without a guest as a child process, and returns once its command monitor responds.
    ///
    /// Its directory is that of the sockets of `launch`, which has its log as well; an earlier server with the same one is
    /// ended. Errors: as `launch`.
    async fn serve_images(&self, launch: &Launch) -> Result<Box<dyn ImageServer>, LaunchError>;

    /// Ends a server of images whose starting process was killed, and removes its directory.
    async fn end_image_server(&self, paths: &RunPaths);

    /// Finds the process of a run whose identity was not stored, because the starting process was killed.
    async fn find_process(&self, paths: &RunPaths) -> Option<ProcessIdentity>;

    /// Returns whether QEMU runs the VM of a run in a process that is not visible here: in another PID namespace.
    ///
    /// Its locks tell: they hold across namespaces, as long as the directories are shared.
    async fn is_hidden(&self, paths: &RunPaths) -> bool;

    /// Returns the visible QEMU process that holds the lock of a VM, whichever of its runs it belongs to.
    async fn lock_holder(&self, paths: &RunPaths) -> Option<ProcessIdentity>;

    /// Returns the running process that wrote the pid file of a run and has its command line, or that holds its lock,
    /// whatever the store says: the database may be older than the process, or written in another PID namespace.
    async fn process_in_pid_file(&self, paths: &RunPaths) -> Option<ProcessIdentity>;

    /// Completes the launch of a run whose starting process was killed before doing so: starts the QMP log, and removes
    /// the names of the overlays that QEMU has open.
    async fn finish_launch(&self, paths: &RunPaths);

    /// Returns the last `SHUTDOWN` in the QMP log of a run, if the guest was not resumed or reset since.
    ///
    /// QEMU may still run: it stays after that with `-no-shutdown`.
    async fn shutdown_event(&self, paths: &RunPaths) -> Option<RunEnd>;

    /// Returns why the QEMU of a run ended, as far as what it left behind says; its process is gone.
    ///
    /// Says most before [`remove_sockets`](Self::remove_sockets).
    async fn exit_report(&self, run: &Run) -> ExitReport;

    /// Notes what the kernel says about the end of a run, if nothing else explains it: its log is slow to read, and
    /// forgets; its process is gone.
    async fn note_exit(&self, run: &Run);

    /// Returns more about why the guest of a run does not run, from the logs of its QEMU.
    async fn explain_halt(&self, paths: &RunPaths, halted: HaltReason) -> (HaltReason, StateDetails);

    /// Counts how often the guest reset itself, by the last part of its QMP log.
    async fn guest_resets(&self, paths: &RunPaths) -> u64;

    /// Returns how long the guest did not run since it booted, by the last part of its QMP log.
    async fn stopped_time(&self, paths: &RunPaths) -> StoppedTime;

    /// Removes the sockets of a run whose process is gone; its logs stay.
    async fn remove_sockets(&self, paths: &RunPaths);

    /// Removes everything of a VM's runs: `vm_sockets` and `vm_records` and all below.
    async fn remove_vm_files(&self, vm_sockets: &Path, vm_records: &Path);
}

/// A signal to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signal {
    /// SIGTERM: QEMU exits cleanly and immediately; for the guest, it is a power cut.
    Term,
    /// SIGKILL.
    Kill,
}

/// Why a process could not be signaled.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum ProcessError {
    #[error("not permitted to signal process {}", process.pid)]
    NotPermitted { process: ProcessIdentity },
    /// It has no process ID here.
    #[error("cannot signal a process of another PID namespace")]
    OtherNamespace,
    #[error("cannot signal process {}", process.pid)]
    Failed { process: ProcessIdentity, source: Cause },
}

impl Explain for ProcessError {
    fn explain(&self) -> Explanation {
        match self {
            Self::NotPermitted { .. } => {
                Explanation::new("host.signal-refused", Fault::Host).hint("run maqet as the user who started the VM")
            }
            Self::OtherNamespace => Explanation::new("host.process-unavailable", Fault::Host)
                .hint("run maqet in the container or PID namespace in which the VM was started"),
            Self::Failed { .. } => Explanation::new("host.signal-failed", Fault::Host),
        }
    }
}

/// What keeps a process from running at all, until it is taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Freeze {
    /// A signal (SIGSTOP; state `T` of proc(5)).
    Signal,
    /// Its cgroup is frozen.
    Cgroup(FrozenCgroup),
}

/// A frozen cgroup, of version 1 or 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrozenCgroup {
    /// The file that froze it.
    pub control: PathBuf,
    /// What to write to that file to thaw it.
    pub thawed: &'static str,
}

/// Inspects and signals processes by their identity; another process with a reused pid is never touched.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Processes: Send + Sync {
    /// Returns whether this process runs; a zombie does not, once all of its threads are gone.
    fn is_alive(&self, process: &ProcessIdentity) -> bool;

    /// Returns what keeps this running process from running at all, if anything does.
    fn frozen(&self, process: &ProcessIdentity) -> Option<Freeze>;

    /// Returns whether this running process is exiting: the kernel still holds its files for a moment.
    fn is_exiting(&self, process: &ProcessIdentity) -> bool;

    /// Returns the command line of this process; empty if it cannot be read.
    fn args(&self, process: &ProcessIdentity) -> Vec<String>;

    /// Returns whether this process was started since the host booted; otherwise it cannot be running.
    fn is_from_this_boot(&self, process: &ProcessIdentity) -> bool;

    /// Returns whether this process was started to stay with the one that started it ([`Launch::is_foreground`]): it does
    /// not react to SIGTERM.
    fn is_in_foreground(&self, process: &ProcessIdentity) -> bool;

    /// Returns whether this process has the file that is at a path now mapped into its memory.
    fn maps_file(&self, process: &ProcessIdentity, path: &Path) -> bool;

    /// Signals this process; one that has exited is not an error.
    async fn signal(&self, process: &ProcessIdentity, signal: Signal) -> Result<(), ProcessError>;

    /// Waits at most `timeout` until the process has exited; returns whether it has.
    async fn wait_for_exit(&self, process: &ProcessIdentity, timeout: Duration) -> bool;
}
