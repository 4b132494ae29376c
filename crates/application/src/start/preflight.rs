//! The checks before a start, and the command line; nothing is created.

use maqet_domain::command_line::{Accelerator, CommandLine, LaunchContext, UefiFiles};
use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::first_boot::PassedCredential;
use maqet_domain::machine::{AccelChoice, Machine};
use maqet_domain::port::{
    DiskImages, FirmwareCatalog, Host, HostFacts, Hypervisor, Kvm, LaunchError, Paths, RunFile, Store,
};
use maqet_domain::vm::{ProcessIdentity, RunPaths, VmEntry};

use super::check_disks::CheckedDisks;
use crate::Error;
use crate::app::ports::Directories;

/// KVM that a definition demands and that does not work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot use KVM: {reason}")]
pub struct KvmUnavailable {
    /// Why it does not work.
    pub reason: String,
    /// Whether a switch demands it, and not the key `accel`.
    pub is_of_switch: bool,
}

impl Explain for KvmUnavailable {
    fn explain(&self) -> Explanation {
        let hint = if self.is_of_switch {
            "remove it from `machine`, `arguments` or `args`, and set `accel: auto` to use KVM where it works"
        } else {
            "set `accel: tcg` for software emulation"
        };
        Explanation::new("host.kvm-unavailable", Fault::Host).hint(hint)
    }
}

/// What the checks before a start need. Its methods are in the files of this room, by subject.
#[derive(Clone, Copy)]
pub(crate) struct Preflight<'a> {
    pub(crate) images: &'a dyn DiskImages,
    pub(crate) paths: &'a dyn Paths,
    pub(crate) firmware: &'a dyn FirmwareCatalog,
    pub(crate) host: &'a dyn Host,
    pub(crate) hypervisor: &'a dyn Hypervisor,
    pub(crate) store: &'a dyn Store,
    pub(crate) folders: &'a Directories,
}

/// A start whose checks found nothing wrong.
pub(crate) struct CheckedStart<'m> {
    pub(crate) command_line: CommandLine,
    /// What QEMU reads while it starts.
    pub(crate) files: Vec<RunFile>,
    pub(crate) disks: CheckedDisks<'m>,
}

