//! Every key of a drive with every type and interface, every key of a card with every mode: what is taken is seen in
//! what QEMU is given or in what is made for it, and what would be ignored is refused.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Machine, builtin_handlers};
use crate::command_line::{Accelerator, CommandLine, LaunchContext};
use crate::config::{Node, Problem};
use crate::storage::{Interface, builtin_drivers};
use crate::vm::{BootNumber, RunPaths, VmName};

/// What comes of a definition: all of the command line, its helpers, and what must be there before QEMU is started.
fn outcome(definition: &Value) -> Result<String, Vec<Problem>> {
    let handlers = builtin_handlers(&builtin_drivers().unwrap()).unwrap();
    let definition: Node = serde_json::from_value(definition.clone()).unwrap();
    let machine = Machine::check(&definition, &handlers)?;
    let setting = LaunchContext {
        name: VmName::parse("web").unwrap(),
        id: "0d9f2ac3-58b1-4c3e-9a5e-2f1f6f0f7a11".parse().unwrap(),
        binary: PathBuf::from("/usr/bin/qemu-system-x86_64"),
        accelerator: Accelerator::Tcg,
        vm_storage: PathBuf::from("/d/storage/web"),
        paths: RunPaths::new(Path::new("/r/web"), Path::new("/s/web"), BootNumber(1)),
        uefi: None,
        is_root: false,
    };
    let line = CommandLine::new(&machine, &setting).unwrap();
    let made = machine.storage.iter().map(|storage| {
        let plan = storage.driver.preparation(storage, &storage.path(&setting.vm_storage));
        format!("{plan:?}")
    });
    Ok(std::iter::once(line.to_string()).chain(made).collect::<Vec<_>>().join("\n"))
}

/// Returns `entry` with `key` set.
fn with(entry: &Value, key: &str, value: &Value) -> Value {
    let mut entry = entry.clone();
    entry[key] = value.clone();
    entry
}

