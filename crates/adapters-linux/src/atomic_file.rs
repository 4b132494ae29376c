//! The file an image is before it has its name.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use uuid::Uuid;

use crate::limits::PARTIAL_STALE;
use crate::private_file::new_private_file;
use crate::process::{identity_of, stat_of};

/// The longest name of a file on the file systems of Linux, in bytes.
const NAME_MAX: usize = 255;

/// What stands between the name of the image and the maker.
const MARKER: &str = ".partial-";

/// A file beside the image it becomes; removed when dropped before that.
#[derive(Debug)]
pub struct Partial {
    path: PathBuf,
}

/// Who makes a partial file: enough to tell whether that process still lives.
#[derive(Debug, PartialEq, Eq)]
struct Maker {
    /// The first eight digits of the boot.
    boot: String,
    pid: u32,
    start_ticks: u64,
}

impl Maker {
    fn us() -> io::Result<Self> {
        let us = identity_of(std::process::id()).ok_or(io::ErrorKind::NotFound)?;
        let boot = us.boot_id.0.chars().take(8).collect();
        Ok(Self { boot, pid: us.pid, start_ticks: us.start_ticks })
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, '-');
        let boot = parts.next()?.to_owned();
        let pid = parts.next()?.parse().ok()?;
        let start_ticks = parts.next()?.parse().ok()?;
        parts.next()?;
        Some(Self { boot, pid, start_ticks })
    }

    fn is_alive(&self) -> bool {
        stat_of(self.pid).is_some_and(|stat| stat.is_alive() && stat.start_ticks == self.start_ticks)
    }
}

impl Partial {
    /// Makes the file, empty and readable by its owner only, and removes what killed makers of this image left.
    pub fn reserve(image: &Path) -> io::Result<Self> {
        let us = Maker::us()?;
        sweep(image, &us);
        let random = Uuid::new_v4().simple().to_string();
        let tail = format!("{}-{}-{}-{}", us.boot, us.pid, us.start_ticks, &random[..8]);
        let mut name = prefix(image, tail.len())?;
        name.push(tail);
        let path = image.with_file_name(name);
        new_private_file(&path)?;
        Ok(Self { path })
    }

    /// Returns where the file is until it is published.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file, now complete, the name of the image; an image that is there is not replaced.
    pub fn publish(self, image: &Path) -> io::Result<()> {
        File::open(&self.path)?.sync_all()?;
        match renameat_with(CWD, &self.path, CWD, image, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            // File systems without that flag have hard links instead, which do not replace either.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => fs::hard_link(&self.path, image)?,
            Err(why) => return Err(why.into()),
        }
        // Some file systems cannot sync a folder; the image itself is safe.
        let _ = image.parent().map(|folder| File::open(folder).and_then(|folder| folder.sync_all()));
        Ok(())
    }

    /// Gives the file, now complete, a name that another one may have; that one is gone then.
    pub fn replace(self, file: &Path) -> io::Result<()> {
        fs::rename(&self.path, file)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Returns how the names of partial files of `image` begin, cut so that `tail` bytes fit behind it.
fn prefix(image: &Path, tail: usize) -> io::Result<OsString> {
    let name = image.file_name().ok_or(io::ErrorKind::InvalidInput)?.as_bytes();
    let marker = MARKER.as_bytes();
    let room = NAME_MAX.saturating_sub(1 + marker.len() + tail);
    let kept = &name[..name.len().min(room)];
    Ok(OsString::from_vec([b".", kept, marker].concat()))
}

/// Removes partial files of `image` whose maker is dead.
fn sweep(image: &Path, us: &Maker) {
    let (Some(folder), Ok(prefix)) = (image.parent(), prefix(image, 0)) else { return };
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let tail = name.as_bytes().strip_prefix(prefix.as_bytes()).and_then(|tail| std::str::from_utf8(tail).ok());
        let Some(maker) = tail.and_then(Maker::parse) else { continue };
        if is_abandoned(&maker, us, &entry.path()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Returns whether nobody makes the partial file any more.
///
/// A maker of another boot may be of another host that has this folder mounted too.
fn is_abandoned(maker: &Maker, us: &Maker, path: &Path) -> bool {
    if maker.boot == us.boot { !maker.is_alive() } else { is_stale(path) }
}

/// Returns the partial files in `folder` whose maker is dead, of whatever image.
pub fn left_behind(folder: &Path) -> Vec<PathBuf> {
    let (Ok(us), Ok(entries)) = (Maker::us(), fs::read_dir(folder)) else { return Vec::new() };
    let is_dead = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).filter(|name| name.starts_with('.'));
        let tail = name.and_then(|name| Some(name.rsplit_once(MARKER)?.1));
        tail.and_then(Maker::parse).is_some_and(|maker| is_abandoned(&maker, &us, path))
    };
    entries.flatten().map(|entry| entry.path()).filter(is_dead).collect()
}

fn is_stale(path: &Path) -> bool {
    let modified = fs::symlink_metadata(path).and_then(|found| found.modified());
    modified.is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age > PARTIAL_STALE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_partial_dropped_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();

        drop(Partial::reserve(&folder.path().join("a.qcow2")).unwrap());

        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn test_partial_published_never_replaces() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("a.qcow2");
        let (one, other) = (Partial::reserve(&image).unwrap(), Partial::reserve(&image).unwrap());
        fs::write(one.path(), "one").unwrap();

        one.publish(&image).unwrap();
        let refused = other.publish(&image).unwrap_err();

        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&image).unwrap(), b"one");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn test_partial_of_a_dead_maker_is_swept_and_of_a_living_one_kept() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("a.qcow2");
        let us = Maker::us().unwrap();
        let dead = folder.path().join(format!(".a.qcow2.partial-{}-{}-1-0badcafe", us.boot, us.pid));
        fs::write(&dead, "").unwrap();
        assert_eq!(left_behind(folder.path()).first(), Some(&dead));
        let living = Partial::reserve(&image).unwrap();

        let mine = Partial::reserve(&image).unwrap();

        assert!(!dead.exists());
        assert!(living.path().exists() && mine.path().exists());
        assert_eq!(left_behind(folder.path()), Vec::<PathBuf>::new());
    }

    #[test]
    fn test_partial_longest_name_still_fits() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("x".repeat(NAME_MAX));

        Partial::reserve(&image).unwrap().publish(&image).unwrap();

        assert!(image.exists());
    }
}
