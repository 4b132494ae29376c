//! What keeps a guest from being put into another QEMU, and how it gets there; nothing is changed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use maqet_domain::command_line::CommandLine;
use maqet_domain::machine::{Machine, WrittenAs, WrittenFile};
use maqet_domain::port::{PathKind, QemuBinary, RunFile};
use maqet_domain::qemu::{QemuVersion, switch_values};
use maqet_domain::qmp::wording::{Endpoint, ListeningSocket, NameList};
use maqet_domain::qmp::{JobInfo, MigrationInfo, QmpCommand, QmpError, RunState};
use maqet_domain::snapshot::{Fingerprint, FingerprintDifference};
use maqet_domain::storage::StorageSpec;
use maqet_domain::upgrade::{UpgradeChoice, UpgradeFacts, choose};
use maqet_domain::vm::{BootNumber, ProcessIdentity, RunPaths, VmEntry};
use serde_json::Value;

use super::error::UpgradeError;
use super::forwards::{CardForward, forwarded};
use crate::snapshot::live::LiveVm;
use crate::snapshot::live::check::{SaveObstacle, of_device};
use crate::start::preflight::CheckedStart;
use crate::{App, Error};

/// The suffix of the type of a machine in QEMU's object model.
const MACHINE_SUFFIX: &str = "-machine";

/// What a user says about an upgrade.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    /// The other QEMU; that of the definition if `None`.
    pub(crate) binary: Option<&'a Path>,
    pub(crate) max_pause: Option<Duration>,
}

/// A guest that can be put into another QEMU, and how.
pub(crate) struct Plan {
    pub(crate) binary: QemuBinary,
    /// The version that the guest is in.
    pub(crate) from: QemuVersion,
    pub(crate) choice: UpgradeChoice,
    /// Whether the guest runs.
    pub(crate) runs: bool,
    /// The file that its memory is in, if that is not copied.
    pub(crate) memory_file: Option<PathBuf>,
    pub(crate) forwards: Vec<CardForward>,
    /// How fast QEMU may write, in bytes a second.
    pub(crate) bandwidth: Option<u64>,
    /// The run of the other QEMU, and what it is started with.
    pub(crate) boot: BootNumber,
    pub(crate) paths: RunPaths,
    pub(crate) command_line: CommandLine,
    pub(crate) files: Vec<RunFile>,
}

/// Finds out how a guest is put into another QEMU.
pub(crate) async fn plan(
    app: &App,
    live: &mut LiveVm<'_>,
    entry: &VmEntry,
    mut machine: Machine,
    request: Request<'_>,
) -> Result<Plan, Error> {
    let runs = require_state(live, entry).await?;
    let arguments = app.ports.processes.args(live.process()?);
    let arguments = arguments.get(1..).unwrap_or_default();
    let mut obstacles = of_qemu(live, entry).await?;
    obstacles.extend(of_machine(app, live.process()?, entry, &machine, arguments));
    if let Some(binary) = request.binary {
        machine.binary = Some(binary.to_string_lossy().into_owned());
    }
    app.preflight().resolve_architecture(&mut machine).await?;
    let binary = app.ports.hypervisor.binary(&app.preflight().binary_name(&machine)).await?;
    let machine_type = machine_type(live).await?;
    obstacles.extend(of_binary(app, &binary, &machine_type).await);
    refuse(entry, obstacles)?;

    let forwards = forwarded(live.session(), &machine).await?;
    for card in &mut machine.network {
        // The first QEMU has the ports until the guest has left it.
        card.forward.clear();
    }
    let (boot, paths) = app.folders.next_run(entry);
    if let Some(process) = app.ports.hypervisor.find_process(&paths).await {
        return Err(Error::RunInUse { vm: entry.name.clone(), pid: process.pid });
    }
    let checked = app.preflight().check(entry, &machine, &paths, &[]).await?;
    let CheckedStart { command_line, files, .. } = checked;
    let (from, _) = live.version_and_package().await?;
    refuse(entry, of_definition((from, arguments, &machine_type), &command_line))?;
    let memory_file = memory_file(app, live).await?;
    let facts = UpgradeFacts {
        is_in_shared_file: memory_file.is_some(),
        used_bytes: live.memory().await?,
        max_pause: request.max_pause,
    };
    let choice = choose(&facts).map_err(UpgradeError::from)?;
    let parameters = live.query(&QmpCommand::new("query-migrate-parameters")).await?;
    let bandwidth = parameters["max-bandwidth"].as_u64();
    let command_line = command_line.taking_over(&machine_type);
    Ok(Plan { binary, from, choice, runs, memory_file, forwards, bandwidth, boot, paths, command_line, files })
}

fn refuse(entry: &VmEntry, obstacles: Vec<SaveObstacle>) -> Result<(), UpgradeError> {
    if obstacles.is_empty() {
        return Ok(());
    }
    Err(UpgradeError::Obstacles { vm: entry.name.clone(), obstacles })
}