/// Adds to `ignored` what is taken and changes nothing, and to `silent` what is refused at another key.
fn look(list: &str, entry: &Value, key: &str, value: &Value, failed: &mut Vec<String>) -> bool {
    let definition = |entry: &Value| json!({ list: [entry] });
    let changed = with(entry, key, value);
    let Ok(before) = outcome(&definition(entry)) else {
        return false;
    };
    match outcome(&definition(&changed)) {
        Ok(after) if after == before => failed.push(format!("taken and ignored: {changed}")),
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

/// An entry of each type that is right, with nothing but what it needs.
fn drive(driver: &str) -> Value {
    match driver {
        "iso" => json!({"name": "a", "type": driver, "file": "/d/a.iso"}),
        "virtfs" => json!({"name": "a", "type": driver, "path": "/s"}),
        "virtiofs" => json!({"name": "a", "type": driver, "socket": "/r/s"}),
        _ => json!({"name": "a", "type": driver}),
    }
}

/// Values of the keys of drives, each of which changes something wherever it is taken.
fn of_drives() -> Vec<(&'static str, Value)> {
    vec![
        ("size", json!("3G")),
        ("file", json!("/d/other")),
        ("readonly", json!(true)),
        ("backing_file", json!("/d/base")),
        ("cache", json!("none")),
        ("cache", json!("writethrough")),
        ("cache", json!("directsync")),
        ("cache", json!("unsafe")),
        ("discard", json!(true)),
        ("discard", json!(false)),
        ("serial", json!("S-1")),
        ("bootindex", json!(3)),
        ("path", json!("/other")),
        ("options", json!({"readonly": true})),
        ("options", json!({"mount_tag": "t"})),
        ("options", json!({"security_model": "none"})),
        ("socket", json!("/r/other")),
        ("mount_tag", json!("t")),
    ]
}

#[test]
fn test_drive_every_key_with_every_type_and_interface_is_seen_or_refused() {
    let drivers = builtin_drivers().unwrap();
    let (mut failed, mut tried) = (Vec::new(), 0);
    for driver in drivers.names() {
        let bare = drive(driver);
        let attached = Interface::WORDS.map(|(word, _)| with(&bare, "interface", &json!(word)));
        for entry in std::iter::once(&bare).chain(&attached) {
            // A CD is read-only whether or not that is said.
            let is_said_already = |key: &str, value: &Value| driver == "iso" && key == "readonly" && value == true;
            for (key, value) in of_drives().iter().filter(|(key, value)| !is_said_already(key, value)) {
                tried += usize::from(look("storage", entry, key, value, &mut failed));
            }
        }
        for (word, _) in Interface::WORDS {
            let is_own = word == drivers.get(driver).unwrap().default_interface().as_str();
            if !is_own || driver.starts_with("virt") {
                look("storage", &bare, "interface", &json!(word), &mut failed);
            }
        }
    }
    assert_eq!(failed, Vec::<String>::new());
    assert!(tried > 300, "{tried}");
}

#[test]
fn test_drive_every_key_beside_every_other_is_seen_or_refused() {
    let drivers = builtin_drivers().unwrap();
    let mut failed = Vec::new();
    for driver in drivers.names() {
        for (key, value) in of_drives() {
            let entry = with(&drive(driver), key, &value);
            for (other, beside) in of_drives().iter().filter(|(other, _)| *other != key) {
                // The size of an image that is there already is compared with the one it has.
                let is_compared = *other == "size" && (key == "readonly");
                let is_said_already = *other == "readonly" && (driver == "iso" || key == "options");
                let is_said_inside = *other == "options" && key == "readonly";
                if !is_compared && !is_said_already && !is_said_inside {
                    look("storage", &entry, other, beside, &mut failed);
                }
            }
        }
    }
    assert_eq!(failed, Vec::<String>::new());
}

#[test]
fn test_drive_format_of_what_it_is_laid_over_is_seen_or_refused() {
    let mut failed = Vec::new();
    for driver in builtin_drivers().unwrap().names() {
        let entry = with(&drive(driver), "backing_file", &json!("/d/base"));
        look("storage", &entry, "backing_format", &json!("raw"), &mut failed);
        look("storage", &drive(driver), "backing_format", &json!("raw"), &mut failed);
    }
    assert_eq!(failed, Vec::<String>::new());
}

#[test]
fn test_drive_claim_against_its_type_is_refused_there() {
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
    ] {
        let problems = outcome(&json!({ "storage": [entry] })).unwrap_err();

        let told: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(told, [format!("storage[0].{key}")], "{entry}");
    }
}

#[test]
fn test_drive_null_says_as_much_as_no_key() {
    let handlers_know: Vec<&str> = builtin_drivers().unwrap().names();
    for driver in handlers_know {
        let entry = drive(driver);
        let expected = outcome(&json!({ "storage": [entry] })).unwrap();
        for (key, _) in of_drives().iter().filter(|(key, _)| entry.get(key).is_none()) {
            let is_foreign = ["path", "options", "socket", "mount_tag"].contains(key);
            let found = outcome(&json!({ "storage": [with(&entry, key, &Value::Null)] }));
            if !is_foreign {
                assert_eq!(found.as_ref(), Ok(&expected), "{driver} {key}");
            }
        }
    }
}

/// A card of each mode that is right, with nothing but what it needs.
fn card(mode: Option<&str>) -> Value {
    match mode {
        None => json!({"name": "n"}),
        Some("tap") => json!({"name": "n", "mode": "tap", "interface": "tap0"}),
        Some("bridge") => json!({"name": "n", "mode": "bridge", "bridge": "br0"}),
        Some(mode) => json!({"name": "n", "mode": mode}),
    }
}

#[test]
fn test_card_every_key_with_every_mode_is_seen_or_refused() {
    let modes = ["user", "tap", "bridge", "passt", "none"].map(Some);
    let (mut failed, mut tried) = (Vec::new(), 0);
    for mode in std::iter::once(None).chain(modes) {
        for (key, value) in [
            ("model", json!("e1000")),
            ("mac", json!("52:54:00:00:00:01")),
            ("forward", json!(["2222:22"])),
            ("bridge", json!("br1")),
            ("interface", json!("tap1")),
        ] {
            tried += usize::from(look("network", &card(mode), key, &value, &mut failed));
        }
    }
    assert_eq!(failed, Vec::<String>::new());
    assert_eq!(tried, 30);
}

#[test]
fn test_card_key_of_another_mode_is_told_with_the_mode_that_has_it() {
    for (card, message, help) in [
        (
            json!({"bridge": "br0"}),
            "`bridge` goes with `mode: bridge` only, and without a mode it is `user`",
            "set `mode: bridge`, or leave `bridge` out",
        ),
        (
            json!({"mode": "passt", "interface": "tap0"}),
            "`interface` goes with `mode: tap` only, and this is `mode: passt`",
            "set `mode: tap`, or leave `interface` out",
        ),
        (
            json!({"mode": "none", "forward": ["1:1"]}),
            "`forward` is of a card, and `mode: none` makes none",
            "set `mode: user` or `mode: passt`, or leave `forward` out",
        ),
    ] {
        let problems = outcome(&json!({ "network": card })).unwrap_err();

        let told: Vec<_> = problems.iter().map(|one| (one.message.as_str(), one.help.as_deref())).collect();
        assert_eq!(told, [(message, Some(help))]);
    }
    assert!(outcome(&json!({"network": {"mode": "tap", "interface": "t", "forward": [], "bridge": null}})).is_ok());
}
