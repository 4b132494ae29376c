//! A set of changes as statements, and what their results mean.

use std::path::Path;

use maqet_domain::change::{Change, ChangeSet, StorageRecord, UsedImage};
use maqet_domain::config::Node;
use maqet_domain::event::{Event, RecordedEvent};
use maqet_domain::history::{HistoryEntry, RecordedHistory};
use maqet_domain::port::StoreError;
use maqet_domain::snapshot::SnapshotRecord;
use maqet_domain::vm::{Origins, Pending, Phase, Revision, Run, RunEnd, Vm, VmId, VmName};
use serde_json::json;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use crate::column::{Value, nanoseconds};
use crate::error::Failure;
use crate::identity::Identity;
use crate::limits;

mod layers;
mod take_over;

/// A statement with its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statement {
    pub(crate) sql: &'static str,
    pub(crate) values: Vec<Value>,
    rule: Rule,
}

/// What the result of a statement says about a rule of the port.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    /// Nothing.
    None,
    /// It changes the row of this VM, unless another process did so first.
    ChangesVm(VmId),
    /// It adds a VM of this name, unless the name or the ID is in use.
    AddsVm(VmId, VmName),
    /// It gives the row of this VM to this store, unless another process changed it first, or the name is in use here.
    TakesVm(VmId, VmName),
    /// It gives the images of this VM to this store, unless it has a record of one of them.
    TakesStorage(VmId),
    /// It adds a row of this VM, unless that was removed.
    NeedsVm(Option<VmId>),
    /// It adds an entry of the history that reverts this one, unless another one does.
    Reverts(i64),
}

/// The statements of a commit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Statements {
    /// Those whose results decide whether to commit.
    pub(crate) changes: Vec<Statement>,
    /// History and events, which are written together with the commit.
    pub(crate) log: Vec<Statement>,
    /// The VMs that are taken over, and whose they were.
    pub(crate) taken: Vec<(VmId, Identity)>,
}

/// Lets only one commit at a time write events, so that their numbers increase in the order of the commits. The lock is
/// released once the commit is visible; it is one of this table, as a database can hold several stores.
const LOCK_EVENTS: &str = "SELECT pg_advisory_xact_lock(1836148084, 'event'::regclass::oid::int4)";

/// Announces events, or a mark of a move, to readers of events; they read them from the tables.
pub(crate) const NOTIFY: &str = "SELECT pg_notify('maqet_event', current_schema()::text)";

impl Statement {
    const fn new(sql: &'static str, values: Vec<Value>) -> Self {
        Self { sql, values, rule: Rule::None }
    }

    fn under(self, rule: Rule) -> Self {
        Self { rule, ..self }
    }

    /// Returns the error that the number of changed rows means.
    pub(crate) fn check_rows(&self, rows: u64) -> Result<(), Failure> {
        match (&self.rule, rows) {
            (Rule::ChangesVm(id) | Rule::TakesVm(id, _), 0) => Err(StoreError::Conflict { id: *id }.into()),
            _ => Ok(()),
        }
    }

    /// Returns what an error of the server means.
    pub(crate) fn explain(&self, failure: Failure) -> Failure {
        let is = |wanted: &SqlState| failure.code() == Some(wanted);
        match &self.rule {
            Rule::AddsVm(id, name) if failure.constraint() == Some("vm_pkey") => {
                StoreError::IdExists { id: *id, name: name.clone() }.into()
            }
            Rule::AddsVm(_, name) | Rule::TakesVm(_, name) if is(&SqlState::UNIQUE_VIOLATION) => {
                StoreError::Exists { name: name.clone() }.into()
            }
            Rule::TakesStorage(id) if is(&SqlState::UNIQUE_VIOLATION) => StoreError::Conflict { id: *id }.into(),
            Rule::NeedsVm(Some(id)) if is(&SqlState::FOREIGN_KEY_VIOLATION) => StoreError::Conflict { id: *id }.into(),
            Rule::Reverts(sequence) if is(&SqlState::UNIQUE_VIOLATION) => {
                StoreError::Reverted { sequence: *sequence }.into()
            }
            Rule::None
            | Rule::ChangesVm(_)
            | Rule::AddsVm(..)
            | Rule::TakesVm(..)
            | Rule::TakesStorage(_)
            | Rule::NeedsVm(_)
            | Rule::Reverts(_) => failure,
        }
    }
}

