//! `snapshot`: internal snapshots of the disks of a VM, and of its memory while it is running.

mod check;
mod create;
mod live;
mod load;
mod ls;
mod rm;

use std::path::PathBuf;

use crate::history::require_expected;
use maqet_domain::change::Change;
use maqet_domain::history::{Call, Expected, ExpectedSnapshot, SnapshotIdentity};
use maqet_domain::revert::Revert;
use maqet_domain::snapshot::{SnapshotKind, SnapshotRecord};
use maqet_domain::vm::{Action, BootNumber, ImageTag, Status, VmEntry};
use serde::Serialize;
use serde_json::json;

pub use self::check::{SnapshotCheck, SnapshotReadiness};
pub use self::create::SnapshotCreate;
pub use self::load::SnapshotLoad;
pub use self::ls::{SnapshotInfo, SnapshotLs};
pub use self::rm::SnapshotRm;
pub use crate::snapshot::check::{ObstacleEffect, SnapshotObstacle};
pub use crate::snapshot::selection::OmittedDrive;

use crate::app::operations::{Done, Operation, call_of};
use crate::checkpoint::layers::refuse_layers;
use crate::snapshot::check::require_ready;
use crate::snapshot::live::error::LiveSnapshotError;
use crate::snapshot::offline::{OfflineImages, Outcome};
use crate::snapshot::selection::{ALL, SnapshotImages};
use crate::start::create_disks::DiskCreator;
use crate::storage::lock::lock_images;
use crate::{App, Error, HumanDuration};

/// The result of creating, loading or removing a snapshot.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SnapshotDone {
    /// The VM's ID.
    pub id: String,
    /// The VM's name.
    pub name: String,
    /// The drive, as it was requested; `all` for all drives.
    pub drive: String,
    /// The drives whose snapshots were created, loaded or removed.
    pub drives: Vec<String>,
    /// The name of the snapshot.
    pub snapshot: String,
    /// `created`, `loaded` or `removed`.
    pub outcome: &'static str,
    /// What the snapshot of a running VM holds: `disk`, or `memory` (the state of the machine, too).
    pub kind: Option<SnapshotKind>,
    /// Whether a snapshot was replaced.
    pub replaced: bool,
    /// The name of the snapshot of the state before a load, if that was kept.
    pub safety: Option<String>,
    /// Whether memory was loaded of which is not known what VM it was saved of, as by another tool.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unchecked: bool,
    /// Whether the guest agent has set the clock of the guest after a load.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub clock_set: bool,
    /// What went otherwise than one expects.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The writable drives that are not part of the snapshot, because their types do not support snapshots.
    pub omitted: Vec<OmittedDrive>,
}

/// What has to be true of images before their snapshots are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Requirement {
    /// They exist, or are created, and another snapshot of each can be created.
    Ready,
    /// Another snapshot of each can be created.
    Space,
    Nothing,
}

/// Locks a VM that is not running and the images of a drive, or of all, and reads their snapshots.
async fn open<'a>(
    app: &'a App,
    (vm, drive): (&str, &str),
    operation: &'static str,
    timeout: Option<HumanDuration>,
    (requirement, revert): (Requirement, Option<&Revert>),
) -> Result<OfflineImages<'a>, Error> {
    let (guard, vm) = app.vms().lock(vm, operation).await?;
    require_expected(app, revert, Some(&vm)).await?;
    if operation == SnapshotLoad::NAME {
        refuse_layers(app, &vm.entry, machine_drive(drive)).await?;
    }
    let machine = app.machine(&vm)?;
    let selection = SnapshotImages::new(app, &vm.entry, &machine, drive)?;
    if operation != SnapshotRm::NAME {
        selection.require_written(&vm.entry)?;
    }
    let observation = app.observer().observe_locked(&vm.entry).await;
    if let Status::Running | Status::Paused = observation.status {
        let (vm, status) = (vm.entry.name, observation.status);
        return Err(LiveSnapshotError::Running { vm, status, operation }.into());
    }
    observation.transition(&vm.entry, Action::ChangeDisks)?;
    let job = app.jobs.start(operation, &vm.entry.name).within(timeout);
    if requirement != Requirement::Nothing {
        require_ready(app, &vm.entry, &machine, &selection.images).await?;
    }
    if requirement == Requirement::Ready {
        let creator = DiskCreator::new(app, &job, &vm.entry).await?;
        for image in &selection.images {
            match &image.spec {
                Some(spec) => creator.create_one(spec).await?,
                None => creator.create_variables(&machine).await?,
            }
        }
    }
    let paths: Vec<PathBuf> = selection.images.iter().map(|image| image.path.clone()).collect();
    let images = lock_images(app, paths.iter().map(PathBuf::as_path), operation).await?;
    OfflineImages::open(app, operation, job, (guard, images), vm.entry, selection).await
}

/// Returns the drive of a request, unless it is about all of them.
fn machine_drive(drive: &str) -> Option<&str> {
    (drive != ALL).then_some(drive)
}

/// Returns the result of an operation on snapshots, with an event for each drive.
fn done(outcome: Outcome<'_>, kind: &'static str, name: &str, safety: Option<&str>) -> Done<SnapshotDone> {
    let Outcome { images, drives, changes, replaced, .. } = outcome;
    let entry = &images.entry;
    let event = |drive: &String| images.app.committer().event(kind, entry, json!({ "drive": drive, "name": name }));
    let events: Vec<_> = drives.iter().map(event).collect();
    let done = SnapshotDone {
        id: entry.id.to_string(),
        name: entry.name.to_string(),
        drive: images.selection.drive,
        drives,
        snapshot: name.to_owned(),
        outcome: kind.trim_start_matches("snapshot."),
        kind: None,
        replaced,
        safety: safety.map(str::to_owned),
        unchecked: false,
        clock_set: false,
        warnings: Vec::new(),
        omitted: images.selection.omitted,
    };
    let done = events.into_iter().fold(Done::changing(done, entry.id, changes), Done::event).holding(images.guard);
    images.image_guards.into_iter().fold(done, Done::holding)
}

/// Returns the call of an operation on a VM that is stopped, to be made again after it was undone: if the VM was not started
/// since.
fn again<O: Operation>(entry: &VmEntry, with: impl FnOnce(Option<Box<Revert>>) -> O) -> Option<Box<Call>> {
    let boot = entry.run.as_ref().map_or(BootNumber(0), |run| run.boot);
    let expected = Expected { vm: Some(entry.id), boot: Some(boot), stopped: true, ..Expected::default() };
    call_of(&with(Some(Box::new(Revert::new(expected))))).ok().map(Box::new)
}

/// Returns the snapshots that changes record.
fn recorded_tags(images: &OfflineImages<'_>, changes: &[Change]) -> Vec<ExpectedSnapshot> {
    let tag = |change: &Change| {
        let Change::SnapshotAdded(record) = change else { return None };
        let image = images.selection.images.iter().find(|image| image.drive == record.drive)?;
        Some(expected(record, image.path.clone()))
    };
    changes.iter().filter_map(tag).collect()
}

/// Expects the snapshot of the image at `path` that a record is about.
fn expected(record: &SnapshotRecord, path: PathBuf) -> ExpectedSnapshot {
    let tag = ImageTag { drive: record.drive.clone(), path, tag: record.tag.clone() };
    let made = SnapshotIdentity { id: record.image_id.clone(), created_at: record.image_date };
    ExpectedSnapshot { tag, made: Some(made) }
}
