//! What keeps a running VM from being saved with its memory.

use std::fmt;

use maqet_domain::backup::BITMAP_PREFIX;
use maqet_domain::machine::Machine;
use maqet_domain::qemu::{HOTPLUG_PREFIX, QemuVersion};
use maqet_domain::qmp::versions::SnapshotProblem;
use maqet_domain::qmp::wording::{SaveBlocker, save_blocker};
use maqet_domain::qmp::{BlockMedium, QmpCommand, QmpError};
use maqet_domain::size::ByteSize;
use maqet_domain::text::quote;
use maqet_domain::vm::{RunPaths, VmName};
use serde::Serialize;
use serde_json::Value;

use super::error::LiveSnapshotError;
use super::{LiveDisk, LiveVm};
use crate::Error;
use crate::snapshot::bitmaps::BitmapsInTheWay;
use crate::start::firmware::VARIABLES_NAME;

/// Something that keeps a VM from being saved, or that would be missing from the snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SaveObstacle {
    /// The drive, if it is one.
    pub drive: Option<String>,
    /// What the matter is.
    pub problem: String,
    /// What to change.
    pub hint: String,
}

impl SaveObstacle {
    /// A drive of which the run writes a temporary overlay.
    pub(crate) fn overlay(drive: &str) -> Self {
        Self {
            drive: Some(drive.to_owned()),
            problem: format!("what the guest writes to drive `{drive}` is lost at the end of the run (`snapshot`)"),
            hint: format!("set `snapshot: false` for drive `{drive}`, and restart the VM"),
        }
    }
}

impl fmt::Display for SaveObstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}

impl LiveVm<'_> {
    /// Returns the obstacles to saving the VM with its memory.
    pub(crate) async fn obstacles(
        &mut self,
        vm: &VmName,
        machine: &Machine,
        media: &[BlockMedium],
        memory: u64,
    ) -> Result<Vec<SaveObstacle>, QmpError> {
        let reply = self.query(&QmpCommand::new("query-migrate")).await?;
        let reasons = reply["blocked-reasons"].as_array().into_iter().flatten();
        let mut all: Vec<SaveObstacle> = reasons.filter_map(|reason| reason.as_str()).map(of_device).collect();
        all.extend(self.capabilities(vm).await?);
        all.extend(media.iter().filter_map(|medium| self.of_medium(machine, medium)));
        if let Some(disk) = self.disks(media, machine).first() {
            all.extend(self.lack_of_space(disk, memory).await);
        }
        Ok(all)
    }

    /// Returns the migration capabilities, which a user can turn on, with which QEMU cannot save or load.
    pub(crate) async fn capabilities(&mut self, vm: &VmName) -> Result<Vec<SaveObstacle>, QmpError> {
        let reply = self.query(&QmpCommand::new("query-migrate-capabilities")).await?;
        let is_on = |capability: &str| {
            let mut all = reply.as_array().into_iter().flatten();
            all.any(|one| one["capability"] == capability && one["state"] == true)
        };
        let capabilities = SnapshotProblem::ALL.iter().filter_map(|problem| Some((*problem, problem.capability()?)));
        let enabled = capabilities.filter(|(_, capability)| is_on(capability));
        Ok(enabled.map(|(problem, capability)| of_capability(vm, problem, capability)).collect())
    }

    /// Refuses a load that QEMU would fail or crash over, before anything is done.
    pub(crate) async fn refuse_capabilities(&mut self, vm: &VmName, name: &str) -> Result<(), Error> {
        let obstacles = self.capabilities(vm).await?;
        if obstacles.is_empty() {
            return Ok(());
        }
        Err(LiveSnapshotError::LoadObstacles { vm: vm.clone(), name: name.to_owned(), obstacles }.into())
    }

    /// Returns what this version of QEMU is known to do wrong when it saves a VM such as this.
    pub(crate) async fn risks(
        &mut self,
        vm: &VmName,
        machine: &Machine,
        runs: bool,
    ) -> Result<Vec<SaveObstacle>, Error> {
        let version = self.version().await?;
        let problems = SnapshotProblem::ALL.iter().filter(|problem| problem.is_in(version));
        Ok(problems.filter_map(|problem| of_version(vm, machine, runs, version, *problem)).collect())
    }

    /// Returns how much the memory of the VM takes at most: what it has of the host's, and not more than the guest's.
    pub(crate) async fn memory(&mut self) -> Result<u64, QmpError> {
        let reply = self.query(&QmpCommand::new("query-memory-size-summary")).await?;
        let part = |name: &str| reply[name].as_u64().unwrap_or(0);
        let guest = part("base-memory").saturating_add(part("plugged-memory"));
        let process = self.process().ok().and_then(|process| self.app.ports.stats.usage(process));
        Ok(process.map_or(guest, |usage| usage.memory().bytes().min(guest)))
    }

    /// Refuses to revert drives that have dirty bitmaps of another tool, or of a job; maqet removes its own.
    pub(crate) async fn refuse_bitmaps(&mut self, vm: &VmName, disks: &[LiveDisk]) -> Result<(), Error> {
        let reply = self.query(&QmpCommand::new("query-named-block-nodes").with("flat", true)).await?;
        let nodes: Vec<&Value> = reply.as_array().into_iter().flatten().collect();
        for disk in disks {
            let node = nodes.iter().find(|node| node["node-name"] == disk.node.as_str());
            let bitmaps = node.and_then(|node| node["dirty-bitmaps"].as_array()).into_iter().flatten();
            let names: Vec<&str> = bitmaps.map(|bitmap| bitmap["name"].as_str().unwrap_or_default()).collect();
            let (vm, drive) = (vm.clone(), disk.name.clone());
            if names.contains(&"") {
                return Err(BitmapsInTheWay::OfJob { vm, drive }.into());
            }
            let foreign = names.into_iter().filter(|name| !name.starts_with(BITMAP_PREFIX));
            let names: Vec<String> = foreign.map(str::to_owned).collect();
            if !names.is_empty() {
                return Err(BitmapsInTheWay::OfDrive { vm, drive, names }.into());
            }
        }
        Ok(())
    }

    /// Returns why a drive cannot be part of a snapshot.
    fn of_medium(&self, machine: &Machine, medium: &BlockMedium) -> Option<SaveObstacle> {
        if medium.is_read_only {
            return None;
        }
        let mut drives = machine.storage.iter().map(|drive| drive.name.as_str());
        let drive = drives.find(|name| *name == medium.node || self.is_of_drive(medium, machine, name));
        let node = drive.unwrap_or(medium.node.as_str());
        let is_defined = node == VARIABLES_NAME || drive.is_some();
        let (name, problem, hint) = if RunPaths::is_overlay(&medium.file) {
            return Some(SaveObstacle::overlay(node));
        } else if is_defined && medium.format == "qcow2" {
            return None;
        } else if is_defined {
            let problem = format!("drive `{node}` is writable and has the format `{}`", medium.format);
            (node, problem, format!("set `type: qcow2` or `readonly: true` for drive `{node}`"))
        } else if let Some(device) = node.strip_prefix(HOTPLUG_PREFIX) {
            let hint =
                format!("unplug it, or define it under `storage`: the snapshot needs drive `{device}` to be loaded");
            (device, format!("drive `{device}` was hot-plugged"), hint)
        } else {
            let device = medium.device.as_str();
            let hint = "define it under `storage`, or make it read-only";
            (device, format!("`{device}` is writable, and not defined under `storage`"), hint.to_owned())
        };
        Some(SaveObstacle { drive: Some(name.to_owned()), problem, hint })
    }

    /// A guest that QEMU cannot write to the end would halt with its disk full.
    async fn lack_of_space(&mut self, disk: &LiveDisk, needed: u64) -> Option<SaveObstacle> {
        let free = self.app.ports.maintenance.probe.space(&disk.path).await?.free_bytes;
        if free >= needed {
            return None;
        }
        let (needed, free) = (ByteSize::from_bytes(needed), ByteSize::from_bytes(free));
        Some(SaveObstacle {
            drive: Some(disk.name.clone()),
            problem: format!("the memory takes up to {needed}, and {free} are free for drive `{}`", disk.name),
            hint: format!("free some space on the file system of {}", quote(&disk.path.to_string_lossy())),
        })
    }
}

