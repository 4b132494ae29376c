//! The records of images, as they were before a change.

use maqet_domain::change::Change;
use maqet_domain::revert::RevertedRecord;
use maqet_domain::vm::VmId;

use crate::{App, Error};

/// Returns the changes that write records of images as they were before a change of the VM `vm`.
pub(crate) async fn restore_records(app: &App, vm: VmId, records: &[RevertedRecord]) -> Result<Vec<Change>, Error> {
    let store = &app.ports.store;
    let mut changes = Vec::new();
    for reverted in records {
        let now = store.storage_at(&reverted.path).await?;
        let is_gone = match reverted.record.as_ref().and_then(|record| record.vm) {
            Some(owner) => store.by_id(&owner).await?.is_none(),
            None => false,
        };
        changes.extend(reverted.change(vm, now.as_ref(), |_| is_gone));
    }
    Ok(changes)
}
