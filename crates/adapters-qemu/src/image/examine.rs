//! Reads the header of an image and of its backing files, without `qemu-img`, which would take longer than the start.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};

use maqet_adapters_linux::{claimed_loop_of, is_claimed};
use maqet_domain::port::{ForeignBacking, ImageError, ImageLink, ImageSummary, ImageUse};
use maqet_domain::size::ByteSize;
use maqet_domain::storage::qcow2::{FileReference, HEADER_BYTES, HeaderError, Qcow2Header, format_by_content};
use maqet_domain::storage::{ImageAccess, ImageProblem, UnusableImage};
use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, SeekFrom, accessat, open, seek};
use rustix::io::Errno;

use super::rewrite::{actual_size, file_id};
use super::tool::io_error;
use super::truncation::missing_end;
use crate::limits::MAX_BACKING_FILES;

/// An image that is open, with the path by which it was found.
pub(super) struct OpenImage {
    pub(super) path: PathBuf,
    pub(super) file: File,
    /// The length of a regular file; block devices have none.
    length: Option<u64>,
    /// The size of a regular file or of a block device.
    size: Option<u64>,
    start: Vec<u8>,
}

/// An image of a chain: that of a drive, or one of its backing files.
struct Link {
    path: PathBuf,
    overlay: Option<PathBuf>,
    format: Option<String>,
    access: ImageAccess,
}

/// Examines an image and its backing files.
pub(super) fn examine(image: &ImageUse) -> Result<ImageSummary, ImageError> {
    let link = Link { path: image.path.clone(), overlay: None, format: image.format.clone(), access: image.access };
    let (mut summary, mut next) = link.examine()?;
    for _ in 0..MAX_BACKING_FILES {
        let Some(link) = next else { return Ok(summary) };
        let (backing, after) = link.examine()?;
        if let (None, Some(format), Some(overlay)) = (&summary.foreign_backing, backing.resembles, link.overlay) {
            summary.foreign_backing = Some(ForeignBacking { path: link.path, overlay, format });
        }
        next = after;
    }
    let problem = ImageProblem::BackingLoop;
    Err(UnusableImage { path: image.path.clone(), overlay: None, problem }.into())
}

/// Opens an image, and not its backing files.
pub(super) fn open_image(image: &ImageUse) -> Result<OpenImage, ImageError> {
    Link { path: image.path.clone(), overlay: None, format: None, access: image.access }.open()
}

/// Returns the paths of an image and its backing files, as far as they can be opened.
pub(super) fn chain(image: &ImageUse) -> Vec<OpenImage> {
    let mut next =
        Some(Link { path: image.path.clone(), overlay: None, format: image.format.clone(), access: image.access });
    let mut images = Vec::new();
    while let Some(link) = next.filter(|_| images.len() <= MAX_BACKING_FILES) {
        let Ok(image) = link.open() else { break };
        next = link.examine_content(&image).ok().and_then(|(_, next)| next);
        images.push(image);
    }
    images
}

/// Returns what an image and its backing files say about themselves; what cannot be used is the last.
pub(super) fn links(image: &ImageUse) -> Vec<ImageLink> {
    let mut next =
        Some(Link { path: image.path.clone(), overlay: None, format: image.format.clone(), access: image.access });
    let mut links = Vec::new();
    while let Some(link) = next.filter(|_| links.len() <= MAX_BACKING_FILES) {
        let (described, backing) = link.describe();
        links.push(described);
        next = backing;
    }
    links
}

impl Link {
    fn describe(self) -> (ImageLink, Option<Self>) {
        let mut described = ImageLink { path: self.path.clone(), format: self.format.clone(), ..ImageLink::default() };
        let examined = self.open().and_then(|image| {
            let found = image.file.metadata().ok();
            described.actual_size = found.as_ref().map(actual_size);
            described.file = found.as_ref().map(file_id);
            described.format = self.format.clone().or_else(|| format_by_content(&image.start).map(str::to_owned));
            self.examine_content(&image)
        });
        match examined {
            Ok((summary, next)) => {
                described.virtual_size = summary.virtual_size;
                (described, next)
            }
            Err(ImageError::Unusable(problem)) => {
                described.problem = Some(problem);
                (described, None)
            }
            Err(error) => {
                tracing::debug!(path = %self.path.display(), %error, "could not read an image");
                (described, None)
            }
        }
    }

