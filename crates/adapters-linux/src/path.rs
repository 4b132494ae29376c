//! The port [`Paths`]: the kind of a path, and its symbolic links.
//!
//! Read-only: nothing is created or opened.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, File, FileType};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use async_trait::async_trait;
use maqet_domain::machine::FileAccess;
use maqet_domain::port::{FileError, PathKind, PathObstacle, Paths};
use rustix::fs::{Access, AtFlags, CWD, OFlags, accessat, major, statfs};
use rustix::io::Errno;

use crate::block_device::below;
use crate::limits::{MAX_PATH_BYTES, MAX_SYMLINKS};

/// Paths of this host.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalPaths;

#[async_trait]
impl Paths for LocalPaths {
    async fn kind(&self, path: &Path) -> PathKind {
        match fs::metadata(path) {
            Err(_) => PathKind::NotFound,
            Ok(found) if found.is_dir() => PathKind::Directory,
            Ok(found) if found.is_file() => PathKind::File,
            Ok(found) if found.file_type().is_block_device() => block_device_kind(found.rdev()),
            Ok(_) => PathKind::Other,
        }
    }

    async fn resolve(&self, path: &Path) -> PathBuf {
        resolve_links(path).unwrap_or_else(|| path.to_owned())
    }

    async fn obstacle(&self, path: &Path, access: FileAccess) -> Option<PathObstacle> {
        obstacle(path, access)
    }

    async fn is_huge_pages(&self, path: &Path) -> bool {
        /// `HUGETLBFS_MAGIC` of `linux/magic.h`.
        const HUGE_PAGES: i64 = 0x9584_58f6;
        #[expect(clippy::useless_conversion, reason = "the type differs between architectures")]
        let kind = statfs(path).ok().and_then(|found| i64::try_from(found.f_type).ok());
        kind == Some(HUGE_PAGES)
    }

    async fn below(&self, path: &Path) -> Vec<PathBuf> {
        below(path)
    }

    async fn files(&self, directory: &Path) -> Vec<PathBuf> {
        let (folders, mut files): (Vec<_>, Vec<_>) = visible(directory).partition(|(_, kind)| kind.is_dir());
        files.extend(folders.iter().flat_map(|(folder, _)| visible(folder)));
        let files = files.into_iter().filter(|(_, kind)| kind.is_file());
        let mut files: Vec<PathBuf> = files.map(|(path, _)| path).collect();
        files.sort();
        files
    }

    async fn read(&self, path: &Path, limit: usize) -> Result<Vec<u8>, FileError> {
        let path = || path.to_owned();
        let failed = |error: io::Error| FileError::Failed { path: path(), source: error.into() };
        // Without NONBLOCK, a FIFO would block until something writes to it.
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let file = match File::options().read(true).custom_flags(flags).open(path()) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(FileError::NotFound { path: path() }),
            Err(error) => return Err(failed(error)),
        };
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(FileError::NotAFile { path: path() });
        }
        let mut content = Vec::new();
        file.take(limit as u64 + 1).read_to_end(&mut content).map_err(failed)?;
        if content.len() > limit {
            return Err(FileError::TooLarge { path: path(), limit });
        }
        Ok(content)
    }
}

/// Returns what keeps this user from a file.
fn obstacle(path: &Path, access: FileAccess) -> Option<PathObstacle> {
    let closed =
        |path: &Path, reason: &str| Some(PathObstacle::Closed { path: path.to_owned(), reason: reason.to_owned() });
    let error = match fs::metadata(path) {
        Ok(_) if access == FileAccess::Replace => return create_obstacle(path),
        Ok(found) => {
            // A socket is connected to by writing.
            let read = if found.is_dir() { Access::READ_OK | Access::EXEC_OK } else { Access::READ_OK };
            let needed = if access == FileAccess::Read { read } else { Access::WRITE_OK };
            return access_obstacle(path, needed);
        }
        Err(error) => error,
    };
    match error.kind() {
        io::ErrorKind::NotFound if access == FileAccess::Connect => None,
        io::ErrorKind::NotFound if fs::symlink_metadata(path).is_ok() => {
            let target = resolve_links(path).unwrap_or_default();
            Some(PathObstacle::DanglingLink { path: path.to_owned(), target })
        }
        io::ErrorKind::NotFound if access == FileAccess::Read => Some(PathObstacle::NotFound { path: path.to_owned() }),
        io::ErrorKind::NotFound => create_obstacle(path),
        io::ErrorKind::PermissionDenied => {
            let seen = path.ancestors().skip(1).find(|directory| fs::metadata(directory).is_ok());
            closed(seen.unwrap_or(path), "permission denied")
        }
        io::ErrorKind::NotADirectory => {
            let seen = path.ancestors().skip(1).find(|directory| fs::metadata(directory).is_ok());
            closed(seen.unwrap_or(path), "it is not a directory")
        }
        _ => None,
    }
}

