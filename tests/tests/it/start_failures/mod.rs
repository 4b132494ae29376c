//! Starts that QEMU refuses: the cause in our words, a hint that fits, and the exit code; and what it warns about.
//!
//! Each failure is a real one, on each version of QEMU. No hint of a known failure is only to look at the command line.

mod files;
mod limits;
mod memory;
mod mistakes;
mod options;
mod rare;
mod unusual;
mod values;

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use maqet_testkit::{TestHome, qemu};
use serde_json::{Value, json};

/// A start that fails: keys, exit code, error code, a part of the message, and a hint; `…` at its end stands for what
/// depends on the version of QEMU.
pub(crate) type Case<'a> = (&'a str, i32, &'a str, &'a str, &'a str);

#[track_caller]
fn check(home: &TestHome, case: Case<'_>) {
    check_with("accel: tcg\nmemory: 32M\n", home, case);
}

/// Checks the failure of a VM that has the keys `common`, too.
#[track_caller]
pub(crate) fn check_with(common: &str, home: &TestHome, (keys, exit, code, cause, hint): Case<'_>) {
    home.add(&format!("name: web\n{common}{keys}"));

    let error = home.json_error(&["start", "web"], exit);

    assert_eq!(error["code"], code, "{keys}: {error}");
    assert!(error["message"].as_str().unwrap().contains(cause), "{keys}: {error}");
    let hints = error["hints"].as_array().unwrap();
    let hints: Vec<String> = hints.iter().map(|one| without_places(home, one.as_str().unwrap())).collect();
    let is_it = |one: &String| hint.strip_suffix('…').map_or(one == hint, |begin| one.starts_with(begin));
    assert!(hints.iter().any(is_it), "{keys}: {hints:#?}");
    assert_explained(&error);
    assert!(!error["causes"].as_array().unwrap().is_empty(), "{keys}: {error}");
    home.json(&["rm", "web"]);
}

