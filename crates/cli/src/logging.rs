//! The log of maqet itself, enabled by `--verbose` and `--log-file`.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use maqet::{ErrorReport, Explanation, Fault};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt;

use crate::args::{Color, GlobalArgs};

/// Starts logging, if it is enabled.
pub(crate) fn init(global: &GlobalArgs) -> Result<(), ErrorReport> {
    let level = match (global.verbose, &global.log_file) {
        (0, None) => return Ok(()),
        (0 | 1, _) => LevelFilter::INFO,
        (2, _) => LevelFilter::DEBUG,
        (_, _) => LevelFilter::TRACE,
    };
    let builder = fmt().with_max_level(level).with_target(level == LevelFilter::TRACE);
    match &global.log_file {
        Some(path) => {
            let file = open(path).map_err(|error| cannot_open(path, &error))?;
            builder.with_ansi(false).with_writer(std::sync::Mutex::new(file)).init();
        }
        None => builder.with_ansi(global.color == Color::Always).with_writer(io::stderr).init(),
    }
    Ok(())
}

/// Opens a log that only this user can read: a regular file, not a symbolic link that another user placed there, nor a
/// FIFO, which would block until it has a reader.
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

fn cannot_open(path: &Path, error: &io::Error) -> ErrorReport {
    let explanation = Explanation::new("host.log-file-unavailable", Fault::Host);
    ErrorReport::new(format!("cannot open the log file `{}`", path.display()), explanation).cause(error)
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
        std::fs::write(&path, "old\n").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();

        io::Write::write_all(&mut open(&path).unwrap(), b"new\n").unwrap();

        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old\nnew\n");
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
}
