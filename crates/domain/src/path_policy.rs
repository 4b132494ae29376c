//! Folders of the host that no guest may be given.

use std::path::{Component, Path};

/// What somebody wants with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// To share a folder with a guest.
    Share,
    /// To make a disk image.
    Disk,
    /// To let a guest read a file.
    Read,
}

/// Folders that belong to the system, with all below them.
const SYSTEM: [&str; 8] = ["etc", "proc", "sys", "dev", "boot", "usr", "bin", "sbin"];

/// Folders of secrets, wherever they are.
const SECRET: [&str; 2] = [".ssh", ".gnupg"];

/// Returns why `path` may not be used so, or nothing if it may.
///
/// The path must be absolute and resolved: this looks at names only. Case does not matter, because some file systems
/// do not mind it either.
///
/// ```
/// use std::path::Path;
/// use maqet_domain::path_policy::{Purpose, refusal};
///
/// assert!(refusal(Path::new("/etc"), Purpose::Share).is_some());
/// assert!(refusal(Path::new("/home/me/src"), Purpose::Share).is_none());
/// ```
pub fn refusal(path: &Path, purpose: Purpose) -> Option<String> {
    let parts: Vec<String> = path
        .components()
        .filter_map(|component| match component {
            Component::Normal(part) => Some(part.to_string_lossy().to_lowercase()),
            Component::RootDir | Component::CurDir | Component::ParentDir | Component::Prefix(_) => None,
        })
        .collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();

    if let Some(secret) = parts.iter().find(|part| SECRET.contains(part)) {
        return Some(format!("`{secret}` holds secrets"));
    }
    if purpose == Purpose::Read {
        return None;
    }
    match parts.as_slice() {
        [] => Some("it is the whole file system".to_owned()),
        ["dev", "shm", _, ..] | ["var", "lib", "maqet", ..] => None,
        [first, ..] if SYSTEM.contains(first) || first.starts_with("lib") => {
            Some(format!("`/{first}` belongs to the system"))
        }
        ["var"] => Some("`/var` as a whole belongs to the system".to_owned()),
        ["var", ..] if purpose == Purpose::Disk => {
            Some("`/var` belongs to the system, but for `/var/lib/maqet`".to_owned())
        }
        [_, ..] => None,
    }
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
    fn test_refusal_folders_of_the_system_are_refused_with_all_below() {
        for path in ["/", "/etc", "/etc/x", "/proc/1", "/sys", "/dev", "/dev/sda", "/boot", "/usr", "/bin", "/sbin"] {
            check(path, false, false);
        }
        for path in ["/lib", "/lib64", "/libx32/x", "/ETC", "/Usr/Local", "/dev/shm"] {
            check(path, false, false);
        }
    }

    #[test]
    fn test_refusal_secrets_are_refused_wherever_they_are() {
        for path in ["/home/me/.ssh", "/root/.gnupg/x", "/srv/a/.SSH"] {
            check(path, false, false);
        }
    }

    #[test]
    fn test_refusal_reading_is_fine_but_for_secrets() {
        assert_eq!(refusal(Path::new("/usr/share/drivers.iso"), Purpose::Read), None);
        assert!(refusal(Path::new("/root/.ssh/id_ed25519"), Purpose::Read).is_some());
    }

    #[test]
    fn test_refusal_folders_of_people_are_fine() {
        for path in ["/home/me/src", "/srv/vms", "/tmp/x", "/dev/shm/x", "/var/lib/maqet/x", "/root/vms"] {
            check(path, true, true);
        }
    }

    #[test]
    fn test_refusal_below_var_may_be_shared_and_holds_no_disks() {
        check("/var", false, false);
        check("/var/www", true, false);
    }
}
