//! The QEMU binaries in use: those of the definitions, and those of the VMs that run.

use std::collections::BTreeMap;
use std::path::PathBuf;

use maqet_domain::port::ProcessUsage;
use maqet_domain::qemu::QemuVersion;
use maqet_domain::qmp::QmpCommand;
use maqet_domain::text::quoted_list;
use maqet_domain::vm::{Run, Vm, VmEntry, VmName};

use super::{Area, Finding, Severity};
use crate::app::shown;
use crate::{App, Error, limits};

/// Reports the version of each binary in use.
pub(crate) struct BinaryCheck<'a> {
    pub(crate) app: &'a App,
}

/// A binary and the VMs that use it.
struct UsedBinary {
    version: QemuVersion,
    vms: Vec<VmName>,
}

impl BinaryCheck<'_> {
    /// Returns a finding for each binary, and one for each VM whose binary was removed or replaced since its start.
    ///
    /// A binary that cannot be used is a finding of its VM.
    pub(crate) async fn findings(&self) -> Result<Vec<Finding>, Error> {
        let mut used: BTreeMap<PathBuf, UsedBinary> = BTreeMap::new();
        let mut findings = Vec::new();
        for vm in self.app.ports.store.vms().await? {
            let mut names: Vec<String> = self.defined(&vm).into_iter().collect();
            let entry = vm.entry;
            match self.running(&entry).await {
                Some((_, usage)) if !usage.is_binary_deleted => {
                    names.extend(usage.binary.and_then(|path| path.into_os_string().into_string().ok()));
                }
                Some((run, usage)) => findings.push(self.outdated(&entry, &run, usage).await),
                None => {}
            }
            for name in names {
                let Ok(binary) = self.app.ports.hypervisor.binary(&name).await else { continue };
                let version = binary.version;
                let used = used.entry(binary.path).or_insert_with(|| UsedBinary { version, vms: Vec::new() });
                if !used.vms.contains(&entry.name) {
                    used.vms.push(entry.name.clone());
                }
            }
        }
        let binaries = used.into_iter().map(|(path, used)| {
            let vms = match used.vms.as_slice() {
                [vm] => format!("VM `{vm}`"),
                vms if vms.len() <= limits::MAX_LISTED_VMS => format!("VMs {}", quoted_list(vms)),
                vms => format!("{} VMs", vms.len()),
            };
            Finding::new(Severity::Ok, Area::Host, shown(&path), format!("version {}, used by {vms}", used.version))
        });
        findings.extend(binaries);
        Ok(findings)
    }

    /// Returns the binary of a definition, if it can be read.
    fn defined(&self, vm: &Vm) -> Option<String> {
        let machine = self.app.machine(vm).ok()?;
        let default = || format!("qemu-system-{}", self.app.preflight().architecture(&machine));
        Some(machine.binary.clone().unwrap_or_else(default))
    }

    /// Returns the run of a VM whose process is visible, and what is known about the process.
    async fn running(&self, entry: &VmEntry) -> Option<(Run, ProcessUsage)> {
        let run = entry.open_run()?;
        let process = self.app.observer().live_process(run).await?;
        Some((run.clone(), self.app.ports.stats.usage(process.visible()?)?))
    }

    /// Describes a VM whose binary is no longer the one it was started with.
    async fn outdated(&self, entry: &VmEntry, run: &Run, usage: ProcessUsage) -> Finding {
        let query = QmpCommand::new("query-version");
        let reply = self.app.ports.monitors.execute(&run.paths, &query, limits::QUERY_TIMEOUT).await.ok();
        let number = |key: &str| reply.as_ref()?["qemu"][key].as_u64()?.try_into().ok();
        let version = number("major").zip(number("minor")).zip(number("micro"));
        let version = version.map(|((major, minor), micro)| QemuVersion { major, minor, micro });
        let version = version.map(|version| format!(" {version}")).unwrap_or_default();
        let path = usage.binary.map(|path| format!(" `{}`", shown(&path))).unwrap_or_default();
        let message = format!("runs QEMU{version}, whose binary{path} was removed or replaced since");
        Finding::new(Severity::Note, Area::Vm, entry.name.as_str(), message)
            .hint(format!("restart it with `maqet restart {}` to run the present one", entry.name))
    }
}
