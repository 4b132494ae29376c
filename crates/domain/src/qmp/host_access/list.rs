//! Which commands, objects and devices are harmless, and what the others could do (QEMU 7.2).

use super::HostAccess::{
    self, Access, Files, HostDevice, HumanMonitor, Log, Network, ProgramsOrNetwork, Property, Unknown,
};

/// Prefixes of commands that only query, by QEMU's convention (`docs/devel/writing-monitor-commands.rst`).
pub(super) const HARMLESS_QUERIES: &[&str] = &["query-", "x-query-"];

/// Commands that affect only the VM and what it was started with.
pub(super) const HARMLESS: &[&str] = &[
    // Power and machine.
    "announce-self",
    "balloon",
    "cont",
    "inject-nmi",
    "quit",
    "rtc-reset-reinjection",
    "set-action",
    "set-numa-node",
    "set_link",
    "sev-inject-launch-secret",
    "stop",
    "system_powerdown",
    "system_reset",
    "system_wakeup",
    "watchdog-set-action",
    "x-exit-preconfig",
    // Keyboard and mouse.
    "input-send-event",
    "send-key",
    // Listing and removing what it has.
    "chardev-remove",
    "chardev-send-break",
    "device-list-properties",
    "device_del",
    "display-reload",
    "netdev_del",
    "object-del",
    "qom-get",
    "qom-list",
    "qom-list-properties",
    "qom-list-types",
    "ringbuf-read",
    "ringbuf-write",
    "trace-event-get-state",
    // Descriptors come with a command over the socket, and maqet sends none.
    "add-fd",
    "closefd",
    "getfd",
    "remove-fd",
    "qmp_capabilities",
    // Block nodes that are open.
    "block-dirty-bitmap-add",
    "block-dirty-bitmap-clear",
    "block-dirty-bitmap-disable",
    "block-dirty-bitmap-enable",
    "block-dirty-bitmap-merge",
    "block-dirty-bitmap-remove",
    "block-export-del",
    "block-job-cancel",
    "block-job-complete",
    "block-job-dismiss",
    "block-job-finalize",
    "block-job-pause",
    "block-job-resume",
    "block-job-set-speed",
    "block-latency-histogram-set",
    "block-set-write-threshold",
    "block_resize",
    "block_set_io_throttle",
    "blockdev-backup",
    "blockdev-close-tray",
    "blockdev-del",
    "blockdev-insert-medium",
    "blockdev-mirror",
    "blockdev-open-tray",
    "blockdev-remove-medium",
    "blockdev-snapshot",
    "blockdev-snapshot-delete-internal-sync",
    "blockdev-snapshot-internal-sync",
    "eject",
    "job-cancel",
    "job-complete",
    "job-dismiss",
    "job-finalize",
    "job-pause",
    "job-resume",
    "nbd-server-remove",
    "nbd-server-stop",
    "snapshot-delete",
    "snapshot-load",
    "snapshot-save",
    "x-blockdev-amend",
    "x-blockdev-change",
    "x-blockdev-set-iothread",
    "x-debug-block-dirty-bitmap-sha256",
    "x-debug-query-block-graph",
    // A migration that was allowed to begin.
    "calc-dirty-rate",
    "cancel-vcpu-dirty-limit",
    "migrate-continue",
    "migrate-pause",
    "migrate-set-capabilities",
    "migrate-set-parameters",
    "migrate-start-postcopy",
    "migrate_cancel",
    "set-vcpu-dirty-limit",
    "x-colo-lost-heartbeat",
    "xen-colo-do-checkpoint",
    "xen-set-global-dirty-log",
    "xen-set-replication",
    "yank",
    // Record and replay.
    "replay-break",
    "replay-delete-break",
    "replay-seek",
];

/// Commands that require permission, always or unless their arguments are harmless, and why.
pub(super) const HOST_ACCESS_COMMANDS: &[(&str, HostAccess)] = &[
    ("add_client", Access),
    ("block-commit", Files),
    ("block-export-add", Access),
    ("block-stream", Files),
    ("blockdev-add", Files),
    ("blockdev-change-medium", Files),
    ("blockdev-create", Files),
    ("blockdev-reopen", Files),
    ("blockdev-snapshot-sync", Files),
    ("change-backing-file", Files),
    ("change-vnc-password", Access),
    ("chardev-add", Files),
    ("chardev-change", Files),
    ("client_migrate_info", Network),
    ("device_add", HostDevice),
    ("display-update", Network),
    ("drive-backup", Files),
    ("drive-mirror", Files),
    ("dump-guest-memory", Files),
    ("dumpdtb", Files),
    ("expire_password", Access),
    ("human-monitor-command", HumanMonitor),
    ("memsave", Files),
    ("migrate", ProgramsOrNetwork),
    ("migrate-incoming", ProgramsOrNetwork),
    ("migrate-recover", ProgramsOrNetwork),
    ("nbd-server-add", Access),
    ("nbd-server-start", Network),
    ("netdev_add", ProgramsOrNetwork),
    ("object-add", Files),
    ("pmemsave", Files),
    ("qom-set", Property),
    ("screendump", Files),
    ("set_password", Access),
    ("trace-event-set-state", Log),
    ("transaction", Unknown),
    ("xen-load-devices-state", Files),
    ("xen-save-devices-state", Files),
];

