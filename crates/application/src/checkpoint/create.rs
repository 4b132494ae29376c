//! Taking a checkpoint.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::{Either, select};
use maqet_domain::Timestamp;
use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::checkpoint::ladder::can_cancel_background;
use maqet_domain::checkpoint::{
    CheckpointManifest, CheckpointMethod, CheckpointName, CheckpointQemu, CheckpointVm, CopiedFile, FrozenDisk,
    MANIFEST_FORMAT, MemoryFile, StateFile, TemplateRecord, UNFINISHED_SUFFIX, has_host_cpu,
};
use maqet_domain::command_line::without_resuming;
use maqet_domain::config::Node;
use maqet_domain::event::{Event, kind};
use maqet_domain::port::{BackupStoreError, CheckpointFileError, HeldLock, UnfinishedCheckpoint};
use maqet_domain::qmp::{MigrationInfo, MigrationStatus, QmpCommand};
use maqet_domain::storage::LAYER_FORMAT;
use maqet_domain::vm::{CheckpointWork, PendingWork, RunPaths, Vm, VmEntry, with_layer};
use maqet_fault_points::FaultPoint;
use serde_json::json;
use tokio::time::Instant;

use super::branches::{create_layer, layer_record, new_layers};
use super::error::CheckpointError;
use super::place::Place;
use super::preflight::{Plan, PlannedDisk, plan};
use super::recover;
use super::saver::mark_of;
use crate::job::{Job, ProgressUnit};
use crate::snapshot::live::LiveVm;
use crate::start::firmware::VARIABLES_NAME;
use crate::{App, Error, limits};

/// What a user says about a checkpoint.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) name: CheckpointName,
    pub(crate) description: Option<String>,
    /// Whether its files are on disk once it is taken.
    pub(crate) is_durable: bool,
    /// Whether it goes with the last fork of it.
    pub(crate) is_temporary: bool,
    /// What is recorded of a template, if it is that of one.
    pub(crate) template: Option<Box<TemplateRecord>>,
}

/// A checkpoint that is taken; the caller holds the lock of the VM.
pub(crate) struct Creation<'a> {
    pub(crate) app: &'a App,
    pub(crate) job: &'a Job<'a>,
    pub(crate) guard: &'a HeldLock,
    pub(crate) operation: &'static str,
    pub(crate) request: Request,
    pub(crate) plan: Plan,
    pub(crate) definition: Node,
    /// Whether a guest that ran stays paused once the checkpoint is taken; if it is not, the guest runs on.
    pub(crate) stays_paused: bool,
}

/// A checkpoint that was taken.
pub(crate) struct Created {
    /// The VM, whose work is still pending.
    pub(crate) entry: VmEntry,
    pub(crate) directory: PathBuf,
    pub(crate) manifest: CheckpointManifest,
}

/// Takes a checkpoint of a VM that `guard` has the lock of; the caller commits that the work is done.
pub(crate) async fn take(
    app: &App,
    job: &Job<'_>,
    (guard, vm): (&HeldLock, &Vm),
    request: Request,
    max_pause: Option<Duration>,
    operation: &'static str,
) -> Result<Created, Error> {
    let entry = &vm.entry;
    let place = Place::read(app, &entry.id).await?;
    if place.directory_of(entry, request.name.as_str()).is_ok() {
        return Err(CheckpointError::Exists { vm: entry.name.clone(), name: request.name }.into());
    }
    let machine = app.machine(vm)?;
    let Some(mut live) = LiveVm::open(app, entry).await? else {
        let status = app.observer().observe_locked(entry).await.status;
        return Err(CheckpointError::WrongState { vm: entry.name.clone(), status }.into());
    };
    // Not cut off in the middle: a capability of QEMU that it tries would stay on.
    let plan = plan(app, &mut live, entry, &machine, max_pause).await?;
    let definition = vm.definition.clone();
    let creation = Creation { app, job, guard, operation, request, plan, definition, stays_paused: false };
    creation.run(live, entry).await
}

