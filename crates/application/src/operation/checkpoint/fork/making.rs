//! VMs that go on from a checkpoint of another one.
//!
//! A fork is a VM as any other, whose drives are overlays over the frozen images of the checkpoint, and whose first start
//! goes on from its memory. While it comes into being, it is one that is thrown away: if this process is killed, the next
//! one that looks for such VMs removes it.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::StreamExt;
use futures_util::stream::iter;
use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::checkpoint::{CheckpointManifest, FrozenDisk};
use maqet_domain::config::{Node, Value};
use maqet_domain::event::kind;
use maqet_domain::machine::Machine;
use maqet_domain::network::card_of;
use maqet_domain::port::{FoundCheckpoint, Guard, LockName, PathKind, StoreError};
use maqet_domain::vm::{FORK_LABEL, Vm, VmEntry, VmName};
use maqet_fault_points::FaultPoint;
use serde_json::json;

use super::{ForkNetwork, network};
use crate::checkpoint::error::CheckpointError;
use crate::checkpoint::resume::{Purpose, Resumed};
use crate::config::{check_machine, merge, origins};
use crate::guest::clock::set_clock;
use crate::operation::{StartOptions, Started, new_vm, start};
use crate::throw_away::definition::{list, map, path_node};
use crate::throw_away::{Lifetime, keep, remove};
use crate::{App, Error, limits};

/// How forks are started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ForkOptions {
    /// Whether their guests do not run until they are resumed.
    pub(crate) paused: bool,
    /// Whether they end with this process.
    pub(crate) foreground: bool,
    pub(crate) network: ForkNetwork,
}

/// The name of a fork.
pub(crate) enum ForkName {
    /// This one.
    Exact(VmName),
    /// One that begins so, of a VM that is thrown away with its process.
    OfThrowAway(VmName),
}

/// A fork that does not run yet, and goes with its process.
pub(crate) struct Defined {
    pub(crate) entry: VmEntry,
    pub(crate) guard: Box<dyn Guard>,
    /// Its network cards that are not to be connected.
    pub(crate) disconnected: Vec<String>,
}

/// A fork that runs, and is removed unless it is [kept](keep_all).
pub(super) struct Unfinished {
    entry: VmEntry,
    pub(super) started: Started,
    guard: Box<dyn Guard>,
}

/// Returns the names of forks: `prefix` itself for a single one, or with the next free numbers.
pub(super) async fn names(app: &App, prefix: &str, count: usize, is_exact: bool) -> Result<Vec<VmName>, Error> {
    // Images of a VM that was removed: a fork would go on with them, and take them away if it fails.
    let storage_exists = async |name: &VmName| {
        let directory = app.folders.vm_storage(name);
        (app.ports.paths.kind(&directory).await != PathKind::NotFound).then_some(directory)
    };
    if is_exact && count == 1 {
        let name = VmName::parse(prefix)?;
        return match storage_exists(&name).await {
            Some(_) if app.ports.store.list().await?.iter().any(|entry| entry.name == name) => {
                Err(StoreError::Exists { name }.into())
            }
            Some(path) => Err(CheckpointError::ForkStorageExists { fork: name, path }.into()),
            None => Ok(vec![name]),
        };
    }
    let taken: HashSet<VmName> = app.ports.store.list().await?.into_iter().map(|entry| entry.name).collect();
    let mut names = Vec::new();
    for number in 1_u64.. {
        let name = VmName::parse(&format!("{prefix}-{number}"))?;
        if !taken.contains(&name) && storage_exists(&name).await.is_none() {
            names.push(name);
        }
        if names.len() >= count {
            break;
        }
    }
    Ok(names)
}

/// Refuses a checkpoint that this host cannot go on from, with all reasons; nothing was changed.
pub(crate) async fn require_forkable(app: &App, found: &FoundCheckpoint, network: ForkNetwork) -> Result<(), Error> {
    let machine = check_machine(app, found.manifest.definition.clone())?;
    let mut reasons = network::reasons(&machine, &found.manifest.qemu.arguments, network);
    let is_connected = network == ForkNetwork::Same && !reasons.is_empty();
    reasons.extend(is_connected.then(|| "`--network none` would leave the network out".to_owned()));
    let resumed = Resumed { checkpoint: found, purpose: Purpose::Fork, disconnected: &[] };
    resumed.require_usable(app, &machine, reasons).await
}

