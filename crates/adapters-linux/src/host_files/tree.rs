//! A directory whose entries are opened name by name, without following links.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use maqet_domain::guest::archive::EntryPath;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, linkat, mkdirat, openat, statat, symlinkat};
use rustix::io::Errno;
use uuid::Uuid;

use crate::process::PidScope;
use crate::temporary_file::{Writer, temporary_name};

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::RDONLY);

/// A new directory with a temporary name, which is removed on drop unless it was renamed.
#[derive(Debug)]
pub(super) struct Tree {
    path: PathBuf,
    root: OwnedFd,
    /// The directory of the last entry: entries of a directory follow each other.
    last: Option<(EntryPath, OwnedFd)>,
}

impl Tree {
    /// Creates the directory in `directory`, with the temporary name of `target`.
    pub(super) fn create(directory: &Path, target: &Path) -> Result<Self, std::io::Error> {
        let writer = Writer::new(&PidScope::current());
        let random = Uuid::new_v4().simple().to_string();
        let tail = format!("{}-{}-{}-{}", writer.scope, writer.pid, writer.start_ticks, &random[..8]);
        let path = directory.join(temporary_name(target, &tail)?);
        mkdirat(CWD, &path, Mode::RWXU)?;
        match openat(CWD, &path, DIRECTORY, Mode::empty()) {
            Ok(root) => Ok(Self { path, root, last: None }),
            Err(error) => {
                let _ = fs::remove_dir(&path);
                Err(error.into())
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Forgets the directory, which has got its name.
    pub(super) fn keep(mut self) {
        self.path = PathBuf::new();
    }

    pub(super) fn create_directory(&mut self, path: &EntryPath) -> Result<(), Errno> {
        let Some((parent, name)) = path.split_last() else { return Ok(()) };
        mkdirat(self.directory(&parent)?, name, Mode::RWXU)
    }

    pub(super) fn create_file(&mut self, path: &EntryPath, mode: Mode) -> Result<File, Errno> {
        let (parent, name) = path.split_last().ok_or(Errno::ISDIR)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(self.directory(&parent)?, name, flags, mode).map(File::from)
    }

    pub(super) fn create_symlink(&mut self, path: &EntryPath, target: &[u8]) -> Result<(), Errno> {
        let (parent, name) = path.split_last().ok_or(Errno::ISDIR)?;
        symlinkat(target, self.directory(&parent)?, name)
    }

    pub(super) fn create_hard_link(&mut self, path: &EntryPath, target: &EntryPath) -> Result<(), Errno> {
        let (parent, name) = path.split_last().ok_or(Errno::ISDIR)?;
        let (target_parent, target_name) = target.split_last().ok_or(Errno::ISDIR)?;
        let from = open_directory(self.root.as_fd(), &target_parent)?;
        // The link itself, if the target is one.
        linkat(from, target_name, self.directory(&parent)?, name, AtFlags::empty())
    }

    /// Returns a directory that was created.
    pub(super) fn directory(&mut self, path: &EntryPath) -> Result<BorrowedFd<'_>, Errno> {
        if self.last.as_ref().is_none_or(|(last, _)| last != path) {
            self.last = Some((path.clone(), open_directory(self.root.as_fd(), path)?));
        }
        Ok(self.last.as_ref().map_or(self.root.as_fd(), |(_, directory)| directory.as_fd()))
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            let _ = remove_tree(&self.path);
        }
    }
}

/// Opens a directory in `root`; a link on the way is an error.
fn open_directory(root: BorrowedFd<'_>, path: &EntryPath) -> Result<OwnedFd, Errno> {
    let mut directory = openat(root, ".", DIRECTORY, Mode::empty())?;
    for name in path.names() {
        directory = openat(&directory, name, DIRECTORY, Mode::empty())?;
    }
    Ok(directory)
}

/// Opens a directory in another one, unless it is a link.
pub(super) fn open_child(parent: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    openat(parent, name, DIRECTORY, Mode::empty())
}

/// Returns the names in a directory, and whether each is a directory.
pub(super) fn children(directory: impl AsFd) -> Result<Vec<(Vec<u8>, bool)>, Errno> {
    let mut found = Vec::new();
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => {
                let stat = statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(stat.st_mode)
            }
            kind => kind,
        };
        found.push((name.to_vec(), kind == FileType::Directory));
    }
    Ok(found)
}

/// Removes a directory whose permissions may be those of a guest.
pub(super) fn remove_tree(path: &Path) -> std::io::Result<()> {
    if fs::remove_dir_all(path).is_ok() {
        return Ok(());
    }
    let root = openat(CWD, path, DIRECTORY, Mode::empty())?;
    open_up(root.as_fd());
    fs::remove_dir_all(path)
}

/// Makes all directories writable, so that they can be removed.
fn open_up(directory: BorrowedFd<'_>) {
    let _ = rustix::fs::fchmod(directory, Mode::RWXU);
    for (name, is_directory) in children(directory).unwrap_or_default() {
        if is_directory && let Ok(child) = open_child(directory, &name) {
            open_up(child.as_fd());
        }
    }
}

/// Returns the path of an entry, for messages.
pub(super) fn shown(root: &Path, path: &EntryPath) -> PathBuf {
    root.join(OsString::from_vec(path.as_bytes().to_vec()))
}
