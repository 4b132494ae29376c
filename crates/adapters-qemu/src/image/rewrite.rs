//! Writes an image from the content of another one, under a temporary name, and puts it in place.

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use maqet_adapters_linux::atomic_file::AtomicFile;
use maqet_adapters_linux::process::OpenFileLocks;
use maqet_domain::port::{ImageError, ImageFile, ImageWork, RewritePlan, RewrittenImage};
use maqet_domain::size::ByteSize;
use maqet_domain::storage::FileId;
use maqet_fault_points::{FaultPoint, FaultPoints};
use rustix::fs::{FlockOperation, fcntl_lock, statvfs};
use rustix::io::Errno;
use serde::Deserialize;

use super::check::require_file;
use super::create::{about_image, folder_of};
use super::tool::{Tool, Tools, absolute, io_error, user_of};
use crate::limits::IMAGE_INFO_TIMEOUT;

const ACTION: &str = "convert";

/// Writes the image of a plan under a temporary name.
pub(super) async fn rewrite(
    tools: &Tools,
    plan: &RewritePlan,
    work: &ImageWork<'_>,
) -> Result<Box<dyn RewrittenImage>, ImageError> {
    let source = Source::open(&plan.from.path)?;
    let mut options: Vec<OsString> = Vec::new();
    if plan.is_compressed {
        options.push("-c".into());
    }
    if plan.keeps_backing {
        options.extend(kept_properties(tools, &plan.from).await?);
    } else if !plan.is_compressed {
        require_space(tools, plan).await?;
    }
    let tool = Tool::bound(tools, ACTION, &plan.from.path)?;
    let target = absolute(&plan.to.path).map_err(|error| io_error(ACTION, &plan.to.path, error))?;
    let file = AtomicFile::create(&target).map_err(|error| io_error(ACTION, &target, error))?;
    tool.faults().reach(FaultPoint::ImageReserved);
    options.extend(["-f".into(), plan.from.format.clone().into(), "-O".into(), plan.to.format.clone().into()]);
    options.extend([tool.image(), file.temporary().as_os_str().to_owned()]);
    // `writeback` has the tool flush the image, in which it can be killed.
    let captured = tool.work(["convert", "-p", "-t", "writeback"], options, work).await?;
    tool.require_success(captured).map_err(|error| about_target(error, file.temporary(), &target))?;
    tool.faults().reach(FaultPoint::ImageWritten);
    let written = fs::metadata(file.temporary()).map_err(|error| io_error("read", &target, error))?;
    let replaces = source.is_at(&target);
    Ok(Box::new(Rewritten { source, file, written, target, replaces, faults: tool.faults().clone() }))
}

/// Copies a file byte by byte to a new file.
pub(super) async fn copy(tools: &Tools, from: &Path, to: &Path, work: &ImageWork<'_>) -> Result<(), ImageError> {
    require_file(from)?;
    let raw = |path: &Path| ImageFile { path: path.to_owned(), format: "raw".to_owned() };
    let plan = RewritePlan { from: raw(from), to: raw(to), is_compressed: false, keeps_backing: false };
    rewrite(tools, &plan, work).await?.put_in_place()
}

/// The image that is read, to find out whether it changes meanwhile.
struct Source {
    path: PathBuf,
    file: File,
    found: Metadata,
}

impl Source {
    fn open(path: &Path) -> Result<Self, ImageError> {
        require_file(path)?;
        let failed = |error| io_error("open", path, error);
        let path = path.canonicalize().map_err(failed)?;
        let file = File::open(&path).map_err(failed)?;
        let found = file.metadata().map_err(failed)?;
        if !found.is_file() {
            let stderr = "it is not a regular file".to_owned();
            return Err(ImageError::Refused { action: ACTION, path, stderr });
        }
        Ok(Self { path, file, found })
    }

    fn is_at(&self, path: &Path) -> bool {
        path.canonicalize().is_ok_and(|path| path == self.path)
    }

    /// Locks the image for this process, so that no QEMU opens it until this is dropped.
    ///
    /// Nothing may open and close the image from then on: that would release the lock (fcntl(2)).
    fn lock(&self) -> Result<(), ImageError> {
        match fcntl_lock(&self.file, FlockOperation::NonBlockingLockShared) {
            // File systems without locks: QEMU takes none there, either.
            Ok(()) | Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
            Err(_) => return Err(self.in_use()),
        }
        let locks = OpenFileLocks::read();
        // What any QEMU locks that has an image open for writing, or for reading.
        if (100..=203).any(|byte| locks.contain(&self.found, byte)) { Err(self.in_use()) } else { Ok(()) }
    }

    fn in_use(&self) -> ImageError {
        ImageError::InUse { path: self.path.clone(), by: user_of(&self.path) }
    }

    /// Checks that the image is still the one that was read, with the same content.
    fn require_unchanged(&self) -> Result<(), ImageError> {
        let state = |found: &Metadata| (found.dev(), found.ino(), found.size(), found.mtime(), found.mtime_nsec());
        match fs::metadata(&self.path) {
            Ok(now) if state(&now) == state(&self.found) => Ok(()),
            Ok(_) | Err(_) => Err(ImageError::Changed { path: self.path.clone() }),
        }
    }
}

/// An image under a temporary name.
struct Rewritten {
    source: Source,
    file: AtomicFile,
    written: Metadata,
    target: PathBuf,
    /// Whether the image that was read is to be replaced.
    replaces: bool,
    faults: FaultPoints,
}

