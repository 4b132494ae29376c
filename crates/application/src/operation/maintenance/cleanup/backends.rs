//! Back ends that were made for devices of running machines, and whose devices are gone.

use maqet_domain::vm::{Phase, VmEntry};

use super::{CleanedItem, Cleanup, Outcome};
use crate::app::operations::Operation;
use crate::{App, Error, limits};

/// Removes them, or shows them; a VM that somebody works on, or whose QEMU does not answer, is left alone.
pub(super) async fn of_vm(app: &App, entry: &VmEntry, dry_run: bool) -> Vec<CleanedItem> {
    // A run whose process is gone is looked after elsewhere, and taking its lock would write its end down.
    let run = entry.run.as_ref().filter(|run| matches!(run.phase, Phase::Running));
    match run {
        Some(run) if app.observer().live_process(run).await.is_some() => {}
        Some(_) | None => return Vec::new(),
    }
    let item = |name: String| CleanedItem {
        kind: "back-end",
        subject: entry.name.to_string(),
        what: format!("`{name}`, which was made for a device that is gone"),
        outcome: if dry_run { Outcome::Left } else { Outcome::Removed },
        why: None,
    };
    match removed(app, entry, dry_run).await {
        Ok(names) => names.into_iter().map(item).collect(),
        Err(error) => {
            tracing::debug!(vm = %entry.name, %error, "left-over back ends could not be looked for");
            Vec::new()
        }
    }
}

async fn removed(app: &App, entry: &VmEntry, dry_run: bool) -> Result<Vec<String>, Error> {
    let patience = limits::CLEANUP_LOCK_TIMEOUT;
    let session =
        app.hotplug_session_within(&entry.id.to_string(), Cleanup::NAME, patience, limits::RUN_STATE_TIMEOUT).await?;
    Ok(if dry_run { session.unused_backends().await? } else { session.remove_unused_backends().await? })
}
