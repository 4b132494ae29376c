//! Switches and their options, in general; the tables before this one have the special cases.

use super::{ExitMessage, Lookup, Role};
use crate::error::Fault;

/// The rows.
pub(super) const ROWS: &[ExitMessage] = &[
    usage("Invalid boot device for PC: '{}'", "`<1>` is not a letter of the boot order of a PC", VALUE).hints(BOOT),
    usage("Invalid boot device '{}'", "`<1>` is not a letter of the boot order", VALUE).hints(BOOT),
    usage("unknown vga type: {}", "`<1>` is not a graphics card", VALUE)
        .hints(&["set `vga: std`, `virtio`, `qxl`, `vmware`, `cirrus` or `none`"]),
    usage("Unsupported NIC model: {}", "`<1>` is not a network card of this machine type", VALUE)
        .hints(&["list the devices with `<binary> -device help`; the usual one is `virtio-net-pci`"])
        .seen_in(&[super::TESTED[0]]),
    usage("Display '{}' is not available.", "this QEMU has no display `<1>`", "qemu.display-not-found")
        .hints(&[
            "list its displays with `<binary> -display help`",
            "set `display: none`, and use `vnc` under `arguments`",
        ])
        .role(Role::Lack),
    usage(
        "machine type does not support if={},bus={},unit={}",
        "machine type `<machine>` has no place for a drive of interface `<1>` at bus <2>, unit <3>",
        VALUE,
    )
    .hints(&["add the drive under `storage`, with `interface: virtio` or `interface: scsi`"]),
    usage(": {} doesn't belong to network", "`<switch>` has an address of <1> that is outside of its network", VALUE)
        .hints(&["choose one in `net`, or leave it out: it follows from `net`"]),
    usage("could not resolve {}, err", "the host's name service has no address for the `<1>` of `<switch>`", VALUE)
        .hints(&["write the address as a number, as 127.0.0.1, in `<switch>`"]),
    usage("Invalid netmask provided (must be in range {}-{})", "the mask of a network has <1> to <2> bits", VALUE)
        .hints(&["write it as `net=10.0.2.0/24` in `<switch>`"]),
    usage(": {} must be different from {}", "`<switch>` has one address for <1> and <2>", VALUE)
        .hints(&["choose another one, or leave it out: it follows from `net`"]),
    usage("Invalid host forwarding rule '{}' ({})", "invalid forwarding rule `<1>`: <2>", VALUE)
        .hints(&["write it as `tcp:127.0.0.1:2222-:22`, or use `forward` of `network`"]),
    usage("Expected key=value format, found {}.", "`<1>` is not of the form `key=value`", VALUE)
        .hints(&[
            "write a CPU feature as `feature=on` or `feature=off` for this architecture",
            "correct it in `<switch>`",
        ])
        .seen_in(&[super::TESTED[0]]),
    usage("error parsing address '{}'", "`<1>` is not an address", VALUE)
        .hints(&["write it as `tcp:127.0.0.1:4444`, or `unix:/PATH`, in `<switch>`"]),
    usage("unknown migration protocol: {}", "`<1>` is not an address that QEMU can take a guest from", VALUE)
        .hints(&["write it as `tcp:127.0.0.1:4444`, `unix:/PATH` or `defer` in `<switch>`"]),
    usage("address resolution failed for {}: Servname not supported for ai_socktype", "`<1>` has no valid port", VALUE)
        .hints(&["write the port as a number, as in `127.0.0.1:4444`, in `<switch>`"]),
    usage("address resolution failed for {}: {}", "the host's name service has no address for `<1>`: <2>", VALUE)
        .hints(&["write the address as a number, as 127.0.0.1, in `<switch>`"]),
    usage(
        "specified mcastaddr {} ({}) does not contain a multicast address",
        "`<1>` is not a multicast address",
        VALUE,
    )
    .hints(&["choose one of 224.0.0.0 to 239.255.255.255, as 230.0.0.1"]),
    usage("Either 'file' or 'data' must be provided", "a secret has neither `file` nor `data`", "qemu.option-required")
        .hints(&["add `file: PATH` to the `object: secret`"]),
    // NUMA and memory (`hw/core/numa.c`, `hw/core/machine.c`, `hw/mem/memory-device.c`).
    usage(
        "CPU index ({}) should be smaller than maxcpus ({})",
        "CPU <1> of a NUMA node does not exist: the VM has <2>",
        VALUE,
    )
    .hints(&["set `numa:` with `cpu:`, or correct `cpus` in `<switch>`; CPUs are counted from 0"]),
    usage("memdev={} is ambiguous", "there is no memory `<1>`, which a NUMA node refers to", BACKEND)
        .hints(&["add `- {object: memory-backend-ram, id: <1>, size: SIZE}` before it under `arguments`"]),
    usage("Memory backend '{}' not found", "there is no memory `<1>`, which the machine refers to", BACKEND)
        .hints(&["add `- {object: memory-backend-ram, id: <1>, size: SIZE}` under `arguments`"]),
    usage(
        "Machine memory size does not match the size of the memory backend",
        "the object of the guest's RAM has another size than the VM",
        "qemu.option-conflict",
    )
    .hints(&["set `memory` of the VM to the `size` of the object"]),
    usage(
        "Parameter -numa node,mem is not supported",
        "machine type `<machine>` does not divide its own memory",
        VALUE,
    )
    .hints(&["set `numa:` with `memory:` of each node, or use `memdev` for `mem`"]),
    usage("Source/Destination NUMA node is missing", "`<switch>` refers to a NUMA node that does not exist", VALUE)
        .hints(&["add `- {numa: {node: …}}` before it, or `numa:` of the VM"]),
    usage("no slots where allocated", "a memory device needs slots", "qemu.option-required").hints(SLOTS),
    usage(
        "the configuration is not prepared for memory devices",
        "a memory device needs `maxmem`",
        "qemu.option-required",
    )
    .hints(SLOTS)
    .seen_in(&[super::TESTED[1]]),
    usage("invalid value of maxmem: {}", "`maxmem` of `m` is invalid: <1>", VALUE).hints(SLOTS),
    // Switches with values of their own form.
    usage("failed to parse UUID string: {}", "the UUID in `<switch>` is invalid: <1>", VALUE)
        .hints(&["write it as `550e8400-e29b-41d4-a716-446655440000`; `uuidgen` prints one"]),
    usage("could not read keymap file: '{}'", "<qemu> has no keyboard layout `<1>`", VALUE)
        .hints(&["set one of `ls /usr/share/qemu/keymaps`, as `de` or `en-us`, in `k`"]),
    usage("no vnc port specified", "`<switch>` names no address", VALUE).hints(VNC),
    usage("VNC requires a display argument", "`display: vnc` names no address", VALUE).hints(VNC),
    usage("can't convert to a number: {}", "`<1>` in `<switch>` is not the number of a display", VALUE).hints(VNC),
    usage(": port {} out of range", "`<1>` in `<switch>` is not the number of a display", VALUE).hints(VNC),
    usage("unknown vnc share= option", "the `share` of `<switch>` is invalid", VALUE)
        .hints(&["set `allow-exclusive`, `force-shared` or `ignore`"]),
    usage("'{}' provided but TLS is not enabled", "`<1>` requires TLS", "qemu.option-conflict")
        .hints(&["add `tls-creds=ID` to `<switch>`, or remove `<1>`"]),
    usage("OpenGL is not supported by", "the display has no OpenGL", "qemu.option-conflict")
        .hints(&["remove `gl` from `display`", "set `display: egl-headless`, which renders without a window"]),
    usage("Expected '=' after parameter '{}'", "`<1>` in `<switch>` has no value", VALUE)
        .hints(&["write it as `<1>=on`, `<1>=off`, or with another value"]),
    usage("Parameter '{}' used inconsistently", "`<1>` has a value, and options of its own", "qemu.option-conflict")
        .hints(&["remove `<1>` from `machine`, and use the key or the switch for it"]),
    usage("Accelerators supported in QEMU binary:", "`accel` of `arguments` or `args` is empty", VALUE)
        .hints(&["set `accel: tcg` for software emulation, or `accel: auto` to use KVM where it works"]),
    usage("Invalid 'thread' setting {}", "`<1>` is not a value of `thread`", VALUE)
        .hints(&["set `thread=single` or `thread=multi` in `<switch>`"]),
    usage("icount: Invalid shift value", "the `shift` of `icount` is invalid", VALUE)
        .hints(&["set a number from 0 to 10, or `auto`, in `<switch>`"]),
    usage("invalid option value '{}'", "an option does not take the value `<1>`", VALUE)
        .hints(&["correct `clock` or `driftfix` of `rtc`; `<binary> -help` lists the values"]),
    usage("invalid cache option", "the `cache` of `<switch>` is invalid", VALUE)
        .hints(&["set `none`, `writeback`, `writethrough`, `directsync` or `unsafe`"]),
    usage(
        "requires cache.direct=on, which was not specified",
        "`aio=native` needs `cache.direct=on`",
        "qemu.option-required",
    )
    .hints(&["add `cache.direct=on` to `<switch>`, or use the drive's key `aio`"]),
    usage("unsupported bus type '{}'", "`<1>` is not an interface of a drive", VALUE)
        .hints(&["set `if=none`, `virtio`, `ide`, `scsi`, `floppy` or `pflash` in `<switch>`"]),
    usage("plus exactly one of file, string and gen_id", "`<switch>` has no value, or two", "qemu.option-required")
        .hints(&["write it as `- {fw_cfg: {name: opt/org.example/key, string: VALUE}}`, or with `file`"]),
    usage("Must specify type= or file=", "`<switch>` has neither `type` nor `file`", "qemu.option-required")
        .hints(&["write it as `- {smbios: {type: 1, serial: VALUE}}`, or name a table by `file=PATH`"]),
    usage("fsdev: No id specified", "`<switch>` needs `id`", "qemu.option-required")
        .hints(&["add `id=…` to it", "use `type: virtfs` under `storage`"]),
    usage(
        "Usage: -virtfs fsdriver",
        "`<switch>` needs `path`, `mount_tag` and `security_model`",
        "qemu.option-required",
    )
    .hints(&["use `type: virtfs` under `storage`", "add them to it"]),
    usage("Help is not available for this option", "<qemu> prints no list for `<switch>`", VALUE)
        .hints(&["remove it; `man qemu-system` describes the option"]),
    usage("Don't know how to build fields for SMBIOS type {}", "<qemu> has no SMBIOS type <1>", VALUE)
        .hints(&["set one of `type=0`, `1`, `2`, `3`, `4`, `11`, `17`, or name a table by `file=PATH`"]),
    usage("chardev: no id specified", "`<switch>` needs `id`", "qemu.option-required").hints(&["add `id=…` to it"]),
    usage("Unable to parse FD number", "`<switch>` names no address", "qemu.option-required")
        .hints(&["add `path=PATH`, or `host=ADDRESS` and `port=PORT`, to it"]),
    usage("Option not supported for this target", "this QEMU does not support `<switch>`", OPTION)
        .hints(&["remove it from `arguments` or `args`"]),
    usage("there is no {} \"{}\" defined", "`<switch>` refers to `<1>` `<2>`, which does not exist", VALUE)
        .hints(&["write the option in the switch that defines it"]),
    usage("can't parse: \"{}\"", "`<1>` is not of the form `group.id.option=value`", VALUE)
        .hints(&["write the option in the switch that defines it"]),
    usage("could not add USB device '{}'", "<qemu> has no USB device `<1>`", "device.driver-not-found")
        .hints(&["write it as `- {device: usb-tablet}`; list the devices with `<binary> -device help`"]),
    usage("spice port is out of range", "the port of `spice` is not from 1 to 65535", VALUE)
        .hints(&["correct `port` or `tls-port` of `spice`"])
        .seen_in(&[super::TESTED[0]]),
    usage(
        "Parameter 'channel-type' does not accept value '{}'",
        "`<1>` is not an address that QEMU can take a guest from",
        VALUE,
    )
    .hints(&["write it as `tcp:127.0.0.1:4444`, `unix:/PATH` or `defer` in `<switch>`"])
    .seen_in(&[super::TESTED[1]]),
    usage("Parameter 'qom-type' does not accept value '{}'", "<qemu> has no object `<1>`", VALUE)
        .hints(&["list the objects with `<binary> -object help`"]),
    usage(
        "Parameter 'driver' does not accept value '{}'",
        "`<switch>` has a driver that <qemu> does not have: `<1>`",
        VALUE,
    )
    .hints(&["correct the driver; for sound, list them with `<binary> -audiodev help`"]),
    usage("Parameter '{}' does not accept value '{}'", "`<1>` does not take the value `<2>`", VALUE)
        .hints(&["correct the value in `<switch>`; `<binary> -help` describes its options"]),
    usage("Parameter '{}' expects {}", "`<1>` expects <2>", VALUE).hints(CORRECT),
    usage("Parameter '{}' is missing", "`<switch>` needs `<1>`", "qemu.option-required").hints(&["add `<1>=…` to it"]),
    usage("Parameter '{}' is unexpected", "`<switch>` has no option `<1>`", OPTION).hints(REMOVE),
    usage("Invalid parameter '{}'", "`<switch>` has no option `<1>`", OPTION).hints(REMOVE),
    usage("does not support the option '{}'", "`<switch>` has no option `<1>`", OPTION).hints(REMOVE),
    usage("'{}' is not a valid char driver", "<qemu> has no character device `<1>`", VALUE)
        .hints(&["list them with `<binary> -chardev help`"]),
    usage("Unknown protocol '{}'", "this QEMU cannot open `<1>:` addresses", VALUE)
        .hints(&["download the file, and name it", "install `qemu-block-extra`"])
        .role(Role::Lack)
        .seen_in(&[super::TESTED[0]]),
    usage("invalid datetime format", "the time of `rtc` is invalid", VALUE)
        .hints(&["write it as `2006-06-17T16:01:21`, or `utc` or `localtime`"]),
    usage("slots specified but no max-size", "memory slots need `maxmem`", VALUE).hints(&["add `maxmem=SIZE` to `m`"]),
    usage(": invalid option", "<qemu> has no such switch", OPTION)
        .hints(&["remove it from `arguments` or `args`; `<binary> -help` lists the switches"])
        .lookup(Lookup::ReplacedSwitch),
    usage(": requires an argument", "a switch lacks its value", "qemu.option-required")
        .hints(&["write the value after the switch, as `- {smp: 2}`"]),
];

const VALUE: &str = "qemu.option-invalid";

const OPTION: &str = "qemu.option-not-found";

const BACKEND: &str = "device.backend-conflict";

const SLOTS: &[&str] =
    &["set `- {m: {size: 1G, slots: 2, maxmem: 4G}}` under `arguments` for `memory`, with your sizes"];

const VNC: &[&str] = &["write it as `- {vnc: \"127.0.0.1:1\"}`, for port 5901, or `- {vnc: \"unix:/PATH\"}`"];

const BOOT: &[&str] = &["set `boot: c` (disk), `d` (CD), `n` (network), or several such as `dc`"];

const CORRECT: &[&str] = &["correct it in `<switch>`"];

const REMOVE: &[&str] = &["remove or correct it; `<binary> -help` lists the options"];

const fn usage(text: &'static str, cause: &'static str, code: &'static str) -> ExitMessage {
    ExitMessage::new(text, cause, code, Fault::Usage)
}
