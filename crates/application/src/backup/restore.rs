//! Restoring: images of a backup are copied beside the disks, and then put in their place, all or none.

use std::path::{Path, PathBuf};

use maqet_domain::backup::{BackupName, FoundBackup};
use maqet_domain::change::{Change, StorageRecord};
use maqet_domain::port::{HeldLock, ImageFile, ImageUse, ImageWork, RewritePlan, RewrittenImage};
use maqet_domain::size::ByteSize;
use maqet_domain::storage::ImageAccess;
use maqet_domain::vm::{PendingWork, ReplacedImage, VmEntry};
use maqet_fault_points::FaultPoint;

use super::drive::DiskDrive;
use super::error::BackupError;
use super::place::Place;
use super::recover::{put_back, remove_replaced};
use crate::job::Job;
use crate::start::image_owner::image_error;
use crate::trash::own_images::unused_images;
use crate::trash::used_files::{FileUse, FileUser, UsedFiles};
use crate::{App, Error};

/// The ending of the name of an old image until all new ones are in place.
const KEPT: &str = ".before-restore";

/// An image of a backup, and the disk that it becomes.
#[derive(Debug, Clone)]
pub(crate) struct Restore {
    pub(crate) drive: String,
    pub(crate) from: PathBuf,
    /// The disk, by its path in the definition.
    pub(crate) disk: PathBuf,
    /// Where symbolic links lead from there: these stay.
    pub(crate) to: ImageFile,
    pub(crate) virtual_bytes: u64,
}

/// Selects the drives of a backup: the one that is named, or all.
///
/// Checks that all images that they consist of are there.
pub(crate) fn select<'b>(
    place: &'b Place,
    backup: &'b FoundBackup,
    drive: Option<&str>,
) -> Result<Vec<(&'b str, PathBuf, u64)>, BackupError> {
    let manifest = &backup.manifest;
    let drives = manifest.drives.iter().filter(|found| drive.is_none_or(|drive| found.drive == drive));
    let drives: Vec<_> = drives.collect();
    if drives.is_empty() {
        let known = manifest.drives.iter().map(|drive| drive.drive.clone()).collect();
        let drive = drive.unwrap_or_default().to_owned();
        return Err(BackupError::NoSuchDrive { backup: manifest.name.clone(), drive, known });
    }
    let checked = drives.into_iter().map(|drive| {
        let unusable = |problem| BackupError::Unusable { backup: manifest.name.clone(), problem };
        place.catalog.chain(&manifest.name, &drive.drive).map_err(unusable)?;
        Ok((drive.drive.as_str(), backup.directory.join(&drive.file), drive.virtual_bytes))
    });
    checked.collect()
}

/// Returns what is restored to the disks of a VM.
pub(crate) async fn to_disks(
    app: &App,
    selected: Vec<(&str, PathBuf, u64)>,
    disks: &[DiskDrive],
    backup: &BackupName,
    entry: &VmEntry,
) -> Result<Vec<Restore>, BackupError> {
    let mut restores = Vec::new();
    for (drive, from, virtual_bytes) in selected {
        let disk = disks.iter().find(|disk| disk.name == drive);
        let disk = disk.ok_or_else(|| BackupError::DriveRemoved {
            vm: entry.name.clone(),
            drive: drive.to_owned(),
            backup: backup.clone(),
        })?;
        let to = ImageFile { path: app.ports.paths.resolve(&disk.path).await, format: disk.format.clone() };
        restores.push(Restore { drive: drive.to_owned(), from, disk: disk.path.clone(), to, virtual_bytes });
    }
    Ok(restores)
}

/// Refuses to replace a disk that others use: as a drive, or as a backing file, whose overlays would be damaged.
pub(crate) async fn refuse_used(app: &App, entry: &VmEntry, restores: &[Restore]) -> Result<(), Error> {
    let mut files = UsedFiles::of_vms(app, None).await?;
    let unused = unused_images(app, &files).await?;
    files.add_images(&unused).await;
    files.add_trash(&app.ports.trash.entries().await?).await;
    // A drive that is restored as well has all its data afterwards.
    let is_restored = |drive: &str| restores.iter().any(|restore| restore.drive == drive);
    let is_itself =
        |used: &FileUse| matches!(&used.user, FileUser::Drive { vm, drive } if *vm == entry.name && is_restored(drive));
    let mut uses = Vec::new();
    for restore in restores {
        uses.extend(files.uses_of(&restore.to.path).await.into_iter().filter(|used| !is_itself(used)));
    }
    if uses.is_empty() { Ok(()) } else { Err(BackupError::DiskUsed { vm: entry.name.clone(), uses }.into()) }
}

