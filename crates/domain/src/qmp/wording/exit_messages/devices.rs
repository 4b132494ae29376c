//! Machine types, CPU models, devices, their buses and properties.

use super::super::super::versions::TESTED;
use super::{ExitMessage, Lookup, NameList, Role};
use crate::error::Fault;

/// The rows.
pub(super) const ROWS: &[ExitMessage] = &[
    // An address of an image, or a device, of a package that is not installed (`util/module.c`).
    missing_block_driver("module block-block-{} not found, do you want to install {} package?").seen_in(&[TESTED[0]]),
    missing_block_driver("Unable to load module {}. Perhaps you want to install {} or {} package?").seen_in(&[TESTED[1]]),
    missing_package("do you want to install {} package?").seen_in(&[TESTED[0]]),
    missing_package("Perhaps you want to install {} package?").seen_in(&[TESTED[1]]),
    // Machine types (`hw/core/machine.c`, `softmmu/vl.c`).
    usage("unsupported machine type: \"{}\"", MACHINE, "qemu.machine-not-found")
        .hints(&[MACHINE_HINT])
        .lookup(Lookup::MachineType)
        .seen_in(&[TESTED[1]]),
    usage("unsupported machine type", MACHINE, "qemu.machine-not-found")
        .hints(&[MACHINE_HINT])
        .lookup(Lookup::MachineType)
        .seen_in(&[TESTED[0]]),
    usage(
        "No machine specified, and there is no default",
        "this QEMU has no default machine type",
        "qemu.machine-required",
    )
    .hints(&["set `machine: virt`, the usual one for `aarch64` and `riscv64`", MACHINE_HINT]),
    usage("Invalid RAM size, should be {}", "machine type `<machine>` has <1> of memory, and no other amount", VALUE)
        .hints(&["set `memory` to it"])
        .seen_in(&[TESTED[0]]),
    // CPUs (`target/i386/cpu.c`, `hw/core/machine-smp.c`).
    usage("unable to find CPU model '{}'", "<qemu> has no CPU model `<1>`", "qemu.cpu-model-not-found")
        .hints(&["list the CPU models with `<binary> -cpu help`"])
        .lookup(Lookup::Names(NameList::Cpu)),
    usage(
        "Invalid SMP CPUs {}. The max CPUs supported by machine '{}' is {}",
        "machine type `<2>` supports at most <3> CPUs, not <1>",
        "qemu.cpus-too-large",
    )
    .hints(&["set `cpu: <3>` or less"]),
    usage(
        "Invalid SMP CPUs {}. The min CPUs supported by machine '{}' is {}",
        "machine type `<2>` requires at least <3> CPUs, not <1>",
        "qemu.cpus-invalid",
    )
    .hints(&["set `cpu: <3>` or more"])
    .seen_in(&[TESTED[0]]),
    usage("Invalid CPU topology: {}", "the CPUs do not fit their sockets, cores and threads: <1>", "qemu.cpus-invalid")
        .hints(&["make `sockets`, `cores` and `threads` multiply to the number of CPUs"]),
    // Devices (`qom/object_interfaces.c`, `softmmu/qdev-monitor.c`).
    usage("'{}' is not a valid device model name", "<qemu> has no device `<1>`", "device.driver-not-found")
        .hints(&["list the devices with `<binary> -device help`"])
        .lookup(Lookup::Names(NameList::Device))
        .role(Role::Lack),
    usage("missing object type '{}'", "a module of QEMU is missing: that of `<1>`", "device.driver-not-found")
        .hints(&["install the packages of QEMU's modules, all of one version", "use another device"])
        .seen_in(&[TESTED[0]])
        .role(Role::Lack),
    usage("Unknown audio driver `{}'", "<qemu> has no audio driver `<1>`", "device.driver-not-found")
        .hints(&["list the drivers with `<binary> -audiodev help`", "set `sound: {backend: none}` for a card without sound"])
        .seen_in(&[TESTED[0]])
        .role(Role::Lack),
    bus("No 'IDE' bus found for device '{}'", "machine type `<machine>` has no IDE bus, which device `<1>` needs")
        .hints(&["set `interface: virtio` or `interface: scsi` for the drive"]),
    bus("No 'SCSI' bus found for device '{}'", "the VM has no SCSI bus, which device `<1>` needs")
        .hints(&["add `- {device: virtio-scsi-pci}` before it, or use `interface: scsi` under `storage`"]),
    bus("No 'usb-bus' bus found for device '{}'", "the VM has no USB bus, which device `<1>` needs")
        .hints(&["add `- {device: qemu-xhci}` before it under `arguments`"]),
    bus("No 'virtio-serial-bus' bus found for device '{}'", "the VM has no virtio serial bus for device `<1>`")
        .hints(&["add `- {device: virtio-serial}` before it under `arguments`"]),
    bus("No 'PCI' bus found for device '{}'", "machine type `<machine>` has no PCI bus, which device `<1>` needs")
        .hints(&[
            "for `microvm`, set `machine: {type: microvm, pcie: on}`, or use devices for its bus, as `virtio-blk-device`",
            "choose a machine type with PCI, such as `q35`, or `virt` for `aarch64`",
        ]),
    bus("No '{}' bus found for device '{}'", "the VM has no bus of type `<1>`, which device `<2>` needs")
        .hints(&["add the controller with this bus before the device", DEVICES]),
    bus("Bus 'ide.{}' not found", "machine type `<machine>` has no IDE bus `ide.<1>`")
        .hints(&["set `interface: virtio` or `interface: scsi` for the drive"]),
    bus("Bus '{}' not found", "the VM has no bus `<1>`").hints(&[
        "name a bus of the machine (`pci.0` of `pc`, `pcie.0` of `q35` and `virt`) or of a controller by its `id`",
    ]),
    usage("Property '{}-machine.{}' not found", "machine type `<1>` has no option `<2>`", "qemu.option-not-found")
        .hints(&["list its options with `<binary> -machine <1>,help`"]),
    usage("Property '{}-x86_64-cpu.{}' not found", "CPU model `<1>` has no feature `<2>`", "qemu.option-not-found")
        .hints(&["list the features with `<binary> -cpu help`"]),
    usage("Property '{}-arm-cpu.{}' not found", "CPU model `<1>` has no feature `<2>`", "qemu.option-not-found")
        .hints(&["list the features with `<binary> -cpu help`"])
        .seen_in(&[TESTED[0]]),
    usage("Property '{}-riscv-cpu.{}' not found", "CPU model `<1>` has no feature `<2>`", "qemu.option-not-found")
        .hints(&["list the features with `<binary> -cpu help`"])
        .seen_in(&[TESTED[0]]),
    usage("Property '{}-accel.{}' not found", "accelerator `<1>` has no option `<2>`", "qemu.option-not-found")
        .hints(&["remove it from <location>; `<binary> -help` lists the options of `-accel`"]),
    usage("Property '{}.{}' not found", "device `<1>` has no property `<2>`", "device.property-not-found")
        .hints(&["list its properties with `<binary> -device <1>,help`"]),
    usage("can't apply global {}-cpu.{}={}: {}", "`<3>` is not a value of `<2>` of the CPU model", VALUE)
        .hints(&["correct `<2>` in `cpu_model`: a feature is `on` or `off`, and others are numbers or texts"]),
    usage("phys-bits should be between {} and {}  (but is {})", "`phys-bits` of the CPU model is <3>", VALUE)
        .hints(&["set `phys-bits` from <1> to <2> in `cpu_model`"]),
    ExitMessage::new(
        "{} doesn't support requested features",
        "<1> does not have all features of the CPU model, which `enforce` demands",
        "host.cpu-features-unavailable",
        Fault::Host,
    )
    .hints(&["remove `enforce` from `cpu_model` to start without them, which are then warned of", "set `cpu_model: max`"]),
    // Properties that a device cannot do without.
    required(": drive property not set", "`<switch>` needs a drive").hints(DRIVE),
    required(": No drive specified", "`<switch>` needs a drive").hints(DRIVE),
    required(": {} property not set", "`<switch>` needs `<1>`").hints(ADD),
    required(": '{}' property is required", "`<switch>` needs `<1>`").hints(ADD),
    required(": {} property is required", "`<switch>` needs `<1>`").hints(ADD),
    required("'{}' property must be set", "`<switch>` needs `<1>`").hints(ADD).seen_in(&[TESTED[0]]),
    required("You must specify a '{}'", "`<switch>` needs `<1>`").hints(ADD),
    required(": missing chardev", "`<switch>` needs `chardev`")
        .hints(&["add `- {chardev: …, id: ID}` under `arguments`, and `chardev=ID` to it"]),
    required("empty char device", "`<switch>` needs `chardev`")
        .hints(&["add `- {chardev: …, id: ID}` under `arguments`, and `chardev=ID` to it"]),
    required("parameter expects a valid object", "`<switch>` needs an object, which does not exist")
        .hints(&["add `- {object: …, id: ID}` before it under `arguments`, and name the ID in it"]),
    usage("guest-cid property must be greater than 2", "the `guest-cid` of a vsock is missing, or less than 3", VALUE)
        .hints(&["set `guest-cid=3`, or another number that no other VM of the host has, in `<switch>`"]),
    usage("Property '{}' doesn't take value '{}'", "`<1>` does not take the value `<2>`", "device.property-invalid")
        .hints(&["correct the value in `<switch>`"]),
    usage("Property '{}' can't find value '{}'", "`<1>` refers to `<2>`, which does not exist", BACKEND)
        .hints(&["add the drive, network or character device `<2>`, or correct the name in `<switch>`"]),
    usage("chardev \"{}\" not found", "there is no character device `<1>`", BACKEND)
        .hints(&["add `- {chardev: …, id: <1>}` under `arguments`, or correct the name in `<switch>`"]),
    usage("tpm chardev '{}' not found", "there is no character device `<1>`", BACKEND)
        .hints(&["add `- {chardev: …, id: <1>}` under `arguments`, or set `tpm: true`"]),
    usage("9pfs device couldn't find fsdev with the id = {}", "there is no `fsdev` with the ID `<1>`", BACKEND)
        .hints(&["use `type: virtfs` under `storage`", "add `- {fsdev: …, id: <1>}` before it, and name the ID in `<switch>`"]),
    usage("Cannot find device='{}' nor node-name='{}'", "there is no block node `<2>`", BACKEND)
        .hints(&["add `- {blockdev: …, node-name: <2>}` before it, or correct the name in `<switch>`"]),
    usage("could not connect {} device to character backend '{}'", "a <1> port cannot use `<2>`", BACKEND)
        .hints(&[
            "add `- {chardev: …, id: ID}` under `arguments` for `chardev:ID`, or correct the name in `<switch>`",
            "write another one in full, as `file:/PATH`, `unix:/PATH,server=on,wait=off` or `tcp:127.0.0.1:4444,server=on,wait=off`",
        ])
        .role(Role::Summary),
    usage("udiodev '{}' not found", "there is no audio backend `<1>`", BACKEND)
        .hints(&["add `- {audiodev: none, id: <1>}` under `arguments`, or correct the name in `<switch>`"]),
    usage("No TLS credentials with id '{}'", "there are no TLS credentials `<1>`", BACKEND).hints(&[
        "add `- {object: tls-creds-x509, id: <1>, dir: DIRECTORY, endpoint: server}` under `arguments`, or correct the name in \
         `<switch>`",
    ]),
    usage("No secret with id '{}'", "there is no secret `<1>`", BACKEND)
        .hints(&["add `- {object: secret, id: <1>, file: /PATH}` under `arguments`, or correct the name in `<switch>`"]),
    usage("Drive '{}' is already in use by another device", "two devices use the drive `<1>`", BACKEND)
        .hints(&["give each device a drive of its own; see `<switch>`"]),
    usage("Device '{}' not found", "there is no `<1>`, which an object refers to", BACKEND)
        .hints(&["add it under `arguments`, or correct the name"]),
    usage("Property '{}' can't take value '{}', it's in use", "`<2>` is used by another device", BACKEND)
        .hints(&["give each device a drive or network of its own; see `<switch>`"]),
    usage("Permission conflict on node '{}': {}", "two devices use the drive `<1>`", BACKEND)
        .hints(&["give each device a drive of its own, or set `share-rw: on` for both"]),
    usage("Duplicate ID '{}' for {}", "two things of kind `<2>` have the ID `<1>`", ID)
        .hints(&["choose another ID in `<switch>`; drives and cards of the definition have their names as IDs"]),
    usage("Duplicate nodes with node-name='{}'", "two block nodes have the name `<1>`", ID)
        .hints(&["choose another `node-name` in `<switch>`; drives of the definition have their names as node names"]),
    usage("The bootindex {} has already been used", "two devices have the boot index <1>", ID)
        .hints(&["give each device a `bootindex` of its own"]),
    usage("PCI: slot {} function {} not available for {}, in use by {},", "<4> is in PCI slot <1> already", ID)
        .hints(&["choose another `addr` in `<switch>`, or leave it out"]),
    usage("Can't add chassis slot, error {}", "two PCI Express ports have one `chassis` and one `slot`", ID)
        .hints(&["give each port a `slot` or a `chassis` of its own, as `- {device: pcie-root-port, id: port2, slot: 2}`"]),
    usage("drive with bus={}, unit={} (index={}) exists", "two drives are unit <2> of a bus", ID)
        .hints(&["choose another `index`, or `bus` and `unit`, in `<switch>`, or leave them out"]),
    usage("primary qxl-vga device must be console 0", "a second graphics card cannot be a `qxl-vga`", ID)
        .hints(&["write it as `- {device: qxl}`", "set `vga: none` if it is the only one"])
        .seen_in(&[TESTED[0]]),
    required("Bridge chassis not specified", "`<switch>` needs `chassis_nr`")
        .hints(&["add `chassis_nr=1` to it, and another number for each bridge"]),
    usage("invalid max_outputs > {}", "a graphics card has at most <1> screens", VALUE)
        .hints(&["set `max_outputs` to that or less in `<switch>`"]),
    usage("IDE unit {} is in use", "two drives are unit <1> of an IDE bus", ID)
        .hints(&["choose another `bus` or `unit` in `<switch>`, or leave them out"]),
    usage("Block node is read-only", "the drive is read-only, and its device needs to write", "device.backend-invalid")
        .hints(&[
            "attach it by `interface: virtio` or `interface: scsi`, or as a CD (`type: iso`)",
            "for a directory as a disk, write `fat:rw:DIRECTORY`, or add `if: virtio` and `readonly: on`",
        ]),
    host_device("no iommu_group found: {}", "the host has no IOMMU for the device: <1>").hints(&[
        "enable the IOMMU in the host's firmware, and by `intel_iommu=on` on its kernel's command line; in a VM, it needs one",
    ]),
    host_device("no such host device: {}", "the host has no such device").hints(&["list the devices with `lspci -D`"]),
];

