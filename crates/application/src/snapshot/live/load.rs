//! Loading memory and disks into a running VM.
//!
//! The guest is paused from before the safety snapshot until the load is recorded, so that it never runs on disks that a
//! recovery would revert. A load that fails leaves a machine that is half that of the snapshot, after its disks were
//! reverted, and QEMU would run it (7.2, 10.0; after a start with `-S`, its run state does not even tell). So QEMU is ended,
//! and the disks are reverted to the safety snapshot. If the load was refused, or the error of its job is one of those that
//! come before any change, the guest goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::event::kind;
use maqet_domain::machine::Machine;
use maqet_domain::port::HeldLock;
use maqet_domain::qmp::wording::is_load_without_effect;
use maqet_domain::qmp::{QmpCommand, QmpError};
use maqet_domain::snapshot::tag::{self, BEFORE_LOAD};
use maqet_domain::snapshot::{Fingerprint, ImageSnapshot, SnapshotKind, SnapshotRecord};
use maqet_domain::vm::{
    ImageTag, LoadGuest, PendingWork, Phase, ProcessIdentity, Run, RunEnd, StateDetails, StopReason, VmEntry,
};
use maqet_fault_points::FaultPoint;
use serde::Deserialize;
use serde_json::json;

use super::error::LiveSnapshotError;
use super::recover::{follow_up, recover_load, revert};
use super::{LiveDisk, LiveVm, nodes};
use crate::app::commit::run_change;
use crate::backup::changes::forget_changes_live;
use crate::job::Job;
use crate::job::qmp_job::QmpJobs;
use crate::snapshot::tpm_copy::{self, TpmCopies};
use crate::vm::reconcile::stopped_data;
use crate::vm::shutdown::StopMethod;
use crate::{App, Error};

/// A snapshot that is to be loaded into a running VM.
pub(crate) struct LiveLoad<'a> {
    pub(crate) operation: &'static str,
    pub(crate) name: &'a str,
    /// Whether the state of the disks before stays as a snapshot.
    pub(crate) keeps_safety: bool,
    /// Whether the guest runs afterwards.
    pub(crate) resumes: bool,
}

/// A snapshot that was loaded.
pub(crate) struct Loaded {
    /// The VM as it is from then on.
    pub(crate) entry: VmEntry,
    pub(crate) drives: Vec<String>,
    /// Whether what the memory depends on was compared.
    pub(crate) is_checked: bool,
}

/// What is loaded, and what is kept.
struct LoadPlan {
    disks: Vec<LiveDisk>,
    /// The drive with the memory.
    state: String,
    tag: String,
    safety: Vec<ImageTag>,
    /// Snapshots of the states before an earlier load.
    replaced: Vec<ImageTag>,
}