/// Returns the event that a checkpoint was taken.
pub(crate) fn created_event(app: &App, entry: &VmEntry, manifest: &CheckpointManifest) -> Event {
    let data = json!({ "name": manifest.name, "method": manifest.method, "pause_ms": manifest.pause_ms });
    app.committer().event(kind::CHECKPOINT_CREATED, entry, data)
}

/// How long the guest was paused, and when.
#[derive(Clone, Copy)]
struct Moment {
    taken_at: Timestamp,
    pause: Duration,
}

impl Creation<'_> {
    /// Takes the checkpoint; if that fails or is canceled, the guest runs on and nothing of it is left.
    pub(crate) async fn run(self, mut live: LiveVm<'_>, entry: &VmEntry) -> Result<Created, Error> {
        let app = self.app;
        let arguments = app.ports.processes.args(live.process()?);
        let work = self.work(entry, arguments, live.run().paths.clone()).await?;
        let pending = PendingWork::CheckpointCreate(Box::new(work.clone()));
        let mut entry = app.committer().begin_work(entry, self.operation, pending, Vec::new()).await?;
        app.faults.reach(FaultPoint::Marked(self.operation));
        let taken = match self.save(&mut live, &mut entry, work.clone()).await {
            Ok(work) => self.finish(&work).await,
            Err(error) => Err(error),
        };
        match taken {
            Ok((directory, manifest)) => Ok(Created { entry, directory, manifest }),
            Err(error) => Err(self.give_up(live, &entry, &work, error).await),
        }
    }

    /// Returns what is committed before the first step.
    async fn work(&self, entry: &VmEntry, arguments: Vec<String>, paths: RunPaths) -> Result<CheckpointWork, Error> {
        let place = Place::read(self.app, &entry.id).await?;
        // Nothing is pending, so nothing needs what a process left that was killed.
        for directory in &place.listing.unfinished {
            self.app.ports.checkpoints.remove(directory).await?;
        }
        let complete = place.directory.join(self.request.name.as_str());
        let partial = place.directory.join(format!("{}{}", self.request.name, UNFINISHED_SUFFIX));
        let disks: Vec<(&str, &Path)> =
            self.plan.disks.iter().map(|disk| (disk.spec.name.as_str(), &*disk.base)).collect();
        let layers = new_layers(self.app, entry, &disks).await;
        let manifest = self.draft(entry, &place, &arguments, paths);
        let draft = serde_json::to_value(manifest)
            .map_err(|source| Error::Encode { operation: self.operation.to_owned(), source })?;
        Ok(CheckpointWork {
            partial,
            complete,
            layers,
            resumes: self.plan.runs,
            earlier: mark_of(&self.plan.earlier),
            memory: self.plan.memory.clone(),
            bandwidth: self.plan.bandwidth,
            is_durable: self.request.is_durable,
            draft,
        })
    }

    /// Returns the manifest, as far as it is known before the checkpoint.
    fn draft(&self, entry: &VmEntry, place: &Place, arguments: &[String], paths: RunPaths) -> CheckpointManifest {
        let binary = arguments.first().map(PathBuf::from).unwrap_or_default();
        let arguments = without_resuming(arguments.get(1..).unwrap_or_default());
        let has_host_cpu = has_host_cpu(self.plan.accelerator, &arguments);
        let host_cpu_flags = has_host_cpu.then(|| self.app.ports.host.cpu_flags());
        let disk = |disk: &PlannedDisk| FrozenDisk {
            drive: disk.spec.name.to_string(),
            file: disk.path.clone(),
            format: disk.format.clone(),
            virtual_bytes: disk.virtual_bytes,
        };
        CheckpointManifest {
            format: MANIFEST_FORMAT,
            name: self.request.name.clone(),
            description: self.request.description.clone(),
            taken_at: self.app.committer().now(),
            vm: CheckpointVm { id: entry.id, name: entry.name.clone() },
            definition: self.definition.clone(),
            ram: MemoryFile {
                block: self.plan.memory.clone(),
                bytes: 0,
                used_bytes: 0,
                crc32: 0,
                modified_at: Timestamp::UNIX_EPOCH,
            },
            state: StateFile { bytes: 0, crc32: 0 },
            disks: self.plan.disks.iter().map(disk).collect(),
            uefi_variables: None,
            method: self.plan.rung.method,
            reason: self.plan.rung.reason.clone(),
            pause_ms: 0,
            has_generation_id: arguments.iter().any(|argument| argument.contains("vmgenid")),
            added_devices: self.plan.added_devices.clone(),
            is_temporary: self.request.is_temporary,
            template: self.request.template.clone(),
            parent: place.names().pop(),
            qemu: CheckpointQemu {
                binary,
                version: self.plan.version,
                package: self.plan.package.clone(),
                arguments,
                paths,
                accelerator: self.plan.accelerator.to_owned(),
                machine_type: String::new(),
                host_cpu_flags,
            },
        }
    }

    /// Has QEMU save the VM; returns the work with what is known by then.
    async fn save(
        &self,
        live: &mut LiveVm<'_>,
        entry: &mut VmEntry,
        work: CheckpointWork,
    ) -> Result<CheckpointWork, Error> {
        let app = self.app;
        let directory = app.folders.vm_checkpoints(&entry.id);
        let unfinished = app.ports.checkpoints.begin(&directory, &self.request.name).await?;
        self.reserve(&unfinished.stream).await?;
        self.create_layers(&work).await?;
        live.open_layers(&self.plan.disks, &work.layers).await?;
        app.faults.reach(FaultPoint::CheckpointPrepared);
        let work = self.save_prepared(live, entry, &unfinished, work).await?;
        app.faults.reach(FaultPoint::CheckpointSaved);
        Ok(work)
    }

    /// Reserves the space for what QEMU writes, where the guest would hang if it could not be written.
    async fn reserve(&self, stream: &Path) -> Result<(), Error> {
        let is_background = self.plan.rung.method == CheckpointMethod::BackgroundSnapshot;
        if !is_background || can_cancel_background(self.plan.version) {
            return Ok(());
        }
        let bytes = self.plan.used_bytes + self.plan.used_bytes / 10;
        match self.app.ports.backups.reserve(stream, bytes).await {
            Err(BackupStoreError::Full { .. }) => {
                let path = stream.parent().unwrap_or(stream).to_owned();
                Err(CheckpointFileError::Full { path }.into())
            }
            reserved => Ok(reserved?),
        }
    }

    async fn create_layers(&self, work: &CheckpointWork) -> Result<(), Error> {
        for (disk, layer) in self.plan.disks.iter().zip(&work.layers) {
            create_layer(self.app, &layer.path, (&disk.path, &disk.format), disk.virtual_bytes).await?;
        }
        Ok(())
    }

    async fn save_prepared(
        &self,
        live: &mut LiveVm<'_>,
        entry: &mut VmEntry,
        unfinished: &UnfinishedCheckpoint,
        mut work: CheckpointWork,
    ) -> Result<CheckpointWork, Error> {
        let app = self.app;
        let is_set = self.plan.version.major >= 9;
        let sink = live.pass_stream(&unfinished.stream, is_set).await?;
        live.prepare_saving(self.plan.rung.method).await?;
        let began = Instant::now();
        let taken_at = app.committer().now();
        if work.resumes {
            live.query(&QmpCommand::new("stop")).await?;
        }
        live.freeze_disks(&self.plan.disks, &work.layers).await?;
        app.faults.reach(FaultPoint::CheckpointFrozen);
        let variables = match &self.plan.variables {
            Some(path) => {
                Some(app.ports.checkpoints.copy(&unfinished.directory, path, LAYER_FORMAT, VARIABLES_NAME).await?)
            }
            None => None,
        };
        live.begin_saving(sink).await?;
        app.faults.reach(FaultPoint::CheckpointSaving);
        let info = match self.plan.rung.method {
            CheckpointMethod::BackgroundSnapshot => live.wait_for_memory().await?,
            _ => self.wait_for_end(live, &work).await?,
        };
        self.require_saved(&info)?;
        if work.resumes && !self.stays_paused {
            live.run_on().await?;
        }
        let moment = Moment { taken_at, pause: began.elapsed() };
        app.faults.reach(FaultPoint::CheckpointResumed);
        self.describe(&mut work, moment, variables)?;
        *entry = record_layers(app, entry, self.operation, &work).await?;
        let info = self.wait_for_end(live, &work).await?;
        self.require_saved(&info)?;
        live.end_saving(work.bandwidth).await?;
        Ok(work)
    }

    /// Adds what is known of the moment of the checkpoint to the draft of the manifest.
    fn describe(&self, work: &mut CheckpointWork, moment: Moment, variables: Option<CopiedFile>) -> Result<(), Error> {
        let encode = |source| Error::Encode { operation: self.operation.to_owned(), source };
        let mut manifest: CheckpointManifest = serde_json::from_value(work.draft.take()).map_err(encode)?;
        manifest.taken_at = moment.taken_at;
        manifest.pause_ms = u64::try_from(moment.pause.as_millis()).unwrap_or(u64::MAX);
        manifest.uefi_variables = variables;
        work.draft = serde_json::to_value(manifest).map_err(encode)?;
        Ok(())
    }

    /// Waits until QEMU has written everything; gives up if the job is canceled, or another process wants that.
    async fn wait_for_end(&self, live: &mut LiveVm<'_>, work: &CheckpointWork) -> Result<MigrationInfo, Error> {
        self.job.set_stage("saving the memory");
        let canceled = {
            let report = |info: &MigrationInfo| {
                let done = info.total.saturating_sub(info.remaining);
                self.job.report(ProgressUnit::Bytes, done, info.total);
            };
            let end = std::pin::pin!(live.wait_for_end(report));
            let cut_off = std::pin::pin!(self.cut_off(work));
            match select(end, cut_off).await {
                Either::Left((ended, _)) => return Ok(ended?),
                Either::Right((error, _)) => error,
            }
        };
        let is_background = self.plan.rung.method == CheckpointMethod::BackgroundSnapshot;
        if is_background && !can_cancel_background(self.plan.version) {
            self.job.set_stage("waiting for QEMU, to undo it");
            live.wait_for_end(|_| {}).await?;
        } else {
            live.cancel_saving().await?;
        }
        Err(canceled)
    }

    /// Waits until the checkpoint is to be given up.
    async fn cut_off(&self, work: &CheckpointWork) -> Error {
        let elsewhere = std::pin::pin!(super::cancel::requested(self.app, &work.partial));
        let here = std::pin::pin!(self.job.cut_off());
        match select(here, elsewhere).await {
            Either::Left((error, _)) => error,
            Either::Right(((), _)) => {
                CheckpointError::Canceled { vm: self.job.vm().clone(), name: self.request.name.clone() }.into()
            }
        }
    }

    /// Returns an error unless QEMU has written everything, or does so.
    fn require_saved(&self, info: &MigrationInfo) -> Result<(), Error> {
        match info.status {
            MigrationStatus::Failed | MigrationStatus::Cancelled | MigrationStatus::Cancelling => {
                let reason = info.error.clone().unwrap_or_else(|| "another program canceled it".to_owned());
                let is_background = self.plan.rung.method == CheckpointMethod::BackgroundSnapshot;
                let vm = self.job.vm().clone();
                Err(if is_background && !can_cancel_background(self.plan.version) {
                    CheckpointError::GuestHangs { vm, reason }.into()
                } else {
                    CheckpointError::SaveFailed { vm, reason }.into()
                })
            }
            MigrationStatus::None
            | MigrationStatus::Setup
            | MigrationStatus::Active
            | MigrationStatus::Device
            | MigrationStatus::PreSwitchover
            | MigrationStatus::Completed
            | MigrationStatus::Unrecognised => Ok(()),
        }
    }

    /// Completes the files of the checkpoint.
    async fn finish(&self, work: &CheckpointWork) -> Result<(PathBuf, CheckpointManifest), Error> {
        self.job.set_stage("taking the memory out");
        let progress = |done| self.job.report_without_total(ProgressUnit::Bytes, done);
        let taken_apart = std::pin::pin!(take_apart(self.app, work, &progress));
        // First, as it may have been requested long before.
        let cut_off = std::pin::pin!(self.cut_off(work));
        let manifest = match select(cut_off, taken_apart).await {
            Either::Left((error, _)) => return Err(error),
            Either::Right((manifest, _)) => manifest?,
        };
        publish(self.app, work, manifest).await
    }

    /// Undoes what was done, and returns the error; what cannot be undone stays pending for the next operation.
    async fn give_up(&self, live: LiveVm<'_>, entry: &VmEntry, work: &CheckpointWork, error: Error) -> Error {
        drop(live);
        let undone = async {
            let vm = self.app.ports.store.by_id(&entry.id).await?;
            let entry = vm.map_or_else(|| entry.clone(), |vm| vm.entry);
            let recovered = recover::undo(self.app, &entry, self.guard, work).await?;
            self.app.committer().end_work(&recovered.entry, recovered.changes).await
        };
        if let Err(failed) = Box::pin(undone).await {
            tracing::warn!(vm = %entry.name, error = %failed, "could not undo a checkpoint; the next operation does");
        }
        error
    }
}

