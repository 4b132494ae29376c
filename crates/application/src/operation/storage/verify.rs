//! `storage verify`: checks the images of drives, and repairs them on request.

use std::ffi::OsString;
use std::path::PathBuf;

use derive_setters::Setters;
use maqet_domain::change::ChangeSet;
use maqet_domain::event::kind;
use maqet_domain::port::{ImageCheck, ImageError, ImageFile, ImageRepair};
use maqet_domain::vm::{Vm, VmEntry};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::target::ImageTarget;
use crate::app::operations::{Done, Effect, Operation};
use crate::app::shown;
use crate::backup::changes::forget_changes;
use crate::{App, Error, HumanDuration};

/// Check the images of a drive, or of all drives, for errors, and repair them on request
///
/// The VM must be stopped. Backing files are checked as well. Exit code 1 if an error is found and not repaired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct StorageVerify {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub vm: String,
    /// The drive, by its name under `storage` [default: all drives with an image]
    #[setters(strip_option)]
    pub drive: Option<String>,
    /// Repair the image of the drive, after it was copied: `leaks` frees space that is lost, `all` also repairs errors
    ///
    /// The copy stays beside the image. Backing files are not repaired.
    #[cfg_attr(feature = "clap", arg(long, value_name = "WHAT"))]
    #[setters(strip_option)]
    pub repair: Option<ImageRepair>,
    /// Timeout for each drive; a repair that has begun is finished [default: none]
    #[cfg_attr(feature = "clap", arg(long, value_name = "DURATION"))]
    #[setters(strip_option)]
    pub timeout: Option<HumanDuration>,
}

impl StorageVerify {
    /// Checks the images of all drives.
    pub fn new(vm: impl Into<String>) -> Self {
        Self { vm: vm.into(), drive: None, repair: None, timeout: None }
    }

    /// Checks the images of a drive, that of the drive itself first.
    async fn verify(&self, app: &App, vm: &VmEntry, drive: &str) -> Result<Vec<VerifiedImage>, Error> {
        let target = ImageTarget::lock(app, &vm.id.to_string(), drive, Self::NAME, self.timeout).await?;
        target.require_free().await?;
        let found = target.check(&target.image).await?;
        let mut images = vec![VerifiedImage::new(drive, &target.image, found.as_ref())];
        if let Some(repair) = self.repair.filter(|repair| found.as_ref().is_some_and(|found| needs(*repair, found))) {
            let path = copy_path(app, &target);
            target.job.set_stage("copying the image");
            let size = target.chain().await.first().and_then(|link| link.actual_size).unwrap_or_default();
            let progress = target.job.share_reporter(size.bytes());
            target.job.run(app.ports.image_tools.copy(&target.image.path, &path, &target.work(&progress))).await??;
            target.job.set_stage("repairing the image");
            let changes_content = repair == ImageRepair::All && found.as_ref().is_some_and(ImageCheck::has_errors);
            let repaired = repair_image(app, &target, repair, changes_content).await?;
            let repaired = VerifiedImage::new(drive, &target.image, repaired.as_ref());
            let repaired = VerifiedImage { copy: Some(shown(&path)), ..repaired };
            // At once: if another drive fails, the copy is known all the same.
            let data = json!({ "drive": drive, "copy": repaired.copy, "sound": repaired.is_sound() });
            let event = app.committer().event(kind::STORAGE_REPAIRED, vm, data);
            app.committer().commit(ChangeSet { events: vec![event], ..ChangeSet::default() }).await?;
            images = vec![repaired];
        }
        for link in target.chain().await.into_iter().skip(1) {
            let Some(format) = link.format else { continue };
            let image = ImageFile { path: link.path, format };
            images.push(VerifiedImage::new(drive, &image, target.check(&image).await?.as_ref()));
        }
        Ok(images)
    }
}

/// The result of a check of drives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StorageVerified {
    /// The VM's ID.
    pub id: String,
    /// The VM's name.
    pub name: String,
    /// Whether no error is left in any of the images.
    pub sound: bool,
    /// For each drive, its image, then the backing files of that.
    pub images: Vec<VerifiedImage>,
}

