//! Starts QEMU and waits until its command monitor responds, it exits, or the timeout expires.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Mutex;

use maqet_adapters_linux::limits::KILL_TIMEOUT;
use maqet_adapters_linux::private_file::{private_folder, private_log, read_tail};
use maqet_adapters_linux::process::{ChildGuard, PidScope, display_status, kill};
use maqet_adapters_linux::{LinuxProcesses, ProcessEnvironment};
use maqet_domain::port::{Launch, LaunchError, Launched, MonitorSession, Processes};
use maqet_domain::qmp::wording::{locked_image, start_warnings};
use maqet_domain::qmp::{QmpCommand, QmpError, RunState};
use maqet_domain::vm::{ExitReport, MonitorRole, ProcessIdentity, RunPaths};
use maqet_fault_points::{FaultPoint, FaultPoints};
use process_wrap::std::{CommandWrap, ProcessSession};
use rustix::process::{Pid, getsid};
use serde::Deserialize;
use tokio::time::{Instant, sleep, timeout};

use super::error::io_error;
use super::evidence::{StartNotes, guest_end};
use super::find::find_process;
use super::foreground;
use super::helper;
use super::qmp_log::QmpLog;
use super::run_lock::RunLocks;
use super::run_paths::{
    create, create_start_files, make_private, remove_overlays, remove_sockets, remove_sockets_now, remove_start_files,
    reserve_logs, rotate,
};
use crate::image::user_of;
use crate::limits::{
    CONNECT_RETRY_INTERVAL, GREETING_TIMEOUT, LAUNCHER_EXIT_TIMEOUT, MAX_START_LOG_BYTES, MAX_STDERR_TAIL_BYTES,
};
use crate::qmp::QmpSession;
use crate::stderr_tail::stderr_tail;

/// What a launch works with.
pub(super) struct Launcher<'a> {
    pub(super) environment: &'a ProcessEnvironment,
    pub(super) run_locks: &'a RunLocks,
    pub(super) faults: &'a FaultPoints,
    /// The processes that a canceled launch killed without waiting for their exit.
    pub(super) killed: &'a Mutex<Vec<ProcessIdentity>>,
    pub(super) kept_boots: usize,
}

/// A QEMU that is being started; unless the attempt succeeds, nothing of it is left but its logs.
struct Attempt<'a> {
    launcher: &'a Launcher<'a>,
    paths: &'a RunPaths,
    scope: &'a PidScope,
    child: Option<ChildGuard>,
    is_over: bool,
}

/// Why QEMU is not up.
enum Failure {
    /// It exited, with this exit code or signal.
    Exited(String),
    /// The guest ended it.
    GuestEnded(ExitReport),
    TimedOut,
    Error(LaunchError),
}

/// The reply of a command monitor.
struct MonitorReply {
    state: RunState,
    /// The process that listens at the monitor: QEMU itself, whatever wraps it.
    listener: Option<u32>,
}

impl Launcher<'_> {
    /// Starts QEMU; also returns the process of a program that wraps it, if there is one.
    pub(super) async fn launch(&self, launch: &Launch) -> Result<(Launched, Option<ProcessIdentity>), LaunchError> {
        let paths = &launch.paths;
        let scope = PidScope::current();
        if !scope.is_proc_own() {
            return Err(LaunchError::ForeignProc);
        }
        let lock = if launch.is_successor {
            self.run_locks.take_as_successor(paths).await?
        } else {
            self.run_locks.take(paths).await?
        };
        let longest = paths.longest_socket();
        if longest.as_os_str().len() > RunPaths::SOCKET_PATH_MAX {
            return Err(LaunchError::SocketPathTooLong { path: longest });
        }
        create(paths)?;
        rotate(&paths.records, self.kept_boots);
        let qmp_log = QmpLog::prepare(paths).map_err(|error| io_error("create the QMP log", &paths.records, error))?;

        let log_failure = reserve_logs(paths).map(|error| error.to_string());

        self.faults.reach(FaultPoint::LaunchPathsCreated);
        let mut attempt = Attempt { launcher: self, paths, scope: &scope, child: None, is_over: false };
        match attempt.run(launch, lock, &qmp_log).await {
            Ok(launched) => {
                self.faults.reach(FaultPoint::LaunchAnswered);
                let wrapper = attempt.succeed(&launched);
                Ok((Launched { log_failure, warnings: warnings(paths), ..launched }, wrapper))
            }
            Err(failure) => {
                attempt.undo().await;
                Err(failure.into_error(launch))
            }
        }
    }
}