impl RewrittenImage for Rewritten {
    fn file(&self) -> FileId {
        file_id(&self.written)
    }

    fn actual_size(&self) -> ByteSize {
        actual_size(&self.written)
    }

    fn put_in_place(self: Box<Self>) -> Result<(), ImageError> {
        let Self { source, file, target, replaces, faults, .. } = *self;
        let failed = |error| io_error("replace", &target, error);
        take_owner_and_mode(file.temporary(), &source.found).map_err(failed)?;
        source.lock()?;
        source.require_unchanged()?;
        if replaces {
            // A symbolic link stays, and leads to the new image.
            file.replace_at(&source.path).map_err(failed)?;
        } else {
            file.publish().map_err(|error| match error.kind() {
                std::io::ErrorKind::AlreadyExists => ImageError::Exists { path: target.clone() },
                _ => failed(error),
            })?;
        }
        faults.reach(FaultPoint::ImageNamed);
        Ok(())
    }
}

/// Gives a new image the mode of the old one and, if this user may do that, its owner.
fn take_owner_and_mode(path: &Path, old: &Metadata) -> std::io::Result<()> {
    let _may_be_refused = chown(path, Some(old.uid()), Some(old.gid()));
    fs::set_permissions(path, old.permissions())
}

pub(super) fn file_id(found: &Metadata) -> FileId {
    FileId { device: found.dev(), inode: found.ino() }
}

/// Returns the space that a file takes on the host.
pub(super) fn actual_size(found: &Metadata) -> ByteSize {
    ByteSize::from_bytes(found.blocks().saturating_mul(512))
}

/// Replaces the temporary path in an error, and names the image that needs the space.
fn about_target(error: ImageError, temporary: &Path, target: &Path) -> ImageError {
    match about_image(error, temporary, target) {
        ImageError::Full { .. } => ImageError::Full { path: target.to_owned() },
        other => other,
    }
}

/// The measure of an image: how much space a copy takes.
#[derive(Deserialize)]
struct Measured {
    required: u64,
}

/// Refuses to write an image for which there is no space: `qemu-img` would find out at the end.
async fn require_space(tools: &Tools, plan: &RewritePlan) -> Result<(), ImageError> {
    let tool = Tool::find(tools, ACTION, &plan.from.path, IMAGE_INFO_TIMEOUT)?;
    // As qcow2 also for a raw image: of that, the whole size is reported, although blocks of zeros take no space.
    let options = ["measure", "--output=json", "-O", "qcow2", "-f", &plan.from.format];
    let printed = tool.run(options, [tool.image()]).await?;
    let measured: Measured = serde_json::from_slice(&printed)
        .map_err(|error| tool.refusal(format!("invalid output of qemu-img: {error}")))?;
    let target = absolute(&plan.to.path).map_err(|error| io_error(ACTION, &plan.to.path, error))?;
    let Ok(space) = statvfs(folder_of(&target)?) else { return Ok(()) };
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    if measured.required > free {
        let (needed, free) = (ByteSize::from_bytes(measured.required), ByteSize::from_bytes(free));
        return Err(ImageError::SpaceRequired { path: target, needed, free });
    }
    Ok(())
}

/// What `qemu-img info` says about the properties of an image.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Properties {
    cluster_size: Option<u64>,
    backing_filename: Option<String>,
    backing_filename_format: Option<String>,
    format_specific: Option<FormatSpecific>,
}

#[derive(Deserialize)]
struct FormatSpecific {
    data: Qcow2Properties,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Qcow2Properties {
    compat: Option<String>,
    compression_type: Option<String>,
    lazy_refcounts: bool,
    refcount_bits: Option<u64>,
    extended_l2: bool,
    data_file: Option<String>,
}

/// Returns the options that give a new image the backing file and the properties of `image`.
async fn kept_properties(tools: &Tools, image: &ImageFile) -> Result<Vec<OsString>, ImageError> {
    if image.format != "qcow2" {
        return Ok(Vec::new());
    }
    let tool = Tool::find(tools, ACTION, &image.path, IMAGE_INFO_TIMEOUT)?;
    let printed = tool.run(["info", "-U", "--output=json", "-f", "qcow2"], [tool.image()]).await?;
    let properties: Properties = serde_json::from_slice(&printed)
        .map_err(|error| tool.refusal(format!("invalid output of qemu-img: {error}")))?;
    let data = properties.format_specific.map(|specific| specific.data).unwrap_or_default();
    if let Some(file) = data.data_file {
        return Err(tool.refusal(format!("it has its data in another file, `{file}`")));
    }
    let compat = data.compat.unwrap_or_else(|| "1.1".to_owned());
    let mut list = vec![format!("compat={compat}")];
    list.extend(properties.cluster_size.map(|size| format!("cluster_size={size}")));
    if compat != "0.10" {
        list.extend(data.refcount_bits.map(|bits| format!("refcount_bits={bits}")));
        list.extend(data.compression_type.map(|kind| format!("compression_type={kind}")));
        list.extend(data.lazy_refcounts.then(|| "lazy_refcounts=on".to_owned()));
        list.extend(data.extended_l2.then(|| "extended_l2=on".to_owned()));
    }
    let mut options: Vec<OsString> = vec!["-o".into(), list.join(",").into()];
    if let Some(backing) = properties.backing_filename {
        options.extend(["-B".into(), backing.into()]);
        options.extend(properties.backing_filename_format.into_iter().flat_map(|format| ["-F".into(), format.into()]));
    }
    Ok(options)
}
