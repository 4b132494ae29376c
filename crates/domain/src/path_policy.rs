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
const SYSTEM: [&str; 14] =
    ["etc", "proc", "sys", "dev", "boot", "usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "libexec", "ostree"];

/// What the programs in `/usr/local` use; the rest is the administrator's, such as `/usr/local/vms`.
const SYSTEM_IN_USR_LOCAL: [&str; 12] =
    ["bin", "etc", "games", "include", "lib", "lib32", "lib64", "libexec", "libx32", "man", "sbin", "share"];

/// What the system keeps in `/run`; the rest belongs to services and users, such as `/run/media` and `/run/user`.
const SYSTEM_IN_RUN: [&str; 10] =
    ["credentials", "dbus", "initramfs", "lock", "log", "mount", "networkmanager", "sudo", "systemd", "udev"];

/// What the system keeps in `/var`; distributions have data of users in the rest, such as `/var/home`.
const SYSTEM_IN_VAR: [&str; 5] = ["cache", "db", "log", "mail", "spool"];

/// What the system keeps in `/var/lib`; the rest belongs to services, such as `/var/lib/libvirt`.
const SYSTEM_IN_VAR_LIB: [&str; 14] = [
    "alternatives", "apt", "dbus", "dnf", "dpkg", "initramfs-tools", "networkmanager", "pacman", "pam", "polkit-1",
    "rpm", "selinux", "sudo", "systemd",
];

/// Directories with secrets, at any depth.
const SECRET: [&str; 2] = [".ssh", ".gnupg"];

/// Returns why `path` may not be used for `purpose`, or `None` if it may.
///
/// The path must be absolute and resolved: only names are checked, and whole ones. Case is ignored, as some file systems
/// do. `/var/run` and `/var/lock` are links of the host to `/run` and `/run/lock`, and get the same answer.
///
/// ```
/// use std::path::Path;
/// use maqet_domain::path_policy::{Purpose, refusal};
///
/// assert!(refusal(Path::new("/etc"), Purpose::Share).is_some());
/// assert!(refusal(Path::new("/home/me/src"), Purpose::Share).is_none());
/// ```
pub fn refusal(path: &Path, purpose: Purpose) -> Option<String> {
    let written = components(path);
    let parts: Vec<Cow<'_, str>> = written.iter().map(|part| lowercase(part)).collect();
    let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();

    if let Some(reason) = secret(&written, &parts) {
        return Some(reason);
    }
    if purpose == Purpose::Read {
        return None;
    }
    // As it is written: on most file systems, another case is another directory.
    let system = |depth: usize| Some(format!("`/{}` is a system directory", written[..depth].join("/")));
    let is_disk = purpose == Purpose::Disk;
    match parts.as_slice() {
        [] => Some("it is the root of the file system".to_owned()),
        ["dev", "shm", _, ..] => None,
        ["usr", "local", name, ..] => SYSTEM_IN_USR_LOCAL.contains(name).then(|| system(3)).flatten(),
        [first, ..] if SYSTEM.contains(first) => system(1),
        ["var" | "run"] => system(1),
        ["var", "run"] => system(2),
        ["run", name, ..] if is_disk && SYSTEM_IN_RUN.contains(name) => system(2),
        ["var", "run", name, ..] if is_disk && SYSTEM_IN_RUN.contains(name) => system(3),
        ["var", "lock", ..] | ["var", "lib"] if is_disk => system(2),
        ["var", "lib", name, ..] if is_disk && SYSTEM_IN_VAR_LIB.contains(name) => system(3),
        ["var", name, ..] if is_disk && SYSTEM_IN_VAR.contains(name) => system(2),
        [_, ..] => None,
    }
}

/// Returns why a path may not be used, whatever it leads to: a link among secrets, or what is another file for each
/// process, as below `/proc/self`.
///
/// Where another path of the host's leads decides alone: on some hosts, `/usr/local` is a link to `/var/usrlocal`.
pub fn refusal_as_written(path: &Path, purpose: Purpose) -> Option<String> {
    const OF_THE_PROCESS: [&str; 2] = ["proc", "dev"];
    let written = components(path);
    let parts: Vec<Cow<'_, str>> = written.iter().map(|part| lowercase(part)).collect();
    let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
    secret(&written, &parts).or_else(|| match parts.as_slice() {
        [..] if purpose == Purpose::Read => None,
        ["dev", "shm", _, ..] => None,
        [first, ..] if OF_THE_PROCESS.contains(first) => Some(format!("`/{}` is a system directory", written[0])),
        [..] => None,
    })
}

fn secret(written: &[Cow<'_, str>], parts: &[&str]) -> Option<String> {
    let at = parts.iter().position(|part| SECRET.contains(part))?;
    Some(format!("`{}` contains secrets", written[at]))
}

fn components(path: &Path) -> Vec<Cow<'_, str>> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(part) => Some(part.to_string_lossy()),
        Component::RootDir | Component::CurDir | Component::ParentDir | Component::Prefix(_) => None,
    });
    names.collect()
}

