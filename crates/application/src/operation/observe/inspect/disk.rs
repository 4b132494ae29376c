//! Disks with their actual sizes: from QEMU if the VM runs, else from the images.

use std::path::{Path, PathBuf};

use maqet_domain::machine::Machine;
use maqet_domain::port::{DiskImages, PathKind, Paths};
use maqet_domain::storage::{Preparation, StorageSpec};
use serde::Serialize;

use super::machine::BlockDevice;
use crate::app::shown;

/// A disk or share of a VM.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct InspectedDisk {
    /// Its name in the definition, else in QEMU.
    pub name: String,
    /// Its storage type; omitted if it is not under `storage` in the definition.
    pub r#type: Option<&'static str>,
    /// Its file; for a share the directory or socket.
    pub file: String,
    /// Its image format, by QEMU's name.
    pub format: Option<String>,
    /// The size in the guest.
    pub virtual_bytes: Option<u64>,
    /// The space used on the host.
    pub allocated_bytes: Option<u64>,
    /// Whether the guest is prevented from writing.
    pub readonly: bool,
    /// Whether the running VM has it; omitted for shares, and if QEMU does not answer.
    pub attached: Option<bool>,
    /// Why there are no sizes.
    pub problem: Option<String>,
}

/// Inspects disks and shares.
pub(super) struct DiskInspector<'a> {
    pub(super) paths: &'a dyn Paths,
    pub(super) images: &'a dyn DiskImages,
}

impl DiskInspector<'_> {
    /// Returns the disks and shares of a definition, then the other block devices of the running VM.
    ///
    /// `devices` are all block devices of the running VM, if QEMU reported them.
    pub(super) async fn inspect(
        &self,
        definition: &Machine,
        vm_storage: &Path,
        devices: Option<&[BlockDevice]>,
    ) -> Vec<InspectedDisk> {
        let mut unmatched: Vec<&BlockDevice> = devices.unwrap_or_default().iter().collect();
        let mut disks = Vec::new();
        for spec in &definition.storage {
            let matches = |device: &&BlockDevice| device.names.iter().any(|name| name == spec.name.as_str());
            let device = unmatched.iter().position(matches).map(|index| unmatched.remove(index));
            let location = DiskLocation::new(spec, &spec.path(vm_storage));
            let mut disk = match device {
                Some(device) => InspectedDisk::from(device),
                None => self.inspect_unattached(spec, &location).await,
            };
            disk.name = spec.name.to_string();
            disk.r#type = Some(spec.driver.type_name());
            // Shares are not block devices, so QEMU does not list them.
            disk.attached = devices.filter(|_| location.is_image).map(|_| device.is_some());
            disks.push(disk);
        }
        disks.extend(unmatched.into_iter().map(InspectedDisk::from));
        disks
    }

    /// Inspects a disk or share that QEMU did not report.
    async fn inspect_unattached(&self, spec: &StorageSpec, location: &DiskLocation) -> InspectedDisk {
        let path = &location.path;
        let mut disk = InspectedDisk {
            name: spec.name.to_string(),
            r#type: None,
            file: shown(path),
            format: None,
            virtual_bytes: None,
            allocated_bytes: None,
            readonly: spec.driver.is_readonly(spec),
            attached: None,
            problem: None,
        };
        if self.paths.kind(path).await == PathKind::NotFound {
            let problem = if location.created_on_start { "created at the first start" } else { "not found" };
            disk.problem = Some(problem.to_owned());
        } else if location.is_image {
            match self.images.info(path).await {
                Ok(info) => {
                    disk.format = Some(info.format);
                    disk.virtual_bytes = Some(info.virtual_size.bytes());
                    disk.allocated_bytes = Some(info.actual_size.bytes());
                }
                Err(error) => disk.problem = Some(error.to_string()),
            }
        }
        disk
    }
}

/// Where a disk or share is.
struct DiskLocation {
    path: PathBuf,
    /// Whether it is an image, and not a shared directory or a socket.
    is_image: bool,
    /// Whether the first start creates it.
    created_on_start: bool,
}

impl DiskLocation {
    fn new(spec: &StorageSpec, path: &Path) -> Self {
        match spec.driver.preparation(spec, path) {
            Preparation::Image(plan) => Self { path: plan.path, is_image: true, created_on_start: true },
            Preparation::Existing(file) => Self { is_image: file == path, path: file, created_on_start: false },
            Preparation::Directory(path) => Self { path, is_image: false, created_on_start: false },
            Preparation::Nothing => Self { path: path.to_owned(), is_image: true, created_on_start: false },
        }
    }
}

impl From<&BlockDevice> for InspectedDisk {
    fn from(device: &BlockDevice) -> Self {
        Self {
            name: device.names.first().cloned().unwrap_or_default(),
            r#type: None,
            file: shown(&device.file),
            format: Some(device.format.clone()),
            virtual_bytes: Some(device.virtual_bytes),
            allocated_bytes: device.allocated_bytes,
            readonly: device.readonly,
            attached: Some(true),
            problem: None,
        }
    }
}
