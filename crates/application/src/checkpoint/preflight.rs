//! What keeps a running VM from being saved, and how it is saved; nothing is changed by that.

use std::path::PathBuf;
use std::time::Duration;

use maqet_domain::checkpoint::ladder::{LadderFacts, Rung, choose, stays_paused_in_background};
use maqet_domain::machine::Machine;
use maqet_domain::qemu::QemuVersion;
use maqet_domain::qmp::{BlockMedium, JobInfo, MigrationInfo, QmpCommand, QmpError, RunState};
use maqet_domain::size::ByteSize;
use maqet_domain::storage::StorageSpec;
use maqet_domain::vm::{RunPaths, VmEntry, layers_of};
use serde_json::Value;

use super::error::CheckpointError;
use crate::migration::migration_capabilities;
use crate::snapshot::live::LiveVm;
use crate::snapshot::live::check::{SaveObstacle, of_device};
use crate::start::firmware::VARIABLES_NAME;
use crate::{App, Error};

/// A writable disk of a running VM.
#[derive(Debug, Clone)]
pub(crate) struct PlannedDisk {
    pub(crate) spec: StorageSpec,
    /// The block node that the guest writes to.
    pub(crate) node: String,
    /// Its image.
    pub(crate) path: PathBuf,
    pub(crate) format: String,
    pub(crate) virtual_bytes: u64,
    /// The image that the definition names.
    pub(crate) base: PathBuf,
}

/// A running VM that can be saved, and how.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) disks: Vec<PlannedDisk>,
    /// The UEFI variable store.
    pub(crate) variables: Option<PathBuf>,
    pub(crate) rung: Rung,
    pub(crate) version: QemuVersion,
    /// The build of QEMU, as it says itself.
    pub(crate) package: String,
    pub(crate) accelerator: &'static str,
    /// Whether the guest runs.
    pub(crate) runs: bool,
    /// The RAM block that the guest has as its memory.
    pub(crate) memory: String,
    /// How much of it there is to write.
    pub(crate) used_bytes: u64,
    /// What QEMU reports of its last migration.
    pub(crate) earlier: Value,
    /// How fast QEMU may write, in bytes a second.
    pub(crate) bandwidth: Option<u64>,
    /// The IDs of devices that were hot-plugged.
    pub(crate) added_devices: Vec<String>,
}

/// The command that asks for the last migration.
pub(super) fn query_migrate() -> QmpCommand {
    QmpCommand::new("query-migrate")
}

/// The command that turns background snapshots on or off.
pub(super) fn background_snapshot(state: bool) -> QmpCommand {
    migration_capabilities(&[("background-snapshot", state)])
}

/// Finds out how a running VM is saved.
///
/// Errors: `WrongState`, `Obstacles`, [`PauseTooLong`](maqet_domain::checkpoint::ladder::PauseTooLong).
pub(crate) async fn plan(
    app: &App,
    live: &mut LiveVm<'_>,
    entry: &VmEntry,
    machine: &Machine,
    max_pause: Option<Duration>,
) -> Result<Plan, Error> {
    let is_running = require_state(live, entry).await?;
    let earlier = live.query(&query_migrate()).await?;
    let media = live.media().await?;
    let (disks, variables, mut obstacles) = disks(app, entry, machine, &media);
    obstacles.extend(of_qemu(live, entry, &earlier).await?);
    if machine.tpm {
        obstacles
            .push(obstacle("the state of the TPM is not part of a checkpoint", "set `tpm: false`, and restart it"));
    }
    let memory = match memory(live).await? {
        Ok(memory) => Some(memory),
        Err(several) => {
            obstacles.push(several);
            None
        }
    };
    let used_bytes = live.memory().await?;
    obstacles.extend(lack_of_space(app, used_bytes).await);
    let (Some((block, shared_bytes)), true) = (memory, obstacles.is_empty()) else {
        return Err(CheckpointError::Obstacles { vm: entry.name.clone(), obstacles }.into());
    };
    let (version, package) = live.version_and_package().await?;
    let facts = LadderFacts {
        background_refusal: background_refusal(live).await?,
        would_resume: !is_running && !stays_paused_in_background(version),
        shared_bytes,
        used_bytes,
        max_pause,
    };
    let rung = choose(&facts).map_err(CheckpointError::from)?;
    let kvm = live.query(&QmpCommand::new("query-kvm")).await?;
    let accelerator = if kvm["enabled"] == true { "kvm" } else { "tcg" };
    let parameters = live.query(&QmpCommand::new("query-migrate-parameters")).await?;
    Ok(Plan {
        disks,
        variables,
        rung,
        version,
        package,
        accelerator,
        runs: is_running,
        memory: block,
        used_bytes,
        earlier,
        bandwidth: parameters["max-bandwidth"].as_u64(),
        added_devices: live.added_devices().await?,
    })
}

/// Returns whether the guest runs; refuses one that is neither running nor paused.
async fn require_state(live: &mut LiveVm<'_>, entry: &VmEntry) -> Result<bool, Error> {
    match live.run_state().await? {
        RunState::Running => Ok(true),
        RunState::Paused => Ok(false),
        RunState::Postmigrate => {
            let hint = format!("resume it with `maqet resume {}`; then it can be paused again", entry.name);
            let obstacles = vec![obstacle("QEMU has saved the paused guest, and saves it only once", &hint)];
            Err(CheckpointError::Obstacles { vm: entry.name.clone(), obstacles }.into())
        }
        RunState::Prelaunch => {
            let hint = format!("let it run first with `maqet resume {}`", entry.name);
            let obstacles = vec![obstacle("the guest has not run yet", &hint)];
            Err(CheckpointError::Obstacles { vm: entry.name.clone(), obstacles }.into())
        }
        state => Err(CheckpointError::WrongState { vm: entry.name.clone(), status: live.status_in(state) }.into()),
    }
}

