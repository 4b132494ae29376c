//! The log of what maqet did to a VM: a line for each operation that is more than a look.

use std::path::{Path, PathBuf};
use std::time::Duration;

use maqet_domain::Explain;
use maqet_domain::vm::VmId;
use serde_json::Value;

use crate::app::operations::{Operation, call_of};
use crate::{App, Error};

/// Which VM an operation was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Touched {
    /// The one its arguments name.
    AsAsked,
    /// This one.
    Vm(VmId),
    /// One that is gone, and its log with it.
    Removed,
}

/// The arguments that say what was done without a secret in them: what was typed into a guest is nobody's business.
const TELLING: [&str; 3] = ["command", "drive", "name"];

/// Returns the log of a VM whose records are in this folder.
pub(crate) fn journal_file(vm_records: &Path) -> PathBuf {
    vm_records.join("maqet.log")
}

impl App {
    /// Writes down what came of an operation; that it could not be written changes nothing about it.
    pub(crate) async fn note<O: Operation>(&self, operation: &O, outcome: Result<Touched, &Error>, took: Duration) {
        let arguments = call_of(operation).map(|call| call.arguments).unwrap_or_default();
        let asked = async || {
            let given = arguments.get("vm")?.as_str()?;
            Some(self.vm(given).await.ok()?.entry.id)
        };
        let vm = match outcome {
            Ok(Touched::Removed) => None,
            Ok(Touched::Vm(id)) => Some(id),
            Ok(Touched::AsAsked) | Err(_) => asked().await,
        };
        let Some(vm) = vm else { return };

        let actor = self.ports.host.actor();
        let said = said(O::NAME, &arguments, outcome.err(), took);
        let line = format!("{:.3} {said}; pid {}, user {}", self.ports.clock.now(), actor.pid, actor.user);
        let (_, records) = self.vm_folders(&vm);
        if let Err(error) = self.ports.journal.append(&journal_file(&records), &on_one_line(&line)).await {
            tracing::warn!(%error, "could not write down what was done");
        }
    }
}

/// Returns what was done and what came of it.
fn said(name: &str, arguments: &Value, error: Option<&Error>, took: Duration) -> String {
    let telling = TELLING.iter().filter_map(|key| arguments.get(key)?.as_str());
    let what: String = telling.flat_map(|value| [" ", value]).collect();
    let millis = took.as_millis();
    match error {
        None => format!("{name}{what}: done in {millis} ms"),
        Some(error) => format!("{name}{what}: failed after {millis} ms: {}: {}", error.code(), error.for_logs()),
    }
}

/// Makes visible what would begin a line of its own or be obeyed by a terminal.
fn on_one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_debug().to_string() } else { c.to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn test_said_tells_what_and_keeps_what_may_be_secret_to_itself() {
        let arguments = json!({"vm": "web", "command": "set_password", "arguments": {"password": "secret"}});

        let line = said("qmp.run", &arguments, None, Duration::from_millis(3));

        assert_eq!(line, "qmp.run set_password: done in 3 ms");
    }

    #[test]
    fn test_said_failure_has_its_code_and_its_words() {
        let line = said("add", &json!({}), Some(&Error::NameMissing), Duration::ZERO);

        assert_eq!(line, format!("add: failed after 0 ms: vm.name-missing: {}", Error::NameMissing));
    }

    #[test]
    fn test_on_one_line_line_break_and_escape_are_shown() {
        assert_eq!(on_one_line("a\nb\u{1b}[2J ö"), "a\\nb\\u{1b}[2J ö");
    }
}