fn obstacle(problem: impl Into<String>, hint: impl Into<String>) -> SaveObstacle {
    SaveObstacle { drive: None, problem: problem.into(), hint: hint.into() }
}

/// Returns whether the guest runs; refuses one that is neither running nor paused.
async fn require_state(live: &mut LiveVm<'_>, entry: &VmEntry) -> Result<bool, Error> {
    match live.run_state().await? {
        RunState::Running => Ok(true),
        RunState::Paused => Ok(false),
        RunState::Prelaunch | RunState::Postmigrate => {
            let hint = format!("let it run first with `maqet resume {}`", entry.name);
            let obstacles = vec![obstacle("the guest has not run yet, or not since it was saved", hint)];
            Err(UpgradeError::Obstacles { vm: entry.name.clone(), obstacles }.into())
        }
        state => Err(UpgradeError::WrongState { vm: entry.name.clone(), status: live.status_in(state) }.into()),
    }
}

/// Returns what QEMU itself says against it.
async fn of_qemu(live: &mut LiveVm<'_>, entry: &VmEntry) -> Result<Vec<SaveObstacle>, Error> {
    let migration = MigrationInfo::from_reply(&live.query(&QmpCommand::new("query-migrate")).await?);
    let mut all: Vec<SaveObstacle> = migration.blocked.iter().map(|reason| of_device(reason)).collect();
    if migration.is_under_way() {
        all.push(obstacle("QEMU migrates or saves it already", "wait for the end of that"));
    }
    all.extend(live.capabilities(&entry.name).await?);
    let jobs = live.query(&QmpCommand::new("query-jobs")).await?;
    for job in JobInfo::from_reply(&jobs).into_iter().filter(|job| !job.has_ended()) {
        let problem = format!("QEMU runs the job `{}` (`{}`)", job.id.escape_debug(), job.kind);
        all.push(obstacle(problem, "wait for its end"));
    }
    let added = live.added_devices().await?;
    if !added.is_empty() {
        let problem = format!("devices were added while it ran: {}", added.join(", "));
        all.push(obstacle(problem, "remove them, or restart the VM with them in its definition"));
    }
    Ok(all)
}

