//! Finds what killed processes left in the trash.

use maqet_domain::port::{Guard, LockError, LockName};

use super::{Area, Finding, Severity};
use crate::app::shown;
use crate::trash::interrupted::{Interrupted, finish_interrupted};
use crate::{App, Error, limits};

/// Reports what killed processes left in the trash, and finishes or undoes it if `fix` is set.
pub(crate) async fn trash_findings(app: &App, fix: bool) -> Result<Vec<Finding>, Error> {
    let found = interrupted(app, "doctor", !fix).await?;
    let finding = |found: Interrupted| {
        let (subject, message) = (shown(&found.path), found.work.description());
        let finding = Finding::new(Severity::Note, Area::StaleFiles, subject, message);
        let finding = finding.hint("run `maqet cleanup` to finish or to undo it").fixable();
        if fix { finding.fixed(found.work.outcome()) } else { finding }
    };
    Ok(found.into_iter().map(finding).collect())
}

/// Finishes or undoes what killed processes left in the trash, and returns it; nothing while another process uses the
/// trash.
pub(crate) async fn interrupted(app: &App, operation: &str, dry_run: bool) -> Result<Vec<Interrupted>, Error> {
    let locked = app.ports.locks.lock(&LockName::Trash, operation, limits::CLEANUP_LOCK_TIMEOUT).await;
    let _guard: Box<dyn Guard> = match locked {
        Ok(guard) => guard,
        Err(LockError::TrashInUse { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    finish_interrupted(app, dry_run).await
}
