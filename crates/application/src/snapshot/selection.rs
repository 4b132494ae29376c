//! Which images a snapshot is of: that of one drive, or those of all drives as a set.

use std::path::PathBuf;

use maqet_domain::machine::Machine;
use maqet_domain::storage::StorageSpec;
use maqet_domain::vm::VmEntry;
use serde::Serialize;

use super::error::SnapshotError;
use crate::start::create_disks::find_drive;
use crate::start::firmware::VARIABLES_NAME;
use crate::start::tpm::TPM_NAME;
use crate::{App, Error};

/// What stands for all drives, unless a drive has this name.
pub(crate) const ALL: &str = "all";

/// The image of a drive, or the UEFI variable store.
#[derive(Debug, Clone)]
pub(crate) struct DriveImage {
    pub(crate) drive: String,
    pub(crate) path: PathBuf,
    /// The entry of the drive; `None` for the UEFI variable store.
    pub(crate) spec: Option<StorageSpec>,
}

impl DriveImage {
    fn of(app: &App, entry: &VmEntry, spec: &StorageSpec) -> Self {
        Self {
            drive: spec.name.to_string(),
            path: spec.path(&app.folders.vm_storage(&entry.name)),
            spec: Some(spec.clone()),
        }
    }
}

/// A writable drive that snapshots of all drives do not include.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct OmittedDrive {
    /// The drive.
    pub drive: String,
    /// Why it is not included.
    pub reason: String,
}

/// The images of an operation on snapshots.
#[derive(Debug)]
pub(crate) struct SnapshotImages {
    /// The requested drive, or `all`.
    pub(crate) drive: String,
    pub(crate) images: Vec<DriveImage>,
    /// Whether that is all that the VM has.
    pub(crate) is_all: bool,
    /// The images that were not requested.
    pub(crate) others: Vec<DriveImage>,
    pub(crate) omitted: Vec<OmittedDrive>,
}

impl SnapshotImages {
    /// Selects one drive, or all writable drives that support snapshots and the UEFI variable store.
    pub(crate) fn new(app: &App, entry: &VmEntry, machine: &Machine, drive: &str) -> Result<Self, Error> {
        let image = |spec: &StorageSpec| DriveImage::of(app, entry, spec);
        let one = |image: DriveImage| {
            let mut others = Self::listed(app, entry, machine);
            others.retain(|other| other.drive != image.drive);
            let (is_all, drive) = (others.is_empty(), drive.to_owned());
            Self { drive, images: vec![image], is_all, others, omitted: Vec::new() }
        };
        let variables = variables(app, entry, machine);
        if machine.drive(drive).is_none() {
            match variables {
                _ if drive == ALL => return Self::all(entry, machine, image, variables),
                Some(variables) if drive == VARIABLES_NAME => return Ok(one(variables)),
                _ => {}
            }
        }
        let spec = find_drive(entry, machine, drive)?;
        if spec.driver.features().internal_snapshots {
            return Ok(one(image(spec)));
        }
        let kind = spec.driver.type_name().to_owned();
        Err(SnapshotError::Unsupported { vm: entry.name.clone(), drive: drive.to_owned(), kind }.into())
    }

    fn all(
        entry: &VmEntry,
        machine: &Machine,
        image: impl Fn(&StorageSpec) -> DriveImage,
        variables: Option<DriveImage>,
    ) -> Result<Self, Error> {
        let drive = ALL.to_owned();
        let mut selection = Self { drive, images: Vec::new(), is_all: true, others: Vec::new(), omitted: Vec::new() };
        for spec in &machine.storage {
            if spec.snapshot {
                let reason = "what the guest writes to it is lost (`snapshot: true`)".to_owned();
                selection.omitted.push(OmittedDrive { drive: spec.name.to_string(), reason });
                continue;
            }
            if spec.keeps_image() {
                continue;
            }
            if spec.driver.features().internal_snapshots {
                selection.images.push(image(spec));
            } else if spec.driver.image_format().is_some() {
                let reason = format!("type `{}` does not support snapshots", spec.driver.type_name());
                selection.omitted.push(OmittedDrive { drive: spec.name.to_string(), reason });
            }
        }
        if machine.tpm {
            let reason = "the state of the TPM is part of snapshots of a running VM only".to_owned();
            selection.omitted.push(OmittedDrive { drive: TPM_NAME.to_owned(), reason });
        }
        if selection.images.is_empty() {
            return Err(SnapshotError::no_drives(&entry.name, machine).into());
        }
        selection.images.extend(variables);
        Ok(selection)
    }

    /// Selects the images whose snapshots are listed: also read-only ones.
    pub(crate) fn listed(app: &App, entry: &VmEntry, machine: &Machine) -> Vec<DriveImage> {
        let supported = machine.storage.iter().filter(|spec| spec.driver.features().internal_snapshots);
        let images = supported.map(|spec| DriveImage::of(app, entry, spec));
        images.chain(variables(app, entry, machine)).collect()
    }

    /// Refuses to change the images of drives that a run leaves as they are; only a drive that is named is one.
    pub(crate) fn require_written(&self, entry: &VmEntry) -> Result<(), Error> {
        let mut specs = self.images.iter().filter_map(|image| image.spec.as_ref());
        Ok(specs.try_for_each(|spec| SnapshotError::require_written(&entry.name, spec))?)
    }

    /// Returns the names of the drives.
    pub(crate) fn drives(&self) -> Vec<String> {
        self.images.iter().map(|image| image.drive.clone()).collect()
    }
}

/// Returns the UEFI variable store of a machine that has one.
fn variables(app: &App, entry: &VmEntry, machine: &Machine) -> Option<DriveImage> {
    machine.firmware.is_uefi().then(|| DriveImage {
        drive: VARIABLES_NAME.to_owned(),
        path: app.preflight().uefi_variables(&entry.name),
        spec: None,
    })
}
