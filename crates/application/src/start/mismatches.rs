//! Images that differ from the definition; they stay as they are.

use std::fmt;

use maqet_domain::machine::Machine;
use maqet_domain::port::{ImageSummary, PathKind};
use maqet_domain::size::ByteSize;
use maqet_domain::text::quote;
use maqet_domain::vm::VmName;
use serde::Serialize;

use super::drives::Drive;
use super::preflight::Preflight;
use crate::app::shown;

/// The unit of disk sizes, in bytes: `qemu-img` rounds up to whole sectors.
const SECTOR: u64 = 512;

/// Images that exist and differ from the definition, which applies only when an image is created.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ImageMismatches {
    /// Drives whose images have another size than the definition.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub size_mismatches: Vec<SizeMismatch>,
    /// Drives whose images have another backing file than the definition.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub backing_mismatches: Vec<BackingMismatch>,
}

/// A drive whose image exists and has another size than its definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SizeMismatch {
    /// The drive.
    pub drive: String,
    /// The size of its image.
    pub size_bytes: u64,
    /// The size in the definition.
    pub configured_bytes: u64,
    /// The VM.
    #[serde(skip)]
    vm: VmName,
    /// Whether its image is a device, whose size maqet does not change.
    #[serde(skip)]
    is_device: bool,
}

/// A drive whose image exists and has another backing file than its definition, or none.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BackingMismatch {
    /// The drive.
    pub drive: String,
    /// Its image.
    pub file: String,
    /// The backing file of its image; omitted if it has none.
    pub backing_file: Option<String>,
    /// The backing file in the definition.
    pub configured: String,
    /// The format of that file in the definition.
    #[serde(skip)]
    configured_format: Option<String>,
}

impl fmt::Display for SizeMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [size, configured] = [self.size_bytes, self.configured_bytes].map(ByteSize::from_bytes);
        if self.is_device {
            let drive = &self.drive;
            return write!(f, "drive `{drive}` has the size of its device, {size}: `size: {configured}` has no effect");
        }
        let shrink = if configured < size { " --shrink" } else { "" };
        write!(
            f,
            "drive `{}` keeps its size of {size}; `size: {configured}` applies only when an image is created: change the \
             image with `maqet storage resize {} {} {configured}{shrink}`",
            self.drive,
            self.vm,
            quote(&self.drive)
        )
    }
}

impl fmt::Display for BackingMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [configured, file] = [&self.configured, &self.file].map(|path| quote(path));
        let format = self.configured_format.as_deref().unwrap_or("FORMAT");
        match &self.backing_file {
            Some(backing) => write!(f, "drive `{}` keeps its backing file `{backing}`", self.drive)?,
            None => write!(f, "drive `{}` keeps its image without a backing file", self.drive)?,
        }
        write!(f, "; `backing_file: {}` applies only when an image is created", self.configured)?;
        if self.backing_file.is_some() {
            write!(f, " (to change it while the VM is stopped: `qemu-img rebase -b {configured} -F {format} {file}`)")?;
        }
        Ok(())
    }
}

impl ImageMismatches {
    /// Returns all notes about them.
    pub fn notes(&self) -> impl Iterator<Item = String> {
        let sizes = self.size_mismatches.iter().map(ToString::to_string);
        sizes.chain(self.backing_mismatches.iter().map(ToString::to_string))
    }
}

impl Preflight<'_> {
    /// Returns the images that differ from `machine`, as far as they can be read.
    pub(crate) async fn mismatches(&self, name: &VmName, machine: &Machine) -> ImageMismatches {
        let mut mismatches = ImageMismatches::default();
        for drive in self.drives(name, machine) {
            match self.examine(&drive).await {
                Ok(Some(image)) => self.add_mismatches(name, &drive, &image, &mut mismatches).await,
                Ok(None) => {}
                Err(error) => tracing::debug!(drive = %drive.storage.name, %error, "could not read the image"),
            }
        }
        mismatches
    }

    pub(super) async fn add_mismatches(
        &self,
        vm: &VmName,
        drive: &Drive<'_>,
        image: &ImageSummary,
        found: &mut ImageMismatches,
    ) {
        let Some(plan) = drive.plan() else { return };
        let name = drive.storage.name.to_string();
        if let (Some(configured), Some(size)) = (drive.storage.size, image.virtual_size)
            && size.bytes().next_multiple_of(SECTOR) != configured.bytes().next_multiple_of(SECTOR)
        {
            found.size_mismatches.push(SizeMismatch {
                drive: name.clone(),
                size_bytes: size.bytes(),
                configured_bytes: configured.bytes(),
                vm: vm.clone(),
                is_device: self.paths.kind(&drive.path).await == PathKind::BlockDevice,
            });
        }
        let Some(backing) = &plan.backing else { return };
        if let Some(current) = &image.backing
            && self.paths.resolve(current).await == self.paths.resolve(&backing.file).await
        {
            return;
        }
        found.backing_mismatches.push(BackingMismatch {
            drive: name,
            file: shown(&drive.path),
            backing_file: image.backing.as_deref().map(shown),
            configured: shown(&backing.file),
            configured_format: backing.format.clone(),
        });
    }
}
