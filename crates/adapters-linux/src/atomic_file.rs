//! Files that appear under their name complete or not at all.
//!
//! A file is written under a temporary name in the directory of its target, and renamed once it is complete. The
//! temporary name identifies the process that writes it: [`AtomicFile::create`] removes the files that killed processes
//! left of the same target, and `stale_files` finds those of all targets.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use uuid::Uuid;

use crate::private_file::{new_private_file, new_shared_file};
use crate::process::PidScope;
use crate::temporary_file::{NAME_MAX, Writer, parse_temporary_name, temporary_name};

/// A file being written under a temporary name, which is removed on drop unless it was renamed to its target.
#[derive(Debug)]
pub struct AtomicFile {
    file: File,
    temporary: PathBuf,
    target: PathBuf,
}

impl AtomicFile {
    /// Creates the temporary file of `target`, empty and with mode 0600, and removes those that killed writers of the
    /// same target left.
    ///
    /// Errors: whatever the file system reports; `InvalidInput` for a path without a file name.
    pub fn create(target: &Path) -> io::Result<Self> {
        Self::create_by(target, new_private_file)
    }

    /// Does the same with the mode that the umask gives a new file, for a file that the user asked for.
    pub fn create_shared(target: &Path) -> io::Result<Self> {
        Self::create_by(target, new_shared_file)
    }

    fn create_by(target: &Path, new_file: impl FnOnce(&Path) -> io::Result<File>) -> io::Result<Self> {
        let scope = PidScope::current();
        let writer = Writer::new(&scope);
        remove_abandoned_in(target, &scope);
        let random = Uuid::new_v4().simple().to_string();
        let tail = format!("{}-{}-{}-{}", writer.scope, writer.pid, writer.start_ticks, &random[..8]);
        let temporary = target.with_file_name(temporary_name(target, &tail)?);
        Ok(Self { file: new_file(&temporary)?, temporary, target: target.to_owned() })
    }

    /// Returns the path of the temporary file, for a program that writes it.
    pub fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// Sets when the file was last modified; a later write changes that.
    ///
    /// Errors: whatever the file system reports.
    pub fn set_modified(&self, time: SystemTime) -> io::Result<()> {
        self.file.set_modified(time)
    }

    /// Writes the content to disk.
    ///
    /// Errors: whatever the file system reports.
    pub fn sync(&self) -> io::Result<()> {
        // Reopened, since a program may have replaced the file at the temporary path.
        File::open(&self.temporary)?.sync_all()
    }

    /// Renames the complete file to its target, replacing an existing one, once the content is on disk.
    ///
    /// Errors: whatever the file system reports; the target is then unchanged.
    pub fn replace(self) -> io::Result<()> {
        self.sync()?;
        fs::rename(&self.temporary, &self.target)?;
        self.target.parent().map(sync_folder);
        Ok(())
    }

    /// Does the same at another path of the same directory's file system, such as the file that a symbolic link leads to.
    ///
    /// Errors: whatever the file system reports; the file at `path` is then unchanged.
    pub fn replace_at(mut self, path: &Path) -> io::Result<()> {
        path.clone_into(&mut self.target);
        self.replace()
    }

    /// Does the same without waiting for the disk, for content that can be computed again: after a power failure the
    /// file may be empty or missing.
    pub fn replace_unsynced(self) -> io::Result<()> {
        fs::rename(&self.temporary, &self.target)
    }

    /// Renames the complete file to its target, once the content is on disk, unless there is a file already.
    ///
    /// Errors: `AlreadyExists`, and whatever the file system reports.
    pub fn publish(self) -> io::Result<()> {
        self.sync()?;
        rename_to_free_name(&self.temporary, &self.target)?;
        self.target.parent().map(sync_folder);
        Ok(())
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.temporary);
    }
}

/// Renames a file or a directory to a name that is free.
///
/// Errors: `AlreadyExists`, and whatever the file system reports.
pub fn rename_to_free_name(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => rename_without_flag(from, to),
        Err(error) => Err(error.into()),
    }
}

/// Does the same on a file system that cannot rename so.
fn rename_without_flag(from: &Path, to: &Path) -> io::Result<()> {
    if fs::symlink_metadata(from)?.is_dir() {
        // Replaces at most an empty directory.
        return fs::rename(from, to);
    }
    // Such file systems have hard links, which do not replace a file either.
    fs::hard_link(from, to)?;
    fs::remove_file(from)
}

/// Writes the names in a folder to disk; some file systems cannot, and what the files hold is on disk in any case.
pub fn sync_folder(folder: &Path) {
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
}

/// Puts `content` at `path`, replacing an existing file, without waiting for the disk: for caches and the like.
///
/// Errors: whatever the file system reports; the file at `path` is then unchanged.
pub fn replace_unsynced(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(content)?;
    file.replace_unsynced()
}

/// Removes the temporary files of `target` whose writer is gone.
pub fn remove_abandoned(target: &Path) {
    remove_abandoned_in(target, &PidScope::current());
}

