//! The examples do what they say: each ends with success.

use std::path::PathBuf;
use std::process::Command;

/// Runs an example that Cargo built beside this test.
#[track_caller]
fn check(name: &str) {
    let beside = std::env::current_exe().expect("a test is a program");
    let folder: PathBuf = beside.ancestors().nth(2).expect("Cargo keeps tests two folders deep").join("examples");

    let done = Command::new(folder.join(name)).output().expect("Cargo builds examples before tests");

    assert!(done.status.success(), "{name}: {}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn test_example_of_a_storage_type_runs() {
    check("custom_storage");
}

#[test]
fn test_example_of_a_configuration_key_runs() {
    check("custom_config_key");
}
