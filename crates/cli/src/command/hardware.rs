//! What a running guest has: `maqet qmp device-add` and its neighbours.

use std::path::{Path, PathBuf};

use maqet::Maqet;
use maqet::operation::{QmpDeviceAdd, QmpInsert};

use super::{lifecycle, plain};
use crate::args::HardwareSubcommand;
use crate::failure::Failure;
use crate::render::Output;

pub(crate) async fn run(maqet: &Maqet, command: HardwareSubcommand, output: &Output) -> Result<u8, Failure> {
    match command {
        HardwareSubcommand::DeviceAdd(add) => {
            let file = add.file.as_deref().map(absolute).transpose()?;
            plain(maqet, QmpDeviceAdd { file, ..add }, output, "plugging the device in").await
        }
        HardwareSubcommand::DeviceDel(del) => {
            plain(maqet, del, output, "waiting for the guest to let the device go").await
        }
        HardwareSubcommand::Eject(eject) => {
            plain(maqet, eject, output, "waiting for the guest to open the drive").await
        }
        HardwareSubcommand::Insert(insert) => {
            let file = absolute(&insert.file)?;
            plain(maqet, QmpInsert { file, ..insert }, output, "waiting for the guest to open the drive").await
        }
        HardwareSubcommand::SetLink(link) => plain(maqet, link, output, "waiting for QEMU").await,
        HardwareSubcommand::Balloon(balloon) => plain(maqet, balloon, output, "waiting for the guest's balloon").await,
        HardwareSubcommand::Nmi(nmi) => plain(maqet, nmi, output, "waiting for QEMU").await,
        HardwareSubcommand::Pause(args) => lifecycle::pause(maqet, args, output).await,
        HardwareSubcommand::Resume(args) => lifecycle::resume(maqet, args, output).await,
    }
}

/// QEMU has another working directory than the caller.
fn absolute(file: &Path) -> Result<PathBuf, Failure> {
    Ok(std::path::absolute(file)?)
}
