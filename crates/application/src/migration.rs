//! What checkpoints, forks and upgrades have in common: QEMU's migration, by which the state of a guest leaves a QEMU and
//! gets into another one.

use std::time::Duration;

use maqet_domain::port::MonitorSession;
use maqet_domain::qmp::{QmpCommand, QmpError, RunState};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::limits;
use crate::qmp::run_state;

/// Returns the command that turns capabilities of a migration on or off.
pub(crate) fn migration_capabilities(all: &[(&str, bool)]) -> QmpCommand {
    let all: Vec<Value> = all.iter().map(|(name, state)| json!({ "capability": name, "state": state })).collect();
    QmpCommand::new("migrate-set-capabilities").with("capabilities", all)
}

/// Waits until a QEMU has loaded the state of a guest that it is given by `migrate-incoming`.
pub(crate) async fn wait_until_loaded(session: &mut dyn MonitorSession, timeout: Duration) -> Result<(), QmpError> {
    let deadline = Instant::now() + timeout;
    while run_state(session, timeout).await? == RunState::Inmigrate {
        if Instant::now() > deadline {
            return Err(QmpError::Unresponsive { command: "migrate-incoming".to_owned(), after: timeout });
        }
        sleep(limits::CHECKPOINT_MOMENT_INTERVAL).await;
    }
    Ok(())
}