/// The result of a check of an image.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct VerifiedImage {
    /// The drive that uses it.
    pub drive: String,
    /// Its file.
    pub file: String,
    /// Its format.
    pub format: String,
    /// Whether its format has something to check.
    pub checked: bool,
    /// Errors in its tables.
    pub errors: u64,
    /// Clusters that waste space.
    pub leaks: u64,
    /// Errors that were repaired.
    pub errors_repaired: u64,
    /// Clusters that wasted space, and were given back.
    pub leaks_repaired: u64,
    /// The copy of it before it was repaired.
    pub copy: Option<String>,
}

impl VerifiedImage {
    fn new(drive: &str, image: &ImageFile, check: Option<&ImageCheck>) -> Self {
        let found = check.cloned().unwrap_or_default();
        Self {
            drive: drive.to_owned(),
            file: shown(&image.path),
            format: image.format.clone(),
            checked: check.is_some(),
            errors: found.corruptions.saturating_add(found.check_errors),
            leaks: found.leaks,
            errors_repaired: found.corruptions_fixed,
            leaks_repaired: found.leaks_fixed,
            copy: None,
        }
    }

    const fn is_sound(&self) -> bool {
        self.errors == 0 && self.leaks == 0
    }
}

impl Operation for StorageVerify {
    const NAME: &'static str = "storage.verify";
    const EFFECT: Effect = Effect::Acts;
    type Output = StorageVerified;

    async fn run(&self, app: &App) -> Result<Done<StorageVerified>, Error> {
        let vm = app.vms().find(&self.vm).await?;
        let drives = match &self.drive {
            Some(drive) => vec![drive.clone()],
            None => with_images(app, &vm).await?,
        };
        let mut images = Vec::new();
        for drive in &drives {
            images.extend(self.verify(app, &vm.entry, drive).await?);
        }
        let id = vm.entry.id;
        let done = StorageVerified {
            id: id.to_string(),
            name: vm.entry.name.to_string(),
            sound: images.iter().all(VerifiedImage::is_sound),
            images,
        };
        Ok(if done.images.iter().all(|image| image.copy.is_none()) {
            Done::reading(done).about(id)
        } else {
            Done::changing(done, id, ChangeSet::default())
        })
    }
}

/// Returns the drives of a VM whose images exist; those of the others have nothing to check.
async fn with_images(app: &App, vm: &Vm) -> Result<Vec<String>, Error> {
    let machine = app.machine(vm)?;
    let mut drives = Vec::new();
    for drive in app.preflight().drives(&vm.entry.name, &machine) {
        let Some(image) = drive.image_use().filter(|image| image.format.is_some()) else { continue };
        if drive.plan().is_none() || app.ports.images.exists(&image.path).await {
            drives.push(drive.storage.name.to_string());
        }
    }
    Ok(drives)
}

/// Repairs the image; not within the job, as a repair that is cut off can damage the image.
///
/// One that changes the content is not in the record of changes since the backups, which is removed first: `qemu-img` goes
/// on if this process is killed. Where the damage is in the way of that, it is removed once it is repaired.
async fn repair_image(
    app: &App,
    target: &ImageTarget<'_>,
    repair: ImageRepair,
    changes_content: bool,
) -> Result<Option<ImageCheck>, Error> {
    let (path, work) = (&target.image.path, target.work(&|_, _| {}));
    let forgotten = if changes_content { forget_changes(app, path, work.guard).await } else { Ok(()) };
    let is_left = match forgotten {
        Ok(()) => false,
        Err(ImageError::Refused { .. }) => true,
        Err(error) => return Err(error.into()),
    };
    let check = app.ports.image_tools.check(&target.image, Some(repair), &work);
    let repaired = target.job.reporting_elapsed(check).await?;
    if is_left {
        forget_changes(app, path, work.guard).await?;
    }
    Ok(repaired)
}

/// Returns whether `repair` would change anything.
const fn needs(repair: ImageRepair, found: &ImageCheck) -> bool {
    match repair {
        ImageRepair::Leaks => found.leaks > 0,
        ImageRepair::All => !found.is_clean(),
    }
}

/// Returns where the copy of an image is put: beside it.
fn copy_path(app: &App, target: &ImageTarget<'_>) -> PathBuf {
    let mut name = target.image.path.file_name().map_or_else(OsString::new, OsString::from);
    let now = app.ports.clock.now().strftime("%Y%m%dT%H%M%S%.3fZ").to_string();
    name.push(format!(".before-repair-{now}"));
    target.image.path.with_file_name(name)
}
