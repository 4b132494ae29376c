//! Every key of a drive with every type and interface, and every key of a card with every mode: an accepted key changes
//! the command line or the images, and a key without effect is refused.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use strum::VariantNames;

use super::{Machine, builtin_handlers};
use crate::command_line::{Accelerator, CommandLine, LaunchContext};
use crate::config::{Node, Problem};
use crate::qmp::versions::TESTED;
use crate::storage::{FileKinds, Interface, builtin_drivers};
use crate::vm::{BootNumber, RunPaths, VmName};

/// Returns the command line of a definition, with its helpers, and the preparation of its drives.
fn outcome(definition: &Value) -> Result<String, Vec<Problem>> {
    let handlers = builtin_handlers(&builtin_drivers().unwrap()).unwrap();
    let definition: Node = serde_json::from_value(definition.clone()).unwrap();
    let machine = Machine::check(&definition, &handlers)?;
    let context = LaunchContext {
        name: VmName::parse("web").unwrap(),
        id: "0d9f2ac3-58b1-4c3e-9a5e-2f1f6f0f7a11".parse().unwrap(),
        binary: PathBuf::from("/usr/bin/qemu-system-x86_64"),
        architecture: "x86_64".to_owned(),
        accelerator: Accelerator::Tcg,
        vm_storage: PathBuf::from("/d/storage/web"),
        paths: RunPaths::new(Path::new("/r/web"), Path::new("/s/web"), BootNumber(1)),
        uefi: None,
        tpm: None,
        credentials: Vec::new(),
        file_kinds: FileKinds::default(),
        version: TESTED[0],
        is_root: false,
    };
    let line = CommandLine::new(&machine, &context).unwrap();
    let preparations = machine.storage.iter().map(|storage| {
        let plan = storage.driver.preparation(storage, &storage.path(&context.vm_storage));
        format!("{plan:?}")
    });
    Ok(std::iter::once(line.to_string()).chain(preparations).collect::<Vec<_>>().join("\n"))
}

/// Returns `entry` with `key` set.
fn with(entry: &Value, key: &str, value: &Value) -> Value {
    let mut entry = entry.clone();
    entry[key] = value.clone();
    entry
}

/// Adds to `failed` a key that is accepted without effect, or refused at another key.
fn check(list: &str, entry: &Value, key: &str, value: &Value, failed: &mut Vec<String>) -> bool {
    let definition = |entry: &Value| json!({ list: [entry] });
    let changed = with(entry, key, value);
    let Ok(before) = outcome(&definition(entry)) else {
        return false;
    };
    match outcome(&definition(&changed)) {
        Ok(after) if after == before => failed.push(format!("accepted without effect: {changed}")),
        Ok(_) => {}
        Err(problems) => {
            let at = format!("{list}[0].{key}");
            if !problems.iter().any(|problem| problem.path == at) {
                failed.push(format!("refused, but not at `{key}`: {changed}: {problems:?}"));
            }
        }
    }
    true
}

/// A minimal valid entry of each type.
fn drive(driver: &str) -> Value {
    match driver {
        "iso" | "vmdk" | "vdi" | "vhdx" | "vpc" => json!({"name": "a", "type": driver, "file": "/d/a"}),
        "virtfs" => json!({"name": "a", "type": driver, "path": "/s"}),
        "virtiofs" => json!({"name": "a", "type": driver, "socket": "/r/s"}),
        _ => json!({"name": "a", "type": driver}),
    }
}

/// Values of the keys of drives, each with an effect wherever it is accepted.
fn drive_values() -> Vec<(&'static str, Value)> {
    vec![
        ("size", json!("3G")),
        ("file", json!("/d/other")),
        ("readonly", json!(true)),
        ("snapshot", json!(true)),
        ("backing_file", json!("/d/base")),
        ("cache", json!("none")),
        ("cache", json!("writethrough")),
        ("cache", json!("directsync")),
        ("cache", json!("unsafe")),
        ("discard", json!(true)),
        ("discard", json!(false)),
        ("serial", json!("S-1")),
        ("bootindex", json!(3)),
        ("aio", json!("threads")),
        ("aio", json!("io_uring")),
        ("aio", json!("native")),
        ("controller", json!("second")),
        ("port", json!(3)),
        ("iops", json!(500)),
        ("bps", json!({"read": "1M", "write": "2M"})),
        ("werror", json!("stop")),
        ("rerror", json!("report")),
        ("path", json!("/other")),
        ("options", json!({"readonly": true})),
        ("options", json!({"mount_tag": "t"})),
        ("options", json!({"security_model": "none"})),
        ("socket", json!("/r/other")),
        ("mount_tag", json!("t")),
    ]
}

