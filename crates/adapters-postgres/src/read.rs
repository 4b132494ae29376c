//! Reads: SQL, and the conversion of rows into domain values.

use std::path::Path;
use std::time::Duration;

use maqet_domain::change::{StorageRecord, UsedImage};
use maqet_domain::event::{Event, RecordedEvent, kind};
use maqet_domain::history::{Actor, Call, HistoryEntry, HistoryQuery, RecordedHistory};
use maqet_domain::port::{ForeignVm, HostRecord, VmPresence};
use maqet_domain::size::ByteSize;
use maqet_domain::snapshot::SnapshotRecord;
use maqet_domain::vm::{
    BootId, BootNumber, Phase, PidNamespace, ProcessIdentity, Revision, Run, RunEnd, RunPaths, Vm, VmEntry, VmId,
    VmName,
};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use crate::column::{Columns, Value};
use crate::error::Failure;
use crate::identity::Identity;

/// A query with its parameters, and the conversion of its rows.
pub(crate) struct Query<T> {
    pub(crate) sql: &'static str,
    pub(crate) values: Vec<Value>,
    pub(crate) row: fn(&Row) -> Result<T, Failure>,
}

/// Executes a query, and returns its rows.
pub(crate) async fn rows<T>(client: &Client, query: &Query<T>) -> Result<Vec<T>, Failure> {
    let values: Vec<_> = query.values.iter().map(Value::typed).collect();
    client.query_typed(query.sql, &values).await?.iter().map(query.row).collect()
}

/// Holds for rows of identities that have no part in a move: the other database may still be the one in use.
macro_rules! unmoved {
    () => {
        "(host, owner) NOT IN (SELECT move.host, move.owner FROM move)"
    };
}

/// The number of columns of a run after its boot.
const RUN_COLUMNS: usize = 11;

/// The columns that `entry` reads, in its order.
macro_rules! entry {
    ($($tail:expr),+) => {
        concat!(
            "SELECT vm.id, name, revision, created_at, pending, layers, boot, started_at, phase, end_reason, ended_at, pid, \
             start_ticks, host_boot, pid_namespace, sockets, records, forwards",
            $($tail),+
        )
    };
}

/// The columns that `history_entry` reads, in its order.
macro_rules! history {
    ($($tail:expr),+) => {
        concat!(
            "SELECT sequence, at, \"user\", host, pid, vm, operation, arguments, inverse_operation, inverse_arguments, \
             reverts, vm_name, kind, irreversible FROM history",
            $($tail),+
        )
    };
}

/// Holds for entries of the history before `$1`, and if `$3` only for those of the store.
macro_rules! meant {
    () => {
        "sequence < $1 AND (NOT $3 OR (store_host = $4 AND store_owner = $5))"
    };
}

/// The VM of this ID.
pub(crate) fn vm_by_id(id: VmId, identity: &Identity) -> Query<Vm> {
    let sql = entry!(
        ", content, origins FROM vm LEFT JOIN definition ON definition.vm = vm.id \
        WHERE vm.id = $3 AND host = $1 AND owner = $2"
    );
    Query { sql, values: of(identity, [Value::id(id)]), row: vm }
}

/// The VM of this name.
pub(crate) fn vm_by_name(name: &VmName, identity: &Identity) -> Query<Vm> {
    let sql = entry!(
        ", content, origins FROM vm LEFT JOIN definition ON definition.vm = vm.id \
        WHERE host = $1 AND owner = $2 AND name = $3"
    );
    Query { sql, values: of(identity, [Value::text(name)]), row: vm }
}

/// All entries, by name.
pub(crate) fn entries(identity: &Identity) -> Query<VmEntry> {
    let sql = entry!(" FROM vm WHERE host = $1 AND owner = $2 ORDER BY name");
    Query { sql, values: of(identity, []), row: |row| entry(&mut Columns::new(row)) }
}

/// All VMs with their definitions, by name.
pub(crate) fn vms(identity: &Identity) -> Query<Vm> {
    let sql = entry!(
        ", content, origins FROM vm LEFT JOIN definition ON definition.vm = vm.id \
        WHERE host = $1 AND owner = $2 ORDER BY name"
    );
    Query { sql, values: of(identity, []), row: vm }
}

