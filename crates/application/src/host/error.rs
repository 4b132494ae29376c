//! Why commands for VMs of other hosts are refused.

use std::path::PathBuf;

use jiff::Timestamp;
use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::text::{quote, quoted_list};
use maqet_domain::vm::VmName;

use crate::{Error, HumanDuration};

/// Why the VMs of a host are not moved to this one.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
#[non_exhaustive]
pub enum HostError {
    #[error("`{host}` is this host")]
    OwnHost { host: String },
    #[error("user `{owner}` has no VMs on host `{}`", host.escape_debug())]
    NoVms { host: String, owner: String, owners: Vec<String> },
    #[error("host `{host}` is not away: user `{owner}` ran a command there {ago} ago")]
    InUse { host: String, owner: String, ago: HumanDuration },
    #[error("it is not known when a command last ran on host `{host}`")]
    NeverSeen { host: String },
    #[error("VMs may be running on host `{host}`, as they were when last recorded: {}", quoted_list(vms))]
    MayRun { host: String, vms: Vec<VmName> },
    #[error("the disks of VM `{vm}` cannot be used on this host")]
    DisksUnavailable { vm: VmName, source: Box<Error> },
    #[error(
        "image `{}` of drive `{drive}` of VM `{vm}` is not the file that host `{host}` used when the VM was last started",
        path.display()
    )]
    DiskReplaced { vm: VmName, drive: String, path: PathBuf, host: String },
    #[error(
        "it is not known whether block device `{}` of drive `{drive}` of VM `{vm}` is the one that host `{host}` used",
        path.display()
    )]
    DeviceUnknown { vm: VmName, drive: String, path: PathBuf, host: String },
}

impl Explain for HostError {
    fn explain(&self) -> Explanation {
        match self {
            Self::OwnHost { .. } => Explanation::new("host.own-refused", Fault::Usage)
                .hint("run the command on the host to which the VMs are to move"),
            Self::NoVms { host, owners, .. } => {
                let explanation = Explanation::new("host.vms-not-found", Fault::NotFound);
                let of_owners = owners.iter().map(|owner| {
                    format!(
                        "evict those of user `{owner}` with `maqet host evict {} --owner {}`",
                        quote(host),
                        quote(owner)
                    )
                });
                of_owners.fold(explanation, Explanation::hint).or_hint("list the hosts with `maqet host ls`")
            }
            Self::InUse { .. } => Explanation::new("host.in-use", Fault::State)
                .hint("stop its VMs there first, or make sure that the host is off and pass `--force`"),
            Self::NeverSeen { .. } => Explanation::new("host.in-use", Fault::State)
                .hint("run a command on it, or make sure that it is off and pass `--force`"),
            Self::MayRun { .. } => Explanation::new("host.vms-in-use", Fault::State)
                .hint("make sure that the host is off, and pass `--force`; two QEMUs would destroy the disks"),
            Self::DiskReplaced { .. } => Explanation::new("host.disk-conflict", Fault::State)
                .hint("mount the storage of the other host at this path")
                .hint("if it was restored or copied from there, pass `--accept-replaced`"),
            Self::DeviceUnknown { .. } => Explanation::new("host.disk-conflict", Fault::State)
                .hint("make sure that it is the same device, and pass `--accept-replaced`"),
            Self::DisksUnavailable { .. } => Explanation::new("host.disks-unavailable", Fault::State)
                .hint("mount the storage of the other host, so that the disks have the same paths here"),
        }
    }
}

/// Returns what follows the name of a host in a message: since when it is away, if it is.
pub(crate) fn away_note(since: Option<Timestamp>) -> String {
    since.map(|since| format!(", which is away since {since:.0}")).unwrap_or_default()
}

/// Explains a VM that the database lost.
pub(crate) fn lost_vm() -> Explanation {
    Explanation::new("vm.not-found", Fault::NotFound)
        .hint("run `maqet doctor --fix` to add it to the database from the copy")
}

/// Explains that a command is refused for the VM of another host.
pub(crate) fn foreign_vm(vm: &VmName, host: &str, owner: &str, is_away: bool) -> Explanation {
    let explanation = Explanation::new("vm.host-refused", Fault::State)
        .hint(format!("run the command on host `{host}`, as that user"));
    let evict = evict_command(host, owner, Some(vm));
    let explanation =
        if is_away { explanation.hint(format!("move it to this host with `{evict}`")) } else { explanation };
    explanation.hint("list the VMs of all hosts with `maqet ls --host '*'`")
}

/// Returns the command that moves VMs of another host here; all of its user without `vm`.
pub(crate) fn evict_command(host: &str, owner: &str, vm: Option<&VmName>) -> String {
    let vm = vm.map(|vm| format!(" {vm}")).unwrap_or_default();
    format!("maqet host evict --owner {} {}{vm}", quote(owner), quote(host))
}
