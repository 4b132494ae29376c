//! The CLI that kills itself at a given fault point.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::guest;
use crate::variable::FAULTY_BINARY;

/// The file name of the CLI with fault points, beside the usual one.
pub const FAULTY_NAME: &str = "maqet-fault-points";

/// Returns the CLI with fault points: `MAQET_FAULT_POINTS_BIN`, else the one that `cargo xtask fault-points` built.
///
/// Cargo does not build it with the tests, so a binary older than the source is refused.
pub(crate) fn binary() -> PathBuf {
    if let Some(given) = std::env::var_os(FAULTY_BINARY) {
        return given.into();
    }
    let binary = guest::profile_dir().unwrap_or_default().join(FAULTY_NAME);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates");
    let trouble = match changed_at(&binary) {
        None => "not built",
        Some(built) if newest(&source).is_some_and(|changed| changed > built) => "older than its source",
        Some(_) => return binary,
    };
    panic!(
        "the CLI with fault points is {trouble} ({}); build it with `cargo xtask fault-points`, or run the tests with \
         `cargo xtask test`",
        binary.display(),
    )
}

fn changed_at(file: &Path) -> Option<SystemTime> {
    file.metadata().and_then(|found| found.modified()).ok()
}

/// Returns when the newest file below `folder` was changed.
fn newest(folder: &Path) -> Option<SystemTime> {
    let below = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    below.filter_map(|path| if path.is_dir() { newest(&path) } else { changed_at(&path) }).max()
}
