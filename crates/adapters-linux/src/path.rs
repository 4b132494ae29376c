//! The port [`Paths`]: what lies where on this host.
//!
//! It only looks: nothing is made, opened or read but links.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

use async_trait::async_trait;
use maqet_domain::port::{PathKind, Paths};

use crate::limits::{LINKS_FOLLOWED, PATH_BYTES};

/// Looks at the paths of this host.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalPaths;

#[async_trait]
impl Paths for LocalPaths {
    async fn kind(&self, path: &Path) -> PathKind {
        match fs::metadata(path) {
            Err(_) => PathKind::Missing,
            Ok(found) if found.is_dir() => PathKind::Folder,
            Ok(found) if found.is_file() => PathKind::File,
            Ok(_) => PathKind::Other,
        }
    }

    async fn resolve(&self, path: &Path) -> PathBuf {
        resolved(path).unwrap_or_else(|| path.to_owned())
    }
}

/// Follows `path` part by part, as the kernel does; `None` for a loop of links.
///
/// A link that leads nowhere yet is followed too, and so is one behind a folder that is missing and left again with
/// `..`: once somebody makes what is missing, that is where the path leads.
fn resolved(path: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(path).ok()?;
    let mut ahead = parts(&absolute);
    let mut behind = PathBuf::from("/");
    let mut links = 0;
    while let Some(part) = ahead.pop_front() {
        if part == ".." {
            // What is behind holds no link, so its parent by name is its parent.
            behind.pop();
            continue;
        }
        behind.push(&part);
        let Some(target) = link(&behind) else { continue };
        links += 1;
        if links > LINKS_FOLLOWED {
            return None;
        }
        behind.pop();
        if target.is_absolute() {
            behind = PathBuf::from("/");
        }
        for part in parts(&target).into_iter().rev() {
            ahead.push_front(part);
        }
    }
    Some(behind)
}

/// Returns where a link points; nothing else, nor what may not be seen, points anywhere.
fn link(path: &Path) -> Option<PathBuf> {
    // The kernel refuses longer ones, and asking it about each part of a path of megabytes takes minutes.
    if path.as_os_str().len() >= PATH_BYTES {
        return None;
    }
    fs::read_link(path).ok()
}

/// Returns the names of a path, and its `..`.
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

    /// A folder `real` with the file `file`, and links to and fro.
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
        assert_eq!(resolved(&root.join(path)), Some(root.join(expected)), "{path}");
    }

    #[test]
    fn test_resolve_links_are_followed_and_what_is_missing_is_appended() {
        check("link", "real");
        check("link/./new//file", "real/new/file");
        check("chain", "real/file");
        check("etc/new", "/etc/new");
    }

    #[test]
    fn test_resolve_dots_are_taken_where_the_link_before_them_leads() {
        check("etc/../x", "/x");
        check("link/../etc/new", "/etc/new");
        check("../../../../../../../..", "/");
    }

    #[test]
    fn test_resolve_dots_behind_what_is_missing_go_back_by_name() {
        check("missing/deep/../x", "missing/x");
        check("missing/../real/file/..", "real");
    }

    #[test]
    fn test_resolve_link_behind_what_is_missing_is_followed() {
        check("missing/../etc/new", "/etc/new");
        check("missing/../link/file", "real/file");
    }

    #[test]
    fn test_resolve_link_to_what_is_missing_is_followed() {
        check("dangling", "/etc/soon");
        check("dangling/x", "/etc/soon/x");
    }

    #[test]
    fn test_resolve_loop_of_links_is_the_path_as_written() {
        let (_folder, root) = tree();
        let path = root.join("real/../loop-a/x/..");
        let paths = LocalPaths;

        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();

        assert_eq!(runtime.block_on(paths.resolve(&path)).as_os_str(), path.as_os_str());
    }

    #[test]
    fn test_resolve_path_of_megabytes_ends_soon() {
        let path = Path::new("/").join("a/../b/".repeat(500_000));

        let found = resolved(&path).unwrap();

        assert_eq!(found.as_os_str().len(), 2 * 500_000);
    }

    #[test]
    fn test_kind_follows_links_and_tells_what_is_there() {
        let (_folder, root) = tree();
        mkfifoat(CWD, root.join("fifo"), Mode::RUSR).unwrap();
        let paths = LocalPaths;
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();

        let kind = |path: &str| runtime.block_on(paths.kind(&root.join(path)));

        assert_eq!([kind("link"), kind("real")], [PathKind::Folder; 2]);
        assert_eq!([kind("chain"), kind("real/file")], [PathKind::File; 2]);
        assert_eq!([kind("dangling"), kind("loop-a"), kind("missing"), kind("a\0b")], [PathKind::Missing; 4]);
        assert_eq!([kind("fifo"), kind("/dev/null")], [PathKind::Other; 2]);
    }

    proptest! {
        #[test]
        fn test_resolve_any_bytes_never_panic_and_lead_to_an_absolute_path(
            bytes in proptest::collection::vec(prop_oneof![Just(b'/'), Just(b'.'), any::<u8>()], 1..64)
        ) {
            let found = resolved(Path::new(OsStr::from_bytes(&bytes)));

            let is_real = |path: PathBuf| path.is_absolute() && path.components().all(|part| part != Component::ParentDir);
            prop_assert!(found.is_none_or(is_real));
        }

        #[test]
        fn test_resolve_whatever_exists_is_what_the_kernel_finds(
            parts in proptest::collection::vec(proptest::sample::select(vec!["real", "link", "chain", "etc", ".."]), 0..6)
        ) {
            let (_folder, root) = tree();
            let path = root.join(parts.join("/"));

            if let Ok(real) = path.canonicalize() {
                prop_assert_eq!(resolved(&path), Some(real));
            }
        }
    }
}