impl LiveLoad<'_> {
    /// Loads the snapshot.
    ///
    /// Errors: those of a snapshot that does not fit, which change nothing; [`LiveSnapshotError::LoadFailed`].
    pub(crate) async fn run(
        self,
        mut live: LiveVm<'_>,
        entry: &VmEntry,
        machine: &Machine,
        guard: &HeldLock,
        job: &Job<'_>,
    ) -> Result<Loaded, Error> {
        let app = live.app;
        let (plan, is_checked) = job.run(self.plan(&mut live, entry, machine)).await??;
        // A recovery takes a load that has ended for this one.
        live.dismiss_all().await?;
        let loaded = plan.disks.iter().map(|disk| disk.tag(&plan.tag)).collect();
        let guest = if self.resumes { LoadGuest::Resumes } else { LoadGuest::StaysPaused };
        let work = PendingWork::SnapshotLoad { loaded, safety: plan.safety.clone(), guest };
        let entry = app.committer().begin_work(entry, self.operation, work, Vec::new()).await?;
        app.faults.reach(FaultPoint::Marked(self.operation));

        // From then on it is not cut off: a load that is not complete is half a machine.
        let safe = match live.make_safe(&plan).await {
            Ok(()) => job.run(async {}).await,
            Err(error) => Err(error),
        };
        if let Err(error) = safe {
            drop(live);
            Self::give_up(app, &entry, guard, &plan.safety, guest).await;
            return Err(error);
        }
        app.faults.reach(FaultPoint::SnapshotSafe);
        job.set_stage("loading memory and disks");
        let id = QmpJobs::id("load", app.committer().now());
        let (run, process) = (live.run().clone(), live.process()?.clone());
        let outcome = job.reporting_elapsed(live.load(&plan, id.clone())).await;
        app.faults.reach(FaultPoint::SnapshotLoaded);
        match outcome {
            Ok(()) => {
                let entry = self.record(&mut live, entry, &plan).await?;
                if self.resumes {
                    live.query(&QmpCommand::new("cont")).await?;
                }
                live.dismiss(id).await;
                let drives = plan.disks.into_iter().map(|disk| disk.name).collect();
                Ok(Loaded { entry, drives, is_checked })
            }
            // Nothing was begun.
            Err(error @ Error::Qmp(QmpError::Refused { .. })) => {
                drop(live);
                Self::give_up(app, &entry, guard, &plan.safety, guest).await;
                Err(error)
            }
            Err(Error::QmpJob(failed)) if is_load_without_effect(&failed.description) => {
                drop(live);
                Self::give_up(app, &entry, guard, &plan.safety, guest).await;
                let (vm, name) = (entry.name, self.name.to_owned());
                Err(LiveSnapshotError::NotLoaded { vm, name, source: Box::new(failed.into()) }.into())
            }
            Err(source) => {
                drop(live);
                let failed = FailedLoad { run: &run, process: &process, safety: &plan.safety };
                failed.restore(app, &entry, guard, self.operation).await?;
                let (vm, name) = (entry.name, self.name.to_owned());
                Err(LiveSnapshotError::LoadFailed { vm, name, source: Box::new(source) }.into())
            }
        }
    }

    /// Removes the safety snapshot, as nothing was loaded, and lets the guest go on.
    ///
    /// If that fails, the next command that locks the VM tries again.
    async fn give_up(app: &App, entry: &VmEntry, guard: &HeldLock, safety: &[ImageTag], guest: LoadGuest) {
        let given_up = async {
            let recovered = recover_load(app, entry, guard, safety, guest).await?;
            let entry = app.committer().end_work(&recovered.entry, recovered.changes).await?;
            follow_up(app, &entry, recovered.follow_up).await
        };
        if let Err(error) = given_up.await {
            tracing::warn!(vm = %entry.name, %error, "could not take back the begin of a load");
        }
    }

    /// Finds the snapshots of all drives, and checks that they fit the VM; returns whether what the memory depends on is
    /// known.
    async fn plan(&self, live: &mut LiveVm<'_>, entry: &VmEntry, machine: &Machine) -> Result<(LoadPlan, bool), Error> {
        let app = live.app;
        let disks = {
            let media = live.media().await?;
            live.disks(&media, machine)
        };
        let mut tables = BTreeMap::new();
        for disk in &disks {
            tables.insert(disk.name.clone(), app.ports.images.snapshots(&disk.path).await?);
        }
        let table = |disk: &LiveDisk| tables.get(&disk.name).map(Vec::as_slice).unwrap_or_default();
        let records = app.ports.store.snapshots_of_vm(&entry.id).await?;
        let set = check_set(entry, self.name, &disks, &records, &tables)?;
        let is_checked = set.fingerprint.is_some();
        if let Some(fingerprint) = set.fingerprint {
            let differences = fingerprint.differences(&live.fingerprint().await?);
            if !differences.is_empty() {
                let (vm, name) = (entry.name.clone(), self.name.to_owned());
                return Err(LiveSnapshotError::Mismatch { vm, name, differences }.into());
            }
        }
        live.refuse_capabilities(&entry.name, self.name).await?;
        live.refuse_bitmaps(&entry.name, &disks).await?;
        let copies = TpmCopies::find(app, &entry.name).await?;
        let is_used = |new: &str| copies.has_tag(new) || disks.iter().any(|disk| tag::has_tag(table(disk), new));
        let Some(free) = tag::free_safety(is_used) else {
            return Err(LiveSnapshotError::NoCommonTag { vm: entry.name.clone(), name: BEFORE_LOAD.to_owned() }.into());
        };
        let mut safety: Vec<ImageTag> = disks.iter().map(|disk| disk.tag(&free)).collect();
        let older = |disk| tag::safeties(table(disk)).into_iter().map(|old| disk.tag(&old.name));
        let mut replaced: Vec<ImageTag> = disks.iter().flat_map(older).collect();
        safety.extend(copies.safety(free));
        replaced.extend(copies.without(&[]));
        Ok((LoadPlan { state: set.state, tag: set.tag, disks, safety, replaced }, is_checked))
    }

    /// Records that the snapshot was loaded; then removes what is no longer kept.
    async fn record(&self, live: &mut LiveVm<'_>, entry: VmEntry, plan: &LoadPlan) -> Result<VmEntry, Error> {
        let app = live.app;
        app.faults.reach(FaultPoint::BeforeCommit(self.operation));
        let (changes, removed) = if self.keeps_safety {
            (safety_records(app, &entry, &plan.safety).await?, &plan.replaced)
        } else {
            (Vec::new(), &plan.safety)
        };
        let entry = live.record(self.operation, entry, changes, removed).await?;
        app.faults.reach(FaultPoint::Committed(self.operation));
        Ok(entry)
    }
}

