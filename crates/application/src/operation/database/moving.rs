//! `database move`: everything goes to another database.

use std::collections::HashMap;

use derive_setters::Setters;
use maqet_domain::port::{DatabaseLock, Guard, LockError, LockName, MoveMark, OtherDatabase, StoreContent, StoreError};
use maqet_domain::vm::VmId;
use maqet_fault_points::FaultPoint;
use serde::{Deserialize, Serialize};

use crate::app::operations::{Done, Effect, Operation};
use crate::limits::MAX_MOVE_ATTEMPTS;
use crate::trash::entries::lock_trash;
use crate::{App, Error};

/// Move all VMs, with their history and events, to another database
///
/// What this user has on this host is copied, read back and compared; then commands refuse the old database, and name the
/// new one. An old SQLite file is kept; an old PostgreSQL database keeps what other users and hosts have. VMs may run
/// meanwhile. Disks, logs and backups stay where they are. If it is interrupted, run it again: until everything is copied,
/// the old database is the one in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct DatabaseMove {
    /// The other database, as for `--database`: a file, which is created, or the URL of a server
    #[cfg_attr(feature = "clap", arg(long, value_name = "URL"))]
    pub to: String,
}

impl DatabaseMove {
    /// Moves to the database of a URL.
    pub fn new(to: impl Into<String>) -> Self {
        Self { to: to.into() }
    }
}

/// A database that was moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DatabaseMoved {
    /// The URL of the old database, without secrets.
    pub from: String,
    /// The URL of the new database, without secrets; to be set as `database` in `maqet.conf`.
    pub to: String,
    /// The number of VMs.
    pub vms: usize,
    /// The number of changes in the history.
    pub changes: usize,
    /// The number of events.
    pub events: usize,
}

impl Operation for DatabaseMove {
    const NAME: &'static str = "database.move";
    const EFFECT: Effect = Effect::Acts;
    type Output = DatabaseMoved;

    async fn run(&self, app: &App) -> Result<Done<DatabaseMoved>, Error> {
        let source = app.ports.databases.current()?;
        let target = app.ports.databases.find(&self.to).await?;
        let location = source.transfer.url();
        if source.name == target.name {
            return Err(StoreError::MoveToItself { location }.into());
        }
        // Held until nothing is left to do: of two moves at once, the second one finds out what the first one did.
        let _one_at_a_time = app.ports.locks.lock(&LockName::Move, Self::NAME, app.timeouts().lock).await?;
        // Also of processes that have another data directory, and so do not share the lock above.
        let _of_all_processes = lock(app, &source, Self::NAME).await?;
        let mover = Mover { app, source, target };
        let mut guards = HashMap::new();
        let (content, filled) = match mover.source.transfer.mark().await? {
            None => mover.copy(&mut guards).await?,
            Some(mark) => {
                let Some(filled) = mover.interrupted(&mark).await? else { return Err(mark.error(&location).into()) };
                (mover.target.transfer.export(Some(filled.clone())).await?, filled)
            }
        };
        mover.finish(filled).await?;
        Ok(Done::reading(DatabaseMoved {
            from: location,
            to: mover.target.transfer.url(),
            vms: content.vms.len(),
            changes: content.history.len(),
            events: content.events.len(),
        }))
    }
}

/// Moves one database to another.
struct Mover<'a> {
    app: &'a App,
    source: OtherDatabase,
    target: OtherDatabase,
}

