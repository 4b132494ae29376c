//! Which row of the tables the standard error of a QEMU matches.

use std::borrow::Cow;

use super::general::{CRASHED, MEANT, REASONS, REFUSED, help_of, parsed, switch_meant};
use super::{ExitMessage, Lookup, Role, exit_messages};
use crate::text::quote;

/// A row that matches, and what it matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recognized<'t> {
    /// The row.
    pub message: &'static ExitMessage,
    /// What stands for each `{}`.
    pub parts: Vec<&'t str>,
    /// The switch with its argument that QEMU names before the text, as in `-vnc :0`.
    pub switch: Option<Cow<'t, str>>,
}

/// What the placeholders of a cause and its hints stand for, besides the parts of the text.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// `<vm>`: the VM.
    pub vm: &'a str,
    /// `<qemu>`: the name and version of QEMU.
    pub qemu: &'a str,
    /// `<binary>`: its path.
    pub binary: &'a str,
    /// `<machine>`: the machine type.
    pub machine: &'a str,
    /// `<bridge>`: the bridge of a network card.
    pub bridge: &'a str,
    /// `<kvm>`: why KVM is not used.
    pub kvm: &'a str,
    /// `<location>`: where the definition has the file or the option of the message, in backticks.
    pub location: &'a str,
}

/// Returns what QEMU's standard error says about why it exited; `status` is its exit code or signal, and `args` are its
/// arguments.
pub fn recognize<'t>(stderr: &'t str, status: &'t str, args: &[String]) -> Option<Recognized<'t>> {
    // A process that was killed has not written why.
    if let Some(killed) = row_of(status, args) {
        return Some(killed);
    }
    let mut last: Option<Recognized<'t>> = None;
    for (index, line) in reasons(stderr).into_iter().rev().enumerate() {
        let Some(recognized) = row_of(line, args) else { continue };
        let role = recognized.message.role;
        match (last.as_ref().map(|last| last.message.role), role) {
            (None | Some(Role::Summary), Role::Reason) | (Some(Role::Lack), Role::Notice) => return Some(recognized),
            (None, Role::Notice) if index == 0 => return Some(recognized),
            (None, Role::Summary | Role::Lack) => last = Some(recognized),
            _ => {}
        }
    }
    last.or_else(|| in_general(stderr, status, args))
}

/// Returns what a message without a row says in general: that QEMU crashed, or which switch it refuses.
///
/// Without a status, the message is not of QEMU.
fn in_general<'t>(stderr: &'t str, status: &str, args: &[String]) -> Option<Recognized<'t>> {
    let recognized = |message, line, switch| Recognized { message, parts: vec![line], switch };
    if status.starts_with("signal 6 ") || status.starts_with("signal 11 ") {
        return Some(recognized(&CRASHED, "", None));
    }
    let lines: Vec<&str> = reasons(stderr).into_iter().rev().filter(|_| !status.is_empty()).collect();
    let named = |line: &&'t str| switch_in(line, args).map(|switch| (*line, &line[switch.len()..], switch));
    if let Some((line, text, switch)) = lines.iter().find_map(named) {
        let message = REASONS.iter().find(|message| text.ends_with(message.text)).unwrap_or(&REFUSED);
        return Some(recognized(message, line, Some(switch.into())));
    }
    let meant = |line: &&'t str| Some((*line, switch_meant(line, args)?));
    let (line, switch) = lines.iter().find_map(meant)?;
    Some(recognized(&MEANT, line, Some(switch.into())))
}

/// Returns the lines that can be the reason: not warnings and information, and nothing that QEMU went on after.
fn reasons(stderr: &str) -> Vec<&str> {
    let mut reasons: Vec<&str> = Vec::new();
    for line in stderr.lines() {
        // `-accel kvm -accel tcg`
        if line.contains("falling back to ") {
            reasons.clear();
        } else if !is_warning(line) {
            reasons.push(line);
        }
    }
    reasons
}

