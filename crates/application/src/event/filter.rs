//! The type of event that somebody asks for.

use maqet_domain::error::{Explain, Fault};
use maqet_domain::event::kind;
use maqet_domain::hook::{Hook, QEMU_EVENTS};
use maqet_domain::text::{did_you_mean, similar};

/// A pattern that no event can match: a typing error, of which nobody would ever hear.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no type of event `{}`", given.escape_debug())]
pub struct UnknownEventType {
    /// What was given.
    pub given: String,
    /// Types that look like it.
    pub similar: Vec<String>,
}

impl Explain for UnknownEventType {
    fn code(&self) -> &'static str {
        "events.type-not-found"
    }

    fn fault(&self) -> Fault {
        Fault::Usage
    }

    fn hints(&self) -> Vec<String> {
        let is_qmp = |c: char| c.is_ascii_uppercase() || c == '_' || c == '*';
        if self.given.chars().all(is_qmp) {
            return vec![format!("the events of QEMU have its name before theirs: `{QEMU_EVENTS}{}`", self.given)];
        }
        let otherwise = "ours are listed in docs/reference/events.md, those of QEMU begin with `qemu.`";
        vec![did_you_mean(&self.similar).unwrap_or(otherwise.to_owned())]
    }
}

/// Refuses a pattern that no event can match; case does not count.
pub(crate) fn check(pattern: &str) -> Result<(), UnknownEventType> {
    let asked = Hook { events: pattern.to_lowercase(), command: Vec::new() };
    if asked.is_for_qemu() || kind::ALL.iter().any(|kind| asked.is_for(kind)) {
        return Ok(());
    }
    Err(UnknownEventType { given: pattern.to_owned(), similar: similar(pattern, kind::ALL) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_check_types_that_can_be_are_taken() {
        for pattern in ["vm.started", "VM.*", "*stop*", "qemu.RESET", "Qemu.block_*", "*", "q*", "device.*"] {
            assert_eq!(check(pattern), Ok(()), "{pattern}");
        }
    }

    #[test]
    fn test_check_types_that_cannot_be_are_refused_with_what_was_meant() {
        for (pattern, hint) in [("vm.strated", "`vm.started`"), ("RESET", "`qemu.RESET`"), ("x", "`qemu.`")] {
            let hints = check(pattern).unwrap_err().hints();
            assert!(hints[0].contains(hint), "{pattern}: {hints:?}");
        }
    }
}
