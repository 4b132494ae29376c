//! What is copied into a guest, as a stream.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use async_trait::async_trait;
use maqet_domain::guest::archive::{ArchiveWriter, Entry, EntryKind, EntryPath, padding};
use maqet_domain::guest::copy::{CopyFilter, LAST, SUMS, Sha256, SourceFacts, TREE, sum_line};
use maqet_domain::port::{CopySummary, HostFileError, HostSource, SourceRequest};
use rustix::fs::OFlags;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::attributes::umask;
use super::failed;

/// How much is read at once.
const PIECE_BYTES: usize = 256 << 10;

/// How many pieces are read ahead.
const PIECES_AHEAD: usize = 4;

/// A file or a directory, read by a thread that ends with the receiver.
pub(super) struct LocalSource {
    facts: SourceFacts,
    pieces: Receiver<Result<Vec<u8>, HostFileError>>,
    summary: Arc<Mutex<CopySummary>>,
}

impl LocalSource {
    pub(super) fn open(request: &SourceRequest) -> Result<Self, HostFileError> {
        let path = request.path.clone();
        let found = fs::metadata(&path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => HostFileError::NotFound { path: path.clone() },
            _ => failed(&path, error),
        })?;
        let facts = match found.file_type() {
            kind if kind.is_dir() && request.is_recursive => SourceFacts::Directory,
            kind if kind.is_dir() => return Err(HostFileError::RecursiveRequired { path }),
            kind if kind.is_file() => SourceFacts::File {
                // Files of `/proc` have no size, and content.
                size: Some(found.len()).filter(|size| *size > 0),
                mode: found.mode() & kept_permissions(request.keeps),
                modified: found.mtime(),
                digest: None,
            },
            _ => return Err(HostFileError::Unsupported { path }),
        };
        // Here, so that a file which cannot be read is refused before anything is done.
        let file = (facts != SourceFacts::Directory).then(|| open_file(&path, OFlags::empty())).transpose()?;
        let (sender, pieces) = channel(PIECES_AHEAD);
        let summary = Arc::new(Mutex::new(CopySummary::default()));
        let size = Some(found.len()).filter(|size| *size > 0);
        let (shared, request) = (Arc::clone(&summary), request.clone());
        thread::spawn(move || {
            let mut walk = Walk::new(&request, sender);
            let read = match file {
                Some(file) => walk.content(&file, &request.path, size).map(|()| walk.summary.files = 1),
                None => walk.tree(&request.path),
            };
            *shared.lock().unwrap_or_else(PoisonError::into_inner) = std::mem::take(&mut walk.summary);
            match read {
                Ok(()) => walk.flush(),
                Err(Stop::Failed(error)) => drop(walk.sender.blocking_send(Err(error))),
                Err(Stop::Unread) => {}
            }
        });
        Ok(Self { facts, pieces, summary })
    }
}

#[async_trait]
impl HostSource for LocalSource {
    fn facts(&self) -> SourceFacts {
        self.facts.clone()
    }

    async fn read(&mut self) -> Result<Vec<u8>, HostFileError> {
        self.pieces.recv().await.unwrap_or_else(|| Ok(Vec::new()))
    }

