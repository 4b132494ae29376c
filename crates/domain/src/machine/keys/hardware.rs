//! The keys of the machine's kind and parts that are not disks or network cards.

use std::path::Path;

use serde_json::json;

use super::word;
use crate::config::{Diagnostics, KeyPath, Node, Value, schema};
use crate::machine::{ConfigHandler, KeyDoc};
use crate::machine::{Firmware, Machine, Serial};
use crate::qemu::Switch;
use crate::text::{did_you_mean, similar};

/// The architectures of QEMU 7.2 (`qemu-system-…`).
const ARCHITECTURES: [&str; 16] = [
    "x86_64",
    "i386",
    "aarch64",
    "arm",
    "riscv64",
    "riscv32",
    "ppc64",
    "ppc",
    "s390x",
    "mips64el",
    "mips64",
    "mipsel",
    "mips",
    "loongarch64",
    "sparc64",
    "m68k",
];

/// `arch`: which architecture the guest has.
#[derive(Debug)]
pub(super) struct Arch;

impl ConfigHandler for Arch {
    fn key(&self) -> &'static str {
        "arch"
    }

    fn documentation(&self) -> KeyDoc {
        KeyDoc { summary: "the guest's architecture, which chooses the binary", form: "`x86_64`, `aarch64`, …" }
    }

    fn schema(&self) -> serde_json::Value {
        schema::one_of(ARCHITECTURES)
    }

    fn apply(&self, path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Diagnostics) {
        let words = ARCHITECTURES.map(|name| (name, name));
        if let Some(arch) = report.one_of(path, node, &words) {
            machine.arch = Some(arch);
        }
    }
}

/// `machine`: the argument of `-machine`.
#[derive(Debug)]
pub(super) struct MachineType;

impl ConfigHandler for MachineType {
    fn key(&self) -> &'static str {
        "machine"
    }

    fn documentation(&self) -> KeyDoc {
        KeyDoc {
            summary: "the machine type",
            form: "as for QEMU's -machine: `q35`, or a map such as `{type: q35, usb: on}`",
        }
    }

    fn schema(&self) -> serde_json::Value {
        text_or_options()
    }

    fn apply(&self, path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Diagnostics) {
        machine.machine_type = options("machine", path, node, report).or(machine.machine_type.take());
    }
}

/// `boot`: the argument of `-boot`.
#[derive(Debug)]
pub(super) struct Boot;

impl ConfigHandler for Boot {
    fn key(&self) -> &'static str {
        "boot"
    }

    fn documentation(&self) -> KeyDoc {
        KeyDoc {
            summary: "what is booted from",
            form: "as for QEMU's -boot: `c`, or a map such as `{order: dc, menu: on}`",
        }
    }

    fn schema(&self) -> serde_json::Value {
        text_or_options()
    }

    fn apply(&self, path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Diagnostics) {
        machine.boot = options("boot", path, node, report).or(machine.boot.take());
    }
}

/// `cpu_model`: the argument of `-cpu`.
#[derive(Debug)]
pub(super) struct CpuModel;

impl ConfigHandler for CpuModel {
    fn key(&self) -> &'static str {
        "cpu_model"
    }

    fn documentation(&self) -> KeyDoc {
        KeyDoc { summary: "the kind of CPU", form: "as for QEMU's -cpu: `max`, `host`, `qemu64,+aes`, …" }
    }

    fn schema(&self) -> serde_json::Value {
        schema::text()
    }

    fn apply(&self, path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Diagnostics) {
        machine.cpu_model = report.word(path, node).or(machine.cpu_model.take());
    }
}

/// `serial`: the first serial port.
#[derive(Debug)]
pub(super) struct SerialPort;

impl ConfigHandler for SerialPort {
    fn key(&self) -> &'static str {
        "serial"
    }

    fn documentation(&self) -> KeyDoc {
        KeyDoc {
            summary: "where the first serial port goes",
            form: "`console` (a socket and a log, the default), `none`, or as for QEMU's -serial",
        }
    }

    fn schema(&self) -> serde_json::Value {
        schema::text()
    }

    fn apply(&self, path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Diagnostics) {
        if let Some(word) = word::serial(path, node, report) {
            machine.serial = match word.as_str() {
                "console" => Serial::Console,
                "none" => Serial::None,
                _ => Serial::Qemu(word),
            };
        }
    }
}

/// `firmware`: what runs before the guest.
#[derive(Debug)]
pub(super) struct FirmwareKey;

