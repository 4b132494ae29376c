//! The checked description of a machine: what a definition means once every key was understood.

#[cfg(test)]
mod combinations;
pub mod defaults;
mod handler;
#[cfg(test)]
mod key_limits;
mod keys;
mod ports;
mod ram;

pub use self::handler::{ConfigHandler, KeyDoc};
pub use self::keys::{SINGLE_ARGUMENTS, builtin_handlers};
pub use self::ports::{MAX_PORTS, PORT_PREFIX};

use std::path::PathBuf;

use crate::config::{Diagnostics, KeyPath, Node, Problem};
use crate::hook::Hook;
use crate::network::NetworkSpec;
use crate::qemu::Switch;
use crate::registry::Registry;
use crate::size::ByteSize;
use crate::storage::{Interface, StorageSpec};

/// Which accelerator a definition asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AccelChoice {
    /// KVM where it can work, else TCG.
    Auto,
    /// KVM, or no start.
    Kvm,
    /// Software emulation.
    Tcg,
}

/// What runs before the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Firmware {
    /// What QEMU brings for the machine type.
    Default,
    /// UEFI, with a variable store of the VM's own.
    Uefi,
    /// This image.
    File(PathBuf),
}

/// Where the first serial port goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Serial {
    /// To a socket, and to a log whether or not anybody is attached.
    Console,
    /// Nowhere.
    None,
    /// Wherever this argument of `-serial` says.
    Qemu(String),
}

/// A machine, every part of it checked.
#[derive(Debug, Clone)]
pub struct Machine {
    /// QEMU's binary: a path, or a name to be looked up; `None` for the host's own architecture.
    pub binary: Option<String>,
    /// The guest's architecture; `None` for the host's own.
    pub arch: Option<&'static str>,
    /// `-machine`, if asked for.
    pub machine_type: Option<Switch>,
    /// How many spare ports it is to have for hot-plugged devices, if that was said.
    pub hotplug_ports: Option<u8>,
    /// The accelerator asked for.
    pub accel: AccelChoice,
    /// The argument of `-cpu`, if any.
    pub cpu_model: Option<String>,
    /// What runs before the guest.
    pub firmware: Firmware,
    /// `-boot`, if asked for.
    pub boot: Option<Switch>,
    /// RAM.
    pub memory: ByteSize,
    /// The number of CPUs.
    pub cpu: u32,
    /// The argument of `-display`.
    pub display: String,
    /// The argument of `-vga`, if any.
    pub vga: Option<String>,
    /// Disks, in order.
    pub storage: Vec<StorageSpec>,
    /// Network cards, in order; none leaves the choice to QEMU, which is one with `user`.
    pub network: Vec<NetworkSpec>,
    /// Where the first serial port goes.
    pub serial: Serial,
    /// Whether QEMU confines itself.
    pub sandbox: bool,
    /// Words of the user's own.
    pub labels: Vec<(String, String)>,
    /// Programs that run when something happened to it.
    pub hooks: Vec<Hook>,
    /// Switches that keys of strangers ask for.
    pub switches: Vec<Switch>,
    /// Switches the user asked for under `arguments`, in order.
    pub arguments: Vec<Switch>,
    /// Words the user asked for under `args`, untouched.
    pub args: Vec<String>,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            binary: None,
            arch: None,
            machine_type: None,
            hotplug_ports: None,
            accel: AccelChoice::Auto,
            cpu_model: None,
            firmware: Firmware::Default,
            boot: None,
            memory: defaults::MEMORY,
            cpu: defaults::CPU,
            display: defaults::DISPLAY.to_owned(),
            vga: None,
            storage: Vec::new(),
            network: Vec::new(),
            serial: Serial::Console,
            sandbox: true,
            labels: Vec::new(),
            hooks: Vec::new(),
            switches: Vec::new(),
            arguments: Vec::new(),
            args: Vec::new(),
        }
    }
}

impl Machine {
    /// Understands a definition, or returns everything that is wrong with it.
    pub fn check(definition: &Node, handlers: &Registry<dyn ConfigHandler>) -> Result<Self, Vec<Problem>> {
        let (machine, problems) = Self::read(definition, handlers);
        if problems.is_empty() { Ok(machine) } else { Err(problems) }
    }

