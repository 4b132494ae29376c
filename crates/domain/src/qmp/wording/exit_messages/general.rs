//! Messages that no table has: QEMU names the switch that it refuses, or a word of it; or it crashes.

use super::{ExitMessage, Lookup};
use crate::error::Fault;
use crate::qemu::OptionString;

/// What the end of a message says, as the system words it, after the switch.
pub(super) static REASONS: &[ExitMessage] = &[
    ExitMessage::new(
        ": No such file or directory",
        "a file or device that `<switch>` needs does not exist",
        "qemu.file-not-found",
        Fault::NotFound,
    )
    .hints(&["correct the path in `<switch>`, or plug the device in"]),
    refused(": Permission denied"),
    refused(": Operation not permitted"),
    ExitMessage::new(
        ": Connection refused",
        "nothing listens where `<switch>` connects to",
        "qemu.socket-not-found",
        Fault::NotFound,
    )
    .hints(&["start the program that listens there first, or correct the address in `<switch>`"]),
    in_use(": Address already in use"),
    in_use(": Cannot assign requested address"),
    ExitMessage::new(
        ": Device or resource busy",
        "another program uses what `<switch>` needs",
        "host.device-in-use",
        Fault::Busy,
    )
    .hints(&["stop the other program, or correct `<switch>`"]),
];

/// A switch that QEMU names and refuses.
pub(super) static REFUSED: ExitMessage = invalid("QEMU refuses `<switch>`");

/// A switch with words of a message that names none.
pub(super) static MEANT: ExitMessage = invalid("QEMU refuses an option, most likely one of `<switch>`");

/// A QEMU that crashed without a message.
pub(super) static CRASHED: ExitMessage = ExitMessage::new(
    "",
    "QEMU crashed, as it does on some values that it does not check",
    "qemu.process-failed",
    Fault::Failed,
)
.hints(&[
    "remove the entries of `arguments` and `args` one after the other to find the one that it crashes on",
    "report it to the developers of QEMU, if no value is to blame",
])
.lookup(Lookup::Numbers);

/// Returns what helps with a switch that is refused.
pub(super) fn help_of(switch: &str) -> [&'static str; 2] {
    let list = match parsed(switch).map(|(name, options)| (name, options.head().is_empty())) {
        Some(("device", false)) => "list its options with `<binary> -device <driver>,help`",
        Some(("object", false)) => "list its options with `<binary> -object <driver>,help`",
        Some(("machine" | "M", false)) => "list its options with `<binary> -machine <driver>,help`",
        _ => "read about its options in `<binary> -help`",
    };
    ["correct it in <location>", list]
}

/// Returns a switch with its options.
pub(super) fn parsed(switch: &str) -> Option<(&str, OptionString)> {
    let (name, argument) = switch.split_once(' ')?;
    let name = name.strip_prefix("--").or_else(|| name.strip_prefix('-'))?;
    Some((name, OptionString::parse(name, argument)))
}

/// Words of messages that are also names or values of options, and say nothing about which switch is meant.
const COMMON: [&str; 12] =
    ["auto", "device", "driver", "file", "host", "mode", "name", "none", "path", "size", "type", "user"];

/// Returns the switch that has the most words of a message as its options or values, and at least one; the last of several.
pub(super) fn switch_meant(line: &str, args: &[String]) -> Option<String> {
    const MIN_WORD: usize = 3;
    let is_separator = |c: char| !(c.is_alphanumeric() || matches!(c, '-' | '_' | '.'));
    let line = line.to_lowercase();
    let words: Vec<&str> = line.split(is_separator).map(|word| word.trim_matches(['-', '.'])).collect();
    let is_word = |text: &str| text.len() >= MIN_WORD && !COMMON.contains(&text) && words.contains(&text);
    let matches = |switch: &String| {
        let Some((name, options)) = parsed(switch) else { return 0 };
        let options = options.iter().filter(|option| is_word(&option.key) || is_word(&option.value)).count();
        options + usize::from(line.split(is_separator).any(|word| word.strip_prefix('-') == Some(name)))
    };
    let switches =
        args.windows(2).filter(|pair| pair[0].starts_with('-')).map(|pair| format!("{} {}", pair[0], pair[1]));
    switches
        .map(|switch| (matches(&switch), switch))
        .filter(|(count, _)| *count > 0)
        .max_by_key(|(count, _)| *count)
        .map(|(_, switch)| switch)
}

