//! A QEMU without a guest, which works on images of a VM that is not running.
//!
//! It is a child process, and killed with its owner's interest in it; if this process is killed instead, it is terminated,
//! and stores the bitmaps of the images. One that does not end stays until [`end`] finds it by the paths in its command
//! line. It does not hold the lock of the VM, so that another command can do that.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use maqet_adapters_linux::limits::KILL_TIMEOUT;
use maqet_adapters_linux::private_file::{private_folder, private_log, read_tail};
use maqet_adapters_linux::process::{ChildGuard, display_status, kill};
use maqet_adapters_linux::{LinuxProcesses, ProcessEnvironment};
use maqet_domain::port::{ImageServer, Launch, LaunchError, MonitorSession, Processes, Signal};
use maqet_domain::qmp::QmpCommand;
use maqet_domain::qmp::wording::locked_image;
use maqet_domain::vm::{MonitorRole, RunPaths};
use process_wrap::std::{CommandWrap, ProcessSession};
use tokio::time::sleep;

use super::error::io_error;
use super::find::find_process;
use super::run_paths::remove_folder;
use crate::bound::{Ending, bound_command};
use crate::image::user_of;
use crate::limits::{CONNECT_RETRY_INTERVAL, GREETING_TIMEOUT, IMAGE_SERVER_EXIT_TIMEOUT, MAX_STDERR_TAIL_BYTES};
use crate::qmp::QmpSession;
use crate::stderr_tail::stderr_tail;

/// A running server, with its directory; both are removed on drop.
struct RunningServer {
    child: ChildGuard,
    paths: RunPaths,
}

#[async_trait]
impl ImageServer for RunningServer {
    async fn wait(&mut self, timeout: Duration) -> bool {
        tokio::time::timeout(timeout, self.child.wait()).await.is_ok()
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        remove_files(&self.paths);
    }
}

/// Starts a server, and returns once its monitor responds.
pub(super) async fn start(
    environment: &ProcessEnvironment,
    launch: &Launch,
) -> Result<Box<dyn ImageServer>, LaunchError> {
    let paths = &launch.paths;
    end(paths).await;
    let longest = paths.longest_socket();
    if longest.as_os_str().len() > RunPaths::SOCKET_PATH_MAX {
        return Err(LaunchError::SocketPathTooLong { path: longest });
    }
    for folder in paths.sockets.ancestors().take(2).collect::<Vec<_>>().into_iter().rev() {
        private_folder(folder).map_err(|error| io_error("create the directory", folder, error))?;
    }
    let mut server = RunningServer { child: spawn(environment, launch)?, paths: paths.clone() };
    let failure = tokio::select! {
        () = monitor_reply(paths) => return Ok(Box::new(server)),
        status = server.child.wait() => Some(status),
        () = sleep(launch.timeout) => None,
    };
    server.child.kill().await;
    let tail = read_tail(&paths.qemu_log(), MAX_STDERR_TAIL_BYTES);
    let stderr_tail = tail.map(|tail| stderr_tail(&tail)).unwrap_or_default();
    let Some(status) = failure else { return Err(LaunchError::TimedOut { after: launch.timeout, stderr_tail }) };
    if let Some(path) = locked_image(&stderr_tail) {
        return Err(LaunchError::ImageInUse { by: user_of(&path), path });
    }
    let status = status.map_or_else(|error| error.to_string(), |status| display_status(status).to_string());
    Err(LaunchError::Exited { status, stderr_tail })
}

/// Ends a server that a killed process left, and removes its directory.
pub(super) async fn end(paths: &RunPaths) {
    if !paths.sockets.exists() {
        return;
    }
    if let Some(process) = find_process(paths) {
        // It stores the bitmaps of the images then, as it does on `quit`.
        let _ = LinuxProcesses::new().signal(&process, Signal::Term).await;
        if !LinuxProcesses::new().wait_for_exit(&process, IMAGE_SERVER_EXIT_TIMEOUT).await {
            kill(&process);
            LinuxProcesses::new().wait_for_exit(&process, KILL_TIMEOUT).await;
        }
    }
    remove_files(paths);
}

/// Removes the directory of a server, and that of the VM if it is then empty.
fn remove_files(paths: &RunPaths) {
    remove_folder(&paths.sockets);
    let _may_contain_a_run = paths.sockets.parent().map(fs::remove_dir);
}

fn spawn(environment: &ProcessEnvironment, launch: &Launch) -> Result<ChildGuard, LaunchError> {
    let log = launch.paths.qemu_log();
    let stderr = private_log(&log).map_err(|error| io_error("create the log", &log, error))?;
    let stdout = stderr.try_clone().map_err(|error| io_error("create the log", &log, error))?;
    let binary = launch.command_line.binary();
    let mut command = bound_command(binary, Ending::Terminate, |path| environment.command(path));
    command.args(launch.command_line.args()).current_dir("/");
    command.stdin(Stdio::piped()).stdout(stdout).stderr(stderr);
    let mut command = CommandWrap::from(command);
    // Ctrl-C in a terminal must not end it in the middle of its work.
    command.wrap(ProcessSession);
    close_fds::set_fds_cloexec_threadsafe(3, &[]);
    ChildGuard::spawn(&mut command).map_err(|error| io_error("run", binary, error))
}

/// Waits until the command monitor replies.
async fn monitor_reply(paths: &RunPaths) {
    let socket = paths.monitor(MonitorRole::Command);
    loop {
        if let Ok(mut session) = QmpSession::connect(&socket, GREETING_TIMEOUT).await
            && session.execute(&QmpCommand::new("query-version"), GREETING_TIMEOUT).await.is_ok()
        {
            return;
        }
        sleep(CONNECT_RETRY_INTERVAL).await;
    }
}
