//! `storage info`: all about the image of a drive.

use maqet_domain::port::ImageUser;
use maqet_domain::size::ByteSize;
use serde::{Deserialize, Serialize};

use super::ls::{StoredDrive, describe};
use crate::app::operations::{Done, Effect, Operation};
use crate::start::create_disks::find_drive;
use crate::start::drives::Drive;
use crate::storage::error::StorageError;
use crate::trash::used_files::{FileUse, UsedFiles};
use crate::{App, Error};

/// Show the image of a drive: sizes, backing files, and what uses it
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct StorageInfo {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub vm: String,
    /// The drive, by its name under `storage`
    pub drive: String,
}

impl StorageInfo {
    /// Shows the image of a drive.
    pub fn new(vm: impl Into<String>, drive: impl Into<String>) -> Self {
        Self { vm: vm.into(), drive: drive.into() }
    }
}

/// The image of a drive.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StorageDetails {
    /// The drive with its image and its backing files.
    #[serde(flatten)]
    pub drive: StoredDrive,
    /// The size in the definition, which applies when the image is created.
    pub configured_bytes: Option<u64>,
    /// How many internal snapshots it has; omitted if it cannot be read.
    pub snapshots: Option<usize>,
    /// The process that has it open.
    pub opened_by: Option<ImageOpener>,
    /// What else uses the image, as its own or as a backing file: other drives, images without a VM, the trash.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub used_by: Vec<FileUse>,
}

/// A process that has an image open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ImageOpener {
    /// The process ID.
    pub pid: u32,
    /// The name of its program.
    pub program: String,
}

impl From<ImageUser> for ImageOpener {
    fn from(user: ImageUser) -> Self {
        Self { pid: user.pid, program: user.program }
    }
}

impl Operation for StorageInfo {
    const NAME: &'static str = "storage.info";
    const EFFECT: Effect = Effect::Reads;
    type Output = StorageDetails;

    /// Works while the VM is running, too.
    async fn run(&self, app: &App) -> Result<Done<StorageDetails>, Error> {
        let vm = app.vms().find(&self.vm).await?;
        let machine = app.machine(&vm)?;
        let spec = find_drive(&vm.entry, &machine, &self.drive)?;
        let drive = Drive::new(spec, &app.folders.vm_storage(&vm.entry.name));
        let Some(described) = describe(app, &vm.entry, &drive).await else {
            return Err(StorageError::not_an_image(&vm.entry.name, spec).into());
        };
        let mut details = StorageDetails {
            drive: described,
            configured_bytes: spec.size.map(ByteSize::bytes),
            snapshots: None,
            opened_by: None,
            used_by: Vec::new(),
        };
        let path = drive.path.as_path();
        if app.ports.image_tools.identify(path).await.is_some() {
            details.opened_by = app.ports.images.user(path).await.map(ImageOpener::from);
            details.used_by = UsedFiles::of_all_but(app, &vm, &self.drive).await?.uses_of(path).await;
            match app.ports.images.info(path).await {
                Ok(info) => details.snapshots = Some(info.snapshots.len()),
                Err(error) => tracing::debug!(%error, "could not read the snapshots of the image"),
            }
        }
        Ok(Done::reading(details))
    }
}