const MACHINE: &str = "<qemu> has no machine type `<machine>`";

const MACHINE_HINT: &str = "list the machine types with `<binary> -machine help`";

const DEVICES: &str = "list the devices and their buses with `<binary> -device help`";

const DRIVE: &[&str] = &[
    "add the drive under `storage`, which adds its device too",
    "add `- {drive: {file: FILE, if: none, id: ID}}` under `arguments`, and `drive=ID` to it",
];

const ADD: &[&str] = &["add `<1>=…` to it"];

const VALUE: &str = "qemu.option-invalid";

const BACKEND: &str = "device.backend-conflict";

const ID: &str = "device.id-conflict";

const fn usage(text: &'static str, cause: &'static str, code: &'static str) -> ExitMessage {
    ExitMessage::new(text, cause, code, Fault::Usage)
}

const fn required(text: &'static str, cause: &'static str) -> ExitMessage {
    usage(text, cause, "qemu.option-required")
}

const fn bus(text: &'static str, cause: &'static str) -> ExitMessage {
    usage(text, cause, "device.bus-not-found")
}

const fn host_device(text: &'static str, cause: &'static str) -> ExitMessage {
    ExitMessage::new(text, cause, "host.device-not-found", Fault::Host)
}

/// A driver for addresses of images.
const fn missing_block_driver(text: &'static str) -> ExitMessage {
    let cause = "the part of QEMU for such an address is in a package that is not installed";
    ExitMessage::new(text, cause, "host.module-not-found", Fault::Host)
        .hints(&["install the package: `apt install <2>`", "download the file, and name it"])
        .role(Role::Notice)
}

const fn missing_package(text: &'static str) -> ExitMessage {
    let cause = "a part of QEMU that the VM uses is in a package that is not installed";
    ExitMessage::new(text, cause, "host.module-not-found", Fault::Host)
        .hints(&["install the package: `apt install <1>`"])
        .role(Role::Notice)
}
