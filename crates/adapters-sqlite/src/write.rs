//! Writes a set of changes, all or nothing.

use std::path::Path;

use maqet_domain::change::{Change, ChangeSet, StorageRecord};
use maqet_domain::config::Node;
use maqet_domain::event::Event;
use maqet_domain::history::HistoryEntry;
use maqet_domain::port::{StoreContent, StoreError};
use maqet_domain::snapshot::SnapshotRecord;
use maqet_domain::vm::{DriveLayers, Origins, Pending, Phase, Revision, Run, RunEnd, Vm, VmId, VmName};
use maqet_fault_points::{FaultPoint, FaultPoints};
use rusqlite::{Connection, Transaction, TransactionBehavior, ffi, named_params, params};
use serde::Serialize;

use crate::column::{Moment, Text, Tree, path_value};
use crate::schema::Refusal;
use crate::{limits, schema};

/// Why a set of changes was not written.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// A rule of the port is violated; a retry does not help.
    Rule(StoreError),
    /// The database is not used any more.
    Refused(Refusal),
    /// SQLite failed.
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for WriteError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// Writes all of `set` in one transaction, which is as durable as the connection makes its commits.
///
/// Returns whether it did: nothing is written if `may_write` is false once no other process can write.
pub(crate) fn apply(
    connection: &mut Connection,
    set: &ChangeSet,
    faults: &FaultPoints,
    may_write: impl FnOnce() -> bool,
) -> Result<bool, WriteError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if !may_write() {
        return Ok(false);
    }
    // It may have been moved or migrated since it was opened.
    if let Some(refusal) = schema::refusal(&transaction)? {
        return Err(WriteError::Refused(refusal));
    }
    for change in &set.changes {
        match change {
            Change::VmAdded(vm) => add_vm(&transaction, vm)?,
            // No other host shares a file.
            Change::VmTakenOver { id, .. } => return Err(WriteError::Rule(StoreError::Conflict { id: *id })),
            Change::VmRemoved { id, expected } => remove_vm(&transaction, *id, *expected)?,
            Change::DefinitionChanged { id, expected, definition, origins } => {
                change_definition(&transaction, *id, *expected, definition, origins)?;
            }
            Change::RunChanged { id, expected, run } => {
                revise(&transaction, *id, *expected)?;
                set_run(&transaction, *id, run.as_ref())?;
            }
            Change::PendingChanged { id, expected, pending } => {
                revise(&transaction, *id, *expected)?;
                set_pending(&transaction, *id, pending.as_deref())?;
            }
            Change::LayersChanged { id, expected, layers } => {
                revise(&transaction, *id, *expected)?;
                set_layers(&transaction, *id, layers)?;
            }
            Change::SnapshotAdded(record) => add_snapshot(&transaction, record)?,
            Change::SnapshotRemoved { vm, drive, tag } => remove_snapshot(&transaction, *vm, drive, tag)?,
            Change::StorageAdded(record) => add_storage(&transaction, record)?,
            Change::StorageRemoved { path } => remove_storage(&transaction, path)?,
            // For other hosts.
            Change::ImagesUsed { .. } => {}
        }
    }
    if let Some(entry) = &set.history {
        add_history(&transaction, entry)?;
        if let Some(limit) = set.history_limit {
            prune_history(&transaction, limit)?;
        }
    }
    for event in &set.events {
        add_event(&transaction, event)?;
    }
    faults.reach(FaultPoint::StoreWritten);
    transaction.commit()?;
    Ok(true)
}

/// Writes all of `content`, which is [renumbered](StoreContent::renumbered), to an empty database.
pub(crate) fn fill(transaction: &Transaction<'_>, content: &StoreContent) -> Result<(), WriteError> {
    for vm in &content.vms {
        add_vm(transaction, vm)?;
    }
    for record in &content.storage {
        add_storage(transaction, record)?;
    }
    for record in &content.snapshots {
        add_snapshot(transaction, record)?;
    }
    for recorded in &content.history {
        add_history(transaction, &recorded.entry)?;
    }
    for recorded in &content.events {
        add_event(transaction, &recorded.event)?;
    }
    Ok(())
}