impl ConfigHandler for FirmwareKey {
    fn key(&self) -> &'static str {
        "firmware"
    }

    fn documentation(&self) -> KeyDoc {
        KeyDoc {
            summary: "what runs before the guest",
            form: "`bios` (the default), `uefi`, or the path of a firmware image, with a `/` or `.` in it",
        }
    }

    fn schema(&self) -> serde_json::Value {
        json!({ "anyOf": [schema::one_of(FIRMWARE_WORDS), { "type": "string", "pattern": "[/.]" }] })
    }

    fn rebase(&self, node: Node, folder: &Path) -> Node {
        if node.as_text().is_some_and(is_path) { node.rebased(folder) } else { node }
    }

    fn apply(&self, path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Diagnostics) {
        let Some(word) = report.word(path, node) else { return };
        machine.firmware = match word.as_str() {
            "bios" => Firmware::Default,
            "uefi" => Firmware::Uefi,
            file if is_path(file) => match report.path(path, node) {
                Some(file) => Firmware::File(file),
                None => return,
            },
            other => {
                let help = did_you_mean(&similar(other, FIRMWARE_WORDS))
                    .unwrap_or_else(|| format!("a file of this name is `./{}`", other.escape_debug()));
                let message = format!("expected `bios`, `uefi` or the path of an image, found {}", node.in_words());
                return report.wrong_with_help(path, node, message, Some(help));
            }
        };
    }
}

/// The words of `firmware`; no path looks like a word, so that a mistyped one is told.
const FIRMWARE_WORDS: [&str; 2] = ["bios", "uefi"];

fn is_path(text: &str) -> bool {
    text.contains(['/', '.'])
}

/// `sandbox`: whether QEMU confines itself.
#[derive(Debug)]
pub(super) struct Sandbox;

impl ConfigHandler for Sandbox {
    fn key(&self) -> &'static str {
        "sandbox"
    }

    fn documentation(&self) -> KeyDoc {
        KeyDoc { summary: "whether QEMU confines itself with seccomp", form: "`true` (the default) or `false`" }
    }

    fn schema(&self) -> serde_json::Value {
        schema::boolean()
    }

    fn apply(&self, path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Diagnostics) {
        machine.sandbox = report.boolean(path, node).unwrap_or(machine.sandbox);
    }
}

/// `labels`: words of the user's own.
#[derive(Debug)]
pub(super) struct Labels;

impl ConfigHandler for Labels {
    fn key(&self) -> &'static str {
        "labels"
    }

    fn documentation(&self) -> KeyDoc {
        KeyDoc { summary: "words of your own about the VM", form: "a map of texts" }
    }

    fn schema(&self) -> serde_json::Value {
        json!({ "type": "object", "additionalProperties": text_or_nothing() })
    }

    fn apply(&self, path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Diagnostics) {
        let entries = report.map(path, node).unwrap_or_default().iter();
        for (key, value) in entries.filter(|(_, value)| !value.is_null()) {
            if let Some(text) = report.text(&path.key(key), value) {
                machine.labels.push((key.clone(), text));
            }
        }
    }
}

fn text_or_options() -> serde_json::Value {
    json!({ "anyOf": [schema::text(), { "type": "object", "additionalProperties": text_or_nothing() }] })
}

/// Nothing deletes what another file says.
fn text_or_nothing() -> serde_json::Value {
    json!({ "anyOf": [schema::text(), { "type": "null" }] })
}

/// Reads an argument that is one text, passed as it is, or a map of options; of a map without any there is none.
fn options(switch: &'static str, path: &KeyPath, node: &Node, report: &mut Diagnostics) -> Option<Switch> {
    let entries = match &node.value {
        Value::Map(entries) => entries,
        Value::List(_) => {
            report.expected(path, node, "a text or a map of options");
            return None;
        }
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_) => {
            return report.word(path, node).map(|text| Switch::verbatim(switch, text));
        }
    };
    let mut built = Switch::new(switch);
    for (key, value) in entries.iter().filter(|(_, value)| !value.is_null()) {
        if key.contains([',', '=', '\0']) {
            // As under `arguments`.
            let message = format!("`{}` cannot be the name of an option", key.escape_debug());
            report.wrong_key(&path.key(key), value, message, None);
            continue;
        }
        built = built.option(key, report.word(&path.key(key), value)?);
    }
    // Alone, it would take the next word of the command line for its argument.
    built.argument().is_some().then_some(built)
}