/// Records that the guest writes to the layers; returns the entry of the VM as it is from then on.
pub(super) async fn record_layers(
    app: &App,
    entry: &VmEntry,
    operation: &str,
    work: &CheckpointWork,
) -> Result<VmEntry, Error> {
    let mut layers = entry.layers.clone();
    let mut changes = ChangeSet::default();
    for new in &work.layers {
        layers = with_layer(layers, &new.drive, &new.base, new.path.clone());
        changes = changes.and(layer_record(app, entry, new));
    }
    let layering = Change::LayersChanged { id: entry.id, expected: entry.revision, layers: layers.clone() };
    let layered = VmEntry { layers, revision: entry.revision.next(), ..entry.clone() };
    let pending = PendingWork::CheckpointCreate(Box::new(work.clone()));
    app.committer().begin_last_step(&layered, operation, pending, changes.and(layering)).await
}

/// Takes the saved state apart, and completes the checkpoint.
pub(super) async fn complete(app: &App, work: &CheckpointWork) -> Result<(PathBuf, CheckpointManifest), Error> {
    let manifest = take_apart(app, work, &|_| {}).await?;
    publish(app, work, manifest).await
}

/// Takes the saved state apart; returns the manifest.
async fn take_apart(
    app: &App,
    work: &CheckpointWork,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<CheckpointManifest, Error> {
    let taken = app.ports.checkpoints.take_apart(&work.partial, &work.memory, progress).await?;
    app.faults.reach(FaultPoint::CheckpointSorted);
    let mut manifest: CheckpointManifest = serde_json::from_value(work.draft.clone())
        .map_err(|source| Error::Encode { operation: "checkpoint.create".to_owned(), source })?;
    manifest.qemu.machine_type = taken.machine_type;
    manifest.ram = taken.ram;
    manifest.state = taken.state;
    Ok(manifest)
}

/// Gives the directory of a checkpoint its name; from then on, it is one.
async fn publish(
    app: &App,
    work: &CheckpointWork,
    manifest: CheckpointManifest,
) -> Result<(PathBuf, CheckpointManifest), Error> {
    let directory = app.ports.checkpoints.publish(&work.partial, &manifest, work.is_durable).await?;
    app.faults.reach(FaultPoint::CheckpointPublished);
    Ok((directory, manifest))
}

/// How often a process looks for a request to give up its checkpoint.
pub(super) const CANCEL_INTERVAL: Duration = limits::QMP_JOB_INTERVAL;