#[test]
fn test_drive_keys_with_every_type_and_interface() {
    let drivers = builtin_drivers().unwrap();
    let (mut failed, mut tried) = (Vec::new(), 0);
    for driver in drivers.names() {
        let bare = drive(driver);
        let attached = Interface::VARIANTS.iter().map(|name| with(&bare, "interface", &json!(name)));
        for entry in std::iter::once(&bare).chain(&attached.collect::<Vec<_>>()) {
            // A CD is read-only anyway.
            let is_redundant = |key: &str, value: &Value| driver == "iso" && key == "readonly" && value == true;
            for (key, value) in drive_values().iter().filter(|(key, value)| !is_redundant(key, value)) {
                tried += usize::from(check("storage", entry, key, value, &mut failed));
            }
        }
        for name in Interface::VARIANTS {
            let is_own = *name == drivers.get(driver).unwrap().default_interface().to_string();
            if !is_own || driver.starts_with("virt") {
                check("storage", &bare, "interface", &json!(name), &mut failed);
            }
        }
    }
    assert_eq!(failed, Vec::<String>::new());
    assert!(tried > 300, "{tried}");
}

#[test]
fn test_drive_keys_in_pairs() {
    let drivers = builtin_drivers().unwrap();
    let mut failed = Vec::new();
    for driver in drivers.names() {
        for (key, value) in drive_values() {
            let entry = with(&drive(driver), key, &value);
            for (other, beside) in drive_values().iter().filter(|(other, _)| *other != key) {
                // The size of an image that is there already is compared with the one it has.
                let is_compared = *other == "size" && (key == "readonly");
                let is_said_already = *other == "readonly" && (driver == "iso" || key == "options");
                let is_said_inside = *other == "options" && key == "readonly";
                let is_pointless = *other == "readonly" && key == "snapshot";
                if !is_compared && !is_said_already && !is_said_inside && !is_pointless {
                    check("storage", &entry, other, beside, &mut failed);
                }
            }
        }
    }
    assert_eq!(failed, Vec::<String>::new());
}

#[test]
fn test_drive_backing_format_with_every_type() {
    let mut failed = Vec::new();
    for driver in builtin_drivers().unwrap().names() {
        let entry = with(&drive(driver), "backing_file", &json!("/d/base"));
        check("storage", &entry, "backing_format", &json!("raw"), &mut failed);
        check("storage", &drive(driver), "backing_format", &json!("raw"), &mut failed);
    }
    assert_eq!(failed, Vec::<String>::new());
}

#[test]
fn test_drive_key_that_contradicts_its_type_is_refused() {
    for (entry, key) in [
        (json!({"name": "a", "type": "virtiofs", "socket": "/r/s", "readonly": true}), "readonly"),
        (json!({"name": "a", "type": "virtiofs", "socket": "/r/s", "readonly": false}), "readonly"),
        (json!({"name": "a", "type": "iso", "file": "/d/a.iso", "readonly": false}), "readonly"),
        (
            json!({"name": "a", "type": "virtfs", "path": "/s", "readonly": false, "options": {"readonly": true}}),
            "options.readonly",
        ),
        (json!({"name": "a", "interface": "none", "serial": "x"}), "serial"),
        (json!({"name": "a", "interface": "none", "bootindex": 0}), "bootindex"),
        (json!({"name": "a", "interface": "none", "cache": "directsync"}), "cache"),
        (json!({"name": "a", "interface": "none", "werror": "stop"}), "werror"),
        (json!({"name": "a", "interface": "nvme", "rerror": "report"}), "rerror"),
        (json!({"name": "a", "type": "nvme", "werror": "auto"}), "werror"),
        (json!({"name": "a", "type": "virtfs", "path": "/s", "werror": "stop"}), "werror"),
        (json!({"name": "a", "werror": "halt"}), "werror"),
    ] {
        let problems = outcome(&json!({ "storage": [entry] })).unwrap_err();

        let paths: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(paths, [format!("storage[0].{key}")], "{entry}");
    }
}

