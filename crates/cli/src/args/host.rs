//! `maqet host`.

use clap::Subcommand;
use maqet::operation::{HostEvict, HostLs};

/// List the hosts that share the database, and move the VMs of one that is gone here
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  maqet host ls
  maqet host evict rack-2
  maqet host evict rack-2 web db --force")]
pub(crate) enum HostSubcommand {
    Ls(HostLs),
    Evict(HostEvict),
}
