//! The commands of `qmp` that change what a running guest has.

use clap::Subcommand;
use maqet::operation::{QmpBalloon, QmpDeviceAdd, QmpDeviceDel, QmpEject, QmpInsert, QmpNmi, QmpSetLink};

use super::lifecycle::Press;

/// What a running guest has.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum HardwareSubcommand {
    /// Plug a device into a running VM
    DeviceAdd(QmpDeviceAdd),
    /// Take a device out of a running VM
    DeviceDel(QmpDeviceDel),
    /// Take the medium out of a CD drive of a running VM
    Eject(QmpEject),
    /// Put a medium into a CD drive of a running VM
    Insert(QmpInsert),
    /// Plug or pull the cable of a network card of a running VM
    SetLink(QmpSetLink),
    /// Show or set how much memory a running VM's guest may use
    Balloon(QmpBalloon),
    /// Send a non-maskable interrupt to the CPUs of a running VM
    Nmi(QmpNmi),
    /// Have running VMs stand still
    Pause(Press),
    /// Have VMs that stand still go on
    Resume(Press),
}
