//! The messages of a QEMU that exits before it is up: what each means, and what helps.
//!
//! The tables in the files of this room are by subject. A row matches a line of the standard error that contains its
//! text; `{}` in the text stands for anything, and `<1>`, `<2>`, … in the cause and the hints for what that was. The last
//! line that a row matches is the reason, as QEMU exits after it; for each line, rows are tried in order, so that a row for
//! a special case comes before the general one. Each text was seen in the versions of its row, by provoking the failure.
//!
//! A message that no row has is known by the switch that it names, or that has its words (`general`).

mod devices;
mod files;
mod general;
mod host;
mod limits;
mod options;
mod recognized;
mod values;

pub use self::recognized::{Names, Recognized, recognize};

use super::super::versions::TESTED;
use crate::error::Fault;
use crate::qemu::QemuVersion;

/// What a line of QEMU's standard error says about why it exited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitMessage {
    /// The text.
    pub text: &'static str,
    /// What it means.
    pub cause: &'static str,
    /// The code of the error.
    pub code: &'static str,
    /// Who is at fault.
    pub fault: Fault,
    /// What helps.
    pub hints: &'static [&'static str],
    /// What else is to be found out.
    pub lookup: Lookup,
    /// What the line is among those of a failure.
    pub role: Role,
    /// The versions of QEMU in which it was seen.
    pub seen_in: &'static [QemuVersion],
}

/// What a line is among those that QEMU writes about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It has the reason.
    Reason,
    /// It says what failed; a line before it can have the reason.
    Summary,
    /// It says that QEMU has no such part; a notice before it can have the reason.
    Lack,
    /// It says which package a part is in, and is the reason only before the line about that part, or as the last line:
    /// QEMU often goes on without the part.
    Notice,
}

/// What is to be found out about a failure, beyond what QEMU says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// Nothing.
    Nothing,
    /// Which names QEMU knows that are like `<1>`.
    Names(NameList),
    /// Which machine types are like the one of the command line.
    MachineType,
    /// Why KVM is not used.
    Kvm,
    /// What keeps QEMU from the port that is forwarded by the rule `<1>`.
    ForwardedPort,
    /// What keeps QEMU from the port that the switch listens at.
    ListeningPort,
    /// What keeps QEMU from the address `<1>`.
    ListeningAddress,
    /// Which program is to listen at the socket `<1>`.
    Socket,
    /// Whether the file `<1>` is relative.
    File,
    /// Why the file `<1>` cannot be loaded, which QEMU does not say; the row is that of one that does not exist.
    UnloadedFile,
    /// Which format the image of the switch has.
    ImageFormat,
    /// What has replaced the switch.
    ReplacedSwitch,
    /// Whether the TPM is that of the VM.
    Tpm,
    /// Where the definition has the switch, and how to list its options.
    SwitchHelp,
    /// Which options of the user are numbers.
    Numbers,
    /// Whether the path `<1>` of the guest's RAM exists, and is in a mount of huge pages.
    MemoryPath,
}

/// A list of names that a QEMU prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::Display)]
#[strum(serialize_all = "lowercase")]
pub enum NameList {
    /// `-machine help`.
    Machine,
    /// `-cpu help`.
    Cpu,
    /// `-device help`.
    Device,
}

impl ExitMessage {
    const fn new(text: &'static str, cause: &'static str, code: &'static str, fault: Fault) -> Self {
        Self { text, cause, code, fault, hints: &[], lookup: Lookup::Nothing, role: Role::Reason, seen_in: &TESTED }
    }

    const fn hints(self, hints: &'static [&'static str]) -> Self {
        Self { hints, ..self }
    }

    const fn lookup(self, lookup: Lookup) -> Self {
        Self { lookup, ..self }
    }

    const fn role(self, role: Role) -> Self {
        Self { role, ..self }
    }

    const fn seen_in(self, seen_in: &'static [QemuVersion]) -> Self {
        Self { seen_in, ..self }
    }
}

