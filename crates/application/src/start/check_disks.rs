//! Checks the disks of a VM, so that no disk is created for a start that would fail.
//!
//! Files that maqet does not create must exist, an image that it created once must not be gone (`lost_images`), and
//! QEMU must be able to open all images.

use std::path::PathBuf;

use maqet_domain::config::{Node, Problem};
use maqet_domain::machine::Machine;
use maqet_domain::port::{ImageError, ImageSummary, ImageUse, PathKind};
use maqet_domain::storage::{ImageAccess, ImagePlan, Preparation};
use maqet_domain::vm::VmEntry;

use super::disk_error::DiskError;
use super::drives::{Drive, is_missing};
use super::mismatches::ImageMismatches;
use super::preflight::Preflight;
use crate::Error;

/// The disks of a machine whose start can go on.
#[derive(Debug, Default)]
pub(crate) struct CheckedDisks<'m> {
    /// The drives and shares; the image of each exists, or can be created.
    pub(crate) drives: Vec<Drive<'m>>,
    pub(crate) mismatches: ImageMismatches,
}

impl Preflight<'_> {
    /// Checks the disks of a machine and its UEFI variable store; `recreate` are images to create even if they were
    /// created once.
    pub(crate) async fn check_disks<'m>(
        &self,
        entry: &VmEntry,
        machine: &'m Machine,
        recreate: &[String],
    ) -> Result<CheckedDisks<'m>, Error> {
        self.check_recreate(entry, machine, recreate)?;
        let mut checked = CheckedDisks { drives: self.drives(&entry.name, machine), ..CheckedDisks::default() };
        let mut missing = Vec::new();
        let mut created: Vec<PathBuf> = Vec::new();
        for drive in &checked.drives {
            match self.check_drive(drive, &created).await? {
                Some(_) if recreate.iter().any(|name| name == drive.storage.name.as_str()) => {
                    let (drive, path) = (drive.storage.name.to_string(), drive.path.clone());
                    return Err(DiskError::RecreateConflict { drive, path }.into());
                }
                Some(image) => self.add_mismatches(&entry.name, drive, &image, &mut checked.mismatches).await,
                None if drive.plan().is_some() => missing.push(drive.as_missing()),
                None => {}
            }
            created.push(drive.path.clone());
        }
        missing.extend(self.check_variables(entry, machine, recreate).await?);
        missing.extend(self.check_tpm(entry, machine, recreate).await?);
        self.refuse_lost(entry, missing, recreate).await?;
        Ok(checked)
    }

    /// Checks the file or directory that a drive needs; `created` are images that exist before it does.
    ///
    /// Returns what its image says, if it exists.
    pub(crate) async fn check_drive(
        &self,
        drive: &Drive<'_>,
        created: &[PathBuf],
    ) -> Result<Option<ImageSummary>, Error> {
        match &drive.preparation {
            Preparation::Nothing => Ok(None),
            Preparation::Existing(path) if drive.image_use().is_none() => {
                if self.images.exists(path).await {
                    Ok(None)
                } else {
                    Err(ImageError::NotFound { path: path.clone() }.into())
                }
            }
            Preparation::Existing(_) => Ok(self.examine(drive).await?),
            Preparation::Directory(path) => match self.paths.kind(path).await {
                PathKind::Directory => Ok(None),
                PathKind::NotFound | PathKind::File | PathKind::BlockDevice | PathKind::CdDrive | PathKind::Other => {
                    Err(Error::DirectoryNotFound { path: path.clone() })
                }
            },
            Preparation::Image(plan) => match self.examine(drive).await? {
                Some(image) => Ok(Some(image)),
                None => self.check_backing(plan, created).await.map(|()| None),
            },
        }
    }

    /// Checks the backing file of an image that is to be created.
    async fn check_backing(&self, plan: &ImagePlan, created: &[PathBuf]) -> Result<(), Error> {
        let Some(backing) = plan.backing.as_ref().filter(|backing| !created.contains(&backing.file)) else {
            return Ok(());
        };
        let image = ImageUse { path: backing.file.clone(), format: backing.format.clone(), access: ImageAccess::Read };
        match self.images.examine(&image).await {
            Ok(_) => Ok(()),
            Err(error) if is_missing(&error) => Err(ImageError::BackingNotFound { path: image.path }.into()),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the missing backing files as problems of the definition.
    ///
    /// A backing file may be missing if another entry creates it, or if the overlay exists already.
    pub(crate) async fn missing_disk_problems(&self, machine: &Machine, definition: &Node) -> Vec<Problem> {
        let entries = definition.get("storage").map(Node::items).unwrap_or_default();
        let name = definition.get("name").and_then(Node::scalar);
        let vm_storage = name.map(|name| self.folders.storage.join(name)).unwrap_or_default();
        let mut problems = Vec::new();
        let mut created: Vec<PathBuf> = Vec::new();
        for storage in &machine.storage {
            let drive = Drive::new(storage, &vm_storage);
            let Some(plan) = drive.plan() else { continue };
            let missing = self.missing_backing(plan).await.filter(|missing| !created.contains(missing));
            created.push(drive.path.clone());
            let Some(missing) = missing else { continue };
            let node = entries.get(storage.index).and_then(|entry| entry.get("backing_file"));
            let message = format!("backing file `{}` not found", missing.display());
            problems.push(Problem {
                help: Some("correct the path, or create the image first".to_owned()),
                location: node.and_then(|node| node.value_location.clone()),
                ..Problem::new(format!("storage[{}].backing_file", storage.index), message)
            });
        }
        problems
    }

    /// Returns the backing file of `plan`, if the image is to be created and the backing file is missing.
    async fn missing_backing(&self, plan: &ImagePlan) -> Option<PathBuf> {
        let backing = plan.backing.as_ref()?;
        let is_needed = !self.images.exists(&plan.path).await;
        let is_missing = is_needed && !self.images.exists(&backing.file).await;
        is_missing.then(|| backing.file.clone())
    }
}
