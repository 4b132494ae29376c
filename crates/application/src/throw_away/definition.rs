//! The definition of a VM that is thrown away, made from that of a file or of another VM.

use std::path::{Path, PathBuf};

use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::config::{Diagnostics, Node, Problem, Value};
use maqet_domain::event::kind;
use maqet_domain::machine::Machine;
use maqet_domain::network::{Forward, NetworkSpec};
use maqet_domain::port::{Guard, LockName, PathKind};
use maqet_domain::storage::LAYER_FORMAT;
use maqet_domain::vm::{Revision, THROW_AWAY_LABEL, Vm, VmEntry, VmId, VmName};
use serde_json::json;

use crate::app::layered;
use crate::config::{ConfigError, Layers, Sources, check_layers, check_machine, merge, origins, without_name};
use crate::start::drives::Drive;
use crate::{App, Error};

/// A VM that was made to be thrown away.
pub(crate) struct ThrowAway {
    pub(crate) vm: VmEntry,
    /// Unknown keys that were ignored, and what is probably not meant.
    pub(crate) warnings: Vec<Problem>,
    /// Held for as long as the VM is used.
    pub(crate) guard: Box<dyn Guard>,
}

/// A directory of the host that the guest gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Share<'a> {
    /// The name of its entry, which is its mount tag.
    pub(crate) name: String,
    pub(crate) path: &'a Path,
    pub(crate) readonly: bool,
}

/// What a VM that is thrown away is made from: documents and values, or those over another VM.
pub(crate) struct Original {
    /// That of the new VM, as is its name.
    id: VmId,
    name: VmName,
    /// The VM whose images those without a path are.
    owner: Option<VmName>,
    /// The checked definition, without what a VM that is thrown away has besides.
    pub(crate) definition: Node,
    pub(crate) machine: Machine,
    /// The UEFI variables that it begins with.
    pub(crate) variables: Option<PathBuf>,
    warnings: Vec<Problem>,
}

/// What documents and values are over.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Base<'a> {
    /// Nothing.
    Nothing,
    /// The definition and the disks of a VM.
    Vm(&'a Vm),
    /// A definition that was checked before.
    Definition(&'a Node),
}

/// How the images of a VM that is thrown away are kept as they are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ImagesOf<'a> {
    /// By overlays whose writes are lost with QEMU, of a VM with these directories of the host.
    Run(&'a [Share<'a>]),
    /// By overlays in the storage directory of the VM.
    Template,
}

impl Original {
    /// Reads and checks the documents and values in `layers`, over `base`.
    pub(crate) async fn read(app: &App, layers: &Layers<'_>, base: Base<'_>) -> Result<Self, Error> {
        let (below, source) = match base {
            Base::Nothing => (Node::empty_map(), None),
            Base::Definition(definition) => (definition.clone(), None),
            Base::Vm(vm) => (crate::config::with_locations(vm), Some(vm)),
        };
        let checked = check_layers(app, layers, below).await?;
        let named = checked.definition.get("name").and_then(Node::written);
        let named = named.map(|name| VmName::parse(&name)).transpose()?;
        let id = app.ports.ids.vm_id();
        let owner = source.map(|vm| vm.entry.name.clone());
        let name = VmName::of_throw_away(owner.as_ref().or(named.as_ref()), &id);

        let definition = without_name(checked.definition);
        let mut machine = check_machine(app, definition.clone())?;
        require_no_written_nodes(app, layers, &machine, &definition).await?;
        app.preflight().resolve_architecture(&mut machine).await?;
        let machine = layered(machine, source.map_or(&[], |vm| &vm.entry.layers));
        let variables = match &owner {
            Some(owner) if machine.firmware.is_uefi() => Some(app.preflight().uefi_variables(owner)),
            Some(_) | None => None,
        };
        let variables = match variables {
            Some(path) if app.ports.images.exists(&path).await => Some(path),
            Some(_) | None => None,
        };
        Ok(Self { id, name, owner, definition, machine, variables, warnings: checked.warnings })
    }

