//! VMs of which there are copies, and that a valid database lacks.

use std::path::Path;

use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::event::kind;
use maqet_domain::port::{RecoverySource, RepairReport, StoreError, VmCopy, VmPresence};
use maqet_domain::vm::VmId;
use rusqlite::Connection;

use crate::column::{Moment, Text};
use crate::database::{LazyDatabase, Options, Reader};
use crate::limits;
use crate::path::DatabasePath;
use crate::retry::retry_while_busy;

const ACTION: &str = "look for VMs";

/// Returns what the database at `path` says about each of `vms`.
pub(super) fn presence(path: &Path, vms: &[VmId]) -> Result<Vec<VmPresence>, StoreError> {
    let path = DatabasePath::resolve(path)?;
    path.presence()?;
    let read = || {
        let connection = Reader::open(&path)?.connection;
        vms.iter().map(|id| presence_of(&connection, *id)).collect()
    };
    retry_while_busy(limits::BUSY_TIMEOUT, read).map_err(|error| path.sqlite_error(ACTION, error))
}

fn presence_of(connection: &Connection, id: VmId) -> rusqlite::Result<VmPresence> {
    let held = "SELECT count(*) > 0 FROM vm WHERE id = ?1";
    if connection.prepare_cached(held)?.query_row([Text(id)], |row| row.get(0))? {
        return Ok(VmPresence::Held);
    }
    let at =
        connection.prepare_cached(&removal_of_vm())?.query_row([Text(id)], |row| row.get::<_, Option<Moment>>(0))?;
    Ok(at.map_or(VmPresence::Unknown, |at| VmPresence::Removed { at: at.0 }))
}

/// Returns the query of when a VM was removed; the kind is part of it, as the index has only rows of this kind.
fn removal_of_vm() -> String {
    format!("SELECT max(at) FROM event WHERE vm = ?1 AND kind = '{}'", kind::VM_REMOVED)
}

/// Adds VMs to the database at `path`, each in a commit of its own.
pub(super) fn add(path: &Path, missing: Vec<VmCopy>) -> Result<RepairReport, StoreError> {
    let mut database = LazyDatabase::new(path.to_owned(), Options::default());
    let mut report = RepairReport::default();
    for copy in missing {
        let (id, name) = (copy.vm.entry.id, copy.vm.entry.name.to_string());
        match database.get()?.commit(&adding(copy)) {
            Ok(()) => report.vms.push((id, name, RecoverySource::Copy)),
            Err(StoreError::Exists { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(report)
}

/// Returns the changes that add a VM with the records of its images.
fn adding(VmCopy { vm, storage, .. }: VmCopy) -> ChangeSet {
    let added = ChangeSet::default().and(Change::VmAdded(Box::new(vm)));
    storage.into_iter().map(Change::StorageAdded).fold(added, ChangeSet::and)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;

    #[test]
    fn test_removal_of_vm_uses_the_index() {
        let mut connection = Connection::open_in_memory().unwrap();
        schema::migrate(&mut connection).unwrap();

        let sql = format!("EXPLAIN QUERY PLAN {}", removal_of_vm());
        let plan: String = connection.query_row(&sql, ["x"], |row| row.get(3)).unwrap();

        assert!(plan.contains("INDEX event_removal "), "{plan}");
    }
}
