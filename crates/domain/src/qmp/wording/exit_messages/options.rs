//! Switches and their options, in general; the tables before this one have the special cases.

use super::{ExitMessage, Role};
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
        "machine type `<machine>` has no interface `<1>`",
        VALUE,
    )
    .hints(&["add the drive under `storage`, with `interface: virtio` or `interface: scsi`"]),
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
    usage("Parameter '{}' does not accept value '{}'", "`<1>` does not take the value `<2>`", VALUE)
        .hints(&["correct the value in `<switch>`; `<binary> -help` lists the values"]),
    usage("Parameter '{}' expects {}", "`<1>` expects <2>", VALUE).hints(CORRECT),
    usage("Parameter '{}' is missing", "`<switch>` needs `<1>`", "qemu.option-required").hints(&["add `<1>=…` to it"]),
    usage("Parameter '{}' is unexpected", "`<switch>` has no option `<1>`", OPTION).hints(REMOVE),
    usage("Invalid parameter '{}'", "`<switch>` has no option `<1>`", OPTION).hints(REMOVE),
    usage("does not support the option '{}'", "`<switch>` has no option `<1>`", OPTION).hints(REMOVE),
    usage("'{}' is not a valid char driver name", "<qemu> has no character device `<1>`", VALUE)
        .hints(&["list them with `<binary> -chardev help`"]),
    usage("Unknown protocol '{}'", "this QEMU cannot open `<1>:` addresses", VALUE)
        .hints(&["download the file, and name it", "install `qemu-block-extra`"])
        .seen_in(&[super::TESTED[0]]),
    usage("invalid datetime format", "the time of `rtc` is invalid", VALUE)
        .hints(&["write it as `2006-06-17T16:01:21`, or `utc` or `localtime`"]),
    usage("slots specified but no max-size", "memory slots need `maxmem`", VALUE).hints(&["add `maxmem=SIZE` to `m`"]),
    usage(": invalid option", "<qemu> has no such switch", OPTION)
        .hints(&["remove it from `arguments` or `args`; `<binary> -help` lists the switches", NEWER]),
    usage(": requires an argument", "a switch lacks its value", "qemu.option-required")
        .hints(&["write the value after the switch, as `- {smp: 2}`"]),
];

const VALUE: &str = "qemu.option-invalid";

const OPTION: &str = "qemu.option-not-found";

const BOOT: &[&str] = &["set `boot: c` (disk), `d` (CD), `n` (network), or several such as `dc`"];

const CORRECT: &[&str] = &["correct it in `<switch>`"];

const REMOVE: &[&str] = &["remove or correct it; `<binary> -help` lists the options"];

const NEWER: &str = "see whether a newer QEMU has replaced it: `no-acpi` became `- {machine: {acpi: off}}`";

const fn usage(text: &'static str, cause: &'static str, code: &'static str) -> ExitMessage {
    ExitMessage::new(text, cause, code, Fault::Usage)
}
