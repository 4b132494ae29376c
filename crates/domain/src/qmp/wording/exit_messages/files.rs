//! Images, kernels, firmware and sockets.

use super::super::super::versions::TESTED;
use super::{ExitMessage, Lookup, Role};
use crate::error::Fault;

/// The rows.
pub(super) const ROWS: &[ExitMessage] = &[
    // Images (`block.c`, `block/qcow2.c`, `block/vmdk.c`, `block/vpc.c`).
    format("Image is not in {} format", "an image is not in the format `<1>`"),
    format("Image not in {} format", "an image is not in the format `<1>`"),
    format("block_size cannot be zero", "an image is not in the format `cloop`"),
    format("Could not locate UDIF trailer in dmg file", "an image is not in the format `dmg`"),
    format("Could not open '{}': Invalid argument", "`<1>` is not in the format in which it is opened"),
    format("invalid VMDK image descriptor", "an image is not in the format `vmdk`"),
    format("invalid VPC image", "an image is not in the format `vpc`"),
    format("Unsupported VDI image {}", "an image is not in the format `vdi`"),
    ExitMessage::new("Unknown driver '{}'", "<qemu> has no image format `<1>`", "qemu.option-invalid", Fault::Usage)
        .hints(&["set `raw`, `qcow2`, or another format that `qemu-img --help` lists"])
        .role(Role::Lack),
    // What is left of a drive after its address could not be opened (`blockdev.c`).
    required("Must specify either driver or file").seen_in(&[TESTED[1]]).role(Role::Lack),
    required("A block device must be specified for \"{}\"").seen_in(&[TESTED[1]]).role(Role::Lack),
    required("The '{}' block driver requires a file name"),
    usage("Could not parse the JSON options: {}", "the image of `<switch>` is not valid JSON: <1>")
        .hints(&["correct it, or write the options one by one, as `file.driver` and `file.filename`"]),
    // A directory as a disk (`block/vvfat.c`).
    usage("Too many entries in root directory", "a directory has too many entries for a disk with FAT").hints(FAT_SIZE),
    usage("Directory does not fit in FAT{} (", "a directory is too large for a disk with FAT<1>").hints(FAT_SIZE),
    missing("Could not read directory {}", "the directory `<1>`, which is to be a disk, does not exist", FILE)
        .hints(&["create the directory, or correct the path in <location>"])
        .role(Role::Summary),
    ExitMessage::new(
        "Unable to set VVFAT to 'rw' when drive is read-only",
        "a directory is to be a writable disk, and its drive is read-only",
        "qemu.option-conflict",
        Fault::Usage,
    )
    .hints(&["remove `rw:` from `<switch>`", "remove `readonly`, or `-snapshot`, if the guest may write to the directory"]),
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
    missing("could not load initrd '{}'", "the initrd `<1>` does not exist", FILE)
        .hints(&["correct the path of `initrd`"])
        .lookup(Lookup::UnloadedFile)
        .seen_in(&[TESTED[0]]),
    // A further file of a kernel for Multiboot.
    missing("Failed to open file '{}'", "`<1>` does not exist", FILE).hints(PATH).lookup(Lookup::UnloadedFile),
    refused("error reading initrd {}: Failed to open file {}: open() failed: Permission", "you may not read the initrd `<1>`")
        .hints(READABLE),
    usage("error reading initrd {}: {}", "the initrd `<1>` cannot be read: <2>").hints(&["correct the path of `initrd`"]),
    missing("Couldn't open dtb file {}", "the device tree `<1>` does not exist", FILE)
        .hints(&["correct the path of `dtb`"])
        .lookup(Lookup::UnloadedFile)
        .seen_in(&[TESTED[0]]),
    missing("could not load PC BIOS '{}'", BIOS, "qemu.firmware-not-found")
        .hints(BIOS_HINTS)
        .lookup(Lookup::UnloadedFile),
    missing("Could not find ROM image '{}'", BIOS, "qemu.firmware-not-found")
        .hints(BIOS_HINTS)
        .lookup(Lookup::UnloadedFile)
        .seen_in(&[TESTED[0]]),
    firmware("system firmware block device  has invalid size {}", "the image of the firmware has an invalid size: <1>"),
    firmware(
        "combined size of system firmware exceeds {} bytes",
        "the images of the firmware have more than <1> bytes together",
    ),
    firmware("system firmware block device {} has invalid size {}", "the firmware image `<1>` has an invalid size: <2>"),
    firmware(
        "device requires {} bytes, block backend provides {} bytes",
        "a firmware image has <2> bytes, and machine type `<machine>` requires <1>",
    )
    .seen_in(&[TESTED[0]]),
    ExitMessage::new(
        "The contents of the first flash device may be specified with -bios or with -drive if=pflash",
        "`bios` and a `pflash` drive both name the firmware",
        "qemu.option-conflict",
        Fault::Usage,
    )
    .hints(&["remove one of the two"])
    .seen_in(&[TESTED[0]]),
    // QEMU says so of an empty file.
    missing("could not load kernel '{}': No such file or directory", "the kernel `<1>` does not exist", FILE)
        .hints(&["correct the path of `kernel`"])
        .lookup(Lookup::UnloadedFile),
    usage("could not load kernel '{}': {}", "`<1>` is not a kernel that QEMU can start: <2>").hints(KERNEL),
    missing("could not load kernel '{}'", "the kernel `<1>` does not exist", FILE)
        .hints(&["correct the path of `kernel`"])
        .lookup(Lookup::UnloadedFile)
        .seen_in(&[TESTED[0]]),
    usage(
        "Error loading uncompressed kernel without PVH ELF Note",
        "the file of `kernel` is a program, or a kernel that QEMU cannot start as it is",
    )
    .hints(&["name the compressed kernel, as `vmlinuz-…` or `bzImage`, and not `vmlinux`"]),
    usage("linux kernel too old to load a ram disk", "the file of `kernel` is not a kernel that takes an `initrd`")
        .hints(KERNEL),
    usage("invalid kernel header", "the file of `kernel` is not a kernel that QEMU can start: its header is invalid")
        .hints(KERNEL),
    refused("could not open kernel file '{}': Permission denied", "you may not read the kernel `<1>`").hints(READABLE),
    ExitMessage::new("-append only allowed with -kernel option", APPEND, "qemu.option-conflict", Fault::Usage)
        .hints(&["add `- {kernel: FILE}` under `arguments`"]),
    ExitMessage::new("-initrd only allowed with -kernel option", APPEND, "qemu.option-conflict", Fault::Usage)
        .hints(&["add `- {kernel: FILE}` under `arguments`"]),
    // Lists of trace events (`trace/control.c`), which follow the name of the program.
    missing("qemu-system-{}:{}: No such file or directory", "`<2>` does not exist", FILE).hints(PATH),
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
    refused("can't open file {}: Permission denied", "you may not read `<1>`").hints(READABLE),
    refused("can't load {}: Failed to open file {}: Permission denied", "you may not read `<1>`").hints(READABLE),
    missing("failed to find romfile \"{}\"", "the firmware `<1>` of a device does not exist", FILE)
        .hints(PATH)
        .lookup(Lookup::UnloadedFile),
    usage("romfile \"{}\" is empty", "the firmware `<1>` of a device is empty").hints(PATH),
    missing("Cannot read SMBIOS file {}", "`<1>` does not exist", FILE).hints(PATH).lookup(Lookup::UnloadedFile),
    missing("Cannot load specified image {}", "`<1>` does not exist", FILE).hints(PATH).lookup(Lookup::UnloadedFile),
    // Objects: secrets, certificates, dumps (`crypto/secret.c`, `crypto/tlscredsx509.c`, `net/dump.c`).
    missing("Unable to read {}: Failed to open file {}: No such file", "the file `<1>` of a secret does not exist", FILE)
        .hints(PATH)
        .lookup(Lookup::File),
    refused("Unable to read {}: Failed to open file {}: Permission denied", "you may not read the secret `<1>`")
        .hints(&["make it yours: `sudo chown $USER <1>`"]),
    missing(
        "Unable to access credentials {}: No such file or directory",
        "the file `<1>`, which TLS needs, does not exist",
        FILE,
    )
    .hints(&["create the certificates and keys in this directory, or correct `dir` of the object"])
    .lookup(Lookup::File),
    refused("Unable to access credentials {}: {}", "the file `<1>`, which TLS needs, cannot be used: <2>").hints(READABLE),
    missing("net dump: can't open {}: No such file or directory", "the directory of `<1>` does not exist", FILE)
        .hints(&["create the directory"])
        .lookup(Lookup::File),
    refused("net dump: can't open {}: {}", "`<1>` cannot be created: <2>").hints(OWN_DIRECTORY),
    missing("Could not create '{}': No such file or directory", "the directory of `<1>` does not exist", FILE)
        .hints(&["create the directory"])
        .lookup(Lookup::File),
    refused("Could not create '{}': {}", "`<1>` cannot be created: <2>").hints(OWN_DIRECTORY),
    refused("failed to unlink socket {}: {}", "a socket cannot be created at `<1>`: <2>").hints(OWN_DIRECTORY),
    missing("Replay: open {}: No such file or directory", "the recording `<1>`, or its directory, does not exist", FILE)
        .hints(&["record it first, with `rr=record`, or create the directory"])
        .lookup(Lookup::File),
    usage("Replay: invalid input log file version", "the file to replay is not a recording of this QEMU")
        .hints(&["record it again, with `rr=record`"]),
    missing("Could not load certificates from {}", "the file `<1>`, which TLS needs, cannot be used", FILE)
        .hints(&["create the certificates and keys, and name their directory in `x509-dir` of `spice`"])
        .seen_in(&[TESTED[0]]),
    missing("bind: No such file or directory", "the directory of a socket of `spice` does not exist", FILE)
        .hints(&["create the directory"])
        .seen_in(&[TESTED[0]]),
    missing("Error opening logfile {}: No such file or directory", "the directory of `<1>` does not exist", FILE)
        .hints(&["create the directory"])
        .lookup(Lookup::File),
    refused("Error opening logfile {}: {}", "`<1>` cannot be created: <2>").hints(OWN_DIRECTORY),
    ExitMessage::new(
        "tpm-emulator: TPM result for CMD_INIT: {} operation failed",
        "the TPM cannot use its state, which is damaged or of a newer swtpm (result <1>)",
        "tpm.state-corrupt",
        Fault::Host,
    )
    .hints(&["install the version of swtpm with which the VM ran last", "put back a copy of the file, if you made one"])
    .lookup(Lookup::Tpm),
    missing(
        "cannot initialize fsdev '{}': failed to open '{}': No such file or directory",
        "the directory `<2>` that is shared with the guest does not exist",
        FILE,
    )
    .hints(&["create the directory, or correct the path in <location>"]),
    refused(
        "cannot initialize fsdev '{}': failed to open '{}': Permission denied",
        "you may not open the directory `<2>` that is shared with the guest",
    )
    .hints(&["change its owner or permissions, or correct the path in <location>"]),
    missing("failed to open '{}': No such file or directory", "`<1>` does not exist", FILE)
        .hints(PATH)
        .lookup(Lookup::File),
    missing("Failed to bind socket to {}: No such file or directory", "the directory of `<1>` does not exist", FILE)
        .hints(&["create the directory"])
        .lookup(Lookup::File),
    missing(
        "Could not load plugin {}: {}: cannot open shared object file: No such file or directory",
        "the plugin `<1>` does not exist",
        FILE,
    )
    .hints(&["correct the path of `plugin`"])
    .lookup(Lookup::File),
    usage("Could not load plugin {}: {}: {}", "`<1>` is not a plugin of QEMU: <3>").hints(PLUGIN),
    usage("Could not load plugin {}: {}", "`<1>` is not a plugin of this QEMU: <2>").hints(PLUGIN),
    usage("ACPI table too big, requested: {}, max: {}", "an ACPI table has <1> bytes, and at most <2> are possible")
        .hints(&["correct the file in `<switch>`"]),
    usage("romfile \"{}\" too large {}", "`<1>` is not the firmware of a device").hints(PATH),
    // Snapshots (`migration/savevm.c`).
    missing("Snapshot '{}' does not exist in one or more devices", "a drive has no snapshot `<1>`", "snapshot.not-found")
        .hints(&["list the snapshots with `maqet snapshot ls <vm>`, and start with `maqet snapshot load`"]),
    ExitMessage::new(
        "no block device can store vmstate for snapshot",
        "`loadvm` needs a drive that can hold a snapshot of the running VM",
        "qemu.option-conflict",
        Fault::Usage,
    )
    .hints(&["add a `qcow2` drive that is not read-only, or remove `loadvm`"]),
    usage("'file' driver requires '{}' to be a regular file", "`<1>` is a directory or a device, and not a file")
        .hints(&["name a regular file in <location>; in `blockdev` under `arguments`, a block device needs `driver: host_device`"]),
    refused("Could not open '{}': Permission denied", "you may not open `<1>`")
        .hints(&["change the owner or the permissions of the file"]),
    refused("Could not open '{}': Operation not permitted", "the host does not let you open `<1>`")
        .hints(&["in a container, pass the device to it", "see the rules of the host for devices, such as those of its cgroups"]),
    usage("Could not open '{}': Is a directory", "`<1>` is a directory, and not a file")
        .hints(&["name a file in <location>"]),
    refused("Failed to bind socket to {}: {}", "a socket cannot be created at `<1>`: <2>").hints(OWN_DIRECTORY),
];

