//! `maqet host`.

use clap::Subcommand;
use maqet::operation::HostLs;

/// List the hosts that share the database
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  maqet host ls")]
pub(crate) enum HostSubcommand {
    Ls(HostLs),
}
