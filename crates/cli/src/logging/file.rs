//! The file of `--log-file`: private, bounded, and written by several processes at once.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tracing_subscriber::fmt::MakeWriter;

/// The size at which a log is renamed to `FILE.1`, which replaces an older one.
const MAX_BYTES: u64 = 16 << 20;

/// A log, of which each line is written by one system call.
pub(super) struct LogFile {
    path: PathBuf,
    max_bytes: u64,
    file: Mutex<File>,
}

impl LogFile {
    /// Opens a log that only this user can read.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        // A later `chdir` must not move it.
        let path = std::path::absolute(path)?;
        let file = Mutex::new(open(&path)?);
        Ok(Self { path, max_bytes: MAX_BYTES, file })
    }

    fn append(&self, line: &[u8]) -> io::Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_at(&file, &self.path) {
            // Another process has renamed it.
            *file = open(&self.path)?;
        }
        if file.metadata()?.len() + line.len() as u64 > self.max_bytes {
            self.rotate(&mut file)?;
        }
        file.write_all(line)
    }

    /// Renames a full log, unless another process is doing that; a log that cannot be renamed is emptied.
    fn rotate(&self, file: &mut File) -> io::Result<()> {
        if file.try_lock().is_err() {
            return Ok(());
        }
        if is_at(file, &self.path) {
            let mut old = self.path.clone().into_os_string();
            old.push(".1");
            if fs::rename(&self.path, old).is_err() {
                file.set_len(0)?;
            }
        }
        let new = open(&self.path);
        file.unlock()?;
        *file = new?;
        Ok(())
    }
}

impl Write for &LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.append(line)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogFile {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

/// Opens a regular file, not a symbolic link that another user placed there, nor a FIFO, which would block until it has a
/// reader.
fn open(path: &Path) -> io::Result<File> {
    let flags =
        OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => File::from(file),
        Err(Errno::LOOP) if path.is_symlink() => return Err(io::Error::other("it is a symbolic link")),
        // A FIFO without a reader, or a socket.
        Err(Errno::NXIO) => return Err(not_regular()),
        Err(error) => return Err(error.into()),
    };
    if !file.metadata()?.is_file() {
        return Err(not_regular());
    }
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

fn not_regular() -> io::Error {
    io::Error::other("it is not a regular file")
}

/// Returns whether the open file is still the one at `path`.
fn is_at(file: &File, path: &Path) -> bool {
    let key = |found: fs::Metadata| (found.dev(), found.ino());
    file.metadata().is_ok_and(|open| path.symlink_metadata().is_ok_and(|there| key(open) == key(there)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn test_open_existing_log_becomes_private_and_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, "old\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();

        LogFile::open(&path).unwrap().append(b"new\n").unwrap();

        assert_eq!(fs::read_to_string(&path).unwrap(), "old\nnew\n");
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn test_open_symbolic_link_is_refused_and_its_target_untouched() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("log"));
        std::os::unix::fs::symlink(&target, &link).unwrap();

        let error = open(&link).unwrap_err();

        assert_eq!(error.to_string(), "it is a symbolic link");
        assert!(!target.exists());
    }

    #[test]
    fn test_open_fifo_is_refused_without_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();

        let error = open(&path).unwrap_err();

        assert_eq!(error.to_string(), "it is not a regular file");
        assert_eq!(open(Path::new("/dev/null")).unwrap_err().to_string(), "it is not a regular file");
    }

    #[test]
    fn test_append_by_many_writers_is_bounded_and_loses_only_the_oldest() {
        const WRITERS: usize = 4;
        const LINES: usize = 400;
        const MAX: u64 = 40_000;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");

        std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                let path = &path;
                scope.spawn(move || {
                    let log = LogFile { max_bytes: MAX, ..LogFile::open(path).unwrap() };
                    for number in 0..LINES {
                        log.append(format!("{writer} {number:>60}\n").as_bytes()).unwrap();
                    }
                });
            }
        });

        let old = folder.path().join("log.1");
        let length = |path: &Path| fs::metadata(path).unwrap().len();
        // A writer that found room may write after another one.
        assert!(length(&path) <= MAX + 1_000 && length(&old) <= MAX + 1_000, "{} {}", length(&path), length(&old));
        assert_eq!((mode(&path), mode(&old)), (0o600, 0o600));
        let text = [fs::read_to_string(&old).unwrap(), fs::read_to_string(&path).unwrap()].concat();
        for writer in 0..WRITERS {
            let mine = |line: &&str| line.starts_with(&format!("{writer} "));
            let numbers: Vec<usize> = text.lines().filter(mine).map(|line| line[2..].trim().parse().unwrap()).collect();
            let first = numbers.first().copied().unwrap_or(LINES);
            assert_eq!(numbers, (first..LINES).collect::<Vec<_>>(), "writer {writer}");
        }
    }

    #[test]
    fn test_append_to_log_that_cannot_be_renamed_stays_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::create_dir_all(folder.path().join("log.1/in-the-way")).unwrap();
        let log = LogFile { max_bytes: 100, ..LogFile::open(&path).unwrap() };

        for _ in 0..20 {
            log.append(b"0123456789\n").unwrap();
        }

        assert!(fs::metadata(&path).unwrap().len() <= 100);
    }
}
