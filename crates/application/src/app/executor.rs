//! Running an operation: what all operations share.
//!
//! Only [`App::run`] and [`begin`] depend on the type of the operation; everything else exists once in the program.

use std::pin::{Pin, pin};
use std::sync::{Mutex, PoisonError};

use futures_util::future::{Either, select};
use maqet_domain::Explain;
use maqet_domain::change::ChangeSet;
use maqet_domain::history::{Call, EntryKind, HistoryEntry, Irreversible};
use maqet_domain::metric::MetricKey;
use maqet_domain::vm::{VmId, VmName};
use maqet_fault_points::FaultPoint;
use tokio::time::sleep;
use tracing::Instrument;
use tracing::field::Empty;

use super::App;
use super::operations::{DoneRest, Effect, Operation, RemovedVmFiles};
use crate::app::operations::Described;
use crate::event::journal::{Subject, write_journal};
use crate::log::keeper::LogKeeper;
use crate::vm::ended::or_ended;
use crate::{Error, limits};

/// The work of an operation, whose value is put aside.
type Work<'a> = Pin<Box<dyn Future<Output = Result<DoneRest, Error>> + Send + 'a>>;

/// Where the value of an operation is put aside.
type Slot<T> = Mutex<Option<T>>;

impl App {
    /// Runs an operation, and writes what it changed in one commit.
    ///
    /// # Panics
    ///
    /// Never: an operation that succeeds has a value.
    pub async fn run<O: Operation>(&self, operation: O) -> Result<O::Output, Error> {
        let slot = Slot::default();
        execute(self, &operation, begin(self, &operation, &slot)).await?;
        let Some(value) = slot.into_inner().unwrap_or_else(PoisonError::into_inner) else {
            unreachable!("an operation that succeeds has a value")
        };
        Ok(value)
    }
}

/// Returns the work of an operation. Not inlined, so that other crates call the one of this crate.
#[inline(never)]
fn begin<'a, O: Operation>(app: &'a App, operation: &'a O, slot: &'a Slot<O::Output>) -> Work<'a> {
    Box::pin(async move {
        let (value, done) = operation.run(app).await?.split();
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        Ok(done)
    })
}

/// Does the work of an operation and everything that follows: the commit, logs, metrics, hooks.
fn execute<'a>(
    app: &'a App,
    operation: &'a dyn Described,
    work: Work<'a>,
) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>> {
    let span = tracing::trace_span!("operation", operation = operation.name(), vm = Empty, error = Empty);
    if !span.is_disabled()
        && let Some(vm) = operation.vm()
    {
        span.record("vm", vm);
    }
    Box::pin(execute_all(app, operation, work).instrument(span))
}

async fn execute_all(app: &App, operation: &dyn Described, work: Work<'_>) -> Result<(), Error> {
    let measured = app.meter.begin(MetricKey::operation(operation.name()));
    let outcome = match run_and_commit(app, operation, work).await {
        Ok(done) => Ok(done),
        // Rare, and large as a future.
        Err(error) => Err(Box::pin(with_end_of_vm(app, operation, error)).await),
    };
    let elapsed = measured.end(outcome.is_err());
    let (name, millis) = (operation.name(), elapsed.as_millis());
    match &outcome {
        Ok(_) => tracing::info!(operation = name, millis, "done"),
        Err(error) => {
            tracing::Span::current().record("error", error.code());
            tracing::info!(operation = name, millis, error = error.for_logs(), "failed");
        }
    }
    if operation.effect() != Effect::Reads {
        let subject = outcome.as_ref().copied();
        if let Some(vm) = write_journal(app, operation, subject, elapsed).await {
            LogKeeper::new(app).keep_newest(&app.reconciler(), &vm).await;
        }
    }
    for event in app.hooks().run_pending().await {
        let changes = ChangeSet { events: vec![event], ..ChangeSet::default() };
        if let Err(error) = app.committer().commit(changes).await {
            tracing::warn!(%error, "could not record that a hook failed");
        }
    }
    app.meter.flush().await;
    outcome.map(drop)
}

/// Returns the error of an operation; that its VM ended meanwhile, if that is why it failed.
async fn with_end_of_vm(app: &App, operation: &dyn Described, error: Error) -> Error {
    if !error.is_connection_loss() {
        return error;
    }
    match operation.vm() {
        Some(vm) => or_ended(app, &vm, error).await,
        None => error,
    }
}

/// Does the work of an operation; one that takes long is a reason not to take this host for away.
async fn show_life_during<'a>(app: &'a App, mut work: Work<'a>) -> <Work<'a> as Future>::Output {
    loop {
        let sign = async {
            sleep(limits::SIGN_OF_LIFE_INTERVAL).await;
            app.ports.store.show_life().await;
        };
        if let Either::Left((done, _)) = select(&mut work, pin!(sign)).await {
            return done;
        }
    }
}

