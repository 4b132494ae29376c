//! What blocks a snapshot of all drives, or makes it incomplete.

use maqet_domain::error::Explain;
use maqet_domain::machine::Machine;
use maqet_domain::vm::VmEntry;
use serde::Serialize;

use super::selection::DriveImage;
use crate::start::drives::Drive;
use crate::{App, Error};

/// What an obstacle does to a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, strum::Display)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
#[non_exhaustive]
pub enum ObstacleEffect {
    /// It cannot be created.
    Blocks,
    /// It does not include everything that the guest can write.
    Incomplete,
}

/// What blocks a snapshot, or makes it incomplete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SnapshotObstacle {
    /// What it does.
    pub effect: ObstacleEffect,
    /// The drive or share.
    pub drive: String,
    /// The reason.
    pub reason: String,
    /// What to change.
    pub hints: Vec<String>,
}

/// Returns what blocks a snapshot of all drives of a VM, or makes it incomplete, in the order of the drives.
pub(crate) async fn obstacles(
    app: &App,
    entry: &VmEntry,
    machine: &Machine,
    is_running: bool,
) -> Vec<SnapshotObstacle> {
    let preflight = app.preflight();
    let mut found = Vec::new();
    for drive in preflight.drives(&entry.name, machine) {
        let storage = drive.storage;
        if storage.driver.is_readonly(storage) {
            continue;
        }
        if storage.driver.features().internal_snapshots {
            if let Err(error) = require_usable(app, &drive, is_running).await {
                found.push(SnapshotObstacle::blocking(storage.name.as_str(), &error));
            }
            continue;
        }
        let name = storage.name.to_string();
        let (reason, hint) = if storage.driver.image_format().is_some() {
            let reason = format!("type `{}` does not support snapshots", storage.driver.type_name());
            (reason, format!("convert it with `maqet storage convert {} {name} qcow2`", entry.name))
        } else {
            ("a share of the host is not part of a snapshot".to_owned(), format!("copy what `{name}` holds yourself"))
        };
        found.push(SnapshotObstacle { effect: ObstacleEffect::Incomplete, drive: name, reason, hints: vec![hint] });
    }
    found
}

/// Refuses images that QEMU would not open, or that another process uses, before any of a set is changed.
pub(crate) async fn require_ready(app: &App, entry: &VmEntry, images: &[DriveImage]) -> Result<(), Error> {
    for spec in images.iter().filter_map(|image| image.spec.as_ref()) {
        require_usable(app, &Drive::new(spec, &app.folders.vm_storage(&entry.name)), false).await?;
    }
    Ok(())
}

async fn require_usable(app: &App, drive: &Drive<'_>, is_running: bool) -> Result<(), Error> {
    let preflight = app.preflight();
    preflight.check_drive(drive, &[]).await?;
    if !is_running {
        preflight.require_unlocked(std::slice::from_ref(drive)).await?;
    }
    Ok(())
}

impl SnapshotObstacle {
    fn blocking(drive: &str, error: &Error) -> Self {
        let reason = error.to_string();
        Self { effect: ObstacleEffect::Blocks, drive: drive.to_owned(), reason, hints: error.hints() }
    }
}