/// Removes everything that a database holds; its history and events are numbered from 1 on again.
pub(crate) fn clear(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let sql = "DELETE FROM snapshot; DELETE FROM storage; DELETE FROM definition; DELETE FROM vm; DELETE FROM history; \
        DELETE FROM event; DELETE FROM sqlite_sequence";
    transaction.execute_batch(sql)
}

fn add_vm(transaction: &Transaction<'_>, vm: &Vm) -> Result<(), WriteError> {
    let entry = &vm.entry;
    let sql = "INSERT INTO vm (name, id, revision, created_at) VALUES (?1, ?2, ?3, ?4)";
    let row = params![entry.name.as_str(), Text(entry.id), entry.revision.0, Moment(entry.created_at)];
    transaction.prepare_cached(sql)?.execute(row).map_err(|error| match error.sqlite_extended_error_code() {
        Some(ffi::SQLITE_CONSTRAINT_PRIMARYKEY | ffi::SQLITE_CONSTRAINT_UNIQUE) => {
            WriteError::Rule(StoreError::Exists { name: entry.name.clone() })
        }
        _ => WriteError::Sqlite(error),
    })?;

    let sql = "INSERT INTO definition (vm, content, origins) VALUES (?1, ?2, ?3)";
    let row = params![Text(entry.id), json(&vm.definition)?, json(&vm.origins)?];
    transaction.prepare_cached(sql)?.execute(row)?;

    if entry.run.is_some() {
        set_run(transaction, entry.id, entry.run.as_ref())?;
    }
    if entry.pending.is_some() {
        set_pending(transaction, entry.id, entry.pending.as_deref())?;
    }
    if !entry.layers.is_empty() {
        set_layers(transaction, entry.id, &entry.layers)?;
    }
    Ok(())
}

fn set_layers(transaction: &Transaction<'_>, id: VmId, layers: &[DriveLayers]) -> rusqlite::Result<()> {
    let sql = "UPDATE vm SET layers = ?2 WHERE id = ?1";
    let layers = (!layers.is_empty()).then(|| json(&layers)).transpose()?;
    transaction.prepare_cached(sql)?.execute(params![Text(id), layers]).map(drop)
}

fn set_pending(transaction: &Transaction<'_>, id: VmId, pending: Option<&Pending>) -> rusqlite::Result<()> {
    let sql = "UPDATE vm SET pending = ?2 WHERE id = ?1";
    let row = params![Text(id), pending.map(json).transpose()?];
    transaction.prepare_cached(sql)?.execute(row).map(drop)
}

fn add_snapshot(transaction: &Transaction<'_>, record: &SnapshotRecord) -> Result<(), WriteError> {
    let sql = "INSERT OR REPLACE INTO snapshot \
        (vm, drive, tag, name, image_id, image_date, set_id, kind, description, fingerprint, created_at) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
    let added = transaction.prepare_cached(sql)?.execute(params![
        Text(record.vm),
        record.drive,
        record.tag,
        record.name,
        record.image_id,
        Moment(record.image_date),
        record.set.map(Text),
        Text(record.kind),
        record.description,
        record.fingerprint.clone().map(Tree),
        Moment(record.created_at),
    ]);
    of_vm(added, Some(record.vm))
}

fn remove_snapshot(transaction: &Transaction<'_>, id: VmId, drive: &str, tag: &str) -> rusqlite::Result<()> {
    let sql = "DELETE FROM snapshot WHERE vm = ?1 AND drive = ?2 AND tag = ?3";
    transaction.prepare_cached(sql)?.execute(params![Text(id), drive, tag]).map(drop)
}