/// Refuses to replace a disk that a process has open.
pub(crate) async fn require_unlocked(app: &App, entry: &VmEntry, restores: &[Restore]) -> Result<(), Error> {
    for restore in restores {
        // A raw image has no backing files, which others may have open. The two check different locks.
        for access in [ImageAccess::Write, ImageAccess::Read] {
            let image = ImageUse { path: restore.to.path.clone(), format: Some("raw".to_owned()), access };
            if let Err(error) = app.ports.images.require_unlocked(&image).await {
                return Err(image_error(app, entry, error).await);
            }
        }
    }
    Ok(())
}

/// Copies images of a backup to temporary files beside their targets.
pub(crate) async fn copy(
    app: &App,
    job: &Job<'_>,
    restores: &[Restore],
    guard: &HeldLock,
) -> Result<Vec<Box<dyn RewrittenImage>>, Error> {
    let mut images = Vec::new();
    for restore in restores {
        job.set_stage(format!("copying {}", restore.drive));
        let plan = RewritePlan {
            from: ImageFile { path: restore.from.clone(), format: "qcow2".to_owned() },
            to: restore.to.clone(),
            is_compressed: false,
            keeps_backing: false,
        };
        let progress = job.share_reporter(restore.virtual_bytes);
        let work = ImageWork { guard, progress: &progress };
        images.push(job.run(app.ports.image_tools.rewrite(&plan, &work)).await??);
    }
    app.faults.reach(FaultPoint::RestoreCopied);
    Ok(images)
}

/// Puts copied images in place of the disks of a VM, all or none; returns the entry of the VM, whose work is pending.
///
/// Each file that is moved or removed is one that is known: a disk, or one of the copies.
pub(crate) async fn replace(
    app: &App,
    entry: &VmEntry,
    operation: &'static str,
    restores: &[Restore],
    copied: Vec<Box<dyn RewrittenImage>>,
) -> Result<VmEntry, Error> {
    let mut images = Vec::new();
    for (restore, copy) in restores.iter().zip(&copied) {
        let path = restore.to.path.clone();
        let old = app.ports.image_tools.identify(&path).await.map(|(_, file)| file);
        let kept = if old.is_some() { Some(free_path(app, &path).await) } else { None };
        images.push(ReplacedImage { path, kept, old, new: Some(copy.file()) });
    }
    // The copies may have taken hours.
    require_unlocked(app, entry, restores).await?;
    let work = |are_in_place| PendingWork::Restore { images: images.clone(), are_in_place };
    let begun = app.committer().begin_work(entry, operation, work(false), Vec::new()).await?;
    app.faults.reach(FaultPoint::Marked(operation));
    if let Err(error) = exchange(app, &images, copied).await {
        put_back(app, &images).await?;
        app.committer().end_work(&begun, Vec::new()).await?;
        return Err(error);
    }
    let records = new_records(app, entry, restores, &images);
    let in_place = app.committer().begin_work(&begun, operation, work(true), records).await?;
    app.faults.reach(FaultPoint::RestoreInPlace);
    remove_replaced(app, &images).await?;
    Ok(in_place)
}

async fn exchange(app: &App, images: &[ReplacedImage], copied: Vec<Box<dyn RewrittenImage>>) -> Result<(), Error> {
    for (image, copy) in images.iter().zip(copied) {
        if let Some(kept) = &image.kept {
            app.ports.backups.rename(&image.path, kept).await?;
        }
        copy.put_in_place()?;
        app.faults.reach(FaultPoint::RestoreReplaced);
    }
    Ok(())
}

/// Returns the records of images that did not exist before.
fn new_records(app: &App, entry: &VmEntry, restores: &[Restore], images: &[ReplacedImage]) -> Vec<Change> {
    let new = restores.iter().zip(images).filter(|(_, image)| image.kept.is_none());
    let record = |(restore, _): (&Restore, &ReplacedImage)| {
        Change::StorageAdded(StorageRecord {
            path: restore.disk.clone(),
            vm: Some(entry.id),
            drive: restore.drive.clone(),
            kind: restore.to.format.clone(),
            size: Some(ByteSize::from_bytes(restore.virtual_bytes)),
            created_at: app.ports.clock.now(),
        })
    };
    new.map(record).collect()
}

/// Returns where an old image is kept: a name that is free.
async fn free_path(app: &App, path: &Path) -> PathBuf {
    let mut number = 1_u32;
    loop {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(KEPT);
        if number > 1 {
            name.push(format!("-{number}"));
        }
        let kept = path.with_file_name(name);
        if !app.ports.images.exists(&kept).await {
            return kept;
        }
        number += 1;
    }
}
