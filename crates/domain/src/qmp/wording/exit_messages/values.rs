//! Values that are not among those that an option takes, and options that exclude each other; the tables before this one
//! have those of which more can be said.

use super::{ExitMessage, Lookup, NameList, Role, TESTED};
use crate::error::Fault;

/// The rows.
pub(super) const ROWS: &[ExitMessage] = &[
    // Ranges of numbers (`hw/block`, `hw/nvme`, `hw/net`, `hw/scsi`, `hw/core/qdev-properties-system.c`).
    value(": {} must be between {} and {}", "`<1>` in `<switch>` is not from <2> to <3>").hints(CORRECT),
    value("({}), must be a power of 2 (max {})", "<1> in `<switch>` is not a power of 2 of at most <2>").hints(POWER),
    value(
        "Invalid {} (= {}), must be a power of 2 between {} and {}",
        "`<1>` is <2>, and not a power of 2 from <3> to <4>",
    )
    .hints(POWER),
    value("parameter {} must be a power of 2 between {} and {}", "`<1>` is not a power of 2 from <2> to <3>")
        .hints(POWER)
        .seen_in(&[TESTED[1]]),
    value("Property .{} doesn't take value '{}', it's not a power of 2", "`<1>` is <2>, which is not a power of 2")
        .hints(POWER)
        .seen_in(&[TESTED[0]]),
    value("Invalid number of queues (= {}), must be a positive integer less than {}", "`<switch>` has <1> queues")
        .hints(&["set a number of queues from 1 to less than <2>, such as that of the CPUs"]),
    value(
        "Can't create {} unit {}, bus supports only {} unit",
        "a bus for <1> has <3> units, from 0 on, and no unit <2>",
    )
    .hints(&["set another `bus`, or a smaller `unit`, in `<switch>`", "remove both to have QEMU choose"]),
    value("bad scsi {}: {}", "the SCSI controller has no <1> <2>")
        .hints(&["set a smaller one in `<switch>`, or remove it to have QEMU choose"]),
    value("usb port {} (bus {}) not found (in use?)", "USB port <1> of `<2>` does not exist, or is in use").hints(&[
        "set another `port` in `<switch>`, or remove it",
        "give the controller more ports, as `qemu-xhci,p2=8,p3=8`",
    ]),
    value("invalid slot number {}, valid range is [{}]", "there is no memory slot <1>; there are <2>")
        .hints(&["set another `slot` in `<switch>`, or more `slots` of `m`"]),
    value("Value '{}' is out of range for parameter '{}'", "`<1>` is out of range for `<2>`").hints(CORRECT),
    value("Parameter type for '{}', expected: {}", "`<1>` expects <2>").hints(&["correct `<1>` in <location>"]),
    value("Invalid parameter type for '{}', expected: {}", "`<1>` expects <2>").hints(&["correct `<1>` in <location>"]),
    value("Machine option '{}' expects size less than or equal to {}", "`<1>` is more than <2>")
        .hints(&["set <2> or less"]),
    value(
        "Address space limit {} < {} phys-bits too low ({})",
        "the CPU model has <3> bits for addresses, too few for the memory",
    )
    .hints(&["set less `memory`, or a smaller `maxmem` of `m`", "set `cpu_model: \"max,phys-bits=46\"`"]),
    value("-machine {}: unsupported option", "a machine type does not take `<1>`").hints(&["correct it in <location>"]),
    value("must be multiples of page size {}", "a size or an offset in memory is not a multiple of <1>")
        .hints(&["correct `align` or `offset` of the memory object"]),
    value("Hugepage size must be a power of 2", "`hugetlbsize` is not a power of 2")
        .hints(&["set `hugetlbsize=2M`, or another size of `ls /sys/kernel/mm/hugepages`"]),
    value("property '{}' of {} doesn't take value '{}'", "`<1>` of `<2>` does not take the value `<3>`")
        .hints(&["correct `<1>` in <location>"]),
    value("{} value must be in range {}", "`<1>` is not in the range <2>").hints(&["correct `<1>` in <location>"]),
    // Drives (`blockdev.c`).
    value("'{}' invalid {} error action", "`<1>` is not an action for a <2> error")
        .hints(&["set `werror` or `rerror` to `report`, `ignore`, `enospc` (only `werror`) or `stop`"]),
    value("invalid aio option", "the `aio` of `<switch>` is invalid").hints(&["set `threads`, `native` or `io_uring`"]),
    value("Invalid discard option", "the `discard` of `<switch>` is invalid").hints(&["set `unmap` or `ignore`"]),
    value("'{}' invalid media", "`<1>` is not a medium").hints(&["set `media=disk` or `media=cdrom`"]),
    value("invalid parameter value: {}", "`<switch>` has an option that does not take `<1>`").hints(CORRECT),
    value(
        "'{}' driver requires '{}' to be either a character or block device",
        "`<2>` is not a device, as `<1>` requires",
    )
    .hints(&["set `driver: file` for a file"]),
    usage(
        "cannot get SG_IO version number: {}",
        "`<switch>` needs a SCSI device of the host: <1>",
        "device.backend-invalid",
    )
    .hints(&["use `scsi-hd` or `scsi-cd` for an image"]),
    // Networks (`net/slirp.c`, `net/socket.c`, `util/qemu-sockets.c`).
    value("Failed to parse {}", "the <1> of `<switch>` is not one")
        .hints(&["write a network as `10.0.2.0/24` and an address as `10.0.2.3`, in `<switch>`"]),
    value("host address '{}' doesn't contain ':' separating host from port", "`<1>` has no port")
        .hints(&["write it as `127.0.0.1:4444` in `<switch>`"]),
    value("port number '{}' is invalid", "`<1>` is not a port").hints(&["set a number from 1 to 65535 in `<switch>`"]),
    value("Invalid guest forwarding rule '{}'", "`<1>` is not a forwarding rule").hints(GUEST_FORWARD),
    value("in guest forwarding rule '{}'", "the address of `<1>` is not in the guest's network, or is in use")
        .hints(GUEST_FORWARD),
    usage("exactly one of {} is required", "`<switch>` needs exactly one of <1>", "qemu.option-required")
        .hints(&["write one of them", "use the key `network` with `mode: stream` or `mode: dgram`"]),
    usage(
        "network backend '{}' is not compiled into this binary",
        "<qemu> has no network backend `<1>`",
        "device.driver-not-found",
    )
    .hints(&["use another one, as `user`, `tap` or `stream`"]),
    // Character devices (`chardev`).
    usage("chardev: {}: no {} given", "`<switch>` needs its <2>", "qemu.option-required").hints(ADD),
    usage("UNIX socket path '{}' is too long", "the path of a socket is too long: `<1>`", VALUE)
        .hints(&["name a shorter one, of at most 107 bytes, in <location>"]),
    value(
        "is incompatible with socket in {} mode",
        "`<switch>` has an option that is not for the <1> mode of a socket",
    )
    .hints(&["remove `wait` without `server=on`, and `reconnect` with it"]),
    // Other things that a switch refers to.
    usage("No such memory encryption object '{}'", "there is no object `<1>`", BACKEND)
        .hints(&["add `- {object: …, id: <1>}` under `arguments`, or correct the name"]),
    usage("netdev '{}' not found", "there is no network backend `<1>`", BACKEND)
        .hints(&["add `- {netdev: user, id: <1>}` before it under `arguments`, or correct the name in `<switch>`"]),
    usage("Throttle group '{}' does not exist", "there is no throttle group `<1>`", BACKEND)
        .hints(&["add `- {object: throttle-group, id: <1>}` before it under `arguments`"]),
    usage(
        "No PCI device {} for SMBIOS type 41",
        "there is no PCI device `<1>`, which an SMBIOS table refers to",
        BACKEND,
    )
    .hints(&["set the `id` of a device as `pcidev`"])
    .seen_in(&[TESTED[0]]),
    usage("can't use already busy memdev: {}", "two devices use the memory `<1>`", BACKEND)
        .hints(&["give each device a memory object of its own"]),
    usage(
        "'{}' (alias '{}') is not a valid device model name",
        "<qemu> has no device `<1>`",
        "device.driver-not-found",
    )
    .hints(&[
        "install the package of QEMU's modules that has it, such as `qemu-system-modules-opengl`",
        "list the devices with `<binary> -device help`",
    ])
    .lookup(Lookup::Names(NameList::Device))
    .seen_in(&[TESTED[1]])
    .role(Role::Lack),
    usage("invalid object type: {}", "<qemu> has no object `<1>` on this host", "device.driver-not-found")
        .hints(&["list the objects with `<binary> -object help`"]),
    usage("fsdriver {} not found", "<qemu> has no file system `<1>`", "device.driver-not-found")
        .hints(&["use `type: virtfs` under `storage`"]),
    usage("no default audio driver available", "`<switch>` needs an audio backend", "qemu.option-required")
        .hints(&[
            "add `- {audiodev: none, id: audio}` under `arguments`, and `audiodev=audio` to it",
            "use the key `sound`",
        ])
        .seen_in(&[TESTED[1]]),
    usage(
        "ISA controller does not support DMA",
        "machine type `<machine>` has no DMA for ISA devices",
        "device.bus-not-found",
    )
    .hints(&["set `machine: pc` or `machine: q35`", "remove `<switch>`"]),
    // CPUs.
    usage(
        "APIC ID {} requires x2APIC feature in CPU",
        "more than 255 CPUs need x2APIC, which the CPU model does not have",
        "qemu.cpus-invalid",
    )
    .hints(&["set `cpu_model: max`, or another model with `x2apic=on`", "set `cpu: 255` or less"])
    .seen_in(&[TESTED[1]]),
    usage(
        "current -smp configuration requires kernel irqchip and X2APIC",
        "more than 255 CPUs need KVM",
        "qemu.cpus-invalid",
    )
    .hints(&["set `cpu: 255` or less"])
    .seen_in(&[TESTED[0]]),
    usage(
        "not supported by this machine's CPU topology",
        "machine type `<machine>` does not divide CPUs in this way",
        "qemu.cpus-invalid",
    )
    .hints(&["remove `dies`, `clusters` or `modules`; `sockets`, `cores` and `threads` are always possible"]),
    value("-cpu option cannot be empty", "`cpu_model` is empty").hints(&["set `cpu_model: max`, or remove it"]),
    // Options that exclude each other, or need another one.
    conflict("host-nodes must be empty for policy", "`host-nodes` of a memory object needs a `policy`")
        .hints(&["add `policy=bind`, or remove `host-nodes`"]),
    usage(
        "host-nodes must be set for policy {}",
        "the policy `<1>` of a memory object needs `host-nodes`",
        "qemu.option-required",
    )
    .hints(&["add `host-nodes=0`, or another node of the host"]),
    conflict("The -accel and \"-machine accel=\" options are incompatible", "two switches set the accelerator")
        .hints(&["keep only the key `accel`"]),
    conflict("'{}' and '{}' are mutually exclusive", "`<1>` and `<2>` exclude each other")
        .hints(&["remove one of the two"]),
    conflict("CXL host bridges present, but cxl=off", "a CXL device needs a machine with CXL")
        .hints(&["set `machine: {type: q35, cxl: on}`"]),
    conflict("accelerator does not support confidential guest {}", "the accelerator has no guests of kind `<1>`")
        .hints(&["set `accel: kvm` on a host that has them", "remove `confidential-guest-support`"])
        .seen_in(&[TESTED[1]]),
    conflict("Only one {} is supported", "the VM has two devices of which one is possible: <1>")
        .hints(&["remove `<switch>`"]),
    conflict("at most one {} is permitted", "the VM has two devices of which one is possible: <1>")
        .hints(&["remove `<switch>`"]),
    conflict("nvdimm is not enabled: missing 'nvdimm' in '-M'", "an `nvdimm` needs a machine with them")
        .hints(&["set `machine: {type: q35, nvdimm: on}`"]),
    // Switches with lists of their own.
    value(
        "Use \"-d trace:help\" to get a list of trace events.",
        "`d` has an item that QEMU does not know, or is empty",
    )
    .hints(&["list the items with `<binary> -d help`, and correct `d` under `arguments` or `args`"]),
    value("Boot device '{}' was given twice", "the boot order has `<1>` twice")
        .hints(&["set `boot: c` (disk), `d` (CD), `n` (network), or several such as `dc`"]),
    value("reboot timeout is invalid", "the `reboot-timeout` of `boot` is not from -1 to 65535")
        .hints(&["correct it under `arguments` or `args`"]),
    value("Property '{}' requires a positive value", "`<1>` is not a positive number")
        .hints(&["correct it in <location>"]),
    value("Setting CPU affinity failed: {}", "the host does not have a CPU of `cpu-affinity`: <1>")
        .hints(&["list the CPUs of the host with `lscpu -e`"]),
    value("The nodes select no CPUs", "the host does not have a NUMA node of `node-affinity`")
        .hints(&["list the nodes of the host with `lscpu`"]),
    usage("needs 'indev' or 'outdev'", "a `filter-redirector` needs `indev` or `outdev`", "qemu.option-required")
        .hints(&["add the ID of a character device as one of them"]),
    value("We need a terminal output", "the display `curses` needs a terminal, and QEMU runs in the background")
        .hints(&["remove `display`, and use `maqet console`"]),
    value("spice: invalid {}: {}", "`<2>` is not a value of the <1> of `spice`")
        .hints(&["correct it in <location>"])
        .seen_in(&[TESTED[0]]),
    value(":{}: parse error", "line <1> of a file of `readconfig` is invalid")
        .hints(&["write it as `[group \"id\"]` and lines of `key = \"value\"`"])
        .seen_in(&[TESTED[0]]),
];

const VALUE: &str = "qemu.option-invalid";

const BACKEND: &str = "device.backend-conflict";

const CORRECT: &[&str] = &["correct it in `<switch>`"];

const POWER: &[&str] = &["set 256, 512, 1024 or another power of 2 within the limits, in `<switch>`"];

const ADD: &[&str] = &["add it, as `path=/PATH`, `host=127.0.0.1` with `port=4444`, or `name=NAME`"];

const GUEST_FORWARD: &[&str] =
    &["write it as `guestfwd=tcp:10.0.2.100:80-cmd:PROGRAM`, with an address of the guest's network"];

const fn usage(text: &'static str, cause: &'static str, code: &'static str) -> ExitMessage {
    ExitMessage::new(text, cause, code, Fault::Usage)
}

const fn value(text: &'static str, cause: &'static str) -> ExitMessage {
    usage(text, cause, VALUE)
}

const fn conflict(text: &'static str, cause: &'static str) -> ExitMessage {
    usage(text, cause, "qemu.option-conflict")
}
