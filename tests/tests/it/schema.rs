//! The JSON Schema of `config schema`, as editors read it, checked by an independent validator.

use std::fs;
use std::path::{Path, PathBuf};

use jsonschema::Validator;
use maqet_testkit::TestHome;
use serde_json::{Value, json};

/// Returns the schema as the command prints it.
fn schema() -> Value {
    TestHome::new().json(&["config", "schema"])
}

fn validator() -> Validator {
    jsonschema::draft202012::new(&schema()).expect("the schema is one")
}

/// Returns the configurations of a folder of this workspace, in order, each as an editor reads it: by YAML 1.2.
#[track_caller]
fn configurations(folder: &str) -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("the folder can be read").path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "yaml"));
    files.sort();
    let named = |path: PathBuf| {
        let name = path.file_stem()?.to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).ok()?;
        let options = serde_yaml::options! { strict_booleans: true };
        Some((name, serde_yaml::from_str_with_options(&text, options).ok()?))
    };
    files.into_iter().filter_map(named).collect()
}

/// Checks that the schema accepts all configurations of a folder, of which there are `count` at least.
#[track_caller]
fn check_accepted(folder: &str, count: usize) {
    let validator = validator();
    let configurations = configurations(folder);

    let complaints: Vec<String> = configurations
        .iter()
        .flat_map(|(name, value)| validator.iter_errors(value).map(move |error| format!("{name}: {error}")))
        .collect();

    assert!(configurations.len() >= count, "{folder} has {} files", configurations.len());
    assert_eq!(complaints, Vec::<String>::new());
}

#[test]
fn test_schema_is_valid_by_its_draft() {
    let schema = schema();

    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let complaint = jsonschema::meta::validate(&schema).err().map(|error| error.to_string());
    assert_eq!(complaint, None);
}

#[test]
fn test_schema_accepts_documented_examples() {
    check_accepted("../docs/examples", 5);
}

#[test]
fn test_schema_accepts_files_of_python_version() {
    check_accepted("data/python", 6);
}

#[test]
fn test_schema_accepts_every_form_accepted_by_check() {
    let home = TestHome::new();
    let validator = validator();

    let right = [
        json!({"name": "web", "memory": 512, "cpu": "2", "vga": null, "sandbox": "off"}),
        json!({"name": "web", "network": "user", "machine": {"type": "q35", "usb": true}, "boot": "c"}),
        json!({"name": "web", "network": ["none"], "storage": null, "labels": {"a": 1, "b": true}}),
        json!({"name": "web", "network": {"mode": "user", "forward": ["2222:22"], "mac": "52:54:00:12:34:56"}}),
        json!({"name": "web", "storage": [{"name": "a", "size": "1.5G", "discard": true, "bootindex": 1}]}),
        json!({"name": "web", "storage": [{"name": "a", "size": 1_048_576, "discard": "unmap", "serial": 7}]}),
        json!({"name": "web", "arguments": ["enable-kvm", {"smp": 2}, {"foo": ["a", "b"]}], "args": ["-smp", 1]}),
    ];

    for definition in right {
        home.write("vm.yaml", definition.to_string());
        home.maqet(["config", "check", "vm.yaml"]).run().ok();
        assert!(validator.is_valid(&definition), "{definition}");
    }
}

/// The broken files that a schema cannot detect: names and sizes with their own grammar, rules between two keys or
/// entries, paths, and the result of merging several files.
const BEYOND_A_SCHEMA: [&str; 38] = [
    "arguments-comma-in-an-option",
    "arguments-daemonize",
    "arguments-nul",
    "arguments-once-only",
    "bad-name",
    "network-33-cards",
    "network-bad-forward",
    "network-bad-mac",
    "network-bridge-without-mode",
    "network-duplicate-name",
    "network-forward-without-network",
    "network-one-address",
    "pair-once-only.over",
    "pair-once-only",
    "pair-type-change.over",
    "pair-type-change",
    "path-of-home",
    "serial-word",
    "share-etc",
    "share-unknown-option",
    "share-virtiofs-readonly",
    "share-without-path",
    "share-wrong-type",
    "storage-29-virtio",
    "storage-backing-missing",
    "storage-bad-name",
    "storage-bad-path",
    "storage-below-usr",
    "storage-duplicate-name",
    "storage-folder",
    "storage-iso-without-file",
    "storage-one-file",
    "storage-raw-with-backing-file",
    "storage-readonly-ide",
    "storage-serial-without-device",
    "storage-too-large",
    "tags",
    "words-of-qemu",
];

#[test]
fn test_schema_refuses_broken_files_within_its_reach() {
    let validator = validator();
    let broken = configurations("data/broken");

    let accepted: Vec<&str> =
        broken.iter().filter(|(_, value)| validator.is_valid(value)).map(|(name, _)| name.as_str()).collect();

    assert!(broken.len() - accepted.len() >= 25, "{} of {}", accepted.len(), broken.len());
    assert_eq!(accepted, BEYOND_A_SCHEMA);
}
