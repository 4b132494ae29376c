//! The journal of a VM: one line for each operation that is not read-only.

use std::path::{Path, PathBuf};
use std::time::Duration;

use maqet_domain::Explain;
use maqet_domain::text::escape_control;
use maqet_domain::vm::VmId;
use serde_json::Value;

use crate::app::operations::Described;
use crate::{App, Error};

/// Which VM an operation was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// The one its arguments name.
    Named,
    /// This one.
    Vm(VmId),
    /// One that was removed, together with its log.
    Removed,
}

/// The arguments that are logged; others may hold secrets, such as a text typed into a guest.
const LOGGED_ARGUMENTS: [&str; 3] = ["command", "drive", "name"];

/// Returns the log of a VM whose records are in this folder.
pub(crate) fn journal_file(vm_records: &Path) -> PathBuf {
    vm_records.join("maqet.log")
}

/// Appends the outcome of an operation to the log of its VM, and returns that VM; a failure to write is only traced.
pub(crate) async fn write_journal(
    app: &App,
    operation: &dyn Described,
    outcome: Result<Subject, &Error>,
    elapsed: Duration,
) -> Option<VmId> {
    let arguments = operation.call().map(|call| call.arguments).unwrap_or_default();
    let named = async || {
        let name = arguments.get("vm")?.as_str()?;
        Some(app.vms().find(name).await.ok()?.entry.id)
    };
    let vm = match outcome {
        Ok(Subject::Removed) => None,
        Ok(Subject::Vm(id)) => Some(id),
        Ok(Subject::Named) | Err(_) => named().await,
    };
    let vm = vm?;

    let actor = app.ports.host.actor();
    let summary = summary(operation.name(), &arguments, outcome.err(), elapsed);
    let line = format!("{:.3} {summary}; pid {}, user {}", app.ports.clock.now(), actor.pid, actor.user);
    let file = journal_file(&app.folders.vm_records(&vm));
    if let Err(error) = app.ports.journal.append(&file, &escape_control(&line)).await {
        tracing::warn!(%error, "could not append to the log of the VM");
    }
    Some(vm)
}

/// Returns what was done and its outcome.
fn summary(name: &str, arguments: &Value, error: Option<&Error>, elapsed: Duration) -> String {
    let logged = LOGGED_ARGUMENTS.iter().filter_map(|key| arguments.get(key)?.as_str());
    let what: String = logged.flat_map(|value| [" ", value]).collect();
    let millis = elapsed.as_millis();
    match error {
        None => format!("{name}{what}: done in {millis} ms"),
        Some(error) => format!("{name}{what}: failed after {millis} ms: {}: {}", error.code(), error.for_logs()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn test_summary_omits_arguments_that_may_be_secret() {
        let arguments = json!({"vm": "web", "command": "set_password", "arguments": {"password": "secret"}});

        let line = summary("qmp.run", &arguments, None, Duration::from_millis(3));

        assert_eq!(line, "qmp.run set_password: done in 3 ms");
    }

    #[test]
    fn test_summary_failure_has_code_and_message() {
        let line = summary("add", &json!({}), Some(&Error::NameRequired), Duration::ZERO);

        assert_eq!(line, format!("add: failed after 0 ms: vm.name-required: {}", Error::NameRequired));
    }
}
