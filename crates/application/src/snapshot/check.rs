//! What blocks a snapshot of all drives, or makes it incomplete.

use std::path::Path;

use maqet_domain::error::Explain;
use maqet_domain::machine::Machine;
use maqet_domain::port::{ImageError, ImageSummary};
use maqet_domain::size::ByteSize;
use maqet_domain::vm::{Status, VmEntry};
use serde::Serialize;

use super::live::LiveVm;
use super::live::check::SaveObstacle;
use super::live::error::LiveSnapshotError;
use super::selection::DriveImage;
use crate::start::backing::EarlierImages;
use crate::start::drives::Drive;
use crate::start::firmware::VARIABLES_NAME;
use crate::start::image_owner::of_owner;
use crate::start::tpm::TPM_NAME;
use crate::{App, Error, limits};

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
    /// It can be created, but this version of QEMU is known to do it badly.
    Risk,
}

/// What blocks a snapshot, or makes it incomplete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SnapshotObstacle {
    /// What it does.
    pub effect: ObstacleEffect,
    /// The drive or share, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drive: Option<String>,
    /// The reason.
    pub reason: String,
    /// What to change.
    pub hints: Vec<String>,
}

/// Returns what blocks a snapshot of all drives of a VM, or makes it incomplete.
///
/// If the VM is running, that is a snapshot with its memory.
pub(crate) async fn obstacles(
    app: &App,
    entry: &VmEntry,
    machine: &Machine,
    is_running: bool,
) -> Vec<SnapshotObstacle> {
    let mut found = if is_running { live_obstacles(app, entry, machine).await } else { Vec::new() };
    for drive in app.preflight().drives(&entry.name, machine) {
        let storage = drive.storage;
        let is_named = found.iter().any(|known| known.drive.as_deref() == Some(storage.name.as_str()));
        if !is_named && storage.snapshot {
            found.push(SnapshotObstacle::of_save(
                ObstacleEffect::Incomplete,
                SaveObstacle::overlay(storage.name.as_str()),
            ));
            continue;
        }
        if is_named || storage.keeps_image() {
            continue;
        }
        if storage.driver.features().internal_snapshots {
            if let Err(error) = require_usable(app, entry, &drive, is_running).await {
                found.push(SnapshotObstacle::blocking(Some(storage.name.as_str()), &error));
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
        let effect = ObstacleEffect::Incomplete;
        found.push(SnapshotObstacle { effect, drive: Some(name), reason, hints: vec![hint] });
    }
    if machine.tpm && !is_running {
        found.push(SnapshotObstacle {
            effect: ObstacleEffect::Incomplete,
            drive: Some(TPM_NAME.to_owned()),
            reason: "the state of the TPM is part of snapshots of a running VM only".to_owned(),
            hints: vec![format!("start the VM first with `maqet start {}`", entry.name)],
        });
    }
    if machine.firmware.is_uefi()
        && let Err(error) = require_usable_variables(app, entry, machine, is_running).await
    {
        found.push(SnapshotObstacle::blocking(Some(VARIABLES_NAME), &error));
    }
    found
}

/// Returns what keeps a running VM from being saved with its memory.
async fn live_obstacles(app: &App, entry: &VmEntry, machine: &Machine) -> Vec<SnapshotObstacle> {
    let found: Result<Vec<SnapshotObstacle>, Error> = async {
        let Some(mut live) = LiveVm::open(app, entry).await? else { return Ok(Vec::new()) };
        let status = live.status().await?;
        if !matches!(status, Status::Running | Status::Paused) {
            return Err(LiveSnapshotError::WrongState { vm: entry.name.clone(), status }.into());
        }
        let (media, memory) = (live.media().await?, live.memory().await?);
        let obstacles = live.obstacles(&entry.name, machine, &media, memory).await?;
        let risks = live.risks(&entry.name, machine, status == Status::Running).await?;
        let blocking =
            obstacles.into_iter().map(|obstacle| SnapshotObstacle::of_save(ObstacleEffect::Blocks, obstacle));
        let risks = risks.into_iter().map(|risk| SnapshotObstacle::of_save(ObstacleEffect::Risk, risk));
        Ok(blocking.chain(risks).collect())
    }
    .await;
    found.unwrap_or_else(|error| vec![SnapshotObstacle::blocking(None, &error)])
}

/// Refuses images that QEMU would not open, that another process uses, or that have too little space, before any of a set
/// is changed.
pub(crate) async fn require_ready(
    app: &App,
    entry: &VmEntry,
    machine: &Machine,
    images: &[DriveImage],
) -> Result<(), Error> {
    for image in images {
        match &image.spec {
            Some(spec) => {
                let drive = Drive::new(spec, &app.folders.vm_storage(&entry.name));
                require_usable(app, entry, &drive, false).await?;
            }
            None => require_usable_variables(app, entry, machine, false).await?,
        }
    }
    Ok(())
}

async fn require_usable(app: &App, entry: &VmEntry, drive: &Drive<'_>, is_running: bool) -> Result<(), Error> {
    let preflight = app.preflight();
    let summary = preflight.check_drive(drive, &EarlierImages::default()).await?;
    if !is_running {
        let unlocked = preflight.require_unlocked(std::slice::from_ref(drive)).await;
        of_owner(app, entry, unlocked).await?;
    }
    require_space(app, &drive.path, summary.as_ref()).await
}

async fn require_usable_variables(
    app: &App,
    entry: &VmEntry,
    machine: &Machine,
    is_running: bool,
) -> Result<(), Error> {
    let preflight = app.preflight();
    preflight.check_variables(entry, machine, &[]).await?;
    let image = preflight.variables_use(&entry.name);
    if !is_running {
        of_owner(app, entry, app.ports.images.require_unlocked(&image).await).await?;
    }
    require_space(app, &image.path, None).await
}

/// Refuses an image that has no space for the tables of another snapshot.
async fn require_space(app: &App, path: &Path, image: Option<&ImageSummary>) -> Result<(), Error> {
    let Some(space) = app.ports.maintenance.probe.space(path).await else { return Ok(()) };
    let size = image.and_then(|image| image.virtual_size).unwrap_or_default();
    let needed = limits::SNAPSHOT_TABLES_BYTES.saturating_add(size.bytes() / limits::BYTES_PER_L1_BYTE);
    if space.free_bytes >= needed {
        return Ok(());
    }
    let (needed, free) = (ByteSize::from_bytes(needed), ByteSize::from_bytes(space.free_bytes));
    Err(ImageError::SpaceRequired { path: path.to_owned(), needed, free }.into())
}

impl SnapshotObstacle {
    fn blocking(drive: Option<&str>, error: &Error) -> Self {
        let reason = error.to_string();
        Self { effect: ObstacleEffect::Blocks, drive: drive.map(str::to_owned), reason, hints: error.hints() }
    }

    fn of_save(effect: ObstacleEffect, obstacle: SaveObstacle) -> Self {
        let SaveObstacle { drive, problem, hint } = obstacle;
        Self { effect, drive, reason: problem, hints: vec![hint] }
    }
}
