//! Words of QEMU's that are passed on: a mistyped one is told, an unheard-of one may be of another QEMU.

use crate::config::{Diagnostics, KeyPath, Node};
use crate::text::{did_you_mean, similar};

/// What `-display` begins with (QEMU 7.2).
pub(super) const DISPLAYS: [&str; 10] =
    ["none", "gtk", "sdl", "curses", "cocoa", "dbus", "default", "egl-headless", "spice-app", "vnc"];

/// What `-vga` begins with (QEMU 7.2).
pub(super) const GRAPHICS: [&str; 9] = ["none", "std", "cirrus", "vmware", "qxl", "virtio", "xenfb", "tcx", "cg3"];

/// The whole of what `serial` may be without a `:` or a `/` (`qemu_chr_parse_compat`, QEMU 7.2).
const SERIAL_WORDS: [&str; 10] =
    ["console", "none", "null", "pty", "stdio", "vc", "msmouse", "wctablet", "braille", "testdev"];

/// What stands before the first `:` of `-serial`.
const SERIAL_KINDS: [&str; 12] =
    ["mon", "chardev", "file", "pipe", "tcp", "telnet", "tn3270", "websocket", "unix", "udp", "vc", "con"];

/// Reads a word for QEMU whose beginning is refused if it is nearly one of `known`.
pub(super) fn hardly_mistyped(path: &KeyPath, node: &Node, known: &[&str], report: &mut Diagnostics) -> Option<String> {
    let word = report.word(path, node)?;
    let start = word.split([',', '=']).next().unwrap_or_default();
    unless_near(start, path, node, known, report).then_some(word)
}

/// Reads where a serial port goes.
pub(super) fn serial(path: &KeyPath, node: &Node, report: &mut Diagnostics) -> Option<String> {
    let word = report.word(path, node)?;
    let is_taken = match word.split_once(':') {
        Some((kind, _)) => unless_near(kind, path, node, &SERIAL_KINDS, report),
        None if word.contains('/') || SERIAL_WORDS.contains(&word.as_str()) => true,
        None => {
            let help = did_you_mean(&similar(&word, SERIAL_WORDS)).unwrap_or_else(|| {
                format!("a file is `file:{0}`; known words: {1}", word.escape_debug(), SERIAL_WORDS.join(", "))
            });
            let message = format!("expected `console`, `none` or as for QEMU's -serial, found {}", node.in_words());
            report.wrong_with_help(path, node, message, Some(help));
            false
        }
    };
    is_taken.then_some(word)
}

/// Notes a word that is not known and nearly is.
fn unless_near(word: &str, path: &KeyPath, node: &Node, known: &[&str], report: &mut Diagnostics) -> bool {
    let meant = if known.contains(&word) { Vec::new() } else { similar(word, known.iter().copied()) };
    let help = did_you_mean(&meant);
    let is_taken = help.is_none();
    if !is_taken {
        report.wrong_with_help(path, node, format!("`{}` is no word of QEMU's", word.escape_debug()), help);
    }
    is_taken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(read: impl FnOnce(&KeyPath, &Node, &mut Diagnostics) -> Option<String>, text: &str) -> Option<String> {
        let mut report = Diagnostics::default();
        let word = read(&KeyPath::top("key"), &Node::text(text), &mut report);
        assert_eq!(word.is_none(), !report.problems().is_empty());
        report.problems().first().and_then(|problem| problem.help.clone())
    }

    #[test]
    fn test_serial_word_of_qemu_is_taken_and_a_mistyped_one_is_told() {
        for text in ["console", "none", "pty", "/dev/ttyS0", "file:a", "mon:stdio", "vc:80Cx24C", "chardev:c", "new:a"]
        {
            assert_eq!(told(serial, text), None, "{text}");
        }
        assert_eq!(told(serial, "consol").as_deref(), Some("did you mean `console`?"));
        assert_eq!(told(serial, "fiel:a").as_deref(), Some("did you mean `file`?"));
        assert!(told(serial, "out.log").is_some_and(|help| help.starts_with("a file is `file:out.log`; known")));
    }

    #[test]
    fn test_word_of_another_qemu_is_taken_and_a_mistyped_one_is_told() {
        let display = |text: &str| told(|at, node, report| hardly_mistyped(at, node, &DISPLAYS, report), text);
        let vga = |text: &str| told(|at, node, report| hardly_mistyped(at, node, &GRAPHICS, report), text);

        assert_eq!(["none", "gtk,gl=on", "vnc=:1", "holodeck"].map(display), [None, None, None, None]);
        assert_eq!(["virtio", "std", "ati-rage"].map(vga), [None, None, None]);
        assert_eq!(display("gkt,gl=on").as_deref(), Some("did you mean `gtk`?"));
        assert_eq!(vga("virito").as_deref(), Some("did you mean `virtio`?"));
    }
}
