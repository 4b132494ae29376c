//! The commands of `qmp` that change the hardware of a running VM.

use clap::Subcommand;
use maqet::operation::{QmpBalloon, QmpDeviceAdd, QmpDeviceDel, QmpEject, QmpInsert, QmpNmi, QmpSetLink};

use super::lifecycle::VmsArgs;

/// The commands of `qmp` that change the hardware of a running VM.
#[derive(Debug, Subcommand)]
pub(crate) enum HardwareSubcommand {
    DeviceAdd(QmpDeviceAdd),
    DeviceDel(QmpDeviceDel),
    Eject(QmpEject),
    Insert(QmpInsert),
    SetLink(QmpSetLink),
    Balloon(QmpBalloon),
    Nmi(QmpNmi),
    /// Pause running VMs
    Pause(VmsArgs),
    /// Resume paused VMs
    Resume(VmsArgs),
}
