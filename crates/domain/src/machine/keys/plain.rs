//! The keys that hold one value.

use std::path::Path;

use serde_json::json;

use super::word::{DISPLAYS, GRAPHICS, hardly_mistyped};
use crate::config::{Diagnostics, KeyPath, Node, schema};
use crate::machine::ram::{MEBIBYTES, as_qemu_takes_it};
use crate::machine::{AccelChoice, Machine};
use crate::machine::{ConfigHandler, KeyDoc};
use crate::vm::VmName;

/// More CPUs than any machine of QEMU 7.2 has (`q35` allows 288, `virt` 512).
const MOST_CPUS: i64 = 1024;

/// `name`: taken out of the definition when it is added; checked here so that it is known.
#[derive(Debug)]
pub(super) struct Name;

impl ConfigHandler for Name {
    fn key(&self) -> &'static str {
        "name"
    }

    fn documentation(&self) -> KeyDoc {
        KeyDoc { summary: "the VM's name", form: "letters, digits and - _ . +, 64 bytes at most" }
    }

    fn schema(&self) -> serde_json::Value {
        json!({ "type": ["string", "integer"], "maxLength": VmName::MAX_LEN })
    }

    fn apply(&self, path: &KeyPath, node: &Node, _: &mut Machine, report: &mut Diagnostics) {
        if let Some(text) = report.text(path, node)
            && let Err(invalid) = VmName::parse(&text)
        {
            report.wrong(path, node, invalid.to_string());
        }
    }
}

/// `binary`: which QEMU runs the machine.
#[derive(Debug)]
pub(super) struct Binary;

impl ConfigHandler for Binary {
    fn key(&self) -> &'static str {
        "binary"
    }

    fn documentation(&self) -> KeyDoc {
        KeyDoc { summary: "the QEMU that runs the machine", form: "a path, or a name to find in PATH" }
    }

    fn schema(&self) -> serde_json::Value {
        schema::text()
    }

    /// A name without a slash is looked up in PATH; anything else is a path.
    fn rebase(&self, node: Node, folder: &Path) -> Node {
        match node.as_text() {
            Some(text) if text.contains('/') => node.rebased(folder),
            Some(_) | None => node,
        }
    }

    fn apply(&self, path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Diagnostics) {
        let is_path = node.as_text().is_some_and(|text| text.contains('/'));
        let binary = if is_path {
            report.path(path, node).map(|path| path.to_string_lossy().into_owned())
        } else {
            report.word(path, node)
        };
        machine.binary = binary.or(machine.binary.take());
    }
}

/// `accel`: how the guest's instructions are run.
#[derive(Debug)]
pub(super) struct Accel;

impl ConfigHandler for Accel {
    fn key(&self) -> &'static str {
        "accel"
    }

    fn documentation(&self) -> KeyDoc {
        KeyDoc {
            summary: "how the guest's instructions are run",
            form: "`auto` (KVM where it can work, else TCG), `kvm` or `tcg`",
        }
    }

    fn schema(&self) -> serde_json::Value {
        schema::one_of(["auto", "kvm", "tcg"])
    }

    fn apply(&self, path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Diagnostics) {
        let words = [("auto", AccelChoice::Auto), ("kvm", AccelChoice::Kvm), ("tcg", AccelChoice::Tcg)];
        if let Some(choice) = report.one_of(path, node, &words) {
            machine.accel = choice;
        }
    }
}

/// `memory`: the machine's RAM.
#[derive(Debug)]
pub(super) struct Memory;

impl ConfigHandler for Memory {
    fn key(&self) -> &'static str {
        "memory"
    }

    fn documentation(&self) -> KeyDoc {
        KeyDoc { summary: "RAM", form: "a size such as `2G`; a bare number is MiB" }
    }

    fn schema(&self) -> serde_json::Value {
        schema::size()
    }

    fn apply(&self, path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Diagnostics) {
        match report.size(path, node, MEBIBYTES) {
            Some(size) if size.bytes() < (1 << 20) => {
                report.wrong(path, node, format!("`{size}` of memory is less than 1M"));
            }
            Some(size) => machine.memory = as_qemu_takes_it(size),
            None => {}
        }
    }
}

/// `cpu`: how many CPUs the machine has.
#[derive(Debug)]
pub(super) struct Cpu;

impl ConfigHandler for Cpu {
    fn key(&self) -> &'static str {
        "cpu"
    }

    fn documentation(&self) -> KeyDoc {
        KeyDoc { summary: "the number of CPUs", form: "a whole number from 1 to 1024" }
    }

    fn schema(&self) -> serde_json::Value {
        schema::whole(1, MOST_CPUS)
    }

    fn apply(&self, path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Diagnostics) {
        if let Some(count) = report.whole(path, node, 1, MOST_CPUS)
            && let Ok(count) = u32::try_from(count)
        {
            machine.cpu = count;
        }
    }
}

/// `display`: the argument of `-display`.
#[derive(Debug)]
pub(super) struct Display;

impl ConfigHandler for Display {
    fn key(&self) -> &'static str {
        "display"
    }

    fn documentation(&self) -> KeyDoc {
        KeyDoc { summary: "where the guest's screen is shown", form: "as for QEMU's -display: `none`, `gtk`, …" }
    }

    fn schema(&self) -> serde_json::Value {
        schema::text()
    }

    fn apply(&self, path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Diagnostics) {
        if let Some(word) = hardly_mistyped(path, node, &DISPLAYS, report) {
            machine.display = word;
        }
    }
}

/// `vga`: the argument of `-vga`.
#[derive(Debug)]
pub(super) struct Vga;

impl ConfigHandler for Vga {
    fn key(&self) -> &'static str {
        "vga"
    }

    fn documentation(&self) -> KeyDoc {
        KeyDoc { summary: "the graphics card", form: "as for QEMU's -vga: `std`, `virtio`, `none`, …" }
    }

    fn schema(&self) -> serde_json::Value {
        schema::text()
    }

    fn apply(&self, path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Diagnostics) {
        if let Some(word) = hardly_mistyped(path, node, &GRAPHICS, report) {
            machine.vga = Some(word);
        }
    }
}
