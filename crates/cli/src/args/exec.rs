//! `maqet exec`, and `maqet shell`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use maqet::HumanDuration;
use maqet::operation::{ExecLs, ExecStop, ExecVia};

const AFTER: &str = "\
The exit code is that of the command. Others mean:
  124     the command timed out, and was ended
  125     maqet failed: the command did not run, or its output was not written
  126     the program cannot be executed
  127     there is no such program
  128+N   the command was killed by signal N
  255     the VM stopped or its guest was reset, or the command was lost

Examples:
  maqet exec web -- systemctl is-system-running
  maqet exec web -- sh -c 'echo $HOME; id'
  tar c src | maqet exec -i web -w /srv -- tar x
  maqet exec web -t -- htop
  maqet exec web --timeout 5m --report result.json -- make test
  maqet exec web --detach -- /srv/server --port 80";

/// Run a command in a running VM
///
/// The guest needs QEMU's guest agent, or a server for SSH at a forwarded port 22. No shell is implied. Standard output and standard error are those of the command,
/// unbuffered and apart. Ctrl-C interrupts the command; the second time it gets SIGTERM, the third time SIGKILL.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true, after_help = AFTER)]
pub(crate) struct ExecArgs {
    #[command(subcommand)]
    pub(crate) command: Option<ExecSubcommand>,
    #[command(flatten)]
    pub(crate) run: Option<ExecRunArgs>,
}

/// The commands of `exec`.
#[derive(Debug, Subcommand)]
pub(crate) enum ExecSubcommand {
    Ls(ExecLs),
    Attach(ExecAttachArgs),
    Stop(ExecStop),
}

const AFTER_ATTACH: &str = "\
The exit code is that of the command, or one of those of `maqet exec`: 124 after a timeout, 130 after Ctrl-C.

Examples:
  maqet exec ls web
  maqet exec attach web 3f2a";

/// Follow the output of a detached command until it ends
///
/// The output is shown from its beginning, also of a command that has ended. Ctrl-C and a timeout end this command, and
/// not the one in the guest.
#[derive(Debug, Args)]
#[command(after_help = AFTER_ATTACH)]
pub(crate) struct ExecAttachArgs {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub(crate) vm: String,
    /// The ID of the command, or a unique prefix of it
    #[arg(value_name = "ID")]
    pub(crate) command: String,
    /// Timeout for the end of the command
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<HumanDuration>,
    /// Write the result to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
}

/// The arguments of `exec` itself.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub(crate) struct ExecRunArgs {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub(crate) vm: String,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
    /// Pass standard input on; without it, the command reads from /dev/null
    #[arg(short = 'i', long)]
    pub(crate) stdin: bool,
    /// Run on a terminal, with the keys, the size and the colors of this one; includes `-i` and `--merge`
    #[arg(short = 't', long, conflicts_with_all = ["capture", "merge"])]
    pub(crate) terminal: bool,
    /// Run as this user of the guest [default: root]
    #[arg(short = 'u', long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// Run in this directory [default: the home directory of the user]
    #[arg(short = 'w', long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// Set a variable, or copy it from the environment of maqet; can be given several times
    #[arg(short = 'e', long = "env", value_name = "NAME[=VALUE]")]
    pub(crate) environment: Vec<String>,
    /// Timeout, after which the command gets SIGTERM
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<HumanDuration>,
    /// Time between SIGTERM and SIGKILL after a timeout [default: 10s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) kill_after: Option<HumanDuration>,
    /// Write standard error to standard output, in the order in which the command writes
    #[arg(long)]
    pub(crate) merge: bool,
    /// Only start the command, and print its ID; its output is kept in the guest, for `maqet exec attach`
    #[arg(long, conflicts_with_all = ["stdin", "terminal", "timeout", "kill_after", "capture", "via"])]
    pub(crate) detach: bool,
    /// Write the output at the end, as part of the result; at most 16 MiB of each stream
    #[arg(long)]
    pub(crate) capture: bool,
    /// Write the result to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Connection to the command: `ports` of the VM, the guest `agent` alone, `ssh`, or the first that is ready
    #[arg(long, value_name = "WAY", default_value = "auto", value_parser = way)]
    pub(crate) via: ExecVia,
}

const AFTER_SHELL: &str = "\
The exit code is that of the shell, or one of those of `maqet exec`. Enter, `~` and `.` end a shell whose guest hangs.

Examples:
  maqet shell web
  maqet shell web -u debian -w /srv";

/// Open a login shell in a running VM
///
/// The guest needs QEMU's guest agent or a server for SSH, and script(1), which makes the terminal. Keys, size and colors are those of this
/// terminal: Ctrl-C interrupts what runs in the shell.
#[derive(Debug, Args)]
#[command(after_help = AFTER_SHELL)]
pub(crate) struct ShellArgs {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub(crate) vm: String,
    /// The user of the guest [default: root]
    #[arg(short = 'u', long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// Begin in this directory [default: the home directory of the user]
    #[arg(short = 'w', long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// Set a variable, or copy it from the environment of maqet; can be given several times
    #[arg(short = 'e', long = "env", value_name = "NAME[=VALUE]")]
    pub(crate) environment: Vec<String>,
    /// Connection to the shell: `ports` of the VM, `ssh`, or the first that is ready
    #[arg(long, value_name = "WAY", default_value = "auto", value_parser = way)]
    pub(crate) via: ExecVia,
}

impl From<ShellArgs> for ExecRunArgs {
    fn from(ShellArgs { vm, user, workdir, environment, via }: ShellArgs) -> Self {
        Self {
            vm,
            command: Vec::new(),
            stdin: false,
            terminal: true,
            user,
            workdir,
            environment,
            timeout: None,
            kill_after: None,
            merge: false,
            detach: false,
            capture: false,
            report: None,
            via,
        }
    }
}

pub(super) fn way(text: &str) -> Result<ExecVia, String> {
    text.parse().map_err(|_| "expected `auto`, `ports`, `agent` or `ssh`".to_owned())
}
