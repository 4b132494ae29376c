//! The port [`HostFiles`]: what is copied into guests and from there.
//!
//! What comes from a guest is not trusted: a directory is written below a new one that is private, each path of it is
//! opened name by name without following links, and how much there is of it is limited.

mod attributes;
mod file_target;
mod merge;
mod source;
mod sparse;
mod stale;
mod tree;
mod tree_target;

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use maqet_domain::guest::copy::SourceFacts;
use maqet_domain::port::{CopySummary, HostFileError, HostFiles, HostSource, HostTarget, SourceRequest, TargetRequest};
use rustix::fs::statvfs;
use tokio::task::spawn_blocking;

use self::file_target::FileTarget;
use self::source::LocalSource;
use self::tree_target::TreeTarget;

/// Files of this host.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalFiles;

#[async_trait]
impl HostFiles for LocalFiles {
    async fn source(&self, request: &SourceRequest) -> Result<Box<dyn HostSource>, HostFileError> {
        Ok(Box::new(LocalSource::open(request)?))
    }

    async fn target(&self, request: &TargetRequest) -> Result<Box<dyn HostTarget>, HostFileError> {
        let place = Place::find(request)?;
        let writer = match &request.source {
            SourceFacts::File { .. } => Writer::File(Box::new(FileTarget::create(place, request)?)),
            SourceFacts::Directory => Writer::Tree(Box::new(TreeTarget::create(place, request)?)),
        };
        Ok(Box::new(LocalTarget { writer: Some(writer) }))
    }
}

/// Where a copy gets its name.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    /// Whether a file is replaced, or a directory merged.
    exists: bool,
}

impl Place {
    /// Returns the target: in an existing directory, that with the name of the source.
    fn find(request: &TargetRequest) -> Result<Self, HostFileError> {
        let is_tree = request.source == SourceFacts::Directory;
        let mut path = request.path.clone();
        let must_be_directory = path.as_os_str().as_encoded_bytes().ends_with(b"/");
        if path.is_dir() {
            if let Some(name) = &request.name {
                path.push(name);
            }
        } else if must_be_directory && !is_tree {
            return Err(HostFileError::ParentNotFound { path });
        }
        // A link is not replaced, but what it leads to.
        if path.is_symlink() {
            path = path.canonicalize().map_err(|_| HostFileError::ParentNotFound { path })?;
        }
        let kind = fs::metadata(&path).map(|found| found.file_type());
        let conflict = |kind| HostFileError::Conflict { path: path.clone(), kind };
        let exists = match kind {
            Ok(kind) if kind.is_dir() && !is_tree => return Err(conflict("a directory")),
            Ok(kind) if kind.is_file() && is_tree => return Err(conflict("a file")),
            Ok(kind) if !kind.is_dir() && !kind.is_file() => return Err(conflict("a special file")),
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => return Err(failed(&path, error)),
        };
        let has_parent = path.file_name().is_some() || exists;
        if !has_parent || !exists && !parent(&path).is_dir() {
            return Err(HostFileError::ParentNotFound { path });
        }
        Ok(Self { path, exists })
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// What is being written.
enum Writer {
    File(Box<FileTarget>),
    Tree(Box<TreeTarget>),
}

/// Writes on threads for that, since a disk may take long.
struct LocalTarget {
    /// `None` while a thread has it, and after that failed.
    writer: Option<Writer>,
}

#[async_trait]
impl HostTarget for LocalTarget {
    async fn write(&mut self, bytes: Vec<u8>) -> Result<(), HostFileError> {
        let Some(mut writer) = self.writer.take() else { return Err(HostFileError::Incomplete) };
        let written = spawn_blocking(move || {
            match &mut writer {
                Writer::File(file) => file.write(&bytes)?,
                Writer::Tree(tree) => tree.write(&bytes)?,
            }
            Ok(writer)
        });
        self.writer = Some(written.await.unwrap_or(Err(HostFileError::Incomplete))?);
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<CopySummary, HostFileError> {
        let Some(writer) = self.writer else { return Err(HostFileError::Incomplete) };
        let finished = spawn_blocking(move || match writer {
            Writer::File(file) => file.finish(),
            Writer::Tree(tree) => tree.finish(),
        });
        finished.await.unwrap_or(Err(HostFileError::Incomplete))
    }
}

/// The share of the free space that a copy leaves to others, as a divisor.
const SPARED_SHARE: u64 = 20;

/// Limits how much a guest can write: to most of the space, and of the files, that the file system has left now.
#[derive(Debug)]
struct Budget {
    limit: u64,
    used: u64,
    /// The limit of the number of files; some file systems have none.
    files: Option<u64>,
}

impl Budget {
    fn new(directory: &Path) -> Self {
        let found = statvfs(directory).ok();
        let free = found.as_ref().map_or(u64::MAX, |found| found.f_bavail.saturating_mul(found.f_frsize));
        let files = found.filter(|found| found.f_files > 0).map(|found| found.f_favail - found.f_favail / SPARED_SHARE);
        Self { limit: free - free / SPARED_SHARE, used: 0, files }
    }

    /// Takes one of the files.
    fn take_file(&mut self) -> Result<(), HostFileError> {
        let Some(files) = &mut self.files else { return Ok(()) };
        let left = files.checked_sub(1);
        *files = left.ok_or_else(|| HostFileError::TooLarge {
            limit: "the number of files that the file system has left".to_owned(),
        })?;
        Ok(())
    }

    fn take(&mut self, bytes: u64) -> Result<(), HostFileError> {
        self.used = self.used.saturating_add(bytes);
        if self.used > self.limit {
            return Err(HostFileError::TooLarge {
                limit: format!("{} MiB, which is most of the free space", self.limit >> 20),
            });
        }
        Ok(())
    }
}

/// Returns the error of the file system, which may be full.
fn failed(path: &Path, error: impl Into<io::Error>) -> HostFileError {
    let (path, error) = (path.to_owned(), error.into());
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => HostFileError::Full { path },
        _ => HostFileError::Failed { path, source: error.into() },
    }
}
