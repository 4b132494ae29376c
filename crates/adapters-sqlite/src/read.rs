//! Reads: SQL, and the conversion of rows into domain values.

use std::path::Path;

use maqet_domain::change::StorageRecord;
use maqet_domain::event::{Event, RecordedEvent};
use maqet_domain::history::{Actor, Call, EntryKind, HistoryEntry, HistoryQuery, Irreversible, RecordedHistory};
use maqet_domain::port::StoreContent;
use maqet_domain::size::ByteSize;
use maqet_domain::snapshot::SnapshotRecord;
use maqet_domain::vm::{
    BootId, BootNumber, Phase, PidNamespace, ProcessIdentity, Revision, Run, RunEnd, RunPaths, Vm, VmEntry, VmId,
    VmName,
};
use rusqlite::types::{Type, ValueRef};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Params, Result, Row, params};
use serde::de::DeserializeOwned;

use crate::column::{File, Moment, Text, Tree, path_value};

/// The columns of [`entry`].
const ENTRY: &str = "vm.id, vm.name, revision, created_at, \
    boot, started_at, phase, end_reason, ended_at, pid, start_ticks, host_boot, sockets, records, forwards";

/// The last columns of [`entry`], and what stands for them in schemas before 6, 4 and 3, which lack some of them: a
/// database that cannot be written is not migrated.
const LAST_COLUMNS: [&str; 4] =
    ["pid_namespace, pending, layers", "pid_namespace, pending, NULL", "pid_namespace, NULL, NULL", "NULL, NULL, NULL"];

/// What SQLite reports of a schema that lacks a column or a table.
const NO_COLUMN: &str = "no such column";
const NO_TABLE: &str = "no such table";

/// Reads the VM of this id.
pub(crate) fn vm_by_id(connection: &Connection, id: VmId) -> Result<Option<Vm>> {
    vm(connection, "vm.id = ?1", params![Text(id)])
}

/// Reads the VM of this name.
pub(crate) fn vm_by_name(connection: &Connection, name: &VmName) -> Result<Option<Vm>> {
    vm(connection, "vm.name = ?1", params![name.as_str()])
}

/// Reads all entries, by name.
pub(crate) fn entries(connection: &Connection) -> Result<Vec<VmEntry>> {
    entries_after(connection, None, u32::MAX)
}

/// Reads the first `limit` entries, by name, of those after `last`.
pub(crate) fn entries_after(connection: &Connection, last: Option<&VmName>, limit: u32) -> Result<Vec<VmEntry>> {
    // No name is empty.
    let last = last.map(VmName::as_str).unwrap_or_default();
    let mut statement = prepare_entries(connection, "", "FROM vm WHERE name > ?1 ORDER BY name LIMIT ?2")?;
    statement.query_map(params![last, limit], entry)?.collect()
}

/// Reads the first `limit` VMs, by name, of those after `last`.
pub(crate) fn vms_after(connection: &Connection, last: Option<&VmName>, limit: u32) -> Result<Vec<Vm>> {
    let last = last.map(VmName::as_str).unwrap_or_default();
    let tail = "FROM vm LEFT JOIN definition ON definition.vm = vm.id WHERE name > ?1 ORDER BY name LIMIT ?2";
    let mut statement = prepare_entries(connection, ", content, origins", tail)?;
    statement.query_map(params![last, limit], whole_vm)?.collect()
}

/// Reads the entries of the ids that begin with `prefix`, by id.
pub(crate) fn entries_by_id_prefix(connection: &Connection, prefix: &str) -> Result<Vec<VmEntry>> {
    let Some((first, last)) = VmId::range_of_prefix(prefix) else { return Ok(Vec::new()) };
    let mut statement = prepare_entries(connection, "", "FROM vm WHERE id BETWEEN ?1 AND ?2 ORDER BY id")?;
    statement.query_map(params![Text(first), Text(last)], entry)?.collect()
}