/// Returns what keeps this user from creating a file.
fn create_obstacle(path: &Path) -> Option<PathObstacle> {
    let directory = path.parent()?;
    match obstacle(directory, FileAccess::Read) {
        None => access_obstacle(directory, Access::WRITE_OK | Access::EXEC_OK),
        // One that is not to be listed can be written to.
        Some(PathObstacle::Closed { path, .. }) if path == directory => {
            access_obstacle(directory, Access::WRITE_OK | Access::EXEC_OK)
        }
        found => found,
    }
}

fn access_obstacle(path: &Path, needed: Access) -> Option<PathObstacle> {
    let reason = match accessat(CWD, path, needed, AtFlags::EACCESS) {
        Err(Errno::ACCESS | Errno::PERM) => "permission denied",
        Err(Errno::ROFS) => "read-only file system",
        Ok(()) | Err(_) => return None,
    };
    Some(PathObstacle::Closed { path: path.to_owned(), reason: reason.to_owned() })
}

/// Tells a drive for CDs, whose driver of the kernel is `sr`, from other block devices.
fn block_device_kind(device: u64) -> PathKind {
    const SCSI_CDROM_MAJOR: u32 = 11;
    if major(device) == SCSI_CDROM_MAJOR { PathKind::CdDrive } else { PathKind::BlockDevice }
}

/// Returns what is in a directory, without hidden names.
fn visible(directory: &Path) -> impl Iterator<Item = (PathBuf, FileType)> + use<> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let named = entries.filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."));
    named.filter_map(|entry| Some((entry.path(), entry.file_type().ok()?)))
}

/// Follows `path` component by component, as the kernel does; `None` for a loop of links.
///
/// A dangling link is followed too, and so is one after a missing folder that is left again with `..`: this is where the
/// path leads once the missing part is created.
fn resolve_links(path: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(path).ok()?;
    let mut remaining = parts(&absolute);
    let mut resolved = PathBuf::from("/");
    let mut links = 0;
    while let Some(part) = remaining.pop_front() {
        if part == ".." {
            // What was resolved contains no link, so its parent by name is its parent.
            resolved.pop();
            continue;
        }
        resolved.push(&part);
        let Some(target) = link(&resolved) else { continue };
        links += 1;
        if links > MAX_SYMLINKS {
            return None;
        }
        resolved.pop();
        if target.is_absolute() {
            resolved = PathBuf::from("/");
        }
        for part in parts(&target).into_iter().rev() {
            remaining.push_front(part);
        }
    }
    Some(resolved)
}

/// Returns the target of a link; `None` for anything else, and for what cannot be read.
fn link(path: &Path) -> Option<PathBuf> {
    // The kernel refuses longer paths, and checking each component of a path of megabytes takes minutes.
    if path.as_os_str().len() >= MAX_PATH_BYTES {
        return None;
    }
    fs::read_link(path).ok()
}

