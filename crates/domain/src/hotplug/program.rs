//! Network back ends for which QEMU starts a program of the host, and whether it may.

use serde_json::Value;

use crate::port::QmpCommand;

/// Returns whether QEMU would start a program for a command: the helper that joins a bridge, or the script of a tap.
pub fn starts_program(command: &QmpCommand) -> bool {
    let text = |name: &str| command.arguments.get(name).and_then(Value::as_str);
    let given = |name: &str| command.arguments.contains_key(name);
    let is_none = |name: &str| matches!(text(name), Some("no" | ""));
    match text("type").filter(|_| command.execute == "netdev_add") {
        Some("bridge") => true,
        // Without a word about it QEMU has a script of its own (`/etc/qemu-ifup`, 7.2).
        Some("tap") => given("helper") || given("br") || !(given("fd") || given("fds") || is_none("script")),
        Some(_) | None => false,
    }
}

/// Returns whether a QEMU that was started with these words may start programs; one whose sandbox says `spawn=deny` is
/// ended by the kernel when it tries (7.2).
pub fn may_start_programs(words: &[String]) -> bool {
    let (mut is_on, mut is_denied) = (false, false);
    let is_sandbox = |word: &str| ["-sandbox", "--sandbox"].contains(&word);
    for option in words.windows(2).filter(|two| is_sandbox(&two[0])).flat_map(|two| two[1].split(',')) {
        match option.split_once('=').unwrap_or(("enable", option)) {
            ("enable", state) => is_on = state != "off",
            ("spawn", state) => is_denied = state == "deny",
            _ => {}
        }
    }
    !(is_on && is_denied)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(arguments: &Value, expected: bool) {
        let command = QmpCommand {
            execute: "netdev_add".to_owned(),
            arguments: arguments.as_object().cloned().unwrap_or_default(),
        };
        assert_eq!(starts_program(&command), expected, "{arguments}");
    }

    #[test]
    fn test_starts_program_bridges_and_taps_with_a_script_do() {
        check(&json!({"type": "bridge", "id": "n", "br": "br0"}), true);
        check(&json!({"type": "tap", "id": "n", "ifname": "t"}), true);
        check(&json!({"type": "tap", "id": "n", "ifname": "t", "script": "/bin/up"}), true);
        check(&json!({"type": "tap", "id": "n", "br": "br0", "script": "no"}), true);
    }

    #[test]
    fn test_starts_program_others_do_not() {
        check(&json!({"type": "tap", "id": "n", "ifname": "t", "script": "no", "downscript": "no"}), false);
        check(&json!({"type": "tap", "id": "n", "fd": "7"}), false);
        check(&json!({"type": "user", "id": "n"}), false);
        assert!(!starts_program(&QmpCommand::new("device_add").with("type", "bridge")));
    }

    #[test]
    fn test_may_start_programs_what_is_said_last_holds() {
        let may = |line: &str| may_start_programs(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());

        assert!(!may("qemu -sandbox on,obsolete=deny,spawn=deny -S"));
        assert!(!may("qemu --sandbox enable=on,spawn=deny"));
        assert!(may("qemu -sandbox on -S") && may("qemu -sandbox off") && may("qemu -S"));
        assert!(may("qemu -sandbox on,spawn=deny -sandbox off"));
        assert!(may("qemu -sandbox on,spawn=deny -sandbox spawn=allow"));
        assert!(may("qemu -name on,spawn=deny -sandbox"));
    }
}
