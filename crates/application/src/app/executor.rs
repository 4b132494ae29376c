//! Running an operation: what all operations share.

use maqet_domain::change::ChangeSet;
use maqet_domain::history::{EntryKind, HistoryEntry, Irreversible, MAX_ENTRIES};
use maqet_fault_points::FaultPoint;
use tokio::time::Instant;

use super::App;
use super::operations::{Done, Effect, Operation, RemovedVmFiles, call_of};
use crate::Error;
use crate::event::journal::{Subject, write_journal};
use crate::log::keeper::LogKeeper;
use crate::vm::ended::or_ended;

impl App {
    /// Runs an operation, and writes what it changed in one commit.
    pub async fn run<O: Operation>(&self, operation: O) -> Result<O::Output, Error> {
        let began = Instant::now();
        let outcome = match run_and_commit(self, &operation).await {
            Ok(done) => Ok(done),
            // Rare, and large as a future.
            Err(error) => Err(Box::pin(with_end_of_vm(self, &operation, error)).await),
        };
        let elapsed = began.elapsed();
        match &outcome {
            Ok(_) => tracing::info!(operation = O::NAME, millis = elapsed.as_millis(), "done"),
            Err(error) => {
                tracing::info!(operation = O::NAME, millis = elapsed.as_millis(), error = error.for_logs(), "failed");
            }
        }
        if O::EFFECT != Effect::Reads {
            let subject = outcome.as_ref().map(|(_, subject)| *subject);
            if let Some(vm) = write_journal(self, &operation, subject, elapsed).await {
                LogKeeper::new(self).keep_newest(&self.reconciler(), &vm).await;
            }
        }
        for event in self.hooks().run_pending().await {
            let changes = ChangeSet { events: vec![event], ..ChangeSet::default() };
            if let Err(error) = self.committer().commit(changes).await {
                tracing::warn!(%error, "could not record that a hook failed");
            }
        }
        outcome.map(|(value, _)| value)
    }
}

/// Returns the error of an operation; that its VM ended meanwhile, if that is why it failed.
async fn with_end_of_vm<O: Operation>(app: &App, operation: &O, error: Error) -> Error {
    if !error.is_connection_loss() {
        return error;
    }
    let call = call_of(operation).ok();
    match call.as_ref().and_then(|call| call.arguments.get("vm")?.as_str()) {
        Some(vm) => or_ended(app, vm, error).await,
        None => error,
    }
}

async fn run_and_commit<O: Operation>(app: &App, operation: &O) -> Result<(O::Output, Subject), Error> {
    let mut done = operation.run(app).await?;
    let mut changes = std::mem::take(&mut done.changes);
    if matches!(O::EFFECT, Effect::Changes | Effect::Notes) && !changes.is_empty() {
        changes.history = Some(history_entry(app, operation, &mut done, &changes)?);
        changes.history_limit = Some(MAX_ENTRIES);
    }
    if !changes.is_empty() {
        app.faults.reach(FaultPoint::BeforeCommit(O::NAME));
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
        app.faults.reach(FaultPoint::Committed(O::NAME));
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
    Ok((done.value, subject))
}

/// Returns the entry of the history about what an operation changed.
fn history_entry<O: Operation>(
    app: &App,
    operation: &O,
    done: &mut Done<O::Output>,
    changes: &ChangeSet,
) -> Result<HistoryEntry, Error> {
    let (kind, reverts) = match operation.revert().and_then(|revert| revert.entry) {
        Some(entry) => (entry.direction.kind(), Some(entry.sequence)),
        None if O::EFFECT == Effect::Notes => (EntryKind::Note, None),
        None => (EntryKind::Work, None),
    };
    let inverse = done.inverse.take();
    let is_undoable = inverse.is_some() || kind == EntryKind::Note;
    let reason = || done.irreversible.or_else(|| operation.irreversible()).unwrap_or(Irreversible::Unspecified);
    Ok(HistoryEntry {
        at: app.ports.clock.now(),
        actor: app.ports.host.actor(),
        vm: done.vm,
        vm_name: changes.events.iter().find(|event| event.vm == done.vm).and_then(|event| event.vm_name.clone()),
        kind,
        call: call_of(operation)?,
        inverse,
        irreversible: (!is_undoable).then(reason),
        reverts,
    })
}
