//! How much RAM the machine really has, where `-m` of the user's replaces `memory`.

use super::Machine;
use crate::config::{Diagnostics, KeyPath, Node};
use crate::qemu::Switch;
use crate::size::ByteSize;

/// What a bare number under `memory` is: mebibytes, as for `-m` (`qemu-system-x86_64(1)`).
pub(super) const MEBIBYTES: u32 = 20;

/// QEMU rounds the size of RAM up to this (`set_memory_options`, 7.2).
const GRAIN: u64 = 8192;

/// Returns the size that QEMU makes of one it is given.
///
/// Of whole kibibytes, it is written with a unit: a bare number would be mebibytes.
pub(super) fn as_qemu_takes_it(size: ByteSize) -> ByteSize {
    ByteSize::from_bytes(size.bytes().checked_next_multiple_of(GRAIN).unwrap_or(u64::MAX / GRAIN * GRAIN))
}

impl Machine {
    /// Returns how much RAM the machine has: as much as `-m` of the user's says, else `memory`.
    ///
    /// A `-m` without a size leaves it to what the RAM is kept in.
    pub fn ram(&self) -> ByteSize {
        self.size_given().and_then(Result::ok).unwrap_or(self.memory)
    }

    /// Returns the size under `arguments` or `args`, or the text that is none.
    fn size_given(&self) -> Option<Result<ByteSize, String>> {
        let mut by_argument = self.arguments.iter().filter(|switch| switch.name() == "m").filter_map(Switch::argument);
        let words = self.args.windows(2).filter(|pair| matches!(pair[0].as_str(), "-m" | "--m"));
        // The last one wins, and `arguments` follow `args`.
        let given = by_argument.next_back().or_else(|| words.map(|pair| pair[1].as_str()).next_back())?;
        let mut parts = given.split(',').enumerate();
        let text = parts.find_map(|(index, part)| match part.split_once('=') {
            Some(("size", size)) => Some(size),
            None if index == 0 => Some(part),
            Some(_) | None => None,
        })?;
        let size = ByteSize::parse_with_bare_unit(text, MEBIBYTES).map(as_qemu_takes_it);
        Some(size.map_err(|_| text.to_owned()))
    }

    /// Notes a `-m` whose size is not understood, where the RAM is kept in something of that size.
    pub(super) fn check_ram(&self, definition: &Node, report: &mut Diagnostics) {
        let Some(share) = self.storage.iter().find(|storage| storage.driver.features().shared_memory) else { return };
        let Some(Err(text)) = self.size_given() else { return };
        let key = if self.arguments.iter().any(|switch| switch.name() == "m") { "arguments" } else { "args" };
        let is_of_ram = |item: &&Node| {
            let name = item.as_text().or_else(|| item.entries().first().map(|(name, _)| name.as_str()));
            name.is_some_and(|name| name.trim_start_matches('-') == "m")
        };
        let items = definition.get(key).map(Node::items).unwrap_or_default();
        let item = items.iter().rfind(is_of_ram).unwrap_or(definition);
        let index = items.iter().rposition(|item| is_of_ram(&item)).unwrap_or_default();
        let entry = definition.get("storage").and_then(|list| list.items().get(share.index));
        let message = format!(
            "the memory of drive `{}` is shared and has to be as large as that of `-m`, but `{}` is not a size",
            share.name,
            text.escape_debug()
        );
        report.twice(&KeyPath::top(key).index(index), item, entry.and_then(Node::whereabouts), message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::builtin_handlers;
    use crate::storage::builtin_drivers;

    #[test]
    fn test_ram_of_no_size_is_refused_only_where_it_is_shared() {
        let handlers = builtin_handlers(&builtin_drivers().unwrap()).unwrap();
        let told = |storage: &str, rest: &str| {
            let text = format!(r#"{{"storage": [{storage}], {rest}}}"#);
            let (_, problems) = Machine::read(&serde_json::from_str(&text).unwrap(), &handlers);
            problems.into_iter().map(|problem| problem.path).collect::<Vec<_>>()
        };
        let share = r#"{"name": "s", "type": "virtiofs", "socket": "/r/s"}"#;

        assert_eq!(told(share, r#""arguments": [{"smp": 2}, {"m": "0x200"}]"#), ["arguments[1]"]);
        assert_eq!(told(share, r#""args": ["-m", "lots"]"#), ["args[0]"]);
        assert_eq!(told("", r#""arguments": [{"m": "0x200"}]"#), [""; 0]);
    }
}
