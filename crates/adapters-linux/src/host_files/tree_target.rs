//! A directory that comes from a guest as an archive.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::PathBuf;

use maqet_domain::guest::archive::{ArchiveReader, Entry, EntryKind, EntryPath, InvalidArchive, Part, stays_inside};
use maqet_domain::guest::copy::{CopyFilter, Digest, Sha256, parse_sum_line};
use maqet_domain::port::{CopySummary, HostFileError, TargetRequest};
use rustix::fs::{Mode, OFlags, openat, syncfs};

use super::attributes::{Attributes, umask};
use super::merge::{check, merge};
use super::sparse::SparseFile;
use super::tree::{Tree, shown};
use super::{Budget, Place, failed, parent};
use crate::atomic_file::{rename_to_free_name, sync_folder};

/// How many entries a directory may have: the memory that they take, and the files of the host, are limited.
const MAX_ENTRIES: u64 = 5_000_000;

/// How many bytes the paths of a directory may have in all, which are kept in memory.
const MAX_PATHS_BYTES: usize = 256 << 20;

/// How many levels a directory may have; one of thousands could not be removed any more.
const MAX_LEVELS: usize = 256;

/// How much of the space of the host an entry takes, in addition to its content.
const ENTRY_BYTES: u64 = 512;

/// The longest line with a checksum.
const MAX_SUM_LINE_BYTES: usize = 20_000;

/// A directory that is being written.
pub(super) struct TreeTarget {
    tree: Tree,
    place: Place,
    keeps: bool,
    filter: CopyFilter,
    umask: u32,
    reader: ArchiveReader,
    /// The file whose content comes.
    file: Option<OpenFile>,
    /// What the directories get once nothing more is written to them.
    directories: Vec<(EntryPath, Attributes)>,
    sums: Option<Sums>,
    summary: CopySummary,
    entries: u64,
    paths_bytes: usize,
    budget: Budget,
}

struct OpenFile {
    path: EntryPath,
    file: SparseFile,
    left: u64,
    attributes: Attributes,
    sha256: Sha256,
}

/// The checksums of files that were written, and of those that the guest has named.
#[derive(Default)]
struct Sums {
    written: BTreeMap<EntryPath, Digest>,
    line: Vec<u8>,
}

impl TreeTarget {
    pub(super) fn create(place: Place, request: &TargetRequest) -> Result<Self, HostFileError> {
        // Below an existing directory, so that its entries can be renamed wherever it is mounted.
        let directory = if place.exists { place.path.clone() } else { parent(&place.path).to_owned() };
        let name = if place.exists { PathBuf::from("copy") } else { place.path.clone() };
        super::stale::remove(&directory, &name);
        let tree = Tree::create(&directory, &name).map_err(|error| failed(&place.path, error))?;
        Ok(Self {
            budget: Budget::new(&directory),
            tree,
            place,
            keeps: request.keeps,
            filter: request.filter.clone(),
            umask: umask(),
            reader: ArchiveReader::default(),
            file: None,
            directories: Vec::new(),
            sums: request.is_verified.then(Sums::default),
            summary: CopySummary::default(),
            entries: 0,
            paths_bytes: 0,
        })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), HostFileError> {
        let mut input = bytes;
        while let Some(part) = self.reader.next(&mut input).map_err(|source| HostFileError::Archive { source })? {
            match part {
                Part::Entry(entry) => self.entry(entry)?,
                Part::Data(data) => self.data(data)?,
                Part::End => {}
                Part::Trailer(bytes) => self.trailer(bytes)?,
            }
        }
        Ok(())
    }

