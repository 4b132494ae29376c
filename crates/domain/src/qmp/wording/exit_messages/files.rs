//! Images, kernels, firmware and sockets.

use super::super::super::versions::TESTED;
use super::{ExitMessage, Lookup};
use crate::error::Fault;

/// The rows.
pub(super) const ROWS: &[ExitMessage] = &[
    // Images (`block.c`, `block/qcow2.c`, `block/vmdk.c`, `block/vpc.c`).
    ExitMessage::new("Image is not in {} format", "an image is not in the format `<1>`", FORMAT, Fault::Host).hints(FORMATS),
    ExitMessage::new("invalid VMDK image descriptor", "an image is not in the format `vmdk`", FORMAT, Fault::Host)
        .hints(FORMATS),
    ExitMessage::new("invalid VPC image", "an image is not in the format `vpc`", FORMAT, Fault::Host).hints(FORMATS),
    ExitMessage::new("Unsupported VDI image {}", "an image is not in the format `vdi`", FORMAT, Fault::Host).hints(FORMATS),
    missing(
        "Could not open backing file: Could not open '{}': No such file or directory",
        "the backing file `<1>` of an image does not exist",
        "storage.backing-not-found",
    )
    .hints(&[
        "move it back or mount its volume; if it has moved, run `qemu-img rebase -u -b NEW_PATH -F FORMAT IMAGE` on the \
         image in `<switch>`",
    ]),
    // Kernels and firmware (`hw/i386/x86.c`, `hw/arm/boot.c`, `hw/core/loader.c`).
    missing("could not open kernel file '{}': No such file or directory", "the kernel `<1>` does not exist", FILE)
        .hints(&["correct the path of `kernel`"])
        .lookup(Lookup::File),
    missing("error reading initrd {}: Failed to open file {}: No such file", "the initrd `<1>` does not exist", FILE)
        .hints(&["correct the path of `initrd`"])
        .lookup(Lookup::File),
    missing("Couldn't open dtb file {}", "the device tree `<1>` does not exist", FILE)
        .hints(&["correct the path of `dtb`"])
        .lookup(Lookup::File)
        .seen_in(&[TESTED[0]]),
    missing("could not load PC BIOS '{}'", BIOS, "qemu.firmware-not-found").hints(BIOS_HINTS).lookup(Lookup::File),
    missing("Could not find ROM image '{}'", BIOS, "qemu.firmware-not-found")
        .hints(BIOS_HINTS)
        .lookup(Lookup::File)
        .seen_in(&[TESTED[0]]),
    usage("could not load kernel '{}': {}", "`<1>` is not a kernel that QEMU can start: <2>")
        .hints(&["name the kernel's file, as `/boot/vmlinuz-…`, and not a directory"]),
    refused("could not open kernel file '{}': Permission denied", "you may not read the kernel `<1>`")
        .hints(&["make it readable: `sudo chmod a+r <1>`", "copy it to a directory of yours"]),
    ExitMessage::new("-append only allowed with -kernel option", APPEND, "qemu.option-conflict", Fault::Usage)
        .hints(&["add `- {kernel: FILE}` under `arguments`"]),
    ExitMessage::new("-initrd only allowed with -kernel option", APPEND, "qemu.option-conflict", Fault::Usage)
        .hints(&["add `- {kernel: FILE}` under `arguments`"]),
    // Sockets of virtiofsd, swtpm and others (`util/qemu-sockets.c`).
    missing("Failed to connect to '{}': {}", "nothing listens at `<1>`", "qemu.socket-not-found").lookup(Lookup::Socket),
    // Any other file (`util/osdep.c`, `block/file-posix.c`, `softmmu/fw_cfg.c`, …).
    missing("Could not open '{}': No such file or directory", "`<1>` does not exist", FILE)
        .hints(PATH)
        .lookup(Lookup::File),
    missing("can't open file {}: No such file or directory", "`<1>` does not exist", FILE)
        .hints(PATH)
        .lookup(Lookup::File),
    missing("can't load {}: Failed to open file {}: No such file", "`<1>` does not exist", FILE)
        .hints(PATH)
        .lookup(Lookup::File),
    missing("failed to find romfile \"{}\"", "the firmware `<1>` of a device does not exist", FILE)
        .hints(PATH)
        .lookup(Lookup::File),
    missing("Cannot read SMBIOS file {}", "`<1>` does not exist, or cannot be read", FILE)
        .hints(PATH)
        .lookup(Lookup::File),
    missing("Cannot load specified image {}", "`<1>` does not exist, or cannot be loaded", FILE)
        .hints(PATH)
        .lookup(Lookup::File),
    missing("failed to open '{}': No such file or directory", "`<1>` does not exist", FILE)
        .hints(PATH)
        .lookup(Lookup::File),
    missing("Failed to bind socket to {}: No such file or directory", "the directory of `<1>` does not exist", FILE)
        .hints(&["create the directory"])
        .lookup(Lookup::File),
    usage("'file' driver requires '{}' to be a regular file", "`<1>` is a directory or a device, and not a file")
        .hints(&["name a file in `<switch>`; a block device needs `driver: host_device`"]),
    refused("Could not open '{}': Permission denied", "you may not open `<1>`")
        .hints(&["change the owner or the permissions of the file"]),
    refused("Failed to bind socket to {}: {}", "a socket cannot be created at `<1>`: <2>")
        .hints(&["choose a directory of yours"])
        .seen_in(&TESTED),
];

const FORMAT: &str = "storage.format-conflict";

const FILE: &str = "qemu.file-not-found";

const BIOS: &str = "the firmware `<1>` does not exist";

const APPEND: &str = "`initrd` and `append` require a `kernel`";

const FORMATS: &[&str] = &[
    "name the format that the image has (`qemu-img info IMAGE`) in `<switch>`",
    "set `type:` for a drive under `storage`: `raw`, `qcow2`, …",
];

const BIOS_HINTS: &[&str] =
    &["correct the path, or install the firmware (Debian: `apt install ovmf`, `qemu-efi-aarch64`)"];

const PATH: &[&str] = &["correct the path in `<switch>`"];

const fn missing(text: &'static str, cause: &'static str, code: &'static str) -> ExitMessage {
    ExitMessage::new(text, cause, code, Fault::NotFound)
}

const fn usage(text: &'static str, cause: &'static str) -> ExitMessage {
    ExitMessage::new(text, cause, "qemu.file-invalid", Fault::Usage)
}

const fn refused(text: &'static str, cause: &'static str) -> ExitMessage {
    ExitMessage::new(text, cause, "qemu.file-refused", Fault::Host)
}