    /// Returns the name by which the VM is to be known, with its own ID.
    #[must_use]
    pub(crate) fn named(self, base: &VmName) -> Self {
        Self { name: VmName::of_throw_away(Some(base), &self.id), ..self }
    }

    /// Returns the drives, with the images that they have now.
    pub(crate) fn drives(&self, app: &App) -> Vec<Drive<'_>> {
        app.preflight().drives(self.owner.as_ref().unwrap_or(&self.name), &self.machine)
    }

    /// Defines a VM that is thrown away.
    ///
    /// It is not part of the history: nothing of it is left to undo.
    pub(crate) async fn define(
        self,
        app: &App,
        images: ImagesOf<'_>,
        operation: &'static str,
    ) -> Result<ThrowAway, Error> {
        let (machine, decides_about_panics) = (&self.machine, self.definition.get("panic").is_some());
        let below = defaults(machine, &app.preflight().architecture(machine), decides_about_panics);
        let mut storage = Vec::new();
        for drive in &self.drives(app) {
            let exists = app.ports.images.exists(&drive.path).await;
            storage.extend(match images {
                ImagesOf::Run(_) => with_overlay(drive, exists),
                ImagesOf::Template => with_kept_overlay(drive, exists),
            });
        }
        if let ImagesOf::Run(shares) = images {
            storage.extend(shares.iter().map(entry_of_share));
        }
        let above = overrides(machine, storage, self.variables);
        let definition = merge(merge(below, self.definition, app.handlers()), above, app.handlers());
        check_machine(app, definition.clone())?;

        let (id, name) = (self.id, self.name);
        let guard = app.ports.locks.lock(&LockName::ThrowAway(id), operation, app.timeouts().lock).await?;
        let created_at = app.ports.clock.now();
        let entry =
            VmEntry { id, name, revision: Revision::FIRST, created_at, run: None, pending: None, layers: Vec::new() };
        let vm = Vm { entry: entry.clone(), origins: origins(&definition), definition };
        let mut changes = ChangeSet::default().and(Change::VmAdded(Box::new(vm)));
        changes.events.push(app.committer().event(kind::VM_DEFINED, &entry, json!({})));
        app.committer().commit(changes).await?;
        Ok(ThrowAway { vm: entry, warnings: self.warnings, guard })
    }
}

/// Refuses block nodes and memory of the user that are written: QEMU throws away what is written to a `-drive` only (7.2, 10.0).
async fn require_no_written_nodes(
    app: &App,
    layers: &Layers<'_>,
    machine: &Machine,
    definition: &Node,
) -> Result<(), ConfigError> {
    let mut report = Diagnostics::default();
    for (at, node, switch, image) in machine.written_nodes_in(definition) {
        // Memory in a directory has no name there.
        if app.ports.paths.kind(Path::new(&image)).await == PathKind::Directory {
            continue;
        }
        let message = format!("`run` would write to `{}`, and could not undo that", image.escape_debug());
        let help = match switch {
            "object" => "remove `share` from it",
            _ => "write it as a drive under `storage`, or add `read-only: on` to it",
        };
        report.error_with_help(&at, node, message, Some(help.to_owned()));
    }
    if report.is_clean() {
        return Ok(());
    }
    let mut sources = Sources::default();
    layers.documents.iter().for_each(|document| sources.add(document));
    sources.extend(&app.settings().sources);
    Err(ConfigError::new(report.into_problems(), sources))
}

/// Returns what applies unless the definition says something else: a panic, or a reset of the guest, is the end.
fn defaults(machine: &Machine, architecture: &str, decides_about_panics: bool) -> Node {
    let mut entries = Vec::new();
    if !decides_about_panics && machine.takes_panic_device(architecture) {
        entries.push(("panic", Node::text("shutdown")));
    }
    let mut arguments = Vec::new();
    if !machine.decides_about_resets() {
        arguments.push(Node::text("no-reboot"));
    }
    if machine.has_written_drives() {
        arguments.push(Node::text("snapshot"));
    }
    if !arguments.is_empty() {
        entries.push(("arguments", list(arguments)));
    }
    map(entries)
}