    fn entry(&mut self, entry: Entry) -> Result<(), HostFileError> {
        self.count(&entry.path)?;
        self.file = None;
        let Entry { path, kind, mode, modified } = entry;
        if self.filter.leaves_out(&path) {
            return Ok(());
        }
        let at = shown(&self.place.path, &path);
        let failed = |error| failed(&at, error);
        let attributes = Attributes { mode, modified };
        match kind {
            EntryKind::Directory => {
                self.tree.create_directory(&path).map_err(failed)?;
                self.directories.push((path, attributes));
                self.summary.directories += 1;
            }
            EntryKind::File { size } => {
                let file = self.tree.create_file(&path, attributes.mode() | Mode::WUSR).map_err(failed)?;
                let file =
                    OpenFile { path, file: SparseFile::new(file), left: size, attributes, sha256: Sha256::default() };
                self.summary.files += 1;
                self.file = Some(file);
                self.end_file()?;
            }
            EntryKind::Symlink { target } if stays_inside(&path, &target) => {
                self.tree.create_symlink(&path, &target).map_err(failed)?;
                self.summary.links += 1;
            }
            EntryKind::Symlink { .. } => self.summary.skip(path.to_string(), "a link out of the directory"),
            EntryKind::HardLink { target } => match self.tree.create_hard_link(&path, &target) {
                Ok(()) => self.link_sum(path, &target),
                // Its file was left out.
                Err(rustix::io::Errno::NOENT) => self.summary.skip(path.to_string(), "a link to what was not copied"),
                Err(error) => return Err(failed(error)),
            },
            EntryKind::Special => self.summary.skip(path.to_string(), "a device or a FIFO"),
        }
        Ok(())
    }

    /// Counts an entry; fails if there are more, or deeper ones, than a directory may have.
    fn count(&mut self, path: &EntryPath) -> Result<(), HostFileError> {
        self.entries += 1;
        self.paths_bytes += path.as_bytes().len();
        let limit = if self.entries > MAX_ENTRIES {
            format!("{MAX_ENTRIES} entries")
        } else if self.paths_bytes > MAX_PATHS_BYTES {
            format!("{} MiB of names", MAX_PATHS_BYTES >> 20)
        } else if path.names().count() > MAX_LEVELS {
            format!("{MAX_LEVELS} levels of directories")
        } else {
            self.budget.take_file()?;
            return self.budget.take(ENTRY_BYTES);
        };
        Err(HostFileError::TooLarge { limit })
    }

    /// Notes the checksum of another name of a file.
    fn link_sum(&mut self, path: EntryPath, target: &EntryPath) {
        self.summary.files += 1;
        if let Some(sums) = &mut self.sums
            && let Some(digest) = sums.written.get(target).copied()
        {
            sums.written.insert(path, digest);
        }
    }

    fn data(&mut self, data: &[u8]) -> Result<(), HostFileError> {
        let Some(open) = &mut self.file else { return Ok(()) };
        let written = open.file.write(data).map_err(|error| failed(&shown(&self.place.path, &open.path), error))?;
        open.left = open.left.saturating_sub(data.len() as u64);
        if self.sums.is_some() {
            open.sha256.update(data);
        }
        self.summary.bytes += data.len() as u64;
        self.budget.take(written)?;
        self.end_file()
    }

    /// Completes the file if all of its content is there.
    fn end_file(&mut self) -> Result<(), HostFileError> {
        let Some(open) = self.file.take_if(|open| open.left == 0) else { return Ok(()) };
        let at = shown(&self.place.path, &open.path);
        let file = open.file.finish().map_err(|error| failed(&at, error))?;
        if self.keeps {
            open.attributes.set(&file).map_err(|error| failed(&at, error))?;
        } else if open.attributes.mode & 0o200 == 0 {
            let mode = Mode::from_bits_truncate(open.attributes.mode & !self.umask);
            rustix::fs::fchmod(&file, mode).map_err(|error| failed(&at, error))?;
        }
        if let Some(sums) = &mut self.sums {
            sums.written.insert(open.path, open.sha256.finish());
        }
        Ok(())
    }

