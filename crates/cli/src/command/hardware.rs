//! What a running guest has: `maqet qmp device-add` and its neighbours.

use std::path::{Path, PathBuf};

use maqet::Maqet;
use maqet::operation::{QmpDeviceAdd, QmpInsert};

use super::{life, plain};
use crate::arguments::Hardware;
use crate::failure::Failure;
use crate::render::Output;

pub(crate) async fn run(maqet: &Maqet, command: Hardware, output: &Output) -> Result<u8, Failure> {
    match command {
        Hardware::DeviceAdd(add) => {
            let file = add.file.as_deref().map(absolute).transpose()?;
            plain(maqet, QmpDeviceAdd { file, ..add }, output, "plugging the device in").await
        }
        Hardware::DeviceDel(del) => plain(maqet, del, output, "waiting for the guest to let the device go").await,
        Hardware::Eject(eject) => plain(maqet, eject, output, "waiting for the guest to open the drive").await,
        Hardware::Insert(insert) => {
            let file = absolute(&insert.file)?;
            plain(maqet, QmpInsert { file, ..insert }, output, "waiting for the guest to open the drive").await
        }
        Hardware::SetLink(link) => plain(maqet, link, output, "waiting for QEMU").await,
        Hardware::Balloon(balloon) => plain(maqet, balloon, output, "waiting for the guest's balloon").await,
        Hardware::Nmi(nmi) => plain(maqet, nmi, output, "waiting for QEMU").await,
        Hardware::Pause(arguments) => life::pause(maqet, arguments, output).await,
        Hardware::Resume(arguments) => life::resume(maqet, arguments, output).await,
    }
}

/// QEMU has another working directory than the caller.
fn absolute(file: &Path) -> Result<PathBuf, Failure> {
    Ok(std::path::absolute(file)?)
}
