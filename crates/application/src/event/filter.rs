//! Checking a pattern for event types.

use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::event::kind;
use maqet_domain::hook::{Hook, QEMU_EVENTS};
use maqet_domain::qmp::event_names;
use maqet_domain::text::{quoted_list, similar};

/// A pattern that no event can match, which is a typing error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown event type `{}`", pattern.escape_debug())]
pub struct UnknownEventType {
    /// The pattern.
    pub pattern: String,
    /// Similar types.
    pub similar: Vec<String>,
}

impl Explain for UnknownEventType {
    fn explain(&self) -> Explanation {
        let explanation = Explanation::new("events.type-not-found", Fault::Usage);
        if self.is_newer_possible() {
            let newer = format!("write `{}*` for an event of a newer QEMU", self.pattern);
            return explanation.did_you_mean(&self.similar).hint(newer);
        }
        let is_qmp_name = |c: char| c.is_ascii_uppercase() || c == '_' || c == '*';
        let is_of_qemu = has_wildcard(&self.pattern) || event_names().any(|name| name == self.pattern);
        if is_of_qemu && self.pattern.chars().all(is_qmp_name) {
            return explanation.hint(format!("use `{QEMU_EVENTS}{}` for an event of QEMU", self.pattern));
        }
        explanation
            .did_you_mean(&self.similar)
            .or_hint(format!("use one of {}, or a type of QEMU such as `qemu.STOP`", quoted_list(kind::ALL)))
    }
}

impl UnknownEventType {
    /// Returns whether it has the form of an event of QEMU, which may be newer than the known ones.
    fn is_newer_possible(&self) -> bool {
        qmp_name(&self.pattern).is_some()
    }
}

/// Returns the name of QEMU in a type such as `qemu.RESET`.
fn qmp_name(kind: &str) -> Option<&str> {
    let (prefix, name) = kind.split_at_checked(QEMU_EVENTS.len())?;
    prefix.eq_ignore_ascii_case(QEMU_EVENTS).then_some(name)
}

fn has_wildcard(pattern: &str) -> bool {
    pattern.contains(['*', '?'])
}

/// Refuses the name of an event to wait for that no event can have: a type, or QEMU's name; case does not count.
pub(crate) fn check_name(name: &str) -> Result<(), UnknownEventType> {
    let is_own = !name.contains('.') && event_names().any(|known| known.eq_ignore_ascii_case(name));
    if is_own || has_wildcard(name) {
        return Ok(());
    }
    check(name).map_err(|unknown| {
        if name.contains('.') {
            return unknown;
        }
        // Without a dot it is meant to be QEMU's.
        match similar(&name.to_uppercase(), event_names()) {
            none if none.is_empty() => unknown,
            similar => UnknownEventType { similar, ..unknown },
        }
    })
}

/// Refuses a pattern that no event can match; case does not count.
pub(crate) fn check(pattern: &str) -> Result<(), UnknownEventType> {
    if let Some(name) = qmp_name(pattern).filter(|name| !has_wildcard(name)) {
        if event_names().any(|known| known.eq_ignore_ascii_case(name)) {
            return Ok(());
        }
        let similar = similar(&name.to_uppercase(), event_names());
        let similar = similar.iter().map(|name| format!("{QEMU_EVENTS}{name}")).collect();
        return Err(UnknownEventType { pattern: pattern.to_owned(), similar });
    }
    let hook = Hook { events: pattern.to_lowercase(), command: Vec::new() };
    if hook.matches_qemu() || kind::ALL.iter().any(|kind| hook.matches(kind)) {
        return Ok(());
    }
    Err(UnknownEventType { pattern: pattern.to_owned(), similar: similar(pattern, kind::ALL) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_check_possible_types_are_accepted() {
        for pattern in ["vm.started", "VM.*", "*stop*", "qemu.RESET", "Qemu.block_*", "*", "q*", "device.*"] {
            assert_eq!(check(pattern), Ok(()), "{pattern}");
        }
    }

    #[test]
    fn test_check_impossible_types_are_refused_with_hint() {
        for (pattern, hint) in [
            ("vm.strated", "`vm.started`"),
            ("RESET", "`qemu.RESET`"),
            ("x", "`qemu.STOP`"),
            ("qemu.shutdwon", "`qemu.SHUTDOWN`"),
            ("qemu.foo", "`qemu.foo*`"),
        ] {
            let hints = check(pattern).unwrap_err().hints();
            assert!(hints[0].contains(hint), "{pattern}: {hints:?}");
        }
    }

    #[test]
    fn test_check_name_to_wait_for_may_be_of_qemu() {
        for name in ["RESET", "reset", "qemu.RESET", "vm.paused", "BLOCK_*", "qemu.NEW_EVENT*", "*"] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for (name, hint) in [("RESTE", "`RESET`"), ("vm.puased", "`vm.paused`"), ("qemu.foo", "`qemu.foo*`")] {
            let hints = check_name(name).unwrap_err().hints();
            assert!(hints.join(" ").contains(hint), "{name}: {hints:?}");
        }
    }
}
