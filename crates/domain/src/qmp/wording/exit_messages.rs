//! The messages of a QEMU that exits before it is up: what each means, and what helps.
//!
//! The tables in the files of this room are by subject. A row matches a line of the standard error that contains its
//! text; `{}` in the text stands for anything, and `<1>`, `<2>`, … in the cause and the hints for what that was. Rows are
//! tried in order, so that a row for a special case comes before the general one. Each text was seen in the versions of
//! its row, by provoking the failure.

mod devices;
mod files;
mod host;
mod options;

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
    /// The versions of QEMU in which it was seen.
    pub seen_in: &'static [QemuVersion],
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
    /// Which program is to listen at the socket `<1>`.
    Socket,
    /// Whether the file `<1>` is relative.
    File,
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

/// A row that matches, and what it matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recognized<'t> {
    /// The row.
    pub message: &'static ExitMessage,
    /// What stands for each `{}`.
    pub parts: Vec<&'t str>,
    /// The switch with its argument that QEMU names before the text, as in `-vnc :0`.
    pub switch: Option<&'t str>,
}

/// What the placeholders of a cause and its hints stand for, besides the parts of the text.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// `<vm>`: the VM.
    pub vm: &'a str,
    /// `<qemu>`: the name and version of QEMU.
    pub qemu: &'a str,
    /// `<binary>`: its path, quoted for a shell.
    pub binary: &'a str,
    /// `<machine>`: the machine type.
    pub machine: &'a str,
    /// `<bridge>`: the bridge of a network card.
    pub bridge: &'a str,
    /// `<kvm>`: why KVM is not used.
    pub kvm: &'a str,
}

impl ExitMessage {
    const fn new(text: &'static str, cause: &'static str, code: &'static str, fault: Fault) -> Self {
        Self { text, cause, code, fault, hints: &[], lookup: Lookup::Nothing, seen_in: &TESTED }
    }

    const fn hints(self, hints: &'static [&'static str]) -> Self {
        Self { hints, ..self }
    }

    const fn lookup(self, lookup: Lookup) -> Self {
        Self { lookup, ..self }
    }

    const fn seen_in(self, seen_in: &'static [QemuVersion]) -> Self {
        Self { seen_in, ..self }
    }
}

/// Returns all rows, in the order in which they are tried.
pub fn exit_messages() -> impl Iterator<Item = &'static ExitMessage> {
    [host::ROWS, devices::ROWS, files::ROWS, options::ROWS].into_iter().flatten()
}

/// Returns what QEMU's standard error says about why it exited; `status` is its exit code or signal.
pub fn recognize<'t>(stderr: &'t str, status: &'t str) -> Option<Recognized<'t>> {
    exit_messages().find_map(|message| {
        stderr.lines().chain([status]).find_map(|line| {
            let (before, parts) = parts(line, message.text)?;
            let switch = before.trim_end().strip_suffix(':').filter(|switch| switch.starts_with('-'));
            Some(Recognized { message, parts, switch })
        })
    })
}

impl Recognized<'_> {
    /// Returns the cause.
    pub fn cause(&self, names: &Names<'_>) -> String {
        self.filled(self.message.cause, names)
    }

    /// Returns the hints.
    pub fn hints(&self, names: &Names<'_>) -> Vec<String> {
        self.message.hints.iter().map(|hint| self.filled(hint, names)).collect()
    }

    /// Replaces the placeholders of a text; what replaces them is not searched for more.
    fn filled(&self, text: &str, names: &Names<'_>) -> String {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('<') {
            let Some((name, after)) = after.split_once('>') else { break };
            filled.push_str(before);
            filled.push_str(match name {
                "vm" => names.vm,
                "qemu" => names.qemu,
                "binary" => names.binary,
                "machine" => names.machine,
                "bridge" => names.bridge,
                "kvm" => names.kvm,
                "switch" => self.switch.unwrap_or("QEMU"),
                number => number.parse().ok().and_then(|at: usize| self.parts.get(at - 1).copied()).unwrap_or_default(),
            });
            rest = after;
        }
        filled + rest
    }
}

/// Returns what stands before `text` in a line, and what stands for each `{}` in it.
fn parts<'t>(line: &'t str, text: &str) -> Option<(&'t str, Vec<&'t str>)> {
    let mut literals = text.split("{}");
    let (before, mut rest) = line.split_once(literals.next()?)?;
    let mut parts = Vec::new();
    for literal in literals {
        // The end of a text that ends with `{}`.
        let end = if literal.is_empty() { rest.len() } else { rest.find(literal)? };
        parts.push(&rest[..end]);
        rest = &rest[end + literal.len()..];
    }
    Some((before, parts))
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
    };

    /// As QEMU writes it, with the cause and the code; without a version, both write it.
    #[track_caller]
    fn check(stderr: &str, code: &str, cause: &str) {
        let recognized = recognize(stderr, "exit code 1").unwrap_or_else(|| panic!("{stderr} is not in the table"));

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
    fn test_recognize_parts_and_switch_are_those_of_the_line() {
        let stderr = "warning: netdev n0 has no peer\n-device ide-hd,drive=x: No 'IDE' bus found for device 'ide-hd'";

        let recognized = recognize(stderr, "exit code 1").unwrap();

        assert_eq!((recognized.parts, recognized.switch), (vec!["ide-hd"], Some("-device ide-hd,drive=x")));
    }

    #[test]
    fn test_recognize_signal_of_the_sandbox_is_the_status() {
        assert_eq!(recognize("", "signal 31 (SIGSYS)").unwrap().message.code, "vm.sandbox-refused");
        assert_eq!(recognize("", "exit code 1"), None);
        assert_eq!(recognize("something new", "exit code 1"), None);
    }

    #[test]
    fn test_filled_text_of_a_guest_is_not_filled_again() {
        check("unable to find CPU model '<vm>'", "qemu.cpu-model-not-found", "QEMU 7.2.22 has no CPU model `<vm>`");
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
    fn test_exit_messages_every_row_can_be_reached() {
        for message in exit_messages() {
            let line = message.text.replace("{}", "X");
            let first = recognize(&line, "").unwrap().message;

            assert_eq!(first.text, message.text, "hidden by an earlier row");
        }
    }

    #[test]
    fn test_exit_messages_have_hints_and_known_placeholders() {
        let known: HashSet<&str> = ["vm", "qemu", "binary", "machine", "bridge", "kvm", "switch"].into();
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
