//! What an operation is, and the table that calls one by name.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

use maqet_domain::change::ChangeSet;
use maqet_domain::event::Event;
use maqet_domain::history::{Call, Irreversible};
use maqet_domain::port::Guard;
use maqet_domain::registry::DuplicateName;
use maqet_domain::revert::Revert;
use maqet_domain::storage::FileId;
use maqet_domain::text::similar;
use maqet_domain::trash::TrashEntry;
use maqet_domain::vm::VmId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::trash::moving::Trashed;
use crate::{App, Error};

/// What an operation changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It reads.
    Reads,
    /// It changes what is running, or repairs; that is an event, and not part of the history.
    Acts,
    /// It changes definitions, snapshots or storage; that is part of the history.
    Changes,
    /// It changes backups or the trash; that is part of the history, but neither undone nor in the way of an undo.
    Notes,
}

/// An operation; the struct holds its arguments.
///
/// The same struct is the library's call, the JSON arguments and the history record.
///
/// ```no_run
/// # async fn example(app: &maqet_application::App) -> Result<(), maqet_application::Error> {
/// use maqet_application::operation::Status;
///
/// let status = app.run(Status::new("web")).await?;
/// println!("{}", status.status);
/// # Ok(())
/// # }
/// ```
pub trait Operation: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The name: the path on the command line, with dots.
    const NAME: &'static str;

    /// What it changes.
    const EFFECT: Effect;

    /// What it returns.
    type Output: Serialize + Send;

    /// Returns why the change cannot be undone, as far as the arguments tell.
    fn irreversible(&self) -> Option<Irreversible> {
        None
    }

    /// Returns what the call has in addition if it reverts a change.
    fn revert(&self) -> Option<&Revert> {
        None
    }

    /// Reads, decides, acts through ports, and returns what is to be written.
    fn run(&self, app: &App) -> impl Future<Output = Result<Done<Self::Output>, Error>> + Send;
}

/// What is known of an operation without its type.
pub(crate) trait Described: Send + Sync {
    /// Returns its name.
    fn name(&self) -> &'static str;

    /// Returns what it changes.
    fn effect(&self) -> Effect;

    /// Returns why its change cannot be undone, as far as the arguments tell.
    fn irreversible(&self) -> Option<Irreversible>;

    /// Returns what the call has in addition if it reverts a change.
    fn revert(&self) -> Option<&Revert>;

    /// Returns it as data.
    fn call(&self) -> Result<Call, Error>;
}

impl<O: Operation> Described for O {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn effect(&self) -> Effect {
        Self::EFFECT
    }

    fn irreversible(&self) -> Option<Irreversible> {
        Operation::irreversible(self)
    }

    fn revert(&self) -> Option<&Revert> {
        Operation::revert(self)
    }

    fn call(&self) -> Result<Call, Error> {
        call_of(self)
    }
}

impl dyn Described + '_ {
    /// Returns the VM that it names.
    pub(crate) fn vm(&self) -> Option<String> {
        Some(self.call().ok()?.arguments.get("vm")?.as_str()?.to_owned())
    }
}

/// The result of an operation, and what is to be written.
pub struct Done<T> {
    pub(crate) value: T,
    pub(crate) rest: DoneRest,
}

/// What is to be written once the work of an operation is done, and what follows.
#[derive(Default)]
pub(crate) struct DoneRest {
    pub(crate) changes: ChangeSet,
    pub(crate) vm: Option<VmId>,
    pub(crate) inverse: Option<Call>,
    /// Why the change cannot be undone; that of the operation by default.
    pub(crate) irreversible: Option<Irreversible>,
    /// Whether the change is neither undone nor in the way of an undo.
    pub(crate) is_note: bool,
    /// Whether the history has it already.
    pub(crate) is_recorded: bool,
    pub(crate) guards: Vec<Box<dyn Guard>>,
    pub(crate) removed_files: Option<RemovedVmFiles>,
    pub(crate) replaced_image: Option<(PathBuf, FileId)>,
    pub(crate) moved_storage: Option<MovedStorage>,
}

/// The directories of a removed VM, which are removed once that is written.
pub(crate) struct RemovedVmFiles {
    /// The sockets of its runs.
    pub(crate) sockets: PathBuf,
    /// The logs and records of its runs.
    pub(crate) records: PathBuf,
}

/// Images that were moved; they are moved back if that cannot be written.
pub(crate) enum MovedStorage {
    /// To the trash.
    Trashed(Box<Trashed>),
    /// From the trash, whose entry is removed once that is written.
    Restored(Box<TrashEntry>),
}

impl<T> Done<T> {
    /// Returns `value` and writes nothing.
    pub fn reading(value: T) -> Self {
        Self { value, rest: DoneRest::default() }
    }

    /// Returns `value` and writes `changes`, which are about no single VM.
    pub(crate) fn writing(value: T, changes: ChangeSet) -> Self {
        Self { value, rest: DoneRest { changes, ..DoneRest::default() } }
    }

    /// Returns `value` and writes `changes`, which are about `vm`.
    pub fn changing(value: T, vm: VmId, changes: ChangeSet) -> Self {
        Self { value, rest: DoneRest { changes, vm: Some(vm), ..DoneRest::default() } }
    }

