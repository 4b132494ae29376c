//! Making a backup: all drives at one moment, full or only what changed.
//!
//! ```text
//! pending work is committed ─▶ empty images, space reserved ─▶ bitmaps begin ─▶ QEMU copies ─▶ images on disk
//!   ─▶ manifest, directory renamed (the backup is complete) ─▶ older bitmaps removed ─▶ pending work is cleared
//! ```
//!
//! The new bitmap begins just before the copies, so it has at least what changes after them. Until the backup is complete,
//! everything is rolled back by removing the directory and the new bitmap; the older ones, and the backups that they belong
//! to, are as they were. Space is reserved first, because a guest whose write meets a full image of a backup fails (QEMU
//! 7.2, 10.0): QEMU copies the old data before it lets the guest write.

use std::path::{Path, PathBuf};

use maqet_domain::Timestamp;
use maqet_domain::backup::{
    BackedUpDrive, BackupContent, BackupManifest, BackupName, BackupSource, BackupVm, DirtyBitmap, DriveFacts,
    DrivePlan, MANIFEST_FORMAT, bitmap_name, directory_hash, obsolete_bitmaps, plan_drive, target_bytes,
};
use maqet_domain::command_line::CommandLine;
use maqet_domain::config::Node;
use maqet_domain::port::{BackupStoreError, ImageError, Launch};
use maqet_domain::vm::{PendingWork, RunPaths, Status, VmEntry, VmId};
use maqet_fault_points::FaultPoint;
use serde_json::Value;

use super::copier::{Copier, Copy, target_node};
use super::drive::DiskDrive;
use super::error::BackupError;
use super::place::Place;
use crate::app::ports::Directories;
use crate::guest::agent::Agent;
use crate::guest::error::ExecError;
use crate::guest::quiesce::Frozen;
use crate::job::Job;
use crate::{App, Error, limits};

/// A backup that is being made; the caller holds the locks of the VM and of the directory.
pub(crate) struct BackupRun<'a> {
    pub(crate) app: &'a App,
    pub(crate) job: &'a Job<'a>,
    pub(crate) entry: &'a VmEntry,
    pub(crate) disks: &'a [DiskDrive],
    pub(crate) place: &'a Place,
    pub(crate) definition: &'a Node,
    pub(crate) binary: PathBuf,
    pub(crate) source: BackupSource,
    pub(crate) is_full: bool,
    /// Whether the file systems of the running guest are frozen for the moment of the backup.
    pub(crate) quiesce: bool,
    pub(crate) name: BackupName,
}

/// A backup that failed.
pub(crate) struct FailedBackup {
    pub(crate) error: Error,
    /// Whether nothing is left of it.
    pub(crate) is_cleaned_up: bool,
}

/// Of a step before anything was changed.
impl From<Error> for FailedBackup {
    fn from(error: Error) -> Self {
        Self { error, is_cleaned_up: true }
    }
}

/// A drive, and how it is backed up.
struct Planned<'d> {
    disk: &'d DiskDrive,
    /// The block node of its image.
    node: String,
    /// Where QEMU has the disk.
    path: PathBuf,
    facts: DriveFacts,
    plan: DrivePlan,
    actual_bytes: u64,
}

/// Returns whether a VM in this state is backed up by its own QEMU or by another one.
pub(crate) fn source_of(entry: &VmEntry, status: Status) -> Result<BackupSource, BackupError> {
    match status {
        Status::Defined | Status::Stopped(_) => Ok(BackupSource::Stopped),
        Status::Running | Status::Paused | Status::Suspended | Status::IoError | Status::Panicked => {
            Ok(BackupSource::Running)
        }
        Status::Starting
        | Status::Busy
        | Status::Stopping
        | Status::RestoreFailed
        | Status::Unreachable
        | Status::Orphaned => Err(BackupError::WrongState { vm: entry.name.clone(), status }),
    }
}

/// Returns the paths of the QEMU that is there for a backup only.
pub(crate) fn server_paths(folders: &Directories, id: &VmId) -> RunPaths {
    let sockets = folders.vm_sockets(id).join("backup");
    RunPaths { records: sockets.clone(), sockets }
}

impl<'a> BackupRun<'a> {
    /// Returns the directory of the backup until it is complete.
    pub(crate) fn unfinished(&self) -> PathBuf {
        self.place.directory.join(format!(".{}.unfinished", self.name))
    }

    fn hash(&self) -> u32 {
        directory_hash(self.place.directory.as_os_str().as_encoded_bytes())
    }

