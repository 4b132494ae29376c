//! Commands for which QEMU starts a program of the host, and whether it may.

use serde_json::Value;

use crate::qmp::QmpCommand;

/// Returns whether QEMU would start a program for a command, at once, when the guest uses what it makes, or when that
/// goes: the helper that joins a bridge, the scripts of a tap, what a user network hands connections to, or what a
/// migration goes through.
///
/// The lines of `human-monitor-command` are not looked at.
pub fn starts_program(command: &QmpCommand) -> bool {
    match command.execute.as_str() {
        "netdev_add" => netdev_starts_program(command),
        "migrate" | "migrate-incoming" | "migrate-recover" => goes_through_program(command),
        _ => false,
    }
}

/// As `net_init_tap` decides (7.2): `br` alone does nothing, it is for the helper.
fn netdev_starts_program(command: &QmpCommand) -> bool {
    let text = |name: &str| command.arguments.get(name).and_then(Value::as_str);
    let given = |name: &str| command.arguments.contains_key(name);
    // Without a word about them QEMU has scripts of its own, `/etc/qemu-ifup` and `/etc/qemu-ifdown`.
    let is_none = |name: &str| matches!(text(name), Some("no" | ""));
    match text("type") {
        Some("bridge") => true,
        Some("user") => given("smb") || command.arguments.get("guestfwd").is_some_and(leads_to_program),
        Some("tap") if given("fd") || given("fds") => false,
        Some("tap") => given("helper") || !(is_none("script") && is_none("downscript")),
        Some(_) | None => false,
    }
}

/// Each is written as `tcp:10.0.2.100:80-cmd:PROGRAM`, which is started by the guest's connection.
fn leads_to_program(forwards: &Value) -> bool {
    let forwards = forwards.as_array().into_iter().flatten();
    forwards.filter_map(|forward| forward["str"].as_str()).any(|forward| forward.contains("-cmd:"))
}

/// From 8.2 on there may be `channels` instead of an `uri`.
fn goes_through_program(command: &QmpCommand) -> bool {
    let uri = command.arguments.get("uri").and_then(Value::as_str);
    let channels = command.arguments.get("channels").and_then(Value::as_array);
    uri.is_some_and(|uri| uri.starts_with("exec:"))
        || channels.into_iter().flatten().any(|channel| channel["addr"]["transport"] == "exec")
}

/// Returns whether a QEMU that was started with these words may start programs; one whose sandbox says `spawn=deny` is
/// ended by the kernel when it tries (7.2).
///
/// Each `-sandbox` is a filter of its own, and no later one takes it away.
pub fn may_start_programs(words: &[String]) -> bool {
    let is_sandbox = |word: &str| ["-sandbox", "--sandbox"].contains(&word);
    !words.windows(2).any(|two| is_sandbox(&two[0]) && denies_programs(&two[1]))
}

/// Within one `-sandbox`, what is said last holds.
fn denies_programs(sandbox: &str) -> bool {
    let (mut is_on, mut is_denied) = (false, false);
    for option in sandbox.split(',') {
        match option.split_once('=').unwrap_or(("enable", option)) {
            ("enable", state) => is_on = ["on", "yes", "true", "y"].contains(&state),
            ("spawn", state) => is_denied = state == "deny",
            _ => {}
        }
    }
    is_on && is_denied
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(execute: &str, arguments: &Value, expected: bool) {
        let command =
            QmpCommand { execute: execute.to_owned(), arguments: arguments.as_object().cloned().unwrap_or_default() };
        assert_eq!(starts_program(&command), expected, "{execute} {arguments}");
    }

    #[test]
    fn test_starts_program_bridges_and_taps_with_a_script_do() {
        check("netdev_add", &json!({"type": "bridge", "id": "n", "br": "br0"}), true);
        check("netdev_add", &json!({"type": "tap", "id": "n", "ifname": "t"}), true);
        check("netdev_add", &json!({"type": "tap", "id": "n", "script": "/bin/up", "downscript": "no"}), true);
        check("netdev_add", &json!({"type": "tap", "id": "n", "helper": "/bin/helper"}), true);
    }

    /// The script that makes it go runs, and ends QEMU, in `netdev_del`.
    #[test]
    fn test_starts_program_taps_with_one_script_only_do() {
        check("netdev_add", &json!({"type": "tap", "id": "n", "ifname": "t", "script": "no"}), true);
        check("netdev_add", &json!({"type": "tap", "id": "n", "ifname": "t", "downscript": "no"}), true);
    }

    /// They start it once the guest connects to them.
    #[test]
    fn test_starts_program_user_networks_that_hand_connections_to_one_do() {
        let guestfwd = |to: &str| json!({"type": "user", "id": "n", "guestfwd": [{"str": to}]});
        check("netdev_add", &guestfwd("tcp:10.0.2.100:80-cmd:cat"), true);
        check("netdev_add", &guestfwd("tcp:10.0.2.100:80-chardev0"), false);
        check("netdev_add", &json!({"type": "user", "id": "n", "smb": "/srv/share"}), true);
    }

    #[test]
    fn test_starts_program_others_do_not() {
        check("netdev_add", &json!({"type": "tap", "id": "n", "ifname": "t", "script": "no", "downscript": ""}), false);
        check("netdev_add", &json!({"type": "tap", "id": "n", "fd": "7"}), false);
        check("netdev_add", &json!({"type": "tap", "id": "n", "fds": "7:8"}), false);
        check("netdev_add", &json!({"type": "user", "id": "n"}), false);
        check("device_add", &json!({"type": "bridge"}), false);
    }

    #[test]
    fn test_starts_program_bridge_of_a_tap_is_for_its_helper_only() {
        check("netdev_add", &json!({"type": "tap", "id": "n", "br": "br0", "script": "no", "downscript": "no"}), false);
    }

    #[test]
    fn test_starts_program_migrations_through_one_do() {
        let channel = |transport: &str| json!({"channels": [{"addr": {"transport": transport, "args": ["cat"]}}]});
        for execute in ["migrate", "migrate-incoming", "migrate-recover"] {
            check(execute, &json!({"uri": "exec:cat"}), true);
            check(execute, &json!({"uri": "fd:exec:"}), false);
            check(execute, &channel("exec"), true);
            check(execute, &channel("socket"), false);
        }
        check("query-migrate", &json!({"uri": "exec:cat"}), false);
    }

    fn may(line: &str) -> bool {
        may_start_programs(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn test_may_start_programs_within_one_sandbox_what_is_said_last_holds() {
        assert!(!may("qemu -sandbox on,obsolete=deny,spawn=deny -S"));
        assert!(!may("qemu --sandbox enable=on,spawn=deny") && !may("qemu -sandbox yes,spawn=allow,spawn=deny"));
        assert!(may("qemu -sandbox on -S") && may("qemu -sandbox off") && may("qemu -S"));
        assert!(may("qemu -sandbox on,spawn=deny,spawn=allow") && may("qemu -sandbox no,spawn=deny"));
        assert!(may("qemu -name on,spawn=deny -sandbox"));
    }

    #[test]
    fn test_may_start_programs_each_sandbox_stands_alone() {
        assert!(!may("qemu -sandbox on,spawn=deny -sandbox off"));
        assert!(!may("qemu -sandbox on,spawn=deny -sandbox on,spawn=allow"));
        assert!(!may("qemu -sandbox off -sandbox on,spawn=deny"));
        assert!(may("qemu -sandbox on -sandbox spawn=deny") && may("qemu -sandbox spawn=deny -sandbox on"));
    }
}
