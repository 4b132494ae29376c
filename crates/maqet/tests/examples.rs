//! Runs the examples.

use std::path::PathBuf;
use std::process::Command;

/// Returns the command of an example, which Cargo built beside this test.
fn example(name: &str) -> Command {
    let test = std::env::current_exe().expect("a test is a program");
    let folder: PathBuf = test.ancestors().nth(2).expect("Cargo puts tests two directories deep").join("examples");
    Command::new(folder.join(name))
}

#[track_caller]
fn check(name: &str) {
    let output = example(name).output().expect("Cargo builds examples before tests");

    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn test_example_session_finds_no_vm_in_empty_folder() {
    let folder = tempfile::tempdir().expect("there is space");
    let variables = ["DATA", "STATE", "RUNTIME", "CONFIG"].map(|kind| (format!("MAQET_{kind}_DIR"), folder.path()));

    let output = example("one_session").args(["web", "query-status", "3"]).envs(variables).output();

    let output = output.expect("Cargo builds examples before tests");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("NoSuchVm"), "{output:?}");
}

#[test]
fn test_example_storage_type_runs_successfully() {
    check("custom_storage");
}

#[test]
fn test_example_everyday_runs_successfully() {
    check("everyday");
}

#[test]
fn test_example_configuration_key_runs_successfully() {
    check("custom_config_key");
}

#[test]
fn test_example_store_runs_successfully() {
    check("custom_store");
}

#[test]
fn test_example_forks_runs_successfully() {
    check("ten_from_one");
}
