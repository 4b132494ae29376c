//! Moving what a database holds.

use std::sync::Arc;
use std::time::Duration;

use maqet_domain::Timestamp;
use maqet_domain::change::{Change, ChangeSet, StorageRecord};
use maqet_domain::history::{HistoryEntry, HistoryQuery};
use maqet_domain::port::{MoveId, MoveMark, Store, StoreContent, StoreError, StoreTransfer};
use maqet_domain::vm::Phase;

use tokio::time::{sleep, timeout};

use super::{Subject, commit, names, one, sample};
use crate::wait::LONG;

/// A new, empty database that can also be moved.
pub trait TransferSubject: Subject {
    /// Returns what moves it.
    fn transfer(&self) -> Arc<dyn StoreTransfer>;
}

/// Generates a test of every scenario of moves; `$subject` is evaluated for each of them, inside an `async fn`.
#[macro_export]
macro_rules! transfer_conformance {
    ($subject:expr) => {
        $crate::transfer_conformance! { $subject;
            test_import_of_everything_comes_back_whole
            test_import_is_refused_where_there_is_something
            test_marks_of_other_moves_are_kept
            test_leave_is_refused_after_a_change
            test_left_database_refuses_open_and_new_handles
            test_filled_database_refuses_open_handles
            test_moved_back_is_used_again
        }
    };
    ($subject:expr; $($scenario:ident)+) => {
        $(
            #[tokio::test]
            async fn $scenario() {
                $crate::store::conformance::$scenario(&$subject).await;
            }
        )+
    };
}

const HERE: &str = "sqlite:/d/here.db";

fn from(url: &str) -> MoveMark {
    MoveMark::From { id: MoveId::new([1; 16]), url: url.to_owned(), at: Timestamp::UNIX_EPOCH }
}

fn to(url: &str) -> MoveMark {
    MoveMark::To { id: MoveId::new([1; 16]), url: url.to_owned(), at: Timestamp::UNIX_EPOCH }
}

/// Writes something of each kind: a running VM with pending work, one that was removed, and changes that were undone.
async fn fill(store: &dyn Store) {
    let (mut web, gone) = (sample::vm("web", 9), sample::vm("gone", 2));
    web.entry.run = Some(sample::run(3, Phase::Running));
    web.entry.layers = sample::layers();
    web.entry.pending = Some(Box::new(sample::pending("snapshot.create")));
    let (id, expected) = (gone.entry.id, gone.entry.revision);
    let used =
        StorageRecord { kind: StorageRecord::USED.to_owned(), ..sample::storage("/d/used.qcow2", Some(web.entry.id)) };
    for change in [
        Change::VmAdded(Box::new(gone)),
        Change::StorageAdded(sample::storage("/d/kept.qcow2", Some(id))),
        Change::VmRemoved { id, expected },
        Change::VmAdded(Box::new(web.clone())),
        Change::StorageAdded(sample::storage("/d/web.qcow2", Some(web.entry.id))),
        Change::StorageAdded(used),
        Change::SnapshotAdded(Box::new(sample::snapshot(web.entry.id, "hdd", "b"))),
        Change::SnapshotAdded(Box::new(sample::snapshot(web.entry.id, "hdd", "B"))),
    ] {
        commit(store, one(change)).await;
    }
    for (operation, reverts) in [("first", None), ("second", None), ("third", Some(1)), ("fourth", Some(1))] {
        let newest = store.history(&HistoryQuery::newest(1)).await.unwrap();
        let sequence = |back: i64| newest.first().map(|entry| entry.sequence - back);
        let entry = sample::history(operation, Some(web.entry.id));
        let history = Some(HistoryEntry { reverts: reverts.and_then(sequence), ..entry });
        let events = vec![sample::event(operation, Some(&web.entry)), sample::event("other", None)];
        commit(store, ChangeSet { history, events, ..ChangeSet::default() }).await;
    }
}

async fn filled(subject: &dyn TransferSubject) -> StoreContent {
    fill(&*subject.open()).await;
    subject.transfer().export(None).await.unwrap()
}

/// Moves away what the subject holds, which is then empty or free to be replaced, and returns it.
async fn taken(subject: &dyn TransferSubject) -> StoreContent {
    let content = filled(subject).await;
    let is_left = subject.transfer().leave(content.clone(), to(HERE)).await.unwrap();
    assert!(is_left);
    content
}

