//! The checked description of a machine: what a definition means once every key was understood.

pub mod defaults;
mod key;

pub use self::key::{SINGLE_ARGUMENTS, builtin_handlers};

use crate::config::{KeyPath, Node, Problem, Report};
use crate::plugin::{ConfigHandler, Registry};
use crate::qemu::Switch;
use crate::size::ByteSize;
use crate::storage::StorageSpec;

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

/// A machine, every part of it checked.
#[derive(Debug, Clone)]
pub struct Machine {
    /// QEMU's binary: a path, or a name to be looked up; `None` for the host's own architecture.
    pub binary: Option<String>,
    /// The accelerator asked for.
    pub accel: AccelChoice,
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
            accel: AccelChoice::Auto,
            memory: defaults::MEMORY,
            cpu: defaults::CPU,
            display: defaults::DISPLAY.to_owned(),
            vga: None,
            storage: Vec::new(),
            switches: Vec::new(),
            arguments: Vec::new(),
            args: Vec::new(),
        }
    }
}

impl Machine {
    /// Understands a definition, or returns everything that is wrong with it.
    pub fn check(definition: &Node, handlers: &Registry<dyn ConfigHandler>) -> Result<Self, Vec<Problem>> {
        let mut machine = Self::default();
        let mut report = Report::default();

        let entries = report.map(&KeyPath::default(), definition).unwrap_or_default();
        for (key, node) in entries {
            let path = KeyPath::top(key);
            match handlers.get(key) {
                Some(handler) if !node.is_null() => handler.apply(&path, node, &mut machine, &mut report),
                Some(_) => {}
                None => report.unknown_key(&path, node, &handlers.names()),
            }
        }
        if report.is_clean() { Ok(machine) } else { Err(report.into_problems()) }
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

    /// Returns the disk of this name.
    pub fn drive(&self, name: &str) -> Option<&StorageSpec> {
        self.storage.iter().find(|storage| storage.name.as_str() == name)
    }
}
