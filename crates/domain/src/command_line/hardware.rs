//! The machine itself: its type, accelerator, RAM, CPUs and screen.

use super::LaunchContext;
use crate::machine::{Machine, defaults};
use crate::qemu::Switch;

/// Returns the switches of the machine type, the accelerator, RAM, CPUs and the screen.
pub(super) fn switches(machine: &Machine, context: &LaunchContext) -> Vec<Switch> {
    let mut ours = Vec::new();
    if !machine.has_switch("enable-kvm") && !machine.chooses_accelerator() {
        ours.push(Switch::new("accel").head(&context.accelerator.to_string()));
    }
    ours.push(Switch::new("m").head(&machine.memory.to_string()));
    ours.push(machine.cpu.switch());
    let default_model = || defaults::cpu_model(&context.architecture, machine.kind_on(&context.architecture));
    let cpu_model = machine.cpu_model.as_deref().or_else(default_model);
    ours.extend(cpu_model.map(|model| Switch::verbatim("cpu", model)));
    if !machine.has_switch("nographic") {
        ours.push(Switch::verbatim("display", machine.display.clone()));
    }
    ours.extend(machine.vga.clone().map(|vga| Switch::verbatim("vga", vga)));
    ours.retain(|switch| !machine.has_switch(switch.name()));
    ours.extend(machine.boot_switch().cloned());
    // `-machine` can be given several times, and one of the user or of the definition may have other options only.
    let default = if machine.kind().is_none() { machine.kind_on(&context.architecture) } else { None };
    let default = default.map(|kind| Switch::new("machine").head(kind));
    default.into_iter().chain(machine.machine_switch().cloned()).chain(ours).collect()
}
