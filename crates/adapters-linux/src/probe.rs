//! The port [`Probe`]: directories, space and limits of this host.

use std::fs::{self, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use maqet_domain::error::Cause;
use maqet_domain::port::{ClosedPath, DirectoryFacts, DirectoryState, Probe, Space};
use rustix::fs::{Access, AtFlags, CWD, access, accessat, statvfs};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::limits::{CHECKED_DEPTH, MAX_CHECKED_DIRECTORIES};
use crate::private_file::{private_folder, require_trusted_parent};

/// Inspects this host.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalProbe;

#[async_trait]
impl Probe for LocalProbe {
    async fn directory(&self, path: &Path) -> DirectoryState {
        let found = match fs::symlink_metadata(path) {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound => return missing(path),
            Err(error) => return hidden(path, &error),
        };
        DirectoryState::Found(DirectoryFacts {
            owner: found.uid(),
            is_ours: is_ours(&found),
            mode: found.mode() & 0o777,
            is_directory: found.is_dir(),
            is_writable: access(path, Access::WRITE_OK).is_ok(),
        })
    }

    async fn closed_directories(&self, path: &Path) -> Vec<ClosedPath> {
        let all = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
        let mut closed = Vec::new();
        let mut directories = directories_in(path);
        let mut depth = 1;
        while !directories.is_empty() {
            closed.extend(directories.iter().filter_map(|directory| closed_path(directory, all)));
            depth += 1;
            directories = match depth {
                ..=CHECKED_DEPTH => directories.iter().flat_map(|directory| directories_in(directory)).collect(),
                _ => Vec::new(),
            };
        }
        closed.sort_by(|one, other| one.path.cmp(&other.path));
        closed
    }

    async fn closed_files(&self, path: &Path, depth: usize) -> Vec<ClosedPath> {
        let mut closed = Vec::new();
        let mut directories = vec![path.to_owned()];
        for _ in 0..depth {
            let entries = directories.iter().filter_map(|directory| fs::read_dir(directory).ok()).flatten().flatten();
            let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
            closed.extend(files.filter_map(|file| closed_path(&file.path(), Access::READ_OK | Access::WRITE_OK)));
            directories = directories.iter().flat_map(|directory| directories_in(directory)).collect();
        }
        closed.sort_by(|one, other| one.path.cmp(&other.path));
        closed
    }

    async fn close_directory(&self, path: &Path) -> Result<(), Cause> {
        // `private_folder` refuses links and folders of other users before it changes anything.
        private_folder(path)?;
        Ok(fs::set_permissions(path, Permissions::from_mode(0o700))?)
    }

    async fn space(&self, path: &Path) -> Option<Space> {
        let existing = path.ancestors().find(|folder| folder.exists())?;
        let found = statvfs(existing).ok()?;
        Some(Space {
            free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
            bytes: found.f_blocks.saturating_mul(found.f_frsize),
            // File systems that create inodes on demand report none.
            free_files: (found.f_files > 0).then_some(found.f_favail),
        })
    }

    fn open_files(&self) -> u64 {
        getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
    }
}

fn is_ours(found: &Metadata) -> bool {
    found.uid() == rustix::process::geteuid().as_raw()
}

/// Tells whether a missing directory can be created, as `private_folder` does it.
fn missing(path: &Path) -> DirectoryState {
    let is_there = |folder: &&Path| fs::symlink_metadata(folder).is_ok();
    let Some(parent) = path.ancestors().skip(1).find(is_there) else { return DirectoryState::Missing };
    let refusal = if !parent.exists() {
        Some(io::Error::other("it is a symbolic link to nothing"))
    } else if parent.is_dir() {
        let access = accessat(CWD, parent, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS);
        access.map_err(io::Error::from).and_then(|()| require_trusted_parent(parent)).err()
    } else {
        Some(io::Error::from(ErrorKind::NotADirectory))
    };
    match refusal {
        Some(reason) => DirectoryState::NotCreatable { parent: parent.to_owned(), reason: reason_of(&reason) },
        None => DirectoryState::Missing,
    }
}

/// Names the directory that keeps `path` from being examined: the deepest one that can be.
fn hidden(path: &Path, error: &io::Error) -> DirectoryState {
    let parent = path.ancestors().skip(1).find(|folder| fs::symlink_metadata(folder).is_ok()).unwrap_or(path);
    DirectoryState::Hidden { parent: parent.to_owned(), reason: reason_of(error) }
}

fn reason_of(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::PermissionDenied if error.get_ref().is_none() => "permission denied".to_owned(),
        ErrorKind::NotADirectory => "it is not a directory".to_owned(),
        ErrorKind::ReadOnlyFilesystem => "read-only file system".to_owned(),
        _ => error.to_string(),
    }
}