/// Returns all rows, in the order in which they are tried.
pub fn exit_messages() -> impl Iterator<Item = &'static ExitMessage> {
    [host::ROWS, devices::ROWS, files::ROWS, values::ROWS, options::ROWS, limits::ROWS].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const NAMES: Names<'_> = Names {
        vm: "web",
        qemu: "QEMU 7.2.22",
        binary: "/usr/bin/qemu-system-x86_64",
        machine: "q53",
        bridge: "br0",
        kvm: "`/dev/kvm` does not exist",
        location: "`serial`",
    };

    /// As QEMU writes it, with the cause and the code; without a version, both write it.
    #[track_caller]
    fn check(stderr: &str, code: &str, cause: &str) {
        let recognized =
            recognize(stderr, "exit code 1", &[]).unwrap_or_else(|| panic!("{stderr} is not in the table"));

        assert_eq!((recognized.message.code, recognized.cause(&NAMES).as_str()), (code, cause));
    }

    #[test]
    fn test_recognize_machine_type_of_both_versions() {
        let cause = "QEMU 7.2.22 has no machine type `q53`";
        check(
            "unsupported machine type\nUse -machine help to list supported machines",
            "qemu.machine-not-found",
            cause,
        );
        let newer = "unsupported machine type: \"q53\"\nUse -machine help to list supported machines";
        check(newer, "qemu.machine-not-found", cause);
    }

    #[test]
    fn test_special_case_comes_before_the_general_one() {
        check(
            "-device usb-tablet: No 'usb-bus' bus found for device 'usb-tablet'",
            "device.bus-not-found",
            "the VM has no USB bus, which device `usb-tablet` needs",
        );
        check(
            "-device foo: No 'xio-bus' bus found for device 'foo'",
            "device.bus-not-found",
            "the VM has no bus of type `xio-bus`, which device `foo` needs",
        );
        check(
            "Property 'pc-q35-7.2-machine.foo' not found",
            "qemu.option-not-found",
            "machine type `pc-q35-7.2` has no option `foo`",
        );
        check("Property 'e1000.foo' not found", "device.property-not-found", "device `e1000` has no property `foo`");
    }

    #[test]
    fn test_recognize_address_of_a_missing_module_of_both_versions() {
        let cause = "the part of QEMU for such an address is in a package that is not installed";
        let older = "qemu: module block-block-curl not found, do you want to install qemu-block-extra package?";
        let newer = "-cdrom https://x/a.iso: Unable to load module curl. Perhaps you want to install qemu-block-extra or \
                     qemu-block-supplemental package?";
        for (notice, last) in [
            (older, "-cdrom https://x/a.iso: Unknown protocol 'https'"),
            (older, "-drive driver=http,url=http://x/y: Unknown driver 'http'"),
            (newer, "-cdrom https://x/a.iso: Must specify either driver or file"),
            (newer, "-drive file=http://x/y: A block device must be specified for \"file\""),
        ] {
            let stderr = format!("{notice}\n{last}");

            check(&stderr, "host.module-not-found", cause);

            let hints = recognize(&stderr, "exit code 1", &[]).unwrap().hints(&NAMES);
            assert_eq!(hints[0], "install the package: `apt install qemu-block-extra`");
        }
        check("-hda foo:bar: Unknown protocol 'foo'", "qemu.option-invalid", "this QEMU cannot open `foo:` addresses");
    }

    #[test]
    fn test_recognize_directory_as_a_disk_says_what_is_wrong_with_it() {
        let last = "-drive file=fat:/tmp,if=virtio: Could not read directory /tmp";
        let cause = "a directory has too many entries for a disk with FAT";
        check(&format!("Too many entries in root directory\n{last}"), "qemu.file-invalid", cause);
        check(last, "qemu.file-not-found", "the directory `/tmp`, which is to be a disk, does not exist");
    }

    #[test]
    fn test_recognize_image_of_no_format_and_firmware_of_no_size() {
        let drive = "-drive file=r,format=x: ";
        for (text, cause) in [
            ("Image not in VDI format (bad signature 00000000)", "an image is not in the format `VDI`"),
            ("Image not in Parallels format", "an image is not in the format `Parallels`"),
            ("Could not open '/r': Invalid argument", "`/r` is not in the format in which it is opened"),
        ] {
            check(&format!("{drive}{text}"), "storage.format-conflict", cause);
        }
        check(
            "system firmware block device  has invalid size 1024\ninfo: its size must be a non-zero multiple of 0x1000",
            "firmware.image-invalid",
            "the image of the firmware has an invalid size: 1024",
        );
        check(
            "-virtfs local: cannot initialize fsdev 't': failed to open '/root': Permission denied",
            "qemu.file-refused",
            "you may not open the directory `/root` that is shared with the guest",
        );
    }

    #[test]
    fn test_exit_messages_every_row_can_be_reached() {
        for message in exit_messages() {
            let line = message.text.replace("{}", "X");
            let first = recognize(&line, "", &[]).unwrap().message;

            assert_eq!(first.text, message.text, "hidden by an earlier row");
        }
    }

    #[test]
    fn test_exit_messages_have_hints_and_known_placeholders() {
        let known: HashSet<&str> = ["vm", "qemu", "binary", "machine", "bridge", "kvm", "switch", "location"].into();
        for message in exit_messages() {
            let numbers = message.text.matches("{}").count();
            assert!(!message.hints.is_empty() || message.lookup != Lookup::Nothing, "{}", message.text);
            assert!(!message.seen_in.is_empty(), "{}", message.text);
            for text in message.hints.iter().chain([&message.cause]) {
                for name in text.split('<').skip(1).map(|rest| rest.split('>').next().unwrap()) {
                    let is_part = name.parse().is_ok_and(|number: usize| (1..=numbers).contains(&number));
                    assert!(is_part || known.contains(name), "`<{name}>` in {text}");
                }
            }
        }
    }
}
