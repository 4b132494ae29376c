//! The end of what QEMU's programs write to their standard error.

use crate::limits::{MAX_STDERR_TAIL_BYTES, MAX_STDERR_TAIL_LINES};

/// Returns the last lines of `stderr` that are not empty, without the name of the program that begins each.
pub(crate) fn stderr_tail(stderr: &[u8]) -> String {
    let end = &stderr[stderr.len().saturating_sub(MAX_STDERR_TAIL_BYTES)..];
    // Not from the middle of a character.
    let start = end.iter().position(|byte| byte & 0xc0 != 0x80).unwrap_or_default();
    let text = String::from_utf8_lossy(&end[start..]);
    let lines: Vec<&str> =
        text.lines().map(|line| without_program(line).trim_end()).filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(MAX_STDERR_TAIL_LINES)..].join("\n")
}

fn without_program(line: &str) -> &str {
    let is_program = |name: &str| name == "qemu-img" || name.starts_with("qemu-system-");
    match line.split_once(": ") {
        Some((name, text)) if is_program(name.rsplit('/').next().unwrap_or_default()) => text,
        Some(_) | None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(stderr: &[u8], expected: &str) {
        assert_eq!(stderr_tail(stderr), expected);
    }

    #[test]
    fn test_stderr_tail_program_name_is_removed() {
        check(b"qemu-system-x86_64: -foo: invalid option\n", "-foo: invalid option");
        check(b"/opt/qemu-system-arm: warning: x: y\n", "warning: x: y");
        check(b"qemu-img: one\n\nqemu-img: two  \n", "one\ntwo");
        check(b"other: x\n", "other: x");
    }

    #[test]
    fn test_stderr_tail_flood_is_bounded() {
        let flood = b"line\n".repeat(100_000);

        check(&flood, &["line"; MAX_STDERR_TAIL_LINES].join("\n"));
    }

    #[test]
    fn test_stderr_tail_invalid_utf8_is_replaced() {
        check(b"\xff ok\n\n", "\u{fffd} ok");
    }

    #[test]
    fn test_stderr_tail_is_cut_between_characters() {
        let tail = stderr_tail(format!("{}x", "ü".repeat(10_000)).as_bytes());

        assert!(tail.len() < MAX_STDERR_TAIL_BYTES && tail.starts_with('ü'), "{tail}");
    }
}