    fn bitmap(&self) -> String {
        bitmap_name(self.hash(), &self.name)
    }

    /// Returns what is committed before the first step.
    pub(crate) fn pending(&self) -> PendingWork {
        let drives = self.disks.iter().map(|disk| (disk.name.clone(), disk.path.clone())).collect();
        let complete = self.place.directory.join(self.name.as_str());
        PendingWork::Backup {
            unfinished: self.unfinished(),
            complete,
            bitmap: self.bitmap(),
            drives,
            quiesced: self.quiesce,
        }
    }

    /// Makes the backup; nothing is left of one that fails, if that is possible.
    pub(crate) async fn run(&self) -> Result<BackupManifest, FailedBackup> {
        let mut copier = self.open().await?;
        let state_before = match self.source {
            BackupSource::Running => copier.run_state().await.map_err(Error::from)?,
            BackupSource::Stopped => String::new(),
        };
        match self.make(&mut copier).await {
            Ok(manifest) => {
                if let Err(error) = copier.end().await {
                    tracing::warn!(%error, "could not end the QEMU of a backup");
                }
                Ok(manifest)
            }
            Err(error) => {
                let cleaned_up = self.abandon(copier, &state_before).await;
                if let Err(error) = &cleaned_up {
                    tracing::warn!(%error, "could not clean up a backup that failed; the next operation does");
                }
                // The next operation thaws what could not be thawed.
                let is_cleaned_up = cleaned_up.is_ok() && !error.is_not_thawed();
                Err(FailedBackup { error: self.or_copier_ended(error), is_cleaned_up })
            }
        }
    }

    /// Returns that the QEMU without a guest has ended, if that is why the backup failed: the VM itself has not.
    fn or_copier_ended(&self, error: Error) -> Error {
        if self.source == BackupSource::Running || !error.is_connection_loss() {
            return error;
        }
        BackupError::CopierEnded { vm: self.entry.name.clone(), source: Box::new(error) }.into()
    }

    /// Opens a session with the QEMU of the VM, or with one without a guest.
    async fn open(&self) -> Result<Copier, Error> {
        let running = self.entry.run.as_ref().filter(|_| self.source == BackupSource::Running);
        if let Some(run) = running {
            return Copier::open(self.app, &run.paths, None).await;
        }
        for disk in self.disks {
            if !self.app.ports.images.exists(&disk.path).await {
                let (vm, drive) = (self.entry.name.clone(), disk.name.clone());
                return Err(BackupError::DiskMissing { vm, drive, path: disk.path.clone() }.into());
            }
        }
        let paths = server_paths(&self.app.folders, &self.entry.id);
        let backends = self.disks.iter().flat_map(|disk| disk.backend.clone()).collect();
        let command_line = CommandLine::image_server(self.binary.clone(), &paths, backends)?;
        let timeout = self.app.timeouts().start;
        let launch =
            Launch { command_line, paths, files: Vec::new(), timeout, is_foreground: false, is_successor: false };
        let started = self.job.run(self.app.ports.hypervisor.serve_images(&launch)).await?;
        let server = started.map_err(|source| Error::Launch { vm: self.entry.name.clone(), source })?;
        Copier::open(self.app, &launch.paths, Some(server)).await
    }

    async fn make(&self, copier: &mut Copier) -> Result<BackupManifest, Error> {
        let qemu = copier.version().await?;
        let planned = self.plan(&copier.nodes().await?)?;
        let unfinished = self.unfinished();
        self.app.ports.backups.begin(&unfinished).await?;
        for drive in &planned {
            self.create_image(drive, &unfinished).await?;
        }
        self.app.faults.reach(FaultPoint::BackupImagesCreated);
        let at = self.copy(copier, &planned, &unfinished).await?;
        self.app.faults.reach(FaultPoint::BackupCopied);

        let manifest = self.manifest((qemu, at), &planned, &unfinished).await?;
        self.app.ports.backups.publish(&unfinished, &manifest).await?;
        self.app.faults.reach(FaultPoint::BackupPublished);
        if let Err(error) = copier.remove_bitmaps(&self.obsolete(&planned)).await {
            // The next backup removes them.
            tracing::warn!(%error, "could not remove the bitmaps of earlier backups");
        }
        Ok(manifest)
    }

