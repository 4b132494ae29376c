//! Values passed on to QEMU: a mistyped one is an error, an unknown one may belong to another version of QEMU.

use super::file_options::files_of;
use crate::config::{Diagnostics, KeyPath, Node, unexpanded};
use crate::qemu::OptionString;
use crate::text::{did_you_mean, similar};

/// The types of `-display` (QEMU 7.2).
const DISPLAYS: [&str; 10] =
    ["none", "gtk", "sdl", "curses", "cocoa", "dbus", "default", "egl-headless", "spice-app", "vnc"];

/// The types of `-vga` (QEMU 7.2).
pub(super) const GRAPHICS: [&str; 9] = ["none", "std", "cirrus", "vmware", "qxl", "virtio", "xenfb", "tcx", "cg3"];

/// The values of `serial` without a `:` or a `/` (`qemu_chr_parse_compat`, QEMU 7.2).
const SERIAL_NAMES: [&str; 10] =
    ["console", "none", "null", "pty", "stdio", "vc", "msmouse", "wctablet", "braille", "testdev"];

/// The prefixes of `-serial`, before the first `:`.
const SERIAL_KINDS: [&str; 12] =
    ["mon", "chardev", "file", "pipe", "tcp", "telnet", "tn3270", "websocket", "unix", "udp", "vc", "con"];

/// Reads a value for QEMU; its first part must not resemble one of `known` without being it.
pub(super) fn passed_to_qemu(path: &KeyPath, node: &Node, known: &[&str], report: &mut Diagnostics) -> Option<String> {
    let text = report.line(path, node)?;
    let first = text.split([',', '=']).next().unwrap_or_default();
    check_spelling(first, path, node, known, report).then_some(text)
}

/// Reads the value of `display`.
pub(super) fn display(path: &KeyPath, node: &Node, report: &mut Diagnostics) -> Option<String> {
    let text = passed_to_qemu(path, node, &DISPLAYS, report)?;
    is_expanded("display", &text, path, node, report).then_some(text)
}

/// Reports a file that a shell would have to expand.
fn is_expanded(switch: &str, text: &str, path: &KeyPath, node: &Node, report: &mut Diagnostics) -> bool {
    let options = OptionString::parse(switch, text);
    let invalid = files_of(switch, text, &options).into_iter().find_map(unexpanded);
    let is_valid = invalid.is_none();
    if let Some((message, help)) = invalid {
        report.error_with_help(path, node, message, Some(help));
    }
    is_valid
}

/// Reads the value of `serial`.
pub(super) fn serial(path: &KeyPath, node: &Node, report: &mut Diagnostics) -> Option<String> {
    let text = report.line(path, node)?;
    let is_valid = match text.split_once(':') {
        Some((kind, _)) => check_spelling(kind, path, node, &SERIAL_KINDS, report),
        None if text.contains('/') || SERIAL_NAMES.contains(&text.as_str()) => true,
        None => {
            let help = did_you_mean(&similar(&text, SERIAL_NAMES)).unwrap_or_else(|| {
                format!("write a file as `file:{}`; known values: {}", text.escape_debug(), SERIAL_NAMES.join(", "))
            });
            let message =
                format!("expected `console`, `none` or a value of QEMU's -serial, found {}", node.description());
            report.error_with_help(path, node, message, Some(help));
            false
        }
    };
    (is_valid && is_expanded("serial", &text, path, node, report)).then_some(text)
}

/// Reports a value that is not known but resembles one that is.
fn check_spelling(value: &str, path: &KeyPath, node: &Node, known: &[&str], report: &mut Diagnostics) -> bool {
    if known.contains(&value) {
        return true;
    }
    let help = did_you_mean(&similar(value, known.iter().copied()));
    let is_valid = help.is_none();
    if !is_valid {
        report.error_with_help(path, node, format!("unknown value `{}`", value.escape_debug()), help);
    }
    is_valid
}

#[cfg(test)]
mod tests {
    use super::*;

    fn help_of(read: impl FnOnce(&KeyPath, &Node, &mut Diagnostics) -> Option<String>, text: &str) -> Option<String> {
        let mut report = Diagnostics::default();
        let text = read(&KeyPath::top("key"), &Node::text(text), &mut report);
        assert_eq!(text.is_none(), !report.problems().is_empty());
        report.problems().first().and_then(|problem| problem.help.clone())
    }

    #[test]
    fn test_serial_mistyped_value_is_an_error() {
        for text in ["console", "none", "pty", "/dev/ttyS0", "file:a", "mon:stdio", "vc:80Cx24C", "chardev:c", "new:a"]
        {
            assert_eq!(help_of(serial, text), None, "{text}");
        }
        for text in ["file:$HOME/ser.log", "unix:~/ser.sock,server=on", "mon:file:${HOME}/a"] {
            assert!(help_of(serial, text).is_some(), "{text}");
        }
        assert_eq!(help_of(serial, "consol").as_deref(), Some("did you mean `console`?"));
        assert_eq!(help_of(serial, "fiel:a").as_deref(), Some("did you mean `file`?"));
        assert!(
            help_of(serial, "out.log").is_some_and(|help| help.starts_with("write a file as `file:out.log`; known"))
        );
    }

    #[test]
    fn test_display_and_vga_mistyped_value_is_an_error() {
        let display = |text: &str| help_of(display, text);
        let vga = |text: &str| help_of(|at, node, report| passed_to_qemu(at, node, &GRAPHICS, report), text);

        assert_eq!(["none", "gtk,gl=on", "vnc=:1", "holodeck"].map(display), [None, None, None, None]);
        assert_eq!(["virtio", "std", "ati-rage"].map(vga), [None, None, None]);
        assert!(display("vnc=unix:$XDG_RUNTIME_DIR/v.sock").is_some());
        assert_eq!(display("gkt,gl=on").as_deref(), Some("did you mean `gtk`?"));
        assert_eq!(vga("virito").as_deref(), Some("did you mean `virtio`?"));
    }
}
