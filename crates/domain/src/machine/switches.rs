//! The user's switches beside those of maqet.
//!
//! QEMU merges, replaces or silently ignores a switch that concerns what another one sets. [`SWITCHES`] decides each
//! switch of QEMU; `beside` has the rules for those that depend on the rest of the definition, and `text` the values
//! that QEMU cannot honor under maqet.

mod beside;
mod boot;
mod ide;
mod ids;
mod table;
mod text;
mod twice;

pub(super) use self::table::refusal;
pub use self::table::{SWITCHES, Treatment, canonical};

use super::Machine;
use crate::config::{Diagnostics, KeyPath, Node};
use crate::qemu::{OptionString, Switch, takes_value};

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
    pub(super) fn user_switches(&self) -> impl DoubleEndedIterator<Item = (&str, Option<&str>)> {
        let raw = self.args.iter().enumerate().filter_map(|(index, arg)| {
            let name = raw_name(arg)?;
            Some((name, self.args.get(index + 1).map(String::as_str)))
        });
        raw.chain(self.arguments.iter().map(|switch| (switch.name(), switch.argument())))
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
        let mut is_value = false;
        self.args.retain(|arg| {
            let name = raw_name(arg).filter(|_| !std::mem::take(&mut is_value));
            is_value = name.and_then(takes_value) == Some(true);
            name.is_none_or(|name| !left_out.contains_key(name))
        });
    }

    /// Reports switches that have no effect, or a harmful one, beside the rest of the definition.
    pub(super) fn check_switches(&self, definition: &Node, report: &mut Diagnostics) {
        let switches = self.switches_in(definition);
        let architecture = self.architecture().unwrap_or("x86_64");
        let refusals = switches.iter().filter_map(|switch| {
            let refusal = text::refusal(switch, architecture).or_else(|| self.refusal_beside(switch));
            refusal.map(|refusal| (switch, refusal))
        });
        for (switch, Refusal { message, help }) in refusals
            .chain(self.id_refusals(&switches))
            .chain(self.ide_refusals(&switches))
            .chain(self.twice_refusals(&switches))
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
        let raw = items("args").filter_map(|(index, node)| {
            let name = raw_name(node.as_text()?).filter(|name| !left_out.contains_key(name))?;
            let next = definition.get("args").and_then(|list| list.items().get(index + 1));
            let argument = next.and_then(Node::written).unwrap_or_default();
            Some(UserSwitch::new(KeyPath::top("args").index(index), node, name, argument, false))
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

/// Returns the name of a raw argument that is a switch.
fn raw_name(arg: &str) -> Option<&str> {
    arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')).map(canonical)
}

#[cfg(test)]
mod tests;
