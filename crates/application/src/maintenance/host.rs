//! Checks of the host: KVM, tools, limits, maqet's directories and their free space.

use std::path::Path;

use maqet_domain::error::Explain;
use maqet_domain::port::{DirectoryFacts, FirmwareRequest, Kvm, SecureBoot, Space};
use maqet_domain::vm::{BootNumber, RunPaths, VmId};

use super::{Area, Finding, Severity};
use crate::app::ports::{Directories, Ports};
use crate::app::shown;
use crate::limits;

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
        ];
        for (name, folder) in folders {
            findings.push(self.folder(name, folder).await);
        }
        for (name, folder) in folders {
            if let Some(space) = self.ports.maintenance.probe.space(folder).await {
                findings.push(check_space(name, folder, space));
            }
        }
        findings
    }

    fn kvm(&self) -> Finding {
        match self.ports.host.facts().kvm {
            Kvm::Usable => finding(Severity::Ok, "KVM", "available"),
            Kvm::Unusable(why) => finding(Severity::Note, "KVM", format!("{why}; VMs use TCG, which is much slower"))
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

    async fn folder(&self, name: &str, folder: &Path) -> Finding {
        let probe = &self.ports.maintenance.probe;
        let Some(facts) = probe.directory(folder).await else {
            return finding(Severity::Ok, name, format!("`{}` does not exist yet", shown(folder)));
        };
        let finding = check_folder(name, folder, &facts);
        if !(self.fix && finding.fixable) {
            return finding;
        }
        match probe.close_directory(folder).await {
            Ok(()) => finding.fixed("set its mode to 0700"),
            Err(error) => finding.fix_failed(error.as_ref()),
        }
    }
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
            .hint(format!("run `chmod 0700 {shown}`"))
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
        .hint(format!("run `chmod 0700 {shown}`"))
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