impl Preflight<'_> {
    /// Checks all that a start needs and does not create, and returns the command line, its files and the disks.
    ///
    /// `recreate` are images to create even if they were created once.
    pub(crate) async fn check<'m>(
        &self,
        entry: &VmEntry,
        machine: &'m Machine,
        paths: &RunPaths,
        recreate: &[String],
    ) -> Result<CheckedStart<'m>, Error> {
        self.check_kvm_of_switches(machine)?;
        self.check_paths(machine).await?;
        self.check_link_sockets(machine).await?;
        self.check_device_files(machine).await?;
        self.check_memory_files(machine).await?;
        self.check_firmware_files(entry, machine).await?;
        let credentials = self.credentials(entry, machine).await?;
        let files = self.start_files(entry, machine, paths, &credentials).await?;
        let command_line = self.command_line_with(entry, machine, paths, credentials).await?;
        let taps = self.check_tap_devices(machine)?;
        let mut disks = self.check_disks(entry, machine, recreate).await?;
        self.check_written_files(entry, machine, command_line.args(), &disks).await?;
        disks.warnings.extend(taps);
        disks.warnings.extend(self.usb_warnings(machine));
        Ok(CheckedStart { command_line, files, disks })
    }

    /// Refuses a switch that demands a KVM in which guests hang; the command line can be shown for another host.
    fn check_kvm_of_switches(&self, machine: &Machine) -> Result<(), KvmUnavailable> {
        match kvm_for(&self.architecture(machine), &self.host.facts()) {
            Kvm::Hanging(reason) if machine.tries_kvm() => Err(KvmUnavailable { reason, is_of_switch: true }),
            _ => Ok(()),
        }
    }

    /// Computes the command line that runs `machine` with its files at `paths`.
    pub(crate) async fn command_line(
        &self,
        entry: &VmEntry,
        machine: &Machine,
        paths: &RunPaths,
    ) -> Result<CommandLine, Error> {
        self.command_line_with(entry, machine, paths, self.credentials(entry, machine).await?).await
    }

    async fn command_line_with(
        &self,
        entry: &VmEntry,
        machine: &Machine,
        paths: &RunPaths,
        credentials: Vec<PassedCredential>,
    ) -> Result<CommandLine, Error> {
        let facts = self.host.facts();
        let architecture = self.architecture(machine);
        let binary = self.binary_name(machine);
        let accelerator = accelerator(machine.accel, &kvm_for(&architecture, &facts))?;
        let uefi = self.uefi(machine).await?.map(|firmware| UefiFiles {
            code: firmware.code,
            code_format: firmware.code_format,
            variables: self.uefi_variables(&entry.name),
            requires_smm: firmware.requires_smm,
        });
        let binary = self.hypervisor.binary(&binary).await?;
        let context = LaunchContext {
            name: entry.name.clone(),
            id: entry.id,
            architecture,
            binary: binary.path,
            version: binary.version,
            accelerator,
            vm_storage: self.folders.vm_storage(&entry.name),
            paths: paths.clone(),
            uefi,
            tpm: self.tpm(&entry.name, machine)?,
            credentials,
            file_kinds: self.file_kinds(&entry.name, machine).await,
            is_root: facts.is_root,
        };
        Ok(CommandLine::new(machine, &context)?)
    }

    /// Returns why a machine does not use KVM, in words that follow a colon.
    pub(crate) fn kvm_obstacle(&self, machine: &Machine) -> String {
        let kvm = kvm_for(&self.architecture(machine), &self.host.facts());
        match (machine.accel, kvm.obstacle()) {
            (AccelChoice::Tcg, _) => "`accel` is `tcg`".to_owned(),
            (AccelChoice::Auto, Some(reason)) => format!("`accel: auto` chose TCG, as {reason}"),
            (AccelChoice::Kvm, Some(reason)) => reason.to_owned(),
            (AccelChoice::Auto | AccelChoice::Kvm, None) => "an argument chooses another accelerator".to_owned(),
        }
    }

    /// Refuses the files of a QEMU that the user runs by a command line that maqet printed: a start would end it.
    ///
    /// Also refuses a VM that runs although its run is recorded as ended, here or in another PID namespace.
    pub(crate) async fn require_unused(&self, entry: &VmEntry, paths: &RunPaths) -> Result<(), Error> {
        if self.hypervisor.is_hidden(paths).await {
            return Err(Error::ProcessHidden { vm: entry.name.clone(), is_forced: false });
        }
        // The paths are new for each run: the file exists only after such a command, or a failed start.
        if self.images.exists(&paths.pid_file()).await
            && let Some(process) = self.hypervisor.find_process(paths).await
        {
            return Err(Error::RunInUse { vm: entry.name.clone(), pid: process.pid });
        }
        match self.hypervisor.lock_holder(paths).await {
            Some(ProcessIdentity { pid, .. }) => {
                Err(Error::Launch { vm: entry.name.clone(), source: LaunchError::RunLocked { pid } })
            }
            None => Ok(()),
        }
    }
}

/// KVM runs guests of the host's own architecture only; a 64-bit x86 host runs 32-bit guests too.
fn kvm_for(architecture: &str, facts: &HostFacts) -> Kvm {
    let is_native =
        architecture == facts.architecture || (architecture, facts.architecture.as_str()) == ("i386", "x86_64");
    if is_native {
        return facts.kvm.clone();
    }
    Kvm::Unusable(format!("the guest is `{architecture}` and the host is `{}`", facts.architecture))
}

fn accelerator(choice: AccelChoice, kvm: &Kvm) -> Result<Accelerator, Error> {
    match (choice, kvm.obstacle()) {
        (AccelChoice::Tcg, _) | (AccelChoice::Auto, Some(_)) => Ok(Accelerator::Tcg),
        (AccelChoice::Auto | AccelChoice::Kvm, None) => Ok(Accelerator::Kvm),
        (AccelChoice::Kvm, Some(reason)) => {
            Err(KvmUnavailable { reason: reason.to_owned(), is_of_switch: false }.into())
        }
    }
}
