//! A QEMU that ends with the process that started it, and leaves signals to that process.
//!
//! A job scheduler, a service manager and a terminal signal whole groups of processes. QEMU exits at once on SIGTERM,
//! SIGINT and SIGHUP, which is a power cut for the guest, so it is started with these signals blocked: the mask is
//! inherited, and QEMU 7.2 and 10.0 add to it only. What has to happen is up to the process in the foreground. If that
//! is killed, the kernel kills QEMU: a job that was canceled leaves no VM behind.
//!
//! Both are set between `fork` and `exec`, which takes `unsafe` code or, as here, programs of Debian's essential packages
//! that replace each other in one process.

use std::path::Path;
use std::process::Command;

use maqet_adapters_linux::ProcessEnvironment;
use maqet_domain::port::LaunchError;

use super::helper::find_program;

/// Runs its arguments unless the parent process has ended before the death signal was set (prctl(2) has this race):
/// then the process has been given another parent.
const IF_PARENT_LIVES: &str = r#"[ "$PPID" = "$0" ] && exec "$@""#;

/// The signals that a terminal, a job scheduler or a service manager sends.
const BLOCKED: &str = "--block-signal=HUP,INT,TERM,USR1,USR2";

/// Returns a command that becomes `binary`, in the same process, with the arguments that are added to it.
///
/// Errors: `HelperNotFound` and `Io` if a program that this needs cannot be run.
pub(super) fn command(environment: &ProcessEnvironment, binary: &Path) -> Result<Command, LaunchError> {
    let setpriv = find_program(environment, "setpriv", "util-linux")?;
    let env = find_program(environment, "env", "coreutils")?;
    let mut command = environment.command(&setpriv);
    command.args(["--pdeathsig", "KILL", "--", "/bin/sh", "-c", IF_PARENT_LIVES]);
    command.arg(std::process::id().to_string()).arg(env).args([BLOCKED, "--"]).arg(binary);
    Ok(command)
}
