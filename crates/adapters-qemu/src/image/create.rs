//! Makes images that appear whole under their name or not at all.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use maqet_adapters_linux::atomic_file::AtomicFile;
use maqet_adapters_linux::private_file::private_folder;
use maqet_domain::port::ImageError;
use maqet_domain::storage::{Backing, ImagePlan};
use maqet_fault_points::FaultPoint;

use super::info::info;
use super::tool::{Tool, Tools, absolute, failed};
use crate::limits::IMAGE_CREATE_DEADLINE;

const ACTION: &str = "make";

/// Makes the image of `plan`; one that is there already is kept.
pub(super) async fn create(tools: &Tools, plan: &ImagePlan) -> Result<(), ImageError> {
    let tool = Tool::find(tools, ACTION, &plan.path, IMAGE_CREATE_DEADLINE)?;
    let image = PathBuf::from(tool.image());
    if image.exists() {
        return Ok(());
    }
    let folder = folder_of(&image)?;
    let backing = match &plan.backing {
        Some(backing) => Some(resolve(tools, backing, folder).await?),
        None => None,
    };

    let mut before: Vec<OsString> = vec!["-f".into(), plan.format.clone().into()];
    if let Some((file, format)) = backing {
        before.extend(["-b".into(), file.into_os_string(), "-F".into(), format.into()]);
    }
    let size = plan.size.map(|size| size.bytes().to_string().into());
    write_whole(&tool, "create", before, size, &image).await
}

/// Makes a qcow2 with the content of another image; one that is there already is kept.
pub(super) async fn convert(tools: &Tools, from: &Path, from_format: &str, to: &Path) -> Result<(), ImageError> {
    let tool = Tool::find(tools, ACTION, to, IMAGE_CREATE_DEADLINE)?;
    let image = PathBuf::from(tool.image());
    if image.exists() {
        return Ok(());
    }
    let from = absolute(from).map_err(|why| failed("find", from, why))?;
    if !from.exists() {
        return Err(ImageError::Missing { path: from });
    }
    let before = vec!["-f".into(), from_format.into(), "-O".into(), "qcow2".into(), from.into_os_string()];
    write_whole(&tool, "convert", before, None, &image).await
}

/// Runs `qemu-img` on a temporary name, in a folder that is made if it is missing, and gives the file its own name once
/// it is whole.
async fn write_whole(
    tool: &Tool<'_>,
    command: &'static str,
    before: Vec<OsString>,
    after: Option<OsString>,
    image: &Path,
) -> Result<(), ImageError> {
    let folder = folder_of(image)?;
    if !folder.exists() {
        private_folder(folder).map_err(|why| failed("make the folder", folder, why))?;
    }
    let file = AtomicFile::create(image).map_err(|why| failed(ACTION, image, why))?;
    tool.faults().reach(FaultPoint::ImageReserved);
    let mut words = before;
    words.push(file.temporary().as_os_str().to_owned());
    words.extend(after);
    tool.run([command, "-q"], words).await.map_err(|why| as_of_the_image(why, file.temporary(), image))?;

    tool.faults().reach(FaultPoint::ImageWritten);
    let published = file.publish();
    tool.faults().reach(FaultPoint::ImageNamed);
    match published {
        Ok(()) => Ok(()),
        Err(why) if why.kind() == io::ErrorKind::AlreadyExists && image.exists() => Ok(()),
        Err(why) => Err(failed(ACTION, image, why)),
    }
}

fn folder_of(image: &Path) -> Result<&Path, ImageError> {
    image.parent().ok_or_else(|| failed(ACTION, image, io::ErrorKind::InvalidInput.into()))
}

/// Returns where the backing file is and its format, which newer `qemu-img` insist on.
async fn resolve(tools: &Tools, backing: &Backing, folder: &Path) -> Result<(PathBuf, String), ImageError> {
    // QEMU, too, reads a relative backing file from the folder of its overlay.
    let file = absolute(&folder.join(&backing.file)).map_err(|why| failed("find", &backing.file, why))?;
    if !file.exists() {
        return Err(ImageError::Missing { path: file });
    }
    let format = match &backing.format {
        Some(format) => format.clone(),
        None => info(tools, &file).await?.format,
    };
    Ok((file, format))
}

/// Speaks of the image where `qemu-img` speaks of the file it becomes.
fn as_of_the_image(why: ImageError, partial: &Path, image: &Path) -> ImageError {
    match why {
        ImageError::Refused { action, path, last_words } => {
            let last_words = last_words.replace(&*partial.to_string_lossy(), &image.to_string_lossy());
            ImageError::Refused { action, path, last_words }
        }
        other => other,
    }
}
