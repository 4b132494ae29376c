//! What clippy refuses by the `clippy.toml` of a crate, tried on samples: a misspelled path would refuse nothing.

use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, fs};

use crate::assert_none;
use crate::workspace::{crates, root, text};

/// Returns how often clippy refuses a method or type in `sample`, a part of the crate `name`, as it would in `folder`.
fn refusals(folder: &str, name: &str, sample: &str) -> usize {
    let work = tempfile::tempdir().expect("a folder");
    let file = work.path().join("sample.rs");
    fs::write(&file, format!("#![warn(clippy::disallowed_methods, clippy::disallowed_types)]\n{sample}"))
        .expect("a file");
    let cargo = env::var_os("CARGO").unwrap_or_default();

    let output = Command::new(Path::new(&cargo).with_file_name("clippy-driver"))
        .args(["--edition=2024", "--crate-type=lib", "--emit=metadata", "--crate-name", name])
        .arg("--out-dir")
        .args([work.path(), &file])
        .env("CLIPPY_CONF_DIR", root().join(folder))
        .stdin(Stdio::null())
        .output()
        .expect("clippy can be run");
    let messages = String::from_utf8_lossy(&output.stderr);

    assert!(output.status.success(), "{messages}");
    messages.matches(": use of a disallowed ").count()
}

#[test]
fn test_clippy_exit_and_abort_are_refused_in_every_crate() {
    let sample = "pub fn f() { std::process::exit(1) }\npub fn g() { std::process::abort() }";

    for folder in ["", "crates/application", "crates/domain"] {
        assert_eq!(refusals(folder, "sample", sample), 2, "{folder}");
    }
}

#[test]
fn test_clippy_file_system_calls_in_inner_crates_are_denied() {
    const METHODS: [&str; 10] = [
        "canonicalize", "exists", "is_dir", "is_file", "is_symlink", "metadata", "read_dir", "read_link",
        "symlink_metadata", "try_exists",
    ];
    let calls = METHODS.map(|method| format!("drop(path.{method}());\n")).concat();
    let sample = format!("pub fn f(path: &std::path::Path) {{ {calls} }}");

    for folder in ["crates/application", "crates/domain"] {
        assert_eq!(refusals(folder, "sample", &sample), METHODS.len(), "{folder}");
    }
}

#[test]
fn test_clippy_clocks_and_random_ids_are_refused_in_the_domain() {
    let refused = |name: &str, sample: &str| refusals("crates/domain", name, sample);

    assert_eq!(refused("sample", "pub struct A(std::time::Instant);\npub type B = std::time::SystemTime;"), 2);
    let jiff =
        "pub struct Timestamp;\nimpl Timestamp { pub fn now() {} }\npub struct Zoned;\nimpl Zoned { pub fn now() {} }
        pub fn f() { Timestamp::now(); Zoned::now() }";
    assert_eq!(refused("jiff", jiff), 2);
    let uuid = "pub struct Uuid;\nimpl Uuid { pub fn new_v4() {} pub fn now_v7() {} }
        pub fn f() { Uuid::new_v4(); Uuid::now_v7() }";
    assert_eq!(refused("uuid", uuid), 2);
}

#[test]
fn test_clippy_configuration_of_crate_repeats_the_workspace() {
    let shared = text("clippy.toml");
    let mut missing = Vec::new();
    for name in crates() {
        let path = format!("crates/{name}/clippy.toml");
        if root().join(&path).exists() {
            let own = text(&path);
            let lines = shared.lines().filter(|line| !line.starts_with('#') && !own.contains(line));
            missing.extend(lines.map(|line| format!("{path}: {line}")));
        }
    }

    assert_none("the `clippy.toml` of a crate has the lines of the workspace's", &missing);
}