fn lowercase(text: &str) -> Cow<'_, str> {
    let is_lowercase = text.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase());
    if is_lowercase { Cow::Borrowed(text) } else { Cow::Owned(text.to_lowercase()) }
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
    fn test_refusal_names_the_path_as_written() {
        let reason = |path| refusal(Path::new(path), Purpose::Disk).unwrap();

        assert_eq!(reason("/Usr/Share/x"), "`/Usr` is a system directory");
        assert_eq!(reason("/Usr/Local/Bin/x"), "`/Usr/Local/Bin` is a system directory");
        assert_eq!(reason("/var/Lib/DPKG/x"), "`/var/Lib/DPKG` is a system directory");
        assert_eq!(reason("/home/Me/.SSH/x"), "`.SSH` contains secrets");
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

    /// `/lib` is a part of the first ones, and of none a component.
    #[test]
    fn test_refusal_matches_whole_components() {
        for path in
            ["/library/x", "/libvirt/a.qcow2", "/lib64-images/x", "/etcetera", "/devel/x", "/bootstrap", "/users/x"]
        {
            check(path, true, true);
        }
        for path in ["/lib/x", "/lib32", "/lib64/a/b", "/libx32", "/LIB/x"] {
            check(path, false, false);
        }
    }

    /// Fedora Silverblue has `/home` in `/var`, Debian the pool of libvirt, Proxmox its images.
    #[test]
    fn test_refusal_var_holds_disks_where_distributions_put_data() {
        for path in [
            "/var/home/me/vms/a.qcow2",
            "/var/tmp/a.raw",
            "/var/lib/libvirt/images/a.qcow2",
            "/var/lib/vz/images/a.raw",
            "/var/roothome/a.raw",
            "/var/srv/a.raw",
            "/var/mnt/big/a.raw",
            "/var/opt/a.raw",
            "/var/www/a.raw",
            "/var/lib/machines/a.raw",
            "/var/vm/a.raw",
        ] {
            check(path, true, true);
        }
    }

    #[test]
    fn test_refusal_var_of_the_system_may_be_shared_but_not_hold_disks() {
        check("/var", false, false);
        for path in ["/var/log/a.raw", "/var/cache/a.raw", "/var/spool/x", "/var/lib/dpkg/x", "/var/lib/systemd/x"] {
            check(path, true, false);
        }
        check("/var/lib", true, false);
        assert_eq!(
            refusal(Path::new("/var/lib/NetworkManager/x"), Purpose::Disk).as_deref(),
            Some("`/var/lib/NetworkManager` is a system directory")
        );
    }
    #[test]
    fn test_refusal_usr_local_of_the_administrator_is_allowed() {
        for path in ["/usr/local/vms/x.qcow2", "/usr/local/src/maqet", "/usr/local/binaries/x"] {
            check(path, true, true);
        }
        for path in ["/usr/local", "/usr/local/bin/x", "/usr/local/lib64", "/usr/local/share/x", "/usr/localvms/x"] {
            check(path, false, false);
        }
    }

    #[test]
    fn test_refusal_run_is_the_same_by_either_path() {
        for (path, share, disk) in [
            ("", false, false),
            ("/x", true, true),
            ("/media/me/usb/a.qcow2", true, true),
            ("/user/1000/a.raw", true, true),
            ("/systemd/x", true, false),
            ("/lock/x", true, false),
            ("/NetworkManager/x", true, false),
        ] {
            check(&format!("/run{path}"), share, disk);
            check(&format!("/var/run{path}"), share, disk);
        }
        check("/var/lock/x", true, false);
        check("/runs/x", true, true);
    }

    #[test]
    fn test_refusal_as_written_is_for_secrets_and_files_of_the_process() {
        let is_refused = |path| refusal_as_written(Path::new(path), Purpose::Disk).is_some();

        for path in ["/home/me/.ssh/vms", "/proc/self/cwd/a", "/dev/fd/3", "/Proc/1/root/a"] {
            assert!(is_refused(path), "{path}");
        }
        for path in ["/usr/local/x", "/var/run/x", "/etc/vms/a", "/dev/shm/x", "/process/a"] {
            assert!(!is_refused(path), "{path}");
        }
        let reason = refusal_as_written(Path::new("/Proc/1/root/a"), Purpose::Share);
        assert_eq!(reason.as_deref(), Some("`/Proc` is a system directory"));
        assert_eq!(refusal_as_written(Path::new("/dev/sr0"), Purpose::Read), None);
        assert!(refusal_as_written(Path::new("/home/me/.ssh/id"), Purpose::Read).is_some());
    }
}