/// Returns the names in a path, and its `..`.
fn parts(path: &Path) -> VecDeque<OsString> {
    let named = |part: &Component<'_>| matches!(part, Component::Normal(_) | Component::ParentDir);
    path.components().filter(named).map(|part| part.as_os_str().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;
    use rustix::fs::{CWD, Mode, mkfifoat};
    use tempfile::TempDir;

    use super::*;

    /// A folder `real` with the file `file`, and links to them.
    fn tree() -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::create_dir(root.join("real")).unwrap();
        fs::write(root.join("real/file"), "").unwrap();
        symlink(root.join("real"), root.join("link")).unwrap();
        symlink("link/file", root.join("chain")).unwrap();
        symlink("/etc", root.join("etc")).unwrap();
        symlink("/nonexistent/../etc/soon", root.join("dangling")).unwrap();
        symlink("loop-b", root.join("loop-a")).unwrap();
        symlink("loop-a", root.join("loop-b")).unwrap();
        (folder, root)
    }

    #[track_caller]
    fn check(path: &str, expected: impl AsRef<Path>) {
        let (_folder, root) = tree();
        assert_eq!(resolve_links(&root.join(path)), Some(root.join(expected)), "{path}");
    }

    #[tokio::test]
    async fn test_files_are_regular_visible_and_at_most_one_directory_deep() {
        let (_folder, root) = tree();
        fs::create_dir(root.join("real/deep")).unwrap();
        for name in ["b", ".hidden", "real/a", "real/deep/x"] {
            fs::write(root.join(name), "").unwrap();
        }

        let found = LocalPaths.files(&root).await;

        assert_eq!(found, ["b", "real/a", "real/file"].map(|name| root.join(name)));
        assert_eq!(LocalPaths.files(&root.join("nothing")).await, [""; 0].map(PathBuf::from));
    }

    #[test]
    fn test_resolve_follows_links_and_keeps_missing_part() {
        check("link", "real");
        check("link/./new//file", "real/new/file");
        check("chain", "real/file");
        check("etc/new", "/etc/new");
    }

    #[test]
    fn test_resolve_dots_apply_to_link_target() {
        check("etc/../x", "/x");
        check("link/../etc/new", "/etc/new");
        check("../../../../../../../..", "/");
    }

    #[test]
    fn test_resolve_dots_after_missing_part_apply_by_name() {
        check("missing/deep/../x", "missing/x");
        check("missing/../real/file/..", "real");
    }

    #[test]
    fn test_resolve_link_after_missing_part_is_followed() {
        check("missing/../etc/new", "/etc/new");
        check("missing/../link/file", "real/file");
    }

    #[test]
    fn test_resolve_dangling_link_is_followed() {
        check("dangling", "/etc/soon");
        check("dangling/x", "/etc/soon/x");
    }

    #[test]
    fn test_resolve_loop_of_links_is_path_as_written() {
        let (_folder, root) = tree();
        let path = root.join("real/../loop-a/x/..");
        let paths = LocalPaths;

        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();

        assert_eq!(runtime.block_on(paths.resolve(&path)).as_os_str(), path.as_os_str());
    }

    #[test]
    fn test_resolve_path_of_megabytes_is_fast() {
        let path = Path::new("/").join("a/../b/".repeat(500_000));

        let found = resolve_links(&path).unwrap();

        assert_eq!(found.as_os_str().len(), 2 * 500_000);
    }

    #[test]
    fn test_kind_follows_links() {
        let (_folder, root) = tree();
        mkfifoat(CWD, root.join("fifo"), Mode::RUSR).unwrap();
        let paths = LocalPaths;
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();

        let kind = |path: &str| runtime.block_on(paths.kind(&root.join(path)));

        assert_eq!([kind("link"), kind("real")], [PathKind::Directory; 2]);
        assert_eq!([kind("chain"), kind("real/file")], [PathKind::File; 2]);
        assert_eq!([kind("dangling"), kind("loop-a"), kind("missing"), kind("a\0b")], [PathKind::NotFound; 4]);
        assert_eq!([kind("fifo"), kind("/dev/null")], [PathKind::Other; 2]);
    }

    #[test]
    fn test_block_device_kind_cd_drive_has_its_own_driver() {
        use rustix::fs::makedev;

        assert_eq!(block_device_kind(makedev(11, 0)), PathKind::CdDrive);
        assert_eq!([7, 8, 253].map(|driver| block_device_kind(makedev(driver, 0))), [PathKind::BlockDevice; 3]);
    }

    #[test]
    fn test_obstacle_names_what_is_missing() {
        let (_folder, root) = tree();
        let at = |path: &str| root.join(path);
        let missing = |path: &str| Some(PathObstacle::NotFound { path: at(path) });

        assert_eq!(obstacle(&at("chain"), FileAccess::Read), None);
        assert_eq!(obstacle(&at("real/new"), FileAccess::Read), missing("real/new"));
        assert_eq!(obstacle(&at("real/new"), FileAccess::Write), None);
        assert_eq!(obstacle(&at("real/new/deep"), FileAccess::Write), missing("real/new"));
        assert_eq!(obstacle(&at("none/socket"), FileAccess::Replace), missing("none"));
        let target = PathBuf::from("/etc/soon");
        let dangling = Some(PathObstacle::DanglingLink { path: at("dangling"), target });
        assert_eq!(obstacle(&at("dangling"), FileAccess::Read), dangling);
        let reason = "it is not a directory".to_owned();
        let closed = Some(PathObstacle::Closed { path: at("real/file"), reason });
        assert_eq!(obstacle(&at("real/file/x"), FileAccess::Read), closed);
    }

    #[tokio::test]
    async fn test_is_huge_pages_of_other_file_systems_is_false() {
        for path in ["/", "/proc", "/nonexistent"] {
            assert!(!LocalPaths.is_huge_pages(Path::new(path)).await, "{path}");
        }
    }

    proptest! {
        #[test]
        fn test_resolve_any_bytes_give_absolute_path(
            bytes in proptest::collection::vec(prop_oneof![Just(b'/'), Just(b'.'), any::<u8>()], 1..64)
        ) {
            let found = resolve_links(Path::new(OsStr::from_bytes(&bytes)));

            let is_real = |path: PathBuf| path.is_absolute() && path.components().all(|part| part != Component::ParentDir);
            prop_assert!(found.is_none_or(is_real));
        }

        #[test]
        fn test_resolve_existing_path_matches_kernel(
            parts in proptest::collection::vec(proptest::sample::select(vec!["real", "link", "chain", "etc", ".."]), 0..6)
        ) {
            let (_folder, root) = tree();
            let path = root.join(parts.join("/"));

            if let Ok(real) = path.canonicalize() {
                prop_assert_eq!(resolve_links(&path), Some(real));
            }
        }
    }
}