fn remove_abandoned_in(target: &Path, scope: &PidScope) {
    let (Some(folder), Some(name)) = (target.parent(), target.file_name()) else { return };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let file = entry.file_name();
        let Some((stem, writer)) = parse_temporary_name(&file) else { continue };
        // The stem of a long name is cut.
        let is_of_target = name.as_bytes().starts_with(stem) && (stem.len() == name.len() || file.len() == NAME_MAX);
        if is_of_target && writer.has_abandoned(&entry.path(), scope) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::{OsStr, OsString};
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;
    use crate::stale_files::stale_temporary_files;

    fn write(target: &Path, content: &str) -> AtomicFile {
        let mut file = AtomicFile::create(target).unwrap();
        file.write_all(content.as_bytes()).unwrap();
        file
    }

    fn names(folder: &Path) -> Vec<OsString> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn test_atomic_file_dropped_is_removed() {
        let folder = tempfile::tempdir().unwrap();

        drop(write(&folder.path().join("a.qcow2"), "half"));

        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn test_publish_existing_target_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a.qcow2");
        let (first, second) = (write(&target, "first"), write(&target, "second"));

        first.publish().unwrap();
        let error = second.publish().unwrap_err();

        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&target).unwrap(), b"first");
        assert_eq!(names(folder.path()), ["a.qcow2"]);
    }

    #[test]
    fn test_publish_file_written_by_program_is_renamed() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a.qcow2");
        let file = AtomicFile::create(&target).unwrap();
        fs::write(file.temporary(), "by a program").unwrap();

        file.publish().unwrap();

        assert_eq!(fs::read(&target).unwrap(), b"by a program");
    }

    #[test]
    fn test_rename_without_flag_replaces_nothing() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        fs::write(path("file"), "file").unwrap();
        fs::write(path("other"), "other").unwrap();
        for folder in ["folder", "taken"] {
            fs::create_dir(path(folder)).unwrap();
            fs::write(path(folder).join("content"), folder).unwrap();
        }

        for (from, to) in [("file", "other"), ("file", "taken"), ("folder", "other"), ("folder", "taken")] {
            rename_without_flag(&path(from), &path(to)).unwrap_err();
        }
        rename_without_flag(&path("file"), &path("free")).unwrap();
        rename_without_flag(&path("folder"), &path("new")).unwrap();

        let read = |name: &str| fs::read_to_string(path(name)).unwrap();
        assert_eq!(
            [read("free"), read("other"), read("new/content"), read("taken/content")],
            ["file", "other", "folder", "taken"]
        );
        assert!(!path("file").exists() && !path("folder").exists());
    }

    #[test]
    fn test_replace_leaves_one_private_file() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("cache.json");

        write(&target, "one").replace().unwrap();
        replace_unsynced(&target, b"two").unwrap();

        assert_eq!(fs::read(&target).unwrap(), b"two");
        assert_eq!(fs::metadata(&target).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(names(folder.path()), ["cache.json"]);
    }

    #[test]
    fn test_replace_symbolic_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (target, elsewhere) = (folder.path().join("cache.json"), folder.path().join("elsewhere"));
        fs::write(&elsewhere, "kept").unwrap();
        symlink(&elsewhere, &target).unwrap();

        write(&target, "new").replace().unwrap();

        assert_eq!(fs::read(&elsewhere).unwrap(), b"kept");
        assert!(target.symlink_metadata().unwrap().is_file());
    }

    #[test]
    fn test_stale_file_of_dead_writer_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a.qcow2");
        let us = Writer::new(&PidScope::current());
        let dead = folder.path().join(format!(".a.qcow2.partial-{}-{}-1-0badcafe", us.scope, us.pid));
        let other = folder.path().join(format!(".a.partial-{}-{}-1-0badcafe", us.scope, us.pid));
        fs::write(&dead, "").unwrap();
        fs::write(&other, "").unwrap();
        assert_eq!(stale_temporary_files(folder.path()).len(), 2);
        let living = AtomicFile::create(&target).unwrap();

        let ours = AtomicFile::create(&target).unwrap();

        assert!(!dead.exists());
        assert!(living.temporary().exists() && ours.temporary().exists());
        assert_eq!(stale_temporary_files(folder.path()), [other]);
    }

    #[test]
    fn test_stale_file_of_other_boot_is_kept_while_new() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(".a.qcow2.partial-00000000-1-1-0badcafe"), "").unwrap();

        assert!(stale_temporary_files(folder.path()).is_empty());
    }

    /// The process ID is one of that namespace; here it is another process, or none.
    #[test]
    fn test_stale_file_of_other_namespace_is_kept_while_new() {
        let folder = tempfile::tempdir().unwrap();
        let boot: String = PidScope::current().boot_id().0.chars().take(8).collect();
        fs::write(folder.path().join(format!(".a.qcow2.partial-{boot}.1-1-1-0badcafe")), "").unwrap();

        assert!(stale_temporary_files(folder.path()).is_empty());
    }

    #[test]
    fn test_atomic_file_longest_name_fits() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("x".repeat(NAME_MAX));
        let us = Writer::new(&PidScope::current());
        let tail = format!("{}-{}-1-0badcafe", us.scope, us.pid);
        let dead = folder.path().join(temporary_name(&target, &tail).unwrap());
        fs::write(&dead, "").unwrap();

        write(&target, "").publish().unwrap();

        assert!(target.exists() && !dead.exists());
    }

    #[test]
    fn test_parse_temporary_name_other_names_are_none() {
        for name in ["a.qcow2", ".a.qcow2", "a.partial-b-1-1-c", ".a.partial-b-1-c", ".a.partial-b-x-1-c", ".partial-"]
        {
            assert_eq!(parse_temporary_name(OsStr::new(name)), None, "{name}");
        }
    }
}
