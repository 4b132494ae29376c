//! Programs that end with this process, however it ends.
//!
//! A shell starts a process of the same group that waits for the end of its standard input, and then becomes the program.
//! The input is a pipe, of which only this process has the other end: it is closed even by SIGKILL. The caller starts the
//! command as the leader of a process group, and keeps the pipe.

use std::path::Path;
use std::process::Command;

/// The shell.
const SHELL: &str = "/bin/sh";

/// How a program is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// By SIGKILL.
    Kill,
    /// By SIGTERM, so that it completes what it writes.
    Terminate,
}

impl Ending {
    /// Returns a script that becomes the program in its arguments.
    const fn script(self) -> &'static str {
        match self {
            Self::Kill => {
                r#"exec 3<&0
{ read -r _; kill -KILL 0; } <&3 3<&- >/dev/null 2>&1 &
exec "$0" "$@" 3<&- </dev/null"#
            }
            // Another process, so that the command line of the program, by which it is found, is not that of two.
            Self::Terminate => {
                r#"exec 3<&0
{ exec /bin/sh -c 'read -r _; kill -TERM 0'; } <&3 3<&- >/dev/null 2>&1 &
exec "$0" "$@" 3<&- </dev/null"#
            }
        }
    }
}

/// Returns the command that runs `program` with the arguments that are added to it; `new` makes a command of a path.
///
/// Without a shell it is the program itself, which is then not ended.
pub(crate) fn bound_command(program: &Path, ending: Ending, new: impl FnOnce(&Path) -> Command) -> Command {
    let shell = Path::new(SHELL);
    if !shell.exists() {
        return new(program);
    }
    let mut command = new(shell);
    command.args(["-c", ending.script()]).arg(program);
    command
}