const fn invalid(cause: &'static str) -> ExitMessage {
    ExitMessage::new("{}", cause, "qemu.option-invalid", Fault::Usage).lookup(Lookup::SwitchHelp)
}

const fn refused(text: &'static str) -> ExitMessage {
    ExitMessage::new(text, "you may not use what `<switch>` needs", "qemu.file-refused", Fault::Host)
        .hints(&["change the owner or the permissions of it, or correct `<switch>`"])
}

const fn in_use(text: &'static str) -> ExitMessage {
    ExitMessage::new(text, "a port of the host cannot be used", "host.port-unavailable", Fault::Host)
        .lookup(Lookup::ListeningPort)
}

#[cfg(test)]
mod tests {
    use super::super::{Names, recognize};

    const NAMES: Names<'_> = Names {
        vm: "web",
        qemu: "QEMU 7.2.22",
        binary: "/bin/qemu",
        machine: "q35",
        bridge: "br0",
        kvm: "no KVM",
        location: "`-device x`",
    };

    /// Returns the code and the cause of a message that no row has.
    fn general(line: &str, status: &str, args: &[&str]) -> Option<(&'static str, String)> {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let recognized = recognize(line, status, &args)?;
        Some((recognized.message.code, recognized.cause(&NAMES)))
    }

    #[test]
    fn test_message_of_a_switch_says_what_its_end_does() {
        let args = ["-device", "new-thing,x=1", "-netdev", "new,id=n,port=9"];
        for (end, code, cause) in [
            ("the moon is full", "qemu.option-invalid", "QEMU refuses `-device new-thing,x=1`"),
            (
                "cannot begin: Permission denied",
                "qemu.file-refused",
                "you may not use what `-device new-thing,x=1` needs",
            ),
            (
                "cannot begin: No such file or directory",
                "qemu.file-not-found",
                "a file or device that `-device new-thing,x=1` needs does not exist",
            ),
            (
                "cannot begin: Device or resource busy",
                "host.device-in-use",
                "another program uses what `-device new-thing,x=1` needs",
            ),
        ] {
            let line = format!("-device new-thing,x=1: {end}");
            assert_eq!(general(&line, "exit code 1", &args), Some((code, cause.to_owned())), "{line}");
        }
        // Of a helper, and of no switch of the command line.
        assert_eq!(general("-device new-thing,x=1: the moon is full", "", &args), None);
        assert_eq!(general("-gadget other: the moon is full", "exit code 1", &args), None);
    }

    #[test]
    fn test_message_without_a_switch_is_of_the_one_with_most_words() {
        let args = ["-object", "iothread,id=i,poll-max=1", "-object", "thing,id=o,poll-max=1,poll-min=9", "-m", "1G"];
        let cause = "QEMU refuses an option, most likely one of `-object thing,id=o,poll-max=1,poll-min=9`";

        let found = general("the poll-min/poll-max are strange", "exit code 1", &args);

        assert_eq!(found, Some(("qemu.option-invalid", cause.to_owned())));
        assert_eq!(general("the moon is full", "exit code 1", &args), None);
    }

    #[test]
    fn test_crash_is_one_unless_a_row_says_more() {
        let crash = |line: &str, status: &str| general(line, status, &["-device", "x"]).map(|(code, _)| code);

        assert_eq!(crash("", "signal 6 (SIGABRT)"), Some("qemu.process-failed"));
        assert_eq!(crash("-device x: the moon is full", "signal 11 (SIGSEGV)"), Some("qemu.process-failed"));
        let x2apic = "APIC ID 255 requires x2APIC feature in CPU\nTry x2apic=on in -cpu.";
        assert_eq!(crash(x2apic, "signal 6 (SIGABRT)"), Some("qemu.cpus-invalid"));
    }

    #[test]
    fn test_hints_list_the_options_of_the_switch() {
        let hints = |switch: &str, argument: &str| {
            let args = [switch.to_owned(), argument.to_owned()];
            let line = format!("{switch} {argument}: the moon is full");
            recognize(&line, "exit code 1", &args).unwrap().hints(&NAMES)
        };

        let device = ["correct it in `-device x`", "list its options with `/bin/qemu -device e1000,help`"];
        assert_eq!(hints("-device", "e1000,x=1"), device);
        assert_eq!(hints("-device", r#"{"driver":"e1000"}"#), device);
        assert_eq!(hints("-smbios", "type=1")[1], "read about its options in `/bin/qemu -help`");
    }
}
