//! Private directories and files: modes 0700 and 0600 regardless of the umask, and no symbolic links.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, chmodat, mkfifoat};

/// Why a path is not safe to use.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum Unsafe {
    #[error("it is a symbolic link")]
    Link,
    #[error("it is not a directory")]
    NotADirectory,
    #[error("it belongs to user {owner}")]
    Foreign { owner: u32 },
    #[error("other users may write to its parent directory `{directory}`")]
    Open { directory: String },
}

impl From<Unsafe> for io::Error {
    fn from(reason: Unsafe) -> Self {
        Self::new(io::ErrorKind::PermissionDenied, reason)
    }
}

/// Creates `folder` and its missing parents, and makes it private to this user.
///
/// The parent of the first existing folder must belong to this user or root, and must not be writable by others unless
/// it is sticky, as `/tmp` is: its owner could replace what is in it.
///
/// Errors: [`Unsafe`] as `PermissionDenied`, and whatever the file system reports.
pub fn private_folder(folder: &Path) -> io::Result<()> {
    let user = rustix::process::geteuid().as_raw();
    let above = folder.parent().filter(|above| !above.as_os_str().is_empty());
    match fs::symlink_metadata(folder) {
        Ok(found) => {
            if let Some(above) = above {
                trusted_folder(above, user)?;
            }
            own_folder(folder, &found, user)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let above = above.ok_or(error)?;
            if above.try_exists()? {
                trusted_folder(above, user)?;
            } else {
                private_folder(above)?;
            }
            make_folder(folder)
        }
        Err(error) => Err(error),
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => {}
        // Another maqet process created it first.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    own_folder(folder, &fs::symlink_metadata(folder)?, rustix::process::geteuid().as_raw())
}

fn own_folder(folder: &Path, found: &fs::Metadata, user: u32) -> io::Result<()> {
    match found.uid() {
        _ if found.is_symlink() => Err(Unsafe::Link.into()),
        _ if !found.is_dir() => Err(Unsafe::NotADirectory.into()),
        owner if owner != user => Err(Unsafe::Foreign { owner }.into()),
        _ if found.mode() & 0o777 == 0o700 => Ok(()),
        _ => fs::set_permissions(folder, Permissions::from_mode(0o700)),
    }
}

fn trusted_folder(folder: &Path, user: u32) -> io::Result<()> {
    let found = fs::metadata(folder)?;
    let is_open = found.mode() & 0o022 != 0 && found.mode() & 0o1000 == 0;
    match found.uid() {
        owner if owner == user => Ok(()),
        0 if is_open => Err(Unsafe::Open { directory: folder.display().to_string() }.into()),
        0 => Ok(()),
        owner => Err(Unsafe::Foreign { owner }.into()),
    }
}

/// Refuses a directory in which [`private_folder`] would not create one.
pub(crate) fn require_trusted_parent(folder: &Path) -> io::Result<()> {
    trusted_folder(folder, rustix::process::geteuid().as_raw())
}

/// Opens a private file for reading and writing, creating it if it is missing; never through a symbolic link.
///
/// Errors: [`Unsafe`] as `PermissionDenied`, and whatever the file system reports.
pub fn private_file(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().read(true).write(true).create(true))
}

/// Opens an existing private file for reading and writing; never through a symbolic link.
///
/// Errors: as [`private_file`].
pub fn existing_private_file(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().read(true).write(true))
}

/// Opens a private file for appending, creating it if it is missing; never through a symbolic link.
///
/// Errors: as [`private_file`].
pub fn private_log(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().append(true).create(true))
}

/// Opens a private file with `open`; if it is missing, its folder may be, too, and is created first.
///
/// An existing file can thus be opened on a full disk.
pub(crate) fn with_folder(path: &Path, open: fn(&Path) -> io::Result<File>) -> io::Result<File> {
    match open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            private_folder(path.parent().unwrap_or(path))?;
            open(path)
        }
        opened => opened,
    }
}

/// Creates an empty private file, replacing an existing one.
///
/// Errors: as [`private_file`].
pub fn fresh_log(path: &Path) -> io::Result<()> {
    unless_missing(fs::remove_file(path))?;
    new_private_file(path).map(drop)
}

/// Creates an empty private FIFO, replacing an existing one.
///
/// Errors: whatever the file system reports.
pub fn fresh_fifo(path: &Path) -> io::Result<()> {
    unless_missing(fs::remove_file(path))?;
    mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR)?;
    // Regardless of the umask.
    Ok(chmodat(CWD, path, Mode::RUSR | Mode::WUSR, AtFlags::empty())?)
}

