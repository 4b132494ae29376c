//! Values beyond a limit that QEMU names, memory that huge pages do not allow, and backends that lack what they need.

use super::{ExitMessage, TESTED};
use crate::error::Fault;

/// The rows.
pub(super) const ROWS: &[ExitMessage] = &[
    // Memory backends (`backends/hostmem-*.c`, `util/memfd.c`, `softmmu/physmem.c`); these messages name no switch.
    ExitMessage::new(
        "failed to create memfd with flags {}: No such device",
        "the host has no huge pages of the size in `hugetlbsize`",
        "host.huge-pages-unavailable",
        Fault::Host,
    )
    .hints(&["set one of the sizes of the host, which `ls /sys/kernel/mm/hugepages` lists, or remove `hugetlbsize`"]),
    value("failed to resize memfd to {}: Invalid argument", "memory of <1> bytes is not a multiple of its huge pages")
        .hints(&["set a multiple of `hugetlbsize` as `memory` and `size`, or a smaller `hugetlbsize`"]),
    value(
        "memory size {} must be equal to or larger than page size {}",
        "memory of <1> bytes is smaller than a page of <2> bytes in its file system",
    )
    .hints(PAGES),
    value(
        "memory size must be multiple of {}",
        "the memory is not a multiple of the pages, of <1>, of its file system",
    )
    .hints(PAGES)
    .seen_in(&[TESTED[1]]),
    value("alignment {} must be a power of two", "the `align` of a memory object is <1>, and not a power of 2")
        .hints(&["set a power of 2, as `align=2M`, or remove it"]),
    conflict("'{}' and '{}' are incompatible", "`<1>` and `<2>` of an object exclude each other")
        .hints(&["remove one of the two in <location>"]),
    required(
        "memory devices (e.g. for memory hotplug) are not enabled, please specify the maxmem option",
        "a memory device needs `maxmem`",
    )
    .hints(&["set `- {m: {size: 1G, slots: 2, maxmem: 4G}}` under `arguments` for `memory`, with your sizes"])
    .seen_in(&[TESTED[0]]),
    // NUMA (`hw/core/numa.c`).
    usage(
        "Invalid node-id={}, NUMA node must be defined with -numa node",
        "`<switch>` refers to NUMA node <1>, which does not exist",
        "device.backend-conflict",
    )
    .hints(&["add `- {numa: node, nodeid: <1>}` before it under `arguments`", "use the key `numa`"]),
    // Devices (`hw/core/qdev-properties.c`, `hw/char`, `hw/i386/intel_iommu.c`).
    value("Supported values for {} are: {}", "`<1>` in `<switch>` is not one of <2>")
        .hints(&["set `<1>` to one of <2>"])
        .seen_in(&[TESTED[0]]),
    value("supported values for {} are: {}", "`<1>` in `<switch>` is not one of <2>")
        .hints(&["set `<1>` to one of <2>"])
        .seen_in(&[TESTED[1]]),
    value("Property .{} doesn't take value {} (minimum: {}, maximum: {})", "`<1>` is <2>, and not from <3> to <4>")
        .hints(&["set 256, 512, 1024 or another power of 2 within the limits, in `<switch>`"])
        .seen_in(&[TESTED[0]]),
    value("maximum ports supported: {}", "`<switch>` has more ports than <1>")
        .hints(&["set `max_ports` to <1> or less"]),
    value("Max. supported number of {} is {}.", "the VM has more than <2> of these: <1>")
        .hints(&["remove `<switch>`, or set a smaller `index` in it", "use `pci-serial` for more serial ports"]),
    usage("': Device '{}' is in use", USED_TWICE, "device.backend-conflict").hints(ONE_EACH).seen_in(&[TESTED[0]]),
    usage("': chardev '{}' is already in use", USED_TWICE, "device.backend-conflict")
        .hints(ONE_EACH)
        .seen_in(&[TESTED[1]]),
    // Images (`block/raw-format.c`, `block/qcow2.c`, `block/throttle-groups.c`, `block.c`).
    value(
        "Offset ({}) cannot be greater than size of the containing file ({})",
        "`<switch>` begins at byte <1> of a file of <2> bytes",
    )
    .hints(&["set a smaller `offset`"]),
    usage("Unsupported cluster size: {}", "the image of `<switch>` is damaged: its header is invalid", IMAGE)
        .hints(&["restore it from a backup, or set `format=raw` if it is not a qcow2 image"]),
    usage("Driver doesn't support backing files", "the image of `<switch>` has no backing file", IMAGE)
        .hints(&["remove the options of `backing`, or use `format=qcow2`"]),
    value("bps/iops/max values must be within [{}, {}]", "a limit of `<switch>` is not from <1> to <2>")
        .hints(&["correct it, or use the keys `iops` and `bps` of a drive under `storage`"]),
    conflict(
        "bps/iops/max total values and read/write values cannot be used at the same time",
        "`<switch>` limits both all transfers and those of one kind",
    )
    .hints(&["remove one of the two, as `bps` or `bps_rd`"]),
    value("Invalid node-name: '{}'", "`<1>` is not a name for a block node")
        .hints(&["begin it with a letter, followed by at most 30 letters, digits and `-._`"]),
    // Character devices and what is at their other end (`hw/virtio/vhost-user.c`, `net/vhost-user.c`, `chardev`).
    usage("Failed to set msg fds", "what is at the other end of `<switch>` does not speak vhost-user", BACKEND)
        .hints(VHOST_USER),
    usage(
        "chardev \"{}\" is not reconnectable",
        "character device `<1>` is not a socket, as vhost-user needs",
        BACKEND,
    )
    .hints(VHOST_USER),
    value("allowed spice char type names: {}", "`<switch>` has a `name` that SPICE does not know")
        .hints(&["set one of <1>"])
        .seen_in(&[TESTED[0]]),
    required("chardev: udp: remote port not specified", "`<switch>` needs the port of the other end")
        .hints(&["add `port=4444` to it"]),
    conflict("duplicate yank instance", "two switches are for one thing, as `s` and `gdb`")
        .hints(&["remove `<switch>`"]),
    // Networks (`net/socket.c`).
    usage("can't resolve host address '{}'", "the host's name service has no address for `<1>`", "qemu.option-invalid")
        .hints(&["correct the name, or write the address as a number, in `<switch>`"]),
    required("localaddr= is mandatory with udp=", "`<switch>` needs the address that it receives at")
        .hints(&["add `localaddr=127.0.0.1:PORT` to it", "use the key `network` with `mode: dgram`"]),
    // Other switches (`softmmu/icount.c`, `crypto/secret_common.c`).
    required("File name not specified for replay", "`rr` of `<switch>` needs a file")
        .hints(&["add `rrfile=FILE` to it"]),
    value("Base64 data contains invalid characters", "the `data` of a secret is not Base64")
        .hints(&["correct it in <location>: `base64 FILE` encodes a file", "use `file=PATH` instead of `data`"]),
];

const USED_TWICE: &str = "two devices use `<1>`";

const ONE_EACH: &[&str] = &["give each device a backend of its own; correct the name in `<switch>`"];

const IMAGE: &str = "qemu.file-invalid";

const BACKEND: &str = "device.backend-invalid";

const PAGES: &[&str] = &[
    "set a multiple of the size of its pages as `memory` and `size`",
    "name a directory for ordinary memory, such as `/dev/shm`",
];

const VHOST_USER: &[&str] =
    &["use `- {chardev: socket, id: ID, path: /PATH}`, at which a program for vhost-user listens"];

const fn usage(text: &'static str, cause: &'static str, code: &'static str) -> ExitMessage {
    ExitMessage::new(text, cause, code, Fault::Usage)
}

const fn value(text: &'static str, cause: &'static str) -> ExitMessage {
    usage(text, cause, "qemu.option-invalid")
}

const fn conflict(text: &'static str, cause: &'static str) -> ExitMessage {
    usage(text, cause, "qemu.option-conflict")
}

const fn required(text: &'static str, cause: &'static str) -> ExitMessage {
    usage(text, cause, "qemu.option-required")
}
