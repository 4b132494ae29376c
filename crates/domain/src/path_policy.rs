//! Directories of the host that are not shared with guests.

use std::borrow::Cow;
use std::path::{Component, Path};

/// The intended use of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Sharing a directory with a guest.
    Share,
    /// Creating a disk image.
    Disk,
    /// Letting a guest read a file.
    Read,
}

/// System directories, including everything below.
const SYSTEM: [&str; 8] = ["etc", "proc", "sys", "dev", "boot", "usr", "bin", "sbin"];

/// Directories with secrets, at any depth.
const SECRET: [&str; 2] = [".ssh", ".gnupg"];

/// Returns why `path` may not be used for `purpose`, or `None` if it may.
///
/// The path must be absolute and resolved: only names are checked. Case is ignored, as some file systems do.
///
/// ```
/// use std::path::Path;
/// use maqet_domain::path_policy::{Purpose, refusal};
///
/// assert!(refusal(Path::new("/etc"), Purpose::Share).is_some());
/// assert!(refusal(Path::new("/home/me/src"), Purpose::Share).is_none());
/// ```
pub fn refusal(path: &Path, purpose: Purpose) -> Option<String> {
    let parts: Vec<Cow<'_, str>> = path
        .components()
        .filter_map(|component| match component {
            Component::Normal(part) => Some(lowercase(part.to_string_lossy())),
            Component::RootDir | Component::CurDir | Component::ParentDir | Component::Prefix(_) => None,
        })
        .collect();
    let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();

    if let Some(secret) = parts.iter().find(|part| SECRET.contains(part)) {
        return Some(format!("`{secret}` contains secrets"));
    }
    if purpose == Purpose::Read {
        return None;
    }
    match parts.as_slice() {
        [] => Some("it is the root of the file system".to_owned()),
        ["dev", "shm", _, ..] | ["var", "lib", "maqet", ..] => None,
        [first, ..] if SYSTEM.contains(first) || first.starts_with("lib") => {
            Some(format!("`/{first}` is a system directory"))
        }
        ["var"] => Some("`/var` is a system directory".to_owned()),
        ["var", ..] if purpose == Purpose::Disk => {
            Some("`/var` is a system directory, except for `/var/lib/maqet`".to_owned())
        }
        [_, ..] => None,
    }
}

fn lowercase(text: Cow<'_, str>) -> Cow<'_, str> {
    let is_lowercase = text.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase());
    if is_lowercase { text } else { Cow::Owned(text.to_lowercase()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, share: bool, disk: bool) {
        assert_eq!(refusal(Path::new(path), Purpose::Share).is_none(), share, "share {path}");
        assert_eq!(refusal(Path::new(path), Purpose::Disk).is_none(), disk, "disk {path}");
    }

    #[test]
    fn test_refusal_system_folders_are_refused() {
        for path in ["/", "/etc", "/etc/x", "/proc/1", "/sys", "/dev", "/dev/sda", "/boot", "/usr", "/bin", "/sbin"] {
            check(path, false, false);
        }
        for path in ["/lib", "/lib64", "/libx32/x", "/ETC", "/Usr/Local", "/dev/shm"] {
            check(path, false, false);
        }
    }

    #[test]
    fn test_refusal_secrets_are_refused_at_any_depth() {
        for path in ["/home/me/.ssh", "/root/.gnupg/x", "/srv/a/.SSH"] {
            check(path, false, false);
        }
    }

    #[test]
    fn test_refusal_reading_is_refused_for_secrets_only() {
        assert_eq!(refusal(Path::new("/usr/share/drivers.iso"), Purpose::Read), None);
        assert!(refusal(Path::new("/root/.ssh/id_ed25519"), Purpose::Read).is_some());
    }

    #[test]
    fn test_refusal_other_folders_are_allowed() {
        for path in ["/home/me/src", "/srv/vms", "/tmp/x", "/dev/shm/x", "/var/lib/maqet/x", "/root/vms"] {
            check(path, true, true);
        }
    }

    #[test]
    fn test_refusal_var_may_be_shared_but_not_hold_disks() {
        check("/var", false, false);
        check("/var/www", true, false);
    }
}
