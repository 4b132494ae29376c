//! Checks of the host: KVM, tools, limits, maqet's directories and their free space.

use std::path::Path;

use maqet_domain::error::Explain;
use maqet_domain::port::{ClosedPath, DirectoryFacts, DirectoryState, FirmwareRequest, SecureBoot, Space};
use maqet_domain::text::quote;
use maqet_domain::vm::{BootNumber, RunPaths, VmId};

use super::{Area, Finding, Severity};
use crate::app::ports::{Directories, Ports};
use crate::app::shown;
use crate::limits;

/// The directory of the locks, in the data directory.
const LOCKS: &str = "locks";

/// How deep the records of runs are in the state directory: `ID/boot-NUMBER/FILE`.
const RECORDS_DEPTH: usize = 3;

/// Checks the host.
pub(crate) struct HostCheck<'a> {
    pub(crate) ports: &'a Ports,
    pub(crate) folders: &'a Directories,
    /// Whether to fix the permissions of folders.
    pub(crate) fix: bool,
}

impl HostCheck<'_> {
    /// Runs all checks.
    pub(crate) async fn findings(&self) -> Vec<Finding> {
        let mut findings = vec![
            self.kvm(),
            self.qemu().await,
            self.qemu_img().await,
            self.firmware().await,
            self.open_files(),
            self.socket_paths(),
        ];
        let data = self.folders.storage.parent().unwrap_or(&self.folders.storage);
        let folders = [
            ("data directory", data),
            ("state directory", &self.folders.state),
            ("runtime directory", &self.folders.runtime),
            ("cache directory", &self.folders.cache),
        ];
        let mut visible = Vec::new();
        for (name, folder) in folders {
            let state = self.ports.maintenance.probe.directory(folder).await;
            if !matches!(state, DirectoryState::Hidden { .. }) {
                visible.push((name, folder));
            }
            findings.push(self.folder(name, folder, state).await);
            findings.extend(self.closed_directories(name, folder).await);
        }
        for folder in [data.to_owned(), data.join(LOCKS)] {
            findings.extend(self.closed_files("data directory", &folder, 1).await);
        }
        findings.extend(self.closed_files("state directory", &self.folders.state, RECORDS_DEPTH).await);
        for (name, folder) in visible {
            if let Some(space) = self.ports.maintenance.probe.space(folder).await {
                findings.push(check_space(name, folder, space));
            }
        }
        findings
    }

    fn kvm(&self) -> Finding {
        match self.ports.host.facts().kvm.obstacle() {
            None => finding(Severity::Ok, "KVM", "available"),
            Some(why) => finding(Severity::Note, "KVM", format!("{why}; VMs use TCG, which is much slower"))
                .hint("enable virtualization in the firmware or in the outer VM, and add yourself to the group `kvm`"),
        }
    }

    async fn qemu(&self) -> Finding {
        let name = format!("qemu-system-{}", self.ports.host.facts().architecture);
        match self.ports.hypervisor.binary(&name).await {
            Ok(binary) => {
                finding(Severity::Ok, &name, format!("version {} at `{}`", binary.version, shown(&binary.path)))
            }
            Err(error) => from_error(Severity::Problem, &name, &error),
        }
    }

    async fn qemu_img(&self) -> Finding {
        match self.ports.images.tool_version().await {
            Ok(version) => finding(Severity::Ok, "qemu-img", version.trim_start_matches("qemu-img ")),
            Err(error) => from_error(Severity::Problem, "qemu-img", &error),
        }
    }

    async fn firmware(&self) -> Finding {
        let architecture = self.ports.host.facts().architecture;
        let machine = if matches!(architecture.as_str(), "x86_64" | "i386") { "q35" } else { "virt" };
        let machine = machine.to_owned();
        let request = FirmwareRequest { architecture, machine, secure_boot: SecureBoot::Off };
        match self.ports.firmware.uefi(&request).await {
            Ok(firmware) => finding(Severity::Ok, "UEFI firmware", format!("`{}`", shown(&firmware.code))),
            Err(error) => from_error(Severity::Note, "UEFI firmware", &error),
        }
    }

    fn open_files(&self) -> Finding {
        let limit = self.ports.maintenance.probe.open_files();
        let required = limits::MIN_OPEN_FILES;
        if limit >= required {
            return finding(Severity::Ok, "open files", format!("up to {limit} per process"));
        }
        finding(Severity::Warning, "open files", format!("up to {limit} per process; {required} are required"))
            .hint("raise the limit with `ulimit -n` or in limits.conf(5)")
    }

    /// Compares the longest path of a socket with the limit of the kernel.
    fn socket_paths(&self) -> Finding {
        let vm = self.folders.runtime.join("0".repeat(VmId::SHORT_LEN));
        let longest = RunPaths::new(&vm, Path::new("/"), BootNumber(limits::MAX_BOOT)).longest_socket();
        let (length, max) = (longest.as_os_str().len(), RunPaths::SOCKET_PATH_MAX);
        let message = format!("paths have up to {length} bytes; the limit is {max}");
        if length <= max {
            return finding(Severity::Ok, "sockets", message);
        }
        finding(Severity::Problem, "sockets", message).hint("pass a shorter path with `--runtime-dir`")
    }

    async fn folder(&self, name: &str, folder: &Path, state: DirectoryState) -> Finding {
        let facts = match state {
            DirectoryState::Found(facts) => facts,
            other => return check_absent(name, folder, &other),
        };
        let finding = check_folder(name, folder, &facts);
        self.fix_mode(finding, folder).await
    }

    /// Returns the findings about directories in one of maqet's that this user cannot use.
    async fn closed_directories(&self, name: &str, folder: &Path) -> Vec<Finding> {
        let mut findings = Vec::new();
        let closed = self.ports.maintenance.probe.closed_directories(folder).await;
        for closed in closed.iter().take(limits::MAX_CLOSED_DIRECTORIES) {
            findings.push(self.fix_mode(check_closed(name, closed), &closed.path).await);
        }
        if let Some(rest @ 1..) = closed.len().checked_sub(limits::MAX_CLOSED_DIRECTORIES) {
            let message = format!("{rest} more directories in `{}` cannot be used", shown(folder));
            findings.push(finding(Severity::Problem, name, message).hint("run `maqet doctor` again"));
        }
        findings
    }

    /// Returns the findings about files in one of maqet's directories, such as locks, that this user cannot use.
    async fn closed_files(&self, name: &str, folder: &Path, depth: usize) -> Vec<Finding> {
        let closed = self.ports.maintenance.probe.closed_files(folder, depth).await;
        let mut findings: Vec<Finding> =
            closed.iter().take(limits::MAX_CLOSED_DIRECTORIES).map(|file| check_closed_file(name, file)).collect();
        if let Some(rest @ 1..) = closed.len().checked_sub(limits::MAX_CLOSED_DIRECTORIES) {
            let message = format!("{rest} more files in `{}` cannot be used", shown(folder));
            findings.push(finding(Severity::Problem, name, message).hint("run `maqet doctor` again"));
        }
        findings
    }

    /// Makes the directory of a finding private, if it is to be fixed.
    async fn fix_mode(&self, finding: Finding, folder: &Path) -> Finding {
        if !(self.fix && finding.fixable) {
            return finding;
        }
        match self.ports.maintenance.probe.close_directory(folder).await {
            Ok(()) => finding.fixed("set its mode to 0700"),
            Err(error) => finding.fix_failed(error.as_ref()),
        }
    }
}