/// Reads the storage records of a VM, in the order they were created.
pub(crate) fn storage(connection: &Connection, id: VmId) -> Result<Vec<StorageRecord>> {
    let sql = "SELECT path, vm, drive, kind, size, created_at FROM storage WHERE vm = ?1 ORDER BY sequence";
    all(connection, sql, params![Text(id)], storage_record)
}

/// Reads the storage records of removed VMs, in the order they were created.
pub(crate) fn storage_without_vm(connection: &Connection) -> Result<Vec<StorageRecord>> {
    let sql = "SELECT path, vm, drive, kind, size, created_at FROM storage WHERE vm IS NULL ORDER BY sequence";
    all(connection, sql, params![], storage_record)
}

/// Reads all storage records, in the order they were created.
pub(crate) fn all_storage(connection: &Connection) -> Result<Vec<StorageRecord>> {
    let sql = "SELECT path, vm, drive, kind, size, created_at FROM storage ORDER BY sequence";
    all(connection, sql, params![], storage_record)
}

/// Reads the storage record of the image at a path.
pub(crate) fn storage_at(connection: &Connection, path: &Path) -> Result<Option<StorageRecord>> {
    let sql = "SELECT path, vm, drive, kind, size, created_at FROM storage WHERE path = ?1";
    connection.prepare_cached(sql)?.query_row([path_value(path)], storage_record).optional()
}

/// Reads the records of the snapshots of a VM, by drive and tag; none from a schema without them.
pub(crate) fn snapshots(connection: &Connection, id: VmId) -> Result<Vec<SnapshotRecord>> {
    let sql = "SELECT vm, drive, tag, name, image_id, image_date, set_id, kind, description, fingerprint, created_at \
        FROM snapshot WHERE vm = ?1 ORDER BY drive, tag";
    match all(connection, sql, params![Text(id)], snapshot_record) {
        Err(error) if error.to_string().contains(NO_TABLE) => Ok(Vec::new()),
        records => records,
    }
}

/// Reads the entries of the history that a query asks for, the newest first; all are those of this user and host.
pub(crate) fn history(connection: &Connection, query: &HistoryQuery) -> Result<Vec<RecordedHistory>> {
    let before = query.before.unwrap_or(i64::MAX);
    let Some(vm) = &query.vm else {
        // All columns, because a database that cannot be written may still have an older schema, which lacks some.
        let sql = "SELECT * FROM history WHERE sequence < ?1 ORDER BY sequence DESC LIMIT ?2";
        return all(connection, sql, params![before, query.limit], history_entry);
    };
    let (id, name) = (vm.id.map(Text), vm.name.as_ref().map(VmName::as_str));
    let sql = "SELECT * FROM history WHERE sequence < ?1 AND (vm = ?3 OR vm_name = ?4) ORDER BY sequence DESC LIMIT ?2";
    match all(connection, sql, params![before, query.limit, id, name], history_entry) {
        Err(error) if error.to_string().contains(NO_COLUMN) => {
            let sql = "SELECT * FROM history WHERE sequence < ?1 AND vm = ?3 ORDER BY sequence DESC LIMIT ?2";
            all(connection, sql, params![before, query.limit, id], history_entry)
        }
        entries => entries,
    }
}

/// Returns whether an entry reverts the one with this number.
pub(crate) fn is_reverted(connection: &Connection, sequence: i64) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM history WHERE reverts = ?1)";
    connection.prepare_cached(sql)?.query_row([sequence], |row| row.get(0))
}

/// Reads the events after `sequence`, the oldest first.
pub(crate) fn events(connection: &Connection, sequence: i64, limit: u32) -> Result<Vec<RecordedEvent>> {
    let sql = "SELECT sequence, at, kind, vm, vm_name, data FROM event WHERE sequence > ?1 ORDER BY sequence LIMIT ?2";
    all(connection, sql, params![sequence, limit], event)
}

