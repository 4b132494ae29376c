//! What is in the initramfs.

use super::cpio::Archive;
use super::module;
use super::package::Unpacked;
use crate::{Result, program};

/// The first program of the guest.
pub(crate) const INIT: &str = include_str!("init.sh");

/// What the guest cannot do without: its disks and the power button. What they need is found out.
pub(crate) const MODULES: [&str; 4] = ["virtio_pci", "virtio_blk", "button", "evdev"];

/// What the power button does; busybox's `acpid` looks for it under this name.
const POWER_BUTTON: &str = "#!/bin/sh\necho 'maqet-guest: power button' >/dev/ttyS0\nsync\nexec poweroff -f\n";

/// Returns the archive: busybox under each of its names, the modules in their order, and `init`.
pub(crate) fn initramfs(unpacked: &Unpacked) -> Result<Vec<u8>> {
    let modules = module::in_order(&unpacked.modules()?, &MODULES)?;
    let names = program::output(program::command(unpacked.busybox_path()).arg("--list"))?;

    let mut archive = Archive::default();
    let folders = [
        "bin",
        "dev",
        "etc",
        "etc/acpi",
        "etc/acpi/PWRF",
        "lib",
        "lib/modules",
        "mnt",
        "proc",
        "root",
        "run",
        "sys",
        "tmp",
        "var",
        "var/log",
        "var/run",
    ];
    for folder in folders {
        archive.folder(folder);
    }
    archive.device("dev/console", (5, 1));
    archive.program("init", INIT.as_bytes());
    archive.program("etc/acpi/PWRF/00000080", POWER_BUTTON.as_bytes());
    archive.program("bin/busybox", &unpacked.busybox()?);
    for name in names.lines().filter(|name| *name != "busybox") {
        archive.link(&format!("bin/{name}"), "busybox");
    }
    let order: Vec<&str> = modules.iter().flat_map(|module| [module.file.as_str(), "\n"]).collect();
    archive.file("lib/modules/order", order.concat().as_bytes());
    for module in modules {
        archive.file(&format!("lib/modules/{}", module.file), &module.content);
    }
    Ok(archive.finish())
}
