//! Disks with their actual sizes: from QEMU if the VM runs, else from the images.

use std::path::Path;

use maqet_domain::error::Explain;
use maqet_domain::machine::Machine;
use maqet_domain::port::PathKind;
use maqet_domain::storage::{ByteLimit, Preparation, RequestLimit};
use maqet_domain::vm::{RunPaths, VmEntry};
use serde::Serialize;

use super::machine::BlockDevice;
use crate::Error;
use crate::app::shown;
use crate::start::drives::Drive;
use crate::start::lost_images::ImagesLost;
use crate::start::preflight::Preflight;

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
    /// The limit of the requests per second that is in effect; of a stopped VM, that of its definition.
    pub iops: Option<RequestLimit>,
    /// The same of the bytes per second.
    pub bps: Option<ByteLimit>,
    /// Whether the running VM has it; omitted for shares, and if QEMU does not answer.
    pub attached: Option<bool>,
    /// Why QEMU could not open the image, or why there are no sizes.
    pub problem: Option<String>,
    /// What to do about the problem.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
}

/// Inspects disks and shares.
pub(super) struct DiskInspector<'a> {
    pub(super) preflight: Preflight<'a>,
    pub(super) entry: &'a VmEntry,
}

impl DiskInspector<'_> {
    /// Returns the disks and shares of a definition, then the other block devices of the running VM.
    ///
    /// `devices` are all block devices of the running VM, if QEMU reported them.
    pub(super) async fn inspect(
        &self,
        definition: &Machine,
        devices: Option<&[BlockDevice]>,
    ) -> Result<Vec<InspectedDisk>, Error> {
        let mut unmatched: Vec<&BlockDevice> = devices.unwrap_or_default().iter().collect();
        let mut disks = Vec::new();
        for drive in self.preflight.drives(&self.entry.name, definition) {
            let spec = drive.storage;
            let matches = |device: &&BlockDevice| device.names.iter().any(|name| name == spec.name.as_str());
            let device = unmatched.iter().position(matches).map(|index| unmatched.remove(index));
            let mut disk = match device {
                Some(device) => of_image(InspectedDisk::from(device), &drive),
                None => self.inspect_unattached(&drive).await,
            };
            if let Some(error) = self.problem(&drive).await? {
                disk.problem = Some(error.to_string());
                disk.hints = error.explain().hints;
            }
            disk.name = spec.name.to_string();
            disk.r#type = Some(spec.driver.type_name());
            // Shares are not block devices, so QEMU does not list them.
            disk.attached = devices.filter(|_| drive.image_use().is_some()).map(|_| device.is_some());
            disks.push(disk);
        }
        disks.extend(unmatched.into_iter().map(InspectedDisk::from));
        Ok(disks)
    }

    /// Returns why QEMU could not open the image of a drive.
    async fn problem(&self, drive: &Drive<'_>) -> Result<Option<Box<dyn Explain + Send + Sync>>, Error> {
        match self.preflight.examine(drive).await {
            Err(error) => Ok(Some(Box::new(error))),
            Ok(None) if drive.plan().is_some() => {
                let images = self.preflight.lost_images(self.entry, vec![drive.as_missing()]).await?;
                let vm = self.entry.name.clone();
                Ok((!images.is_empty()).then(|| Box::new(ImagesLost { vm, images }) as _))
            }
            Ok(_) => Ok(None),
        }
    }

    /// Inspects a disk or share that QEMU did not report.
    async fn inspect_unattached(&self, drive: &Drive<'_>) -> InspectedDisk {
        let spec = drive.storage;
        let (iops, bps) = spec.limits.as_texts();
        let path = match &drive.preparation {
            Preparation::Image(plan) => &plan.path,
            Preparation::Existing(path) | Preparation::Directory(path) => path,
            Preparation::Nothing => &drive.path,
        };
        let is_image = *path == drive.path && !matches!(drive.preparation, Preparation::Directory(_));
        let mut disk = InspectedDisk {
            name: spec.name.to_string(),
            r#type: None,
            file: shown(path),
            format: None,
            virtual_bytes: None,
            allocated_bytes: None,
            readonly: spec.driver.is_readonly(spec),
            iops,
            bps,
            attached: None,
            problem: None,
            hints: Vec::new(),
        };
        if self.preflight.paths.kind(path).await == PathKind::NotFound {
            let problem = if drive.plan().is_some() { "created at the first start" } else { "not found" };
            disk.problem = Some(problem.to_owned());
        } else if is_image {
            match self.preflight.images.info(path).await {
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

/// Names the image of a drive, and not the overlay of the run, which has no name; its space on the host is that of the
/// overlay.
fn of_image(disk: InspectedDisk, drive: &Drive<'_>) -> InspectedDisk {
    if !RunPaths::is_overlay(Path::new(&disk.file)) {
        return disk;
    }
    let format = drive.storage.driver.image_format().map(str::to_owned);
    InspectedDisk { file: shown(&drive.path), format, ..disk }
}

impl From<&BlockDevice> for InspectedDisk {
    fn from(device: &BlockDevice) -> Self {
        let (iops, bps) = device.limits.as_texts();
        Self {
            name: device.names.first().cloned().unwrap_or_default(),
            r#type: None,
            file: shown(&device.file),
            format: Some(device.format.clone()),
            virtual_bytes: Some(device.virtual_bytes),
            allocated_bytes: device.allocated_bytes,
            readonly: device.readonly,
            iops,
            bps,
            attached: Some(true),
            problem: None,
            hints: Vec::new(),
        }
    }
}