/// Returns the statements that write `set` as changes of `identity`.
pub(crate) fn statements(set: &ChangeSet, identity: &Identity) -> Result<Statements, Failure> {
    let (mut changes, mut taken) = (Vec::new(), Vec::new());
    for change in &set.changes {
        match change {
            Change::VmAdded(vm) => add_vm(vm, identity, &mut changes)?,
            Change::VmTakenOver { .. } => taken.push(take_over::add(change, identity, &mut changes)?),
            Change::VmRemoved { id, expected } => changes.push(remove_vm(*id, *expected, identity)),
            Change::DefinitionChanged { id, expected, definition, origins } => {
                changes.push(revise(*id, *expected, identity));
                changes.push(change_definition(*id, definition, origins)?);
            }
            Change::RunChanged { id, expected, run } => {
                changes.push(change_run(*id, *expected, identity, run.as_ref())?);
            }
            Change::PendingChanged { id, expected, pending } => {
                changes.push(change_pending(*id, *expected, identity, pending.as_deref())?);
            }
            Change::LayersChanged { id, expected, layers } => {
                changes.push(layers::change(*id, *expected, identity, layers)?);
            }
            Change::SnapshotAdded(record) => {
                changes.push(require_own(record.vm, identity));
                changes.push(add_snapshot(record)?);
            }
            Change::SnapshotRemoved { vm, drive, tag } => changes.push(remove_snapshot(*vm, drive, tag)),
            Change::StorageAdded(record) => add_storage(record, identity, &mut changes)?,
            Change::StorageRemoved { path } => changes.push(remove_storage(path, identity)),
            Change::ImagesUsed { vm, images } => changes.push(record_images(*vm, images, identity)?),
        }
    }
    let mut log = Vec::new();
    if let Some(entry) = &set.history {
        log.push(add_history(entry, identity)?);
        if let Some(limit) = set.history_limit {
            log.push(prune_history(limit, identity));
        }
    }
    if !set.events.is_empty() {
        log.push(Statement::new(LOCK_EVENTS, Vec::new()));
        for event in &set.events {
            log.push(add_event(event, identity)?);
        }
        log.push(Statement::new(NOTIFY, Vec::new()));
    }
    Ok(Statements { changes, log, taken: taken.into_iter().flatten().collect() })
}

fn add_vm(vm: &Vm, identity: &Identity, statements: &mut Vec<Statement>) -> Result<(), Failure> {
    const ADD: &str = "INSERT INTO vm (id, revision, host, owner, name, created_at, pending, layers, boot, started_at, \
        phase, end_reason, ended_at, pid, start_ticks, host_boot, pid_namespace, sockets, records, forwards) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)";
    const DEFINE: &str = "INSERT INTO definition (vm, content, origins) VALUES ($1, $2, $3)";

    let entry = &vm.entry;
    let mut values = of_vm(entry.id, entry.revision, identity);
    values.extend([
        Value::text(&entry.name),
        Value::moment(entry.created_at)?,
        optional_json(entry.pending.as_deref())?,
        optional_json(layers::written(&entry.layers).as_ref())?,
    ]);
    values.extend(run_values(entry.run.as_ref())?);
    statements.push(Statement::new(ADD, values).under(Rule::AddsVm(entry.id, entry.name.clone())));
    let values = vec![Value::id(entry.id), Value::json(&vm.definition)?, Value::json(&vm.origins)?];
    statements.push(Statement::new(DEFINE, values));
    Ok(())
}

/// Returns the first parameters of every statement that changes a VM.
fn of_vm(id: VmId, revision: Revision, identity: &Identity) -> Vec<Value> {
    vec![Value::id(id), Value::Number(Some(revision.0)), Value::text(&identity.host), Value::text(&identity.owner)]
}

/// The foreign keys remove the definition with it, and the owner of its storage records.
fn remove_vm(id: VmId, expected: Revision, identity: &Identity) -> Statement {
    let sql = "DELETE FROM vm WHERE id = $1 AND revision = $2 AND host = $3 AND owner = $4";
    Statement::new(sql, of_vm(id, expected, identity)).under(Rule::ChangesVm(id))
}

