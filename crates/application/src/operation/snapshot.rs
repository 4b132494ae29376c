//! `snapshot`: internal snapshots of the disks of a VM that is not running.

use derive_setters::Setters;
use jiff::Timestamp;
use maqet_domain::change::ChangeSet;
use maqet_domain::event::kind;
use maqet_domain::port::Guard;
use maqet_domain::snapshot::{ImageSnapshot, SnapshotName};
use maqet_domain::storage::StorageSpec;
use maqet_domain::vm::{Action, VmEntry};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::app::operations::{Done, Effect, Operation};
use crate::backup::changes::forget_changes;
use crate::job::Job;
use crate::snapshot::error::SnapshotError;
use crate::start::create_disks::{DiskCreator, find_drive};
use crate::{App, Error};

/// Create a snapshot of a drive
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SnapshotCreate {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub vm: String,
    /// The drive, by its name under `storage`
    pub drive: String,
    /// The name of the snapshot
    pub name: String,
}

impl SnapshotCreate {
    /// Creates the snapshot `name` of a drive.
    pub fn new(vm: impl Into<String>, drive: impl Into<String>, name: impl Into<String>) -> Self {
        Self { vm: vm.into(), drive: drive.into(), name: name.into() }
    }
}

/// Restore a drive to a snapshot
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SnapshotLoad {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub vm: String,
    /// The drive, by its name under `storage`
    pub drive: String,
    /// The name of the snapshot
    pub name: String,
}

impl SnapshotLoad {
    /// Loads the snapshot `name` of a drive.
    pub fn new(vm: impl Into<String>, drive: impl Into<String>, name: impl Into<String>) -> Self {
        Self { vm: vm.into(), drive: drive.into(), name: name.into() }
    }
}

/// Remove a snapshot
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SnapshotRm {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub vm: String,
    /// The drive, by its name under `storage`
    pub drive: String,
    /// The name of the snapshot
    pub name: String,
}

impl SnapshotRm {
    /// Removes the snapshot `name` of a drive.
    pub fn new(vm: impl Into<String>, drive: impl Into<String>, name: impl Into<String>) -> Self {
        Self { vm: vm.into(), drive: drive.into(), name: name.into() }
    }
}

/// List snapshots
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

/// The result of creating, loading or removing a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SnapshotDone {
    /// The VM's ID.
    pub id: String,
    /// The VM's name.
    pub name: String,
    /// The drive.
    pub drive: String,
    /// The name of the snapshot.
    pub snapshot: String,
    /// `created`, `loaded` or `removed`.
    pub outcome: &'static str,
}

/// A snapshot, as scripts see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SnapshotInfo {
    /// Its name.
    pub name: String,
    /// Its drive.
    pub drive: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// How many bytes of RAM and device state it holds; 0 for a disk alone.
    pub vm_state_bytes: u64,
    /// How long the guest had been running, in seconds.
    pub vm_clock_seconds: u64,
}

impl SnapshotInfo {
    fn new(drive: &StorageSpec, snapshot: ImageSnapshot) -> Self {
        Self {
            name: snapshot.name,
            drive: drive.name.to_string(),
            created_at: snapshot.created_at,
            vm_state_bytes: snapshot.vm_state_bytes,
            vm_clock_seconds: snapshot.vm_clock_nanos / 1_000_000_000,
        }
    }
}

impl Operation for SnapshotCreate {
    const NAME: &'static str = "snapshot.create";
    const EFFECT: Effect = Effect::Changes;
    type Output = SnapshotDone;

    async fn run(&self, app: &App) -> Result<Done<SnapshotDone>, Error> {
        let name = SnapshotName::parse(&self.name)?;
        let drive = LockedDrive::lock(app, &self.vm, &self.drive, Self::NAME).await?;
        DiskCreator::new(app, &drive.job, &drive.entry).await?.create_one(&drive.spec).await?;
        if drive.snapshots().await?.iter().any(|snapshot| snapshot.name == self.name) {
            return Err(SnapshotError::Exists {
                vm: drive.entry.name,
                drive: drive.spec.name.to_string(),
                name: self.name.clone(),
            }
            .into());
        }
        app.ports.images.create_snapshot(&drive.path(), &name, &*drive.guard).await?;
        let inverse = SnapshotRm::new(drive.entry.id.to_string(), &self.drive, &self.name);
        Ok(drive.done(kind::SNAPSHOT_CREATED, &self.name).undone_by(&inverse))
    }
}

impl Operation for SnapshotLoad {
    const NAME: &'static str = "snapshot.load";
    const EFFECT: Effect = Effect::Changes;
    type Output = SnapshotDone;