    /// Understands of a definition what can be understood, and returns what is wrong with the rest.
    ///
    /// A drive that is wrong in part is there with stand-ins, so that its path can be looked at all the same: unless
    /// the list of problems is empty, the machine is one to look at and none to run.
    pub fn read(definition: &Node, handlers: &Registry<dyn ConfigHandler>) -> (Self, Vec<Problem>) {
        let mut machine = Self::default();
        let mut report = Diagnostics::default();

        let entries = report.map(&KeyPath::default(), definition).unwrap_or_default();
        for (key, node) in entries {
            let path = KeyPath::top(key);
            match handlers.get(key) {
                Some(handler) if !node.is_null() => handler.apply(&path, node, &mut machine, &mut report),
                Some(_) => {}
                None => report.unknown_key(&path, node, &handlers.names()),
            }
        }
        machine.check_seats(definition, &mut report);
        machine.check_ports(definition, &mut report);
        machine.check_ram(definition, &mut report);
        (machine, report.into_problems())
    }

    /// Returns whether the user gave the switch `name` under `arguments` or `args`.
    ///
    /// What the user gives replaces what maqet would give.
    pub fn gives(&self, name: &str) -> bool {
        let in_args = |word: &String| {
            word.strip_prefix("--").or_else(|| word.strip_prefix('-')).is_some_and(|given| given == name)
        };
        self.arguments.iter().any(|switch| switch.name() == name) || self.args.iter().any(in_args)
    }

    /// Returns what sends the first serial port elsewhere than to the socket and the log of the run, if anything does.
    pub fn serial_elsewhere(&self) -> Option<String> {
        let by_switch = ["serial", "nographic"].into_iter().find(|name| self.gives(name));
        match (&self.serial, by_switch) {
            (_, Some(name)) => Some(format!("-{name}")),
            (Serial::None, None) => Some("serial: none".to_owned()),
            (Serial::Qemu(text), None) => Some(format!("serial: {text}")),
            (Serial::Console, None) => None,
        }
    }

    /// Returns whether the machine type is a `q35`; QEMU's own default (7.2) is `pc`.
    pub fn is_q35(&self) -> bool {
        self.kind().is_some_and(|kind| kind == "q35" || kind.starts_with("pc-q35"))
    }

    /// Returns whether `-machine` carries an accelerator of its own, which QEMU takes instead of `-accel` only.
    pub fn chooses_accelerator(&self) -> bool {
        let mut machines = self.arguments.iter().filter(|switch| switch.name() == "machine").chain(&self.machine_type);
        machines.any(|switch| switch.argument().unwrap_or_default().split(',').any(|part| part.starts_with("accel=")))
    }

    /// Returns the machine type, if one was asked for.
    pub fn kind(&self) -> Option<&str> {
        let given = self.arguments.iter().rev().find(|switch| switch.name() == "machine");
        let argument = given.or(self.machine_type.as_ref()).and_then(Switch::argument)?;
        argument.split(',').find_map(|part| match part.split_once('=') {
            Some(("type", kind)) => Some(kind),
            Some(_) => None,
            None => Some(part),
        })
    }

    /// Notes the first drive of each interface that finds no place.
    fn check_seats(&self, definition: &Node, report: &mut Diagnostics) {
        let entries = definition.get("storage").map(Node::items).unwrap_or_default();
        for (word, interface) in Interface::WORDS {
            let Some(most) = interface.most(self.is_q35()) else {
                continue;
            };
            let count = self.storage.iter().filter(|storage| storage.interface == interface).count();
            let first_over = self.storage.iter().filter(|storage| storage.interface == interface).nth(most);
            if let Some(storage) = first_over {
                let index = storage.index;
                let node = entries.get(index).unwrap_or(definition);
                let message = format!("the machine takes {most} drives with `interface: {word}`, and this has {count}");
                let help = Some("use `interface: scsi`, which takes 256".to_owned()).filter(|_| most < 256);
                report.wrong_with_help(&KeyPath::top("storage").index(index), node, message, help);
            }
        }
    }

    /// Returns the disk of this name.
    pub fn drive(&self, name: &str) -> Option<&StorageSpec> {
        self.storage.iter().find(|storage| storage.name.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_serial_elsewhere_is_what_the_user_said() {
        let console = Machine::default();
        let none = Machine { serial: Serial::None, ..Machine::default() };
        let file = Machine { serial: Serial::Qemu("file:/x".to_owned()), ..Machine::default() };
        let by_switch = Machine { args: vec!["-nographic".to_owned()], ..Machine::default() };

        let told = [console, none, file, by_switch].map(|machine| machine.serial_elsewhere());

        let expected = [None, Some("serial: none"), Some("serial: file:/x"), Some("-nographic")];
        assert_eq!(told.each_ref().map(Option::as_deref), expected);
    }
}