const FAT_SIZE: &[&str] =
    &["name a directory with fewer and smaller files", "share it with `type: virtfs` under `storage`"];

const FORMAT: &str = "storage.format-conflict";

const FILE: &str = "qemu.file-not-found";

const BIOS: &str = "the firmware `<1>` does not exist";

const KERNEL: &[&str] = &["name the kernel's file, as `/boot/vmlinuz-…`, and not a directory or another image"];

const READABLE: &[&str] = &["make it readable: `sudo chmod a+r <1>`", "copy it to a directory of yours"];

const OWN_DIRECTORY: &[&str] = &["choose a directory of yours"];

const APPEND: &str = "`initrd` and `append` require a `kernel`";

const PLUGIN: &[&str] = &["name a plugin that is built for this version, by its path, in `plugin`"];

const FORMATS: &[&str] = &[
    "name the format that the image has (`qemu-img info IMAGE`) in `<switch>`",
    "set `type:` for a drive under `storage`: `raw`, `qcow2`, …",
];

const BIOS_HINTS: &[&str] =
    &["correct the path, or install the firmware (Debian: `apt install ovmf`, `qemu-efi-aarch64`)"];

const PATH: &[&str] = &["correct the path in <location>"];

const fn missing(text: &'static str, cause: &'static str, code: &'static str) -> ExitMessage {
    ExitMessage::new(text, cause, code, Fault::NotFound)
}

const fn required(text: &'static str) -> ExitMessage {
    ExitMessage::new(text, "`<switch>` names no image", "qemu.option-required", Fault::Usage)
        .hints(&["name the file of the image in it"])
}

const fn format(text: &'static str, cause: &'static str) -> ExitMessage {
    ExitMessage::new(text, cause, FORMAT, Fault::Usage).hints(FORMATS).lookup(Lookup::ImageFormat)
}

const fn firmware(text: &'static str, cause: &'static str) -> ExitMessage {
    ExitMessage::new(text, cause, "firmware.image-invalid", Fault::Usage)
        .hints(&["set the path of a firmware image for this machine type", "set `firmware: uefi` to have one found"])
}

const fn usage(text: &'static str, cause: &'static str) -> ExitMessage {
    ExitMessage::new(text, cause, "qemu.file-invalid", Fault::Usage)
}

const fn refused(text: &'static str, cause: &'static str) -> ExitMessage {
    ExitMessage::new(text, cause, "qemu.file-refused", Fault::Host)
}