/// Returns the directories in a directory that can be read.
fn directories_in(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten().take(MAX_CHECKED_DIRECTORIES);
    let is_directory = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    entries.filter(is_directory).map(|entry| entry.path()).collect()
}

/// Returns what is at a path if this user lacks this access to it.
fn closed_path(path: &Path, needed: Access) -> Option<ClosedPath> {
    match accessat(CWD, path, needed, AtFlags::EACCESS) {
        Err(Errno::ACCESS | Errno::PERM) => {}
        // A read-only file system is reported of the directory above.
        Ok(()) | Err(_) => return None,
    }
    let found = fs::symlink_metadata(path).ok()?;
    let (is_ours, owner, mode) = (is_ours(&found), found.uid(), found.mode() & 0o777);
    Some(ClosedPath { path: path.to_owned(), is_ours, owner, mode })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(state: DirectoryState) -> DirectoryFacts {
        match state {
            DirectoryState::Found(facts) => facts,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn test_directory_missing_one_names_what_prevents_it() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        let is_file = "it is not a directory".to_owned();

        let missing = LocalProbe.directory(&root.path().join("a/b")).await;
        let below_file = LocalProbe.directory(&file.join("a")).await;

        assert_eq!(missing, DirectoryState::Missing);
        assert_eq!(below_file, DirectoryState::Hidden { parent: file, reason: is_file });
    }

    #[tokio::test]
    async fn test_directory_below_a_dangling_link_cannot_be_created() {
        let root = tempfile::tempdir().unwrap();
        let link = root.path().join("link");
        std::os::unix::fs::symlink("nothing", &link).unwrap();

        let state = LocalProbe.directory(&link.join("share/maqet")).await;

        let reason = "it is a symbolic link to nothing".to_owned();
        assert_eq!(state, DirectoryState::NotCreatable { parent: link, reason });
    }

    #[tokio::test]
    async fn test_closed_directories_of_open_ones_are_none() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("a/b/c")).unwrap();

        assert_eq!(LocalProbe.closed_directories(root.path()).await, []);
    }

    #[tokio::test]
    async fn test_close_directory_makes_it_private() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("a");
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        assert_eq!(facts(LocalProbe.directory(&folder).await).mode, 0o755);

        LocalProbe.close_directory(&folder).await.unwrap();

        let facts = facts(LocalProbe.directory(&folder).await);
        assert!(facts.is_ours && facts.is_directory && facts.is_writable);
        assert_eq!(facts.mode, 0o700);
    }

    #[tokio::test]
    async fn test_close_directory_symbolic_link_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let link = root.path().join("link");
        std::os::unix::fs::symlink(root.path(), &link).unwrap();

        assert!(!facts(LocalProbe.directory(&link).await).is_directory);
        assert!(LocalProbe.close_directory(&link).await.is_err());
    }

    #[tokio::test]
    async fn test_space_of_missing_path_is_that_of_parent() {
        let root = tempfile::tempdir().unwrap();

        let space = LocalProbe.space(&root.path().join("a/b/c")).await.unwrap();

        assert!(space.free_bytes <= space.bytes && space.bytes > 0);
    }
}