/// Refuses to record something about a VM that another host has taken over, and keeps it here until the commit.
fn require_own(id: VmId, identity: &Identity) -> Statement {
    let sql = "SELECT FROM vm WHERE id = $1 AND host = $2 AND owner = $3 FOR KEY SHARE";
    let values = vec![Value::id(id), Value::text(&identity.host), Value::text(&identity.owner)];
    Statement::new(sql, values).under(Rule::ChangesVm(id))
}

fn revise(id: VmId, expected: Revision, identity: &Identity) -> Statement {
    let sql = "UPDATE vm SET revision = revision + 1 WHERE id = $1 AND revision = $2 AND host = $3 AND owner = $4";
    Statement::new(sql, of_vm(id, expected, identity)).under(Rule::ChangesVm(id))
}

fn change_definition(id: VmId, definition: &Node, origins: &Origins) -> Result<Statement, Failure> {
    let sql = "UPDATE definition SET content = $2, origins = $3 WHERE vm = $1";
    let values = vec![Value::id(id), Value::json(definition)?, Value::json(origins)?];
    Ok(Statement::new(sql, values).under(Rule::ChangesVm(id)))
}

fn change_run(id: VmId, expected: Revision, identity: &Identity, run: Option<&Run>) -> Result<Statement, Failure> {
    let sql = "UPDATE vm SET revision = revision + 1, boot = $5, started_at = $6, phase = $7, end_reason = $8, \
        ended_at = $9, pid = $10, start_ticks = $11, host_boot = $12, pid_namespace = $13, sockets = $14, \
        records = $15, forwards = $16 WHERE id = $1 AND revision = $2 AND host = $3 AND owner = $4";
    let mut values = of_vm(id, expected, identity);
    values.extend(run_values(run)?);
    Ok(Statement::new(sql, values).under(Rule::ChangesVm(id)))
}

fn change_pending(
    id: VmId,
    expected: Revision,
    identity: &Identity,
    pending: Option<&Pending>,
) -> Result<Statement, Failure> {
    let sql = "UPDATE vm SET revision = revision + 1, pending = $5 \
        WHERE id = $1 AND revision = $2 AND host = $3 AND owner = $4";
    let mut values = of_vm(id, expected, identity);
    values.push(optional_json(pending)?);
    Ok(Statement::new(sql, values).under(Rule::ChangesVm(id)))
}

/// Returns the values of the columns from `boot` to `forwards`.
fn run_values(run: Option<&Run>) -> Result<[Value; 12], Failure> {
    let (phase, ending) = run.map(|run| phase_values(run.phase)).unzip();
    let ending = ending.flatten();
    let process = run.and_then(|run| run.process.as_ref());
    let forwards = run.map(|run| &run.forwards).filter(|forwards| !forwards.is_empty());
    let moment = |moment| Value::moment(moment);
    Ok([
        Value::Number(run.map(|run| run.boot.0.into())),
        run.map_or(Ok(Value::Number(None)), |run| moment(run.started_at))?,
        Value::Text(phase.map(str::to_owned)),
        Value::Text(ending.map(|ending| ending.reason.as_str().to_owned())),
        ending.and_then(|ending| ending.at).map_or(Ok(Value::Number(None)), moment)?,
        Value::Number(process.map(|process| process.pid.into())),
        Value::Number(process.map(|process| process.start_ticks.cast_signed())),
        Value::Text(process.map(|process| process.boot_id.0.clone())),
        Value::Number(process.and_then(|process| process.namespace).map(|namespace| namespace.0.cast_signed())),
        run.map_or(Value::Bytes(None), |run| Value::path(&run.paths.sockets)),
        run.map_or(Value::Bytes(None), |run| Value::path(&run.paths.records)),
        optional_json(forwards)?,
    ])
}

fn phase_values(phase: Phase) -> (&'static str, Option<RunEnd>) {
    match phase {
        Phase::Starting => ("starting", None),
        Phase::Running => ("running", None),
        Phase::Stopping => ("stopping", None),
        Phase::Ended(ending) => ("ended", Some(ending)),
    }
}