/// Reads everything; more than one read, to be made in one transaction.
pub(crate) fn content(connection: &Connection) -> Result<StoreContent> {
    let tail = "FROM vm LEFT JOIN definition ON definition.vm = vm.id ORDER BY vm.id";
    let vms =
        prepare_entries(connection, ", content, origins", tail)?.query_map([], whole_vm)?.collect::<Result<_>>()?;
    let storage = all_storage(connection)?;
    let sql = "SELECT vm, drive, tag, name, image_id, image_date, set_id, kind, description, fingerprint, created_at \
        FROM snapshot ORDER BY vm, drive, tag";
    let snapshots = all(connection, sql, params![], snapshot_record)?;
    let history = all(connection, "SELECT * FROM history ORDER BY sequence", params![], history_entry)?;
    let sql = "SELECT sequence, at, kind, vm, vm_name, data FROM event ORDER BY sequence";
    let events = all(connection, sql, params![], event)?;
    Ok(StoreContent { vms, storage, snapshots, history, events })
}

fn vm(connection: &Connection, condition: &str, parameters: impl Params) -> Result<Option<Vm>> {
    // The join keeps a VM without a definition, so that it is reported as damage.
    let tail = format!("FROM vm LEFT JOIN definition ON definition.vm = vm.id WHERE {condition}");
    prepare_entries(connection, ", content, origins", &tail)?.query_row(parameters, whole_vm).optional()
}

fn whole_vm(row: &Row<'_>) -> Result<Vm> {
    Ok(Vm { entry: entry(row)?, definition: json(row, 18)?, origins: json(row, 19)? })
}

/// Prepares a query of the columns of [`entry`] and `more`.
fn prepare_entries<'a>(connection: &'a Connection, more: &str, tail: &str) -> Result<CachedStatement<'a>> {
    let prepare = |last: &str| connection.prepare_cached(&format!("SELECT {ENTRY}, {last}{more} {tail}"));
    let [newest, older @ ..] = LAST_COLUMNS;
    let or_without = |prepared: Result<CachedStatement<'a>>, last: &str| match prepared {
        Err(error) if error.to_string().contains(NO_COLUMN) => prepare(last),
        prepared => prepared,
    };
    older.into_iter().fold(prepare(newest), or_without)
}

fn all<T>(
    connection: &Connection,
    sql: &str,
    parameters: impl Params,
    read: impl FnMut(&Row<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    connection.prepare_cached(sql)?.query_map(parameters, read)?.collect()
}

fn entry(row: &Row<'_>) -> Result<VmEntry> {
    Ok(VmEntry {
        id: row.get::<_, Text<_>>(0)?.0,
        name: row.get::<_, Text<_>>(1)?.0,
        revision: Revision(row.get(2)?),
        created_at: row.get::<_, Moment>(3)?.0,
        run: row.get::<_, Option<u32>>(4)?.map(|boot| run(row, BootNumber(boot))).transpose()?,
        pending: if row.get_ref(16)? == ValueRef::Null { None } else { Some(json(row, 16)?) },
        layers: if row.get_ref(17)? == ValueRef::Null { Vec::new() } else { json(row, 17)? },
    })
}

fn run(row: &Row<'_>, boot: BootNumber) -> Result<Run> {
    Ok(Run {
        boot,
        started_at: row.get::<_, Moment>(5)?.0,
        phase: phase(row)?,
        process: row.get::<_, Option<u32>>(9)?.map(|pid| process(row, pid)).transpose()?,
        paths: RunPaths { sockets: row.get::<_, File>(12)?.0, records: row.get::<_, File>(13)?.0 },
        forwards: if row.get_ref(14)? == ValueRef::Null { Vec::new() } else { json(row, 14)? },
    })
}

fn phase(row: &Row<'_>) -> Result<Phase> {
    match row.get_ref(6)?.as_str()? {
        "starting" => Ok(Phase::Starting),
        "running" => Ok(Phase::Running),
        "stopping" => Ok(Phase::Stopping),
        "ended" => {
            let reason = row.get_ref(7)?.as_str()?.parse().map_err(|_| invalid(7, "unknown end reason"))?;
            Ok(Phase::Ended(RunEnd { reason, at: row.get::<_, Option<Moment>>(8)?.map(|moment| moment.0) }))
        }
        _ => Err(invalid(6, "unknown phase")),
    }
}

fn process(row: &Row<'_>, pid: u32) -> Result<ProcessIdentity> {
    let start_ticks = row.get::<_, i64>(10)?.cast_unsigned();
    let namespace = row.get::<_, Option<i64>>(15)?.map(|inode| PidNamespace(inode.cast_unsigned()));
    Ok(ProcessIdentity { pid, start_ticks, boot_id: BootId(row.get(11)?), namespace })
}

fn json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    serde_json::from_str(text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into()))
}

