//! Images that maqet created or used once and that are gone: a start refuses to create them again, empty.
//!
//! The volume of an image may not be mounted, or its directory may have been moved. The record of an image is written
//! after the image: a start that is killed in between leaves an image without a record, which the next start finds. So
//! does it find an image that existed before, and records it as used.

use std::fmt;
use std::path::{Path, PathBuf};

use maqet_domain::Timestamp;
use maqet_domain::change::StorageRecord;
use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::machine::Machine;
use maqet_domain::port::PathKind;
use maqet_domain::text::quote;
use maqet_domain::vm::{VmEntry, VmName};

use super::disk_error::DiskError;
use super::drives::Drive;
use super::firmware::VARIABLES_NAME;
use super::preflight::Preflight;
use super::tpm::TPM_NAME;
use crate::Error;

/// An image that does not exist and that a start would create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MissingImage {
    /// The drive, or the name of the UEFI variable store.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    /// Whether maqet chose the path.
    pub(crate) is_default: bool,
}

/// An image that maqet created or used once and that is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostImage {
    /// The drive, `uefi-vars` for the UEFI variable store, or `tpm-state` for that of the TPM.
    pub name: String,
    /// Where the image should be.
    pub path: PathBuf,
    /// Where it was created, if that was in another storage directory.
    pub created_at_path: Option<PathBuf>,
    /// When it was created, or first used.
    pub created_at: Timestamp,
    /// Whether maqet created it; else it existed before the VM used it.
    pub is_created: bool,
    /// The first directory of its path that does not exist, if one does not.
    pub missing_directory: Option<PathBuf>,
}

/// A start was refused because images of the VM are gone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ImagesLost {
    /// The VM.
    pub vm: VmName,
    /// The images; at least one.
    pub images: Vec<LostImage>,
}

impl fmt::Display for LostImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match self.name.as_str() {
            VARIABLES_NAME => write!(f, "UEFI variable store `{path}` ")?,
            TPM_NAME => write!(f, "state of the TPM `{path}` ")?,
            name => write!(f, "disk image `{path}` of drive `{name}` ")?,
        }
        let since = if self.is_created { "created on" } else { "in use since" };
        let date = self.created_at.strftime("%F");
        match (&self.missing_directory, &self.created_at_path) {
            (Some(directory), _) => {
                write!(f, "not found: the directory `{}` does not exist; is its volume mounted?", directory.display())
            }
            (None, Some(from)) => write!(f, "not found ({since} {date} as `{}`)", from.display()),
            (None, None) => write!(f, "not found ({since} {date})"),
        }
    }
}

impl fmt::Display for ImagesLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, image) in self.images.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{image}")?;
        }
        Ok(())
    }
}

impl Explain for ImagesLost {
    fn explain(&self) -> Explanation {
        let only_tpm = self.images.iter().all(|image| image.name == TPM_NAME);
        let mut explanation = Explanation::new("storage.created-image-not-found", Fault::NotFound).hint(if only_tpm {
            "mount its volume, or move it back: backups do not have it"
        } else {
            "mount its volume, move it back, or restore it from a backup"
        });
        let is_drive = |image: &&LostImage| ![VARIABLES_NAME, TPM_NAME].contains(&image.name.as_str());
        if let Some(drive) = self.images.iter().find(is_drive) {
            let key = quote(&format!("storage.{}.file=PATH", key_part(&drive.name)));
            explanation = explanation.hint(format!("run `maqet apply {} --set {key}` if it has moved", self.vm));
        }
        let options = self.images.iter().map(|image| format!(" --recreate {}", image.name));
        let what = match self.images.len() {
            1 if only_tpm => "one without the keys of the old one",
            1 => "an empty one",
            _ => "empty ones",
        };
        explanation.hint(format!("create {what} with `maqet start {}{}`", self.vm, options.collect::<String>()))
    }
}

/// Returns the name of a drive as a part of a path for `--set`.
fn key_part(name: &str) -> String {
    if name.contains('.') { format!("\"{name}\"") } else { name.to_owned() }
}

