//! The image format of a file that a guest gets access to.

use std::path::Path;

use maqet_domain::hotplug::DeviceError;
use maqet_domain::path_policy::Purpose;
use maqet_domain::port::PathKind;

use crate::{App, Error};

/// Checks a file that a guest gets access to, and returns its image format.
///
/// The content of a disk belongs to the guest, which can write an image of another format that names files of the
/// host. So the format is that of the caller or of the extension; without either it is raw, unless the content looks
/// like another format.
pub(crate) async fn image_format(
    app: &App,
    file: &Path,
    format: Option<&str>,
    read_only: bool,
) -> Result<String, Error> {
    let path = || file.to_owned();
    if !file.is_absolute() {
        return Err(DeviceError::PathInvalid { path: path() }.into());
    }
    let kind = app.ports.paths.kind(file).await;
    // A block device is named on purpose, and is in a directory of the system.
    let is_device = matches!(kind, PathKind::BlockDevice | PathKind::CdDrive);
    let purpose = if read_only || is_device { Purpose::Read } else { Purpose::Share };
    if let Some(reason) = app.preflight().refusal_reason(file, purpose).await {
        return Err(Error::PathRefused { path: path(), reason });
    }
    match kind {
        PathKind::File | PathKind::BlockDevice | PathKind::CdDrive => {}
        PathKind::NotFound => return Err(DeviceError::FileNotFound { path: path() }.into()),
        PathKind::Directory | PathKind::Other => return Err(DeviceError::FileInvalid { path: path() }.into()),
    }
    if let Some(format) = format {
        return Ok(format.to_owned());
    }
    let extension = file.extension().and_then(|extension| extension.to_str()).map(str::to_lowercase);
    if let Some(format) = extension.filter(|format| ["qcow2", "vmdk", "vdi", "vhdx"].contains(&format.as_str())) {
        return Ok(format);
    }
    let detected = app.ports.images.info(file).await?.format;
    if detected == "raw" {
        return Ok(detected);
    }
    Err(DeviceError::FormatAmbiguous { path: path(), format: detected }.into())
}
