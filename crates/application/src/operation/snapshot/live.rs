//! `snapshot create`, `load` and `rm` with `--live`, and `load --start`.

use std::collections::BTreeMap;

use crate::history::require_expected;
use maqet_domain::change::ChangeSet;
use maqet_domain::event::kind;
use maqet_domain::history::Irreversible;
use maqet_domain::machine::Machine;
use maqet_domain::port::{Guard, HeldLock};
use maqet_domain::snapshot::tag::{self, BEFORE_LOAD};
use maqet_domain::snapshot::{ImageSnapshot, SnapshotKind, SnapshotName};
use maqet_domain::vm::{ImageTag, PendingWork, Status, Vm, VmEntry};
use maqet_fault_points::FaultPoint;
use serde_json::json;

use super::{SnapshotCreate, SnapshotDone, SnapshotLoad, SnapshotRm, expected};
use crate::app::commit::work_done;
use crate::app::operations::{Done, Operation};
use crate::checkpoint::layers::refuse_layers;
use crate::guest::clock::set_clock;
use crate::guest::error::ExecError;
use crate::guest::quiesce::QuiesceError;
use crate::job::Job;
use crate::operation::stop;
use crate::operation::vm::start::{self, StartOptions};
use crate::snapshot::error::SnapshotError;
use crate::snapshot::live::error::LiveSnapshotError;
use crate::snapshot::live::load::{LiveLoad, Loaded, check_set};
use crate::snapshot::live::save::{LiveMemory, LiveSave, by_tag};
use crate::snapshot::live::{LiveDisk, LiveVm};
use crate::snapshot::recover::record_removals;
use crate::snapshot::selection::{ALL, SnapshotImages};
use crate::snapshot::tpm_copy::{self, TpmCopies};
use crate::start::create_disks::find_drive;
use crate::{App, Error, HumanDuration};

/// A VM that is locked and running, with the drives that a request names.
struct Request<'a> {
    app: &'a App,
    entry: VmEntry,
    machine: Machine,
    live: LiveVm<'a>,
    job: Job<'a>,
    /// The requested drive, or `all`.
    drive: &'a str,
    /// Whether the guest runs.
    runs: bool,
    operation: &'static str,
}

