//! The user's switches beside those of maqet.
//!
//! QEMU merges, replaces or silently ignores a switch that concerns what another one sets. [`SWITCHES`] decides each
//! switch of QEMU; `beside` has the rules for those that depend on the rest of the definition, and `text` the values
//! that QEMU cannot honor under maqet.

mod accelerator;
mod beside;
mod boot;
mod ide;
mod ids;
mod raw;
mod table;
mod text;
mod twice;

pub(super) use self::boot::boot_letters;
pub use self::raw::{RawItem, RawSwitch, raw_items, raw_switches};
pub(super) use self::table::refusal;
pub use self::table::{MACHINE_FLAGS, MachineFlag, SWITCHES, Treatment};

use super::Machine;
use crate::config::{Diagnostics, KeyPath, Node};
use crate::qemu::{OptionString, RawPart, Switch, raw_parts};

/// A switch of the user, or the key of maqet that becomes one.
#[derive(Debug, Clone)]
pub(super) struct UserSwitch<'d> {
    /// Where it is in the definition.
    pub(super) at: KeyPath,
    pub(super) node: &'d Node,
    /// Its name without hyphens and aliases.
    pub(super) name: String,
    pub(super) argument: String,
    options: OptionString,
    /// Whether it is a key of maqet.
    pub(super) is_key: bool,
}

impl<'d> UserSwitch<'d> {
    fn new(at: KeyPath, node: &'d Node, name: &str, argument: String, is_key: bool) -> Self {
        let options = OptionString::parse(name, &argument);
        Self { at, node, name: name.to_owned(), argument, options, is_key }
    }

    /// Returns the switch as the user wrote it, with `value` as the part of interest.
    fn shown(&self, value: &str) -> String {
        let (name, value) = (&self.name, value.escape_debug());
        match (self.is_key, value.to_string().is_empty()) {
            (true, _) => format!("`{name}: {value}`"),
            (false, true) => format!("`-{name}`"),
            (false, false) => format!("`-{name} {value}`"),
        }
    }

    /// Returns the options in its argument.
    pub(super) const fn options(&self) -> &OptionString {
        &self.options
    }

    /// Returns the value of an option.
    fn option(&self, key: &str) -> Option<&str> {
        self.options.get(key)
    }

    /// Returns the first value, whose key can be left out, such as the driver of `-device`.
    fn head(&self) -> &str {
        self.options.head()
    }
}

/// Why a switch is refused, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) message: String,
    pub(super) help: String,
}

impl Machine {
    /// Returns the user's switches, with their arguments, in the order in which QEMU gets them.
    pub fn user_switches(&self) -> impl DoubleEndedIterator<Item = (&str, Option<&str>)> {
        let parts: Vec<RawPart<'_>> = raw_parts(&self.args).collect();
        let value = |index: usize| match parts.get(index + 1) {
            Some(RawPart::Value(_)) => self.args.get(index + 1).map(String::as_str),
            Some(RawPart::Switch(_) | RawPart::Other) | None => None,
        };
        let raw = parts.iter().enumerate().filter_map(|(index, part)| match part {
            RawPart::Switch(name) => Some((*name, value(index))),
            RawPart::Value(_) | RawPart::Other => None,
        });
        let raw: Vec<(&str, Option<&str>)> = raw.collect();
        raw.into_iter().chain(self.arguments.iter().map(|switch| (switch.name(), switch.argument())))
    }

    /// Returns the arguments of the user's switches of this name.
    pub(super) fn user_arguments<'m>(&'m self, name: &'m str) -> impl DoubleEndedIterator<Item = &'m str> {
        self.user_switches().filter(move |(known, _)| *known == name).filter_map(|(_, argument)| argument)
    }

