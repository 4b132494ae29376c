//! What was typed before, kept in a file that nobody else may read.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};

/// The file in the folder for state, for all VMs together: what is typed for one is useful for the next.
const FILE: &str = "qmp-history";

/// How much of the file is read, and how large it becomes: some thousand lines.
const BYTES: u64 = 64 << 10;

/// Lines that were typed; a history that cannot be kept keeps nobody from typing.
pub(super) struct History {
    path: PathBuf,
    lines: Vec<String>,
}

impl History {
    /// Reads what is kept in a folder.
    pub(super) fn open(folder: &Path) -> Self {
        let path = folder.join(FILE);
        let lines = read(&path).unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(%error, file = %path.display(), "the history cannot be read");
            }
            Vec::new()
        });
        Self { path, lines }
    }

    /// Returns the lines, the oldest first.
    pub(super) fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Keeps a line, if it is to be kept; returns whether it is.
    pub(super) fn keep(&self, line: &str) -> bool {
        if !is_to_be_kept(line) {
            return false;
        }
        if let Err(error) = append(&self.path, line) {
            tracing::warn!(%error, file = %self.path.display(), "the history cannot be kept");
        }
        true
    }
}

/// Returns whether a line may be written down: not one that begins with a space, as in shells, nor one that may hold a
/// secret.
fn is_to_be_kept(line: &str) -> bool {
    let small = line.to_lowercase();
    let is_secret = ["passw", "secret"].iter().any(|word| small.contains(word));
    !line.trim().is_empty() && !line.starts_with(char::is_whitespace) && !is_secret && !line.contains(char::is_control)
}

fn opened(path: &Path, more: OFlags) -> io::Result<File> {
    let flags = OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::NONBLOCK | more;
    let file = File::from(openat(CWD, path, flags, Mode::RUSR | Mode::WUSR)?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no file")) }
}

fn read(path: &Path) -> io::Result<Vec<String>> {
    let mut text = Vec::new();
    opened(path, OFlags::RDONLY)?.take(2 * BYTES).read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    Ok(text.lines().filter(|line| is_to_be_kept(line)).map(str::to_owned).collect())
}

/// Adds a line; a file that became too large keeps its newer half.
fn append(path: &Path, line: &str) -> io::Result<()> {
    let mut file = opened(path, OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE)?;
    file.write_all(format!("{line}\n").as_bytes())?;
    if file.metadata()?.len() <= BYTES {
        return Ok(());
    }
    let lines = read(path)?;
    let newer: String = lines.iter().skip(lines.len() / 2).flat_map(|line| [line.as_str(), "\n"]).collect();
    let shorter = path.with_extension(format!("{}.tmp", std::process::id()));
    let outcome = opened(&shorter, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)
        .and_then(|mut file| file.write_all(newer.as_bytes()))
        .and_then(|()| fs::rename(&shorter, path));
    if outcome.is_err() {
        let _is_not_left_behind = fs::remove_file(&shorter);
    }
    outcome
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn test_history_lines_come_back_in_order_from_a_file_of_ones_own() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::open(folder.path());

        let kept = ["query-status", " query-name", "set_password protocol=vnc password=x", "", "stop"]
            .map(|line| history.keep(line));

        assert_eq!(kept, [true, false, false, false, true]);
        assert_eq!(History::open(folder.path()).lines(), ["query-status", "stop"]);
        let mode = fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn test_history_secrets_are_not_kept_however_they_are_written() {
        for line in [
            "change-vnc-password password=x",
            "{\"execute\": \"set_password\", \"arguments\": {\"password\": \"x\"}}",
            "object-add qom-type=secret id=s data=x",
            "expire_PASSWORD protocol=vnc time=now",
        ] {
            assert!(!is_to_be_kept(line), "{line}");
        }
    }

    #[test]
    fn test_history_grows_to_its_limit_and_keeps_the_newer_half() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::open(folder.path());

        (0..2_000).for_each(|number| assert!(history.keep(&format!("query-{number:_>50}"))));

        let lines = History::open(folder.path()).lines().to_vec();
        assert!(lines.last().unwrap().ends_with("_1999"));
        assert!((300..1_300).contains(&lines.len()), "{}", lines.len());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn test_history_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let victim = folder.path().join("victim");
        fs::write(&victim, "theirs\n").unwrap();
        symlink(&victim, folder.path().join(FILE)).unwrap();
        let history = History::open(folder.path());

        history.keep("stop");

        assert_eq!(history.lines(), [""; 0]);
        assert_eq!(fs::read_to_string(victim).unwrap(), "theirs\n");
    }
}