impl<'a> Request<'a> {
    async fn open(
        app: &'a App,
        (vm, drive): (&str, &'a str),
        operation: &'static str,
        timeout: Option<HumanDuration>,
    ) -> Result<(Box<dyn Guard>, Self), Error> {
        let (guard, vm) = app.vms().lock(vm, operation).await?;
        let job = app.jobs.start(operation, &vm.entry.name).within(timeout);
        let request = Self::of_locked(app, &vm, drive, operation, job).await?;
        Ok((guard, request))
    }

    async fn of_locked(
        app: &'a App,
        vm: &Vm,
        drive: &'a str,
        operation: &'static str,
        job: Job<'a>,
    ) -> Result<Self, Error> {
        if operation == SnapshotLoad::NAME {
            refuse_layers(app, &vm.entry, None).await?;
        }
        let machine = app.machine(vm)?;
        let entry = vm.entry.clone();
        let Some(mut live) = job.run(LiveVm::open(app, &entry)).await?? else {
            return Err(LiveSnapshotError::NotRunning { vm: entry.name, operation }.into());
        };
        let runs = match live.status().await? {
            Status::Running => true,
            Status::Paused => false,
            status => return Err(LiveSnapshotError::WrongState { vm: entry.name, status }.into()),
        };
        Ok(Self { app, entry, machine, live, job, drive, runs, operation })
    }

    fn is_all(&self) -> bool {
        self.drive == ALL && self.machine.drive(ALL).is_none()
    }

    /// Returns those of the VM's drives that the request names.
    fn requested(&self, all: Vec<LiveDisk>) -> Result<Vec<LiveDisk>, Error> {
        let vm = || self.entry.name.clone();
        if self.is_all() {
            return if all.is_empty() { Err(SnapshotError::no_drives(&vm(), &self.machine).into()) } else { Ok(all) };
        }
        if let Some(disk) = all.into_iter().find(|disk| disk.name == self.drive) {
            return Ok(vec![disk]);
        }
        let spec = find_drive(&self.entry, &self.machine, self.drive)?;
        let drive = self.drive.to_owned();
        Err(if spec.driver.features().internal_snapshots {
            SnapshotError::require_written(&vm(), spec)?;
            LiveSnapshotError::NotAttached { vm: vm(), drive }.into()
        } else {
            let kind = spec.driver.type_name().to_owned();
            SnapshotError::Unsupported { vm: vm(), drive, kind }.into()
        })
    }

    fn done(self, drives: Vec<String>, name: &str, event: &'static str, changes: ChangeSet) -> Done<SnapshotDone> {
        let data = |drive: &String| json!({ "drive": drive, "name": name, "live": true });
        let events: Vec<_> =
            drives.iter().map(|drive| self.app.committer().event(event, &self.entry, data(drive))).collect();
        let done = SnapshotDone {
            id: self.entry.id.to_string(),
            name: self.entry.name.to_string(),
            drive: self.drive.to_owned(),
            drives,
            snapshot: name.to_owned(),
            outcome: event.trim_start_matches("snapshot."),
            kind: None,
            replaced: false,
            safety: None,
            unchecked: false,
            clock_set: false,
            warnings: Vec::new(),
            omitted: Vec::new(),
        };
        let done = Done::changing(done, self.entry.id, changes);
        events.into_iter().fold(done, Done::event)
    }
}

fn names(disks: &[LiveDisk]) -> Vec<String> {
    disks.iter().map(|disk| disk.name.clone()).collect()
}

/// Reads the snapshots of drives, by drive.
async fn tables(app: &App, disks: &[LiveDisk]) -> Result<BTreeMap<String, Vec<ImageSnapshot>>, Error> {
    let mut tables = BTreeMap::new();
    for disk in disks {
        tables.insert(disk.name.clone(), app.ports.images.snapshots(&disk.path).await?);
    }
    Ok(tables)
}

/// Creates a snapshot of a running VM: of all drives with the memory, or of the disk of one drive.
pub(super) async fn create(app: &App, create: &SnapshotCreate) -> Result<Done<SnapshotDone>, Error> {
    let name = SnapshotName::parse(&create.name)?;
    let operation = SnapshotCreate::NAME;
    let (guard, mut request) = Request::open(app, (&create.vm, &create.drive), operation, create.timeout).await?;
    if create.quiesce && request.is_all() {
        return Err(ExecError::from(QuiesceError::Unsupported).into());
    }
    let media = request.live.media().await?;
    let all = request.live.disks(&media, &request.machine);
    let memory = if request.is_all() {
        let bytes = request.live.memory().await?;
        let obstacles = request.live.obstacles(&request.entry.name, &request.machine, &media, bytes).await?;
        if !obstacles.is_empty() {
            return Err(LiveSnapshotError::Obstacles { vm: request.entry.name, obstacles }.into());
        }
        let fingerprint = request.live.fingerprint().await?;
        let fingerprint = serde_json::to_value(fingerprint)
            .map_err(|source| Error::Encode { operation: operation.to_owned(), source })?;
        Some(LiveMemory { fingerprint, bytes })
    } else {
        None
    };
    let disks = request.requested(all)?;
    let tables = tables(app, &disks).await?;
    let (tag, replaced) = free_tag(&request, &disks, &tables, name.as_str(), create.overwrite)?;
    let (has_memory, was_replaced) = (memory.is_some(), !replaced.is_empty());
    let description = create.description.clone().filter(|text| !text.is_empty());
    let save = LiveSave {
        operation,
        disks: &disks,
        name: name.as_str(),
        tag: &tag,
        description,
        memory,
        replaced,
        quiesce: create.quiesce,
    };
    let saved = save.run(&mut request.live, &request.entry, &*guard, &request.job).await;
    let (entry, records) = saved?;
    request.entry = entry;
    let path = |drive: &str| disks.iter().find(|disk| disk.name == drive).map(|disk| disk.path.clone());
    let created = records.iter().filter_map(|record| Some(expected(record, path(&record.drive)?))).collect();
    let inverse = SnapshotRm::reverting(request.entry.id, (&create.drive, &create.name), created, None);
    let warnings = std::mem::take(&mut request.live.warnings);
    let mut done = request.done(names(&disks), name.as_str(), kind::SNAPSHOT_CREATED, ChangeSet::default());
    done.value.kind = Some(if has_memory { SnapshotKind::Memory } else { SnapshotKind::Disk });
    done.value.replaced = was_replaced;
    done.value.warnings = warnings;
    let done = done.holding(guard);
    Ok(if was_replaced { done.not_undone(Irreversible::SnapshotReplaced) } else { done.undone_by(&inverse) })
}

/// Returns a tag that is free in all drives, and the snapshots that the new one replaces.
fn free_tag(
    request: &Request<'_>,
    disks: &[LiveDisk],
    tables: &BTreeMap<String, Vec<ImageSnapshot>>,
    name: &str,
    overwrite: bool,
) -> Result<(String, Vec<ImageTag>), Error> {
    let exists = |drive: &str, name: &str| SnapshotError::Exists {
        vm: request.entry.name.clone(),
        drive: drive.to_owned(),
        name: name.to_owned(),
        requested: request.drive.to_owned(),
    };
    let table = |disk: &LiveDisk| tables.get(&disk.name).map(Vec::as_slice).unwrap_or_default();
    let mut replaced = Vec::new();
    for disk in disks {
        if let Some(old) = tag::find(table(disk), name) {
            if !overwrite {
                return Err(exists(&disk.name, name).into());
            }
            replaced.push(disk.tag(&old.name));
        }
    }
    // QEMU saves all drives under one tag.
    let pair = [name.to_owned(), format!("{name}~2")];
    let free = pair.into_iter().find(|tag| !disks.iter().any(|disk| tag::has_tag(table(disk), tag)));
    let (vm, name) = (request.entry.name.clone(), name.to_owned());
    let none = || match disks {
        [disk] => LiveSnapshotError::NoFreeTag { vm, drive: disk.name.clone(), name },
        _ => LiveSnapshotError::NoCommonTag { vm, name },
    };
    Ok((free.ok_or_else(none)?, replaced))
}

/// Loads a snapshot with memory into a running VM.
pub(super) async fn load(app: &App, load: &SnapshotLoad) -> Result<Done<SnapshotDone>, Error> {
    let (guard, request) = Request::open(app, (&load.vm, &load.drive), SnapshotLoad::NAME, load.timeout).await?;
    Ok(load_into(request, &*guard, load).await?.holding(guard))
}

async fn load_into(request: Request<'_>, guard: &HeldLock, load: &SnapshotLoad) -> Result<Done<SnapshotDone>, Error> {
    let (vm, name) = (request.entry.name.clone(), load.name.clone());
    if !request.is_all() {
        return Err(LiveSnapshotError::OneDrive { vm, name }.into());
    }
    let Request { app, entry, machine, live, job, drive, runs, operation } = request;
    let keeps_safety = !load.no_safety;
    let resumes = runs || load.start;
    let loading = LiveLoad { operation, name: &load.name, keeps_safety, resumes };
    let Loaded { entry, drives, is_checked } = loading.run(live, &entry, &machine, guard, &job).await?;
    let clock_set = match entry.run.as_ref().filter(|_| resumes) {
        Some(run) => set_clock(app, &run.paths).await,
        None => false,
    };
    let data = |drive: &String| json!({ "drive": drive, "name": name, "live": true });
    let events: Vec<_> =
        drives.iter().map(|drive| app.committer().event(kind::SNAPSHOT_LOADED, &entry, data(drive))).collect();
    let done = SnapshotDone {
        id: entry.id.to_string(),
        name: entry.name.to_string(),
        drive: drive.to_owned(),
        drives,
        snapshot: load.name.clone(),
        outcome: "loaded",
        kind: Some(SnapshotKind::Memory),
        replaced: false,
        safety: keeps_safety.then(|| BEFORE_LOAD.to_owned()),
        unchecked: !is_checked,
        clock_set,
        warnings: Vec::new(),
        omitted: Vec::new(),
    };
    let done = Done::changing(done, entry.id, ChangeSet::default());
    Ok(events.into_iter().fold(done, Done::event))
}

/// Starts a VM that is not running from a snapshot with memory.
pub(super) async fn start_from(app: &App, load: &SnapshotLoad) -> Result<Done<SnapshotDone>, Error> {
    let operation = SnapshotLoad::NAME;
    let (guard, vm) = app.vms().lock(&load.vm, operation).await?;
    let status = app.observer().observe_locked(&vm.entry).await.status;
    if status.is_live() {
        return Err(LiveSnapshotError::AlreadyRunning { vm: vm.entry.name }.into());
    }
    refuse_layers(app, &vm.entry, None).await?;
    let machine = app.machine(&vm)?;
    if load.drive != ALL || machine.drive(ALL).is_some() {
        return Err(LiveSnapshotError::OneDrive { vm: vm.entry.name, name: load.name.clone() }.into());
    }
    let selection = SnapshotImages::new(app, &vm.entry, &machine, &load.drive)?;
    let disks: Vec<LiveDisk> = selection
        .images
        .iter()
        .map(|image| LiveDisk { name: image.drive.clone(), path: image.path.clone(), node: image.drive.clone() })
        .collect();
    let records = app.ports.store.snapshots_of_vm(&vm.entry.id).await?;
    // What can be found out before QEMU runs.
    check_set(&vm.entry, &load.name, &disks, &records, &existing_tables(app, &disks).await?)?;

    start::start(app, &vm, StartOptions { paused: true, ..StartOptions::default() }).await?;
    let loaded = async {
        let vm = app.vms().reread(&vm).await?;
        let job = app.jobs.start(operation, &vm.entry.name).within(load.timeout);
        let request = Request::of_locked(app, &vm, &load.drive, operation, job).await?;
        load_into(request, &*guard, load).await
    };
    match loaded.await {
        Ok(loaded) => Ok(loaded.holding(guard)),
        Err(error) => {
            end_unused(app, &vm).await;
            Err(error)
        }
    }
}

/// Reads the snapshots of drives whose images may not exist yet.
async fn existing_tables(app: &App, disks: &[LiveDisk]) -> Result<BTreeMap<String, Vec<ImageSnapshot>>, Error> {
    let mut existing = Vec::new();
    for disk in disks {
        if app.ports.images.exists(&disk.path).await {
            existing.push(disk.clone());
        }
    }
    tables(app, &existing).await
}

/// Ends a QEMU that was started for a snapshot that does not fit; its guest never ran.
async fn end_unused(app: &App, vm: &Vm) {
    let ended = async {
        // A load that failed has ended it.
        let vm = app.vms().reread(vm).await?;
        stop(app, &vm.entry, SnapshotLoad::NAME, None, true).await
    };
    if let Err(error) = ended.await {
        tracing::warn!(vm = %vm.entry.name, %error, "could not end the VM after its snapshot was not loaded");
    }
}

/// Removes a snapshot of a running VM.
pub(super) async fn rm(app: &App, rm: &SnapshotRm) -> Result<Done<SnapshotDone>, Error> {
    let operation = SnapshotRm::NAME;
    let (guard, mut request) = Request::open(app, (&rm.vm, &rm.drive), operation, rm.timeout).await?;
    let media = request.live.media().await?;
    let all = request.live.disks(&media, &request.machine);
    let disks = request.requested(all)?;
    let tables = tables(app, &disks).await?;
    let table = |disk: &LiveDisk| tables.get(&disk.name).map(Vec::as_slice).unwrap_or_default();
    let found = |disk: &LiveDisk| tag::find(table(disk), &rm.name).map(|found| disk.tag(&found.name));
    let mut removed: Vec<ImageTag> = disks.iter().filter_map(found).collect();
    if let Some(revert) = &rm.revert {
        require_expected(app, Some(revert), None).await?;
        removed.retain(|tag| revert.created.iter().any(|created| created.tag == *tag));
    }
    // A removal that was interrupted and recovered may leave nothing to revert.
    if removed.is_empty() && rm.revert.is_none() {
        let (vm, name) = (request.entry.name, rm.name.clone());
        return Err(LiveSnapshotError::Incomplete { vm, name, missing: names(&disks) }.into());
    }
    if request.is_all() {
        removed.extend(TpmCopies::find(app, &request.entry.name).await?.of(&removed));
    }
    let work = PendingWork::SnapshotRemove { removed: removed.clone() };
    request.entry = app.committer().begin_work(&request.entry, operation, work, Vec::new()).await?;
    app.faults.reach(FaultPoint::Marked(operation));
    let (job, live) = (&request.job, &mut request.live);
    let (mut drives, mut changes, mut cut_off) = (Vec::new(), Vec::new(), None);
    for tags in by_tag(&removed) {
        // Not within: QEMU does not stop removing.
        cut_off = job.run(async {}).await.err();
        if cut_off.is_some() {
            break;
        }
        job.reporting_elapsed(live.delete(&tags)).await?;
        app.faults.reach(FaultPoint::SnapshotStep);
        changes.extend(record_removals(&request.entry, &tags));
        drives.extend(tags.into_iter().filter(|tag| !tpm_copy::is_of_tpm(tag)).map(|tag| tag.drive));
    }
    changes.push(work_done(&request.entry));
    let changes = ChangeSet { changes, ..ChangeSet::default() };
    if let Some(error) = cut_off {
        app.committer().commit(changes).await?;
        return Err(error);
    }
    Ok(request.done(drives, &rm.name, kind::SNAPSHOT_REMOVED, changes).holding(guard))
}
