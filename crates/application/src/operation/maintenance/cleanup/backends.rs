//! Removes backends of devices that were unplugged.

use maqet_domain::vm::{Phase, VmEntry};

use super::{CleanedItem, Cleanup, CleanupOutcome};
use crate::app::operations::Operation;
use crate::device::session::HotplugSession;
use crate::{App, Error, limits};

/// Removes the unused backends of a running VM, or lists them; skips a VM that is locked or unresponsive.
pub(super) async fn remove_unused(app: &App, entry: &VmEntry, dry_run: bool) -> Vec<CleanedItem> {
    // A run whose process is gone is reconciled elsewhere, and locking its VM would reconcile it here.
    let run = entry.run.as_ref().filter(|run| matches!(run.phase, Phase::Running));
    match run {
        Some(run) if app.observer().live_process(run).await.is_some() => {}
        Some(_) | None => return Vec::new(),
    }
    let item = |name: String| {
        CleanedItem::new("backend", entry.name.to_string(), format!("backend `{name}` of an unplugged device"))
            .outcome(CleanupOutcome::Removed)
    };
    match remove(app, entry, dry_run).await {
        Ok(names) => names.into_iter().map(item).collect(),
        Err(error) => {
            tracing::debug!(vm = %entry.name, %error, "could not search for unused backends");
            Vec::new()
        }
    }
}

async fn remove(app: &App, entry: &VmEntry, dry_run: bool) -> Result<Vec<String>, Error> {
    let vms = app.vms();
    let (guard, vm) = vms.lock_unrecovered(&entry.id.to_string(), Cleanup::NAME, limits::CLEANUP_LOCK_TIMEOUT).await?;
    let session = HotplugSession::open(app, guard, &vm).await?.with_timeout(limits::QUERY_TIMEOUT);
    Ok(if dry_run { session.unused_backends().await? } else { session.remove_unused_backends().await? })
}
