//! `maqet cp`.

use clap::Args;
use maqet::HumanDuration;
use maqet::domain::guest::copy::CopyPlace;
use maqet::operation::ExecVia;

use super::exec::way;

const AFTER: &str = "\
The exit code is that of `exec`:
  1       the copy failed: no such file, no space, a conflict
  124     timed out
  125     maqet failed before anything was copied
  255     the VM stopped or its guest was reset

Examples:
  maqet cp web:/var/log/syslog .
  maqet cp -r --exclude target src web:/srv/
  maqet cp -p --verify image.raw web:/var/lib/images/new.raw
  maqet cp web:/etc/hostname - | tr a-z A-Z";

/// Copy files between the host and a running VM
///
/// One of SOURCE and TARGET is in a VM, as in `web:/srv`; a path without `/` at its beginning is relative to the home
/// directory of root. `-` stands for standard input or output. A target that is a directory gets the copy under the name of
/// the source. The guest needs QEMU's guest agent, and `tar` for directories.
///
/// The target gets its name once everything has arrived; until then it has a temporary one. An existing file is replaced as a
/// whole, an existing directory gets what is new. Links that lead out of a directory, devices, and set-user-ID bits are not
/// taken from a guest.
#[derive(Debug, Args)]
#[command(after_help = AFTER)]
pub(crate) struct CpArgs {
    /// What to copy: VM:PATH, a path, or `-`
    pub(crate) source: CopyPlace,
    /// Where to: VM:PATH, a path, or `-`
    pub(crate) target: CopyPlace,
    /// Copy directories with all that is in them
    #[arg(short = 'r', long)]
    pub(crate) recursive: bool,
    /// Keep times and permissions
    #[arg(short = 'p', long)]
    pub(crate) preserve: bool,
    /// Compare SHA-256 checksums of what was written with those of the source
    #[arg(long)]
    pub(crate) verify: bool,
    /// Leave out what matches: a name anywhere, or with a slash a path in the directory; can be given several times
    #[arg(long, value_name = "PATTERN")]
    pub(crate) exclude: Vec<String>,
    /// Timeout
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<HumanDuration>,
    /// Connection to the guest: `ports` of the VM, the guest `agent` alone, `ssh`, or the first that is ready
    #[arg(long, value_name = "WAY", default_value = "auto", value_parser = way)]
    pub(crate) via: ExecVia,
}