    fn examine(&self) -> Result<(ImageSummary, Option<Self>), ImageError> {
        self.examine_content(&self.open()?)
    }

    fn open(&self) -> Result<OpenImage, ImageError> {
        let problem = |problem| Err(self.unusable(problem));
        // A FIFO would block.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match open(&self.path, flags, Mode::empty()).map_err(io::Error::from) {
            Ok(file) => File::from(file),
            Err(error) => return Err(self.open_error(error)),
        };
        let found = file.metadata().map_err(|error| io_error("read", &self.path, error))?;
        if found.is_dir() {
            return problem(ImageProblem::IsDirectory);
        }
        if self.access == ImageAccess::Write {
            match accessat(CWD, &self.path, Access::WRITE_OK, AtFlags::EACCESS).map_err(io::Error::from) {
                Ok(()) => {}
                Err(error) if is_refusal(&error) => return problem(not_permitted(self.access, &error)),
                Err(error) => return Err(io_error("write to", &self.path, error)),
            }
        }
        if self.access == ImageAccess::Write && found.file_type().is_block_device() && is_claimed(&self.path) {
            return problem(ImageProblem::DeviceInUse);
        }
        if self.access == ImageAccess::Write
            && found.is_file()
            && let Some(device) = claimed_loop_of(&found)
        {
            return problem(ImageProblem::LoopInUse { device });
        }
        let mut image = OpenImage {
            path: self.path.clone(),
            length: found.is_file().then_some(found.len()),
            size: size(&file, &found),
            start: Vec::new(),
            file,
        };
        image.start = match image.read(0, HEADER_BYTES) {
            Ok(start) => start,
            // A CD drive without a CD.
            Err(error) if error.raw_os_error() == Some(Errno::NOMEDIUM.raw_os_error()) => Vec::new(),
            Err(error) => return Err(io_error("read", &self.path, error)),
        };
        Ok(image)
    }

    fn open_error(&self, error: io::Error) -> ImageError {
        let problem = match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => {
                ImageProblem::NotFound { directory: missing_directory(&self.path) }
            }
            _ if is_refusal(&error) => not_permitted(ImageAccess::Read, &error),
            _ => return io_error("open", &self.path, error),
        };
        self.unusable(problem)
    }

    /// Returns what the image says about itself, and its backing file.
    fn examine_content(&self, image: &OpenImage) -> Result<(ImageSummary, Option<Self>), ImageError> {
        let content = format_by_content(&image.start);
        // Backing files without a format are detected by QEMU, too.
        let format = self.format.as_deref().or(content);
        if let Some(expected) = format.filter(|format| is_mistaken(format, content)) {
            return Err(self.unusable(ImageProblem::Format { expected: expected.to_owned(), found: content }));
        }
        if format != Some("qcow2") {
            let size = image.size.filter(|_| format == Some("raw")).map(ByteSize::from_bytes);
            let resembles = content.filter(|_| format == Some("raw"));
            return Ok((ImageSummary { virtual_size: size, resembles, ..ImageSummary::default() }, None));
        }
        let header = self.header(image)?;
        let problem = |problem| Err(self.unusable(problem));
        if header.is_encrypted {
            return problem(ImageProblem::Encrypted);
        }
        if header.is_corrupt() && self.access == ImageAccess::Write {
            return problem(ImageProblem::Corrupt);
        }
        if let Some(path) = header.data_file.as_ref().and_then(|data| data.path(&self.path))
            && !path.exists()
        {
            return problem(ImageProblem::DataFileNotFound { path });
        }
        let end = image.length.map_or(Ok(None), |length| missing_end(image, &header, length));
        match end.map_err(|error| io_error("read", &self.path, error))? {
            Some(needed) if !image.has_grown() => {
                let bytes = image.length.unwrap_or_default();
                problem(ImageProblem::Truncated { bytes, needed })
            }
            // What refers to new data was read after the length, so nothing can be said of an image that has grown.
            Some(_) | None => Ok(self.summary(&header)),
        }
    }

    fn header(&self, image: &OpenImage) -> Result<Qcow2Header, ImageError> {
        image.header().map_err(|error| io_error("read", &self.path, error))?.map_err(|error| {
            self.unusable(match error {
                HeaderError::NotQcow2 => {
                    let found = format_by_content(&image.start);
                    ImageProblem::Format { expected: "qcow2".to_owned(), found }
                }
                HeaderError::TooShort | HeaderError::Incomplete(_) => ImageProblem::HeaderTruncated,
                HeaderError::Unsupported => ImageProblem::Unsupported,
            })
        })
    }

    fn summary(&self, header: &Qcow2Header) -> (ImageSummary, Option<Self>) {
        let backing_path = |backing: &FileReference| backing.path(&self.path);
        let next = header.backing.as_ref().and_then(|backing| {
            let format = backing.format.clone();
            Some(Self {
                path: backing_path(backing)?,
                overlay: Some(self.path.clone()),
                format,
                access: ImageAccess::Read,
            })
        });
        let summary = ImageSummary {
            virtual_size: Some(header.virtual_size),
            has_data_file: header.data_file.is_some(),
            backing: next.as_ref().map(|next| next.path.clone()),
            is_dirty: header.is_dirty(),
            is_corrupt: header.is_corrupt(),
            resembles: None,
            foreign_backing: None,
        };
        (summary, next)
    }

    fn unusable(&self, problem: ImageProblem) -> ImageError {
        UnusableImage { path: self.path.clone(), overlay: self.overlay.clone(), problem }.into()
    }
}

