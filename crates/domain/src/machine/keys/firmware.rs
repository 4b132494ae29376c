//! `firmware`: the firmware, and how it is used.

use std::path::Path;

use serde_json::json;

use super::map_at;
use crate::config::{Diagnostics, KeyPath, Node, Value, schema};
use crate::machine::{Firmware, Machine, UefiOptions};
use crate::text::{did_you_mean, similar};

/// The values of `firmware` that are not paths; a path needs a `/` or `.`, so that a mistyped name is an error.
const NAMES: [&str; 2] = ["bios", "uefi"];

const KEYS: [&str; 4] = ["type", "secure_boot", "code", "variables"];

const PATHS: [&str; 2] = ["code", "variables"];

/// Returns the JSON Schema of `firmware`.
pub(super) fn schema() -> serde_json::Value {
    let map = schema::map(vec![
        ("type", schema::one_of(NAMES)),
        ("secure_boot", schema::boolean()),
        ("code", json!({ "type": "string" })),
        ("variables", json!({ "type": "string" })),
    ]);
    json!({ "anyOf": [schema::one_of(NAMES), { "type": "string", "pattern": "[/.]" }, map] })
}

/// Resolves the paths against the directory of their file.
pub(super) fn rebase(node: Node, folder: &Path) -> Node {
    if node.as_text().is_some_and(is_image_path) {
        return node.rebased(folder);
    }
    node.map_entries(|entries| {
        let rebased = |(key, value): (String, Node)| {
            let value = if PATHS.contains(&key.as_str()) { value.rebased(folder) } else { value };
            (key, value)
        };
        entries.into_iter().map(rebased).collect()
    })
}

/// Reads `firmware`: a name, the path of an image, or a map.
pub(super) fn apply(path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Diagnostics) {
    let firmware = match &node.value {
        Value::Map(entries) => options(path, node, entries, report),
        _ => name_or_path(path, node, report),
    };
    if let Some(firmware) = firmware {
        machine.firmware = firmware;
    }
}

/// Returns `uefi` as a map; other firmware has no options, and an option without a type is one of UEFI.
pub(super) fn as_map(node: &Node) -> Option<Node> {
    let name = node.as_text().filter(|name| *name == "uefi")?;
    Some(map_at(node, [("type", Value::Text(name.to_owned()))]))
}

fn is_image_path(text: &str) -> bool {
    text.contains(['/', '.'])
}

fn name_or_path(path: &KeyPath, node: &Node, report: &mut Diagnostics) -> Option<Firmware> {
    let text = report.line(path, node)?;
    match text.as_str() {
        "bios" => Some(Firmware::Default),
        "uefi" => Some(Firmware::Uefi(UefiOptions::default())),
        file if is_image_path(file) => report.path(path, node).map(Firmware::File),
        other => {
            let help = did_you_mean(&similar(other, NAMES))
                .unwrap_or_else(|| format!("write a file of this name as `./{}`", other.escape_debug()));
            let message =
                format!("expected `bios`, `uefi`, the path of an image or a map, found {}", node.description());
            report.error_with_help(path, node, message, Some(help));
            None
        }
    }
}

