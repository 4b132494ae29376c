//! Commands for which QEMU runs a program of the host, and whether its sandbox allows that.

use serde_json::Value;

use crate::qemu::{OptionString, switch_values};
use crate::qmp::QmpCommand;

/// Returns whether QEMU would run a program for a command, now or later: the helper for a bridge, the scripts of a tap, the
/// target of a forward from the guest, or the transport of a migration.
///
/// Lines of `human-monitor-command` are not parsed.
pub fn starts_program(command: &QmpCommand) -> bool {
    match command.execute.as_str() {
        "netdev_add" => netdev_starts_program(command),
        "migrate" | "migrate-incoming" | "migrate-recover" => is_through_program(command),
        _ => false,
    }
}

/// As in `net_init_tap` (7.2), where `br` is for the helper only.
fn netdev_starts_program(command: &QmpCommand) -> bool {
    let text = |name: &str| command.arguments.get(name).and_then(Value::as_str);
    let has = |name: &str| command.arguments.contains_key(name);
    // The defaults are `/etc/qemu-ifup` and `/etc/qemu-ifdown`.
    let is_none = |name: &str| matches!(text(name), Some("no" | ""));
    match text("type") {
        Some("bridge") => true,
        Some("user") => has("smb") || command.arguments.get("guestfwd").is_some_and(leads_to_program),
        Some("tap") if has("fd") || has("fds") => false,
        Some("tap") => has("helper") || !(is_none("script") && is_none("downscript")),
        Some(_) | None => false,
    }
}

/// `tcp:10.0.2.100:80-cmd:PROGRAM` runs the program when the guest connects.
fn leads_to_program(forwards: &Value) -> bool {
    let forwards = forwards.as_array().into_iter().flatten();
    forwards.filter_map(|forward| forward["str"].as_str()).any(|forward| forward.contains("-cmd:"))
}

/// QEMU 8.2 and later accept `channels` instead of `uri`.
fn is_through_program(command: &QmpCommand) -> bool {
    let uri = command.arguments.get("uri").and_then(Value::as_str);
    let channels = command.arguments.get("channels").and_then(Value::as_array);
    uri.is_some_and(|uri| uri.starts_with("exec:"))
        || channels.into_iter().flatten().any(|channel| channel["addr"]["transport"] == "exec")
}

/// Returns whether a QEMU with this command line may run programs; the kernel kills one whose sandbox has `spawn=deny` when
/// it tries (7.2).
///
/// Each `-sandbox` is a separate filter, which later ones do not remove.
pub fn may_start_programs(args: &[String]) -> bool {
    !switch_values(args).any(|(name, argument)| name == "sandbox" && denies_programs(argument))
}

fn denies_programs(sandbox: &str) -> bool {
    let sandbox = OptionString::parse("sandbox", sandbox);
    let is_on = ["on", "yes", "true", "y"].contains(&sandbox.head());
    is_on && sandbox.get("spawn") == Some("deny")
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
    fn test_starts_program_bridge_and_tap_with_script() {
        check("netdev_add", &json!({"type": "bridge", "id": "n", "br": "br0"}), true);
        check("netdev_add", &json!({"type": "tap", "id": "n", "ifname": "t"}), true);
        check("netdev_add", &json!({"type": "tap", "id": "n", "script": "/bin/up", "downscript": "no"}), true);
        check("netdev_add", &json!({"type": "tap", "id": "n", "helper": "/bin/helper"}), true);
    }

    /// The other script runs in `netdev_del`, or in `netdev_add`.
    #[test]
    fn test_starts_program_tap_with_only_one_script_disabled() {
        check("netdev_add", &json!({"type": "tap", "id": "n", "ifname": "t", "script": "no"}), true);
        check("netdev_add", &json!({"type": "tap", "id": "n", "ifname": "t", "downscript": "no"}), true);
    }

    /// The program runs once the guest connects.
    #[test]
    fn test_starts_program_user_network_with_command_or_smb() {
        let guestfwd = |to: &str| json!({"type": "user", "id": "n", "guestfwd": [{"str": to}]});
        check("netdev_add", &guestfwd("tcp:10.0.2.100:80-cmd:cat"), true);
        check("netdev_add", &guestfwd("tcp:10.0.2.100:80-chardev0"), false);
        check("netdev_add", &json!({"type": "user", "id": "n", "smb": "/srv/share"}), true);
    }

    #[test]
    fn test_starts_program_not_for_other_commands() {
        check("netdev_add", &json!({"type": "tap", "id": "n", "ifname": "t", "script": "no", "downscript": ""}), false);
        check("netdev_add", &json!({"type": "tap", "id": "n", "fd": "7"}), false);
        check("netdev_add", &json!({"type": "tap", "id": "n", "fds": "7:8"}), false);
        check("netdev_add", &json!({"type": "user", "id": "n"}), false);
        check("device_add", &json!({"type": "bridge"}), false);
    }

    #[test]
    fn test_starts_program_not_for_bridge_name_of_tap() {
        check("netdev_add", &json!({"type": "tap", "id": "n", "br": "br0", "script": "no", "downscript": "no"}), false);
    }

    #[test]
    fn test_starts_program_migration_through_exec() {
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
    fn test_may_start_programs_last_sandbox_option_counts() {
        assert!(!may("qemu -sandbox on,obsolete=deny,spawn=deny -S"));
        assert!(!may("qemu --sandbox enable=on,spawn=deny") && !may("qemu -sandbox yes,spawn=allow,spawn=deny"));
        assert!(may("qemu -sandbox on -S") && may("qemu -sandbox off") && may("qemu -S"));
        assert!(may("qemu -sandbox on,spawn=deny,spawn=allow") && may("qemu -sandbox no,spawn=deny"));
        assert!(may("qemu -name on,spawn=deny -sandbox"));
    }

    #[test]
    fn test_may_start_programs_each_sandbox_is_separate() {
        assert!(!may("qemu -sandbox on,spawn=deny -sandbox off"));
        assert!(!may("qemu -sandbox on,spawn=deny -sandbox on,spawn=allow"));
        assert!(!may("qemu -sandbox off -sandbox on,spawn=deny"));
        assert!(may("qemu -sandbox on -sandbox spawn=deny") && may("qemu -sandbox spawn=deny -sandbox on"));
    }
}