/// Returns whether a line is a warning or information, or a further line of one. SPICE calls its errors so (7.2).
fn is_warning(line: &str) -> bool {
    let kinds = ["warning: ", "WARNING: ", "info: "];
    let is_of_kind = kinds.iter().any(|kind| line.starts_with(kind) || line.contains(&format!(": {kind}")));
    is_of_kind && !line.contains("warning: Spice: ") || line.contains("-WARNING **") || line.starts_with("         ")
}

/// Returns the first row that matches a line, after the switch that QEMU names at its beginning.
fn row_of<'t>(line: &'t str, args: &[String]) -> Option<Recognized<'t>> {
    let switch = switch_in(line, args);
    let text = &line[switch.map_or(0, str::len)..];
    let switch = || switch.map(Cow::from);
    exit_messages()
        .find_map(|message| Some(Recognized { message, parts: parts(text, message.text)?, switch: switch() }))
}

/// Returns the switch that a line begins with, as it is in the arguments: its value can have the text of a row.
fn switch_in<'t>(line: &'t str, args: &[String]) -> Option<&'t str> {
    let pairs = args.windows(2).map(|pair| format!("{} {}", pair[0], pair[1]));
    let switches = pairs.chain(args.iter().cloned()).filter(|switch| switch.starts_with('-'));
    let named = switches.filter(|switch| line.strip_prefix(switch).is_some_and(|rest| rest.starts_with(": ")));
    named.map(|switch| &line[..switch.len()]).max_by_key(|switch| switch.len())
}

impl Recognized<'_> {
    /// Returns the cause.
    pub fn cause(&self, names: &Names<'_>) -> String {
        self.filled(self.message.cause, names, Quoting::None)
    }

    /// Returns the hints; what replaces placeholders in commands is quoted for a shell.
    pub fn hints(&self, names: &Names<'_>) -> Vec<String> {
        let help = self.switch.as_deref().filter(|_| self.message.lookup == Lookup::SwitchHelp).map(help_of);
        let hints = help.iter().flatten().chain(self.message.hints);
        hints.map(|hint| self.filled(hint, names, Quoting::Commands)).collect()
    }

    /// Replaces the placeholders of a text; what replaces them is not searched for more.
    fn filled(&self, text: &str, names: &Names<'_>, quoting: Quoting) -> String {
        // Every other piece is in backticks; it is a command if it has arguments.
        let pieces = text.split('`').enumerate().map(|(index, piece)| {
            let is_command = quoting == Quoting::Commands && index % 2 == 1 && piece.contains(' ');
            self.filled_piece(piece, names, is_command)
        });
        pieces.collect::<Vec<_>>().join("`")
    }

    fn filled_piece(&self, text: &str, names: &Names<'_>, is_command: bool) -> String {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('<') {
            let Some((name, after)) = after.split_once('>') else { break };
            filled.push_str(before);
            let value = self.value(name, names);
            filled.push_str(&if is_command { quote(&value) } else { value.into_owned() });
            rest = after;
        }
        filled + rest
    }

    fn value<'a>(&'a self, name: &str, names: &Names<'a>) -> Cow<'a, str> {
        let value = match name {
            "vm" => names.vm,
            "qemu" => names.qemu,
            "binary" => names.binary,
            "machine" => names.machine,
            "bridge" => names.bridge,
            "kvm" => names.kvm,
            "location" => names.location,
            "switch" => self.switch.as_deref().unwrap_or(names.location.trim_matches('`')),
            "driver" => return self.driver().into(),
            number => number.parse().ok().and_then(|at: usize| self.parts.get(at - 1).copied()).unwrap_or_default(),
        };
        value.into()
    }

    /// Returns the first value of the switch, as the driver of a device.
    fn driver(&self) -> String {
        self.switch.as_deref().and_then(parsed).map(|(_, options)| options.head().to_owned()).unwrap_or_default()
    }
}

