//! The backing files of images that a start creates: they must exist, and an overlay must not be smaller.

use std::path::{Path, PathBuf};

use maqet_domain::config::{Node, Problem};
use maqet_domain::machine::Machine;
use maqet_domain::port::{ImageError, ImageSummary, ImageUse};
use maqet_domain::size::ByteSize;
use maqet_domain::storage::{Backing, ImageAccess, ImagePlan};

use super::disk_error::{DiskError, OverlayTooSmall};
use super::drives::{Drive, is_missing};
use super::preflight::Preflight;
use crate::Error;

/// The unit of disk sizes, in bytes: `qemu-img` rounds up to whole sectors.
const SECTOR: u64 = 512;

/// The images that exist once the earlier drives of a machine are prepared, with the sizes the guest sees.
#[derive(Debug, Default)]
pub(crate) struct EarlierImages(Vec<EarlierImage>);

#[derive(Debug)]
struct EarlierImage {
    path: PathBuf,
    /// As far as it is known.
    size: Option<ByteSize>,
}

impl EarlierImages {
    /// Adds the image of a drive: the one that exists, or the one that is created.
    pub(crate) fn add(&mut self, drive: &Drive<'_>, existing: Option<&ImageSummary>) {
        let planned = || {
            let plan = drive.plan()?;
            plan.size.or_else(|| self.find(&plan.backing.as_ref()?.file)?.size)
        };
        let size = existing.map_or_else(planned, |image| image.virtual_size);
        self.0.push(EarlierImage { path: drive.path.clone(), size });
    }

    /// Returns the image at a path, if an earlier drive has it.
    fn find(&self, file: &Path) -> Option<&EarlierImage> {
        self.0.iter().find(|image| image.path == file)
    }
}

impl Preflight<'_> {
    /// Checks the backing file of an image that is to be created.
    pub(super) async fn check_backing(
        &self,
        drive: &Drive<'_>,
        plan: &ImagePlan,
        earlier: &EarlierImages,
    ) -> Result<(), Error> {
        let Some(backing) = &plan.backing else { return Ok(()) };
        if let Some(foreign) = self.foreign_backing(drive, plan).await {
            return Err(DiskError::from(foreign).into());
        }
        let size = match earlier.find(&backing.file) {
            Some(image) => image.size,
            None => self.backing_size(backing, plan.size.is_some()).await?,
        };
        match too_small(drive, plan, size) {
            Some(overlay) => Err(DiskError::from(overlay).into()),
            None => Ok(()),
        }
    }

    /// Returns the size that a backing file has for the guest; if `is_needed`, that of any format.
    async fn backing_size(&self, backing: &Backing, is_needed: bool) -> Result<Option<ByteSize>, Error> {
        let image = ImageUse { path: backing.file.clone(), format: backing.format.clone(), access: ImageAccess::Read };
        match self.images.examine(&image).await {
            Ok(ImageSummary { virtual_size: Some(size), .. }) => Ok(Some(size)),
            Ok(_) if is_needed => Ok(self.images.info(&backing.file).await.ok().map(|info| info.virtual_size)),
            Ok(_) => Ok(None),
            Err(error) if is_missing(&error) => Err(ImageError::BackingNotFound { path: image.path }.into()),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns missing backing files, and overlays that are smaller than theirs, as problems of the definition.
    ///
    /// A backing file may be missing if another entry creates it, or if the overlay exists already.
    pub(crate) async fn backing_problems(&self, machine: &Machine, definition: &Node) -> Vec<Problem> {
        let entries = definition.get("storage").map(Node::items).unwrap_or_default();
        let name = definition.get("name").and_then(Node::written);
        let vm_storage = name.map(|name| self.folders.storage.join(name)).unwrap_or_default();
        let mut problems = Vec::new();
        let mut earlier = EarlierImages::default();
        for storage in &machine.storage {
            let drive = Drive::new(storage, &vm_storage);
            let Some(plan) = drive.plan() else { continue };
            let problem = |key: &str, message: String, help: &str| {
                let node = entries.get(storage.index).and_then(|entry| entry.get(key));
                Problem {
                    help: Some(help.to_owned()),
                    location: node.and_then(|node| node.value_location.clone()),
                    ..Problem::new(format!("storage[{}].{key}", storage.index), message)
                }
            };
            if let Some(missing) = self.missing_backing(plan, &earlier).await {
                let message = format!("backing file `{}` not found", missing.display());
                problems.push(problem("backing_file", message, "correct the path, or create the image first"));
            } else if let Some(overlay) = self.small_overlay(&drive, plan, &earlier).await {
                problems.push(problem("size", overlay.to_string(), &overlay.help()));
            }
            earlier.add(&drive, None);
        }
        problems
    }

    /// Returns the backing file of `plan`, if the image is to be created and the backing file is missing.
    async fn missing_backing(&self, plan: &ImagePlan, earlier: &EarlierImages) -> Option<PathBuf> {
        let backing = plan.backing.as_ref().filter(|backing| earlier.find(&backing.file).is_none())?;
        let is_needed = !self.images.exists(&plan.path).await;
        let is_missing = is_needed && !self.images.exists(&backing.file).await;
        is_missing.then(|| backing.file.clone())
    }

    /// Returns the image of `plan`, if it is to be created smaller than its backing file.
    async fn small_overlay(
        &self,
        drive: &Drive<'_>,
        plan: &ImagePlan,
        earlier: &EarlierImages,
    ) -> Option<OverlayTooSmall> {
        let backing = plan.backing.as_ref().filter(|_| plan.size.is_some())?;
        if self.images.exists(&plan.path).await {
            return None;
        }
        let size = match earlier.find(&backing.file) {
            Some(image) => image.size,
            None => self.backing_size(backing, true).await.ok().flatten(),
        };
        too_small(drive, plan, size)
    }
}

/// Returns the image of `plan` if it is smaller than its backing file, of which the guest would see only the beginning.
fn too_small(drive: &Drive<'_>, plan: &ImagePlan, backing_size: Option<ByteSize>) -> Option<OverlayTooSmall> {
    let (size, backing_size) = (plan.size?, backing_size?);
    let sectors = |size: ByteSize| size.bytes().div_ceil(SECTOR);
    let backing = plan.backing.as_ref()?.file.clone();
    (sectors(size) < sectors(backing_size)).then(|| OverlayTooSmall {
        drive: drive.storage.name.to_string(),
        size,
        backing,
        backing_size,
    })
}