/// Returns the result of adding a record of a VM, which may have been removed meanwhile.
fn of_vm(added: rusqlite::Result<usize>, vm: Option<VmId>) -> Result<(), WriteError> {
    match (added, vm) {
        (Ok(_), _) => Ok(()),
        (Err(error), Some(id)) if error.sqlite_extended_error_code() == Some(ffi::SQLITE_CONSTRAINT_FOREIGNKEY) => {
            Err(WriteError::Rule(StoreError::Conflict { id }))
        }
        (Err(error), _) => Err(WriteError::Sqlite(error)),
    }
}

/// The foreign keys remove the definition with it, and the owner of its storage records.
fn remove_vm(transaction: &Transaction<'_>, id: VmId, expected: Revision) -> Result<(), WriteError> {
    let sql = "DELETE FROM vm WHERE id = ?1 AND revision = ?2";
    let removed = transaction.prepare_cached(sql)?.execute(params![Text(id), expected.0])?;
    only_one(removed, id)
}

fn change_definition(
    transaction: &Transaction<'_>,
    id: VmId,
    expected: Revision,
    definition: &Node,
    origins: &Origins,
) -> Result<(), WriteError> {
    revise(transaction, id, expected)?;
    let sql = "UPDATE definition SET content = ?2, origins = ?3 WHERE vm = ?1";
    let row = params![Text(id), json(definition)?, json(origins)?];
    only_one(transaction.prepare_cached(sql)?.execute(row)?, id)
}

/// Counts a change of a VM that is at the expected revision.
fn revise(transaction: &Transaction<'_>, id: VmId, expected: Revision) -> Result<(), WriteError> {
    let sql = "UPDATE vm SET revision = ?3 WHERE id = ?1 AND revision = ?2";
    let row = params![Text(id), expected.0, expected.next().0];
    only_one(transaction.prepare_cached(sql)?.execute(row)?, id)
}

