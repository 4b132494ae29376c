//! The history of typed lines, in a file that only this user can read.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};

/// The file in the state folder, shared by all VMs: a line typed for one is useful for the next.
const FILE: &str = "qmp-history";

/// The size at which the file is cut to half: some thousand lines.
const MAX_BYTES: u64 = 64 << 10;

/// The lines typed before; problems with the file are logged and do not affect the shell.
pub(super) struct History {
    path: PathBuf,
    lines: Vec<String>,
}

impl History {
    /// Reads the history in a folder.
    pub(super) fn open(folder: &Path) -> Self {
        let path = folder.join(FILE);
        let lines = read(&path).unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(%error, file = %path.display(), "cannot read the history");
            }
            Vec::new()
        });
        Self { path, lines }
    }

    /// Returns the lines, oldest first.
    pub(super) fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Appends a line unless it may be private; returns whether it did.
    pub(super) fn append(&self, line: &str) -> bool {
        if !is_recordable(line) {
            return false;
        }
        if let Err(error) = append(&self.path, line) {
            tracing::warn!(%error, file = %self.path.display(), "cannot write the history");
        }
        true
    }
}

/// Returns whether a line may be stored: it does not start with a space, as in shells, nor mention a secret.
fn is_recordable(line: &str) -> bool {
    let lower = line.to_lowercase();
    let is_secret = ["passw", "secret"].iter().any(|word| lower.contains(word));
    !line.trim().is_empty() && !line.starts_with(char::is_whitespace) && !is_secret && !line.contains(char::is_control)
}

fn open(path: &Path, flags: OFlags) -> io::Result<File> {
    let flags = OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::NONBLOCK | flags;
    let file = File::from(openat(CWD, path, flags, Mode::RUSR | Mode::WUSR)?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("not a regular file")) }
}

fn read(path: &Path) -> io::Result<Vec<String>> {
    let mut text = Vec::new();
    open(path, OFlags::RDONLY)?.take(2 * MAX_BYTES).read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    Ok(text.lines().filter(|line| is_recordable(line)).map(str::to_owned).collect())
}

/// Appends a line, and cuts a file that became too large to its newer half.
fn append(path: &Path, line: &str) -> io::Result<()> {
    let mut file = open(path, OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE)?;
    file.write_all(format!("{line}\n").as_bytes())?;
    if file.metadata()?.len() <= MAX_BYTES {
        return Ok(());
    }
    let lines = read(path)?;
    let newer: String = lines.iter().skip(lines.len() / 2).flat_map(|line| [line.as_str(), "\n"]).collect();
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let replaced = open(&temporary, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)
        .and_then(|mut file| file.write_all(newer.as_bytes()))
        .and_then(|()| fs::rename(&temporary, path));
    if replaced.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    replaced
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn test_history_lines_are_read_back_from_a_private_file() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::open(folder.path());

        let recorded = ["query-status", " query-name", "set_password protocol=vnc password=x", "", "stop"]
            .map(|line| history.append(line));

        assert_eq!(recorded, [true, false, false, false, true]);
        assert_eq!(History::open(folder.path()).lines(), ["query-status", "stop"]);
        let mode = fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn test_history_secrets_are_not_recorded() {
        for line in [
            "change-vnc-password password=x",
            "{\"execute\": \"set_password\", \"arguments\": {\"password\": \"x\"}}",
            "object-add qom-type=secret id=s data=x",
            "expire_PASSWORD protocol=vnc time=now",
        ] {
            assert!(!is_recordable(line), "{line}");
        }
    }

    #[test]
    fn test_history_keeps_the_newer_half_at_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::open(folder.path());

        (0..2_000).for_each(|number| assert!(history.append(&format!("query-{number:_>50}"))));

        let lines = History::open(folder.path()).lines().to_vec();
        assert!(lines.last().unwrap().ends_with("_1999"));
        assert!((300..1_300).contains(&lines.len()), "{}", lines.len());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn test_history_symbolic_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let victim = folder.path().join("victim");
        fs::write(&victim, "theirs\n").unwrap();
        symlink(&victim, folder.path().join(FILE)).unwrap();
        let history = History::open(folder.path());

        history.append("stop");

        assert_eq!(history.lines(), [""; 0]);
        assert_eq!(fs::read_to_string(victim).unwrap(), "theirs\n");
    }
}