    /// Takes checksums, which follow the archive.
    fn trailer(&mut self, bytes: &[u8]) -> Result<(), HostFileError> {
        let Some(sums) = &mut self.sums else { return Ok(()) };
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            sums.line.extend_from_slice(piece);
            if sums.line.len() > MAX_SUM_LINE_BYTES {
                return Err(HostFileError::Archive { source: InvalidArchive::TooLong });
            }
            if let Some(line) = sums.line.strip_suffix(b"\n") {
                let found = parse_sum_line(line).map_err(|source| HostFileError::Archive { source })?;
                if let Some((path, digest)) = found
                    && let Some(written) = sums.written.remove(&path)
                    && written != digest
                {
                    return Err(HostFileError::Mismatch { path: path.to_string() });
                }
                sums.line.clear();
            }
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<CopySummary, HostFileError> {
        if !self.reader.has_ended() || self.file.is_some() {
            return Err(HostFileError::Incomplete);
        }
        if let Some((path, _)) = self.sums.take().and_then(|sums| sums.written.into_iter().next()) {
            return Err(HostFileError::Mismatch { path: path.to_string() });
        }
        let target = self.place.path.clone();
        let failed = |error| failed(&target, error);
        syncfs(self.tree.root()).map_err(failed)?;
        self.set_directories()?;
        if self.place.exists {
            let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
            let existing = openat(rustix::fs::CWD, &target, flags, Mode::empty()).map_err(failed)?;
            check(self.tree.root(), existing.as_fd(), &target)?;
            merge(self.tree.root(), existing.as_fd(), &target, self.keeps)?;
            // What is left of it are directories that were there already.
        } else {
            rename_to_free_name(self.tree.path(), &target).map_err(|error| super::failed(&target, error))?;
            self.tree.keep();
        }
        sync_folder(parent(&target));
        Ok(self.summary)
    }

    /// Gives directories their permissions and times, the inner ones first.
    fn set_directories(&mut self) -> Result<(), HostFileError> {
        for (path, attributes) in std::mem::take(&mut self.directories).into_iter().rev() {
            let failed = |error| failed(&shown(&self.place.path, &path), error);
            let mode = if self.keeps { attributes.mode } else { attributes.mode & !self.umask };
            let attributes = Attributes { mode, ..attributes };
            match path.split_last() {
                // That of an existing directory is not changed.
                None if self.place.exists => {}
                None if self.keeps => attributes.set(self.tree.root()).map_err(failed)?,
                None => rustix::fs::fchmod(self.tree.root(), attributes.mode()).map_err(failed)?,
                Some((parent, name)) => {
                    let directory = self.tree.directory(&parent).map_err(failed)?;
                    if self.keeps {
                        attributes.set_at(directory, name).map_err(failed)?;
                    } else if attributes.mode & 0o777 != 0o700 {
                        rustix::fs::chmodat(directory, name, attributes.mode(), rustix::fs::AtFlags::empty())
                            .map_err(failed)?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use maqet_domain::guest::archive::ArchiveWriter;
    use maqet_domain::guest::copy::SourceFacts;

    use super::*;

    fn target(path: &Path) -> TreeTarget {
        let request = TargetRequest {
            path: path.to_owned(),
            name: None,
            source: SourceFacts::Directory,
            keeps: false,
            is_verified: false,
            filter: CopyFilter::default(),
        };
        TreeTarget::create(Place { path: path.to_owned(), exists: false }, &request).unwrap()
    }

    /// Returns a directory in an archive.
    fn header(path: &str) -> Vec<u8> {
        let entry = Entry {
            path: EntryPath::parse(path.as_bytes()).unwrap(),
            kind: EntryKind::Directory,
            mode: 0o755,
            modified: 0,
        };
        ArchiveWriter.header(path.as_bytes(), &entry)
    }

    /// A directory of thousands of levels could not be removed with one open directory for each.
    #[test]
    fn test_tree_target_more_levels_than_can_be_removed_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut target = target(&folder.path().join("copy"));
        let names = vec!["d"; MAX_LEVELS + 1];

        for level in 0..MAX_LEVELS {
            target.write(&header(&format!("./{}", names[..=level].join("/")))).unwrap();
        }
        let refused = target.write(&header(&format!("./{}", names.join("/")))).unwrap_err();

        assert_eq!(refused.to_string(), "the copy exceeds 256 levels of directories");
        drop(target);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn test_tree_target_more_files_than_the_host_has_left_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut target = target(&folder.path().join("copy"));
        target.budget.files = Some(1);

        target.write(&header("./a")).unwrap();
        let refused = target.write(&header("./b")).unwrap_err();

        assert_eq!(refused.to_string(), "the copy exceeds the number of files that the file system has left");
    }

    #[test]
    fn test_tree_target_more_names_than_fit_into_memory_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut target = target(&folder.path().join("copy"));
        target.paths_bytes = MAX_PATHS_BYTES - 1;

        target.write(&header("./a")).unwrap();
        let refused = target.write(&header("./b")).unwrap_err();

        assert_eq!(refused.to_string(), "the copy exceeds 256 MiB of names");
    }
}