/// Makes VMs that go on from a checkpoint, several at once; if one fails, nothing is left of any.
pub(super) async fn fork_all(
    app: &App,
    found: &FoundCheckpoint,
    names: Vec<VmName>,
    options: ForkOptions,
    operation: &'static str,
) -> Result<Vec<Unfinished>, Error> {
    let has_failed = AtomicBool::new(false);
    let has_failed = &has_failed;
    let make = |name: VmName| async move {
        if has_failed.load(Ordering::Relaxed) {
            return None;
        }
        let made = Box::pin(fork(app, found, name, options, operation)).await;
        has_failed.fetch_or(made.is_err(), Ordering::Relaxed);
        Some(made)
    };
    let outcomes: Vec<_> = iter(names).map(make).buffered(limits::MAX_CONCURRENT_FORKS).collect().await;
    let (mut forks, mut failure) = (Vec::new(), None);
    for outcome in outcomes.into_iter().flatten() {
        match outcome {
            Ok(fork) => forks.push(fork),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    match failure {
        None => Ok(forks),
        Some(error) => {
            discard_all(app, forks, operation).await;
            Err(error)
        }
    }
}

/// Makes a VM that goes on from a checkpoint; nothing is left of one that fails.
async fn fork(
    app: &App,
    found: &FoundCheckpoint,
    name: VmName,
    options: ForkOptions,
    operation: &'static str,
) -> Result<Unfinished, Error> {
    let fork = define(app, found, ForkName::Exact(name), options.network, operation).await?;
    let (entry, disconnected) = (fork.entry, &fork.disconnected);
    match start_defined(app, &entry, found, options, disconnected, operation).await {
        Ok(started) => Ok(Unfinished { entry, started, guard: fork.guard }),
        Err(error) => {
            discard(app, &entry, fork.guard, operation).await;
            Err(error)
        }
    }
}

/// Defines a VM that is to go on from a checkpoint.
pub(crate) async fn define(
    app: &App,
    found: &FoundCheckpoint,
    name: ForkName,
    network: ForkNetwork,
    operation: &'static str,
) -> Result<Defined, Error> {
    let (vm, disconnected) = new_fork(app, found, name, network)?;
    let entry = vm.entry.clone();
    let mut guard = app.ports.locks.lock(&LockName::ThrowAway(entry.id), operation, app.timeouts().lock).await?;
    let manifest = &found.manifest;
    let mut changes = ChangeSet::default().and(Change::VmAdded(Box::new(vm)));
    let data = json!({ "forked_from": manifest.vm.id, "checkpoint": manifest.name });
    changes.events.push(app.committer().event(kind::VM_DEFINED, &entry, data));
    if let Err(error) = app.committer().commit(changes).await {
        guard.retire();
        return Err(error.into());
    }
    app.faults.reach(FaultPoint::ForkDefined);
    Ok(Defined { entry, guard, disconnected })
}

/// Starts a VM that was [defined](define) from a checkpoint.
pub(crate) async fn start_defined(
    app: &App,
    entry: &VmEntry,
    found: &FoundCheckpoint,
    options: ForkOptions,
    disconnected: &[String],
    operation: &'static str,
) -> Result<Started, Error> {
    let (_lock, vm) = app.vms().lock(&entry.id.to_string(), operation).await?;
    let resumed = Some(Resumed { checkpoint: found, purpose: Purpose::Fork, disconnected });
    let ForkOptions { paused, foreground, .. } = options;
    let options = StartOptions { paused, foreground, resumed, ..StartOptions::default() };
    let started = Box::pin(start(app, &vm, options)).await?;
    // What a start reports besides is written by then.
    let mut started = started.value;
    if !paused && !sets_clock(app, &vm).await {
        let warning = "the clock of the guest is behind, as no guest agent set it: use `hwclock --hctosys` there";
        started.warnings.push(warning.to_owned());
    }
    Ok(started)
}

/// Has the agent set the clock of a guest, which is behind by the age of the checkpoint; returns whether it did.
async fn sets_clock(app: &App, vm: &Vm) -> bool {
    match app.vms().reread(vm).await {
        Ok(Vm { entry: VmEntry { run: Some(run), .. }, .. }) => set_clock(app, &run.paths).await,
        Ok(_) | Err(_) => false,
    }
}

/// Makes forks VMs that stay, or that stay until they have stopped.
pub(super) async fn keep_all(
    app: &App,
    forks: Vec<Unfinished>,
    options: ForkOptions,
    lifetime: Lifetime,
    operation: &'static str,
) -> Result<(), Error> {
    for Unfinished { entry, mut guard, .. } in forks {
        let has_cards = options.network == ForkNetwork::Same;
        keep(
            app,
            &entry.id,
            lifetime,
            |definition| {
                if has_cards { definition } else { network::without_cards(definition) }
            },
            operation,
        )
        .await?;
        if lifetime == Lifetime::Unlimited {
            guard.retire();
        }
    }
    Ok(())
}

/// Removes forks with everything they have.
async fn discard_all(app: &App, forks: Vec<Unfinished>, operation: &'static str) {
    for Unfinished { entry, guard, .. } in forks {
        discard(app, &entry, guard, operation).await;
    }
}

async fn discard(app: &App, entry: &VmEntry, mut guard: Box<dyn Guard>, operation: &'static str) {
    match remove(app, &entry.id, operation).await {
        Ok(_) => guard.retire(),
        // The next process finds it.
        Err(error) => tracing::warn!(vm = %entry.name, %error, "could not remove a fork that failed"),
    }
}

/// Returns the VM of a fork, which is not stored yet, and its network cards that are not to be connected.
fn new_fork(
    app: &App,
    found: &FoundCheckpoint,
    name: ForkName,
    network: ForkNetwork,
) -> Result<(Vm, Vec<String>), Error> {
    let manifest = &found.manifest;
    let machine = check_machine(app, manifest.definition.clone())?;
    let vm = match name {
        ForkName::Exact(name) => new_vm(app, name, Node::empty_map()),
        ForkName::OfThrowAway(base) => {
            let mut vm = new_vm(app, base, Node::empty_map());
            vm.entry.name = VmName::of_throw_away(Some(&vm.entry.name), &vm.entry.id);
            vm
        }
    };
    let above = overrides(found, &machine, &vm.entry, network);
    let definition = merge(manifest.definition.clone(), above, app.handlers());
    check_machine(app, definition.clone())?;
    let disconnected = match network {
        ForkNetwork::Same => Vec::new(),
        ForkNetwork::None => network::cards(&machine).map(|(card, _)| card_of(card.name.as_str())).collect(),
    };
    Ok((Vm { origins: origins(&definition), definition, ..vm }, disconnected))
}

/// Returns what differs from the definition of the VM that the checkpoint is of.
fn overrides(found: &FoundCheckpoint, machine: &Machine, entry: &VmEntry, network: ForkNetwork) -> Node {
    let CheckpointManifest { vm, disks, uefi_variables, .. } = &found.manifest;
    let mut entries = vec![("labels", map([(FORK_LABEL, Node::text(entry.id.to_string()))]))];
    if !disks.is_empty() {
        entries.push(("storage", list(disks.iter().map(overlay).collect())));
    }
    let cards: Vec<Node> =
        network::cards(machine).map(|(card, index)| network::definition(card, index, &vm.id, network)).collect();
    if !cards.is_empty() {
        entries.push(("network", list(cards)));
    }
    if let Some(copy) = uefi_variables {
        entries.push(("firmware", map([("variables", path_node(&found.directory.join(&copy.file)))])));
    }
    map(entries)
}

/// Returns the drive as a new overlay over the frozen image.
fn overlay(disk: &FrozenDisk) -> Node {
    let null = || Node::new(Value::Null);
    map([
        ("name", Node::text(&*disk.drive)),
        ("type", Node::text("qcow2")),
        ("file", null()),
        ("size", null()),
        ("backing_file", path_node(&disk.file)),
        ("backing_format", Node::text(&*disk.format)),
    ])
}
