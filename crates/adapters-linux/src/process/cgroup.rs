//! Whether the cgroup of a process is frozen (cgroups(7); `cgroup-v2.rst` and `freezer-subsystem.rst` of the kernel).
//!
//! A frozen process shows as sleeping in `/proc`, so only its cgroup tells. A cgroup is frozen as well if one above it is,
//! and only that one can be thawed.

use std::path::{Path, PathBuf};

use maqet_domain::port::FrozenCgroup;

use super::proc_file;

/// One of the two versions of cgroups, mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    version: Version,
    /// The directory that is mounted, as `/proc/PID/cgroup` names it.
    root: String,
    mount: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    /// With the controller `freezer`.
    One,
    Two,
}

/// The mounted hierarchies that can freeze processes.
#[derive(Debug, Clone, Default)]
pub(super) struct Freezers(Vec<Hierarchy>);

impl Freezers {
    /// Finds the mounted hierarchies.
    pub(super) fn mounted() -> Self {
        Self::parse(&proc_file::read_text("/proc/self/mountinfo").unwrap_or_default())
    }

    /// Reads `/proc/self/mountinfo` (proc(5)); paths with spaces are not usual for cgroups.
    fn parse(mountinfo: &str) -> Self {
        let hierarchy = |line: &str| {
            let (mount, file_system) = line.split_once(" - ")?;
            let mut fields = mount.split(' ').skip(3);
            let (root, mount) = (fields.next()?.to_owned(), PathBuf::from(fields.next()?));
            let mut fields = file_system.split(' ');
            let version = match (fields.next()?, fields.nth(1).unwrap_or_default()) {
                ("cgroup2", _) => Version::Two,
                ("cgroup", options) if options.split(',').any(|option| option == "freezer") => Version::One,
                _ => return None,
            };
            Some(Hierarchy { version, root, mount })
        };
        Self(mountinfo.lines().filter_map(hierarchy).collect())
    }

    /// Returns the frozen cgroup of a process, if any.
    pub(super) fn frozen(&self, pid: u32) -> Option<FrozenCgroup> {
        if self.0.is_empty() {
            return None;
        }
        let cgroups = proc_file::read_text(format!("/proc/{pid}/cgroup")).ok()?;
        self.0.iter().find_map(|hierarchy| hierarchy.frozen(&cgroups))
    }
}

impl Hierarchy {
    fn frozen(&self, cgroups: &str) -> Option<FrozenCgroup> {
        let path = cgroups.lines().find_map(|line| self.path_in(line))?;
        let below = path.strip_prefix(self.root.trim_end_matches('/'))?.trim_start_matches('/');
        // The root cannot be frozen.
        if below.is_empty() {
            return None;
        }
        let own = self.mount.join(below);
        if !self.is_frozen(&own) {
            return None;
        }
        let frozen = own.ancestors().take_while(|folder| *folder != self.mount).find(|folder| self.is_set(folder));
        let folder = frozen.unwrap_or(&own);
        let (control, thawed) = match self.version {
            Version::One => ("freezer.state", "THAWED"),
            Version::Two => ("cgroup.freeze", "0"),
        };
        Some(FrozenCgroup { control: folder.join(control), thawed })
    }

    /// Returns the path in a line of `/proc/PID/cgroup`, as in `0::/user.slice`, if it is of this hierarchy.
    fn path_in<'l>(&self, line: &'l str) -> Option<&'l str> {
        let mut fields = line.splitn(3, ':');
        let (id, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let is_own = match self.version {
            Version::One => controllers.split(',').any(|controller| controller == "freezer"),
            Version::Two => id == "0" && controllers.is_empty(),
        };
        is_own.then_some(path)
    }

    /// Returns whether a cgroup or one of its ancestors is frozen.
    fn is_frozen(&self, folder: &Path) -> bool {
        match self.version {
            Version::One => ["FREEZING", "FROZEN"].contains(&read(&folder.join("freezer.state")).trim()),
            Version::Two => read(&folder.join("cgroup.events")).lines().any(|line| line == "frozen 1"),
        }
    }

    /// Returns whether a cgroup was frozen itself.
    fn is_set(&self, folder: &Path) -> bool {
        let file = match self.version {
            Version::One => "freezer.self_freezing",
            Version::Two => "cgroup.freeze",
        };
        read(&folder.join(file)).trim() == "1"
    }
}

/// Reads a small file; nothing if it cannot be read.
fn read(path: &Path) -> String {
    proc_file::read_text(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const MOUNTINFO: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime shared:9 - cgroup cgroup rw,freezer
38 31 0:35 / /sys/fs/cgroup/blkio rw,relatime - cgroup cgroup rw,blkio
41 31 0:38 /a /mnt/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn test_freezers_are_read_from_mountinfo() {
        let freezers = Freezers::parse(MOUNTINFO).0;

        let found: Vec<_> = freezers.iter().map(|one| (one.version, one.root.as_str(), one.mount.to_str())).collect();
        let expected =
            [(Version::One, "/", Some("/sys/fs/cgroup/freezer")), (Version::Two, "/a", Some("/mnt/unified"))];
        assert_eq!(found, expected);
    }

    #[test]
    fn test_path_in_is_that_of_the_hierarchy() {
        let freezers = Freezers::parse(MOUNTINFO).0;
        let lines = ["6:freezer:/one", "0::/a/two", "5:devices:/"];

        let paths = |index: usize| lines.map(|line| freezers[index].path_in(line));

        assert_eq!(paths(0), [Some("/one"), None, None]);
        assert_eq!(paths(1), [None, Some("/a/two"), None]);
    }

    #[test]
    fn test_frozen_names_the_cgroup_above_that_was_frozen() {
        let mount = tempfile::tempdir().unwrap();
        let (above, own) = (mount.path().join("above"), mount.path().join("above/own"));
        fs::create_dir_all(&own).unwrap();
        let hierarchy = Hierarchy { version: Version::Two, root: "/".to_owned(), mount: mount.path().to_owned() };
        let frozen = || hierarchy.frozen("0::/above/own\n");

        fs::write(own.join("cgroup.events"), "populated 1\nfrozen 0\n").unwrap();
        assert_eq!(frozen(), None);
        fs::write(own.join("cgroup.events"), "populated 1\nfrozen 1\n").unwrap();
        fs::write(own.join("cgroup.freeze"), "0\n").unwrap();
        fs::write(above.join("cgroup.freeze"), "1\n").unwrap();

        assert_eq!(frozen(), Some(FrozenCgroup { control: above.join("cgroup.freeze"), thawed: "0" }));
    }
}