/// Returns the result of a removal; nothing to remove is not an error.
///
/// Errors: as `result`, except for `NotFound`.
pub fn unless_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Creates a private file; it must not exist.
///
/// Errors: `AlreadyExists`, and as [`private_file`].
pub fn new_private_file(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().read(true).write(true).create_new(true))
}

/// Opens a regular file for reading, never through a symbolic link; a FIFO or a device in its place could block forever.
///
/// Errors: `InvalidInput` for anything but a regular file, and whatever the file system reports.
pub fn open_regular(path: &Path) -> io::Result<File> {
    regular(OpenOptions::new().read(true), path)
}

/// Reads the end of a regular file: its last `length` bytes, and what is appended meanwhile.
///
/// Errors: as [`open_regular`].
pub fn read_tail(path: &Path, length: usize) -> io::Result<Vec<u8>> {
    let mut file = open_regular(path)?;
    let length = u64::try_from(length).unwrap_or(u64::MAX);
    let start = file.metadata()?.len().saturating_sub(length);
    file.seek(SeekFrom::Start(start))?;
    let mut tail = Vec::new();
    file.take(length.saturating_mul(2)).read_to_end(&mut tail)?;
    Ok(tail)
}

/// Reads a regular file of at most `max_bytes` that only this user can write; `None` for any other.
pub fn read_private(path: &Path, max_bytes: u64) -> Option<Vec<u8>> {
    let file = open_regular(path).ok()?;
    let found = file.metadata().ok()?;
    let is_private = found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o022 == 0;
    if !is_private || found.len() > max_bytes {
        return None;
    }
    let mut content = Vec::with_capacity(usize::try_from(found.len()).ok()? + 1);
    file.take(max_bytes).read_to_end(&mut content).ok()?;
    Some(content)
}

/// Creates a file with the mode that the umask gives; it must not exist.
pub(crate) fn new_shared_file(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create_new(true).open(path)
}

fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let file = regular(options.mode(0o600), path)?;
    let found = file.metadata()?;
    let user = rustix::process::geteuid().as_raw();
    if found.uid() != user {
        return Err(Unsafe::Foreign { owner: found.uid() }.into());
    }
    if found.mode() & 0o777 != 0o600 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

fn regular(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    // Without NONBLOCK, a FIFO in place of the file would block forever.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = options.custom_flags(flags.bits().cast_signed()).open(path)?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn test_private_folder_missing_parents_are_private() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("a/b/c");

        private_folder(&folder).unwrap();

        assert_eq!([mode_of(&folder), mode_of(folder.parent().unwrap())], [0o700, 0o700]);
    }

    #[test]
    fn test_private_folder_open_to_others_is_made_private() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("a");
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, Permissions::from_mode(0o777)).unwrap();

        private_folder(&folder).unwrap();

        assert_eq!(mode_of(&folder), 0o700);
    }

    #[test]
    fn test_private_folder_symbolic_link_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let link = root.path().join("link");
        std::os::unix::fs::symlink("/tmp", &link).unwrap();

        let refused = private_folder(&link).unwrap_err();

        assert_eq!(refused.to_string(), "it is a symbolic link");
    }

    #[test]
    fn test_private_folder_of_another_user_is_refused() {
        let root = tempfile::tempdir().unwrap();
        // Root can give a folder away; for others there is one of root.
        let foreign = match std::os::unix::fs::chown(root.path(), Some(65534), None) {
            Ok(()) => root.path(),
            Err(_) => Path::new("/usr"),
        };

        let refused = private_folder(foreign).unwrap_err();
        let refused_below = private_folder(&foreign.join("below")).unwrap_err();

        assert!(refused.to_string().starts_with("it belongs to user"), "{refused}");
        assert_eq!(refused_below.kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn test_private_file_symbolic_link_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let link = root.path().join("link");
        std::os::unix::fs::symlink(root.path().join("target"), &link).unwrap();

        assert!(private_file(&link).is_err());
        assert!(private_log(&link).is_err());
        assert!(!root.path().join("target").exists());
    }

    #[test]
    fn test_private_file_fifo_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let fifo = root.path().join("fifo");
        fresh_fifo(&fifo).unwrap();

        assert!(private_file(&fifo).is_err());
    }
}