/// Returns what applies whatever the definition says: drives keep their images as they are, and no two VMs have one port.
fn overrides(machine: &Machine, storage: Vec<Node>, variables: Option<PathBuf>) -> Node {
    let mut entries = vec![("labels", map([(THROW_AWAY_LABEL, Node::text("true"))]))];
    if !storage.is_empty() {
        entries.push(("storage", list(storage)));
    }
    let cards: Vec<Node> = machine.network.iter().filter_map(with_free_ports).collect();
    if !cards.is_empty() {
        entries.push(("network", list(cards)));
    }
    if let Some(path) = variables {
        entries.push(("firmware", map([("variables", path_node(&path))])));
    }
    map(entries)
}

/// Returns the change of a drive that is written: an overlay over its image, or a new image in a directory that is removed.
fn with_overlay(drive: &Drive<'_>, exists: bool) -> Option<Node> {
    let storage = drive.storage;
    drive.image_use()?;
    let name = ("name", Node::text(storage.name.as_str()));
    let file = ("file", path_node(&drive.path));
    match (exists, drive.plan()) {
        (true, _) if storage.driver.is_readonly(storage) => Some(map([name, file])),
        (true, _) => {
            // Of a layer, it is another one than that of the image below.
            let format = drive.image_use()?.format.filter(|format| format == LAYER_FORMAT);
            let kind = format.map(|format| ("type", Node::text(format)));
            let overlay = ("snapshot", Node::new(Value::Bool(true)));
            Some(map([name, file, overlay].into_iter().chain(kind)))
        }
        (false, Some(_)) if storage.file.is_some() => Some(map([name, ("file", Node::new(Value::Null))])),
        (false, _) => None,
    }
}

/// Returns the change of a drive that is written and saved: an overlay that stays over its image, or a new image.
fn with_kept_overlay(drive: &Drive<'_>, exists: bool) -> Option<Node> {
    let storage = drive.storage;
    let image = drive.image_use()?;
    if !exists || storage.driver.is_readonly(storage) {
        return with_overlay(drive, exists);
    }
    let null = |key| (key, Node::new(Value::Null));
    let name = ("name", Node::text(storage.name.as_str()));
    let own = [name, ("type", Node::text("qcow2")), ("backing_file", path_node(&drive.path))];
    let format = image.format.map(|format| ("backing_format", Node::text(format)));
    Some(map(own.into_iter().chain(format).chain(["file", "size", "snapshot"].map(null))))
}

/// Returns the change of a card whose forwarded ports are chosen by QEMU.
pub(crate) fn with_free_ports(card: &NetworkSpec) -> Option<Node> {
    let fixed: Vec<&Forward> = card.forward.iter().filter(|forward| forward.host_port != 0).collect();
    if fixed.is_empty() {
        return None;
    }
    let deleted = fixed.iter().map(|forward| map([(&*forward.to_string(), Node::new(Value::Null))]));
    let added = fixed.iter().map(|forward| Node::text(Forward { host_port: 0, ..**forward }.to_string()));
    let forward = list(deleted.chain(added).collect());
    Some(map([("name", Node::text(card.name.as_str())), ("forward", forward)]))
}

fn entry_of_share(share: &Share<'_>) -> Node {
    let readonly = Node::new(Value::Bool(share.readonly));
    let (name, kind) = (Node::text(&*share.name), Node::text("virtfs"));
    map([("name", name), ("type", kind), ("path", path_node(share.path)), ("readonly", readonly)])
}

pub(crate) fn path_node(path: &Path) -> Node {
    Node::text(path.to_string_lossy())
}

pub(crate) fn map<'k>(entries: impl IntoIterator<Item = (&'k str, Node)>) -> Node {
    Node::new(Value::Map(entries.into_iter().map(|(key, node)| (key.to_owned(), node)).collect()))
}

pub(crate) fn list(items: Vec<Node>) -> Node {
    Node::new(Value::List(items))
}