fn add_snapshot(record: &SnapshotRecord) -> Result<Statement, Failure> {
    let sql = "INSERT INTO snapshot \
        (vm, drive, tag, name, image_id, image_date, set_id, kind, description, fingerprint, created_at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (vm, drive, tag) DO UPDATE SET \
        name = excluded.name, image_id = excluded.image_id, image_date = excluded.image_date, \
        set_id = excluded.set_id, kind = excluded.kind, description = excluded.description, \
        fingerprint = excluded.fingerprint, created_at = excluded.created_at";
    let values = vec![
        Value::id(record.vm),
        Value::text(&record.drive),
        Value::text(&record.tag),
        Value::text(&record.name),
        Value::text(&record.image_id),
        Value::moment(record.image_date)?,
        Value::Text(record.set.map(|set| set.to_string())),
        Value::text(&record.kind),
        Value::Text(record.description.clone()),
        optional_json(record.fingerprint.as_ref())?,
        Value::moment(record.created_at)?,
    ];
    Ok(Statement::new(sql, values).under(Rule::NeedsVm(Some(record.vm))))
}

fn remove_snapshot(vm: VmId, drive: &str, tag: &str) -> Statement {
    let sql = "DELETE FROM snapshot WHERE vm = $1 AND drive = $2 AND tag = $3";
    Statement::new(sql, vec![Value::id(vm), Value::text(drive), Value::text(tag)])
}

/// A path that is recorded again moves to the end of the order; one that is only used stays with the VM that has it.
fn add_storage(record: &StorageRecord, identity: &Identity, statements: &mut Vec<Statement>) -> Result<(), Failure> {
    const FORGET: &str =
        "DELETE FROM storage WHERE host = $1 AND owner = $2 AND sha256(path) = sha256($3) AND vm IS NULL";
    const REPLACE: &str = "INSERT INTO storage (host, owner, path, vm, drive, kind, size, created_at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (host, owner, sha256(path)) DO UPDATE SET \
        sequence = DEFAULT, vm = excluded.vm, drive = excluded.drive, kind = excluded.kind, size = excluded.size, \
        created_at = excluded.created_at";
    const KEEP: &str = "INSERT INTO storage (host, owner, path, vm, drive, kind, size, created_at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (host, owner, sha256(path)) DO NOTHING";

    statements.extend(record.vm.map(|id| require_own(id, identity)));
    let mut values = vec![Value::text(&identity.host), Value::text(&identity.owner), Value::path(&record.path)];
    if !record.is_created() {
        statements.push(Statement::new(FORGET, values.clone()));
    }
    values.extend([
        Value::Id(record.vm.map(|id| Uuid::from_bytes(id.bytes()))),
        Value::text(&record.drive),
        Value::text(&record.kind),
        Value::Number(record.size.map(|size| size.bytes().cast_signed())),
        Value::moment(record.created_at)?,
    ]);
    let sql = if record.is_created() { REPLACE } else { KEEP };
    statements.push(Statement::new(sql, values).under(Rule::NeedsVm(record.vm)));
    Ok(())
}

fn record_images(vm: VmId, images: &[UsedImage], identity: &Identity) -> Result<Statement, Failure> {
    let sql = "INSERT INTO used_images SELECT id, $4 FROM vm WHERE id = $1 AND host = $2 AND owner = $3 \
        ON CONFLICT (vm) DO UPDATE SET images = excluded.images";
    let values = vec![Value::id(vm), Value::text(&identity.host), Value::text(&identity.owner), Value::json(&images)?];
    Ok(Statement::new(sql, values).under(Rule::ChangesVm(vm)))
}

fn remove_storage(path: &Path, identity: &Identity) -> Statement {
    let sql = "DELETE FROM storage WHERE host = $1 AND owner = $2 AND sha256(path) = sha256($3)";
    Statement::new(sql, vec![Value::text(&identity.host), Value::text(&identity.owner), Value::path(path)])
}

/// Removes the oldest entries of `identity` above `limit`, some at a time; the newest is that of this transaction.
///
/// Entries of other hosts stay, and those that another process removes are passed over: no commit waits for another one.
fn prune_history(limit: u32, identity: &Identity) -> Statement {
    let sql = "DELETE FROM history WHERE sequence IN (SELECT sequence FROM history \
        WHERE store_host = $1 AND store_owner = $2 AND sequence <= \
            CASE WHEN hashint8(currval(pg_get_serial_sequence('history', 'sequence'))) % $5 = 0 THEN \
                (SELECT sequence FROM history WHERE store_host = $1 AND store_owner = $2 \
                ORDER BY sequence DESC OFFSET $3 LIMIT 1) END \
        ORDER BY sequence LIMIT $4 FOR UPDATE SKIP LOCKED)";
    // A short history is limited at once. Else, hosts that alternate share the numbers, whose hashes follow no pattern.
    let interval = if limit < limits::PRUNED_AT_ONCE { 1 } else { limits::PRUNING_INTERVAL };
    let mut values = vec![Value::text(&identity.host), Value::text(&identity.owner)];
    values.extend([limit, limits::PRUNED_AT_ONCE, interval].map(|number| Value::Number(Some(number.into()))));
    Statement::new(sql, values)
}