impl Attempt<'_> {
    async fn run(&mut self, launch: &Launch, lock: File, qmp_log: &QmpLog) -> Result<Launched, Failure> {
        // Here, as they may be secret: whatever fails, they are removed with the rest.
        create_start_files(&launch.files).map_err(Failure::Error)?;
        let helpers = launch.command_line.helpers();
        helper::start(self.launcher.environment, helpers, &self.paths.sockets).await.map_err(Failure::Error)?;
        let child = self.child.insert(spawn(self.launcher.environment, launch, lock).map_err(Failure::Error)?);
        StartNotes::write(&launch.command_line, &launch.paths, child.pid());
        self.launcher.faults.reach(FaultPoint::LaunchSpawned);

        let reply = tokio::select! {
            reply = monitor_reply(&launch.paths, qmp_log) => reply,
            status = child.wait() => return Err(exited(&launch.paths, status)),
            () = sleep(launch.timeout) => return Err(Failure::TimedOut),
        };
        let process = self.scope.identify(reply.listener.unwrap_or_else(|| child.pid()));
        match process {
            Some(process) if is_in_session_of(child, &process) => Ok(launched(process, reply.state)),
            // It exited right after its reply, or it daemonized, and then the process that started it exits.
            process => match (timeout(LAUNCHER_EXIT_TIMEOUT, child.wait()).await, process) {
                (Ok(status), _) => Err(exited(&launch.paths, status)),
                (Err(_), Some(process)) => Ok(launched(process, reply.state)),
                (Err(_), None) => Err(Failure::Exited("an exit code that its wrapper did not report".to_owned())),
            },
        }
    }

    /// Lets QEMU run on; returns the process of its wrapper, if there is one.
    fn succeed(&mut self, launched: &Launched) -> Option<ProcessIdentity> {
        self.is_over = true;
        make_private(self.paths);
        remove_overlays(self.paths);
        remove_start_files(self.paths);
        let child = self.child.take()?;
        let pid = child.pid();
        child.detach();
        (pid != launched.process.pid).then(|| self.scope.identify(pid)).flatten()
    }

    /// Kills QEMU, its child processes and its helpers, and waits for their exit.
    async fn undo(&mut self) {
        if let Some(child) = &mut self.child {
            child.kill().await;
        }
        // A QEMU that daemonized has left its session.
        let deadline = Instant::now() + KILL_TIMEOUT;
        while let Some(process) = find_process(self.paths)
            && Instant::now() < deadline
        {
            kill(&process);
            LinuxProcesses::new().wait_for_exit(&process, KILL_TIMEOUT).await;
        }
        remove_sockets(self.paths).await;
        self.is_over = true;
    }
}

impl Drop for Attempt<'_> {
    /// Sends the signals if the launch was canceled; the next `remove_sockets` waits for the processes.
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let child = self.child.take().and_then(|child| self.scope.identify(child.pid()));
        let daemon = find_process(self.paths).inspect(kill);
        if let Ok(mut killed) = self.launcher.killed.lock() {
            killed.extend(child.into_iter().chain(daemon).chain(remove_sockets_now(self.paths)));
        }
    }
}

impl Failure {
    /// Returns the error, once the process is gone.
    fn into_error(self, launch: &Launch) -> LaunchError {
        let log = read_tail(&launch.paths.qemu_log(), MAX_STDERR_TAIL_BYTES);
        let stderr_tail = log.map(|tail| stderr_tail(&tail)).unwrap_or_default();
        match self {
            Self::Error(error) => error,
            Self::GuestEnded(report) => {
                LaunchError::GuestEnded { report: report.into(), warnings: warnings(&launch.paths) }
            }
            Self::TimedOut => LaunchError::TimedOut { after: launch.timeout, stderr_tail },
            Self::Exited(status) => disk_full(&launch.paths)
                .or_else(|| image_in_use(&stderr_tail))
                .unwrap_or(LaunchError::Exited { status, stderr_tail }),
        }
    }
}

fn launched(process: ProcessIdentity, state: RunState) -> Launched {
    Launched { process, state, log_failure: None, warnings: Vec::new() }
}

/// Returns what QEMU has complained about until now.
fn warnings(paths: &RunPaths) -> Vec<String> {
    let log = read_tail(&paths.qemu_log(), MAX_START_LOG_BYTES).unwrap_or_default();
    start_warnings(&String::from_utf8_lossy(&log))
}

