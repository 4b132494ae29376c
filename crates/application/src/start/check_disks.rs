//! Checks the disks of a VM, so that no disk is created for a start that would fail.
//!
//! Files that maqet does not create must exist, an image that it created once must not be gone (`lost_images`), and
//! QEMU must be able to open all images.

use std::path::{Path, PathBuf};

use maqet_domain::machine::{FileAccess, Machine};
use maqet_domain::port::{ImageSummary, PathKind, PathObstacle};
use maqet_domain::storage::Preparation;
use maqet_domain::vm::VmEntry;

use super::backing::EarlierImages;
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
    /// The backing files of the images.
    pub(crate) backing: Vec<PathBuf>,
    /// What of the definition is probably not meant.
    pub(crate) warnings: Vec<String>,
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
        let mut earlier = EarlierImages::default();
        for drive in &checked.drives {
            let image = self.check_drive(drive, &earlier).await?;
            earlier.add(drive, image.as_ref());
            checked.backing.extend(image.as_ref().and_then(|image| image.backing.clone()));
            checked.backing.extend(drive.plan().and_then(|plan| Some(plan.backing.as_ref()?.file.clone())));
            match image {
                Some(_) if recreate.iter().any(|name| name == drive.storage.name.as_str()) => {
                    let (drive, path) = (drive.storage.name.to_string(), drive.path.clone());
                    return Err(DiskError::RecreateConflict { drive, path }.into());
                }
                Some(image) => {
                    match Self::foreign_content(drive, &image) {
                        Some(foreign) if foreign.is_harmful() => return Err(DiskError::from(foreign).into()),
                        Some(foreign) => checked.warnings.push(foreign.to_string()),
                        None => {}
                    }
                    self.add_mismatches(&entry.name, drive, &image, &mut checked.mismatches).await;
                }
                None if drive.plan().is_some() => missing.push(drive.as_missing()),
                None => {}
            }
        }
        checked.warnings.extend(self.check_raw_images(machine).await?);
        self.check_host_use(machine).await?;
        self.check_overlaps(&entry.name, machine, &checked.drives).await?;
        missing.extend(self.check_variables(entry, machine, recreate).await?);
        missing.extend(self.check_tpm(entry, machine, recreate).await?);
        self.refuse_lost(entry, missing, recreate).await?;
        Ok(checked)
    }

    /// Checks the file or directory that a drive needs; `earlier` are the images of the drives before it.
    ///
    /// Returns what its image says, if it exists.
    pub(crate) async fn check_drive(
        &self,
        drive: &Drive<'_>,
        earlier: &EarlierImages,
    ) -> Result<Option<ImageSummary>, Error> {
        match &drive.preparation {
            Preparation::Nothing => Ok(None),
            Preparation::Existing(path) if drive.image_use().is_none() => {
                self.require_reachable(path, FileAccess::Connect).await?;
                if self.images.exists(path).await {
                    Ok(None)
                } else {
                    let (share, path) = (drive.storage.name.to_string(), path.clone());
                    Err(DiskError::SocketNotFound { share, path }.into())
                }
            }
            Preparation::Existing(_) => self.examine(drive).await.map_err(|error| {
                // Neither a CD nor a read-only image is ever created.
                if is_missing(&error) && !drive.storage.driver.is_readonly(drive.storage) {
                    return DiskError::NotFound { hint: instead_of_missing(drive), error }.into();
                }
                error.into()
            }),
            Preparation::Directory(path) => {
                self.require_reachable(path, FileAccess::Read).await?;
                match self.paths.kind(path).await {
                    PathKind::Directory => Ok(None),
                    PathKind::NotFound
                    | PathKind::File
                    | PathKind::BlockDevice
                    | PathKind::CdDrive
                    | PathKind::Other => Err(Error::DirectoryNotFound { path: path.clone() }),
                }
            }
            Preparation::Image(plan) => {
                if let Some(image) = self.examine(drive).await? {
                    return Ok(Some(image));
                }
                self.require_reachable(&plan.path, FileAccess::Write).await?;
                self.check_backing(drive, plan, earlier).await.map(|()| None)
            }
        }
    }

    /// Refuses a path that this user may not use, so that nothing at it is said not to exist.
    pub(super) async fn require_reachable(&self, path: &Path, access: FileAccess) -> Result<(), DiskError> {
        match self.paths.obstacle(path, access).await {
            Some(source @ PathObstacle::Closed { .. }) => Err(DiskError::Unreachable { path: path.to_owned(), source }),
            // What is missing may be created, and is reported where it is needed.
            Some(PathObstacle::NotFound { .. } | PathObstacle::DanglingLink { .. }) | None => Ok(()),
        }
    }
}

/// Returns what to do about a writable image that is missing, besides moving it back.
fn instead_of_missing(drive: &Drive<'_>) -> &'static str {
    let is_device = drive.path.starts_with("/dev") && !drive.path.starts_with("/dev/shm");
    match drive.storage.driver.image_format() {
        _ if is_device => "plug the device in, or create its volume; `lsblk` lists the devices of the host",
        Some("qcow2" | "raw") => "set a `size` for the entry to have maqet create the image",
        // Formats that maqet only reads.
        _ => "set `type: qcow2` for the entry, and a `size`, to have maqet create an image",
    }
}
