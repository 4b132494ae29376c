//! `backup create`: all disks of a VM at one moment, to a directory.

use std::path::{Path, PathBuf};

use derive_setters::Setters;
use maqet_domain::backup::{BackupCatalog, BackupName, BackupSource, FoundBackup};
use maqet_domain::change::ChangeSet;
use maqet_domain::event::kind;
use maqet_domain::vm::VmEntry;
use maqet_fault_points::FaultPoint;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::BackupInfo;
use crate::app::commit::work_done;
use crate::app::operations::{Done, Effect, Operation};
use crate::backup::create::{BackupRun, source_of};
use crate::backup::drive::{BackupDrives, LeftOutDrive};
use crate::backup::place::Place;
use crate::storage::lock::lock_images;
use crate::{App, Error, HumanDuration};

/// Back up the disks of a VM, running or not
///
/// All disks are copied as they are at one moment. The first backup in a directory is full, later ones have only what
/// changed since. The disks of a running VM are as after a power failure: file systems repair themselves when they are
/// mounted. With `--quiesce`, they are as after the guest agent has written everything to them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct BackupCreate {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub vm: String,
    /// The directory of the backups, in which each VM has its own [default: `backups` in the data directory]
    #[cfg_attr(feature = "clap", arg(long, value_name = "DIRECTORY"))]
    #[setters(strip_option)]
    pub to: Option<PathBuf>,
    /// Copy all data instead of what changed since the last backup
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long))]
    pub full: bool,
    /// Freeze the file systems of a running guest for the moment of which the backup is
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long))]
    pub quiesce: bool,
    /// Timeout, after which the backup is undone [default: none]
    #[cfg_attr(feature = "clap", arg(long, value_name = "DURATION"))]
    pub timeout: Option<HumanDuration>,
}

impl BackupCreate {
    /// Backs up the VM `vm`.
    pub fn new(vm: impl Into<String>) -> Self {
        Self { vm: vm.into(), to: None, full: false, quiesce: false, timeout: None }
    }
}

/// A backup that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BackupCreated {
    /// The VM's ID.
    pub id: String,
    /// The VM's name.
    pub name: String,
    /// The backup.
    pub backup: BackupInfo,
    /// Drives that are not backed up.
    pub left_out: Vec<LeftOutDrive>,
    /// What went otherwise than one expects.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl Operation for BackupCreate {
    const NAME: &'static str = "backup.create";
    const EFFECT: Effect = Effect::Notes;
    type Output = BackupCreated;

    async fn run(&self, app: &App) -> Result<Done<BackupCreated>, Error> {
        // Boxed, as it holds a session, which makes it large.
        Box::pin(self.create(app)).await
    }
}

impl BackupCreate {
    async fn create(&self, app: &App) -> Result<Done<BackupCreated>, Error> {
        let (guard, vm) = app.vms().lock(&self.vm, Self::NAME).await?;
        let machine = app.machine(&vm)?;
        let BackupDrives { disks, left_out } = BackupDrives::of(app, &vm.entry.name, &machine).await?;
        let status = app.observer().observe_locked(&vm.entry).await.status;
        let source = source_of(&vm.entry, status)?;
        let job = app.jobs.start(Self::NAME, &vm.entry.name).within(self.timeout);
        let mut guards = match source {
            // Its QEMU has them open.
            BackupSource::Running => Vec::new(),
            BackupSource::Stopped => {
                let paths: Vec<&Path> = disks.iter().map(|disk| &*disk.path).collect();
                lock_images(app, paths, Self::NAME).await?
            }
        };
        let place = Place::create(app, &vm.entry.name, self.to.as_deref()).await?;
        let (place_guard, place) = place.lock(app, Self::NAME).await?;
        guards.push(place_guard);

        let binary = app.preflight().binary_name(&machine);
        let binary = app.ports.hypervisor.binary(&binary).await?.path;
        let name = BackupName::new(app.ports.clock.now(), |name| place.has(name));
        let run = BackupRun {
            app,
            job: &job,
            entry: &vm.entry,
            disks: &disks,
            place: &place,
            definition: &vm.definition,
            binary,
            source,
            is_full: self.full,
            quiesce: self.quiesce && source == BackupSource::Running,
            name,
        };
        let warnings: Vec<String> = run.check_guest().await?.into_iter().collect();
        let entry = app.committer().begin_work(&vm.entry, Self::NAME, run.pending(), Vec::new()).await?;
        app.faults.reach(FaultPoint::Marked(Self::NAME));
        let manifest = match run.run().await {
            Ok(manifest) => manifest,
            Err(failed) => {
                // Else its work stays pending, and the next operation cleans up.
                if failed.is_cleaned_up {
                    clear(app, &entry).await;
                }
                return Err(failed.error);
            }
        };
        let lengths = manifest.drives.iter().map(|drive| Some(drive.file_bytes)).collect();
        let directory = place.directory.join(manifest.name.as_str());
        let made = FoundBackup { directory, manifest, lengths };
        let catalog = BackupCatalog::new(place.catalog.backups().iter().cloned().chain([made.clone()]).collect());
        let backup = BackupInfo::new(&made, &catalog);

        let data = json!({ "name": backup.name, "directory": backup.directory, "kind": backup.kind });
        let event = app.committer().event(kind::BACKUP_CREATED, &entry, data);
        let changes = ChangeSet::default().and(work_done(&entry));
        let (id, name) = (entry.id.to_string(), entry.name.to_string());
        let created = BackupCreated { id, name, backup, left_out, warnings };
        let done = Done::changing(created, entry.id, changes).event(event);
        Ok(guards.into_iter().fold(done.holding(guard), Done::holding))
    }
}

/// Records that nothing is pending after a backup that failed and was cleaned up.
async fn clear(app: &App, entry: &VmEntry) {
    if let Err(error) = app.committer().end_work(entry, Vec::new()).await {
        // The next operation finds nothing to clean up.
        tracing::warn!(%error, "could not record that a backup failed");
    }
}
