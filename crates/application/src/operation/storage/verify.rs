//! `storage verify`: checks the images of drives, and repairs them on request.

use std::ffi::OsString;
use std::path::PathBuf;

use derive_setters::Setters;
use maqet_domain::change::ChangeSet;
use maqet_domain::event::kind;
use maqet_domain::port::{ImageCheck, ImageFile, ImageRepair};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::target::ImageTarget;
use crate::app::operations::{Done, Effect, Operation};
use crate::app::shown;
use crate::{App, Error, HumanDuration};

/// Check the images of a drive for errors, and repair them on request
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
    /// The drive, by its name under `storage`
    pub drive: String,
    /// Repair the image of the drive, after it was copied: `leaks` frees space that is lost, `all` also repairs errors
    ///
    /// The copy stays beside the image. Backing files are not repaired.
    #[cfg_attr(feature = "clap", arg(long, value_name = "WHAT"))]
    #[setters(strip_option)]
    pub repair: Option<ImageRepair>,
    /// Timeout; a repair that has begun is finished [default: none]
    #[cfg_attr(feature = "clap", arg(long, value_name = "DURATION"))]
    #[setters(strip_option)]
    pub timeout: Option<HumanDuration>,
}

impl StorageVerify {
    /// Checks the images of a drive.
    pub fn new(vm: impl Into<String>, drive: impl Into<String>) -> Self {
        Self { vm: vm.into(), drive: drive.into(), repair: None, timeout: None }
    }
}

/// The result of a check of a drive.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StorageVerified {
    /// The VM's ID.
    pub id: String,
    /// The VM's name.
    pub name: String,
    /// The drive.
    pub drive: String,
    /// Whether no error is left in any of the images.
    pub sound: bool,
    /// The image of the drive, then its backing files.
    pub images: Vec<VerifiedImage>,
    /// The copy of the image before it was repaired.
    pub copy: Option<String>,
}

/// The result of a check of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct VerifiedImage {
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
}

impl VerifiedImage {
    fn new(image: &ImageFile, check: Option<&ImageCheck>) -> Self {
        let found = check.cloned().unwrap_or_default();
        Self {
            file: shown(&image.path),
            format: image.format.clone(),
            checked: check.is_some(),
            errors: found.corruptions.saturating_add(found.check_errors),
            leaks: found.leaks,
            errors_repaired: found.corruptions_fixed,
            leaks_repaired: found.leaks_fixed,
        }
    }

    const fn is_sound(&self) -> bool {
        self.errors == 0 && self.leaks == 0
    }
}

impl Operation for StorageVerify {
    const NAME: &'static str = "storage.verify";
    const EFFECT: Effect = Effect::Changes;
    type Output = StorageVerified;

    async fn run(&self, app: &App) -> Result<Done<StorageVerified>, Error> {
        let target = ImageTarget::lock(app, &self.vm, &self.drive, Self::NAME, self.timeout).await?;
        target.require_free().await?;
        let found = target.check(&target.image).await?;
        let mut images = vec![VerifiedImage::new(&target.image, found.as_ref())];
        let mut copy = None;
        if let Some(repair) = self.repair.filter(|repair| found.as_ref().is_some_and(|found| needs(*repair, found))) {
            let path = copy_path(app, &target);
            target.job.set_stage("copying the image");
            let size = target.chain().await.first().and_then(|link| link.actual_size).unwrap_or_default();
            let progress = target.job.share_reporter(size.bytes());
            target.job.run(app.ports.image_tools.copy(&target.image.path, &path, &target.work(&progress))).await??;
            target.job.set_stage("repairing the image");
            // Not within the job: a repair that is cut off can damage the image.
            let work = target.work(&|_, _| {});
            let repaired = app.ports.image_tools.check(&target.image, Some(repair), &work);
            let repaired = target.job.reporting_elapsed(repaired).await?;
            images = vec![VerifiedImage::new(&target.image, repaired.as_ref())];
            copy = Some(path);
        }
        for link in target.chain().await.into_iter().skip(1) {
            let Some(format) = link.format else { continue };
            let image = ImageFile { path: link.path, format };
            images.push(VerifiedImage::new(&image, target.check(&image).await?.as_ref()));
        }
        let entry = &target.vm.entry;
        let done = StorageVerified {
            id: entry.id.to_string(),
            name: entry.name.to_string(),
            drive: self.drive.clone(),
            sound: images.iter().all(VerifiedImage::is_sound),
            images,
            copy: copy.as_deref().map(shown),
        };
        let id = entry.id;
        if done.copy.is_none() {
            return Ok(Done::reading(done).about(id));
        }
        let data = json!({ "drive": self.drive, "copy": done.copy, "sound": done.sound });
        let event = app.committer().event(kind::STORAGE_REPAIRED, entry, data);
        Ok(Done::changing(done, id, ChangeSet::default()).event(event).holding_all(target.into_guards()))
    }
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
    let now = app.ports.clock.now().strftime("%Y%m%dT%H%M%SZ").to_string();
    name.push(format!(".before-repair-{now}"));
    target.image.path.with_file_name(name)
}
