//! The table of the built-in keys, and the functions of those with one value.

use std::collections::HashSet;

use serde_json::json;

use super::mistyped::{GRAPHICS, display, passed_to_qemu, serial};
use super::{KeySpec, arguments, cpu, file_options, firmware, map_at, network, numa, raw_arguments};
use crate::config::{Diagnostics, KeyPath, Node, Value, schema};
use crate::hook::Hook;
use crate::machine::ram::{MEBIBYTES, round_as_qemu};
use crate::machine::switches::boot_letters;
use crate::machine::{AccelChoice, KeyDoc, MAX_PORTS, Machine, Serial};
use crate::qemu::{OptionString, QemuOption, Switch};
use crate::vm::VmName;

/// Keys of the machine, in the order of `maqet config keys`.
pub(super) const MACHINE_KEYS: &[KeySpec] = &[
    // `add` takes the name out of the definition; the key is checked here.
    KeySpec::new(
        "name",
        doc("the name of the VM", "letters, digits and - _ . +, at most 64 bytes"),
        || json!({ "type": ["string", "integer"], "maxLength": VmName::MAX_LEN }),
        |path, node, _, report| drop(report.parse::<VmName>(path, node)),
    ),
    KeySpec::new("binary", doc("the QEMU binary", "a path, or a name to find in PATH"), schema::text, binary)
        .rebased_by(|node, folder| if has_slash(&node) { node.rebased(folder) } else { node }),
    KeySpec::new(
        "accel",
        doc("the accelerator", "`auto` (KVM if it works, else TCG), `kvm` or `tcg`"),
        || schema::one_of(["auto", "kvm", "tcg"]),
        |path, node, machine, report| set(&mut machine.accel, report.variant::<AccelChoice>(path, node)),
    ),
    KeySpec::new(
        "arch",
        doc("the architecture of the guest, which selects the binary", "`x86_64`, `aarch64`, …"),
        || schema::one_of(ARCHITECTURES),
        |path, node, machine, report| machine.arch = report.one_of(path, node, &ARCHITECTURES),
    ),
    KeySpec::new(
        "machine",
        doc("the machine type", "`q35` or another one of QEMU's -machine, or a map such as `{type: q35, usb: on}`"),
        text_or_options,
        |path, node, machine, report| machine.machine_type = options("machine", path, node, report),
    )
    .merged_as(|node| options_as_map("machine", node)),
    KeySpec::new(
        "hotplug_ports",
        doc("how many devices can be hot-plugged into a `q35` machine", "an integer from 0 to 8"),
        || schema::integer(0, i64::from(MAX_PORTS)),
        |path, node, machine, report| machine.hotplug_ports = report.integer(path, node, 0, i64::from(MAX_PORTS)),
    ),
    KeySpec::new("memory", doc("RAM", "a size such as `2G`; a bare number is MiB"), schema::size, memory),
    KeySpec::new(
        "cpu",
        doc(
            "the CPUs",
            "their number, from 1 to 1024, or a map with sockets, cores and threads, such as `{cores: 4, threads: 2}`",
        ),
        cpu::schema,
        cpu::apply,
    )
    .merged_as(cpu::as_map),
    KeySpec::new(
        "numa",
        doc(
            "the NUMA nodes",
            "their number, which divides CPUs and RAM evenly, or maps with cpus, memory, such as `{cpus: 0-3, memory: 2G}`",
        ),
        numa::schema,
        numa::apply,
    ),
    KeySpec::new(
        "cpu_model",
        doc("the CPU model", "`max`, `host`, `qemu64,+aes` or another one of QEMU's -cpu"),
        schema::text,
        |path, node, machine, report| machine.cpu_model = report.line(path, node),
    ),
    KeySpec::new(
        "firmware",
        doc(
            "the firmware",
            "`bios` (the default), `uefi`, the path of a firmware image, with a `/` or `.` in it, or a map with type, \
             secure_boot, code, variables",
        ),
        firmware::schema,
        firmware::apply,
    )
    .rebased_by(firmware::rebase)
    .merged_as(firmware::as_map),
    KeySpec::new(
        "tpm",
        doc("whether the VM has a TPM 2.0, emulated by swtpm", "`true`, or `false` (the default)"),
        schema::boolean,
        |path, node, machine, report| set(&mut machine.tpm, report.boolean(path, node)),
    ),
    KeySpec::new(
        "boot",
        doc("the boot order", "`c` or another value of QEMU's -boot, or a map such as `{order: dc, menu: on}`"),
        text_or_options,
        |path, node, machine, report| machine.boot = options("boot", path, node, report),
    )
    .rebased_by(|node, folder| file_options::rebase_key("boot", node, folder))
    .merged_as(|node| options_as_map("boot", node)),
    KeySpec::new(
        "display",
        doc("where the screen is shown", "`none`, `gtk` or another value of QEMU's -display"),
        schema::text,
        |path, node, machine, report| set(&mut machine.display, display(path, node, report)),
    )
    .rebased_by(|node, folder| file_options::rebase_argument("display", node, folder)),
    KeySpec::new(
        "vga",
        doc("the graphics card", "`std`, `virtio`, `none` or another value of QEMU's -vga"),
        schema::text,
        |path, node, machine, report| machine.vga = passed_to_qemu(path, node, &GRAPHICS, report),
    ),
];