fn add_history(entry: &HistoryEntry, identity: &Identity) -> Result<Statement, Failure> {
    let sql = "INSERT INTO history (at, \"user\", host, pid, vm, operation, arguments, inverse_operation, \
        inverse_arguments, reverts, vm_name, kind, irreversible, store_host, store_owner) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)";
    let inverse = entry.inverse.as_ref();
    let values = vec![
        Value::moment(entry.at)?,
        Value::text(&entry.actor.user),
        Value::text(&entry.actor.host),
        Value::Number(Some(entry.actor.pid.into())),
        Value::Id(entry.vm.map(|id| Uuid::from_bytes(id.bytes()))),
        Value::text(&entry.call.operation),
        Value::json(&entry.call.arguments)?,
        Value::Text(inverse.map(|call| call.operation.clone())),
        optional_json(inverse.map(|call| &call.arguments))?,
        Value::Number(entry.reverts),
        Value::Text(entry.vm_name.as_ref().map(VmName::to_string)),
        Value::text(&entry.kind),
        Value::Text(entry.irreversible.as_ref().map(ToString::to_string)),
        Value::text(&identity.host),
        Value::text(&identity.owner),
    ];
    Ok(Statement::new(sql, values).under(entry.reverts.map_or(Rule::None, Rule::Reverts)))
}

fn add_event(event: &Event, identity: &Identity) -> Result<Statement, Failure> {
    let sql = "INSERT INTO event (host, owner, at, kind, vm, vm_name, data) VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let values = vec![
        Value::text(&identity.host),
        Value::text(&identity.owner),
        Value::moment(event.at)?,
        Value::text(&event.kind),
        Value::Id(event.vm.map(|id| Uuid::from_bytes(id.bytes()))),
        Value::Text(event.vm_name.as_ref().map(VmName::to_string)),
        Value::json(&event.data)?,
    ];
    Ok(Statement::new(sql, values))
}

/// Returns the statements that add entries of the history, which are [renumbered](StoreContent::renumbered), with these
/// numbers.
pub(crate) fn add_numbered_history(
    history: &[RecordedHistory],
    numbers: &[i64],
    identity: &Identity,
) -> Result<Vec<Statement>, Failure> {
    let sql = "INSERT INTO history (sequence, at, \"user\", host, pid, vm, operation, arguments, inverse_operation, \
        inverse_arguments, reverts, vm_name, kind, irreversible, store_host, store_owner) \
        OVERRIDING SYSTEM VALUE SELECT sequence, at, \"user\", host, pid, vm, operation, arguments, inverse_operation, \
        inverse_arguments, reverts, vm_name, kind, irreversible, $1, $2 \
        FROM json_to_recordset($3::text::json) AS entry (sequence bigint, at bigint, \"user\" text, host text, pid bigint, \
        vm uuid, operation text, arguments text, inverse_operation text, inverse_arguments text, reverts bigint, \
        vm_name text, kind text, irreversible text)";
    let number = |sequence: i64| numbers.get(usize::try_from(sequence - 1).ok()?).copied();
    let row = |recorded: &RecordedHistory| {
        let entry = &recorded.entry;
        let inverse = entry.inverse.as_ref();
        Ok(json!({
            "sequence": number(recorded.sequence),
            "at": nanoseconds(entry.at)?,
            "user": entry.actor.user,
            "host": entry.actor.host,
            "pid": entry.actor.pid,
            "vm": entry.vm,
            "operation": entry.call.operation,
            "arguments": entry.call.arguments.to_string(),
            "inverse_operation": inverse.map(|call| call.operation.as_str()),
            "inverse_arguments": inverse.map(|call| call.arguments.to_string()),
            "reverts": entry.reverts.and_then(number),
            "vm_name": entry.vm_name,
            "kind": entry.kind,
            "irreversible": entry.irreversible.as_ref().map(ToString::to_string),
        }))
    };
    history.chunks(limits::MAX_FILLED_AT_ONCE).map(|chunk| insert_rows(sql, chunk, row, identity)).collect()
}

