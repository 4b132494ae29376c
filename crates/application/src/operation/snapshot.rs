//! `snapshot`: snapshots inside the disks of a VM that is not running.

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
use crate::start::prepare_disks::drive;
use crate::vm::unresponsive::refusal;
use crate::{App, Error};

/// Make a snapshot of a drive
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct SnapshotCreate {
    /// The VM: a name, an id, or the unique beginning of one
    pub vm: String,
    /// The drive, by its name under `storage`
    pub drive: String,
    /// The snapshot's name
    pub name: String,
}

/// Put a drive back to a snapshot
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct SnapshotLoad {
    /// The VM: a name, an id, or the unique beginning of one
    pub vm: String,
    /// The drive, by its name under `storage`
    pub drive: String,
    /// The snapshot's name
    pub name: String,
}

/// Remove a snapshot
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct SnapshotRm {
    /// The VM: a name, an id, or the unique beginning of one
    pub vm: String,
    /// The drive, by its name under `storage`
    pub drive: String,
    /// The snapshot's name
    pub name: String,
}

/// List snapshots
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct SnapshotLs {
    /// The VM: a name, an id, or the unique beginning of one
    pub vm: String,
    /// Only of this drive
    #[serde(default)]
    pub drive: Option<String>,
}

/// A snapshot that something was done to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SnapshotDone {
    /// The VM's id.
    pub id: String,
    /// The VM's name.
    pub vm: String,
    /// The drive.
    pub drive: String,
    /// The snapshot.
    pub name: String,
    /// What was done: `created`, `loaded` or `removed`.
    pub done: &'static str,
}

/// A snapshot, as scripts see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SnapshotInfo {
    /// Its name.
    pub name: String,
    /// The drive it is of.
    pub drive: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// How many bytes of RAM and device state it holds; 0 for a disk alone.
    pub vm_state_bytes: u64,
    /// How long the guest had run by then, in seconds.
    pub vm_clock_seconds: u64,
}

impl SnapshotInfo {
    fn of(drive: &StorageSpec, snapshot: ImageSnapshot) -> Self {
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
        let held = Held::take(app, &self.vm, &self.drive, Self::NAME).await?;
        app.prepare_disk(&held.entry, &held.drive).await?;
        if held.snapshots(app).await?.iter().any(|snapshot| snapshot.name == self.name) {
            return Err(held.taken(&self.name));
        }
        app.ports.images.create_snapshot(&held.path(app), &name, &*held.guard).await?;
        let inverse = SnapshotRm { vm: held.id(), drive: self.drive.clone(), name: self.name.clone() };
        Ok(held.done(app, kind::SNAPSHOT_CREATED, &self.name).undone_by(&inverse))
    }
}

impl Operation for SnapshotLoad {
    const NAME: &'static str = "snapshot.load";
    const EFFECT: Effect = Effect::Changes;
    type Output = SnapshotDone;

    async fn run(&self, app: &App) -> Result<Done<SnapshotDone>, Error> {
        let held = Held::take(app, &self.vm, &self.drive, Self::NAME).await?;
        held.require(app, &self.name).await?;
        app.ports.images.load_snapshot(&held.path(app), &self.name, &*held.guard).await?;
        Ok(held.done(app, kind::SNAPSHOT_LOADED, &self.name))
    }
}

impl Operation for SnapshotRm {
    const NAME: &'static str = "snapshot.rm";
    const EFFECT: Effect = Effect::Changes;
    type Output = SnapshotDone;

    async fn run(&self, app: &App) -> Result<Done<SnapshotDone>, Error> {
        let held = Held::take(app, &self.vm, &self.drive, Self::NAME).await?;
        held.require(app, &self.name).await?;
        app.ports.images.remove_snapshot(&held.path(app), &self.name, &*held.guard).await?;
        Ok(held.done(app, kind::SNAPSHOT_REMOVED, &self.name))
    }
}

impl Operation for SnapshotLs {
    const NAME: &'static str = "snapshot.ls";
    const EFFECT: Effect = Effect::Reads;
    type Output = Vec<SnapshotInfo>;

    /// Also while the VM runs. A disk that was never made has none.
    async fn run(&self, app: &App) -> Result<Done<Vec<SnapshotInfo>>, Error> {
        let vm = app.vm(&self.vm).await?;
        let machine = app.machine(&vm)?;
        let wanted: Vec<&StorageSpec> = match &self.drive {
            Some(given) => vec![drive(&vm.entry, &machine, given)?],
            None => machine.storage.iter().filter(|spec| spec.driver.features().internal_snapshots).collect(),
        };
        let mut found = Vec::new();
        for spec in wanted {
            let path = spec.path(&app.vm_storage(&vm.entry.name));
            if app.ports.images.exists(&path).await {
                let info = app.ports.images.info(&path).await?;
                found.extend(info.snapshots.into_iter().map(|snapshot| SnapshotInfo::of(spec, snapshot)));
            }
        }
        Ok(Done::reading(found))
    }
}

/// A drive of a VM that is locked and stands still.
struct Held {
    guard: Box<dyn Guard>,
    entry: VmEntry,
    drive: StorageSpec,
}

impl Held {
    async fn take(app: &App, vm: &str, drive_name: &str, operation: &'static str) -> Result<Self, Error> {
        let (guard, vm) = app.lock(vm, operation).await?;
        let machine = app.machine(&vm)?;
        let drive = drive(&vm.entry, &machine, drive_name)?.clone();
        if !drive.driver.features().internal_snapshots {
            let kind = drive.driver.type_name().to_owned();
            return Err(Error::SnapshotsUnsupported { vm: vm.entry.name, drive: drive.name.to_string(), kind });
        }
        let seen = app.observe_locked(&vm.entry).await;
        match seen.status.on(Action::ChangeDisks) {
            Ok(_) => Ok(Self { guard, entry: vm.entry, drive }),
            Err(refused) => Err(refusal(&vm.entry, &seen, refused)),
        }
    }

    fn id(&self) -> String {
        self.entry.id.to_string()
    }

    fn path(&self, app: &App) -> std::path::PathBuf {
        self.drive.path(&app.vm_storage(&self.entry.name))
    }

    async fn snapshots(&self, app: &App) -> Result<Vec<ImageSnapshot>, Error> {
        Ok(app.ports.images.info(&self.path(app)).await?.snapshots)
    }

    async fn require(&self, app: &App, name: &str) -> Result<(), Error> {
        let snapshots = self.snapshots(app).await?;
        if snapshots.iter().any(|snapshot| snapshot.name == name) {
            return Ok(());
        }
        Err(Error::NoSuchSnapshot {
            vm: self.entry.name.clone(),
            drive: self.drive.name.to_string(),
            given: name.to_owned(),
            known: snapshots.into_iter().map(|snapshot| snapshot.name).collect(),
        })
    }

    fn taken(&self, name: &str) -> Error {
        Error::SnapshotTaken { vm: self.entry.name.clone(), drive: self.drive.name.to_string(), name: name.to_owned() }
    }

    fn done(self, app: &App, kind: &'static str, name: &str) -> Done<SnapshotDone> {
        let event = app.event(kind, &self.entry, json!({ "drive": self.drive.name, "name": name }));
        let done = SnapshotDone {
            id: self.id(),
            vm: self.entry.name.to_string(),
            drive: self.drive.name.to_string(),
            name: name.to_owned(),
            done: kind.trim_start_matches("snapshot."),
        };
        Done::changing(done, self.entry.id, ChangeSet::default()).telling(event).holding(self.guard)
    }
}
