//! The drives and shares of a machine, and the memory that shares need.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::{LaunchContext, PathNotUtf8, utf8};
use crate::machine::{Machine, SHARED_MEMORY, SharedMemory};
use crate::qemu::Switch;
use crate::storage::{DriveSlot, HostFile, Interface, QCOW2, StorageDriver, StorageSpec};

/// Returns the switches of the drives and shares, in order, each controller before its first drive.
pub(super) fn switches(machine: &Machine, context: &LaunchContext) -> Result<Vec<Switch>, PathNotUtf8> {
    let mut switches = Vec::new();
    let mut slots: HashMap<(Interface, String), Slots> = HashMap::new();
    for storage in machine.storage.iter().map(|storage| on_machine(storage, machine.lacks_ide(&context.architecture))) {
        slots.entry(controller_of(&storage)).or_default().reserve(storage.port);
    }
    let lacks_ide = machine.lacks_ide(&context.architecture);
    for storage in &machine.storage {
        let path = storage.path(&context.vm_storage);
        let storage = &on_machine(storage, lacks_ide);
        let overlay = storage.overlay_plan(path.clone(), context.paths.overlay(&storage.name));
        let controller = controller_of(storage);
        let slots = slots.entry(controller.clone()).or_default();
        if slots.is_new() {
            switches.extend(storage.interface.controller(&controller.1));
        }
        let (position, is_numbered) = slots.next(storage.port);
        let slot = DriveSlot { position, is_numbered, is_q35: machine.is_q35() };
        let file = HostFile { path: utf8(&path)?, kind: context.file_kinds.kind(&path) };
        switches.extend(match &overlay {
            // Its header names the image, which QEMU opens for reading.
            Some(overlay) => QCOW2.backend(storage, HostFile::regular(utf8(&overlay.path)?)),
            None => storage.driver.backend(storage, file),
        });
        switches.extend(storage.driver.frontend(storage, slot));
    }
    let is_shared = machine.storage.iter().any(|storage| storage.driver.features().shared_memory);
    if is_shared && machine.numa.is_empty() {
        switches.extend(shared_memory(machine));
    }
    switches.extend(machine.numa_switches(is_shared));
    Ok(switches)
}

/// The ports of a controller, or the positions on an interface.
#[derive(Debug, Default)]
struct Slots {
    /// Those that drives have in the definition.
    reserved: HashSet<usize>,
    next: usize,
    is_used: bool,
}

impl Slots {
    fn reserve(&mut self, port: Option<u8>) {
        self.reserved.extend(port.map(usize::from));
    }

    const fn is_new(&self) -> bool {
        !self.is_used
    }

    /// Returns the port of the next drive, and whether it is passed to QEMU, which else counts itself.
    fn next(&mut self, port: Option<u8>) -> (usize, bool) {
        self.is_used = true;
        let is_numbered = !self.reserved.is_empty();
        if let Some(port) = port {
            return (usize::from(port), is_numbered);
        }
        while self.reserved.contains(&self.next) {
            self.next += 1;
        }
        self.next += 1;
        (self.next - 1, is_numbered)
    }
}

fn controller_of(storage: &StorageSpec) -> (Interface, String) {
    (storage.interface, storage.controller_id().unwrap_or_default().to_owned())
}

/// Returns the drive with the default interface of the machine: CDs are SCSI where there is no IDE.
fn on_machine(storage: &StorageSpec, lacks_ide: bool) -> Cow<'_, StorageSpec> {
    if lacks_ide && storage.is_default_interface && storage.interface == Interface::Ide {
        return Cow::Owned(StorageSpec { interface: Interface::Scsi, ..storage.clone() });
    }
    Cow::Borrowed(storage)
}

/// Returns the switches for memory that other processes share; a backend of the user's is used if there is one.
fn shared_memory(machine: &Machine) -> Vec<Switch> {
    let use_of = |id: &str| Switch::new("machine").option("memory-backend", id);
    match machine.shared_memory() {
        SharedMemory::InUse => Vec::new(),
        SharedMemory::Named(id) => vec![use_of(&id)],
        SharedMemory::Added => {
            let memory = Switch::new("object").head("memory-backend-memfd").option("id", SHARED_MEMORY);
            vec![memory.option("size", machine.ram().to_string()).flag("share", true), use_of(SHARED_MEMORY)]
        }
    }
}
