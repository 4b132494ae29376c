//! Checking a pattern for event types.

use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::event::kind;
use maqet_domain::hook::{Hook, QEMU_EVENTS};
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
        let is_qmp_name = |c: char| c.is_ascii_uppercase() || c == '_' || c == '*';
        if self.pattern.chars().all(is_qmp_name) {
            return explanation.hint(format!("use `{QEMU_EVENTS}{}` for an event of QEMU", self.pattern));
        }
        explanation
            .did_you_mean(&self.similar)
            .or_hint(format!("use one of {}, or a type of QEMU such as `qemu.STOP`", quoted_list(kind::ALL)))
    }
}

/// Refuses a pattern that no event can match; case does not count.
pub(crate) fn check(pattern: &str) -> Result<(), UnknownEventType> {
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
        for (pattern, hint) in [("vm.strated", "`vm.started`"), ("RESET", "`qemu.RESET`"), ("x", "`qemu.STOP`")] {
            let hints = check(pattern).unwrap_err().hints();
            assert!(hints[0].contains(hint), "{pattern}: {hints:?}");
        }
    }
}