/// Returns the statements that add events, the first of which takes their lock.
pub(crate) fn add_all_events(events: &[RecordedEvent], identity: &Identity) -> Result<Vec<Statement>, Failure> {
    let sql = "INSERT INTO event (host, owner, at, kind, vm, vm_name, data) \
        SELECT $1, $2, at, kind, vm, vm_name, data FROM ROWS FROM (json_to_recordset($3::text::json) \
        AS (at bigint, kind text, vm uuid, vm_name text, data text)) WITH ORDINALITY ORDER BY ordinality";
    let row = |recorded: &RecordedEvent| {
        let event = &recorded.event;
        Ok(json!({
            "at": nanoseconds(event.at)?,
            "kind": event.kind,
            "vm": event.vm,
            "vm_name": event.vm_name,
            "data": event.data.to_string(),
        }))
    };
    let added = events.chunks(limits::MAX_FILLED_AT_ONCE).map(|chunk| insert_rows(sql, chunk, row, identity));
    let lock = (!events.is_empty()).then(|| Ok(Statement::new(LOCK_EVENTS, Vec::new())));
    lock.into_iter().chain(added).collect()
}

/// Returns a statement that inserts rows, which are its third parameter as JSON.
fn insert_rows<T>(
    sql: &'static str,
    rows: &[T],
    row: impl Fn(&T) -> Result<serde_json::Value, Failure>,
    identity: &Identity,
) -> Result<Statement, Failure> {
    let rows = rows.iter().map(row).collect::<Result<Vec<_>, _>>()?;
    let values = vec![Value::text(&identity.host), Value::text(&identity.owner), Value::json(&rows)?];
    Ok(Statement::new(sql, values))
}

/// Records that the host of `identity` is there.
pub(crate) fn show_life(identity: &Identity) -> Statement {
    let sql = "INSERT INTO host VALUES ($1, $2, (extract(epoch FROM clock_timestamp()) * 1000)::bigint * 1000000) \
        ON CONFLICT (host, owner) DO UPDATE SET seen_at = excluded.seen_at";
    Statement::new(sql, vec![Value::text(&identity.host), Value::text(&identity.owner)])
}

/// Returns the statement that records which VMs of `identity` are about to go to another database, and which were removed.
///
/// By the clock of the server: those of hosts that have copies may be ahead of it, or behind.
pub(crate) fn depart(identity: &Identity) -> Statement {
    let sql = "INSERT INTO departed SELECT DISTINCT ON (id) id, \
            (extract(epoch FROM clock_timestamp()) * 1000)::bigint * 1000000, is_removed \
        FROM (SELECT id, false AS is_removed FROM vm WHERE host = $1 AND owner = $2 \
            UNION SELECT vm, true FROM event WHERE host = $1 AND owner = $2 AND kind = 'vm.removed' AND vm IS NOT NULL) AS one \
        ORDER BY id, is_removed ON CONFLICT (vm) DO UPDATE SET at = excluded.at, is_removed = excluded.is_removed";
    Statement::new(sql, vec![Value::text(&identity.host), Value::text(&identity.owner)])
}

/// Returns the statements that remove all that a move takes from `identity`; the foreign keys remove definitions and snapshots.
pub(crate) fn clear(identity: &Identity) -> Vec<Statement> {
    let of = || vec![Value::text(&identity.host), Value::text(&identity.owner)];
    [
        "DELETE FROM vm WHERE host = $1 AND owner = $2",
        "DELETE FROM storage WHERE host = $1 AND owner = $2",
        "DELETE FROM history WHERE store_host = $1 AND store_owner = $2",
        "DELETE FROM event WHERE host = $1 AND owner = $2",
    ]
    .map(|sql| Statement::new(sql, of()))
    .into()
}

/// Removes the signs of life of `identity`, which does not use the database any more.
pub(crate) fn forget_life(identity: &Identity) -> Statement {
    let sql = "DELETE FROM host WHERE host = $1 AND owner = $2";
    Statement::new(sql, vec![Value::text(&identity.host), Value::text(&identity.owner)])
}

fn optional_json<T: serde::Serialize>(value: Option<&T>) -> Result<Value, Failure> {
    value.map_or(Ok(Value::Text(None)), Value::json)
}
