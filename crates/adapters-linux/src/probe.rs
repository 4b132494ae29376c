//! The port [`Probe`]: directories, space and limits of this host.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use async_trait::async_trait;
use maqet_domain::error::Cause;
use maqet_domain::port::{DirectoryFacts, Probe, Space};
use rustix::fs::{Access, access, statvfs};
use rustix::process::{Resource, getrlimit};

use crate::private_file::private_folder;

/// Inspects this host.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalProbe;

#[async_trait]
impl Probe for LocalProbe {
    async fn directory(&self, path: &Path) -> Option<DirectoryFacts> {
        let found = fs::symlink_metadata(path).ok()?;
        Some(DirectoryFacts {
            owner: found.uid(),
            is_ours: found.uid() == rustix::process::geteuid().as_raw(),
            mode: found.mode() & 0o777,
            is_directory: found.is_dir(),
            is_writable: access(path, Access::WRITE_OK).is_ok(),
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn test_close_directory_makes_it_private() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("a");
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        assert_eq!(LocalProbe.directory(&folder).await.unwrap().mode, 0o755);

        LocalProbe.close_directory(&folder).await.unwrap();

        let facts = LocalProbe.directory(&folder).await.unwrap();
        assert!(facts.is_ours && facts.is_directory && facts.is_writable);
        assert_eq!(facts.mode, 0o700);
    }

    #[tokio::test]
    async fn test_close_directory_symbolic_link_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let link = root.path().join("link");
        std::os::unix::fs::symlink(root.path(), &link).unwrap();

        assert!(!LocalProbe.directory(&link).await.unwrap().is_directory);
        assert!(LocalProbe.close_directory(&link).await.is_err());
    }

    #[tokio::test]
    async fn test_space_of_missing_path_is_that_of_parent() {
        let root = tempfile::tempdir().unwrap();

        let space = LocalProbe.space(&root.path().join("a/b/c")).await.unwrap();

        assert!(space.free_bytes <= space.bytes && space.bytes > 0);
    }
}