/// Backends of character devices that use memory only, unless they have a log.
pub(super) const HARMLESS_BACKENDS: &[&str] = &["memory", "null", "ringbuf"];

/// Block drivers without storage.
pub(super) const HARMLESS_BLOCK_DRIVERS: &[&str] = &["null-aio", "null-co"];

/// Objects without a file, socket or device of the host, unless they are given one.
pub(super) const HARMLESS_OBJECTS: &[&str] = &[
    "authz-list",
    "authz-simple",
    "cryptodev-backend-builtin",
    "iothread",
    "memory-backend-memfd",
    "memory-backend-ram",
    "rng-builtin",
    "secret",
    "throttle-group",
    "tls-cipher-suites",
];

/// Options that allocate memory of the host at once and without a limit, on chosen nodes, or from its huge pages. Memory
/// that is only reserved (`reserve`, on by default) is allocated when the guest touches it.
pub(super) const HOST_MEMORY_OPTIONS: &[&str] = &["host-nodes", "hugetlb", "prealloc"];

/// Numeric properties that are set while a VM runs.
pub(super) const HARMLESS_PROPERTIES: &[&str] =
    &["bootindex", "guest-stats-polling-interval", "poll-grow", "poll-max-ns", "poll-shrink", "temperature"];

/// Parts of the names of devices that use the graphics card of the host.
pub(super) const HOST_FORMS: &[&str] = &["-gl", "-rutabaga"];

/// Sound devices.
pub(super) const SOUND_DEVICES: &[&str] =
    &["AC97", "ES1370", "hda-duplex", "hda-micro", "hda-output", "sb16", "usb-audio", "virtio-sound"];

/// Properties that name something of the host. The devices below have only `romfile` and `pcap` (7.2); the others belong to
/// devices that require permission anyway, and are listed in case an emulated one gets such a property.
pub(super) const HOST_PROPERTIES: &[&str] = &[
    "cdat", "db", "evdev", "fd", "file", "frudatafile", "hidraw", "host", "hostaddr", "hostbus", "hostdevice",
    "hostport", "ibdev", "kernel", "pcap", "romfile", "rootdir", "sdrfile", "sysfsdev", "vhostdev", "vhostfd", "wwpn",
];

/// Emulated devices without a counterpart on the host.
pub(super) const DEVICES: &[&str] = &[
    "AC97", "ES1370", "VGA", "am53c974", "bochs-display", "cirrus-vga", "dc390", "e1000", "e1000-82544gc",
    "e1000-82545em", "e1000e", "edu", "floppy", "hda-duplex", "hda-micro", "hda-output", "i6300esb", "i82550",
    "i82551", "i82557a", "i82557b", "i82557c", "i82558a", "i82558b", "i82559a", "i82559b", "i82559c", "i82559er",
    "i82562", "i82801", "ib700", "ich9-ahci", "ich9-intel-hda", "ich9-usb-ehci1", "ich9-usb-ehci2", "ich9-usb-uhci1",
    "ich9-usb-uhci2", "ich9-usb-uhci3", "ich9-usb-uhci4", "ich9-usb-uhci5", "ich9-usb-uhci6", "ide-cd", "ide-hd",
    "igb", "intel-hda", "ioh3420", "isa-debug-exit", "isa-serial", "lsi53c810", "lsi53c895a", "megasas",
    "megasas-gen2", "mptsas1068", "ne2k_isa", "ne2k_pci", "nec-usb-xhci", "nvdimm", "nvme", "nvme-ns", "nvme-subsys",
    "pc-dimm", "pci-bridge", "pci-ohci", "pci-serial", "pci-serial-2x", "pci-serial-4x", "pcie-pci-bridge",
    "pcie-root-port", "pcnet", "piix3-usb-uhci", "piix4-usb-uhci", "pvpanic", "pvpanic-pci", "pvscsi", "pxb",
    "pxb-pcie", "qemu-xhci", "qxl", "qxl-vga", "ramfb", "rtl8139", "sb16", "scsi-cd", "scsi-hd", "sd-card",
    "sdhci-pci", "secondary-vga", "tulip", "usb-audio", "usb-bot", "usb-ehci", "usb-hub", "usb-kbd", "usb-mouse",
    "usb-net", "usb-serial", "usb-storage", "usb-tablet", "usb-uas", "usb-wacom-tablet", "virtconsole",
    "virtserialport", "vmgenid", "vmware-svga", "vmxnet3", "x3130-upstream", "xio3130-downstream",
];

/// Emulated devices with a form for each bus (`virtio-blk-pci-non-transitional`), and CPUs.
pub(super) const DEVICE_FAMILIES: &[&str] = &[
    "*-cpu", "virtio-balloon", "virtio-blk", "virtio-crypto", "virtio-gpu", "virtio-iommu", "virtio-keyboard",
    "virtio-mem", "virtio-mouse", "virtio-multitouch", "virtio-net", "virtio-pmem", "virtio-rng", "virtio-scsi",
    "virtio-serial", "virtio-sound", "virtio-tablet", "virtio-vga",
];