/// Returns a hint with `HOME` for the directory of the test, and QEMU without its directory.
fn without_places(home: &TestHome, hint: &str) -> String {
    let hint = hint.replace(home.root().to_str().unwrap(), "HOME");
    let parts = hint.split('`').map(|part| match part.split_once("/qemu-system-") {
        Some((place, rest)) if place.starts_with('/') && !place.contains(' ') => format!("qemu-system-{rest}"),
        _ => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join("`")
}

#[track_caller]
fn check_all(cases: &[Case<'_>]) {
    let home = TestHome::new();
    for case in cases {
        check(&home, *case);
    }
}
/// A line that says why is not hidden by another row's text in a warning, or in a try that QEMU gave up.
#[test]
fn test_last_reason_of_an_exit_is_the_one_reported() {
    check_all(&[
        (
            "cpu_model: Skylake-Client\narguments: [{netdev: user, id: n}, {device: e1000, colour: red}]\n",
            2,
            "device.property-not-found",
            "no property `colour`",
            "list its properties with `qemu-system-x86_64 -device e1000,help`",
        ),
        (
            "arguments: [{chardev: \"null,id=Too many open files\"}]\n",
            2,
            "qemu.option-invalid",
            "id",
            "correct it in `-chardev null,id=Too many open files`",
        ),
    ]);
}
/// Returns the error of a start with these keys.
pub(crate) fn error_of(keys: &str, exit: i32) -> Value {
    let home = TestHome::new();
    home.add(&format!("name: web\naccel: tcg\nmemory: 32M\n{keys}"));
    let error = home.json_error(&["start", "web"], exit);
    assert_explained(&error);
    error
}

/// Checks that the hints are not only those of an unknown failure.
#[track_caller]
pub(crate) fn assert_explained(error: &Value) {
    let hints = error["hints"].to_string();
    assert!(error["code"] != "vm.start-failed" && !hints.contains("--command-line"), "{error}");
}

#[test]
fn test_cpu_of_the_host_without_kvm_offers_max() {
    let error = error_of("cpu_model: host\n", 69);

    assert_eq!(error["code"], "host.kvm-unavailable");
    assert!(error["message"].as_str().unwrap().ends_with("which the VM does not use: `accel` is `tcg`"), "{error}");
    assert_eq!(error["hints"][0], "set `cpu_model: max` for all features that TCG emulates");
}

#[test]
fn test_image_that_a_vm_uses_twice_is_said_to_be() {
    let error = error_of(
        "storage: [{name: a, size: 1M, file: a.qcow2}]\narguments: [{drive: {file: a.qcow2, format: qcow2}}]\n",
        2,
    );

    assert_eq!(error["code"], "storage.use-conflict");
    assert!(error["message"].as_str().unwrap().ends_with("/a.qcow2` twice"), "{error}");
}

#[test]
fn test_image_that_a_vm_uses_twice_by_another_path_is_said_to_be() {
    let home = TestHome::new();
    std::os::unix::fs::symlink(".", home.path("link")).unwrap();
    let status = Command::new(qemu::image_tool())
        .args(["create", "-q", "-f", "qcow2", "a.qcow2", "1M"])
        .current_dir(home.root())
        .status();
    assert!(status.unwrap().success());
    fs::hard_link(home.path("a.qcow2"), home.path("hard.qcow2")).unwrap();
    for file in ["link/a.qcow2", "hard.qcow2"] {
        home.add(&format!(
            "name: web\naccel: tcg\nmemory: 32M\nstorage: [{{name: a, file: a.qcow2}}]\narguments: [{{drive: {{file: \
             {file}, format: qcow2}}}}]\n",
        ));

        let error = home.json_error(&["start", "web"], 2);

        assert_eq!(error["code"], "storage.use-conflict", "{file}: {error}");
        assert_explained(&error);
        home.json(&["rm", "web"]);
    }
}

/// A backing file that another VM writes cannot be shared by `readonly`.
#[test]
fn test_backing_file_that_another_vm_writes_is_to_be_copied() {
    let home = TestHome::new();
    let image = |arguments: &[&str]| {
        let status = Command::new(qemu::image_tool()).args(arguments).current_dir(home.root()).status();
        assert!(status.unwrap().success());
    };
    image(&["create", "-q", "-f", "qcow2", "base.qcow2", "1M"]);
    image(&["create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "overlay.qcow2"]);
    let yaml = |name: &str, keys: &str| format!("name: {name}\naccel: tcg\nmemory: 32M\n{keys}");
    home.add(&yaml("writer", "storage: [{name: a, file: base.qcow2}]\narguments: [S]\n"));
    home.json(&["start", "writer"]);
    let copy = format!(
        "copy the backing file `{}` for one of the two: VM `writer` writes to it, which damages its overlays",
        home.path("base.qcow2").display()
    );
    let share = "set `readonly: true` for the drive in both VMs, if neither writes it";

    for (name, keys, hint) in [
        ("key", "storage: [{name: a, file: overlay.qcow2}]\n", copy.as_str()),
        ("switch", "arguments: [{drive: {file: overlay.qcow2, format: qcow2}}]\n", &copy),
        ("same", "storage: [{name: a, file: base.qcow2}]\n", share),
        ("raw", "arguments: [{drive: {file: base.qcow2, format: qcow2}}]\n", share),
    ] {
        home.add(&yaml(name, keys));

        let error = home.json_error(&["start", name], 75);

        assert_eq!((&error["code"], &error["hints"][1]), (&json!("storage.in-use"), &json!(hint)), "{name}: {error}");
        assert_explained(&error);
    }
}

#[test]
fn test_sandbox_that_ends_qemu_is_named() {
    let home = TestHome::new();
    // Definitions with such switches are refused before.
    let script = format!("#!/bin/sh\nexec {} \"$@\" -netdev bridge,id=n\n", qemu::emulator().display());
    let binary = home.write("qemu", script);
    fs::set_permissions(&binary, Permissions::from_mode(0o700)).unwrap();
    home.add(&format!("name: web\naccel: tcg\nmemory: 32M\nbinary: {}\n", binary.display()));

    let error = home.json_error(&["start", "web"], 4);

    assert_eq!(error["code"], "vm.sandbox-refused");
    assert_explained(&error);
    assert_eq!(error["hints"][0], "set `sandbox: false` if you trust the guest");
}

#[test]
fn test_limits_of_memory_and_open_files_are_named() {
    let home = TestHome::new();
    home.write("a.img", [0; 4096]);
    let drive = |number| {
        format!("{{blockdev: {{driver: file, filename: a.img, read-only: on, locking: off, node-name: n{number}}}}}")
    };
    let drives: Vec<String> = (0..80).map(drive).collect();
    home.add(&format!("name: files\naccel: tcg\nmemory: 32M\narguments: [{}]\n", drives.join(", ")));
    home.add("name: memory\naccel: tcg\nmemory: 60T\n");
    let limit = ["prlimit", "--nofile=64"].map(OsString::from);

    let files = home.maqet(["start", "files", "--format", "json"]).through(&limit).run().code(69).json_error();
    let memory = home.json_error(&["start", "memory"], 69);

    assert_eq!(
        (&files["error"]["code"], &memory["code"]),
        (&json!("host.open-files-full"), &json!("host.memory-full"))
    );
    assert_eq!(files["error"]["hints"][0], "raise the limit with `ulimit -n 4096` in the shell that runs maqet");
    assert_eq!(memory["hints"][0], "set less `memory`");
    assert_explained(&files["error"]);
    assert_explained(&memory);
}

#[test]
fn test_warnings_of_a_start_that_works_are_shown() {
    let home = TestHome::new();
    let keys = "cpu_model: Skylake-Client\narguments: [S, {netdev: user, id: lan}]\n";
    home.add(&format!("name: web\naccel: tcg\nmemory: 32M\n{keys}"));

    let started = home.json(&["start", "web"]);
    let restarted = home.maqet(["restart", "web", "--force"]).run().ok();

    let warnings: Vec<&str> = started["warnings"].as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
    assert!(warnings[0].starts_with("TCG doesn't support features of the CPU model: pcid, "), "{warnings:?}");
    assert_eq!(warnings[1..], ["netdev lan has no peer"]);
    assert!(restarted.stderr.contains("warning: `web`: netdev lan has no peer\n"), "{}", restarted.stderr);
}

#[test]
fn test_start_without_warnings_shows_none() {
    let home = TestHome::new();
    home.add("name: web\naccel: tcg\nmemory: 32M\narguments: [S]\n");

    let started = home.json(&["start", "web"]);

    assert_eq!(started.get("warnings"), None);
}

#[test]
fn test_relative_path_of_an_unknown_option_is_warned_of() {
    let home = TestHome::new();
    let sensors = home.write("sensors", "");
    let relative = sensors.strip_prefix("/").unwrap().display().to_string();
    home.add(&format!(
        "name: web\naccel: tcg\nmemory: 32M\narguments: [S, {{device: \"ipmi-bmc-sim,id=b,sdrfile={relative}\"}}]\n"
    ));

    let started = home.json(&["start", "web"]);

    let warning = started["warnings"][0].as_str().unwrap();
    assert!(warning.contains(&format!("so `{relative}` is `/{relative}`")), "{warning}");
}

#[test]
fn test_relative_files_of_serial_ports_and_screens_are_beside_yaml() {
    let home = TestHome::new();
    home.add(
        "name: web\naccel: tcg\nmemory: 32M\nserial: \"unix:ser.sock,server=on,wait=off\"\n\
         display: \"vnc=unix:vnc.sock\"\nargs: [-parallel, \"file:par,1.log\"]\n\
         arguments: [S, {debugcon: \"file:./debug.log\"}]\n",
    );

    let started = home.json(&["start", "web"]);

    assert_eq!(started.get("warnings"), None);
    for file in ["ser.sock", "vnc.sock", "par,1.log", "debug.log"] {
        assert!(home.path(file).exists(), "{file}");
    }
}
