//! Finds a QEMU binary and asks it for its version.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use maqet_adapters_linux::process::{CaptureError, Captured, Group, capture, in_words};
use maqet_adapters_linux::{ProcessEnvironment, Unfound};
use maqet_domain::port::{BinaryError, QemuBinary};
use maqet_domain::qemu::QemuVersion;

use super::version_cache::VersionCache;
use crate::limits::{QUOTED_CHARS, VERSION_DEADLINE, VERSION_OUTPUT_BYTES};

/// Finds the binary `wanted` and runs its `--version`, unless exactly this file was asked before.
pub(super) async fn find(
    environment: &ProcessEnvironment,
    versions: &VersionCache,
    wanted: &str,
) -> Result<QemuBinary, BinaryError> {
    let path = environment.find(OsStr::new(wanted)).map_err(|unfound| match unfound {
        Unfound::Missing => BinaryError::Missing { wanted: wanted.to_owned() },
        Unfound::NotRunnable(path, why) => BinaryError::NotRunnable { path, source: why.into() },
    })?;

    let stamp = VersionCache::stamp(&path);
    if let Some(version) = stamp.as_ref().and_then(|stamp| versions.get(stamp)) {
        return Ok(QemuBinary { path, version });
    }
    let version = ask(environment, &path).await?;
    if let Some(stamp) = stamp {
        versions.put(stamp, version);
    }
    Ok(QemuBinary { path, version })
}

async fn ask(environment: &ProcessEnvironment, path: &Path) -> Result<QemuVersion, BinaryError> {
    let not_qemu = |printed: String| BinaryError::NotQemu { path: PathBuf::from(path), printed };
    let mut command = environment.plain_command(path);
    command.arg("--version").current_dir("/");

    match capture(command, Stdio::null(), Group::Own, VERSION_DEADLINE, VERSION_OUTPUT_BYTES).await {
        Ok(captured) => {
            let printed = String::from_utf8_lossy(&captured.stdout);
            match QemuVersion::from_output(&printed) {
                Some(version) if captured.status.success() && !printed.starts_with("qemu-img") => Ok(version),
                Some(_) | None => Err(not_qemu(what_it_did(&captured))),
            }
        }
        Err(CaptureError::Spawn(why) | CaptureError::Io(why)) => {
            Err(BinaryError::NotRunnable { path: path.to_owned(), source: why.into() })
        }
        Err(CaptureError::TimedOut) => {
            Err(not_qemu(format!("`--version` did not end within {} s", VERSION_DEADLINE.as_secs())))
        }
        Err(CaptureError::TooMuch) => {
            Err(not_qemu(format!("`--version` printed more than {} KiB", VERSION_OUTPUT_BYTES >> 10)))
        }
    }
}

/// Returns the first line it printed, harmless to show, and how it ended.
fn what_it_did(captured: &Captured) -> String {
    let printed = if captured.stdout.trim_ascii().is_empty() { &captured.stderr } else { &captured.stdout };
    let printed = String::from_utf8_lossy(printed);
    let first = printed.trim().lines().next().unwrap_or_default();
    let first: String = first.chars().take(QUOTED_CHARS).flat_map(char::escape_debug).collect();
    let ended = in_words(captured.status);
    if first.is_empty() {
        format!("`--version` printed nothing and ended with {ended}")
    } else {
        format!("`--version` printed `{first}` and ended with {ended}")
    }
}