/// Checks that the drives have a snapshot of this name that was created as one, with memory.
pub(crate) fn check_set(
    entry: &VmEntry,
    name: &str,
    disks: &[LiveDisk],
    records: &[SnapshotRecord],
    tables: &BTreeMap<String, Vec<ImageSnapshot>>,
) -> Result<SavedSet, Error> {
    let table = |disk: &LiveDisk| tables.get(&disk.name).map(Vec::as_slice).unwrap_or_default();
    let find = |disk| tag::find(table(disk), name);
    let (vm, name) = (|| entry.name.clone(), || name.to_owned());
    let found: Vec<_> = disks.iter().map(|disk| (disk, find(disk))).collect();
    let missing = |(disk, snapshot): &(&LiveDisk, Option<_>)| snapshot.is_none().then(|| disk.name.clone());
    let missing: Vec<String> = found.iter().filter_map(missing).collect();
    if !missing.is_empty() || disks.is_empty() {
        return Err(LiveSnapshotError::Incomplete { vm: vm(), name: name(), missing }.into());
    }
    let found: Vec<(&LiveDisk, &ImageSnapshot)> =
        found.into_iter().filter_map(|(disk, snapshot)| Some((disk, snapshot?))).collect();
    let Some((state, saved)) = found.iter().find(|(_, snapshot)| snapshot.vm_state_bytes > 0) else {
        return Err(LiveSnapshotError::DiskOnly { vm: vm(), name: name() }.into());
    };
    let record_of = |(disk, snapshot): &(&LiveDisk, &ImageSnapshot)| {
        records.iter().find(|record| record.drive == disk.name && record.is_of(snapshot))
    };
    let record = record_of(&(*state, *saved));
    let is_other = |one: &&(&LiveDisk, &ImageSnapshot)| {
        one.1.name != saved.name || record_of(one).and_then(|one| one.set) != record.and_then(|record| record.set)
    };
    let others: Vec<String> = found.iter().filter(is_other).map(|(disk, _)| disk.name.clone()).collect();
    if !others.is_empty() {
        return Err(LiveSnapshotError::NotOneSet { vm: vm(), name: name(), others }.into());
    }
    let fingerprint = record.and_then(|record| record.fingerprint.as_ref()).map(Fingerprint::deserialize).transpose();
    let fingerprint = fingerprint.map_err(|source| LiveSnapshotError::Unreadable { vm: vm(), name: name(), source })?;
    Ok(SavedSet { state: state.name.clone(), tag: saved.name.clone(), fingerprint })
}

/// The snapshots of a VM with its memory.
pub(crate) struct SavedSet {
    state: String,
    tag: String,
    fingerprint: Option<Fingerprint>,
}

/// Returns the changes that record safety snapshots.
pub(super) async fn safety_records(app: &App, entry: &VmEntry, safety: &[ImageTag]) -> Result<Vec<Change>, Error> {
    let set =
        (safety.iter().filter(|tag| !tpm_copy::is_of_tpm(tag)).count() > 1).then(|| app.ports.ids.snapshot_set_id());
    let mut changes = Vec::new();
    for tag in safety.iter().filter(|tag| !tpm_copy::is_of_tpm(tag)) {
        let snapshots = app.ports.images.snapshots(&tag.path).await?;
        if let Some(snapshot) = snapshots.into_iter().find(|snapshot| snapshot.name == tag.tag) {
            let (kind, now) = (SnapshotKind::Safety, app.committer().now());
            let record = SnapshotRecord::of_image(entry.id, &tag.drive, BEFORE_LOAD, snapshot, kind, now);
            changes.push(Change::SnapshotAdded(Box::new(SnapshotRecord { set, ..record })));
        }
    }
    Ok(changes)
}

