//! Finds a QEMU binary and determines its version and build.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use maqet_adapters_linux::process::{CaptureError, Captured, Group, Output, capture, display_status};
use maqet_adapters_linux::{ProcessEnvironment, ProgramError};
use maqet_domain::port::{BinaryError, QemuBinary};
use maqet_domain::qemu::{QemuVersion, package_from_output};
use maqet_domain::qmp::wording::is_qemu_img_version;
use maqet_domain::text::escaped;

use super::version_cache::VersionCache;
use crate::limits::{MAX_QUOTED_CHARS, MAX_VERSION_OUTPUT_BYTES, VERSION_TIMEOUT};

/// Finds the binary `wanted` and runs its `--version`, unless the version of exactly this file is cached.
pub(super) async fn find(
    environment: &ProcessEnvironment,
    versions: &VersionCache,
    wanted: &str,
) -> Result<QemuBinary, BinaryError> {
    let path = environment.find(OsStr::new(wanted)).map_err(|error| match error {
        ProgramError::NotFound => BinaryError::NotFound { binary: wanted.to_owned() },
        ProgramError::NotExecutable(path, error) => BinaryError::NotExecutable { path, source: error.into() },
    })?;

    let build = VersionCache::build(&path);
    if let Some((version, package)) = build.as_ref().and_then(|build| versions.get(build)) {
        return Ok(QemuBinary { path, version, package });
    }
    let (version, package) = run_version(environment, &path).await?;
    if let Some(build) = build {
        versions.put(&build, version, &package);
    }
    Ok(QemuBinary { path, version, package })
}

async fn run_version(environment: &ProcessEnvironment, path: &Path) -> Result<(QemuVersion, String), BinaryError> {
    let not_qemu = |printed: String| BinaryError::NotQemu { path: PathBuf::from(path), printed };
    let mut command = environment.english_command(path);
    command.arg("--version").current_dir("/");

    match capture(command, Stdio::null(), Group::New, VERSION_TIMEOUT, MAX_VERSION_OUTPUT_BYTES).await {
        Ok(captured) => {
            let printed = String::from_utf8_lossy(&captured.output.stdout);
            match QemuVersion::from_output(&printed) {
                Some(version) if captured.status.success() && !is_qemu_img_version(&printed) => {
                    Ok((version, package_from_output(&printed).to_owned()))
                }
                Some(_) | None => Err(not_qemu(describe(&captured))),
            }
        }
        Err(CaptureError::Spawn(error) | CaptureError::Io(error)) => {
            Err(BinaryError::NotExecutable { path: path.to_owned(), source: error.into() })
        }
        Err(CaptureError::TimedOut) => {
            Err(not_qemu(format!("`--version` did not end within {} s", VERSION_TIMEOUT.as_secs())))
        }
        Err(CaptureError::OutputTooLarge) => {
            Err(not_qemu(format!("`--version` printed more than {} KiB", MAX_VERSION_OUTPUT_BYTES >> 10)))
        }
    }
}

/// Describes the first line of its output, escaped, and its exit.
fn describe(captured: &Captured) -> String {
    let Output { stdout, stderr } = &captured.output;
    let printed = if stdout.trim_ascii().is_empty() { stderr } else { stdout };
    let printed = String::from_utf8_lossy(printed);
    let first = escaped(printed.trim().lines().next().unwrap_or_default().trim(), MAX_QUOTED_CHARS);
    let exit = display_status(captured.status);
    if first.is_empty() {
        format!("`--version` printed nothing and ended with {exit}")
    } else {
        format!("`--version` printed `{first}` and ended with {exit}")
    }
}
