//! `storage ls`: the drives of VMs, and the images that they consist of.

use maqet_domain::port::ImageLink;
use maqet_domain::size::ByteSize;
use maqet_domain::vm::{Vm, VmEntry};
use serde::{Deserialize, Serialize};

use crate::app::operations::{Done, Effect, Operation};
use crate::app::shown;
use crate::start::drives::Drive;
use crate::{App, Error};

/// List the drives of VMs with their images and backing files
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct StorageLs {
    /// Show only the drives of this VM: a name, an ID, or a unique prefix of an ID
    pub vm: Option<String>,
}

impl StorageLs {
    /// Lists the drives of the VM `vm`; of all VMs if it is `None`.
    pub fn new(vm: Option<String>) -> Self {
        Self { vm }
    }
}

/// A drive of a VM.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StoredDrive {
    /// The VM's ID.
    pub id: String,
    /// The VM's name.
    pub vm: String,
    /// The drive.
    pub drive: String,
    /// Its storage type.
    pub r#type: &'static str,
    /// Whether the guest is prevented from writing.
    pub readonly: bool,
    /// Its image.
    #[serde(flatten)]
    pub image: StoredImage,
    /// The backing files, each that of the image before it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub backing: Vec<StoredImage>,
}

/// A disk image.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StoredImage {
    /// Its file.
    pub file: String,
    /// Its format, by QEMU's name.
    pub format: Option<String>,
    /// The size in the guest.
    pub virtual_bytes: Option<u64>,
    /// The space used on the host.
    pub allocated_bytes: Option<u64>,
    /// Why it cannot be used.
    pub problem: Option<String>,
}

impl From<ImageLink> for StoredImage {
    fn from(link: ImageLink) -> Self {
        Self {
            file: shown(&link.path),
            format: link.format,
            virtual_bytes: link.virtual_size.map(ByteSize::bytes),
            allocated_bytes: link.actual_size.map(ByteSize::bytes),
            problem: link.problem.map(|problem| problem.to_string()),
        }
    }
}

impl Operation for StorageLs {
    const NAME: &'static str = "storage.ls";
    const EFFECT: Effect = Effect::Reads;
    type Output = Vec<StoredDrive>;

    /// Works while the VMs are running, too.
    async fn run(&self, app: &App) -> Result<Done<Vec<StoredDrive>>, Error> {
        if let Some(vm) = &self.vm {
            return Ok(Done::reading(drives_of(app, &app.vms().find(vm).await?).await?));
        }
        let mut found = Vec::new();
        for vm in app.ports.store.vms().await? {
            match drives_of(app, &vm).await {
                Ok(drives) => found.extend(drives),
                // One invalid definition must not hide the drives of all others.
                Err(error) => tracing::warn!(vm = %vm.entry.name, %error, "could not read the definition"),
            }
        }
        Ok(Done::reading(found))
    }
}

async fn drives_of(app: &App, vm: &Vm) -> Result<Vec<StoredDrive>, Error> {
    let machine = app.machine(vm)?;
    let vm_storage = app.folders.vm_storage(&vm.entry.name);
    let mut found = Vec::new();
    for storage in &machine.storage {
        if let Some(drive) = describe(app, &vm.entry, &Drive::new(storage, &vm_storage)).await {
            found.push(drive);
        }
    }
    Ok(found)
}

/// Describes a drive; `None` for a share.
pub(super) async fn describe(app: &App, entry: &VmEntry, drive: &Drive<'_>) -> Option<StoredDrive> {
    let used = drive.image_use()?;
    let mut chain = app.ports.image_tools.chain(&used).await.into_iter().map(StoredImage::from);
    let mut image = chain.next()?;
    if image.problem.is_some() && drive.plan().is_some() && !app.ports.images.exists(&used.path).await {
        image.problem = Some("created at the first start".to_owned());
    }
    Some(StoredDrive {
        id: entry.id.to_string(),
        vm: entry.name.to_string(),
        drive: drive.storage.name.to_string(),
        r#type: drive.storage.driver.type_name(),
        readonly: drive.storage.driver.is_readonly(drive.storage),
        image,
        backing: chain.collect(),
    })
}
