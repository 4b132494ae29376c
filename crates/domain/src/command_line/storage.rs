//! The drives and shares of a machine, and the memory that shares need.

use std::borrow::Cow;
use std::collections::HashMap;

use super::{LaunchContext, PathNotUtf8, utf8};
use crate::machine::{Machine, SHARED_MEMORY, SharedMemory};
use crate::qemu::Switch;
use crate::storage::{DriveSlot, HostFile, Interface, QCOW2, StorageDriver, StorageSpec};

/// Returns the switches of the drives and shares, in order, each controller before its first drive.
pub(super) fn switches(machine: &Machine, context: &LaunchContext) -> Result<Vec<Switch>, PathNotUtf8> {
    let mut switches = Vec::new();
    let mut slots: HashMap<Interface, usize> = HashMap::new();
    let lacks_ide = machine.lacks_ide(&context.architecture);
    for storage in &machine.storage {
        let path = storage.path(&context.vm_storage);
        let storage = &on_machine(storage, lacks_ide);
        let overlay = storage.overlay_plan(path.clone(), context.paths.overlay(&storage.name));
        let used = slots.entry(storage.interface).or_default();
        if *used == 0 {
            switches.extend(storage.interface.controller());
        }
        let slot = DriveSlot { position: *used, is_q35: machine.is_q35() };
        *used += 1;
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
        SharedMemory::Named(id) => vec![use_of(id)],
        SharedMemory::Added => {
            let memory = Switch::new("object").head("memory-backend-memfd").option("id", SHARED_MEMORY);
            vec![memory.option("size", machine.ram().to_string()).flag("share", true), use_of(SHARED_MEMORY)]
        }
    }
}