/// What was moved is the same, and is used once the mark is removed.
pub async fn test_import_of_everything_comes_back_whole(subject: &impl TransferSubject) {
    let content = taken(subject).await;
    let transfer = subject.transfer();

    transfer.import(content.clone(), from(HERE), Some(to(HERE))).await.unwrap();
    let unfinished = subject.open().list().await;
    let found = transfer.export(Some(from(HERE))).await.unwrap();
    transfer.clear_mark(from(HERE)).await.unwrap();

    let counts = [content.vms.len(), content.storage.len(), content.snapshots.len(), content.history.len()];
    assert_eq!((counts, content.events.len()), ([1, 3, 2, 4], 8));
    assert!(content.history.iter().filter(|entry| entry.entry.reverts.is_some()).count() == 2);
    assert!(matches!(&unfinished, Err(StoreError::MoveUnfinished { from, .. }) if from == HERE), "{unfinished:?}");
    assert_eq!(found.renumbered(), content.clone().renumbered());
    let store = subject.open();
    assert_eq!(store.by_id(&content.vms[0].entry.id).await.unwrap().as_ref(), content.vms.first());
    fill_more(&*store).await;
}

/// The next numbers of the history and of events are free.
async fn fill_more(store: &dyn Store) {
    let history = Some(sample::history("later", None));
    let events = vec![sample::event("later", None)];
    commit(store, ChangeSet { history, events, ..ChangeSet::default() }).await;
}

/// Only a database with the mark that was seen is replaced.
pub async fn test_import_is_refused_where_there_is_something(subject: &impl TransferSubject) {
    let content = filled(subject).await;
    let transfer = subject.transfer();

    let of_use = transfer.import(StoreContent::default(), from(HERE), None).await;
    let kept = transfer.export(None).await.unwrap();
    assert!(transfer.leave(content.clone(), to(HERE)).await.unwrap());
    transfer.import(content.clone(), from(HERE), Some(to(HERE))).await.unwrap();
    let mut refused = vec![of_use];
    // Another move, although from the same database.
    for replaced in [None, Some(to(HERE)), Some(of_another_move())] {
        refused.push(transfer.import(StoreContent::default(), of_another_move(), replaced).await);
    }
    let found = transfer.export(Some(from(HERE))).await.unwrap();
    transfer.import(StoreContent::default(), of_another_move(), Some(from(HERE))).await.unwrap();

    for refused in refused {
        assert!(matches!(refused, Err(StoreError::NotEmpty { .. })), "{refused:?}");
    }
    assert_eq!((&kept, found.renumbered()), (&content, content.clone().renumbered()));
    assert!(transfer.export(Some(of_another_move())).await.unwrap().is_empty());
}

fn of_another_move() -> MoveMark {
    MoveMark::From { id: MoveId::new([2; 16]), url: HERE.to_owned(), at: Timestamp::UNIX_EPOCH }
}

/// A move that lost the race neither takes what was moved for all there is, nor ends what another one began.
pub async fn test_marks_of_other_moves_are_kept(subject: &impl TransferSubject) {
    let content = taken(subject).await;
    let transfer = subject.transfer();

    let left = transfer.export(None).await;
    let left_again = transfer.leave(StoreContent::default(), to("sqlite:/d/other.db")).await;
    transfer.import(content.clone(), from(HERE), Some(to(HERE))).await.unwrap();
    let ended = transfer.clear_mark(of_another_move()).await;
    let read_back = transfer.export(Some(of_another_move())).await;
    transfer.undo_import(of_another_move()).await.unwrap();
    let kept = transfer.export(Some(from(HERE))).await.unwrap();
    transfer.undo_import(from(HERE)).await.unwrap();
    let ended_again = transfer.clear_mark(from(HERE)).await;

    assert!(matches!(left, Err(StoreError::Moved { .. })), "{left:?}");
    assert!(matches!(left_again, Err(StoreError::Moved { .. })), "{left_again:?}");
    assert!(matches!(ended, Err(StoreError::MoveUnfinished { .. })), "{ended:?}");
    assert!(matches!(read_back, Err(StoreError::MoveUnfinished { .. })), "{read_back:?}");
    assert_eq!(kept.renumbered(), content.renumbered());
    assert!(matches!(ended_again, Err(StoreError::NotVerified { .. })), "{ended_again:?}");
    assert!(transfer.export(None).await.unwrap().is_empty());
}

/// What was written after it was copied is not lost.
pub async fn test_leave_is_refused_after_a_change(subject: &impl TransferSubject) {
    let content = filled(subject).await;
    let (store, transfer) = (subject.open(), subject.transfer());

    commit(&*store, ChangeSet { events: vec![sample::event("later", None)], ..ChangeSet::default() }).await;
    let is_left = transfer.leave(content, to(HERE)).await.unwrap();

    assert!(!is_left);
    assert_eq!(transfer.mark().await.unwrap(), None);
    assert_eq!(names(&*subject.open()).await, ["web"]);
}

