//! The size of RAM, which the user's `-m` can override.

use super::Machine;
use crate::config::{Diagnostics, KeyPath, Node};
use crate::qemu::OptionString;
use crate::size::ByteSize;

/// The unit of a bare number under `memory`: MiB, as for `-m` (`qemu-system-x86_64(1)`).
pub(super) const MEBIBYTES: u32 = 20;

/// QEMU rounds the size of RAM up to this (`set_memory_options`, 7.2).
pub(super) const GRAIN: u64 = 8192;

/// Rounds a size as QEMU does.
///
/// The result is whole KiB, so it is written with a unit: QEMU would read a bare number as MiB.
pub(super) fn round_as_qemu(size: ByteSize) -> ByteSize {
    ByteSize::from_bytes(size.bytes().checked_next_multiple_of(GRAIN).unwrap_or(u64::MAX / GRAIN * GRAIN))
}

impl Machine {
    /// Returns the size of RAM: that of the user's `-m`, else `memory`.
    ///
    /// With a `-m` without a size, QEMU takes the size of the memory backend.
    pub fn ram(&self) -> ByteSize {
        self.ram_argument().and_then(Result::ok).unwrap_or(self.memory)
    }

    /// Returns the size of `-m` under `arguments` or `args`, or its text if that is not a size.
    fn ram_argument(&self) -> Option<Result<ByteSize, String>> {
        // The last one wins.
        let value = self.user_arguments("m").next_back()?;
        let options = OptionString::parse("m", value);
        let text = options.get("size")?;
        let size = ByteSize::parse_with_bare_unit(text, MEBIBYTES).map(round_as_qemu);
        Some(size.map_err(|_| text.to_owned()))
    }

    /// Reports a `-m` with an invalid size if a memory backend must have the same size.
    pub(super) fn check_ram(&self, definition: &Node, report: &mut Diagnostics) {
        let Some(share) = self.storage.iter().find(|storage| storage.driver.features().shared_memory) else { return };
        let Some(Err(text)) = self.ram_argument() else { return };
        let key = if self.arguments.iter().any(|switch| switch.name() == "m") { "arguments" } else { "args" };
        let is_ram = |item: &&Node| {
            let name = item.as_text().or_else(|| item.entries().first().map(|(name, _)| name.as_str()));
            name.is_some_and(|name| name.trim_start_matches('-') == "m")
        };
        let items = definition.get(key).map(Node::items).unwrap_or_default();
        let item = items.iter().rfind(is_ram).unwrap_or(definition);
        let index = items.iter().rposition(|item| is_ram(&item)).unwrap_or_default();
        let entry = definition.get("storage").and_then(|list| list.items().get(share.index));
        let message = format!(
            "drive `{}` shares the memory of the VM, and `-m` has the invalid size `{}`",
            share.name,
            text.escape_debug()
        );
        report.duplicate(&KeyPath::top(key).index(index), item, entry.and_then(Node::location), message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::builtin_handlers;
    use crate::storage::builtin_drivers;

    #[test]
    fn test_ram_invalid_size_is_an_error_only_if_shared() {
        let handlers = builtin_handlers(&builtin_drivers().unwrap()).unwrap();
        let problem_paths = |storage: &str, rest: &str| {
            let text = format!(r#"{{"storage": [{storage}], {rest}}}"#);
            let (_, problems) = Machine::read(&serde_json::from_str(&text).unwrap(), &handlers);
            problems.into_iter().map(|problem| problem.path).collect::<Vec<_>>()
        };
        let share = r#"{"name": "s", "type": "virtiofs", "socket": "/r/s"}"#;

        assert_eq!(problem_paths(share, r#""arguments": [{"smp": 2}, {"m": "0x200"}]"#), ["arguments[1]"]);
        assert_eq!(problem_paths(share, r#""args": ["-m", "lots"]"#), ["args[0]"]);
        assert_eq!(problem_paths("", r#""arguments": [{"m": "0x200"}]"#), [""; 0]);
    }
}
