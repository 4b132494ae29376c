//! Creates images that appear under their name complete or not at all.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use maqet_adapters_linux::atomic_file::AtomicFile;
use maqet_adapters_linux::private_file::private_folder;
use maqet_domain::port::ImageError;
use maqet_domain::storage::{Backing, ImagePlan};
use maqet_fault_points::FaultPoint;

use super::info::info;
use super::tool::{Tool, Tools, absolute, io_error};
use crate::limits::IMAGE_CREATE_TIMEOUT;

const ACTION: &str = "create";

/// Creates the image of `plan`; an existing one is kept.
pub(super) async fn create(tools: &Tools, plan: &ImagePlan) -> Result<(), ImageError> {
    let tool = Tool::find(tools, ACTION, &plan.path, IMAGE_CREATE_TIMEOUT)?;
    let image = PathBuf::from(tool.image());
    if image.exists() {
        return Ok(());
    }
    let folder = folder_of(&image)?;
    let backing = match &plan.backing {
        Some(backing) => Some(resolve(tools, backing, folder).await?),
        None => None,
    };

    let mut options: Vec<OsString> = vec!["-f".into(), plan.format.clone().into()];
    if let Some((file, format)) = backing {
        options.extend(["-b".into(), file.into_os_string(), "-F".into(), format.into()]);
    }
    let size = plan.size.map(|size| size.bytes().to_string().into());
    run_atomically(&tool, "create", options, size, &image).await
}

/// Creates a qcow2 with the content of another image; an existing one is kept.
pub(super) async fn convert(tools: &Tools, from: &Path, from_format: &str, to: &Path) -> Result<(), ImageError> {
    let tool = Tool::find(tools, ACTION, to, IMAGE_CREATE_TIMEOUT)?;
    let image = PathBuf::from(tool.image());
    if image.exists() {
        return Ok(());
    }
    let from = absolute(from).map_err(|error| io_error("find", from, error))?;
    if !from.exists() {
        return Err(ImageError::NotFound { path: from });
    }
    let options = vec!["-f".into(), from_format.into(), "-O".into(), "qcow2".into(), from.into_os_string()];
    run_atomically(&tool, "convert", options, None, &image).await
}

/// Runs `qemu-img` on a temporary name, in a folder that is created if it is missing, and publishes the complete file.
async fn run_atomically(
    tool: &Tool<'_>,
    command: &'static str,
    options: Vec<OsString>,
    size: Option<OsString>,
    image: &Path,
) -> Result<(), ImageError> {
    let folder = folder_of(image)?;
    if !folder.exists() {
        private_folder(folder).map_err(|error| io_error("create the directory", folder, error))?;
    }
    let file = AtomicFile::create(image).map_err(|error| io_error(ACTION, image, error))?;
    tool.faults().reach(FaultPoint::ImageReserved);
    let mut arguments = options;
    arguments.push(file.temporary().as_os_str().to_owned());
    arguments.extend(size);
    tool.run([command, "-q"], arguments).await.map_err(|error| about_image(error, file.temporary(), image))?;

    tool.faults().reach(FaultPoint::ImageWritten);
    let result = file.publish();
    tool.faults().reach(FaultPoint::ImageNamed);
    match result {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && image.exists() => Ok(()),
        Err(error) => Err(io_error(ACTION, image, error)),
    }
}

pub(super) fn folder_of(image: &Path) -> Result<&Path, ImageError> {
    image.parent().ok_or_else(|| io_error(ACTION, image, io::ErrorKind::InvalidInput.into()))
}

/// Returns the path of the backing file and its format, which newer versions of `qemu-img` require.
async fn resolve(tools: &Tools, backing: &Backing, folder: &Path) -> Result<(PathBuf, String), ImageError> {
    // QEMU, too, resolves a relative backing file from the folder of its overlay.
    let file = absolute(&folder.join(&backing.file)).map_err(|error| io_error("find", &backing.file, error))?;
    if !file.exists() {
        return Err(ImageError::NotFound { path: file });
    }
    let format = match &backing.format {
        Some(format) => format.clone(),
        None => info(tools, &file).await?.format,
    };
    Ok((file, format))
}

/// Replaces the temporary path in an error by that of the image.
pub(super) fn about_image(error: ImageError, partial: &Path, image: &Path) -> ImageError {
    match error {
        ImageError::Refused { action, path, stderr } => {
            let stderr = stderr.replace(&*partial.to_string_lossy(), &image.to_string_lossy());
            ImageError::Refused { action, path, stderr }
        }
        other => other,
    }
}