impl LiveVm<'_> {
    /// Pauses the guest, and creates the safety snapshot.
    async fn make_safe(&mut self, plan: &LoadPlan) -> Result<(), Error> {
        self.query(&QmpCommand::new("stop")).await?;
        let (copies, disks): (Vec<ImageTag>, Vec<ImageTag>) =
            plan.safety.iter().cloned().partition(tpm_copy::is_of_tpm);
        for copy in copies {
            tpm_copy::create(self.app, &copy).await?;
        }
        self.save_disks(&disks).await?;
        let nodes: Vec<&str> = plan.disks.iter().map(|disk| disk.node.as_str()).collect();
        Ok(forget_changes_live(&mut *self.session, &nodes, self.app.timeouts().qmp).await?)
    }

    async fn load(&mut self, plan: &LoadPlan, id: String) -> Result<(), Error> {
        let command = QmpCommand::new("snapshot-load")
            .with("job-id", id.as_str())
            .with("tag", plan.tag.as_str())
            .with("vmstate", plan.state.as_str())
            .with("devices", nodes(&plan.disks));
        QmpJobs::start(&mut *self.session, vec![id], &command).await?.conclude(|_, _| {}).await
    }

    /// Removes a job that has ended from QEMU's list; that it stays there does no harm.
    async fn dismiss(&mut self, id: String) {
        if let Err(error) = self.query(&QmpCommand::new("job-dismiss").with("id", id)).await {
            tracing::debug!(%error, "could not dismiss the job");
        }
    }
}

/// A run whose QEMU loaded a snapshot partially, or may have.
pub(super) struct FailedLoad<'a> {
    pub(super) run: &'a Run,
    pub(super) process: &'a ProcessIdentity,
    pub(super) safety: &'a [ImageTag],
}

impl FailedLoad<'_> {
    /// Ends QEMU and records that, then reverts the disks; returns the entry of the VM as it is from then on.
    pub(super) async fn restore(
        &self,
        app: &App,
        entry: &VmEntry,
        guard: &HeldLock,
        operation: &'static str,
    ) -> Result<VmEntry, Error> {
        let entry = self.end(app, entry).await?;
        app.faults.reach(FaultPoint::SnapshotRunEnded);
        let recovered = revert(app, &entry, guard, self.safety).await?;
        let entry = app.committer().end_work(&entry, recovered.changes).await?;
        app.faults.reach(FaultPoint::Committed(operation));
        Ok(entry)
    }

    /// Ends QEMU, and records why.
    pub(super) async fn end(&self, app: &App, entry: &VmEntry) -> Result<VmEntry, Error> {
        end_after_load(app, entry, self.run, self.process).await
    }
}

/// Ends a QEMU that did not load a guest completely, and records why; returns the entry of the VM as it is from then on.
pub(crate) async fn end_after_load(
    app: &App,
    entry: &VmEntry,
    run: &Run,
    process: &ProcessIdentity,
) -> Result<VmEntry, Error> {
    let method = match app.shutdown().end(&entry.name, run, process, Duration::ZERO).await {
        Ok(method) => method,
        Err(error) => {
            tracing::debug!(%error, "could not end QEMU after a load that failed");
            app.shutdown().kill(&entry.name, process).await?;
            StopMethod::Sigkill
        }
    };
    app.ports.hypervisor.remove_sockets(&run.paths).await;
    let reason = StopReason::RestoreFailed;
    let ending = RunEnd { reason, at: Some(app.committer().now()) };
    let ended = Run { process: Some(process.clone()), ..run.at_phase(Phase::Ended(ending)) };
    let mut data = stopped_data(reason, method, &StateDetails::default());
    data["boot"] = json!(run.boot);
    let event = app.committer().event(kind::VM_STOPPED, entry, data);
    let changes = vec![run_change(entry, Some(ended.clone()))];
    app.committer().commit(ChangeSet { changes, events: vec![event], ..ChangeSet::default() }).await?;
    Ok(VmEntry { run: Some(ended), revision: entry.revision.next(), ..entry.clone() })
}
