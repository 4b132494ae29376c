//! Which switches of QEMU take a value (`qemu-options.def`, 7.2 and 10.0).

/// The switches without a value.
const ALONE: &[&str] = &[
    "S",
    "async-teardown",
    "audio-help",
    "daemonize",
    "enable-kvm",
    "enable-sync-profile",
    "full-screen",
    "h",
    "help",
    "jitdump",
    "mem-prealloc",
    "no-acpi",
    "no-fd-bootchk",
    "no-hpet",
    "no-reboot",
    "no-shutdown",
    "no-user-config",
    "nodefaults",
    "nographic",
    "old-param",
    "only-migratable",
    "perfmap",
    "portrait",
    "preconfig",
    "s",
    "semihosting",
    "singlestep",
    "snapshot",
    "usb",
    "version",
    "win2k-hack",
    "xen-attach",
    "xen-domid-restrict",
];

/// The switches with a value.
const WITH_VALUE: &[&str] = &[
    "accel", "acpitable", "action", "add-fd", "append", "audio", "audiodev", "bios", "blockdev", "boot", "cdrom",
    "chardev", "chroot", "compat", "cpu", "D", "d", "debugcon", "device", "dfilter", "display", "drive", "dtb",
    "dump-vmstate", "echr", "fda", "fdb", "fsdev", "fw_cfg", "g", "gdb", "global", "hda", "hdb", "hdc", "hdd",
    "icount", "incoming", "initrd", "iscsi", "k", "kernel", "L", "loadvm", "M", "m", "machine", "mem-path", "mon",
    "monitor", "msg", "mtdblock", "name", "net", "netdev", "nic", "numa", "object", "option-rom", "overcommit",
    "parallel", "pflash", "pidfile", "plugin", "prom-env", "qmp", "qmp-pretty", "readconfig", "rotate", "rtc",
    "run-with", "runas", "sandbox", "sd", "seed", "semihosting-config", "serial", "set", "shim", "smbios", "smp",
    "spice", "tpmdev", "trace", "usbdevice", "uuid", "vga", "virtfs", "vnc", "watchdog-action", "xen-domid",
];

/// Returns the name that QEMU's documentation gives to a switch.
pub fn canonical(name: &str) -> &str {
    if name == "M" { "machine" } else { name }
}

/// Returns whether a switch, without its hyphen, takes a value; `None` if neither version has it.
pub fn takes_value(switch: &str) -> Option<bool> {
    if ALONE.contains(&switch) {
        return Some(false);
    }
    WITH_VALUE.contains(&switch).then_some(true)
}

/// The switches whose value can be `on` or `off`.
const WITH_BOOLEAN: [&str; 2] = ["sandbox", "semihosting-config"];

/// Returns whether the whole value of a switch can be a boolean; `None` if it takes none, or if neither version has it.
pub fn takes_boolean(switch: &str) -> Option<bool> {
    takes_value(switch).filter(|takes_value| *takes_value).map(|_| WITH_BOOLEAN.contains(&switch))
}

/// Returns all switches that either version has, with whether they take a value.
pub fn switches() -> impl Iterator<Item = (&'static str, bool)> {
    ALONE.iter().map(|switch| (*switch, false)).chain(WITH_VALUE.iter().map(|switch| (*switch, true)))
}
