//! The examples do what they say: each ends with success.

use std::path::PathBuf;
use std::process::Command;

/// Returns an example that Cargo built beside this test.
fn example(name: &str) -> Command {
    let beside = std::env::current_exe().expect("a test is a program");
    let folder: PathBuf = beside.ancestors().nth(2).expect("Cargo keeps tests two folders deep").join("examples");
    Command::new(folder.join(name))
}

#[track_caller]
fn check(name: &str) {
    let done = example(name).output().expect("Cargo builds examples before tests");

    assert!(done.status.success(), "{name}: {}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn test_example_session_finds_no_vm_in_empty_folder() {
    let folder = tempfile::tempdir().expect("there is room");
    let variables = ["DATA", "STATE", "RUNTIME", "CONFIG"].map(|of| (format!("MAQET_{of}_DIR"), folder.path()));

    let done = example("one_session").args(["web", "query-status", "3"]).envs(variables).output();

    let said = done.expect("Cargo builds examples before tests");
    assert!(!said.status.success());
    assert!(String::from_utf8_lossy(&said.stderr).contains("NoSuchVm"), "{said:?}");
}

#[test]
fn test_example_storage_type_runs_successfully() {
    check("custom_storage");
}

#[test]
fn test_example_configuration_key_runs_successfully() {
    check("custom_config_key");
}
