//! The names that a QEMU prints: machine types, CPU models and devices.

use std::path::Path;
use std::process::Stdio;

use maqet_adapters_linux::ProcessEnvironment;
use maqet_adapters_linux::process::{Group, capture};
use maqet_domain::qmp::wording::{ListedName, NameList, listed_names};

use crate::limits::{MAX_NAMES_BYTES, NAMES_TIMEOUT};

/// Runs `binary` with `-machine help`, `-cpu help` or `-device help`; without a list if that fails.
pub(super) async fn names(environment: &ProcessEnvironment, binary: &Path, list: NameList) -> Vec<ListedName> {
    let mut command = environment.english_command(binary);
    command.args([&format!("-{list}"), "help"]).current_dir("/");
    match capture(command, Stdio::null(), Group::New, NAMES_TIMEOUT, MAX_NAMES_BYTES).await {
        Ok(captured) => listed_names(list, &String::from_utf8_lossy(&captured.output.stdout)),
        Err(error) => {
            tracing::debug!(?error, %list, "cannot list names of QEMU");
            Vec::new()
        }
    }
}