fn storage_record(row: &Row<'_>) -> Result<StorageRecord> {
    Ok(StorageRecord {
        path: row.get::<_, File>(0)?.0,
        vm: row.get::<_, Option<Text<_>>>(1)?.map(|id| id.0),
        drive: row.get(2)?,
        kind: row.get(3)?,
        size: row.get::<_, Option<i64>>(4)?.map(|size| ByteSize::from_bytes(size.cast_unsigned())),
        created_at: row.get::<_, Moment>(5)?.0,
    })
}

fn snapshot_record(row: &Row<'_>) -> Result<SnapshotRecord> {
    let kind = row.get_ref(7)?.as_str()?.parse().map_err(|_| invalid(7, "unknown kind of snapshot"))?;
    Ok(SnapshotRecord {
        vm: row.get::<_, Text<_>>(0)?.0,
        drive: row.get(1)?,
        tag: row.get(2)?,
        name: row.get(3)?,
        image_id: row.get(4)?,
        image_date: row.get::<_, Moment>(5)?.0,
        set: row.get::<_, Option<Text<_>>>(6)?.map(|set| set.0),
        kind,
        description: row.get(8)?,
        fingerprint: row.get::<_, Option<Tree>>(9)?.map(|tree| tree.0),
        created_at: row.get::<_, Moment>(10)?.0,
    })
}

fn history_entry(row: &Row<'_>) -> Result<RecordedHistory> {
    let columns = row.as_ref().column_count();
    let has_kind = columns > 13;
    let inverse = match row.get::<_, Option<String>>(8)? {
        Some(operation) => Some(Call { operation, arguments: row.get::<_, Tree>(9)?.0 }),
        None => None,
    };
    let entry = HistoryEntry {
        at: row.get::<_, Moment>(1)?.0,
        actor: Actor { user: row.get(2)?, host: row.get(3)?, pid: row.get(4)? },
        vm: row.get::<_, Option<Text<_>>>(5)?.map(|id| id.0),
        call: Call { operation: row.get(6)?, arguments: row.get::<_, Tree>(7)?.0 },
        inverse,
        reverts: if columns > 10 { row.get(10)? } else { None },
        vm_name: if has_kind { row.get::<_, Option<Text<_>>>(11)?.map(|name| name.0) } else { None },
        kind: if has_kind { row.get::<_, Text<_>>(12)?.0 } else { EntryKind::Work },
        irreversible: if has_kind {
            row.get::<_, Option<Text<_>>>(13)?.map(|reason| reason.0)
        } else {
            Some(Irreversible::OlderVersion)
        },
    };
    Ok(RecordedHistory { sequence: row.get(0)?, entry })
}

fn event(row: &Row<'_>) -> Result<RecordedEvent> {
    let event = Event {
        at: row.get::<_, Moment>(1)?.0,
        kind: row.get(2)?,
        vm: row.get::<_, Option<Text<_>>>(3)?.map(|id| id.0),
        vm_name: row.get::<_, Option<Text<_>>>(4)?.map(|name| name.0),
        data: row.get::<_, Tree>(5)?.0,
    };
    Ok(RecordedEvent { sequence: row.get(0)?, host: None, event })
}

fn invalid(column: usize, reason: &'static str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, reason.into())
}