    /// Publishes an event.
    #[must_use]
    pub fn event(mut self, event: Event) -> Self {
        self.rest.changes.events.push(event);
        self
    }

    /// Names the VM, where nothing is written about it.
    #[must_use]
    pub(crate) fn about(mut self, vm: VmId) -> Self {
        self.rest.vm = Some(vm);
        self
    }

    /// Names the call that reverts the change.
    #[must_use]
    pub fn undone_by<O: Operation>(mut self, inverse: &O) -> Self {
        self.rest.inverse = call_of(inverse).ok();
        self
    }

    /// Names the call that reverts the change, if there is one.
    #[must_use]
    pub(crate) fn undone_by_call(mut self, inverse: Option<Call>) -> Self {
        self.rest.inverse = inverse;
        self
    }

    /// Has the change be neither undone nor in the way of an undo.
    #[must_use]
    pub(crate) fn into_note(mut self) -> Self {
        self.rest.is_note = true;
        self
    }

    /// Adds no entry to the history: an earlier commit did.
    #[must_use]
    pub(crate) fn with_recorded_history(mut self) -> Self {
        self.rest.is_recorded = true;
        self
    }

    /// Names why the change cannot be undone.
    #[must_use]
    pub(crate) fn not_undone(mut self, reason: Irreversible) -> Self {
        self.rest.irreversible = Some(reason);
        self
    }

    /// Returns another value, and writes the same.
    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> Done<U> {
        Done { value: change(self.value), rest: self.rest }
    }

    /// Returns the value, and what is to be written.
    pub(crate) fn split(self) -> (T, DoneRest) {
        (self.value, self.rest)
    }

    /// Removes the sockets and records of a removed VM once that is written.
    #[must_use]
    pub(crate) fn removed_files(mut self, files: RemovedVmFiles) -> Self {
        self.rest.removed_files = Some(files);
        self
    }

    /// Removes an image that another one has replaced, once that is written.
    #[must_use]
    pub(crate) fn replaced_image(mut self, image: Option<(PathBuf, FileId)>) -> Self {
        self.rest.replaced_image = image;
        self
    }

    /// Holds locks until everything is written.
    #[must_use]
    pub(crate) fn holding_all(mut self, guards: Vec<Box<dyn Guard>>) -> Self {
        self.rest.guards.extend(guards);
        self
    }

    /// Moves images back if that cannot be written, and removes what they left once it is.
    #[must_use]
    pub(crate) fn moved_storage(mut self, moved: MovedStorage) -> Self {
        self.rest.moved_storage = Some(moved);
        self
    }

    /// Holds a lock until everything is written.
    #[must_use]
    pub fn holding(mut self, guard: Box<dyn Guard>) -> Self {
        self.rest.guards.push(guard);
        self
    }
}

/// Returns an operation as data.
pub(crate) fn call_of<O: Operation>(operation: &O) -> Result<Call, Error> {
    let arguments =
        serde_json::to_value(operation).map_err(|source| Error::Encode { operation: O::NAME.to_owned(), source })?;
    Ok(Call { operation: O::NAME.to_owned(), arguments })
}

type CallFuture<'a> = Pin<Box<dyn Future<Output = Result<Value, Error>> + Send + 'a>>;

/// Operations by name, for callers that use JSON.
#[derive(Default, Clone)]
pub struct OperationTable(Vec<TableEntry>);

#[derive(Clone, Copy)]
struct TableEntry {
    name: &'static str,
    effect: Effect,
    call: fn(&App, Value) -> CallFuture<'_>,
}

impl OperationTable {
    /// Adds an operation; its name must be new.
    pub fn register<O: Operation>(&mut self) -> Result<(), DuplicateName> {
        if self.find(O::NAME).is_some() {
            return Err(DuplicateName { kind: "operation", name: O::NAME.to_owned() });
        }
        self.0.push(TableEntry { name: O::NAME, effect: O::EFFECT, call: call::<O> });
        Ok(())
    }

    /// Returns the names in the order they were registered.
    pub fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|entry| entry.name).collect()
    }

    /// Returns what the operation changes.
    pub fn effect(&self, name: &str) -> Option<Effect> {
        self.find(name).map(|entry| entry.effect)
    }

    /// Runs the operation `name` with JSON arguments.
    pub async fn call(&self, app: &App, name: &str, arguments: Value) -> Result<Value, Error> {
        let not_found = || Error::NoSuchOperation { name: name.to_owned(), similar: similar(name, self.names()) };
        (self.find(name).ok_or_else(not_found)?.call)(app, arguments).await
    }

    fn find(&self, name: &str) -> Option<&TableEntry> {
        self.0.iter().find(|entry| entry.name == name)
    }
}

/// Runs an operation with JSON arguments.
fn call<O: Operation>(app: &App, arguments: Value) -> CallFuture<'_> {
    Box::pin(async move {
        let operation: O = serde_json::from_value(arguments)
            .map_err(|source| Error::InvalidArguments { operation: O::NAME.to_owned(), source })?;
        let output = app.run(operation).await?;
        serde_json::to_value(output).map_err(|source| Error::Encode { operation: O::NAME.to_owned(), source })
    })
}
