//! Who can write a configuration file: it determines which programs run, so other users must not be able to.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The treatment of configuration files that other users can write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InsecureFiles {
    /// They are refused.
    #[default]
    Refuse,
    /// They are used.
    Allow,
}

/// Who else can write a configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum Insecurity {
    #[error("its group can write it (mode {mode:04o})")]
    GroupWrites { mode: u32 },
    #[error("every user can write it (mode {mode:04o})")]
    OthersWrite { mode: u32 },
    #[error("another user owns it (uid {uid})")]
    OtherOwner { uid: u32 },
    #[error("every user can replace it: its directory has mode {mode:04o} and is not sticky")]
    OpenDirectory { mode: u32 },
}

/// The owner and permissions of a file.
#[derive(Debug, Clone, Copy)]
struct Permissions {
    uid: u32,
    mode: u32,
}

impl From<&Metadata> for Permissions {
    fn from(found: &Metadata) -> Self {
        Self { uid: found.uid(), mode: found.mode() & 0o7777 }
    }
}

impl InsecureFiles {
    /// Returns why the file, opened as `path`, is refused, if it is.
    pub(crate) fn check(self, file: &File, path: &Path) -> io::Result<Option<Insecurity>> {
        let found = file.metadata()?;
        // A terminal belongs to a group that may write to it; /dev/null is writable by all.
        if self == Self::Allow || found.file_type().is_char_device() {
            return Ok(None);
        }
        // A pipe, such as `<(…)` of a shell, is in no directory.
        let folder = if found.is_file() { Some(Permissions::from(&folder_of(file, path)?.metadata()?)) } else { None };
        let user = rustix::process::geteuid().as_raw();
        Ok(insecurity(Permissions::from(&found), folder, user))
    }
}

/// Returns the directory of an opened file, with symbolic links resolved.
fn folder_of(file: &File, path: &Path) -> io::Result<PathBuf> {
    let opened = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let real = opened.or_else(|_| path.canonicalize())?;
    Ok(real.parent().unwrap_or(Path::new("/")).to_owned())
}

/// Returns why `user` must not use a file, if so.
///
/// A directory that its group can write is accepted: a umask of 002 makes all of them so, and usually the group has no
/// other members.
fn insecurity(file: Permissions, folder: Option<Permissions>, user: u32) -> Option<Insecurity> {
    const GROUP: u32 = 0o020;
    const OTHERS: u32 = 0o002;
    const STICKY: u32 = 0o1000;

    let is_open = |folder: &Permissions| folder.mode & OTHERS != 0 && folder.mode & STICKY == 0;
    let Permissions { uid, mode } = file;
    match folder {
        _ if uid != user && uid != 0 => Some(Insecurity::OtherOwner { uid }),
        _ if mode & OTHERS != 0 => Some(Insecurity::OthersWrite { mode }),
        _ if mode & GROUP != 0 => Some(Insecurity::GroupWrites { mode }),
        Some(folder) if is_open(&folder) => Some(Insecurity::OpenDirectory { mode: folder.mode }),
        Some(_) | None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: u32 = 1000;
    const PRIVATE: Permissions = Permissions { uid: USER, mode: 0o700 };

    #[track_caller]
    fn check(file: (u32, u32), folder: Permissions, expected: Option<Insecurity>) {
        let (uid, mode) = file;

        assert_eq!(insecurity(Permissions { uid, mode }, Some(folder), USER), expected);
    }

    #[test]
    fn test_insecurity_private_file_of_user_or_root_is_none() {
        for mode in [0o600, 0o644, 0o755, 0o444] {
            check((USER, mode), PRIVATE, None);
            check((0, mode), PRIVATE, None);
        }
    }

    #[test]
    fn test_insecurity_file_writable_by_others_is_refused() {
        check((USER, 0o664), PRIVATE, Some(Insecurity::GroupWrites { mode: 0o664 }));
        check((USER, 0o620), PRIVATE, Some(Insecurity::GroupWrites { mode: 0o620 }));
        check((0, 0o666), PRIVATE, Some(Insecurity::OthersWrite { mode: 0o666 }));
        check((USER, 0o602), PRIVATE, Some(Insecurity::OthersWrite { mode: 0o602 }));
    }

    #[test]
    fn test_insecurity_file_of_another_user_is_refused() {
        check((1001, 0o400), PRIVATE, Some(Insecurity::OtherOwner { uid: 1001 }));
    }

    #[test]
    fn test_insecurity_open_folder_is_refused_unless_sticky() {
        let folder = |mode| Permissions { uid: 0, mode };

        check((USER, 0o600), folder(0o777), Some(Insecurity::OpenDirectory { mode: 0o777 }));
        check((USER, 0o600), folder(0o1777), None);
        check((USER, 0o600), folder(0o775), None);
    }

    #[test]
    fn test_insecure_files_allowed_accepts_every_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::set_permissions(file.path(), std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        let opened = File::open(file.path()).unwrap();

        assert_eq!(InsecureFiles::Allow.check(&opened, file.path()).unwrap(), None);
        assert!(InsecureFiles::Refuse.check(&opened, file.path()).unwrap().is_some());
    }

    #[test]
    fn test_insecure_files_refused_accepts_device() {
        let device = File::open("/dev/null").unwrap();

        assert_eq!(InsecureFiles::Refuse.check(&device, Path::new("/dev/null")).unwrap(), None);
    }
}