impl Mover<'_> {
    /// Returns the mark of the target if a source with this mark was left by a move to it that was killed before its end.
    async fn interrupted(&self, mark: &MoveMark) -> Result<Option<MoveMark>, Error> {
        let MoveMark::To { id: left, .. } = mark else { return Ok(None) };
        let found = self.target.transfer.mark().await?;
        Ok(found.filter(|found| matches!(found, MoveMark::From { id, .. } if id == left)))
    }

    /// Copies everything, and marks the source as moved; returns what was copied, and the mark of the target.
    async fn copy(&self, guards: &mut HashMap<VmId, Box<dyn Guard>>) -> Result<(StoreContent, MoveMark), Error> {
        let (source, target) = (&*self.source.transfer, &*self.target.transfer);
        let (id, at) = (self.app.ports.ids.move_id(), self.app.ports.clock.now());
        let filled = MoveMark::From { id, url: source.url(), at };
        let left = MoveMark::To { id, url: target.url(), at };
        for _ in 0..MAX_MOVE_ATTEMPTS {
            self.lock_vms(guards).await?;
            // Held until the source is marked: entries of the trash belong to a database as well.
            let _trash = lock_trash(self.app, DatabaseMove::NAME).await?;
            // Before the source is read, which has no mark then either: no other move completed what is replaced.
            let replaced = target.mark().await?.filter(|mark| mark.is_replaced_by(&source.url()));
            let content = source.export(None).await?;
            target.import(content.clone(), filled.clone(), replaced).await?;
            if source.mark().await?.as_ref() == Some(&filled) {
                // Under another name: by a link, or another address of the server. It was empty, so nothing was replaced.
                target.undo_import(filled).await?;
                return Err(StoreError::MoveToItself { location: target.url() }.into());
            }
            let copied = target.export(Some(filled.clone())).await?;
            if copied.renumbered() != content.clone().renumbered() {
                return Err(StoreError::NotVerified { location: target.url() }.into());
            }
            self.app.faults.reach(FaultPoint::MoveCopied);
            // Others may have written: not to a locked VM, but a new one, or an event.
            match source.leave(content.clone(), left.clone()).await {
                Ok(true) => {
                    self.app.faults.reach(FaultPoint::MoveLeft);
                    return Ok((content, filled));
                }
                Ok(false) => {}
                Err(error @ StoreError::Moved { .. }) => {
                    // To another database: by a process that did not share the locks.
                    let _not_critical = target.undo_import(filled).await;
                    return Err(error.into());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::MoveContended { location: source.url() }.into())
    }

    /// Locks all VMs that are not locked yet, so that no command is in the middle of something.
    async fn lock_vms(&self, guards: &mut HashMap<VmId, Box<dyn Guard>>) -> Result<(), Error> {
        let timeout = self.app.timeouts().lock;
        for entry in self.app.ports.store.list().await? {
            if guards.contains_key(&entry.id) {
                continue;
            }
            let locked = self.app.ports.locks.lock(&LockName::Vm(entry.id), DatabaseMove::NAME, timeout).await;
            guards.insert(entry.id, locked.map_err(|error| error.about(entry.name.as_str()))?);
        }
        Ok(())
    }

    /// Makes the files that name their database those of the target, which is used from then on.
    async fn finish(&self, filled: MoveMark) -> Result<(), Error> {
        use_files_of(self.app, DatabaseMove::NAME, &self.source.name, &self.target.name).await?;
        self.app.faults.reach(FaultPoint::MoveHandedOver);
        Ok(self.target.transfer.clear_mark(filled).await?)
    }
}

/// Locks a database for moves, as processes do that have other directories and so do not share the lock of those.
pub(super) async fn lock(
    app: &App,
    database: &OtherDatabase,
    operation: &'static str,
) -> Result<Box<dyn Guard>, Error> {
    let waited = app.timeouts().lock;
    match database.transfer.lock(operation, waited).await? {
        DatabaseLock::Taken(guard) => Ok(guard),
        DatabaseLock::InUse(holder) => Err(LockError::DatabaseInUse { holder, waited }.into()),
    }
}

/// Makes the files that name the database `from`, the copies of VMs and the trash, those of the database `to`.
pub(super) async fn use_files_of(app: &App, operation: &'static str, from: &str, to: &str) -> Result<(), Error> {
    let handed_over = app.ports.maintenance.copies.hand_over(from, to).await;
    handed_over.map_err(|source| StoreError::Failed { action: "write the copies of the VMs", source })?;
    let _trash = lock_trash(app, operation).await?;
    Ok(app.ports.trash.hand_over(from, to).await?)
}