/// The VMs of other identities, by host, owner and name.
pub(crate) fn foreign(identity: &Identity) -> Query<ForeignVm> {
    let sql =
        entry!(", host, owner FROM vm WHERE (host, owner) <> ($1, $2) AND ", unmoved!(), " ORDER BY host, owner, name");
    Query { sql, values: of(identity, []), row: listed_foreign }
}

/// The VM of another identity with this ID.
pub(crate) fn foreign_vm(id: VmId, identity: &Identity) -> Query<Vm> {
    let sql = entry!(
        ", content, origins FROM vm LEFT JOIN definition ON definition.vm = vm.id \
        WHERE vm.id = $3 AND (host, owner) <> ($1, $2) AND ",
        unmoved!()
    );
    Query { sql, values: of(identity, [Value::id(id)]), row: vm }
}

/// The storage records of a VM of another identity, in the order they were created.
pub(crate) fn foreign_storage(id: VmId, identity: &Identity) -> Query<StorageRecord> {
    let sql = "SELECT path, vm, drive, kind, size, created_at FROM storage \
        WHERE vm = $3 AND (host, owner) <> ($1, $2) ORDER BY sequence";
    Query { sql, values: of(identity, [Value::id(id)]), row: storage_record }
}

/// The images that a VM of another identity used when it was last started.
pub(crate) fn foreign_images(id: VmId, identity: &Identity) -> Query<Vec<UsedImage>> {
    let sql = "SELECT images FROM used_images JOIN vm ON vm.id = used_images.vm \
        WHERE vm.id = $3 AND (host, owner) <> ($1, $2)";
    Query { sql, values: of(identity, [Value::id(id)]), row: |row| Columns::new(row).json() }
}

/// All identities that used the store or have VMs in it, by host and owner.
pub(crate) fn hosts() -> Query<HostRecord> {
    let sql = concat!(
        "SELECT host, owner, seen_at, CASE WHEN seen_at IS NOT NULL THEN \
            greatest((extract(epoch FROM clock_timestamp()) * 1000)::bigint - seen_at / 1000000, 0) END, \
        coalesce(vms, 0), coalesce(open_runs, 0) \
        FROM host FULL JOIN (SELECT host, owner, count(*) AS vms, \
            count(*) FILTER (WHERE phase <> 'ended') AS open_runs FROM vm GROUP BY host, owner) AS of_vms \
        USING (host, owner) WHERE ",
        unmoved!(),
        " ORDER BY host, owner"
    );
    Query { sql, values: Vec::new(), row: host }
}

/// The entries of the IDs that begin with `prefix`, by ID; `None` if it cannot be the begin of one.
pub(crate) fn entries_by_id_prefix(prefix: &str, identity: &Identity) -> Option<Query<VmEntry>> {
    let (first, last) = VmId::range_of_prefix(prefix)?;
    let sql = entry!(" FROM vm WHERE host = $1 AND owner = $2 AND vm.id BETWEEN $3 AND $4 ORDER BY vm.id");
    let values = of(identity, [Value::id(first), Value::id(last)]);
    Some(Query { sql, values, row: |row| entry(&mut Columns::new(row)) })
}

/// The storage records of a VM, in the order they were created.
pub(crate) fn storage(id: VmId, identity: &Identity) -> Query<StorageRecord> {
    let sql = "SELECT path, vm, drive, kind, size, created_at FROM storage \
        WHERE vm = $3 AND host = $1 AND owner = $2 ORDER BY sequence";
    Query { sql, values: of(identity, [Value::id(id)]), row: storage_record }
}

/// The storage records of removed VMs, in the order they were created.
pub(crate) fn storage_without_vm(identity: &Identity) -> Query<StorageRecord> {
    let sql = "SELECT path, vm, drive, kind, size, created_at FROM storage \
        WHERE vm IS NULL AND host = $1 AND owner = $2 ORDER BY sequence";
    Query { sql, values: of(identity, []), row: storage_record }
}

/// The storage record of the image at a path.
pub(crate) fn storage_at(path: &Path, identity: &Identity) -> Query<StorageRecord> {
    let sql = "SELECT path, vm, drive, kind, size, created_at FROM storage \
        WHERE host = $1 AND owner = $2 AND sha256(path) = sha256($3)";
    Query { sql, values: of(identity, [Value::path(path)]), row: storage_record }
}

/// The records of the snapshots of a VM, by drive and tag.
pub(crate) fn snapshots(id: VmId) -> Query<SnapshotRecord> {
    let sql = "SELECT vm, drive, tag, name, image_id, image_date, set_id, kind, description, fingerprint, created_at \
        FROM snapshot WHERE vm = $1 ORDER BY drive, tag";
    Query { sql, values: vec![Value::id(id)], row: snapshot_record }
}