/// Where what replaces placeholders is quoted for a shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quoting {
    None,
    Commands,
}

/// Returns what stands for each `{}` of a text in a line that contains it.
fn parts<'t>(line: &'t str, text: &str) -> Option<Vec<&'t str>> {
    let mut literals = text.split("{}");
    let (_, mut rest) = line.split_once(literals.next()?)?;
    let mut parts = Vec::new();
    for literal in literals {
        // The end of a text that ends with `{}`.
        let end = if literal.is_empty() { rest.len() } else { rest.find(literal)? };
        parts.push(&rest[..end]);
        rest = &rest[end + literal.len()..];
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: Names<'_> = Names {
        vm: "web",
        qemu: "QEMU 7.2.22",
        binary: "/opt/my qemu",
        machine: "q35",
        bridge: "br'0",
        kvm: "`/dev/kvm` does not exist",
        location: "`serial`",
    };

    fn args(args: &[&str]) -> Vec<String> {
        args.iter().map(|arg| (*arg).to_owned()).collect()
    }

    /// Checks the code and the cause of what QEMU writes.
    #[track_caller]
    fn check(lines: &[&str], code: &str, cause: &str) {
        let stderr = lines.join("\n");

        let recognized = recognize(&stderr, "exit code 1", &[]).unwrap_or_else(|| panic!("{stderr} is not recognized"));

        assert_eq!((recognized.message.code, recognized.cause(&NAMES).as_str()), (code, cause));
    }

    #[test]
    fn test_recognize_last_line_wins_over_rows_before_it() {
        check(
            &[
                "Could not access KVM kernel module: Permission denied",
                "-device foo: 'foo' is not a valid device model name",
            ],
            "device.driver-not-found",
            "QEMU 7.2.22 has no device `foo`",
        );
        check(
            &["mlockall: Cannot allocate memory", "-device e1000,id=a: Duplicate ID 'a' for device"],
            "device.id-conflict",
            "two things of kind `device` have the ID `a`",
        );
    }

    #[test]
    fn test_recognize_warnings_and_abandoned_tries_are_no_reason() {
        let cause = "device `e1000` has no property `x`";
        let last = "-device e1000,x=1: Property 'e1000.x' not found";
        for before in [
            "warning: could not open /dev/net/tun: No such file or directory",
            "-netdev user,id=n: warning: Too many open files",
            "info: Too many open files",
            "(process:1): GLib-WARNING **: Too many open files",
        ] {
            check(&[last, before], "device.property-not-found", cause);
        }
        assert_eq!(recognize("warning: Too many open files", "exit code 1", &[]), None);

        let fallback = [
            "Could not access KVM kernel module: No such file or directory",
            "-accel kvm: failed to initialize kvm: No such file or directory",
            "falling back to tcg",
        ];
        assert_eq!(recognize(&fallback.join("\n"), "exit code 1", &[]), None);
    }

    #[test]
    fn test_recognize_reason_before_a_summary_is_found() {
        check(
            &["Could not access KVM kernel module: Permission denied", "failed to initialize kvm: Permission denied"],
            "host.kvm-unavailable",
            "you are not permitted to use KVM: `/dev/kvm`",
        );
        check(
            &["access denied by acl file", "-netdev bridge,id=n,br=br9: bridge helper failed"],
            "device.bridge-refused",
            "QEMU's bridge helper does not allow bridge `br'0`",
        );
        check(
            &["-netdev bridge,id=n,br=br9: bridge helper failed"],
            "device.bridge-refused",
            "QEMU's bridge helper failed for bridge `br'0`",
        );
        let spice = "warning: Spice: ../server/reds.cpp:2585:reds_init_socket: binding socket to :5930 failed";
        check(
            &[spice, "failed to initialize spice server"],
            "host.port-unavailable",
            "a port of the host cannot be used",
        );
    }

    #[test]
    fn test_recognize_missing_package_counts_for_what_it_ends() {
        let package = "qemu: module ui-ui-gtk not found, do you want to install qemu-system-gui package?";
        let missing = "a part of QEMU that the VM uses is in a package that is not installed";
        check(&[package, "Display 'gtk' is not available."], "host.module-not-found", missing);
        check(&[package], "host.module-not-found", missing);
        check(
            &[package, "-device e1000,x=1: Property 'e1000.x' not found"],
            "device.property-not-found",
            "device `e1000` has no property `x`",
        );
        assert_eq!(recognize(&format!("{package}\nsomething new"), "exit code 1", &[]), None);
    }

    #[test]
    fn test_recognize_switch_is_the_one_of_the_arguments() {
        let args = args(&[
            "-virtfs",
            "local,path=/none",
            "-device",
            "a",
            "-device",
            "a: b",
            "-nofoo",
            "-drive",
            "x",
            "-chardev",
            "Too many open files",
        ]);
        for (line, expected) in [
            (
                "-virtfs local,path=/none: cannot initialize fsdev 't': failed to open '/none': No such file or directory",
                "-virtfs local,path=/none",
            ),
            ("-device a: No 'IDE' bus found for device 'a'", "-device a"),
            ("-device a: b: No 'IDE' bus found for device 'a'", "-device a: b"),
            ("-nofoo: invalid option", "-nofoo"),
            ("-chardev Too many open files: invalid option", "-chardev Too many open files"),
            ("-drive x: Could not open backing file: Could not open '/y': No such file or directory", "-drive x"),
            ("-other x: No 'IDE' bus found for device 'a'", "none"),
            ("Too many open files", "none"),
        ] {
            let recognized = recognize(line, "exit code 1", &args).unwrap();

            assert_eq!(recognized.switch.as_deref().unwrap_or("none"), expected);
            assert_eq!(recognized.message.code == "host.open-files-full", line == "Too many open files");
        }
    }

    #[test]
    fn test_recognize_feature_of_a_cpu_model_of_any_architecture() {
        for (model, class) in [("qemu64", "x86_64"), ("cortex-a15", "arm"), ("rv64", "riscv")] {
            let line = format!(
                "qemu-system-x: can't apply global {model}-{class}-cpu.foo=on: Property '{model}-{class}-cpu.foo' not found"
            );
            check(&[&line], "qemu.option-not-found", &format!("CPU model `{model}` has no feature `foo`"));
        }
    }

    #[test]
    fn test_recognize_signal_of_the_sandbox_is_the_status() {
        let killed = recognize("bridge helper failed", "signal 31 (SIGSYS)", &[]).unwrap();

        assert_eq!(killed.message.code, "vm.sandbox-refused");
        assert_eq!(recognize("", "exit code 1", &[]), None);
        assert_eq!(recognize("something new", "exit code 1", &[]), None);
    }

    #[test]
    fn test_filled_text_of_a_guest_is_not_filled_again() {
        check(&["unable to find CPU model '<vm>'"], "qemu.cpu-model-not-found", "QEMU 7.2.22 has no CPU model `<vm>`");
    }

    #[test]
    fn test_hints_quote_what_is_part_of_a_command() {
        let hints = |line: &str| recognize(line, "exit code 1", &[]).unwrap().hints(&NAMES);

        let kernel = hints("qemu: could not open kernel file '/a b;c': Permission denied");
        let bridge = hints("access denied by acl file");
        let device = hints("Property 'e1000.x' not found");
        let package = hints("do you want to install $(reboot) package?");

        assert_eq!(kernel[0], "make it readable: `sudo chmod a+r '/a b;c'`");
        assert_eq!(bridge[0], r"allow it: `echo allow 'br'\''0' | sudo tee -a /etc/qemu/bridge.conf`");
        assert_eq!(device[0], "list its properties with `'/opt/my qemu' -device e1000,help`");
        assert_eq!(package[0], "install the package: `apt install '$(reboot)'`");
    }
}