/// Returns why QEMU exited, while its files are there.
fn exited(paths: &RunPaths, status: io::Result<ExitStatus>) -> Failure {
    match status {
        Ok(status) => match status.code().and_then(|code| guest_end(paths, code)) {
            Some(report) => Failure::GuestEnded(report),
            None => Failure::Exited(display_status(status).to_string()),
        },
        Err(error) => Failure::Exited(error.to_string()),
    }
}

fn is_in_session_of(child: &ChildGuard, process: &ProcessIdentity) -> bool {
    let pid_of = |pid: u32| i32::try_from(pid).ok().and_then(Pid::from_raw);
    let session = pid_of(process.pid).and_then(|pid| getsid(Some(pid)).ok());
    session.is_some() && session == pid_of(child.pid())
}

/// Starts QEMU, which holds `lock` as its standard input until it exits.
fn spawn(environment: &ProcessEnvironment, launch: &Launch, lock: File) -> Result<ChildGuard, LaunchError> {
    let log = launch.paths.qemu_log();
    let stderr = private_log(&log).map_err(|error| io_error("create the log", &log, error))?;
    let stdout = stderr.try_clone().map_err(|error| io_error("create the log", &log, error))?;
    let binary = launch.command_line.binary();

    let mut command =
        if launch.is_foreground { foreground::command(environment, binary)? } else { environment.command(binary) };
    command.args(launch.command_line.args()).current_dir("/");
    if has_temporary_overlays(launch.command_line.args()) {
        let folder = launch.paths.temporary();
        private_folder(&folder).map_err(|error| io_error("create", &folder, error))?;
        command.env("TMPDIR", folder);
    }
    command.stdin(lock).stdout(stdout).stderr(stderr);
    let mut command = CommandWrap::from(command);
    command.wrap(ProcessSession);

    // QEMU must not inherit files that a shell left open here, such as a lock of `flock(1)` or a pipe.
    close_fds::set_fds_cloexec_threadsafe(3, &[]);
    let spawned =
        if launch.is_foreground { ChildGuard::spawn_from_own_thread(command) } else { ChildGuard::spawn(&mut command) };
    spawned.map_err(|error| io_error("run", binary, error))
}

/// Returns whether QEMU creates overlays of its own, whose names stay if it is killed before it has opened them (7.2, 10.0).
fn has_temporary_overlays(args: &[String]) -> bool {
    args.iter().any(|arg| matches!(arg.as_str(), "-snapshot" | "--snapshot") || arg.contains("snapshot=on"))
}

/// Waits until the command monitor replied and the QMP log is on.
///
/// Both on one connection: the guest is running by now, and each turn of QEMU's main loop may take long.
async fn monitor_reply(paths: &RunPaths, qmp_log: &QmpLog) -> MonitorReply {
    let socket = paths.monitor(MonitorRole::Command);
    let reply = loop {
        match query_status(&socket).await {
            Ok(reply) => break reply,
            // Until the timeout of the launch.
            Err(_) => sleep(CONNECT_RETRY_INTERVAL).await,
        }
    };
    qmp_log.is_on().await;
    reply
}

async fn query_status(socket: &Path) -> Result<MonitorReply, QmpError> {
    let mut session = QmpSession::connect(socket, GREETING_TIMEOUT).await?;
    let status = session.execute(&QmpCommand::new("query-status"), GREETING_TIMEOUT).await?;
    let state = status.get("status").map(RunState::deserialize).and_then(Result::ok);
    Ok(MonitorReply { state: state.unwrap_or(RunState::Unrecognised), listener: session.peer() })
}

/// Returns the error of a full disk if QEMU exited without a message, because its log could not be written.
fn disk_full(paths: &RunPaths) -> Option<LaunchError> {
    let has_message = std::fs::metadata(paths.qemu_log()).is_ok_and(|log| log.len() > 0);
    let is_full = |folder: &&Path| rustix::fs::statvfs(*folder).is_ok_and(|disk| disk.f_bavail == 0);
    // The folder of the sockets is removed by now; its parent is on the same disk.
    let folders = [paths.records.as_path(), paths.sockets.parent()?];
    let full = folders.into_iter().filter(|_| !has_message).find(is_full)?;
    Some(io_error("write to", full, io::ErrorKind::StorageFull.into()))
}

/// Returns the error of an image that another process uses, if QEMU reported one.
fn image_in_use(stderr: &str) -> Option<LaunchError> {
    let path = locked_image(stderr)?;
    Some(LaunchError::ImageInUse { by: user_of(&path), path })
}