/// The entries of the history that `query` asks for, the newest first.
pub(crate) fn history(query: &HistoryQuery, identity: &Identity) -> Query<RecordedHistory> {
    let mut values = vec![
        Value::Number(Some(query.before.unwrap_or(i64::MAX))),
        Value::Number(Some(query.limit.into())),
        Value::Flag(query.own),
        Value::text(&identity.host),
        Value::text(&identity.owner),
    ];
    let Some(vm) = &query.vm else {
        let sql = history!(" WHERE ", meant!(), " ORDER BY sequence DESC LIMIT $2");
        return Query { sql, values, row: history_entry };
    };
    values.push(Value::Id(vm.id.map(|id| Uuid::from_bytes(id.bytes()))));
    values.push(Value::Text(vm.name.as_ref().map(ToString::to_string)));
    // One query for each index.
    let sql = history!(
        " WHERE sequence IN (\
            (SELECT sequence FROM history WHERE vm = $6 AND ",
        meant!(),
        " ORDER BY sequence DESC LIMIT $2) UNION ALL \
            (SELECT sequence FROM history WHERE vm_name = $7 AND ",
        meant!(),
        " ORDER BY sequence DESC LIMIT $2)) ORDER BY sequence DESC LIMIT $2"
    );
    Query { sql, values, row: history_entry }
}

/// The numbers of the entries, also of other identities, that revert the one with this number.
pub(crate) fn reverting(sequence: i64) -> Query<i64> {
    let sql = "SELECT sequence FROM history WHERE reverts = $1";
    Query { sql, values: vec![Value::Number(Some(sequence))], row: |row| Columns::new(row).get() }
}

/// The events after `sequence`, the oldest first.
pub(crate) fn events(sequence: i64, limit: u32) -> Query<RecordedEvent> {
    let sql =
        "SELECT sequence, at, kind, vm, vm_name, data, host FROM event WHERE sequence > $1 ORDER BY sequence LIMIT $2";
    Query { sql, values: vec![Value::Number(Some(sequence)), Value::Number(Some(limit.into()))], row: event }
}

/// All VMs, by ID.
pub(crate) fn all_vms(identity: &Identity) -> Query<Vm> {
    let sql = entry!(
        ", content, origins FROM vm LEFT JOIN definition ON definition.vm = vm.id \
        WHERE host = $1 AND owner = $2 ORDER BY vm.id"
    );
    Query { sql, values: of(identity, []), row: vm }
}

/// All storage records, in the order they were created.
pub(crate) fn all_storage(identity: &Identity) -> Query<StorageRecord> {
    let sql = "SELECT path, vm, drive, kind, size, created_at FROM storage \
        WHERE host = $1 AND owner = $2 ORDER BY sequence";
    Query { sql, values: of(identity, []), row: storage_record }
}

/// The records of all snapshots, by VM, drive and tag.
pub(crate) fn all_snapshots(identity: &Identity) -> Query<SnapshotRecord> {
    let sql = "SELECT vm, drive, tag, snapshot.name, image_id, image_date, set_id, kind, description, fingerprint, \
        snapshot.created_at FROM snapshot JOIN vm ON vm.id = snapshot.vm WHERE host = $1 AND owner = $2 \
        ORDER BY vm, drive, tag";
    Query { sql, values: of(identity, []), row: snapshot_record }
}

/// The whole history of an identity, the oldest first.
pub(crate) fn all_history(identity: &Identity) -> Query<RecordedHistory> {
    let sql = history!(" WHERE store_host = $1 AND store_owner = $2 ORDER BY sequence");
    Query { sql, values: of(identity, []), row: history_entry }
}

/// All events of an identity, the oldest first.
pub(crate) fn all_events(identity: &Identity) -> Query<RecordedEvent> {
    let sql = "SELECT sequence, at, kind, vm, vm_name, data, host FROM event \
        WHERE host = $1 AND owner = $2 ORDER BY sequence";
    Query { sql, values: of(identity, []), row: event }
}