/// Checks a directory that does not exist, or that cannot be seen.
fn check_absent(name: &str, folder: &Path, state: &DirectoryState) -> Finding {
    let path = shown(folder);
    let (what, parent, reason) = match state {
        DirectoryState::Found(_) | DirectoryState::Missing => {
            return finding(Severity::Ok, name, format!("`{path}` does not exist yet"));
        }
        DirectoryState::NotCreatable { parent, reason } => ("does not exist, and cannot be created in", parent, reason),
        DirectoryState::Hidden { parent, reason } => ("cannot be examined: cannot enter", parent, reason),
    };
    let parent = shown(parent);
    finding(Severity::Problem, name, format!("`{path}` {what} `{parent}`: {reason}"))
        .hint(format!("correct the owner and the mode of `{parent}`, or choose another {name}"))
}

/// Returns the finding of a directory of maqet that this user cannot use.
fn check_closed(name: &str, closed: &ClosedPath) -> Finding {
    let path = shown(&closed.path);
    if !closed.is_ours {
        let message = format!("`{path}` belongs to user {}: maqet cannot use it", closed.owner);
        return finding(Severity::Problem, name, message).hint("change its owner, as after a use of `sudo`");
    }
    finding(Severity::Problem, name, format!("`{path}` has mode {:04o}: maqet cannot use it", closed.mode))
        .hint(format!("run `chmod 0700 {}`", quote(&path)))
        .fixable()
}