    /// Decides how each drive is backed up, by the block nodes of QEMU.
    fn plan(&self, nodes: &[Value]) -> Result<Vec<Planned<'a>>, Error> {
        let plan = |disk: &'a DiskDrive| {
            // The image of a layer that was added in this run does not have the node of the drive.
            let is_named = |node: &&Value| node["node-name"] == disk.name.as_str();
            let has_image = |node: &&Value| {
                node["file"].as_str().map(Path::new) == Some(&disk.path) && node["drv"] == disk.format.as_str()
            };
            let both = nodes.iter().find(|node| is_named(node) && has_image(node));
            let found = both.or_else(|| nodes.iter().find(has_image)).or_else(|| nodes.iter().find(is_named));
            let node = found.ok_or_else(|| self.not_running(disk))?;
            let image = &node["image"];
            let number = |value: &Value| value.as_u64().unwrap_or_default();
            let path = image["filename"].as_str().map(Path::new).filter(|path| path.is_absolute());
            let facts = DriveFacts {
                drive: disk.name.clone(),
                format: node["drv"].as_str().unwrap_or(&disk.format).to_owned(),
                virtual_bytes: number(&image["virtual-size"]),
                bitmaps: DirtyBitmap::of_node(node),
            };
            Ok(Planned {
                disk,
                node: node["node-name"].as_str().unwrap_or(&disk.name).to_owned(),
                path: path.unwrap_or(&disk.path).to_owned(),
                plan: plan_drive(&facts, &self.place.catalog, self.is_full),
                facts,
                actual_bytes: number(&image["actual-size"]),
            })
        };
        self.disks.iter().map(plan).collect()
    }

    fn not_running(&self, disk: &DiskDrive) -> Error {
        BackupError::DriveNotRunning { vm: self.entry.name.clone(), drive: disk.name.clone() }.into()
    }

    /// Creates the image of a drive, with the space it takes at most.
    async fn create_image(&self, drive: &Planned<'_>, unfinished: &Path) -> Result<(), Error> {
        let (store, images) = (&*self.app.ports.backups, &*self.app.ports.backup_images);
        let file = drive.file(unfinished);
        let virtual_bytes = drive.facts.virtual_bytes;
        let data = if let Some(bitmap) = &drive.plan.bitmap {
            bitmap.count
        } else {
            let measured = images.full_bytes(&drive.path, &drive.facts.format).await?;
            // The tables on disk may be older than those of QEMU, but not the size of the file.
            measured.max(drive.actual_bytes)
        };
        let at_most = target_bytes(virtual_bytes, data + limits::BACKUP_RESERVE_BYTES);
        store.create_file(&file).await?;
        let created = match drive.base() {
            Some(base) => images.create_increment(&file, virtual_bytes, &base).await,
            None => images.create_full(&file, virtual_bytes).await,
        };
        match created {
            Err(ImageError::Full { .. }) => {
                let needed_mib = at_most.div_ceil(1 << 20);
                return Err(BackupStoreError::Full { path: self.place.directory.clone(), needed_mib }.into());
            }
            created => created?,
        }
        Ok(store.reserve(&file, at_most).await?)
    }

    /// Has QEMU copy the drives; returns the moment of which the copies are.
    async fn copy(&self, copier: &mut Copier, planned: &[Planned<'_>], unfinished: &Path) -> Result<Timestamp, Error> {
        let mut drives = Vec::new();
        for (index, drive) in planned.iter().enumerate() {
            let target = target_node(index);
            copier.add_target(&target, &drive.file(unfinished), drive.base().is_some()).await?;
            let bitmap = drive.plan.bitmap.as_ref().map(|bitmap| bitmap.name.clone());
            drives.push(Copy { node: drive.node.clone(), target, bitmap });
        }
        // A backup that was removed in this second had the same name; its bitmap is left.
        let is_stale = |drive: &&Planned<'_>| drive.facts.bitmaps.iter().any(|found| found.name == self.bitmap());
        let stale = planned.iter().filter(is_stale).map(|drive| (drive.node.clone(), self.bitmap()));
        copier.remove_bitmaps(&stale.collect::<Vec<_>>()).await?;
        let recording = planned.iter().filter(|drive| drive.has_bitmap()).map(|drive| drive.node.clone());
        copier.add_bitmaps(&recording.collect::<Vec<_>>(), &self.bitmap()).await?;
        self.job.set_stage("copying");
        let faults = &self.app.faults;
        let started = || faults.reach(FaultPoint::BackupStarted);
        let frozen = self.freeze().await?;
        let at = self.app.ports.clock.now();
        copier.copy(self.app, self.job, &drives, started, frozen).await?;
        for copy in &drives {
            copier.close_target(&copy.target).await?;
        }
        Ok(at)
    }

    /// Completes the images, and describes the backup.
    async fn manifest(
        &self,
        (qemu, created_at): (String, Timestamp),
        planned: &[Planned<'_>],
        unfinished: &Path,
    ) -> Result<BackupManifest, Error> {
        self.job.set_stage("checking");
        let mut drives = Vec::new();
        for drive in planned {
            let progress = |done| self.job.report_without_total(crate::ProgressUnit::Bytes, done);
            let file = drive.file(unfinished);
            let facts = self.job.run(self.app.ports.backups.complete(&file, &progress)).await??;
            drives.push(BackedUpDrive {
                drive: drive.disk.name.clone(),
                file: file_name(drive.disk),
                disk: drive.path.clone(),
                format: drive.facts.format.clone(),
                virtual_bytes: drive.facts.virtual_bytes,
                content: drive.plan.content.clone(),
                bitmap: drive.has_bitmap().then(|| self.bitmap()),
                file_bytes: facts.file_bytes,
                crc32: facts.crc32,
            });
        }
        Ok(BackupManifest {
            format: MANIFEST_FORMAT,
            name: self.name.clone(),
            created_at,
            vm: BackupVm { id: self.entry.id, name: self.entry.name.clone() },
            source: self.source,
            qemu,
            drives,
            definition: self.definition.clone(),
        })
    }

    /// Returns the bitmaps of earlier backups in the same directory, each with its node.
    fn obsolete(&self, planned: &[Planned<'_>]) -> Vec<(String, String)> {
        let current = self.bitmap();
        let of_drive = |drive: &Planned<'_>| {
            let names: Vec<String> =
                obsolete_bitmaps(&drive.facts.bitmaps, self.hash(), &current).map(str::to_owned).collect();
            let node = drive.node.clone();
            names.into_iter().map(move |name| (node.clone(), name))
        };
        planned.iter().filter(|drive| drive.has_bitmap()).flat_map(of_drive).collect()
    }

    /// Returns the agent of the guest that is to be frozen, if that is requested.
    fn agent(&self) -> Option<Agent<'_>> {
        let run = self.entry.run.as_ref().filter(|_| self.quiesce)?;
        Some(Agent { agents: &*self.app.ports.agents, paths: &run.paths })
    }

    /// Checks that the guest can be frozen, if that is requested; returns a warning if it would not thaw on its own.
    pub(crate) async fn check_guest(&self) -> Result<Option<String>, Error> {
        match self.agent() {
            Some(agent) => Ok(Frozen::check(agent, &self.entry.name).await.map_err(ExecError::from)?),
            None => Ok(None),
        }
    }

    /// Freezes the file systems of the guest, if that is requested.
    async fn freeze(&self) -> Result<Option<Frozen<'_>>, Error> {
        match self.agent() {
            Some(agent) => {
                let limit = self.app.timeouts().freeze;
                Ok(Some(Frozen::freeze(agent, &self.entry.name, limit).await.map_err(ExecError::from)?))
            }
            None => Ok(None),
        }
    }

    /// Removes what a backup that failed left in QEMU and on disk.
    async fn abandon(&self, mut copier: Copier, state_before: &str) -> Result<(), Error> {
        let mut cleaned = copier.clean_up(Some(&self.bitmap())).await;
        // A write of the guest failed because the image of the backup could not be written; now it succeeds.
        let is_halted = state_before == "running" && copier.run_state().await.is_ok_and(|state| state == "io-error");
        if is_halted {
            cleaned = cleaned.and(copier.resume().await);
        }
        let ended = copier.end().await;
        let removed = self.app.ports.backups.remove(&self.unfinished()).await;
        cleaned.and(ended)?;
        Ok(removed?)
    }
}

/// Returns the name of the image of a drive.
fn file_name(disk: &DiskDrive) -> String {
    format!("{}.qcow2", disk.name)
}

impl Planned<'_> {
    fn file(&self, unfinished: &Path) -> PathBuf {
        unfinished.join(file_name(self.disk))
    }

    /// Returns the image that this one builds on, from its own directory.
    fn base(&self) -> Option<PathBuf> {
        match &self.plan.content {
            BackupContent::Full { .. } => None,
            BackupContent::Incremental { base } => Some(Path::new("..").join(base.as_str()).join(file_name(self.disk))),
        }
    }

    fn has_bitmap(&self) -> bool {
        self.facts.format == "qcow2"
    }
}
