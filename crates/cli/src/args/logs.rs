//! `maqet logs`.

use clap::Args;
use maqet::operation;

/// Read what the guest, QEMU and maqet wrote about a VM
///
/// Without an option, what the guest wrote to its serial port in its newest boot; it is written whether or not anybody
/// is attached to the console. On a terminal, escape sequences of the guest are left out and other control characters
/// are made visible; in a pipe every byte comes as it was written.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own on the command line")]
#[command(after_help = "\
Examples:
  maqet logs web                       what the guest said in its newest boot
  maqet logs web --follow              … and says, until the VM stops
  maqet logs web --qemu --lines 20     QEMU's own last words
  maqet logs web --boot 3 > boot-3.log")]
pub(crate) struct LogsArgs {
    /// The VM: a name, an id, or the unique beginning of one
    pub(crate) vm: String,
    /// Go on until the VM stops; Ctrl-C ends it before
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// What the guest wrote to its first serial port; the default
    #[arg(long, group = "log")]
    pub(crate) serial: bool,
    /// What QEMU wrote to its standard output and error
    #[arg(long, group = "log")]
    pub(crate) qemu: bool,
    /// What maqet did to the VM, when, and with what outcome
    #[arg(long, group = "log", conflicts_with = "boot")]
    pub(crate) maqet: bool,
    /// Which start of the VM, from 1; the ten newest are kept [default: the newest]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) boot: Option<u32>,
    /// The last lines only
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) lines: Option<usize>,
}

impl LogsArgs {
    /// Returns the operation that is meant.
    pub(crate) fn operation(&self) -> operation::Logs {
        let log = match (self.qemu, self.maqet) {
            (true, _) => operation::LogKind::Qemu,
            (false, true) => operation::LogKind::Maqet,
            (false, false) => operation::LogKind::Serial,
        };
        let boot = self.boot.map(maqet::domain::vm::BootNumber);
        operation::Logs { vm: self.vm.clone(), log, boot, lines: self.lines }
    }
}
