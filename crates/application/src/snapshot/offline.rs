//! Snapshots of the images of a VM that is not running, by `qemu-img`.
//!
//! Several steps are committed as pending work before the first of them; `recover` takes them back if this process is
//! killed. If a step fails, or the job is canceled, they are taken back here.

use std::collections::BTreeMap;

use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::history::{ExpectedSnapshot, HistoryEntry};
use maqet_domain::port::Guard;
use maqet_domain::snapshot::{ImageSnapshot, SnapshotKind, SnapshotName, SnapshotRecord, tag};
use maqet_domain::vm::{ImageTag, LoadGuest, PendingWork, VmEntry};
use maqet_fault_points::FaultPoint;

use super::bitmaps::refuse_foreign;
use super::error::SnapshotError;
use super::recover::{record_removals, recover_load, remove_present};
use super::selection::{DriveImage, SnapshotImages};
use super::tpm_copy::{self, TpmCopies};
use crate::app::commit::work_done;
use crate::backup::changes::forget_changes;
use crate::job::Job;
use crate::{App, Error};

/// The images of a VM that is locked and not running, and their snapshots.
pub(crate) struct OfflineImages<'a> {
    pub(crate) app: &'a App,
    pub(crate) operation: &'static str,
    pub(crate) job: Job<'a>,
    /// The lock of the VM, which each `qemu-img` holds, too.
    pub(crate) guard: Box<dyn Guard>,
    /// The locks of the images.
    pub(crate) image_guards: Vec<Box<dyn Guard>>,
    pub(crate) entry: VmEntry,
    pub(crate) selection: SnapshotImages,
    /// The snapshots of each image, by drive.
    tables: BTreeMap<String, Vec<ImageSnapshot>>,
}

/// How a snapshot is created.
pub(crate) struct Creation<'c> {
    pub(crate) name: &'c SnapshotName,
    /// Whether to replace a snapshot of this name.
    pub(crate) overwrite: bool,
    pub(crate) description: Option<&'c str>,
}

/// What an operation did, to be committed at its end.
pub(crate) struct Outcome<'a> {
    pub(crate) images: OfflineImages<'a>,
    /// The drives whose snapshots were created, loaded or removed.
    pub(crate) drives: Vec<String>,
    pub(crate) changes: ChangeSet,
    /// Whether an earlier snapshot was replaced.
    pub(crate) replaced: bool,
    /// The snapshots of the states before a load that are kept.
    pub(crate) safety: Vec<ExpectedSnapshot>,
}

impl<'a> OfflineImages<'a> {
    /// Reads the snapshots of the images, which exist.
    pub(crate) async fn open(
        app: &'a App,
        operation: &'static str,
        job: Job<'a>,
        guards: (Box<dyn Guard>, Vec<Box<dyn Guard>>),
        entry: VmEntry,
        selection: SnapshotImages,
    ) -> Result<Self, Error> {
        let (guard, image_guards) = guards;
        let mut tables = BTreeMap::new();
        for image in &selection.images {
            tables.insert(image.drive.clone(), app.ports.images.snapshots(&image.path).await?);
        }
        Ok(Self { app, operation, job, guard, image_guards, entry, selection, tables })
    }

    fn table(&self, image: &DriveImage) -> &[ImageSnapshot] {
        self.tables.get(&image.drive).map(Vec::as_slice).unwrap_or_default()
    }

