//! Who may have written a configuration: it decides what runs here, so not everybody.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Whose files are taken for configurations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Writers {
    /// Those that nobody but this user and root can write.
    #[default]
    OwnerAlone,
    /// Anybody's.
    Anybody,
}

/// Who else can write a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Insecurity {
    /// Its group.
    #[error("its group can write it (mode {mode:04o})")]
    GroupWrites {
        /// Its permissions.
        mode: u32,
    },
    /// Everybody.
    #[error("everybody can write it (mode {mode:04o})")]
    EverybodyWrites {
        /// Its permissions.
        mode: u32,
    },
    /// Another user than this one and root.
    #[error("it belongs to another user (uid {uid})")]
    OtherOwner {
        /// The user.
        uid: u32,
    },
    /// Everybody can put another file in its place.
    #[error("everybody can put another file in its place, as its folder has mode {mode:04o} and is not sticky")]
    OpenFolder {
        /// The permissions of its folder.
        mode: u32,
    },
}

impl Insecurity {
    /// Returns what would make `file`, as a shell is given it, safe.
    pub(crate) fn remedy(self, file: &str) -> String {
        match self {
            Self::GroupWrites { .. } | Self::EverybodyWrites { .. } => {
                format!("if the file is as you want it: `chmod go-w {file}`")
            }
            Self::OtherOwner { .. } => "read it, and use a copy that is yours".to_owned(),
            Self::OpenFolder { .. } => "keep it in a folder of your own".to_owned(),
        }
    }
}

/// What decides about a file.
#[derive(Debug, Clone, Copy)]
struct Facts {
    uid: u32,
    mode: u32,
}

impl From<&Metadata> for Facts {
    fn from(found: &Metadata) -> Self {
        Self { uid: found.uid(), mode: found.mode() & 0o7777 }
    }
}

impl Writers {
    /// Returns why the file, opened as `path`, is refused, if it is.
    pub(crate) fn refused(self, file: &File, path: &Path) -> io::Result<Option<Insecurity>> {
        let found = file.metadata()?;
        // A terminal belongs to a group that may write to it, and the nearest device to a file is /dev/null.
        if self == Self::Anybody || found.file_type().is_char_device() {
            return Ok(None);
        }
        // A pipe, as `<(…)` of a shell makes it, is in no folder.
        let folder = if found.is_file() { Some(Facts::from(&folder_of(file, path)?.metadata()?)) } else { None };
        let user = rustix::process::geteuid().as_raw();
        Ok(refusal(Facts::from(&found), folder, user))
    }
}

/// Returns the folder an opened file is in, behind all links.
fn folder_of(file: &File, path: &Path) -> io::Result<PathBuf> {
    let opened = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let real = opened.or_else(|_| path.canonicalize())?;
    Ok(real.parent().unwrap_or(Path::new("/")).to_owned())
}

/// Decides about a file that `user` is about to use.
///
/// A folder its group can write is none of the reasons: with a umask of 002 all are so, and the group of a user of
/// one's own has nobody else in it; whom else it holds cannot be known.
fn refusal(file: Facts, folder: Option<Facts>, user: u32) -> Option<Insecurity> {
    const GROUP: u32 = 0o020;
    const EVERYBODY: u32 = 0o002;
    const STICKY: u32 = 0o1000;

    if file.uid != user && file.uid != 0 {
        return Some(Insecurity::OtherOwner { uid: file.uid });
    }
    if file.mode & EVERYBODY != 0 {
        return Some(Insecurity::EverybodyWrites { mode: file.mode });
    }
    if file.mode & GROUP != 0 {
        return Some(Insecurity::GroupWrites { mode: file.mode });
    }
    let is_open = |folder: &Facts| folder.mode & EVERYBODY != 0 && folder.mode & STICKY == 0;
    folder.filter(is_open).map(|folder| Insecurity::OpenFolder { mode: folder.mode })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: u32 = 1000;
    const PRIVATE: Facts = Facts { uid: ME, mode: 0o700 };

    #[track_caller]
    fn check(file: (u32, u32), folder: Facts, expected: Option<Insecurity>) {
        let (uid, mode) = file;

        assert_eq!(refusal(Facts { uid, mode }, Some(folder), ME), expected);
    }

    #[test]
    fn test_refusal_file_of_the_user_or_root_that_they_alone_write_is_taken() {
        for mode in [0o600, 0o644, 0o755, 0o444] {
            check((ME, mode), PRIVATE, None);
            check((0, mode), PRIVATE, None);
        }
    }

    #[test]
    fn test_refusal_file_that_others_write_is_refused() {
        check((ME, 0o664), PRIVATE, Some(Insecurity::GroupWrites { mode: 0o664 }));
        check((ME, 0o620), PRIVATE, Some(Insecurity::GroupWrites { mode: 0o620 }));
        check((0, 0o666), PRIVATE, Some(Insecurity::EverybodyWrites { mode: 0o666 }));
        check((ME, 0o602), PRIVATE, Some(Insecurity::EverybodyWrites { mode: 0o602 }));
    }

    #[test]
    fn test_refusal_file_of_another_user_is_refused_even_if_it_is_read_only() {
        check((1001, 0o400), PRIVATE, Some(Insecurity::OtherOwner { uid: 1001 }));
    }

    #[test]
    fn test_refusal_folder_for_everybody_is_refused_unless_it_is_sticky() {
        let folder = |mode| Facts { uid: 0, mode };

        check((ME, 0o600), folder(0o777), Some(Insecurity::OpenFolder { mode: 0o777 }));
        check((ME, 0o600), folder(0o1777), None);
        check((ME, 0o600), folder(0o775), None);
    }

    #[test]
    fn test_writers_anybody_takes_every_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::set_permissions(file.path(), std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        let opened = File::open(file.path()).unwrap();

        assert_eq!(Writers::Anybody.refused(&opened, file.path()).unwrap(), None);
        assert!(Writers::OwnerAlone.refused(&opened, file.path()).unwrap().is_some());
    }

    #[test]
    fn test_writers_device_is_taken() {
        let device = File::open("/dev/null").unwrap();

        assert_eq!(Writers::OwnerAlone.refused(&device, Path::new("/dev/null")).unwrap(), None);
    }
}