fn obstacle(problem: &str, hint: &str) -> SaveObstacle {
    SaveObstacle { drive: None, problem: problem.to_owned(), hint: hint.to_owned() }
}

/// Returns the writable disks and the UEFI variable store, and the drives that cannot be part of a checkpoint.
fn disks(
    app: &App,
    entry: &VmEntry,
    machine: &Machine,
    media: &[BlockMedium],
) -> (Vec<PlannedDisk>, Option<PathBuf>, Vec<SaveObstacle>) {
    let vm_storage = app.folders.vm_storage(&entry.name);
    let (mut disks, mut variables, mut obstacles) = (Vec::new(), None, Vec::new());
    for medium in media.iter().filter(|medium| !medium.is_read_only) {
        if medium.node == VARIABLES_NAME {
            variables = Some(medium.file.clone());
            continue;
        }
        let is_it = |spec: &&StorageSpec| spec.name.as_str() == medium.node || spec.path(&vm_storage) == medium.file;
        let spec = machine.storage.iter().find(is_it);
        if RunPaths::is_overlay(&medium.file) {
            obstacles.push(SaveObstacle::overlay(spec.map_or(medium.node.as_str(), |spec| spec.name.as_str())));
            continue;
        }
        match spec {
            Some(spec) if spec.path(&vm_storage) == medium.file && !spec.snapshot => disks.push(PlannedDisk {
                node: medium.node.clone(),
                path: medium.file.clone(),
                format: medium.format.clone(),
                virtual_bytes: medium.virtual_bytes,
                base: layers_of(&entry.layers, spec.name.as_str())
                    .map_or_else(|| medium.file.clone(), |layers| layers.base.clone()),
                spec: spec.clone(),
            }),
            Some(spec) => obstacles.push(SaveObstacle {
                drive: Some(spec.name.to_string()),
                problem: format!("the running VM has another image at drive `{}` than its definition", spec.name),
                hint: format!("restart it with `maqet restart {}`", entry.name),
            }),
            None => obstacles.push(SaveObstacle {
                drive: Some(medium.device.clone()),
                problem: format!("`{}` is writable, and not defined under `storage`", medium.device),
                hint: "define it under `storage`, make it read-only, or unplug it".to_owned(),
            }),
        }
    }
    (disks, variables, obstacles)
}

/// Returns what QEMU itself says against it.
async fn of_qemu(live: &mut LiveVm<'_>, entry: &VmEntry, migration: &Value) -> Result<Vec<SaveObstacle>, Error> {
    let migration = MigrationInfo::from_reply(migration);
    let mut all: Vec<SaveObstacle> = migration.blocked.iter().map(|reason| of_device(reason)).collect();
    if migration.is_under_way() {
        all.push(obstacle("QEMU migrates or saves it already", "wait for the end of that"));
    }
    all.extend(live.capabilities(&entry.name).await?);
    let jobs = live.query(&QmpCommand::new("query-jobs")).await?;
    for job in JobInfo::from_reply(&jobs).into_iter().filter(|job| !job.has_ended()) {
        let problem = format!("QEMU runs the job `{}` (`{}`)", job.id.escape_debug(), job.kind);
        all.push(obstacle(&problem, "wait for its end"));
    }
    Ok(all)
}

/// Returns the RAM block that is the memory of the guest, and how much of it is shared.
async fn memory(live: &mut LiveVm<'_>) -> Result<Result<(String, u64), SaveObstacle>, Error> {
    let reply = live.query(&QmpCommand::new("query-memdev")).await?;
    let backends: Vec<&Value> = reply.as_array().into_iter().flatten().collect();
    Ok(match backends.as_slice() {
        [one] if one["id"].is_string() => {
            let shared = if one["share"] == true { one["size"].as_u64().unwrap_or_default() } else { 0 };
            Ok((one["id"].as_str().unwrap_or_default().to_owned(), shared))
        }
        backends => Err(obstacle(
            &format!("its memory has {} parts, and a checkpoint has one", backends.len()),
            "remove `memory-backend-…` objects and NUMA nodes from its arguments",
        )),
    })
}

/// A guest of which QEMU cannot write everything is not saved at all.
async fn lack_of_space(app: &App, used_bytes: u64) -> Option<SaveObstacle> {
    let directory = &app.folders.checkpoints;
    let free = app.ports.maintenance.probe.space(directory).await?.free_bytes;
    // QEMU writes the memory, which is then copied without holes.
    let needed = used_bytes.saturating_mul(2).saturating_add(used_bytes / 10);
    if free >= needed {
        return None;
    }
    let (needed, free) = (ByteSize::from_bytes(needed), ByteSize::from_bytes(free));
    let problem = format!("it takes up to {needed}, and {free} are free in `{}`", directory.display());
    Some(obstacle(&problem, "free some space, or remove old checkpoints"))
}

/// Returns why QEMU does not take background snapshots; asks it by turning them on, and off again.
async fn background_refusal(live: &mut LiveVm<'_>) -> Result<Option<String>, Error> {
    match live.query(&background_snapshot(true)).await {
        Ok(_) => {
            live.query(&background_snapshot(false)).await?;
            Ok(None)
        }
        Err(QmpError::Refused { description, .. }) => Ok(Some(description)),
        Err(error) => Err(error.into()),
    }
}