async fn run_and_commit(app: &App, operation: &dyn Described, work: Work<'_>) -> Result<Subject, Error> {
    let mut done = show_life_during(app, work).await?;
    let mut changes = std::mem::take(&mut done.changes);
    if matches!(operation.effect(), Effect::Changes | Effect::Notes) && !changes.is_empty() && !done.is_recorded {
        let of_vm = changes.events.iter().find(|event| event.vm == done.vm);
        let parts = EntryParts {
            vm: done.vm,
            vm_name: of_vm.and_then(|event| event.vm_name.clone()),
            inverse: done.inverse.take(),
            irreversible: done.irreversible,
            is_note: done.is_note,
        };
        changes.history = Some(history_entry(app, operation, parts)?);
    }
    if !changes.is_empty() {
        app.faults.reach(FaultPoint::BeforeCommit(operation.name()));
        let only_events = changes.changes.is_empty() && changes.history.is_none();
        match app.committer().commit(changes).await {
            // The work is done; an error here would make the caller repeat it.
            Err(error) if only_events => tracing::warn!(%error, "could not record the event"),
            Err(error) => {
                if let Some(moved) = done.moved_storage {
                    moved.revert(app).await;
                }
                return Err(error.into());
            }
            Ok(()) => {}
        }
        app.faults.reach(FaultPoint::Committed(operation.name()));
    }
    let subject = match (&done.removed_files, done.vm) {
        (Some(_), _) => Subject::Removed,
        (None, Some(id)) => Subject::Vm(id),
        (None, None) => Subject::Named,
    };
    if let Some(RemovedVmFiles { sockets, records }) = done.removed_files {
        app.ports.hypervisor.remove_vm_files(&sockets, &records).await;
        app.faults.reach(FaultPoint::RmFilesRemoved);
    }
    if let Some((path, file)) = done.replaced_image
        && let Err(error) = app.ports.image_tools.remove(&path, file).await
    {
        // The work is done; the file only takes space.
        tracing::warn!(path = %path.display(), %error, "could not remove the old image");
    }
    if let Some(moved) = done.moved_storage {
        moved.conclude(app).await;
    }
    drop(done.guards);
    Ok(subject)
}

/// What an entry of the history says beside who made the change and how.
#[derive(Debug, Default)]
pub(crate) struct EntryParts {
    pub(crate) vm: Option<VmId>,
    pub(crate) vm_name: Option<VmName>,
    /// The call that reverts the change.
    pub(crate) inverse: Option<Call>,
    /// Why it cannot be undone; that of the operation by default.
    pub(crate) irreversible: Option<Irreversible>,
    /// Whether it is neither undone nor in the way of an undo.
    pub(crate) is_note: bool,
}

impl EntryParts {
    pub(crate) fn about(vm: VmId, vm_name: Option<VmName>) -> Self {
        Self { vm: Some(vm), vm_name, ..Self::default() }
    }
}

/// The arguments that hold definitions, of which those of a call that reverts a change are part.
const DEFINITION_ARGUMENTS: [&str; 3] = ["documents", "set", "revert"];

/// Leaves the definition out of a call, as it may hold secrets: undo and redo use the inverse only.
fn without_definition(mut call: Call) -> Call {
    if let Some(arguments) = call.arguments.as_object_mut() {
        arguments.retain(|name, _| !DEFINITION_ARGUMENTS.contains(&name.as_str()));
    }
    call
}

/// Returns the entry of the history about what an operation changed.
pub(crate) fn history_entry(app: &App, operation: &dyn Described, parts: EntryParts) -> Result<HistoryEntry, Error> {
    let EntryParts { vm, vm_name, inverse, irreversible, is_note } = parts;
    let (kind, reverts) = match operation.revert().and_then(|revert| revert.entry) {
        Some(entry) => (entry.direction.kind(), Some(entry.sequence)),
        None if operation.effect() == Effect::Notes || is_note => (EntryKind::Note, None),
        None => (EntryKind::Work, None),
    };
    let is_undoable = inverse.is_some() || kind == EntryKind::Note;
    let reason = || irreversible.or_else(|| operation.irreversible()).unwrap_or(Irreversible::Unspecified);
    Ok(HistoryEntry {
        at: app.ports.clock.now(),
        actor: app.ports.host.actor(),
        vm,
        vm_name,
        kind,
        call: without_definition(operation.call()?),
        inverse,
        irreversible: (!is_undoable).then(reason),
        reverts,
    })
}
