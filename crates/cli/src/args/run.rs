//! `maqet run`.

use std::path::PathBuf;

use clap::Args;
use maqet::operation::{ExecVia, KeepVm, RunCopy, RunShare};
use maqet::{Condition, HumanDuration};

use super::define::DefinitionOverrides;
use super::exec::way;

const AFTER: &str = "\
The exit code is that of the command. Others mean:
  124     the command timed out, and was ended
  125     maqet failed: the VM did not start or boot, or something was not copied
  126     the program cannot be executed
  127     there is no such program
  128+N   the command was killed by signal N, or the run was interrupted by it
  255     the VM stopped or its guest was reset, or the command was lost

Examples:
  maqet run web.yaml -- uname -a
  maqet run --vm web --copy ./src:/srv/ -w /srv/src --timeout 10m -- make test
  maqet run --template debian -- ./check
  maqet run web.yaml --collect /var/log:logs --junit result.xml -- sh -c './suite'
  maqet run --vm web --keep=failed --report result.json -- ./check
  maqet run --matrix versions.yaml --junit result.xml -- make test";

/// Run a command in a VM that is made for it, and thrown away
///
/// The VM is that of the files, or has the definition and the disks of another one, which must not run. Nothing of the disks
/// is written: each is an overlay that vanishes with QEMU. If a template of the same definition is fresh, the VM goes on from that
/// instead of booting. Forwarded ports are any free ones. The guest needs QEMU's guest
/// agent. SIGTERM ends the command, and then the VM; if maqet is killed, QEMU ends with it, and the next `run` or `cleanup`
/// removes the rest.
#[derive(Debug, Args)]
#[command(after_help = AFTER)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub(crate) struct RunArgs {
    /// YAML files, merged left to right; `-` is standard input
    #[arg(value_name = "FILE", required_unless_present_any = ["vm", "template", "matrix"])]
    pub(crate) files: Vec<PathBuf>,
    /// Use the definition and the disks of this VM
    #[arg(long, value_name = "VM")]
    pub(crate) vm: Option<String>,
    /// Go on from this template instead of booting; it is rebuilt first if it is stale
    #[arg(long, value_name = "NAME", conflicts_with_all = ["files", "vm", "memory", "cpu", "set", "lenient", "share", "matrix"])]
    pub(crate) template: Option<String>,
    /// The program and its arguments
    #[arg(last = true, required_unless_present = "matrix", value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
    #[command(flatten)]
    pub(crate) overrides: DefinitionOverrides,
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
    /// Timeout of the command, after which it gets SIGTERM
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<HumanDuration>,
    /// Time from SIGTERM to SIGKILL after a timeout, and to the end of the VM after a signal [default: 10s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) kill_after: Option<HumanDuration>,
    /// Write standard error to standard output, in the order in which the command writes
    #[arg(long)]
    pub(crate) merge: bool,
    /// Write the output at the end, as part of the result; at most 16 MiB of each stream
    #[arg(long)]
    pub(crate) capture: bool,
    /// Connection to the command: `ports` of the VM, the guest `agent` alone, `ssh`, or the first that is ready
    #[arg(long, value_name = "WAY", default_value = "auto", value_parser = way)]
    pub(crate) via: ExecVia,
    /// Copy a file or directory into the guest before; can be given several times
    #[arg(long, value_name = "SOURCE:TARGET", value_parser = RunCopy::into_guest)]
    pub(crate) copy: Vec<RunCopy>,
    /// Copy a file or directory from the guest afterward, also if the command failed; can be given several times
    #[arg(long, value_name = "SOURCE:TARGET", value_parser = RunCopy::from_guest)]
    pub(crate) collect: Vec<RunCopy>,
    /// Share a directory with the guest over 9p, at PATH [default: /mnt/NAME]; can be given several times
    #[arg(long, value_name = "DIR[:PATH][:ro]")]
    pub(crate) share: Vec<RunShare>,
    /// Keep the VM, which runs on: `always`, or only if the command `failed`
    #[arg(
        long,
        value_name = "WHEN",
        default_value = "never",
        default_missing_value = "always",
        num_args = 0..=1,
        require_equals = true,
        value_parser = when
    )]
    pub(crate) keep: KeepVm,
    /// Wait for this before the command, as in `maqet wait --for` [default: agent]; can be given several times
    #[arg(long, value_name = "CONDITION")]
    pub(crate) wait: Vec<Condition>,
    /// Timeout of that wait [default: 5m]
    #[arg(long, value_name = "DURATION")]
    pub(crate) boot_timeout: Option<HumanDuration>,
    /// Write the result to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Write the result to this file, as XML that CI systems read (junit.xml)
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,
    /// Run each case of this YAML file, one after the other: a list of maps with name, vm, files, set, env, command
    #[arg(long, value_name = "FILE", conflicts_with_all = ["stdin", "terminal"])]
    pub(crate) matrix: Option<PathBuf>,
}

fn when(text: &str) -> Result<KeepVm, String> {
    text.parse().map_err(|_| "expected `never`, `failed` or `always`".to_owned())
}
