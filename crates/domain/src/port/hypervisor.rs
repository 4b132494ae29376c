//! QEMU: its binary and its processes.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;

use super::disk::{ImageUser, used_by};
use crate::command_line::CommandLine;
use crate::error::{Cause, Explain, Fault};
use crate::qemu::QemuVersion;
use crate::qmp::RunState;
use crate::vm::{ProcessIdentity, RunPaths, Shutdown};

/// A QEMU binary that was really run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QemuBinary {
    /// Where it is, absolute.
    pub path: PathBuf,
    /// What it says it is.
    pub version: QemuVersion,
}

/// Why a binary cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BinaryError {
    /// It is not there.
    #[error("QEMU binary not found: {wanted}")]
    Missing {
        /// What was looked for: a path or a name.
        wanted: String,
    },
    /// It may not be run.
    #[error("QEMU binary cannot be run: {}", path.display())]
    NotRunnable {
        /// Where it is.
        path: PathBuf,
        /// Why.
        source: Cause,
    },
    /// It ran and is no QEMU.
    #[error("{} is not QEMU: {printed}", path.display())]
    NotQemu {
        /// Where it is.
        path: PathBuf,
        /// What it printed, or that it printed nothing or never ended.
        printed: String,
    },
}

impl Explain for BinaryError {
    fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "host.binary-missing",
            Self::NotRunnable { .. } => "host.binary-not-runnable",
            Self::NotQemu { .. } => "host.binary-not-qemu",
        }
    }

    fn fault(&self) -> Fault {
        Fault::Host
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Missing { wanted } => {
                let name = wanted.rsplit('/').next().unwrap_or_default();
                vec![format!("install it (Debian: `apt install {}`), or set `binary:`", debian_package(name))]
            }
            Self::NotRunnable { .. } => vec!["make it executable, or set `binary:` to one that is".to_owned()],
            Self::NotQemu { .. } => vec!["set `binary:` to a `qemu-system-…`".to_owned()],
        }
    }
}

/// Returns the Debian 12 package that holds a `qemu-system-…` binary.
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
    /// What is run.
    pub command_line: CommandLine,
    /// Where its files are; the folders are made by the launch.
    pub paths: RunPaths,
    /// How long QEMU may take to answer on its command monitor.
    pub deadline: Duration,
}

/// A QEMU that is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launched {
    /// Its process.
    pub process: ProcessIdentity,
    /// The run state its monitor told.
    pub state: RunState,
}

/// Why a launch did not get as far as an answering monitor; nothing of it runs any more.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// QEMU ended by itself.
    #[error("QEMU ended with {status}{}", said(last_words))]
    Exited {
        /// Its exit code or signal, in words.
        status: String,
        /// The end of what it wrote to its standard error.
        last_words: String,
    },
    /// QEMU did not answer in time and was ended.
    #[error("QEMU did not answer on its monitor within {after:?}{}", said(last_words))]
    TimedOut {
        /// How long was waited.
        after: Duration,
        /// The end of what it wrote to its standard error.
        last_words: String,
    },
    /// The user had enough of it, and QEMU was ended.
    #[error("the start was interrupted")]
    Interrupted,
    /// Somebody else has a disk image open, and QEMU ended because of it.
    #[error("the disk image `{}` is in use{}", path.display(), used_by(by.as_ref()))]
    ImageInUse {
        /// The image.
        path: PathBuf,
        /// Who, where that is seen.
        by: Option<ImageUser>,
    },
    /// A socket would not fit into the address of one.
    #[error("the path of a socket is too long ({} bytes, {} fit): {}", path.as_os_str().len(), RunPaths::SOCKET_PATH_MAX, path.display())]
    SocketPathTooLong {
        /// The path.
        path: PathBuf,
    },
    /// A program that QEMU needs beside it is not there.
    #[error("`{program}` is not installed")]
    HelperMissing {
        /// The program.
        program: &'static str,
        /// The Debian package that holds it.
        package: &'static str,
    },
    /// A program that QEMU needs beside it did not begin to serve.
    #[error("`{program}` did not start{}", said(last_words))]
    HelperRefused {
        /// The program.
        program: &'static str,
        /// The end of what it wrote, or how it ended.
        last_words: String,
    },
    /// A folder or file of the run could not be made, or is not safe.
    #[error("could not {action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: Cause,
    },
}

fn said(last_words: &str) -> String {
    match last_words.trim() {
        "" => String::new(),
        words => format!(": {words}"),
    }
}