/// Returns the finding of a file in a directory of maqet that this user cannot use.
fn check_closed_file(name: &str, closed: &ClosedPath) -> Finding {
    let path = shown(&closed.path);
    let quoted = quote(&path);
    let (reason, command) = if closed.is_ours {
        (format!("has mode {:04o}", closed.mode), format!("run `chmod u+rw {quoted}`"))
    } else {
        let command = format!("change its owner, as after a use of `sudo`: `sudo chown $(id -u) {quoted}`");
        (format!("belongs to user {}", closed.owner), command)
    };
    finding(Severity::Problem, name, format!("`{path}` {reason}: maqet cannot use it")).hint(command)
}

fn check_folder(name: &str, folder: &Path, facts: &DirectoryFacts) -> Finding {
    let shown = shown(folder);
    let problem = |message: String| finding(Severity::Problem, name, message);
    if !facts.is_directory {
        return problem(format!("`{shown}` is not a directory")).hint("move it away, or choose another directory");
    }
    if !facts.is_ours {
        return problem(format!("`{shown}` belongs to user {}", facts.owner))
            .hint("change its owner, or choose another directory");
    }
    if facts.mode & 0o700 != 0o700 {
        return problem(format!("`{shown}` has mode {:04o}: maqet cannot use it", facts.mode))
            .hint(format!("run `chmod 0700 {}`", quote(&shown)))
            .fixable();
    }
    if !facts.is_writable {
        return problem(format!("`{shown}` is on a read-only file system"))
            .hint("mount it read-write, or choose another directory");
    }
    if facts.mode & 0o077 != 0 {
        return finding(
            Severity::Warning,
            name,
            format!("`{shown}` has mode {:04o}: other users can read it", facts.mode),
        )
        .hint(format!("run `chmod 0700 {}`", quote(&shown)))
        .fixable();
    }
    finding(Severity::Ok, name, format!("`{shown}` is private"))
}

fn check_space(name: &str, folder: &Path, space: Space) -> Finding {
    let free = format_bytes(space.free_bytes);
    let message = format!("{free} of {} at `{}`", format_bytes(space.bytes), shown(folder));
    let subject = format!("free space of the {name}");
    let is_low_on_files = space.free_files.is_some_and(|files| files < limits::LOW_FREE_FILES);
    let finding = match space.free_bytes {
        free if free < limits::MIN_FREE_BYTES => finding(Severity::Problem, &subject, message),
        free if free < limits::LOW_FREE_BYTES => finding(Severity::Warning, &subject, message),
        _ if is_low_on_files => finding(Severity::Warning, &subject, format!("{message}, but few inodes are free")),
        _ => return finding(Severity::Ok, &subject, message),
    };
    finding.hint("free some space, for example with `maqet cleanup`")
}

fn format_bytes(bytes: u64) -> String {
    match bytes {
        bytes if bytes >= 10 << 30 => format!("{} GiB", bytes >> 30),
        bytes if bytes >= 10 << 20 => format!("{} MiB", bytes >> 20),
        bytes => format!("{} KiB", bytes >> 10),
    }
}

fn finding(severity: Severity, subject: &str, message: impl Into<String>) -> Finding {
    Finding::new(severity, Area::Host, subject, message)
}