impl OpenImage {
    /// Parses the header of a qcow2 image.
    pub(super) fn header(&self) -> io::Result<Result<Qcow2Header, HeaderError>> {
        Ok(match Qcow2Header::parse(&self.start) {
            Err(HeaderError::Incomplete(bytes)) => Qcow2Header::parse(&self.read(0, bytes)?),
            parsed => parsed,
        })
    }

    /// Returns whether a QEMU that has the file open has written more since this opened it.
    fn has_grown(&self) -> bool {
        let now = self.file.metadata().map(|found| found.len()).ok();
        self.length.is_some_and(|length| now.is_some_and(|now| now > length))
    }

    /// Reads up to `bytes` bytes at `offset`; fewer at the end of the file.
    pub(super) fn read(&self, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let mut read = vec![0; bytes];
        let mut filled = 0;
        while filled < bytes {
            match self.file.read_at(&mut read[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        read.truncate(filled);
        Ok(read)
    }
}

/// Returns whether QEMU would not open an image in this format. A VMDK can begin with comments, and a VPC with its data.
fn is_mistaken(format: &str, content: Option<&str>) -> bool {
    match format {
        "vdi" | "vhdx" => content != Some(format),
        "vmdk" => content.is_some_and(|found| found != format),
        "qcow2" => content == Some("qcow"),
        _ => false,
    }
}

/// Returns the size of a regular file or of a block device.
fn size(file: &File, found: &Metadata) -> Option<u64> {
    if found.file_type().is_block_device() {
        return seek(file, SeekFrom::End(0)).ok();
    }
    found.is_file().then_some(found.len())
}

/// Returns the first directory of a path that does not exist.
fn missing_directory(path: &Path) -> Option<PathBuf> {
    let directories: Vec<&Path> = path.ancestors().skip(1).collect();
    directories.into_iter().rev().find(|directory| !directory.exists()).map(Path::to_owned)
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem)
}

fn not_permitted(access: ImageAccess, error: &io::Error) -> ImageProblem {
    let reason = match error.kind() {
        ErrorKind::ReadOnlyFilesystem => "read-only file system",
        _ => "permission denied",
    };
    ImageProblem::NotPermitted { access, reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

    #[test]
    fn test_image_that_grows_while_it_is_read_is_not_truncated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("grows.qcow2");
        let created = Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&path).arg("1M").output();
        let written = Command::new("qemu-io").args(["-f", "qcow2", "-c", "write 0 256k"]).arg(&path).output();
        assert!(created.unwrap().status.success() && written.unwrap().status.success());
        let whole = fs::read(&path).unwrap();
        let link = Link { path: path.clone(), overlay: None, format: None, access: ImageAccess::Read };
        File::options().write(true).open(&path).unwrap().set_len(whole.len() as u64 - (1 << 17)).unwrap();
        let image = link.open().unwrap();
        let truncated = link.examine_content(&image).is_err();

        fs::write(&path, &whole).unwrap();

        assert!(truncated);
        assert!(link.examine_content(&image).is_ok());
    }
}