#[test]
fn test_drive_null_is_a_missing_key() {
    for driver in builtin_drivers().unwrap().names() {
        let entry = drive(driver);
        let expected = outcome(&json!({ "storage": [entry] })).unwrap();
        for (key, _) in drive_values().iter().filter(|(key, _)| entry.get(key).is_none()) {
            let is_foreign = ["path", "options", "socket", "mount_tag"].contains(key);
            let found = outcome(&json!({ "storage": [with(&entry, key, &Value::Null)] }));
            if !is_foreign {
                assert_eq!(found.as_ref(), Ok(&expected), "{driver} {key}");
            }
        }
    }
}

/// A minimal valid card of each mode.
fn card(mode: Option<&str>) -> Value {
    match mode {
        None => json!({"name": "n"}),
        Some("tap") => json!({"name": "n", "mode": "tap", "interface": "tap0"}),
        Some("bridge") => json!({"name": "n", "mode": "bridge", "bridge": "br0"}),
        Some("stream") => json!({"name": "n", "mode": "stream", "listen": "lab:4000"}),
        Some("dgram") => json!({"name": "n", "mode": "dgram", "local": "lab:4000", "remote": "lab:4001"}),
        Some(mode) => json!({"name": "n", "mode": mode}),
    }
}

#[test]
fn test_card_keys_with_every_mode() {
    let modes = ["user", "tap", "bridge", "passt", "stream", "dgram", "none"].map(Some);
    let (mut failed, mut tried) = (Vec::new(), 0);
    for mode in std::iter::once(None).chain(modes) {
        for (key, value) in [
            ("model", json!("e1000")),
            ("mac", json!("52:54:00:00:00:01")),
            ("forward", json!(["2222:22"])),
            ("bridge", json!("br1")),
            ("interface", json!("tap1")),
            ("bootindex", json!(2)),
            ("restrict", json!(true)),
            ("subnet", json!("192.168.76.0/24")),
            ("listen", json!("/r/listen")),
            ("connect", json!("/r/connect")),
            ("local", json!("lab:4002")),
            ("remote", json!("230.0.0.1:4003")),
        ] {
            tried += usize::from(check("network", &card(mode), key, &value, &mut failed));
        }
    }
    assert_eq!(failed, Vec::<String>::new());
    assert_eq!(tried, 96);
}

#[test]
fn test_card_key_of_another_mode_names_that_mode() {
    for (card, message, help) in [
        (
            json!({"bridge": "br0"}),
            "`mode: user`, the default, does not support `bridge`",
            "set `mode: bridge`, or remove `bridge`",
        ),
        (
            json!({"mode": "passt", "interface": "tap0"}),
            "`mode: passt` does not support `interface`",
            "set `mode: tap`, or remove `interface`",
        ),
        (
            json!({"mode": "stream", "listen": "/r/a", "remote": "/r/b"}),
            "`mode: stream` does not support `remote`",
            "set `mode: dgram`, or remove `remote`",
        ),
        (
            json!({"mode": "none", "forward": ["1:1"]}),
            "`mode: none` does not support `forward`",
            "set `mode: user` or `mode: passt`, or remove `forward`",
        ),
    ] {
        let problems = outcome(&json!({ "network": card })).unwrap_err();

        let found: Vec<_> = problems.iter().map(|one| (one.message.as_str(), one.help.as_deref())).collect();
        assert_eq!(found, [(message, Some(help))]);
    }
    assert!(outcome(&json!({"network": {"mode": "tap", "interface": "t", "forward": [], "bridge": null}})).is_ok());
}
