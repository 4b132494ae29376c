//! What maqet does with each switch of QEMU.

use self::Treatment::{Passed, Refused, RefusedBeside, Replaces};

/// What maqet does with a switch under `arguments` or `args`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// QEMU gets it beside those of maqet.
    Passed,
    /// It replaces the one of maqet.
    Replaces,
    /// It is an error, for this reason.
    Refused(&'static str),
    /// It is an error beside this, or with this value; else QEMU gets it.
    RefusedBeside(&'static str),
}

const EXITS: &str = "QEMU prints a text and exits; run it without maqet";

const IDE: &str = "a drive with `interface: ide` in the same slot";

const TERMINAL: &str = "`stdio`: QEMU has no terminal";

/// The switches of QEMU 7.2 and 10.0 for x86, in alphabetical order. Others, of other versions, are passed.
///
/// Each was tried beside maqet's own command line.
pub const SWITCHES: &[(&str, Treatment)] = &[
    ("D", Passed),
    ("L", Passed),
    ("S", Passed),
    ("accel", RefusedBeside("`accel: kvm` or `tcg`, if it chooses the other one")),
    ("acpitable", Passed),
    ("action", RefusedBeside("an action of `watchdog` or `panic`")),
    ("add-fd", Passed),
    ("append", Passed),
    ("async-teardown", Passed),
    ("audio", Passed),
    ("audio-help", Refused(EXITS)),
    ("audiodev", RefusedBeside("an ID of maqet")),
    ("bios", RefusedBeside("`firmware`")),
    ("blockdev", RefusedBeside("an ID of maqet")),
    ("boot", RefusedBeside("an `order` or `once`, and a `bootindex`")),
    ("cdrom", RefusedBeside(IDE)),
    ("chardev", RefusedBeside("an ID of maqet, and `stdio`")),
    ("chroot", Refused("QEMU could not open files that maqet names later, as for screenshots and backups")),
    ("compat", Passed),
    ("cpu", Replaces),
    ("d", Passed),
    ("daemonize", Refused("maqet already runs QEMU in the background; remove it")),
    ("debugcon", RefusedBeside(TERMINAL)),
    ("device", RefusedBeside("an ID of maqet, a mount tag or MAC address in use, and `balloon` or `panic`")),
    ("dfilter", Passed),
    ("display", Replaces),
    ("drive", RefusedBeside("an ID of maqet, `firmware` for `if=pflash`, or a drive in the same IDE slot")),
    ("dtb", Passed),
    ("dump-vmstate", Refused("QEMU writes the file and exits; run it without maqet")),
    ("echr", Passed),
    ("enable-kvm", RefusedBeside("`accel: tcg`")),
    ("enable-sync-profile", Passed),
    ("fda", Passed),
    ("fdb", Passed),
    ("fsdev", RefusedBeside("an ID of maqet")),
    ("full-screen", Passed),
    ("fw_cfg", Passed),
    ("gdb", RefusedBeside(TERMINAL)),
    ("global", RefusedBeside("`secure_boot: true`, if it makes the variables writable for the guest")),
    ("h", Refused(EXITS)),
    ("hda", RefusedBeside(IDE)),
    ("hdb", RefusedBeside(IDE)),
    ("hdc", RefusedBeside(IDE)),
    ("hdd", RefusedBeside(IDE)),
    ("help", Refused(EXITS)),
    ("icount", Passed),
    ("incoming", RefusedBeside("`exec:` in the sandbox")),
    ("initrd", Passed),
    ("iscsi", Passed),
    ("jitdump", Passed),
    ("k", Passed),
    ("kernel", Passed),
    ("loadvm", Passed),
    ("m", Replaces),
    ("machine", Replaces),
    ("mem-path", RefusedBeside("a `virtiofs` share")),
    ("mem-prealloc", RefusedBeside("a `virtiofs` share")),
    ("mon", RefusedBeside("a character device of maqet")),
    ("monitor", RefusedBeside(TERMINAL)),
    ("msg", Passed),
    ("mtdblock", Passed),
    ("name", Replaces),
    ("net", RefusedBeside("`none` beside `network`, and programs in the sandbox")),
    ("netdev", RefusedBeside("an ID of maqet, and programs in the sandbox")),
    ("nic", RefusedBeside("`none` beside `network`, and programs in the sandbox")),
    ("no-acpi", RefusedBeside("the opposite option of `machine`")),
    ("no-fd-bootchk", Passed),
    ("no-hpet", RefusedBeside("the opposite option of `machine`")),
    ("no-reboot", Passed),
    ("no-shutdown", Passed),
    ("no-user-config", Passed),
    ("nodefaults", Passed),
    ("nographic", Replaces),
    ("numa", RefusedBeside("`numa`, for nodes")),
    ("object", RefusedBeside("an ID of maqet")),
    ("only-migratable", Passed),
    ("option-rom", Passed),
    ("overcommit", Passed),
    ("parallel", RefusedBeside(TERMINAL)),
    ("perfmap", Passed),
    ("pflash", RefusedBeside("`firmware`")),
    ("pidfile", Refused("maqet finds QEMU by a pid file of its own; `maqet status VM` shows the process ID")),
    ("plugin", Passed),
    ("portrait", Passed),
    (
        "preconfig",
        Refused("QEMU waits for its configuration by QMP, and maqet could not use the VM; see `start --paused`"),
    ),
    ("qmp", RefusedBeside(TERMINAL)),
    ("qmp-pretty", RefusedBeside(TERMINAL)),
    ("readconfig", Refused("options in the file replace those of maqet unseen; write them under `arguments`")),
    ("rotate", Passed),
    ("rtc", Passed),
    ("run-with", RefusedBeside("`chroot` and `user`: QEMU could not open the files of the VM")),
    ("runas", Refused("QEMU could not open the files of the VM, which belong to you; run maqet as that user")),
    ("s", Passed),
    ("sandbox", Replaces),
    ("sd", Passed),
    ("seed", Passed),
    ("serial", Replaces),
    ("set", RefusedBeside("a part that maqet adds")),
    ("shim", Passed),
    ("singlestep", Passed),
    ("smbios", Passed),
    ("smp", Replaces),
    ("snapshot", RefusedBeside("a writable drive, UEFI variables or a TPM, for which QEMU ignores it")),
    ("spice", Passed),
    ("tpmdev", RefusedBeside("`tpm: true`")),
    ("trace", Passed),
    ("usb", RefusedBeside("the opposite option of `machine`")),
    ("usbdevice", Passed),
    ("uuid", Replaces),
    ("version", Refused(EXITS)),
    ("vga", Replaces),
    ("virtfs", RefusedBeside("an ID of maqet, and the mount tag of a share")),
    ("vnc", Passed),
    ("watchdog-action", RefusedBeside("an action of `watchdog`")),
    ("win2k-hack", Passed),
    ("xen-attach", Passed),
    ("xen-domid", Passed),
    ("xen-domid-restrict", Passed),
];

/// A switch that sets an option of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MachineFlag {
    /// The switch.
    pub switch: &'static str,
    /// The option of `-machine`.
    pub option: &'static str,
    /// What it sets it to.
    pub is_on: bool,
}

/// The switches without a value that set an option of the machine.
pub const MACHINE_FLAGS: [MachineFlag; 3] = [
    MachineFlag { switch: "no-acpi", option: "acpi", is_on: false },
    MachineFlag { switch: "no-hpet", option: "hpet", is_on: false },
    MachineFlag { switch: "usb", option: "usb", is_on: true },
];

/// Returns why a switch is refused in every definition.
pub(in crate::machine) fn refusal(name: &str) -> Option<&'static str> {
    SWITCHES.iter().find_map(|(known, treatment)| match treatment {
        Refused(reason) if *known == name => Some(*reason),
        Refused(_) | RefusedBeside(_) | Replaces | Passed => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_switches_are_listed_once_in_order() {
        let names: Vec<&str> = SWITCHES.iter().map(|(name, _)| *name).collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        sorted.dedup();

        assert_eq!(names, sorted);
    }
}