/// Keys after `storage`, in the order of `maqet config keys`.
pub(super) const OTHER_KEYS: &[KeySpec] = &[
    KeySpec::new(
        "network",
        doc(
            "network cards",
            "`user`, `passt`, `none`, or maps with name, mode, model, mac, bootindex, forward, restrict, subnet, bridge, \
             interface, listen, connect, local, remote",
        ),
        network::schema,
        network::apply,
    )
    .rebased_by(network::rebase),
    KeySpec::new(
        "serial",
        doc("the first serial port", "`console` (a socket and a log, the default), `none`, or as for QEMU's -serial"),
        schema::text,
        |path, node, machine, report| {
            let port = serial(path, node, report).map(|text| match text.as_str() {
                "console" => Serial::Console,
                "none" => Serial::None,
                _ => Serial::Qemu(text),
            });
            set(&mut machine.serial, port);
        },
    )
    .rebased_by(|node, folder| file_options::rebase_argument("serial", node, folder)),
    KeySpec::new(
        "sandbox",
        doc("whether QEMU runs in its seccomp sandbox", "`true` (the default) or `false`"),
        schema::boolean,
        |path, node, machine, report| set(&mut machine.sandbox, report.boolean(path, node)),
    ),
    KeySpec::new(
        "labels",
        doc("your own labels for the VM", "a map of strings"),
        || json!({ "type": "object", "additionalProperties": text_or_null() }),
        labels,
    ),
    KeySpec::new(
        "hooks",
        doc(
            "programs to run on events of the VM",
            "a map from event types, such as `vm.started`, to a command (a list of arguments) or a list of commands",
        ),
        || {
            let command =
                json!({ "type": "array", "minItems": 1, "items": { "type": ["string", "number", "boolean"] } });
            let commands = json!({ "type": "array", "minItems": 1, "items": command });
            json!({ "type": "object", "additionalProperties": { "anyOf": [command, commands] } })
        },
        |path, node, machine, report| machine.hooks.extend(Hook::read_all(path, node, report)),
    )
    .rebased_by(Hook::rebase),
    KeySpec::new(
        "arguments",
        doc("options of QEMU, structured", "a list such as `- {netdev: user, id: n0}`"),
        || schema::list(&json!({ "type": ["string", "object"], "minProperties": 1 })),
        arguments::apply_structured,
    )
    .rebased_by(file_options::rebase_structured),
    KeySpec::new(
        "args",
        doc("arguments passed to QEMU unchanged", "a list of strings"),
        || schema::list(&json!({ "anyOf": [schema::text(), schema::deletion()] })),
        raw_arguments::apply,
    )
    .rebased_by(file_options::rebase_raw),
];

