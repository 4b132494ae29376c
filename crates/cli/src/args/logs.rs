//! `maqet logs`.

use clap::Args;
use maqet::operation;

use super::number;

/// Show the logs of a VM: serial console, output of QEMU, operations of maqet
///
/// The default is the serial console of the newest boot, which is logged whether or not a client is attached. On a
/// terminal, escape sequences of the guest are removed and other control characters are made visible; a pipe receives
/// the bytes unchanged.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag on the command line")]
#[command(after_help = "\
Examples:
  maqet logs web                       the serial console of the newest boot
  maqet logs web --follow              the same, and new output until the VM stops
  maqet logs web --qemu --lines 20     the last 20 lines of QEMU's output
  maqet logs web --boot 3 > boot-3.log")]
pub(crate) struct LogsArgs {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub(crate) vm: String,
    /// Show new output until the VM stops, or until Ctrl-C
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Show the output of the guest on its first serial port, which is the default
    #[arg(long, group = "log")]
    pub(crate) serial: bool,
    /// Show the standard output and standard error of QEMU
    #[arg(long, group = "log")]
    pub(crate) qemu: bool,
    /// Show the operations of maqet on the VM, and their outcomes
    #[arg(long, group = "log", conflicts_with = "boot")]
    pub(crate) maqet: bool,
    /// Boot, counted from 1; logs of the ten newest are kept [default: the newest]
    #[arg(long, value_name = "N", value_parser = number::<u32, 1>)]
    pub(crate) boot: Option<u32>,
    /// Show only the last N lines
    #[arg(short = 'n', long, value_name = "N", value_parser = number::<usize, 0>)]
    pub(crate) lines: Option<usize>,
}

impl LogsArgs {
    /// Returns the operation for these arguments.
    pub(crate) fn operation(&self) -> operation::Logs {
        let log = match (self.qemu, self.maqet) {
            (true, _) => operation::LogKind::Qemu,
            (false, true) => operation::LogKind::Maqet,
            (false, false) => operation::LogKind::Serial,
        };
        let boot = self.boot.map(maqet::domain::vm::BootNumber);
        operation::Logs::new(&self.vm).log(log).boot(boot).lines(self.lines)
    }
}