/// Neither a process that has it open nor another one uses it.
pub async fn test_left_database_refuses_open_and_new_handles(subject: &impl TransferSubject) {
    let open = subject.open();
    fill(&*open).await;
    let transfer = subject.transfer();
    let content = transfer.export(None).await.unwrap();
    let last = content.events.last().unwrap().sequence;
    // A reader that waits for events, which a store may spare a read.
    for _ in 0..3 {
        assert_eq!(open.events_after(last, 10).await.unwrap(), []);
    }

    assert!(transfer.leave(content.clone(), to(HERE)).await.unwrap());

    let followed = until_refused(&*open, last).await;
    let mut refused = reads(&*open, &content).await;
    refused.push(("events_after", followed));
    refused.push(("commit", open.commit(sample::adding(&sample::vm("db", 7))).await));
    let noted = ChangeSet { events: vec![sample::event("x", None)], ..ChangeSet::default() };
    refused.push(("commit of an event", open.commit(noted).await));
    refused.push(("list of a new handle", subject.open().list().await.map(drop)));
    let again = transfer.leave(content, to("sqlite:/d/other.db")).await;
    for (what, refused) in refused {
        assert!(matches!(&refused, Err(StoreError::Moved { to, .. }) if to == HERE), "{what}: {refused:?}");
    }
    assert!(matches!(again, Err(StoreError::Moved { .. })), "{again:?}");
    assert_eq!(transfer.mark().await.unwrap(), Some(to(HERE)));
}

/// A process that has the new database open does not use what is not known to be complete.
pub async fn test_filled_database_refuses_open_handles(subject: &impl TransferSubject) {
    let content = taken(subject).await;
    let transfer = subject.transfer();
    transfer.import(StoreContent::default(), from(HERE), Some(to(HERE))).await.unwrap();
    transfer.clear_mark(from(HERE)).await.unwrap();
    let open = subject.open();
    assert_eq!(names(&*open).await, [""; 0]);

    transfer.import(content.clone(), from(HERE), None).await.unwrap();
    let refused = reads(&*open, &content).await;
    transfer.clear_mark(from(HERE)).await.unwrap();

    for (what, refused) in refused {
        assert!(matches!(&refused, Err(StoreError::MoveUnfinished { .. })), "{what}: {refused:?}");
    }
    assert_eq!(names(&*open).await, ["web"]);
}

/// Returns how each read ends.
async fn reads(store: &dyn Store, content: &StoreContent) -> Vec<(&'static str, Result<(), StoreError>)> {
    let StoreContent { vms, storage, .. } = content;
    let entry = &vms[0].entry;
    vec![
        ("list", store.list().await.map(drop)),
        ("by_id", store.by_id(&entry.id).await.map(drop)),
        ("by_name", store.by_name(&entry.name).await.map(drop)),
        ("by_id_prefix", store.by_id_prefix("0").await.map(drop)),
        ("storage_of_vm", store.storage_of_vm(&entry.id).await.map(drop)),
        ("storage_without_vm", store.storage_without_vm().await.map(drop)),
        ("storage_at", store.storage_at(&storage[0].path).await.map(drop)),
        ("snapshots_of_vm", store.snapshots_of_vm(&entry.id).await.map(drop)),
        ("history", store.history(&HistoryQuery::newest(1)).await.map(drop)),
        ("is_reverted", store.is_reverted(1).await.map(drop)),
        ("events_after", store.events_after(0, 10).await.map(drop)),
    ]
}

/// Reads events again and again until a read fails, as a reader that waits for them does.
async fn until_refused(store: &dyn Store, sequence: i64) -> Result<(), StoreError> {
    timeout(LONG, async {
        loop {
            store.events_after(sequence, 10).await?;
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("a reader of events does not notice that the database was moved"))
}

/// What comes back replaces what was moved away.
pub async fn test_moved_back_is_used_again(subject: &impl TransferSubject) {
    let mut content = taken(subject).await;
    content.events.truncate(1);
    let transfer = subject.transfer();

    transfer.import(content.clone(), from(HERE), Some(to(HERE))).await.unwrap();
    transfer.clear_mark(from(HERE)).await.unwrap();

    assert_eq!(transfer.mark().await.unwrap(), None);
    assert_eq!(names(&*subject.open()).await, ["web"]);
    assert_eq!(transfer.export(None).await.unwrap().renumbered(), content.renumbered());
}