    /// Returns the options of the user's switches of this name.
    pub(super) fn user_options<'m>(&'m self, name: &'m str) -> impl DoubleEndedIterator<Item = OptionString> {
        self.user_arguments(name).map(move |argument| OptionString::parse(name, argument))
    }

    /// Returns whether the user's `arguments` or `args` contain the switch `name`, which then replaces that of maqet.
    pub fn has_switch(&self, name: &str) -> bool {
        self.user_switches().any(|(known, _)| known == name)
    }

    /// Removes raw arguments that an item of `arguments` leaves out.
    pub(super) fn leave_out_raw(&mut self, definition: &Node) {
        let left_out = super::keys::left_out(definition.get("arguments").map(Node::items).unwrap_or_default());
        let is_kept = |part: RawPart<'_>| !matches!(part, RawPart::Switch(name) if left_out.contains_key(name));
        let mut kept = raw_parts(&self.args).map(is_kept).collect::<Vec<_>>().into_iter();
        self.args.retain(|_| kept.next().unwrap_or(true));
    }

    /// Reports switches that have no effect, or a harmful one, beside the rest of the definition.
    pub(super) fn check_switches(&self, definition: &Node, report: &mut Diagnostics) {
        let switches = self.switches_in(definition);
        let architecture = self.architecture().unwrap_or("x86_64");
        // Those under `arguments` were refused when they were read, unless a later entry leaves them out.
        for switch in raw_switches_left(definition) {
            super::keys::check_allowed(&KeyPath::top("args").index(switch.index), switch.node, switch.name, report);
        }
        let refusals = switches.iter().filter_map(|switch| {
            let refusal = text::refusal(switch, architecture).or_else(|| self.refusal_beside(switch));
            refusal.map(|refusal| (switch, refusal))
        });
        for (switch, Refusal { message, help }) in refusals
            .chain(self.id_refusals(&switches))
            .chain(self.ide_refusals(&switches))
            .chain(self.twice_refusals(&switches))
            .chain(self.memory_size_refusals(&switches))
        {
            report.error_with_help(&switch.at, switch.node, message, Some(help));
        }
    }

    /// Returns the user's switches, and the keys that are passed to QEMU, with their positions in the definition.
    pub(super) fn switches_in<'d>(&self, definition: &'d Node) -> Vec<UserSwitch<'d>> {
        let text = |switch: &Option<Switch>| switch.as_ref().and_then(Switch::argument).map(str::to_owned);
        let serial = if let super::Serial::Qemu(text) = &self.serial { Some(text.clone()) } else { None };
        let keys = [
            ("machine", text(&self.machine_type)),
            ("cpu", self.cpu_model.clone()),
            ("boot", text(&self.boot)),
            ("display", Some(self.display.clone())),
            ("vga", self.vga.clone()),
            ("serial", serial),
        ];
        let keys = keys.into_iter().filter_map(|(name, argument)| {
            let key = if name == "cpu" { "cpu_model" } else { name };
            let node = definition.get(key)?;
            Some(UserSwitch::new(KeyPath::top(key), node, name, argument?, true))
        });
        let items = |key| definition.get(key).map(Node::items).unwrap_or_default().iter().enumerate();
        let left_out = super::keys::left_out(definition.get("arguments").map(Node::items).unwrap_or_default());
        let raw = raw_switches_left(definition).into_iter().map(|switch| {
            let argument = switch.value.and_then(Node::written).unwrap_or_default();
            let at = KeyPath::top("args").index(switch.index);
            UserSwitch::new(at, switch.node, switch.name, argument, false)
        });
        let structured = items("arguments").filter_map(|(index, node)| {
            let at = KeyPath::top("arguments").index(index);
            // Its problems were reported when it was read.
            let switch = super::keys::structured_argument(&at, node, &mut Diagnostics::default())?;
            if left_out.get(switch.name()).is_some_and(|last| *last > index) {
                return None;
            }
            let argument = switch.argument().unwrap_or_default().to_owned();
            Some(UserSwitch::new(at, node, switch.name(), argument, false))
        });
        keys.chain(raw).chain(structured).collect()
    }
}

/// Returns the raw switches of a definition, less those that an item of `arguments` leaves out.
fn raw_switches_left(definition: &Node) -> Vec<RawSwitch<'_>> {
    let items = |key| definition.get(key).map(Node::items).unwrap_or_default();
    let left_out = super::keys::left_out(items("arguments"));
    let mut switches = raw_switches(items("args"));
    switches.retain(|switch| !left_out.contains_key(switch.name));
    switches
}

#[cfg(test)]
mod tests;