/// Returns what the database says about each of `vms`, also of other identities.
pub(crate) async fn presence(client: &Client, vms: &[VmId], identity: &Identity) -> Result<Vec<VmPresence>, Failure> {
    // The kind is part of the query, as the index has only rows of this kind.
    let sql = format!(
        "SELECT asked.id, vm.id IS NOT NULL, \
        CASE WHEN (vm.host, vm.owner) <> ($2, $3) THEN EXISTS (SELECT FROM event \
            WHERE event.vm = vm.id AND event.kind = '{}') ELSE false END, \
        CASE WHEN vm.id IS NULL THEN (SELECT max(at) FROM event WHERE event.vm = asked.id AND kind = '{}') END, \
        departed.at, departed.is_removed \
        FROM unnest($1::uuid[]) WITH ORDINALITY AS asked (id, place) LEFT JOIN vm ON vm.id = asked.id \
        LEFT JOIN departed ON departed.vm = asked.id ORDER BY place",
        kind::VM_EVICTED,
        kind::VM_REMOVED
    );
    let ids: Vec<Uuid> = vms.iter().map(|id| Uuid::from_bytes(id.bytes())).collect();
    let Identity { host, owner } = identity;
    let values: [(&(dyn ToSql + Sync), Type); 3] = [(&ids, Type::UUID_ARRAY), (host, Type::TEXT), (owner, Type::TEXT)];
    let rows = client.query_typed(&sql, &values).await?;
    let presence = |row: &Row| {
        let mut columns = Columns::new(row);
        columns.skip(1);
        let (is_held, is_taken_over) = (columns.get()?, columns.get()?);
        let removed_at = columns.optional_moment()?;
        let (departed_at, was_removed) = (columns.optional_moment()?, columns.get::<Option<bool>>()?);
        Ok(match (removed_at, departed_at) {
            _ if is_taken_over => VmPresence::TakenOver,
            _ if is_held => VmPresence::Held,
            (removed_at, Some(at)) if removed_at.is_none_or(|removed_at| removed_at < at) => match was_removed {
                Some(true) => VmPresence::Removed { at },
                Some(false) | None => VmPresence::Moved { at },
            },
            (Some(at), _) => VmPresence::Removed { at },
            (None, _) => VmPresence::Unknown,
        })
    };
    rows.iter().map(presence).collect()
}

fn of<const N: usize>(identity: &Identity, more: [Value; N]) -> Vec<Value> {
    let mut values = vec![Value::text(&identity.host), Value::text(&identity.owner)];
    values.extend(more);
    values
}

fn vm(row: &Row) -> Result<Vm, Failure> {
    let mut columns = Columns::new(row);
    // The join keeps a VM without a definition, so that it is reported as damage.
    Ok(Vm { entry: entry(&mut columns)?, definition: columns.json()?, origins: columns.json()? })
}

fn listed_foreign(row: &Row) -> Result<ForeignVm, Failure> {
    let mut columns = Columns::new(row);
    Ok(ForeignVm { entry: entry(&mut columns)?, host: columns.get()?, owner: columns.get()? })
}

fn host(row: &Row) -> Result<HostRecord, Failure> {
    let mut columns = Columns::new(row);
    Ok(HostRecord {
        host: columns.get()?,
        owner: columns.get()?,
        seen_at: columns.optional_moment()?,
        unseen: columns.optional_count()?.map(Duration::from_millis),
        vms: columns.count()?,
        open_runs: columns.count()?,
    })
}

fn entry(columns: &mut Columns<'_>) -> Result<VmEntry, Failure> {
    Ok(VmEntry {
        id: columns.vm()?,
        name: columns.parsed()?,
        revision: Revision(columns.get()?),
        created_at: columns.moment()?,
        pending: columns.optional_json()?,
        layers: columns.optional_json()?.unwrap_or_default(),
        run: run(columns)?,
    })
}

fn run(columns: &mut Columns<'_>) -> Result<Option<Run>, Failure> {
    if let Some(boot) = columns.optional_count()? {
        return Ok(Some(started_run(BootNumber(boot), columns)?));
    }
    columns.skip(RUN_COLUMNS);
    Ok(None)
}

fn started_run(boot: BootNumber, columns: &mut Columns<'_>) -> Result<Run, Failure> {
    Ok(Run {
        boot,
        started_at: columns.moment()?,
        phase: phase(columns)?,
        process: process(columns)?,
        paths: RunPaths { sockets: columns.path()?, records: columns.path()? },
        forwards: columns.optional_json()?.unwrap_or_default(),
    })
}