pub(crate) fn json(value: &impl Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

fn only_one(changed: usize, id: VmId) -> Result<(), WriteError> {
    match changed {
        1 => Ok(()),
        _ => Err(WriteError::Rule(StoreError::Conflict { id })),
    }
}

fn set_run(transaction: &Transaction<'_>, id: VmId, run: Option<&Run>) -> rusqlite::Result<()> {
    let sql = "UPDATE vm SET boot = :boot, started_at = :started_at, phase = :phase, end_reason = :end_reason, \
        ended_at = :ended_at, pid = :pid, start_ticks = :start_ticks, host_boot = :host_boot, \
        pid_namespace = :pid_namespace, \
        sockets = :sockets, records = :records, forwards = :forwards WHERE id = :id";
    let (phase, ending) = run.map(|run| phase_columns(run.phase)).unzip();
    let ending = ending.flatten();
    let process = run.and_then(|run| run.process.as_ref());
    let forwards = run.filter(|run| !run.forwards.is_empty()).map(|run| json(&run.forwards)).transpose()?;

    transaction.prepare_cached(sql)?.execute(named_params! {
        ":id": Text(id),
        ":boot": run.map(|run| run.boot.0),
        ":started_at": run.map(|run| Moment(run.started_at)),
        ":phase": phase,
        ":end_reason": ending.map(|ending| ending.reason.as_str()),
        ":ended_at": ending.and_then(|ending| ending.at).map(Moment),
        ":pid": process.map(|process| process.pid),
        ":start_ticks": process.map(|process| process.start_ticks.cast_signed()),
        ":host_boot": process.map(|process| process.boot_id.0.as_str()),
        ":pid_namespace": process.and_then(|process| process.namespace).map(|namespace| namespace.0.cast_signed()),
        ":sockets": run.map(|run| path_value(&run.paths.sockets)),
        ":records": run.map(|run| path_value(&run.paths.records)),
        ":forwards": forwards,
    })?;
    Ok(())
}

fn phase_columns(phase: Phase) -> (&'static str, Option<RunEnd>) {
    match phase {
        Phase::Starting => ("starting", None),
        Phase::Running => ("running", None),
        Phase::Stopping => ("stopping", None),
        Phase::Ended(ending) => ("ended", Some(ending)),
    }
}

/// A path that is recorded again moves to the end of the order; one that is only used stays with the VM that has it.
fn add_storage(transaction: &Transaction<'_>, record: &StorageRecord) -> Result<(), WriteError> {
    if !record.is_created() {
        let sql = "DELETE FROM storage WHERE path = ?1 AND vm IS NULL";
        transaction.prepare_cached(sql)?.execute([path_value(&record.path)])?;
    }
    let sql = if record.is_created() {
        "INSERT OR REPLACE INTO storage (path, vm, drive, kind, size, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)"
    } else {
        "INSERT INTO storage (path, vm, drive, kind, size, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
         ON CONFLICT (path) DO NOTHING"
    };
    let added = transaction.prepare_cached(sql)?.execute(params![
        path_value(&record.path),
        record.vm.map(Text),
        record.drive,
        record.kind,
        record.size.map(|size| size.bytes().cast_signed()),
        Moment(record.created_at),
    ]);
    of_vm(added, record.vm)
}

fn remove_storage(transaction: &Transaction<'_>, path: &Path) -> rusqlite::Result<()> {
    let sql = "DELETE FROM storage WHERE path = ?1";
    transaction.prepare_cached(sql)?.execute([path_value(path)]).map(drop)
}

fn add_history(transaction: &Transaction<'_>, entry: &HistoryEntry) -> Result<(), WriteError> {
    let sql = "INSERT INTO history (at, user, host, pid, vm, operation, arguments, inverse_operation, \
        inverse_arguments, reverts, vm_name, kind, irreversible) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";
    let inverse = entry.inverse.as_ref();
    let added = transaction.prepare_cached(sql)?.execute(params![
        Moment(entry.at),
        entry.actor.user,
        entry.actor.host,
        entry.actor.pid,
        entry.vm.map(Text),
        entry.call.operation,
        Tree(entry.call.arguments.clone()),
        inverse.map(|call| call.operation.as_str()),
        inverse.map(|call| Tree(call.arguments.clone())),
        entry.reverts,
        entry.vm_name.as_ref().map(VmName::as_str),
        Text(entry.kind),
        entry.irreversible.as_ref().map(Text),
    ]);
    match (added, entry.reverts) {
        (Ok(_), _) => Ok(()),
        (Err(error), Some(sequence)) if error.sqlite_extended_error_code() == Some(ffi::SQLITE_CONSTRAINT_UNIQUE) => {
            Err(WriteError::Rule(StoreError::Reverted { sequence }))
        }
        (Err(error), _) => Err(WriteError::Sqlite(error)),
    }
}

/// Removes the oldest entries above `limit`, some at a time; their numbers have no gaps but those of commits that failed.
fn prune_history(transaction: &Transaction<'_>, limit: u32) -> rusqlite::Result<()> {
    let last = transaction.last_insert_rowid();
    let sql = "DELETE FROM history WHERE sequence IN \
        (SELECT sequence FROM history WHERE sequence <= ?1 ORDER BY sequence LIMIT ?2)";
    let row = params![last.saturating_sub(limit.into()), limits::PRUNED_AT_ONCE];
    transaction.prepare_cached(sql)?.execute(row).map(drop)
}

fn add_event(transaction: &Transaction<'_>, event: &Event) -> rusqlite::Result<()> {
    let sql = "INSERT INTO event (at, kind, vm, vm_name, data) VALUES (?1, ?2, ?3, ?4, ?5)";
    transaction.prepare_cached(sql)?.execute(params![
        Moment(event.at),
        event.kind,
        event.vm.map(Text),
        event.vm_name.as_ref().map(VmName::as_str),
        Tree(event.data.clone()),
    ])?;
    Ok(())
}