impl Preflight<'_> {
    /// Refuses images that maqet created or used once, except those that the caller has it create again.
    ///
    /// Without missing images, the store is not read.
    pub(crate) async fn refuse_lost(
        &self,
        entry: &VmEntry,
        missing: Vec<MissingImage>,
        recreate: &[String],
    ) -> Result<(), Error> {
        let missing: Vec<MissingImage> = missing.into_iter().filter(|image| !recreate.contains(&image.name)).collect();
        let images = self.lost_images(entry, missing).await?;
        if images.is_empty() {
            Ok(())
        } else {
            Err(DiskError::from(ImagesLost { vm: entry.name.clone(), images }).into())
        }
    }

    /// Returns which of the missing images maqet created or used once.
    pub(crate) async fn lost_images(
        &self,
        entry: &VmEntry,
        missing: Vec<MissingImage>,
    ) -> Result<Vec<LostImage>, Error> {
        if missing.is_empty() {
            return Ok(Vec::new());
        }
        let records = self.store.storage_of_vm(&entry.id).await?;
        Ok(self.lost_among(&entry.name, missing, &records).await)
    }

    /// Returns which of the missing images of a VM are recorded.
    pub(crate) async fn lost_among(
        &self,
        vm: &VmName,
        missing: Vec<MissingImage>,
        records: &[StorageRecord],
    ) -> Vec<LostImage> {
        let mut lost = Vec::new();
        for image in missing {
            let Some(record) = self.record_of(&image, records, vm).await else { continue };
            lost.push(LostImage {
                missing_directory: self.missing_directory(&image.path).await,
                created_at_path: Some(record.path.clone()).filter(|path| *path != image.path),
                created_at: record.created_at,
                is_created: record.is_created(),
                name: image.name,
                path: image.path,
            });
        }
        lost
    }

    /// Returns the images that do not exist and that a start creates.
    pub(crate) async fn missing_images(&self, entry: &VmEntry, machine: &Machine) -> Vec<MissingImage> {
        let mut missing = Vec::new();
        for drive in self.drives(&entry.name, machine) {
            if drive.plan().is_some() && !self.images.exists(&drive.path).await {
                missing.push(drive.as_missing());
            }
        }
        let variables = self.uefi_variables(&entry.name);
        if machine.firmware.is_uefi() && !self.images.exists(&variables).await {
            missing.push(MissingImage { name: VARIABLES_NAME.to_owned(), path: variables, is_default: true });
        }
        missing
    }

    /// Returns the record of an image: of the same file, or of the same name in another storage directory.
    async fn record_of<'r>(
        &self,
        image: &MissingImage,
        records: &'r [StorageRecord],
        vm: &VmName,
    ) -> Option<&'r StorageRecord> {
        let resolved = self.paths.resolve(&image.path).await;
        let in_vm_storage = Path::new(vm.as_str()).join(image.path.file_name()?);
        for record in records {
            let is_moved = image.is_default && record.drive == image.name && record.path.ends_with(&in_vm_storage);
            if is_moved || record.path == image.path || self.paths.resolve(&record.path).await == resolved {
                return Some(record);
            }
        }
        None
    }

    async fn missing_directory(&self, path: &Path) -> Option<PathBuf> {
        let mut missing = None;
        for directory in path.ancestors().skip(1) {
            if self.paths.kind(directory).await != PathKind::NotFound {
                break;
            }
            missing = Some(directory.to_owned());
        }
        missing
    }

    /// Refuses names of images that cannot be created again: unknown ones, and those that maqet does not create.
    pub(crate) fn check_recreate(&self, entry: &VmEntry, machine: &Machine, names: &[String]) -> Result<(), Error> {
        let drives = self.drives(&entry.name, machine);
        let variables = machine.firmware.is_uefi().then_some(VARIABLES_NAME);
        let others: Vec<&str> = variables.into_iter().chain(machine.tpm.then_some(TPM_NAME)).collect();
        for name in names.iter().filter(|name| !others.contains(&name.as_str())) {
            let drive = drives.iter().find(|drive| drive.storage.name.as_str() == name);
            if drive.is_some_and(|drive| drive.plan().is_some()) {
                continue;
            }
            let created = drives.iter().filter(|drive| drive.plan().is_some());
            let others = others.iter().map(|name| (*name).to_owned());
            let known: Vec<String> = created.map(|drive| drive.storage.name.to_string()).chain(others).collect();
            let vm = entry.name.clone();
            return Err(match drive {
                None => Error::NoSuchDrive { vm, drive: name.clone(), known },
                Some(_) => DiskError::RecreateUnsupported { vm, drive: name.clone() }.into(),
            });
        }
        Ok(())
    }
}

impl Drive<'_> {
    /// Returns the drive as an image that does not exist.
    pub(crate) fn as_missing(&self) -> MissingImage {
        MissingImage {
            name: self.storage.name.to_string(),
            path: self.path.clone(),
            is_default: self.storage.file.is_none(),
        }
    }
}
