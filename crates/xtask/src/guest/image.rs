//! The content of the initramfs.

use super::cpio::Archive;
use super::module;
use super::package::{Busybox, Kernel, Keymaps};
use crate::{Result, program};

/// The first program of the guest.
pub(crate) const INIT: &str = include_str!("init.sh");

/// The program that loads a module on request.
pub(crate) const LOAD: &str = include_str!("load.sh");

/// Modules loaded at boot, for disks and the power button; their dependencies are resolved.
pub(crate) const MODULES: [&str; 4] = ["virtio_pci", "virtio_blk", "button", "evdev"];

/// Keymaps, which the guest loads with `loadkmap </lib/keymaps/de`, and their sources.
pub(crate) const KEYMAPS: [(&str, &str); 4] =
    [("us", "qwerty/us"), ("uk", "qwerty/uk"), ("de", "qwertz/de-latin1"), ("fr", "azerty/fr-latin1")];

/// The handler of the power button, run by busybox's `acpid`.
const POWER_BUTTON: &str = "#!/bin/sh\necho 'maqet-guest: power button' >/dev/ttyS0\nsync\nexec poweroff -f\n";

/// Returns the archive: busybox under each of its names, modules in load order, keymaps, `init` and `load`.
pub(crate) fn initramfs(kernel: &Kernel, busybox: &Busybox, keymaps: &Keymaps, on_demand: &[&str]) -> Result<Vec<u8>> {
    let available = kernel.modules()?;
    let names = program::output(program::command(busybox.path()).arg("--list"))?;

    let mut archive = Archive::default();
    let folders = [
        "bin", "dev", "etc", "etc/acpi", "etc/acpi/PWRF", "lib", "lib/keymaps", "lib/modules", "mnt", "proc", "root",
        "run", "sys", "tmp", "var", "var/log", "var/run",
    ];
    for folder in folders {
        archive.folder(folder);
    }
    archive.device("dev/console", (5, 1));
    archive.program("init", INIT.as_bytes());
    archive.program("etc/acpi/PWRF/00000080", POWER_BUTTON.as_bytes());
    archive.program("bin/busybox", &busybox.content()?);
    archive.program("bin/load", LOAD.as_bytes());
    for name in names.lines().filter(|name| *name != "busybox") {
        archive.link(&format!("bin/{name}"), "busybox");
    }
    for (name, keymap) in KEYMAPS {
        archive.file(&format!("lib/keymaps/{name}"), &keymaps.compiled(keymap)?);
    }

    let mut put = std::collections::BTreeSet::new();
    let lists = std::iter::once(("order".to_owned(), &MODULES[..]));
    let lists = lists.chain(on_demand.iter().map(|name| (format!("{name}.order"), std::slice::from_ref(name))));
    for (list, wanted) in lists {
        let modules = module::in_order(&available, wanted)?;
        let order: Vec<&str> = modules.iter().flat_map(|module| [module.file.as_str(), "\n"]).collect();
        archive.file(&format!("lib/modules/{list}"), order.concat().as_bytes());
        for module in modules.into_iter().filter(|module| put.insert(module.file.clone())) {
            archive.file(&format!("lib/modules/{}", module.file), &module.content);
        }
    }
    Ok(archive.finish())
}