/// Reads the map; its other keys are about UEFI, and so is the map without a `type`.
fn options(path: &KeyPath, node: &Node, entries: &[(String, Node)], report: &mut Diagnostics) -> Option<Firmware> {
    for (key, value) in entries.iter().filter(|(key, _)| !KEYS.contains(&key.as_str())) {
        report.unknown_key(&path.key(key), value, &KEYS);
    }
    let kind = match node.non_null("type") {
        Some(kind) => report.one_of(&path.key("type"), kind, &NAMES)?,
        None => "uefi",
    };
    if kind == "bios" {
        for key in &KEYS[1..] {
            if let Some(value) = node.non_null(key) {
                let help = Some("set `type: uefi`, or remove it".to_owned());
                report.key_error(&path.key(key), value, format!("`{key}` requires `type: uefi`"), help);
            }
        }
        return Some(Firmware::Default);
    }
    let secure_boot = match node.non_null("secure_boot") {
        Some(value) => report.boolean(&path.key("secure_boot"), value)?,
        None => false,
    };
    let mut file = |key: &str| match node.non_null(key) {
        Some(value) => report.path(&path.key(key), value).map(Some),
        None => Some(None),
    };
    let (code, variables) = (file("code")?, file("variables")?);
    if code.is_some() && variables.is_none() {
        // Those of an installed firmware need not fit.
        report.missing(path, node, "`code` requires `variables`");
        return None;
    }
    Some(Firmware::Uefi(UefiOptions { secure_boot, code, variables }))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::machine::reading;

    fn read(firmware: &str) -> (Firmware, Vec<String>) {
        let (machine, problems) = reading::read(&format!(r#"{{"firmware": {firmware}}}"#));
        (machine.firmware, problems)
    }

    #[test]
    fn test_firmware_map_is_uefi_with_options() {
        let uefi = |secure_boot, variables: Option<&str>| {
            Firmware::Uefi(UefiOptions { secure_boot, code: None, variables: variables.map(PathBuf::from) })
        };

        for (text, expected) in [
            (r#""uefi""#, uefi(false, None)),
            (r#"{"type": "uefi"}"#, uefi(false, None)),
            (r#"{"type": "uefi", "secure_boot": true}"#, uefi(true, None)),
            (r#"{"secure_boot": "off", "variables": "/v.fd"}"#, uefi(false, Some("/v.fd"))),
            (r#"{"type": null, "secure_boot": null, "variables": null}"#, uefi(false, None)),
            (r#"{"type": "bios"}"#, Firmware::Default),
            (r#""/f.bin""#, Firmware::File(PathBuf::from("/f.bin"))),
        ] {
            assert_eq!(read(text), (expected, Vec::new()), "{text}");
        }
    }

    #[test]
    fn test_firmware_code_has_variables_of_its_own() {
        let (firmware, problems) = read(r#"{"code": "/c.fd", "variables": "/v.fd"}"#);

        let files = firmware.uefi().map(|uefi| (uefi.code.clone(), uefi.variables.clone()));
        assert_eq!((files, problems), (Some((Some("/c.fd".into()), Some("/v.fd".into()))), Vec::new()));
    }

    #[test]
    fn test_firmware_wrong_option_is_one_error() {
        for (text, expected) in [
            (r#"{"type": "efi"}"#, "firmware.type: expected one of `bios`, `uefi`, found the string `efi`"),
            (r#"{"type": "bios", "secure_boot": true}"#, "firmware.secure_boot: `secure_boot` requires `type: uefi`"),
            (r#"{"type": "bios", "variables": "/v"}"#, "firmware.variables: `variables` requires `type: uefi`"),
            (r#"{"secureboot": true}"#, "firmware.secureboot: unknown key `secureboot`"),
            (
                r#"{"secure_boot": "maybe"}"#,
                "firmware.secure_boot: expected `true` or `false`, found the string `maybe`",
            ),
            (r#"{"variables": "~/v.fd"}"#, "firmware.variables: `~` is expanded by shells only"),
            (r#"{"type": "bios", "code": "/c"}"#, "firmware.code: `code` requires `type: uefi`"),
            (r#"{"code": "/c.fd"}"#, "firmware: `code` requires `variables`"),
            (r#"["uefi"]"#, "firmware: expected a string, found a list"),
        ] {
            assert_eq!(read(text).1, [expected], "{text}");
        }
    }

    #[test]
    fn test_rebase_resolves_image_and_variables_only() {
        let rebased = |text: &str| {
            let node = rebase(serde_json::from_str(text).unwrap(), Path::new("/d"));
            serde_json::to_string(&node).unwrap()
        };

        assert_eq!(rebased(r#""uefi""#), r#""uefi""#);
        assert_eq!(rebased(r#""./f.bin""#), r#""/d/./f.bin""#);
        let map = r#"{"type":"uefi","code":"CODE","variables":"VARS"}"#;
        assert_eq!(rebased(map), r#"{"type":"uefi","code":"/d/CODE","variables":"/d/VARS"}"#);
    }
}
