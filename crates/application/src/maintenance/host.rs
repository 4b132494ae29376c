//! The host: what it can, which tools are there, and whether our folders are fit.

use std::path::Path;

use maqet_domain::error::Explain;
use maqet_domain::port::{FolderFacts, Kvm, Space};
use maqet_domain::vm::{BootNumber, RunPaths};

use super::{Area, Finding, Severity};
use crate::app::shown;
use crate::{App, limits};

impl App {
    /// Looks at the host, and mends folders if asked to.
    pub(crate) async fn host_findings(&self, fix: bool) -> Vec<Finding> {
        let mut findings = vec![self.kvm_finding(), self.qemu_finding().await, self.image_tool_finding().await];
        findings.push(self.firmware_finding().await);
        findings.push(self.open_files_finding());
        findings.push(self.socket_finding());
        for (name, folder) in self.our_folders() {
            findings.push(self.folder_finding(name, folder, fix).await);
        }
        for (name, folder) in self.our_folders() {
            if let Some(space) = self.maintenance().probe.space(folder).await {
                findings.push(space_finding(name, folder, space));
            }
        }
        findings
    }

    fn our_folders(&self) -> [(&'static str, &Path); 3] {
        let folders = &self.folders;
        // The disks' folder is in that of the data, with the database.
        let data = folders.storage.parent().unwrap_or(&folders.storage);
        [("data folder", data), ("state folder", &folders.state), ("runtime folder", &folders.runtime)]
    }

    fn kvm_finding(&self) -> Finding {
        match self.ports.host.facts().kvm {
            Kvm::Usable => found(Severity::Ok, "KVM", "it can run guests"),
            Kvm::Unusable(why) => found(Severity::Note, "KVM", format!("{why}; VMs run in software, much slower"))
                .cured_by("turn virtualisation on in the firmware or for the outer VM, and join the group `kvm`"),
        }
    }

    async fn qemu_finding(&self) -> Finding {
        let name = format!("qemu-system-{}", self.ports.host.facts().architecture);
        match self.ports.hypervisor.binary(&name).await {
            Ok(binary) => {
                found(Severity::Ok, &name, format!("version {} at `{}`", binary.version, shown(&binary.path)))
            }
            Err(error) => of_error(Severity::Problem, &name, &error),
        }
    }

    async fn image_tool_finding(&self) -> Finding {
        match self.ports.images.tool_version().await {
            Ok(version) => found(Severity::Ok, "qemu-img", version),
            Err(error) => of_error(Severity::Problem, "qemu-img", &error),
        }
    }

    async fn firmware_finding(&self) -> Finding {
        let architecture = self.ports.host.facts().architecture;
        let machine = if matches!(architecture.as_str(), "x86_64" | "i386") { "q35" } else { "virt" };
        match self.ports.firmware.uefi(&architecture, machine).await {
            Ok(firmware) => found(Severity::Ok, "UEFI firmware", format!("`{}`", shown(&firmware.code))),
            Err(error) => of_error(Severity::Note, "UEFI firmware", &error),
        }
    }

    fn open_files_finding(&self) -> Finding {
        let subject = "open files";
        match self.maintenance().probe.open_files() {
            limit if limit < limits::MIN_OPEN_FILES => {
                let wanted = limits::MIN_OPEN_FILES;
                found(Severity::Warning, subject, format!("a process may have {limit} open; {wanted} are wanted"))
                    .cured_by("raise it with `ulimit -n`, or in limits.conf(5)")
            }
            limit => found(Severity::Ok, subject, format!("a process may have {limit} open")),
        }
    }

    /// Computes the longest path that a socket of ours can have.
    fn socket_finding(&self) -> Finding {
        let vm = self.folders.runtime.join("0".repeat(limits::SHORT_ID_DIGITS));
        let longest = RunPaths::new(&vm, Path::new("/"), BootNumber(limits::MAX_BOOT)).longest_socket();
        let (length, room) = (longest.as_os_str().len(), RunPaths::SOCKET_PATH_MAX);
        let what = format!("their paths have up to {length} bytes, of {room}");
        if length <= room {
            return found(Severity::Ok, "sockets", what);
        }
        found(Severity::Problem, "sockets", what).cured_by("choose a shorter folder with `--runtime-dir`")
    }

    async fn folder_finding(&self, name: &str, folder: &Path, fix: bool) -> Finding {
        let probe = &self.maintenance().probe;
        let Some(facts) = probe.folder(folder).await else {
            return found(Severity::Ok, name, format!("`{}` is made when it is needed", shown(folder)));
        };
        let finding = judged(name, folder, &facts);
        if !(fix && finding.fixable) {
            return finding;
        }
        match probe.close_folder(folder).await {
            Ok(()) => finding.fixed("it has mode 0700 now"),
            Err(error) => finding.not_fixed(error.as_ref()),
        }
    }
}

/// Says what is wrong with a folder of ours.
fn judged(name: &str, folder: &Path, facts: &FolderFacts) -> Finding {
    let shown = shown(folder);
    let problem = |what: String| found(Severity::Problem, name, what);
    if !facts.is_folder {
        return problem(format!("`{shown}` is not a folder")).cured_by("move it away, or choose another folder");
    }
    if !facts.is_ours {
        return problem(format!("`{shown}` belongs to user {}", facts.owner))
            .cured_by("choose another folder, or have its owner changed");
    }
    if facts.mode & 0o700 != 0o700 {
        return problem(format!("`{shown}` has mode {:04o}: we may not use it", facts.mode))
            .cured_by(format!("`chmod 0700 {shown}`"))
            .fixable();
    }
    if !facts.is_writable {
        return problem(format!("`{shown}` cannot be written to; its file system is read-only"))
            .cured_by("mount it for writing, or choose another folder");
    }
    if facts.mode & 0o077 != 0 {
        return found(
            Severity::Warning,
            name,
            format!("`{shown}` has mode {:04o}: others may look into it", facts.mode),
        )
        .cured_by(format!("`chmod 0700 {shown}`"))
        .fixable();
    }
    found(Severity::Ok, name, format!("`{shown}` is ours alone"))
}

/// Says whether there is room to work.
fn space_finding(name: &str, folder: &Path, space: Space) -> Finding {
    let free = in_units(space.free_bytes);
    let what = format!("{free} free of {} where `{}` is", in_units(space.bytes), shown(folder));
    let subject = format!("space of the {name}");
    let is_low_on_files = space.free_files.is_some_and(|files| files < limits::LOW_FREE_FILES);
    let finding = match space.free_bytes {
        free if free < limits::MIN_FREE_BYTES => found(Severity::Problem, &subject, what),
        free if free < limits::LOW_FREE_BYTES => found(Severity::Warning, &subject, what),
        _ if is_low_on_files => found(Severity::Warning, &subject, format!("{what}, and hardly a file can be made")),
        _ => return found(Severity::Ok, &subject, what),
    };
    finding.cured_by("free some space; `maqet cleanup` removes what nobody needs")
}

fn in_units(bytes: u64) -> String {
    match bytes {
        bytes if bytes >= 10 << 30 => format!("{} GiB", bytes >> 30),
        bytes if bytes >= 10 << 20 => format!("{} MiB", bytes >> 20),
        bytes => format!("{} KiB", bytes >> 10),
    }
}

fn found(severity: Severity, subject: &str, what: impl Into<String>) -> Finding {
    Finding::new(severity, Area::Host, subject, what)
}

fn of_error(severity: Severity, subject: &str, error: &dyn Explain) -> Finding {
    Finding::of_error(severity, Area::Host, subject, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIT: FolderFacts = FolderFacts { owner: 1, is_ours: true, mode: 0o700, is_folder: true, is_writable: true };

    #[track_caller]
    fn check(facts: &FolderFacts, severity: Severity, fixable: bool) {
        let finding = judged("data folder", Path::new("/d"), facts);

        assert_eq!((finding.severity, finding.fixable), (severity, fixable), "{finding:?}");
        assert_eq!(finding.cure.is_some(), severity != Severity::Ok, "{finding:?}");
    }

    #[test]
    fn test_folder_is_judged_by_owner_mode_and_whether_it_can_be_written() {
        check(&FIT, Severity::Ok, false);
        check(&FolderFacts { mode: 0o755, ..FIT }, Severity::Warning, true);
        check(&FolderFacts { mode: 0o500, ..FIT }, Severity::Problem, true);
        check(&FolderFacts { is_ours: false, mode: 0o777, ..FIT }, Severity::Problem, false);
        check(&FolderFacts { is_folder: false, ..FIT }, Severity::Problem, false);
        check(&FolderFacts { is_writable: false, ..FIT }, Severity::Problem, false);
    }

    #[test]
    fn test_space_that_runs_out_is_a_warning_and_then_a_problem() {
        let severity = |free_bytes, free_files| {
            space_finding("data folder", Path::new("/d"), Space { free_bytes, bytes: 1 << 40, free_files }).severity
        };

        assert_eq!(severity(1 << 39, None), Severity::Ok);
        assert_eq!(severity(1 << 39, Some(3)), Severity::Warning);
        assert_eq!(severity(512 << 20, Some(1 << 20)), Severity::Warning);
        assert_eq!(severity(1 << 20, Some(1 << 20)), Severity::Problem);
    }
}