fn of_capability(vm: &VmName, problem: SnapshotProblem, capability: &str) -> SaveObstacle {
    let consequence = match problem {
        SnapshotProblem::MultifdCrashes => "QEMU would crash",
        SnapshotProblem::IgnoreSharedOmitsMemory => "memory would be missing from the snapshot",
        SnapshotProblem::MappedRamFails
        | SnapshotProblem::BlockMigrationRefuses
        | SnapshotProblem::SaveAbortsOverFirmwareWrite
        | SnapshotProblem::SlowMemory => "QEMU cannot save or load with it",
    };
    let argument = format!(r#"capabilities=[{{"capability":"{capability}","state":false}}]"#);
    SaveObstacle {
        drive: None,
        problem: format!("the migration capability `{capability}` is on: {consequence}"),
        hint: format!("turn it off with `maqet qmp {vm} migrate-set-capabilities {}`", quote(&argument)),
    }
}

/// Returns what a problem of `version` means for this VM; `None` if the VM does not meet it.
fn of_version(
    vm: &VmName,
    machine: &Machine,
    runs: bool,
    version: QemuVersion,
    problem: SnapshotProblem,
) -> Option<SaveObstacle> {
    let (problem, hint) = match problem {
        SnapshotProblem::SaveAbortsOverFirmwareWrite if runs && machine.firmware.is_uefi() => (
            format!("QEMU {version} can abort if it saves while the guest writes its UEFI variables"),
            format!("pause it first with `maqet pause {vm}`, or update QEMU to 8.2 or later"),
        ),
        SnapshotProblem::SlowMemory => (
            format!("QEMU {version} saves and loads memory up to 60 times as slowly as other versions"),
            "update QEMU to 8.2 or later".to_owned(),
        ),
        SnapshotProblem::SaveAbortsOverFirmwareWrite
        | SnapshotProblem::MultifdCrashes
        | SnapshotProblem::MappedRamFails
        | SnapshotProblem::IgnoreSharedOmitsMemory
        | SnapshotProblem::BlockMigrationRefuses => return None,
    };
    Some(SaveObstacle { drive: None, problem, hint })
}

/// Returns what a reason of QEMU means.
pub(crate) fn of_device(reason: &str) -> SaveObstacle {
    let hint = match save_blocker(reason) {
        SaveBlocker::Nvme => "set `interface: virtio` for drives with `interface: nvme` or `type: nvme`",
        SaveBlocker::Vfio => "remove the host's device from the VM",
        SaveBlocker::MountedShare => "unmount the shared directory in the guest",
        SaveBlocker::Other => "remove the device from the VM",
    };
    SaveObstacle { drive: None, problem: format!("QEMU reports `{reason}`"), hint: hint.to_owned() }
}