    fn summary(&self) -> CopySummary {
        self.summary.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Why the reading ended early.
enum Stop {
    Failed(HostFileError),
    /// It is no longer read.
    Unread,
}

impl From<HostFileError> for Stop {
    fn from(error: HostFileError) -> Self {
        Self::Failed(error)
    }
}

/// Reads what is copied, and sends it in pieces.
struct Walk {
    sender: Sender<Result<Vec<u8>, HostFileError>>,
    piece: Vec<u8>,
    filter: CopyFilter,
    /// The permissions that are kept.
    kept: u32,
    sha256: Option<Sha256>,
    sums: Vec<u8>,
    summary: CopySummary,
}

impl Walk {
    fn new(request: &SourceRequest, sender: Sender<Result<Vec<u8>, HostFileError>>) -> Self {
        Self {
            sender,
            piece: Vec::with_capacity(PIECE_BYTES),
            filter: request.filter.clone(),
            kept: kept_permissions(request.keeps),
            sha256: request.is_verified.then(Sha256::default),
            sums: Vec::new(),
            summary: CopySummary::default(),
        }
    }

    /// Sends a directory as an archive: its tree, the checksums, and the mark of the end.
    fn tree(&mut self, root: &Path) -> Result<(), Stop> {
        self.directory(root, &EntryPath::default())?;
        let file = |name: &str, size| {
            let kind = EntryKind::File { size };
            let entry = Entry { path: EntryPath::default().join(name.as_bytes()), kind, mode: 0o600, modified: 0 };
            ArchiveWriter.header(name.as_bytes(), &entry)
        };
        if self.sha256.is_some() {
            let sums = std::mem::take(&mut self.sums);
            let size = sums.len() as u64;
            self.send(&file(SUMS, size))?;
            self.send(&sums)?;
            self.send(&vec![0; padding(size)])?;
        }
        self.send(&file(LAST, 0))?;
        self.send(&ArchiveWriter.end())
    }

    fn directory(&mut self, directory: &Path, path: &EntryPath) -> Result<(), Stop> {
        let failed = |error| failed(directory, error);
        let found = fs::metadata(directory).map_err(failed)?;
        self.header(path, EntryKind::Directory, &found)?;
        self.summary.directories += 1;
        let mut names = Vec::new();
        for entry in fs::read_dir(directory).map_err(failed)? {
            names.push(entry.map_err(failed)?.file_name());
        }
        names.sort_unstable();
        for name in names {
            let child = path.join(name.as_bytes());
            if !self.filter.leaves_out(&child) {
                self.entry(&directory.join(&name), &child)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, at: &Path, path: &EntryPath) -> Result<(), Stop> {
        let found = match fs::symlink_metadata(at) {
            Ok(found) => found,
            // It was removed since its directory was read.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(at, error).into()),
        };
        let kind = found.file_type();
        if kind.is_dir() {
            return self.directory(at, path);
        }
        if kind.is_symlink() {
            let target = fs::read_link(at).map_err(|error| failed(at, error))?;
            self.summary.links += 1;
            let target = target.into_os_string().as_bytes().to_vec();
            return self.header(path, EntryKind::Symlink { target }, &found);
        }
        if !kind.is_file() {
            self.summary.skip(path.to_string(), "a device, a FIFO or a socket");
            return Ok(());
        }
        let file = open_file(at, OFlags::NOFOLLOW)?;
        let found = file.metadata().map_err(|error| failed(at, error))?;
        if !found.is_file() {
            return Err(HostFileError::Changed { path: at.to_owned() }.into());
        }
        let size = found.len();
        if size == 0 && (&file).read(&mut [0]).map_err(|error| failed(at, error))? > 0 {
            self.summary.skip(path.to_string(), "a file without a size, as in `/proc`");
            return Ok(());
        }
        self.header(path, EntryKind::File { size }, &found)?;
        self.content(&file, at, Some(size))?;
        self.send(&vec![0; padding(size)])?;
        self.summary.files += 1;
        if let Some(sha256) = &mut self.sha256 {
            let digest = std::mem::take(sha256).finish();
            self.sums.extend(sum_line(path, digest));
        }
        Ok(())
    }

    fn header(&mut self, path: &EntryPath, kind: EntryKind, found: &fs::Metadata) -> Result<(), Stop> {
        let mode = found.mode() & self.kept;
        let name = [TREE.as_bytes(), b"/", path.as_bytes()].concat();
        let entry = Entry { path: path.clone(), kind, mode, modified: found.mtime() };
        self.send(&ArchiveWriter.header(&name, &entry))
    }

    /// Sends the first `size` bytes of a file, or all of it; what is appended meanwhile is left out.
    fn content(&mut self, mut file: &File, path: &Path, size: Option<u64>) -> Result<(), Stop> {
        let mut left = size.unwrap_or(u64::MAX);
        while left > 0 {
            let room = PIECE_BYTES - self.piece.len();
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(room);
            let begin = self.piece.len();
            self.piece.resize(begin + length, 0);
            let read = loop {
                match file.read(&mut self.piece[begin..]) {
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    read => break read.map_err(|error| failed(path, error))?,
                }
            };
            self.piece.truncate(begin + read);
            if read == 0 && size.is_none() {
                break;
            }
            if read == 0 {
                return Err(HostFileError::Changed { path: path.to_owned() }.into());
            }
            if let Some(sha256) = &mut self.sha256 {
                sha256.update(&self.piece[begin..]);
            }
            left -= read as u64;
            self.summary.bytes += read as u64;
            self.send_full()?;
        }
        Ok(())
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        let mut bytes = bytes;
        while !bytes.is_empty() {
            let (part, rest) = bytes.split_at(bytes.len().min(PIECE_BYTES - self.piece.len()));
            self.piece.extend_from_slice(part);
            bytes = rest;
            self.send_full()?;
        }
        Ok(())
    }

    fn send_full(&mut self) -> Result<(), Stop> {
        if self.piece.len() < PIECE_BYTES {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES));
        self.sender.blocking_send(Ok(piece)).map_err(|_| Stop::Unread)
    }

    fn flush(self) {
        if !self.piece.is_empty() {
            let _ = self.sender.blocking_send(Ok(self.piece));
        }
    }
}

/// Opens a file for reading, without waiting for the writer of a FIFO that it has become.
fn open_file(path: &Path, flags: OFlags) -> Result<File, HostFileError> {
    let flags = i32::try_from((OFlags::NONBLOCK | flags).bits()).unwrap_or(0);
    let opened = fs::OpenOptions::new().read(true).custom_flags(flags).open(path);
    opened.map_err(|error| failed(path, error))
}

/// Returns which permissions the copy gets: all, or those that the umask leaves.
fn kept_permissions(keeps: bool) -> u32 {
    if keeps { 0o777 } else { 0o777 & !umask() }
}
