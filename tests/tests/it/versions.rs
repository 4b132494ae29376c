//! The QEMU that the suite runs on.

use std::path::PathBuf;

use maqet_domain::qemu::QemuVersion;
use maqet_domain::qmp::versions::Difference;
use maqet_testkit::{TestHome, guest, qemu, variable};

/// Returns the version of the QEMU that the tests run on.
pub(crate) fn version() -> QemuVersion {
    qemu::version().parse().unwrap()
}

/// Returns whether the QEMU that the tests run on has this difference to older ones.
pub(crate) fn has(difference: Difference) -> bool {
    difference.is_in(version())
}

/// `cargo xtask test` runs the suite on several versions, and must not run it twice on the same one.
#[test]
fn test_suite_runs_on_the_requested_qemu() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    home.json(&["start", "web"]);

    let info = home.json(&["qmp", "web", "query-version"]);
    let inspected = home.json(&["inspect", "web"]);
    home.json(&["stop", "web", "--force"]);

    let numbers = ["major", "minor", "micro"].map(|number| info["qemu"][number].to_string()).join(".");
    assert_eq!(numbers, qemu::version());
    assert_eq!(qemu::version_of(&qemu::image_tool()), numbers);
    let program = PathBuf::from(inspected["process"]["binary"].as_str().unwrap_or_default());
    assert_eq!(program, qemu::emulator().canonicalize().unwrap(), "{inspected}");
    if let Ok(expected) = std::env::var(variable::QEMU_VERSION) {
        assert!(format!("{numbers}.").starts_with(&format!("{expected}.")), "{numbers} is not {expected}");
    }
}
