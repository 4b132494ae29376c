//! `iops` and `bps` of a drive: how much a guest may request in a second.

use serde_json::{Value as Json, json};

use crate::config::{Diagnostics, KeyPath, Node, Value, schema};
use crate::storage::{DriveLimits, Limit, StorageSpec};

/// The keys of a drive.
const KEYS: [&str; 2] = ["iops", "bps"];

/// The keys of a limit for reads and writes on their own.
const PARTS: [&str; 2] = ["read", "write"];

/// Reads the value of one limit.
type ReadLimit = fn(&KeyPath, &Node, &mut Diagnostics) -> Option<u64>;

/// Returns the schemas of the keys.
pub(super) fn schemas() -> [(&'static str, Json); 2] {
    let limit =
        |one: &dyn Fn() -> Json| json!({ "anyOf": [one(), schema::map(PARTS.map(|part| (part, one())).to_vec())] });
    let max = i64::try_from(Limit::MAX).unwrap_or(i64::MAX);
    [("iops", limit(&|| schema::integer(1, max))), ("bps", limit(&schema::size))]
}

/// Reads `iops` and `bps` of a drive.
pub(super) fn read(at: &KeyPath, entry: &Node, report: &mut Diagnostics) -> DriveLimits {
    let [iops, bps] = KEYS.map(|key| entry.non_null(key).map(|node| (at.key(key), node)));
    DriveLimits {
        iops: iops.and_then(|(at, node)| limit(&at, node, requests, report)),
        bps: bps.and_then(|(at, node)| limit(&at, node, bytes, report)),
    }
}

/// Reports limits of a drive whose requests QEMU does not delay.
pub(super) fn check(storage: &StorageSpec, at: &KeyPath, entry: &Node, report: &mut Diagnostics) {
    for key in KEYS {
        let Some(node) = entry.non_null(key) else { continue };
        let at = at.key(key);
        if storage.is_without_device() {
            let message = format!("`{key}` requires a device, and `interface: none` has none");
            report.error_with_help(&at, node, message, Some("set another `interface`, or remove it".to_owned()));
        } else if !storage.driver.features().limits {
            let kind = storage.driver.type_name();
            report.error(&at, node, format!("`type: {kind}` does not support `{key}`"));
        }
    }
}

fn limit(at: &KeyPath, node: &Node, read: ReadLimit, report: &mut Diagnostics) -> Option<Limit> {
    let Value::Map(entries) = &node.value else {
        return read(at, node, report).map(Limit::Total);
    };
    let mut parts = [None; 2];
    for (key, node) in entries.iter().filter(|(_, node)| !node.is_null()) {
        let at = at.key(key);
        match PARTS.iter().position(|part| part == key) {
            Some(part) => parts[part] = read(&at, node, report),
            None => report.unknown_key(&at, node, &PARTS),
        }
    }
    let [read, write] = parts;
    Some(Limit::Each { read, write })
}

fn requests(at: &KeyPath, node: &Node, report: &mut Diagnostics) -> Option<u64> {
    report.integer(at, node, 1, i64::try_from(Limit::MAX).unwrap_or(i64::MAX))
}

fn bytes(at: &KeyPath, node: &Node, report: &mut Diagnostics) -> Option<u64> {
    let bytes = report.size(at, node, 0)?.bytes();
    let text = node.written().unwrap_or_default();
    if bytes == 0 || bytes > Limit::MAX {
        report.error(at, node, format!("expected from 1 to {} bytes, found {}", Limit::MAX, node.description()));
        return None;
    }
    if bytes < Limit::MIN_BARE_BYTES && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let message = format!("`{text}` without a unit is {bytes} bytes per second");
        let help = format!("add the unit, as in `{text}M`; for bytes, write `{text}B`");
        report.error_with_help(at, node, message, Some(help));
        return None;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::reading;

    fn read(keys: &str) -> (DriveLimits, Vec<String>) {
        let (machine, problems) = reading::read(&format!(r#"{{"storage": [{{"name": "a", {keys}}}]}}"#));
        (machine.storage.first().map(|storage| storage.limits).unwrap_or_default(), problems)
    }

    #[track_caller]
    fn check_refused(keys: &str, expected: &str) {
        assert_eq!(read(keys).1, [expected], "{keys}");
    }

    #[test]
    fn test_limits_are_of_all_requests_or_of_each_kind() {
        for (keys, iops, bps) in [
            (r#""iops": 500"#, Some(Limit::Total(500)), None),
            (r#""iops": "500", "bps": "1.5M""#, Some(Limit::Total(500)), Some(Limit::Total(3 << 19))),
            (
                r#""bps": {"read": "64K", "write": 65536}"#,
                None,
                Some(Limit::Each { read: Some(65536), write: Some(65536) }),
            ),
            (r#""bps": "512B""#, None, Some(Limit::Total(512))),
            (r#""iops": {"write": 5, "read": null}"#, Some(Limit::Each { read: None, write: Some(5) }), None),
            (r#""iops": null, "bps": null"#, None, None),
            (r#""iops": 1000000000000000"#, Some(Limit::Total(Limit::MAX)), None),
        ] {
            assert_eq!(read(keys), (DriveLimits { iops, bps }, Vec::new()), "{keys}");
        }
    }

    #[test]
    fn test_limits_with_a_wrong_value_are_reported() {
        let max = "1000000000000000";
        check_refused(
            r#""iops": 0"#,
            &format!("storage[0].iops: expected an integer from 1 to {max}, found the number `0`"),
        );
        check_refused(
            r#""iops": {"read": "5K"}"#,
            &format!("storage[0].iops.read: expected an integer from 1 to {max}, found the string `5K`"),
        );
        check_refused(r#""iops": {"reads": 5}"#, "storage[0].iops.reads: unknown key `reads`");
        check_refused(r#""bps": 100"#, "storage[0].bps: `100` without a unit is 100 bytes per second");
        check_refused(
            r#""bps": {"write": "0M"}"#,
            &format!("storage[0].bps.write: expected from 1 to {max} bytes, found the string `0M`"),
        );
        check_refused(
            r#""bps": "1P""#,
            &format!("storage[0].bps: expected from 1 to {max} bytes, found the string `1P`"),
        );
    }

    #[test]
    fn test_limits_require_a_device_and_an_image() {
        let none = r#""interface": "none", "iops": 5"#;
        check_refused(none, "storage[0].iops: `iops` requires a device, and `interface: none` has none");
        let share = r#""type": "virtfs", "path": "/s", "bps": "1M""#;
        check_refused(share, "storage[0].bps: `type: virtfs` does not support `bps`");
    }
}
