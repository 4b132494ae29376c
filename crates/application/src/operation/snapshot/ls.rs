//! `snapshot ls`.

use derive_setters::Setters;
use jiff::Timestamp;
use maqet_domain::snapshot::{ImageSnapshot, SnapshotKind, SnapshotRecord, tag};
use maqet_domain::vm::{Pending, PendingWork};
use serde::{Deserialize, Serialize};

use crate::app::operations::{Done, Effect, Operation};
use crate::snapshot::selection::{ALL, DriveImage, SnapshotImages};
use crate::{App, Error};

/// List snapshots
///
/// Reads the images, also while the VM is running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct SnapshotLs {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub vm: String,
    /// Show only the snapshots of this drive
    #[setters(strip_option)]
    pub drive: Option<String>,
}

impl SnapshotLs {
    /// Lists the snapshots of the VM `vm`.
    pub fn new(vm: impl Into<String>) -> Self {
        Self { vm: vm.into(), drive: None }
    }
}

/// A snapshot, as scripts see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SnapshotInfo {
    /// Its name.
    pub name: String,
    /// Its drive.
    pub drive: String,
    /// What it holds: `disk`, `memory` (the state of the machine, too), or `safety` (the disk before a load).
    pub kind: SnapshotKind,
    /// Its description, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The ID of the set that it is part of: the snapshots of several drives that were created as one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set: Option<String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// How many bytes of RAM and device state it holds; 0 for a disk alone.
    pub vm_state_bytes: u64,
    /// How long the guest had been running, in seconds.
    pub vm_clock_seconds: u64,
}

impl SnapshotInfo {
    /// Describes a snapshot of an image with the snapshots `all`, by its record if it has one.
    fn new(image: &DriveImage, snapshot: &ImageSnapshot, all: &[ImageSnapshot], records: &[SnapshotRecord]) -> Self {
        let record = records.iter().find(|record| record.drive == image.drive && record.is_of(snapshot));
        let unrecorded = if snapshot.vm_state_bytes > 0 { SnapshotKind::Memory } else { SnapshotKind::Disk };
        Self {
            name: tag::name_of(snapshot, all).to_owned(),
            drive: image.drive.clone(),
            kind: record.map_or(unrecorded, |record| record.kind),
            description: record.and_then(|record| record.description.clone()),
            set: record.and_then(|record| record.set).map(|set| set.to_string()),
            created_at: snapshot.created_at,
            vm_state_bytes: snapshot.vm_state_bytes,
            vm_clock_seconds: snapshot.vm_clock_nanos / 1_000_000_000,
        }
    }
}

impl Operation for SnapshotLs {
    const NAME: &'static str = "snapshot.ls";
    const EFFECT: Effect = Effect::Reads;
    type Output = Vec<SnapshotInfo>;

    /// A disk that does not exist yet has no snapshots.
    async fn run(&self, app: &App) -> Result<Done<Vec<SnapshotInfo>>, Error> {
        let vm = app.vms().find(&self.vm).await?;
        let machine = app.machine(&vm)?;
        let images = match self.drive.as_deref() {
            Some(drive) if drive != ALL || machine.drive(drive).is_some() => {
                SnapshotImages::new(app, &vm.entry, &machine, drive)?.images
            }
            _ => SnapshotImages::listed(app, &vm.entry, &machine),
        };
        let records = app.ports.store.snapshots_of_vm(&vm.entry.id).await?;
        let mut found = Vec::new();
        for image in &images {
            if app.ports.images.exists(&image.path).await {
                let mut all = app.ports.images.snapshots(&image.path).await?;
                all.retain(|snapshot| !is_unfinished(vm.entry.pending.as_deref(), &image.drive, snapshot));
                found.extend(all.iter().map(|snapshot| SnapshotInfo::new(image, snapshot, &all, &records)));
            }
        }
        Ok(Done::reading(found))
    }
}

/// Returns whether a snapshot is of interrupted work: it disappears when that is recovered.
fn is_unfinished(pending: Option<&Pending>, drive: &str, snapshot: &ImageSnapshot) -> bool {
    let tags = match pending.map(|pending| &pending.work) {
        Some(PendingWork::SnapshotCreate { created, .. }) => created,
        Some(PendingWork::SnapshotRemove { removed }) => removed,
        Some(PendingWork::SnapshotLoad { safety, .. }) => safety,
        _ => return false,
    };
    tags.iter().any(|tag| tag.drive == drive && tag.tag == snapshot.name)
}