/// Returns what of the VM two QEMUs cannot have both, or what would be lost with the first.
fn of_machine(
    app: &App,
    process: &ProcessIdentity,
    entry: &VmEntry,
    machine: &Machine,
    arguments: &[String],
) -> Vec<SaveObstacle> {
    let mut all = Vec::new();
    if app.ports.processes.is_in_foreground(process) {
        all.push(obstacle(
            "its QEMU ends with the process in the foreground that started it",
            "start it without `--foreground`",
        ));
    }
    all.extend(machine.storage.iter().filter_map(of_drive));
    let overlays = ["-snapshot", "--snapshot"];
    if arguments.iter().any(|argument| overlays.contains(&argument.as_str()) || argument.contains("snapshot=on")) {
        all.push(obstacle(
            "what the guest writes is in temporary files of its QEMU",
            "remove `snapshot` from its arguments",
        ));
    }
    if machine.tpm {
        all.push(obstacle(
            "the TPM is another process, which stays with its QEMU",
            "set `tpm: false`, and restart the VM",
        ));
    }
    for (switch, argument) in switch_values(arguments).filter(|(switch, _)| matches!(*switch, "netdev" | "nic" | "net"))
    {
        let kind = argument.split(',').next().unwrap_or_default();
        let is_json = argument.starts_with('{');
        let is_user = matches!(kind, "user" | "none") || is_json && argument.contains(r#""type":"user""#);
        let is_frontend = switch == "net" && kind == "nic";
        if !is_user && !is_frontend {
            let problem =
                format!("`-{switch} {}` is a network that one QEMU at a time can have", argument.escape_debug());
            all.push(obstacle(problem, "use `mode: user` for its network cards, and restart the VM"));
        }
    }
    let sockets = entry.run.as_ref().map(|run| run.paths.sockets.as_path());
    all.extend(of_switches(machine, arguments, sockets));
    if entry.run.as_ref().is_none_or(|run| run.process.is_none()) {
        all.push(obstacle("its start was interrupted", format!("complete it with `maqet start {}`", entry.name)));
    }
    all
}

fn of_drive(drive: &StorageSpec) -> Option<SaveObstacle> {
    let name = Some(drive.name.to_string());
    if drive.snapshot {
        return Some(SaveObstacle::overlay(drive.name.as_str()));
    }
    drive.driver.features().shared_memory.then(|| SaveObstacle {
        drive: name,
        problem: format!("drive `{}` is served by another process, which stays with its QEMU", drive.name),
        hint: format!("remove drive `{}`, and restart the VM", drive.name),
    })
}

/// Returns the switches by which a QEMU listens, or writes files; `own` is the directory of the sockets of the run.
fn of_switches(machine: &Machine, arguments: &[String], own: Option<&Path>) -> Vec<SaveObstacle> {
    let only_one = |switch: &str, what: String| {
        let problem = format!("`-{switch}` {what}, which one QEMU at a time can have");
        obstacle(problem, format!("remove `{switch}` from its definition, and restart the VM"))
    };
    let is_written = |file: &WrittenFile| matches!(file.written_as, WrittenAs::Output | WrittenAs::Port);
    let files = machine.written_files().into_iter().filter(is_written);
    let mut all: Vec<SaveObstacle> =
        files.map(|file| only_one(&file.switch, format!("has `{}`", file.path.display()))).collect();
    for socket in ListeningSocket::of_args(arguments) {
        if own.is_none_or(|own| !Path::new(&socket.path).starts_with(own)) {
            let switch = socket.switch.trim_start_matches('-');
            let switch = switch.split(' ').next().unwrap_or(switch);
            all.push(only_one(switch, format!("has `{}`", socket.path.escape_debug())));
        }
    }
    for (name, argument) in switch_values(arguments) {
        if let Some(endpoint) = Endpoint::of_switch(&format!("-{name} {argument}")).first() {
            all.push(only_one(name, format!("listens at {endpoint}")));
        }
    }
    for (name, argument) in machine.user_switches() {
        if argument.is_some_and(|argument| argument.contains("hostfwd")) {
            let problem = format!("`-{name}` forwards ports, which one QEMU at a time can have");
            all.push(obstacle(problem, "forward them by `network`, and restart the VM"));
        }
        if name == "s" {
            all.push(only_one(name, "listens for a debugger".to_owned()));
        }
    }
    all
}

/// Returns why the other QEMU has no machine of this type.
async fn of_binary(app: &App, binary: &QemuBinary, machine_type: &str) -> Option<SaveObstacle> {
    let known = app.ports.hypervisor.names(&binary.path, NameList::Machine).await;
    if known.is_empty() || known.iter().any(|listed| listed.name == machine_type) {
        return None;
    }
    let problem =
        format!("`{}` ({}) has no machine of the type `{machine_type}`", binary.path.display(), binary.version);
    Some(obstacle(problem, "set `machine` to a type that both have, and restart the VM"))
}

/// Returns the type of the machine with its version.
pub(super) async fn machine_type(live: &mut LiveVm<'_>) -> Result<String, QmpError> {
    let command = QmpCommand::new("qom-get").with("path", "/machine").with("property", "type");
    let reply = live.query(&command).await?;
    let name = reply.as_str().unwrap_or_default();
    Ok(name.strip_suffix(MACHINE_SUFFIX).unwrap_or(name).to_owned())
}

/// Returns in what the definition leads to other devices than those that the guest has.
fn of_definition(
    (version, arguments, machine_type): (QemuVersion, &[String], &str),
    computed: &CommandLine,
) -> Vec<SaveObstacle> {
    let running = Fingerprint::new(version, CommandLine::without_takeover(arguments, machine_type), &[]);
    let next = Fingerprint::new(version, computed.args(), &[]);
    let mut all: Vec<SaveObstacle> = running.differences(&next).iter().map(of_difference).collect();
    if !computed.helpers().is_empty() {
        all.push(obstacle(
            "another process belongs to its QEMU",
            "use `mode: user` for its network cards, and restart the VM",
        ));
    }
    all
}

fn of_difference(difference: &FingerprintDifference) -> SaveObstacle {
    let problem = match (&difference.snapshot, &difference.vm) {
        (Some(running), Some(next)) => format!("it runs with `{running}`, and its definition leads to `{next}` now"),
        (Some(running), None) => format!("it runs with `{running}`, and its definition leads to no such argument now"),
        (None, Some(next)) => format!("it runs without `{next}`, to which its definition leads now"),
        (None, None) => "its definition leads to another order of devices now".to_owned(),
    };
    obstacle(problem, "restart the VM, or change its definition back")
}

/// Returns the file that the memory of the guest is in, if another QEMU can map it.
async fn memory_file(app: &App, live: &mut LiveVm<'_>) -> Result<Option<PathBuf>, Error> {
    let reply = live.query(&QmpCommand::new("query-memdev")).await?;
    let backends: Vec<&Value> = reply.as_array().into_iter().flatten().collect();
    let [backend] = backends.as_slice() else { return Ok(None) };
    let (true, Some(id)) = (backend["share"] == true, backend["id"].as_str()) else { return Ok(None) };
    let command = QmpCommand::new("qom-get").with("path", format!("/objects/{id}")).with("property", "mem-path");
    let path = match live.query(&command).await {
        Ok(path) => PathBuf::from(path.as_str().unwrap_or_default()),
        // Of a kind without a file.
        Err(QmpError::Refused { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // A file without a name, or with the name of another one, is not that of the other QEMU.
    let is_named = path.is_absolute() && app.ports.paths.kind(&path).await == PathKind::File;
    Ok((is_named && app.ports.processes.maps_file(live.process()?, &path)).then_some(path))
}
