//! The firmware on the command line.

use std::path::PathBuf;

use super::{PathNotUtf8, utf8};
use crate::machine::{Firmware, Machine};
use crate::qemu::Switch;

/// The files of a UEFI firmware.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UefiFiles {
    /// The code, shared by all VMs and read-only.
    pub code: PathBuf,
    /// The format of the code, as QEMU names it.
    pub code_format: String,
    /// The variable store of this VM; a qcow2 image, so that snapshots include it.
    pub variables: PathBuf,
    /// Whether only the firmware may write the variables, in system management mode.
    pub requires_smm: bool,
}

/// UEFI is two block nodes that the machine uses as flash; `-machine` can be given several times.
pub(super) fn firmware(machine: &Machine, uefi: Option<&UefiFiles>) -> Result<Vec<Switch>, PathNotUtf8> {
    let uefi = match (&machine.firmware, uefi) {
        (Firmware::File(path), _) => return Ok(vec![Switch::verbatim("bios", utf8(path)?)]),
        (Firmware::Uefi(_), Some(uefi)) => uefi,
        (Firmware::Default | Firmware::Uefi(_), _) => return Ok(Vec::new()),
    };
    let [variables_file, variables] = uefi_variables_nodes(utf8(&uefi.variables)?);
    let flash = Switch::new("machine").option("pflash0", "uefi-code").option("pflash1", "uefi-vars");
    let mut switches = vec![
        blockdev("file", "uefi-code-file").option("filename", utf8(&uefi.code)?).flag("read-only", true),
        blockdev(&uefi.code_format, "uefi-code").option("file", "uefi-code-file").flag("read-only", true),
        variables_file,
        variables,
    ];
    if uefi.requires_smm {
        switches.push(flash.flag("smm", true));
        // Without it, the guest could write the variables itself, and with them the keys of Secure Boot.
        let protection = Switch::new("global").option("driver", "cfi.pflash01").option("property", "secure");
        switches.push(protection.flag("value", true));
    } else {
        switches.push(flash);
    }
    Ok(switches)
}

/// Returns the block nodes of a UEFI variable store; the last one has the name of the store.
pub fn uefi_variables_nodes(path: &str) -> [Switch; 2] {
    [
        blockdev("file", "uefi-vars-file").option("filename", path),
        blockdev("qcow2", "uefi-vars").option("file", "uefi-vars-file"),
    ]
}

fn blockdev(driver: &str, name: &str) -> Switch {
    Switch::new("blockdev").option("driver", driver).option("node-name", name)
}
