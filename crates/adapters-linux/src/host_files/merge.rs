//! Moves a complete directory into one that exists.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use maqet_domain::port::HostFileError;
use rustix::fs::{AtFlags, FileType, Mode, fchmod, fstat, renameat, statat};
use rustix::io::Errno;

use super::attributes::Attributes;
use super::failed;
use super::tree::{children, open_child};

/// Checks that nothing of `from` takes the place of something of another kind in `to`, of which links are not followed.
pub(super) fn check(from: BorrowedFd<'_>, to: BorrowedFd<'_>, path: &Path) -> Result<(), HostFileError> {
    for (name, is_directory) in children(from).map_err(|error| failed(path, error))? {
        let at = path.join(OsString::from_vec(name.clone()));
        let is_replaced_directory = match statat(to, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => FileType::from_raw_mode(stat.st_mode) == FileType::Directory,
            Err(Errno::NOENT) => continue,
            Err(error) => return Err(failed(&at, error)),
        };
        if is_directory != is_replaced_directory {
            let kind = if is_replaced_directory { "a directory" } else { "not a directory" };
            return Err(HostFileError::Conflict { path: at, kind });
        }
        if is_directory {
            let open = |parent| open_child(parent, &name).map_err(|error| failed(&at, error));
            check(open(from)?.as_fd(), open(to)?.as_fd(), &at)?;
        }
    }
    Ok(())
}

/// Moves what is in `from` to `to`: each file replaces one as a whole, directories are merged.
pub(super) fn merge(from: BorrowedFd<'_>, to: BorrowedFd<'_>, path: &Path, keeps: bool) -> Result<(), HostFileError> {
    for (name, is_directory) in children(from).map_err(|error| failed(path, error))? {
        let at = path.join(OsString::from_vec(name.clone()));
        let failed = |error| failed(&at, error);
        if !is_directory {
            renameat(from, name.as_slice(), to, name.as_slice()).map_err(failed)?;
            continue;
        }
        let child = open_child(from, &name).map_err(failed)?;
        let stat = fstat(&child).map_err(failed)?;
        // One that must not be written cannot be moved either.
        fchmod(&child, Mode::RWXU).map_err(failed)?;
        let attributes = Attributes { mode: stat.st_mode, modified: stat.st_mtime };
        if let Ok(existing) = open_child(to, &name) {
            merge(child.as_fd(), existing.as_fd(), &at, keeps)?;
            if keeps {
                attributes.set_at(to, &name).map_err(failed)?;
            }
        } else {
            renameat(from, name.as_slice(), to, name.as_slice()).map_err(failed)?;
            fchmod(&child, attributes.mode()).map_err(failed)?;
        }
    }
    Ok(())
}