/// The architectures of QEMU 7.2 (`qemu-system-…`).
pub(in crate::machine) const ARCHITECTURES: [&str; 16] = [
    "x86_64", "i386", "aarch64", "arm", "riscv64", "riscv32", "ppc64", "ppc", "s390x", "mips64el", "mips64", "mipsel",
    "mips", "loongarch64", "sparc64", "m68k",
];

pub(super) const fn doc(summary: &'static str, value: &'static str) -> KeyDoc {
    KeyDoc { summary, value }
}

/// Stores a value that was read without errors.
fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn text_or_options() -> serde_json::Value {
    json!({ "anyOf": [schema::text(), { "type": "object", "additionalProperties": text_or_null() }] })
}

/// Null deletes the value of another file.
fn text_or_null() -> serde_json::Value {
    json!({ "anyOf": [schema::text(), { "type": "null" }] })
}

fn has_slash(node: &Node) -> bool {
    node.as_text().is_some_and(|text| text.contains('/'))
}

/// A name without a slash is searched for in PATH; anything else is a path.
fn binary(path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Diagnostics) {
    let binary = if has_slash(node) {
        report.path(path, node).map(|path| path.to_string_lossy().into_owned())
    } else {
        report.line(path, node)
    };
    machine.binary = binary;
}

fn memory(path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Diagnostics) {
    match report.size(path, node, MEBIBYTES) {
        Some(size) if size.bytes() < (1 << 20) => report.error(path, node, format!("`{size}` is less than 1M")),
        Some(size) => machine.memory = round_as_qemu(size),
        None => {}
    }
}

fn labels(path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Diagnostics) {
    let entries = report.map(path, node).unwrap_or_default().iter();
    for (key, value) in entries.filter(|(_, value)| !value.is_null()) {
        if let Some(text) = report.text(&path.key(key), value) {
            machine.labels.push((key.clone(), text));
        }
    }
}

/// Returns the options in an argument of QEMU that is a string; `None` if one of them is given twice.
fn options_as_map(switch: &'static str, node: &Node) -> Option<Node> {
    let options = OptionString::parse(switch, &node.written()?);
    let keys: HashSet<&str> = options.iter().map(|option| option.key.as_str()).collect();
    let is_map = keys.len() == options.iter().count() && !keys.is_empty() && !keys.contains("");
    let value = |option: &QemuOption| Value::Text(option.value.clone());
    is_map.then(|| map_at(node, options.iter().map(|option| (option.key.as_str(), value(option)))))
}

/// Reads an argument of QEMU that is a string, passed unchanged, or a map of options; an empty map is no argument.
fn options(switch: &'static str, path: &KeyPath, node: &Node, report: &mut Diagnostics) -> Option<Switch> {
    let entries = match &node.value {
        Value::Map(entries) => entries,
        Value::List(items) => {
            let words: Vec<String> = items.iter().filter_map(Node::written).collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let letters = boot_letters(&words).filter(|_| switch == "boot" && words.len() == items.len());
            let help = letters.map(|letters| format!("write `boot: {letters}`: a letter for each device, in one word"));
            report.expected_with_help(path, node, "a string or a map of options", help);
            return None;
        }
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_) => {
            return report.line(path, node).map(|text| Switch::verbatim(switch, text));
        }
    };
    let mut built = Switch::new(switch);
    for (key, value) in entries.iter().filter(|(_, value)| !value.is_null()) {
        if key.contains([',', '=', '\0']) {
            // The same rule as under `arguments`.
            let message = format!("invalid option name `{}`", key.escape_debug());
            report.key_error(&path.key(key), value, message, None);
            continue;
        }
        built = built.option(key, report.option(&path.key(key), value)?);
    }
    // Without an argument, the switch would take the next one of the command line.
    built.argument().is_some().then_some(built)
}