    /// Creates a snapshot of each image; of none if one of them fails.
    pub(crate) async fn create(mut self, creation: &Creation<'_>) -> Result<Outcome<'a>, Error> {
        let name = creation.name.as_str();
        let (mut created, mut replaced) = (Vec::new(), Vec::new());
        for image in &self.selection.images {
            let table = self.table(image);
            let old = tag::find(table, name);
            let new = tag::free_tag(table, name).filter(|_| old.is_none() || creation.overwrite);
            created.push(image.tag(new.ok_or_else(|| self.exists(image, name, creation.overwrite))?));
            replaced.extend(old.map(|old| image.tag(&old.name)));
        }
        if created.len() + replaced.len() > 1 {
            self.begin(
                PendingWork::SnapshotCreate { created: created.clone(), live: false, quiesced: false },
                Vec::new(),
            )
            .await?;
        }
        let made = match self.create_tags(&created).await {
            Ok(made) => made,
            Err(error) => return Err(self.take_back(error, created, false).await),
        };
        let record = |(tag, snapshot): (&ImageTag, ImageSnapshot)| SnapshotRecord {
            description: creation.description.map(str::to_owned),
            ..self.record(tag, name, snapshot, SnapshotKind::Disk)
        };
        let mut records: Vec<SnapshotRecord> = created.iter().zip(made).map(record).collect();
        self.join_set(&mut records);
        let added = records.into_iter().map(|record| Change::SnapshotAdded(Box::new(record))).collect();
        self.remove_replaced(added, replaced).await
    }

    /// Reverts each image to its snapshot `name`; none of them if one fails.
    ///
    /// Unless `keep` is false, the states before stay as snapshots [`BEFORE_LOAD`](tag::BEFORE_LOAD).
    pub(crate) async fn load(self, name: &str, keep: bool) -> Result<Outcome<'a>, Error> {
        let mut loaded = Vec::new();
        for image in &self.selection.images {
            match tag::find(self.table(image), name) {
                Some(found) => loaded.push(image.tag(&found.name)),
                None => return Err(self.not_found(image, name).await),
            }
        }
        for tag in &loaded {
            refuse_foreign(self.app, &tag.path).await?;
        }
        let copies = TpmCopies::find(self.app, &self.entry.name).await?;
        if self.selection.is_all {
            loaded.extend(copies.of(&loaded));
        }
        let [only] = loaded.as_slice() else { return self.load_all(loaded, &copies, keep).await };
        if keep {
            return self.load_all(loaded, &copies, keep).await;
        }
        self.load_tag(only).await?;
        Ok(self.outcome(Vec::new(), false))
    }

