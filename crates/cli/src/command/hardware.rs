//! `maqet qmp device-add` and the other commands that change the hardware of a running VM.

use maqet::operation::{Pause, Resume};
use maqet::{ErrorReport, Maqet};

use super::{absolute, lifecycle, simple};
use crate::args::HardwareSubcommand;
use crate::render::Output;
use crate::render::sanitize::escape_control;

pub(super) async fn run(maqet: &Maqet, command: HardwareSubcommand, output: &Output) -> Result<u8, ErrorReport> {
    match command {
        HardwareSubcommand::DeviceAdd(mut add) => {
            add.file = add.file.as_deref().map(absolute).transpose()?;
            let added = output.progress("adding the device", maqet.run(add)).await?;
            if let Some(reason) = &added.unchecked {
                output.note(&format!("warning: the device was not checked: {}", escape_control(reason)));
            }
            output.finish(&added)
        }
        HardwareSubcommand::DeviceDel(del) => {
            simple(maqet, del, output, "waiting for the guest to release the device").await
        }
        HardwareSubcommand::Eject(eject) => {
            simple(maqet, eject, output, "waiting for the guest to open the drive").await
        }
        HardwareSubcommand::Insert(mut insert) => {
            insert.file = absolute(&insert.file)?;
            simple(maqet, insert, output, "waiting for the guest to open the drive").await
        }
        HardwareSubcommand::SetLink(link) => simple(maqet, link, output, "waiting for QEMU").await,
        HardwareSubcommand::Balloon(balloon) => {
            simple(maqet, balloon, output, "waiting for the guest to change its memory").await
        }
        HardwareSubcommand::Nmi(nmi) => simple(maqet, nmi, output, "waiting for QEMU").await,
        HardwareSubcommand::Pause(vms) => lifecycle::run_on_each(maqet, vms, output, "pausing", Pause::new).await,
        HardwareSubcommand::Resume(vms) => lifecycle::run_on_each(maqet, vms, output, "resuming", Resume::new).await,
    }
}