impl Explain for LaunchError {
    fn code(&self) -> &'static str {
        match self {
            Self::Exited { .. } => "vm.start-refused",
            Self::TimedOut { .. } => "vm.start-timed-out",
            Self::Interrupted => "vm.start-interrupted",
            Self::ImageInUse { .. } => "storage.in-use",
            Self::SocketPathTooLong { .. } => "host.socket-path-too-long",
            Self::HelperMissing { .. } => "host.tool-missing",
            Self::HelperRefused { .. } => "vm.helper-refused",
            Self::Io { .. } => "host.io",
        }
    }

    fn fault(&self) -> Fault {
        match self {
            Self::Exited { .. } | Self::Interrupted | Self::HelperRefused { .. } => Fault::Failed,
            Self::TimedOut { .. } => Fault::TimedOut,
            Self::ImageInUse { .. } => Fault::Busy,
            Self::HelperMissing { .. } | Self::SocketPathTooLong { .. } | Self::Io { .. } => Fault::Host,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Exited { .. } => vec!["look at the whole line with `maqet info VM --command-line`".to_owned()],
            Self::HelperMissing { program, package } => {
                vec![format!("install it (Debian: `apt install {package}`), or put `{program}` on PATH")]
            }
            Self::HelperRefused { .. } => {
                vec!["look at the ports that are forwarded: another program may have them".to_owned()]
            }
            Self::TimedOut { .. } => vec!["give it more time with `--timeout`".to_owned()],
            Self::Interrupted => Vec::new(),
            Self::ImageInUse { .. } => vec!["stop what uses it, or try again".to_owned()],
            Self::SocketPathTooLong { .. } => vec!["choose a shorter folder with `--runtime-dir`".to_owned()],
            Self::Io { .. } => vec!["look at the owner, the permissions and the free space of its folder".to_owned()],
        }
    }
}

/// Starts QEMU.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Hypervisor: Send + Sync {
    /// Finds a binary and really runs its `--version`; a path is taken as it is, a name is looked up.
    ///
    /// Errors: `Missing`, `NotRunnable`, `NotQemu`.
    async fn binary(&self, wanted: &str) -> Result<QemuBinary, BinaryError>;

    /// Starts QEMU in a session of its own, and returns once its command monitor told the run state.
    ///
    /// Makes the folders of the run, keeps QEMU's standard error, and sets the flight recorder going. On an error, and
    /// when the future is dropped, no process of the launch is left; its logs stay.
    async fn launch(&self, launch: &Launch) -> Result<Launched, LaunchError>;

    /// Finds the process of a run whose identity was never written down, because its starter was killed.
    async fn find(&self, paths: &RunPaths) -> Option<ProcessIdentity>;

    /// Returns the living process that wrote the pid file of a run and has its command line, whatever was written down
    /// of it: a database may be older than the machine.
    async fn owner(&self, paths: &RunPaths) -> Option<ProcessIdentity>;

    /// Sees to it that the flight recorder of a machine is on whose starter was killed, perhaps before it was.
    async fn record(&self, paths: &RunPaths);

    /// Returns what QEMU wrote about its own end, if it wrote anything.
    async fn shutdown_event(&self, paths: &RunPaths) -> Option<Shutdown>;

    /// Removes the sockets of a run whose process is gone; its logs stay.
    async fn clear(&self, paths: &RunPaths);

    /// Removes everything of a VM's runs: `vm_sockets` and `vm_records` and all below.
    async fn forget(&self, vm_sockets: &std::path::Path, vm_records: &std::path::Path);
}

/// A signal to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signal {
    /// SIGTERM: QEMU ends at once and in order; to the guest it is a power cut.
    Term,
    /// SIGKILL.
    Kill,
}

/// Why a process could not be signalled.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// We may not.
    #[error("process {} may not be signalled by this user", process.pid)]
    NotPermitted {
        /// The process.
        process: ProcessIdentity,
    },
    /// The system refused.
    #[error("process {} could not be signalled", process.pid)]
    Failed {
        /// The process.
        process: ProcessIdentity,
        /// Why.
        source: Cause,
    },
}

impl Explain for ProcessError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotPermitted { .. } => "host.process-not-permitted",
            Self::Failed { .. } => "host.process-failed",
        }
    }

    fn fault(&self) -> Fault {
        Fault::Host
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NotPermitted { .. } => vec!["run maqet as the user who started the VM".to_owned()],
            Self::Failed { .. } => Vec::new(),
        }
    }
}

/// Knows processes by their identity; a stranger that got a recorded pid is never touched.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Processes: Send + Sync {
    /// Returns whether exactly this process lives; a zombie does not, once all of its threads are gone.
    fn is_alive(&self, process: &ProcessIdentity) -> bool;

    /// Returns whether this process, which lives, was stopped by a signal and stands still (SIGSTOP; proc(5), state `T`).
    fn is_frozen(&self, process: &ProcessIdentity) -> bool;

    /// Returns whether this process, which lives, is on its way out of the kernel: it holds its files for a moment yet.
    fn is_ending(&self, process: &ProcessIdentity) -> bool;

    /// Returns the words that this process was started with; none where they cannot be read.
    fn words(&self, process: &ProcessIdentity) -> Vec<String>;

    /// Returns whether this process was started since the host was booted; one that was not cannot live.
    fn is_of_this_boot(&self, process: &ProcessIdentity) -> bool;

    /// Signals exactly this process; one that is gone is no error.
    async fn signal(&self, process: &ProcessIdentity, signal: Signal) -> Result<(), ProcessError>;

    /// Waits until the process is gone, at most `patience`; returns whether it is.
    async fn wait_gone(&self, process: &ProcessIdentity, patience: Duration) -> bool;
}