    /// Does so with several, or with a safety snapshot; `copies` of the state of the TPM follow the disks.
    async fn load_all(mut self, loaded: Vec<ImageTag>, copies: &TpmCopies, keep: bool) -> Result<Outcome<'a>, Error> {
        let safety = self.safety(copies, |_| true, self.selection.is_all)?;
        let (mut replaced, mut stay) = (Vec::new(), Vec::new());
        for image in &self.selection.images {
            let older = tag::safeties(self.table(image));
            let place = if keep && !self.keeps_older(&older) { &mut replaced } else { &mut stay };
            place.extend(older.into_iter().map(|old| image.tag(&old.name)));
        }
        if keep && self.selection.is_all {
            replaced.extend(copies.without(&stay));
        }
        let work = PendingWork::SnapshotLoad { loaded: loaded.clone(), safety: safety.clone(), guest: LoadGuest::Off };
        self.begin(work, Vec::new()).await?;
        let done = async {
            let made = self.create_tags(&safety).await?;
            for tag in &loaded {
                self.load_tag(tag).await?;
                self.job.run(async {}).await?;
            }
            Ok(made)
        };
        let made = match done.await {
            Ok(made) => made,
            Err(error) => return Err(self.take_back(error, safety, true).await),
        };
        if !keep {
            let outcome = self.remove_replaced(Vec::new(), safety).await?;
            return Ok(outcome.with_tpm(&loaded));
        }
        let mut kept: Vec<ExpectedSnapshot> =
            safety.iter().zip(&made).map(|(tag, made)| ExpectedSnapshot::of_image(tag.clone(), made)).collect();
        // That of the state of a TPM is the last.
        kept.extend(safety.iter().skip(made.len()).map(|tag| ExpectedSnapshot { tag: tag.clone(), made: None }));
        let record = |(tag, made)| self.record(tag, tag::BEFORE_LOAD, made, SnapshotKind::Safety);
        let mut records: Vec<SnapshotRecord> = safety.iter().zip(made).map(record).collect();
        self.join_set(&mut records);
        let added = records.into_iter().map(|record| Change::SnapshotAdded(Box::new(record))).collect();
        let outcome = self.remove_replaced(added, replaced).await?.with_tpm(&loaded);
        Ok(Outcome { safety: kept, ..outcome })
    }

    /// Returns the snapshots of a state before a load: of the images that are `wanted`, and of the TPM.
    fn safety(
        &self,
        copies: &TpmCopies,
        wanted: impl Fn(&DriveImage) -> bool,
        with_tpm: bool,
    ) -> Result<Vec<ImageTag>, Error> {
        let images: Vec<&DriveImage> = self.selection.images.iter().filter(|image| wanted(image)).collect();
        let is_used =
            |new: &str| copies.has_tag(new) || images.iter().any(|image| tag::has_tag(self.table(image), new));
        let Some(new) = tag::free_safety(is_used) else {
            let (vm, drive) = (self.entry.name.clone(), self.selection.drive.clone());
            let name = tag::BEFORE_LOAD.to_owned();
            return Err(SnapshotError::Exists { vm, requested: drive.clone(), drive, name }.into());
        };
        let mut safety: Vec<ImageTag> = images.into_iter().map(|image| image.tag(&new)).collect();
        safety.extend(copies.safety(new).filter(|_| with_tpm));
        Ok(safety)
    }

    /// Returns whether the states before earlier loads stay, beside that before this one: as long as the VM is not started,
    /// these loads can be undone one by one, and no guest makes the states differ much.
    fn keeps_older(&self, safeties: &[&ImageSnapshot]) -> bool {
        let is_later =
            |safety: &&ImageSnapshot| self.entry.run.as_ref().is_none_or(|run| run.started_at < safety.created_at);
        safeties.last().is_none_or(is_later) && safeties.len() < tag::MAX_SAFETIES
    }

    /// Takes a load back: reverts images to their states before it, the snapshots `safety`, and removes these.
    ///
    /// The entry `history` is written as soon as the images are reverted.
    pub(crate) async fn take_back_load(
        mut self,
        safety: &[ImageTag],
        history: HistoryEntry,
    ) -> Result<Outcome<'a>, Error> {
        let copies = TpmCopies::find(self.app, &self.entry.name).await?;
        let is_loaded = |image: &DriveImage| safety.iter().any(|tag| tag.drive == image.drive);
        let mut kept = self.safety(&copies, is_loaded, safety.iter().any(tpm_copy::is_of_tpm))?;
        let (loaded, guest) = (safety.to_vec(), LoadGuest::Off);
        self.begin(PendingWork::SnapshotLoad { loaded, safety: kept.clone(), guest }, Vec::new()).await?;
        let done = async {
            self.create_tags(&kept).await?;
            for tag in safety {
                if !tpm_copy::is_of_tpm(tag) {
                    refuse_foreign(self.app, &tag.path).await?;
                }
                self.load_tag(tag).await?;
                self.job.run(async {}).await?;
            }
            Ok(())
        };
        if let Err(error) = done.await {
            return Err(self.take_back(error, kept, true).await);
        }
        kept.extend(safety.iter().cloned());
        let drives = safety.iter().filter(|tag| !tpm_copy::is_of_tpm(tag)).map(|tag| tag.drive.clone()).collect();
        let more = ChangeSet { history: Some(history), ..ChangeSet::default() };
        Ok(Outcome { drives, replaced: false, ..self.remove_last(more, kept).await? })
    }

    /// Removes the snapshot `name` of each image that has it; one that cannot be removed leaves the others removed.
    pub(crate) async fn remove(self, name: &str) -> Result<Outcome<'a>, Error> {
        let mut removed = Vec::new();
        for image in &self.selection.images {
            removed.extend(tag::find(self.table(image), name).map(|found| image.tag(&found.name)));
        }
        if removed.is_empty() {
            return Err(match self.selection.images.first() {
                Some(image) => self.not_found(image, name).await,
                None => SnapshotError::NoDrives { vm: self.entry.name.clone(), lossy: Vec::new() }.into(),
            });
        }
        if self.selection.is_all {
            removed.extend(TpmCopies::find(self.app, &self.entry.name).await?.of(&removed));
        }
        self.remove_tags(removed).await
    }

    /// Removes those of the snapshots that exist: a removal that was interrupted has removed some of them, or all.
    pub(crate) async fn remove_created(self, created: &[ExpectedSnapshot]) -> Result<Outcome<'a>, Error> {
        let is_present = |expected: &&ExpectedSnapshot| {
            let table = self.tables.get(&expected.tag.drive);
            table.is_some_and(|table| expected.check(table).is_ok())
        };
        let removed = created.iter().filter(is_present).map(|expected| expected.tag.clone()).collect();
        let drives = created.iter().map(|expected| expected.tag.drive.clone()).collect();
        let outcome = self.remove_tags(removed).await?;
        Ok(Outcome { drives, ..outcome })
    }

    async fn remove_tags(mut self, removed: Vec<ImageTag>) -> Result<Outcome<'a>, Error> {
        if removed.len() > 1 {
            self.begin(PendingWork::SnapshotRemove { removed: removed.clone() }, Vec::new()).await?;
        }
        for tag in &removed {
            self.stage(tag);
            if let Err(error) = self.remove_tag(tag).await {
                self.give_up().await;
                return Err(error);
            }
            self.app.faults.reach(FaultPoint::SnapshotStep);
        }
        let changes = record_removals(&self.entry, &removed);
        let drives = removed.into_iter().filter(|tag| !tpm_copy::is_of_tpm(tag)).map(|tag| tag.drive).collect();
        Ok(Outcome { drives, ..self.outcome(changes, false) })
    }

    /// Removes the snapshots that were replaced, once their successors are recorded by `added`.
    async fn remove_replaced(self, added: Vec<Change>, replaced: Vec<ImageTag>) -> Result<Outcome<'a>, Error> {
        if replaced.is_empty() {
            return Ok(self.outcome(added, false));
        }
        self.remove_last(ChangeSet { changes: added, ..ChangeSet::default() }, replaced).await
    }

    /// Removes snapshots as the last step, once `more` is written; a recovery finishes it.
    async fn remove_last(mut self, more: ChangeSet, replaced: Vec<ImageTag>) -> Result<Outcome<'a>, Error> {
        let work = PendingWork::SnapshotRemove { removed: replaced.clone() };
        self.entry = self.app.committer().begin_last_step(&self.entry, self.operation, work, more).await?;
        self.app.faults.reach(FaultPoint::Marked(self.operation));
        for tag in &replaced {
            self.stage(tag);
            // If it fails, the next command that locks the VM does it: the new snapshot is complete.
            self.job.reporting_elapsed(remove_present(self.app, &*self.guard, std::slice::from_ref(tag))).await?;
            self.app.faults.reach(FaultPoint::SnapshotStep);
        }
        let changes = record_removals(&self.entry, &replaced);
        Ok(self.outcome(changes, true))
    }

    /// Creates the snapshots, and returns them as the images describe them; one of the state of a TPM, the last, has no
    /// description.
    async fn create_tags(&self, tags: &[ImageTag]) -> Result<Vec<ImageSnapshot>, Error> {
        let images = &self.app.ports.images;
        let mut made = Vec::new();
        for tag in tags {
            self.stage(tag);
            if tpm_copy::is_of_tpm(tag) {
                tpm_copy::create(self.app, tag).await?;
                continue;
            }
            self.job.reporting_elapsed(images.create_snapshot(&tag.path, &tag.tag, &*self.guard)).await?;
            self.app.faults.reach(FaultPoint::SnapshotStep);
            // Not before: a `qemu-img` that is killed can damage the image.
            self.job.run(async {}).await?;
            let mut table = images.snapshots(&tag.path).await?;
            let found = table.iter().position(|snapshot| snapshot.name == tag.tag);
            let found = found.ok_or_else(|| self.lost(tag))?;
            made.push(table.swap_remove(found));
        }
        Ok(made)
    }

    async fn load_tag(&self, tag: &ImageTag) -> Result<(), Error> {
        self.stage(tag);
        if tpm_copy::is_of_tpm(tag) {
            return tpm_copy::load(self.app, tag).await;
        }
        forget_changes(self.app, &tag.path, &*self.guard).await?;
        self.job.reporting_elapsed(self.app.ports.images.load_snapshot(&tag.path, &tag.tag, &*self.guard)).await?;
        self.app.faults.reach(FaultPoint::SnapshotStep);
        Ok(())
    }

    async fn remove_tag(&self, tag: &ImageTag) -> Result<(), Error> {
        // Not during the work: a `qemu-img` that is killed can damage the image.
        self.job.run(async {}).await?;
        if tpm_copy::is_of_tpm(tag) {
            return tpm_copy::remove(self.app, tag).await;
        }
        let removal = self.app.ports.images.remove_snapshot(&tag.path, &tag.tag, &*self.guard);
        Ok(self.job.reporting_elapsed(removal).await?)
    }

    /// Takes back what was done until `error`: removes the snapshots `created`, after loading them if others may have been
    /// loaded. If that fails, the next command that locks the VM tries again.
    async fn take_back(&mut self, error: Error, created: Vec<ImageTag>, is_load: bool) -> Error {
        let (app, guard) = (self.app, &*self.guard);
        let taken_back = if is_load {
            recover_load(app, &self.entry, guard, &created).await.map(drop)
        } else {
            remove_present(app, guard, &created).await
        };
        match taken_back {
            Ok(()) => self.give_up().await,
            Err(failed) => tracing::warn!(vm = %self.entry.name, error = %failed, "could not take back what was done"),
        }
        error
    }

    /// Records that nothing is pending, after an error.
    async fn give_up(&self) {
        if self.entry.pending.is_none() {
            return;
        }
        if let Err(error) = self.app.committer().end_work(&self.entry, Vec::new()).await {
            tracing::warn!(vm = %self.entry.name, %error, "could not record that the work is taken back");
        }
    }

    async fn begin(&mut self, work: PendingWork, more: Vec<Change>) -> Result<(), Error> {
        self.entry = self.app.committer().begin_work(&self.entry, self.operation, work, more).await?;
        self.app.faults.reach(FaultPoint::Marked(self.operation));
        Ok(())
    }

    fn outcome(self, mut changes: Vec<Change>, replaced: bool) -> Outcome<'a> {
        if self.entry.pending.is_some() {
            changes.push(work_done(&self.entry));
        }
        let drives = self.selection.drives();
        Outcome {
            images: self,
            drives,
            changes: ChangeSet { changes, ..ChangeSet::default() },
            replaced,
            safety: Vec::new(),
        }
    }

    /// Reports which drive is being worked on, where there are several.
    fn stage(&self, tag: &ImageTag) {
        if self.selection.images.len() > 1 {
            self.job.set_stage(format!("drive `{}`", tag.drive));
        }
    }

    fn record(&self, tag: &ImageTag, name: &str, made: ImageSnapshot, kind: SnapshotKind) -> SnapshotRecord {
        SnapshotRecord::of_image(self.entry.id, &tag.drive, name, made, kind, self.app.committer().now())
    }

    fn join_set(&self, records: &mut [SnapshotRecord]) {
        if records.len() > 1 {
            let set = Some(self.app.ports.ids.snapshot_set_id());
            for record in records {
                record.set = set;
            }
        }
    }

    /// Makes the error of a snapshot that an image does not have; names the drives that have one.
    async fn not_found(&self, image: &DriveImage, name: &str) -> Error {
        let table = self.table(image);
        let has_it = |table: &[ImageSnapshot]| tag::find(table, name).is_some();
        let mut others: Vec<String> =
            self.tables.iter().filter(|(_, table)| has_it(table)).map(|(drive, _)| drive.clone()).collect();
        for other in &self.selection.others {
            let table = self.app.ports.images.snapshots(&other.path).await;
            if table.is_ok_and(|table| has_it(&table)) {
                others.push(other.drive.clone());
            }
        }
        SnapshotError::NotFound {
            vm: self.entry.name.clone(),
            drive: image.drive.clone(),
            name: name.to_owned(),
            known: table.iter().map(|snapshot| tag::name_of(snapshot, table).to_owned()).collect(),
            others,
        }
        .into()
    }

    fn exists(&self, image: &DriveImage, name: &str, overwrite: bool) -> Error {
        let second = if overwrite { format!("{name}~2") } else { name.to_owned() };
        let (vm, drive) = (self.entry.name.clone(), image.drive.clone());
        SnapshotError::Exists { vm, drive, name: second, requested: self.selection.drive.clone() }.into()
    }

    fn lost(&self, tag: &ImageTag) -> Error {
        let (vm, drive) = (self.entry.name.clone(), tag.drive.clone());
        SnapshotError::Lost { vm, drive, name: tag.tag.clone() }.into()
    }
}

impl Outcome<'_> {
    /// Reports that the state of the TPM was loaded, too, if it was.
    fn with_tpm(mut self, loaded: &[ImageTag]) -> Self {
        for tag in loaded.iter().filter(|tag| tpm_copy::is_of_tpm(tag)) {
            self.images.selection.omitted.retain(|omitted| omitted.drive != tag.drive);
            self.drives.push(tag.drive.clone());
        }
        self
    }
}

impl DriveImage {
    fn tag(&self, tag: impl Into<String>) -> ImageTag {
        ImageTag { drive: self.drive.clone(), path: self.path.clone(), tag: tag.into() }
    }
}