    async fn run(&self, app: &App) -> Result<Done<SnapshotDone>, Error> {
        let drive = LockedDrive::lock(app, &self.vm, &self.drive, Self::NAME).await?;
        drive.require(&self.name).await?;
        forget_changes(app, &drive.path(), &*drive.guard).await?;
        app.ports.images.load_snapshot(&drive.path(), &self.name, &*drive.guard).await?;
        Ok(drive.done(kind::SNAPSHOT_LOADED, &self.name))
    }
}

impl Operation for SnapshotRm {
    const NAME: &'static str = "snapshot.rm";
    const EFFECT: Effect = Effect::Changes;
    type Output = SnapshotDone;

    async fn run(&self, app: &App) -> Result<Done<SnapshotDone>, Error> {
        let drive = LockedDrive::lock(app, &self.vm, &self.drive, Self::NAME).await?;
        drive.require(&self.name).await?;
        app.ports.images.remove_snapshot(&drive.path(), &self.name, &*drive.guard).await?;
        Ok(drive.done(kind::SNAPSHOT_REMOVED, &self.name))
    }
}

impl Operation for SnapshotLs {
    const NAME: &'static str = "snapshot.ls";
    const EFFECT: Effect = Effect::Reads;
    type Output = Vec<SnapshotInfo>;

    /// Works while the VM is running, too. A disk that does not exist yet has no snapshots.
    async fn run(&self, app: &App) -> Result<Done<Vec<SnapshotInfo>>, Error> {
        let vm = app.vms().find(&self.vm).await?;
        let machine = app.machine(&vm)?;
        let drives: Vec<&StorageSpec> = match &self.drive {
            Some(name) => vec![find_drive(&vm.entry, &machine, name)?],
            None => machine.storage.iter().filter(|spec| spec.driver.features().internal_snapshots).collect(),
        };
        let mut found = Vec::new();
        for drive in drives {
            let path = drive.path(&app.folders.vm_storage(&vm.entry.name));
            if app.ports.images.exists(&path).await {
                let info = app.ports.images.info(&path).await?;
                found.extend(info.snapshots.into_iter().map(|snapshot| SnapshotInfo::new(drive, snapshot)));
            }
        }
        Ok(Done::reading(found))
    }
}

/// A drive of a VM that is locked and not running.
struct LockedDrive<'a> {
    app: &'a App,
    /// A `qemu-img` that is killed can damage the image, so a change of it is awaited outside of [`Job::run`].
    job: Job<'a>,
    guard: Box<dyn Guard>,
    entry: VmEntry,
    spec: StorageSpec,
}

impl<'a> LockedDrive<'a> {
    async fn lock(app: &'a App, vm: &str, drive: &str, operation: &'static str) -> Result<Self, Error> {
        let (guard, vm) = app.vms().lock(vm, operation).await?;
        let machine = app.machine(&vm)?;
        let spec = find_drive(&vm.entry, &machine, drive)?.clone();
        if !spec.driver.features().internal_snapshots {
            let kind = spec.driver.type_name().to_owned();
            let (vm, drive) = (vm.entry.name, spec.name.to_string());
            return Err(SnapshotError::Unsupported { vm, drive, kind }.into());
        }
        app.observer().observe_locked(&vm.entry).await.transition(&vm.entry, Action::ChangeDisks)?;
        let job = app.jobs.start(operation, &vm.entry.name);
        Ok(Self { app, job, guard, entry: vm.entry, spec })
    }

    fn path(&self) -> std::path::PathBuf {
        self.spec.path(&self.app.folders.vm_storage(&self.entry.name))
    }

    async fn snapshots(&self) -> Result<Vec<ImageSnapshot>, Error> {
        Ok(self.app.ports.images.info(&self.path()).await?.snapshots)
    }

    /// Checks that a snapshot exists.
    async fn require(&self, name: &str) -> Result<(), Error> {
        let snapshots = self.snapshots().await?;
        if snapshots.iter().any(|snapshot| snapshot.name == name) {
            return Ok(());
        }
        Err(SnapshotError::NotFound {
            vm: self.entry.name.clone(),
            drive: self.spec.name.to_string(),
            name: name.to_owned(),
            known: snapshots.into_iter().map(|snapshot| snapshot.name).collect(),
        }
        .into())
    }

    fn done(self, kind: &'static str, name: &str) -> Done<SnapshotDone> {
        let data = json!({ "drive": self.spec.name, "name": name });
        let event = self.app.committer().event(kind, &self.entry, data);
        let done = SnapshotDone {
            id: self.entry.id.to_string(),
            name: self.entry.name.to_string(),
            drive: self.spec.name.to_string(),
            snapshot: name.to_owned(),
            outcome: kind.trim_start_matches("snapshot."),
        };
        Done::changing(done, self.entry.id, ChangeSet::default()).event(event).holding(self.guard)
    }
}