fn phase(columns: &mut Columns<'_>) -> Result<Phase, Failure> {
    let (phase, reason) = (columns.get::<&str>()?, columns.get::<Option<&str>>()?);
    let at = columns.optional_moment()?;
    match (phase, reason) {
        ("starting", _) => Ok(Phase::Starting),
        ("running", _) => Ok(Phase::Running),
        ("stopping", _) => Ok(Phase::Stopping),
        ("ended", Some(reason)) => {
            let reason = reason.parse().map_err(|_| Failure::Damage("unknown end reason".to_owned()))?;
            Ok(Phase::Ended(RunEnd { reason, at }))
        }
        _ => Err(Failure::Damage("unknown phase".to_owned())),
    }
}

fn process(columns: &mut Columns<'_>) -> Result<Option<ProcessIdentity>, Failure> {
    let pid = columns.optional_count()?;
    let start_ticks = columns.get::<Option<i64>>()?;
    let boot_id = columns.get::<Option<String>>()?;
    let namespace = columns.get::<Option<i64>>()?.map(|inode| PidNamespace(inode.cast_unsigned()));
    match (pid, start_ticks, boot_id) {
        (None, _, _) => Ok(None),
        (Some(pid), Some(start_ticks), Some(boot_id)) => {
            let start_ticks = start_ticks.cast_unsigned();
            Ok(Some(ProcessIdentity { pid, start_ticks, boot_id: BootId(boot_id), namespace }))
        }
        (Some(_), _, _) => Err(Failure::Damage("a process without its start".to_owned())),
    }
}

fn storage_record(row: &Row) -> Result<StorageRecord, Failure> {
    let mut columns = Columns::new(row);
    Ok(StorageRecord {
        path: columns.path()?,
        vm: columns.optional_vm()?,
        drive: columns.get()?,
        kind: columns.get()?,
        size: columns.get::<Option<i64>>()?.map(|size| ByteSize::from_bytes(size.cast_unsigned())),
        created_at: columns.moment()?,
    })
}

fn snapshot_record(row: &Row) -> Result<SnapshotRecord, Failure> {
    let mut columns = Columns::new(row);
    Ok(SnapshotRecord {
        vm: columns.vm()?,
        drive: columns.get()?,
        tag: columns.get()?,
        name: columns.get()?,
        image_id: columns.get()?,
        image_date: columns.moment()?,
        set: match columns.get::<Option<&str>>()? {
            Some(set) => Some(set.parse().map_err(|_| Failure::Damage("invalid ID of a set".to_owned()))?),
            None => None,
        },
        kind: columns.get::<&str>()?.parse().map_err(|_| Failure::Damage("unknown kind of snapshot".to_owned()))?,
        description: columns.get()?,
        fingerprint: columns.optional_json()?,
        created_at: columns.moment()?,
    })
}

fn history_entry(row: &Row) -> Result<RecordedHistory, Failure> {
    let mut columns = Columns::new(row);
    let sequence = columns.get()?;
    let at = columns.moment()?;
    let actor = Actor { user: columns.get()?, host: columns.get()?, pid: columns.count()? };
    let vm = columns.optional_vm()?;
    let call = Call { operation: columns.get()?, arguments: columns.json()? };
    let inverse = match (columns.get::<Option<String>>()?, columns.optional_json()?) {
        (Some(operation), Some(arguments)) => Some(Call { operation, arguments }),
        (None, _) => None,
        (Some(_), None) => return Err(Failure::Damage("a call without arguments".to_owned())),
    };
    let reverts = columns.get()?;
    let vm_name = columns.optional_parsed()?;
    let kind = columns.parsed()?;
    let irreversible = columns.optional_parsed()?;
    let entry = HistoryEntry { at, actor, vm, vm_name, kind, call, inverse, irreversible, reverts };
    Ok(RecordedHistory { sequence, entry })
}

fn event(row: &Row) -> Result<RecordedEvent, Failure> {
    let mut columns = Columns::new(row);
    let sequence = columns.get()?;
    let at = columns.moment()?;
    let kind = columns.get()?;
    let vm = columns.optional_vm()?;
    let vm_name = match columns.get::<Option<&str>>()? {
        Some(name) => Some(name.parse().map_err(|error| Failure::damage(4, &error))?),
        None => None,
    };
    let data = columns.json()?;
    Ok(RecordedEvent { sequence, host: Some(columns.get()?), event: Event { at, kind, vm, vm_name, data } })
}
