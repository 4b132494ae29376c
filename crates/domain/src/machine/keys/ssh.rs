//! The key of how to log in to a guest by SSH: `ssh`.

use std::path::Path;

use serde_json::json;

use super::KeySpec;
use super::seed::map_values;
use super::table::doc;
use crate::config::{Diagnostics, KeyPath, Node, schema};
use crate::first_boot::SshAccess;
use crate::guest::UserName;
use crate::machine::Machine;

/// The key `ssh`, as a table of one.
pub(super) const SSH_KEYS: &[KeySpec] = &[KeySpec::new(
    "ssh",
    doc(
        "how to log in to the guest by SSH, for `maqet ssh-config`",
        "a map with user (default: the first one of the seed, else root) and key (the file with the private key)",
    ),
    || schema::map(vec![("user", schema::text()), ("key", json!({ "type": "string" }))]),
    ssh,
)
.rebased_by(rebase)];

fn rebase(node: Node, folder: &Path) -> Node {
    map_values(node, |key, value| if key == "key" { value.rebased(folder) } else { value })
}

fn ssh(path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Diagnostics) {
    let mut access = SshAccess::default();
    for (key, value) in report.map(path, node).unwrap_or_default() {
        let at = path.key(key);
        match key.as_str() {
            "user" | "key" if value.is_null() => {}
            "user" => access.user = report.parse::<UserName>(&at, value).map(|user| user.to_string()),
            "key" => access.key = report.path(&at, value),
            _ => report.unknown_key(&at, value, &["user", "key"]),
        }
    }
    machine.ssh = access;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::reading;

    #[test]
    fn test_ssh_user_and_key_are_read() {
        let (machine, problems) = reading::read(r#"{"ssh": {"user": "alice", "key": "/k/id"}}"#);

        assert_eq!(problems, [""; 0]);
        let expected = SshAccess { user: Some("alice".to_owned()), key: Some("/k/id".into()) };
        assert_eq!(machine.ssh, expected);
    }

    #[test]
    fn test_ssh_wrong_value_is_one_error_at_its_key() {
        for (ssh, expected) in [
            (r#"{"users": "a"}"#, "ssh.users: unknown key `users`"),
            (r#"{"key": "~/id"}"#, "ssh.key: `~` is expanded by shells only"),
            (r#""alice""#, "ssh: expected a map, found the string `alice`"),
        ] {
            assert_eq!(reading::read(&format!(r#"{{"ssh": {ssh}}}"#)).1, [expected], "{ssh}");
        }
    }

    #[test]
    fn test_ssh_key_is_resolved_against_the_file() {
        let node = rebase(serde_json::from_str(r#"{"user":"k","key":"k"}"#).unwrap(), Path::new("/d"));

        assert_eq!(serde_json::to_string(&node).unwrap(), r#"{"user":"k","key":"/d/k"}"#);
    }
}