fn from_error(severity: Severity, subject: &str, error: &dyn Explain) -> Finding {
    Finding::from_error(severity, Area::Host, subject, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIVATE: DirectoryFacts =
        DirectoryFacts { owner: 1, is_ours: true, mode: 0o700, is_directory: true, is_writable: true };

    #[track_caller]
    fn check(facts: &DirectoryFacts, severity: Severity, fixable: bool) {
        let finding = check_folder("data directory", Path::new("/d"), facts);

        assert_eq!((finding.severity, finding.fixable), (severity, fixable), "{finding:?}");
        assert_eq!(finding.hint.is_some(), severity != Severity::Ok, "{finding:?}");
    }

    #[test]
    fn test_check_folder_reads_owner_mode_and_write_access() {
        check(&PRIVATE, Severity::Ok, false);
        check(&DirectoryFacts { mode: 0o755, ..PRIVATE }, Severity::Warning, true);
        check(&DirectoryFacts { mode: 0o500, ..PRIVATE }, Severity::Problem, true);
        check(&DirectoryFacts { is_ours: false, mode: 0o777, ..PRIVATE }, Severity::Problem, false);
        check(&DirectoryFacts { is_directory: false, ..PRIVATE }, Severity::Problem, false);
        check(&DirectoryFacts { is_writable: false, ..PRIVATE }, Severity::Problem, false);
    }

    #[test]
    fn test_check_hints_quote_paths_for_a_shell() {
        let facts = DirectoryFacts { mode: 0o500, ..PRIVATE };
        let open = DirectoryFacts { mode: 0o755, ..PRIVATE };
        let closed = ClosedPath { path: "/my d".into(), is_ours: true, owner: 0, mode: 0 };

        let found = [
            check_folder("data directory", Path::new("/my d"), &facts),
            check_folder("data directory", Path::new("/my d"), &open),
            check_closed("data directory", &closed),
        ];

        for finding in found {
            assert_eq!(finding.hint.as_deref(), Some("run `chmod 0700 '/my d'`"));
        }
    }

    #[test]
    fn test_check_absent_directory_names_the_one_in_the_way() {
        let check = |state| check_absent("state directory", Path::new("/a/b/c"), &state);
        let (parent, reason) = (Path::new("/a").to_owned(), "permission denied".to_owned());

        let missing = check(DirectoryState::Missing);
        let not_creatable = check(DirectoryState::NotCreatable { parent: parent.clone(), reason: reason.clone() });
        let hidden = check(DirectoryState::Hidden { parent, reason });

        assert_eq!((missing.severity, missing.hint), (Severity::Ok, None));
        assert_eq!(
            [&not_creatable, &hidden].map(|finding| (finding.severity, finding.message.as_str())),
            [
                (Severity::Problem, "`/a/b/c` does not exist, and cannot be created in `/a`: permission denied"),
                (Severity::Problem, "`/a/b/c` cannot be examined: cannot enter `/a`: permission denied"),
            ]
        );
        let hint = "correct the owner and the mode of `/a`, or choose another state directory";
        assert_eq!([not_creatable.hint, hidden.hint], [Some(hint.to_owned()), Some(hint.to_owned())]);
    }

    #[test]
    fn test_check_closed_directory_of_ours_is_fixable() {
        let closed = |is_ours| ClosedPath { path: "/d/storage".into(), is_ours, owner: 0, mode: 0o000 };

        let (ours, foreign) =
            (check_closed("data directory", &closed(true)), check_closed("data directory", &closed(false)));

        assert_eq!((ours.severity, ours.fixable), (Severity::Problem, true));
        assert_eq!(ours.message, "`/d/storage` has mode 0000: maqet cannot use it");
        assert_eq!((foreign.severity, foreign.fixable), (Severity::Problem, false));
        assert_eq!(foreign.message, "`/d/storage` belongs to user 0: maqet cannot use it");
    }

    #[test]
    fn test_check_closed_file_names_the_command() {
        let closed = |is_ours| ClosedPath { path: "/d d/maqet.db".into(), is_ours, owner: 0, mode: 0o400 };

        let found = [true, false].map(|is_ours| check_closed_file("data directory", &closed(is_ours)));

        assert_eq!(
            found.map(|finding| (finding.message, finding.hint.unwrap())),
            [
                (
                    "`/d d/maqet.db` has mode 0400: maqet cannot use it".to_owned(),
                    "run `chmod u+rw '/d d/maqet.db'`".to_owned()
                ),
                (
                    "`/d d/maqet.db` belongs to user 0: maqet cannot use it".to_owned(),
                    "change its owner, as after a use of `sudo`: `sudo chown $(id -u) '/d d/maqet.db'`".to_owned()
                ),
            ]
        );
    }

    #[test]
    fn test_check_space_low_warns_then_fails() {
        let severity = |free_bytes, free_files| {
            check_space("data directory", Path::new("/d"), Space { free_bytes, bytes: 1 << 40, free_files }).severity
        };

        assert_eq!(severity(1 << 39, None), Severity::Ok);
        assert_eq!(severity(1 << 39, Some(3)), Severity::Warning);
        assert_eq!(severity(512 << 20, Some(1 << 20)), Severity::Warning);
        assert_eq!(severity(1 << 20, Some(1 << 20)), Severity::Problem);
    }
}
