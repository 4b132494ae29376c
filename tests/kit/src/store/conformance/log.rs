//! Storage records, history and events.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use maqet_domain::change::{Change, ChangeSet, StorageRecord};
use maqet_domain::history::{EntryKind, HistoryEntry, HistoryQuery, HistoryVm};
use maqet_domain::port::StoreError;
use maqet_domain::size::ByteSize;
use maqet_domain::vm::{Revision, Vm};

use super::{Subject, add, check_conflict, commit, names, one, sample};

fn recording(path: &str, vm: &Vm) -> ChangeSet {
    one(Change::StorageAdded(sample::storage(path, Some(vm.entry.id))))
}

/// The records of a VM are in creation order, without those of others.
pub async fn test_storage_records_are_in_creation_order(subject: &dyn Subject) {
    let store = subject.open();
    let vm = add(&*store, "web", 1).await;
    let other = add(&*store, "other", 2).await;
    for path in ["/d/z", "/d/a, \"ü\"", "/d/m"] {
        commit(&*store, recording(path, &vm)).await;
        commit(&*store, recording(&format!("{path}-other"), &other)).await;
    }

    let records = store.storage_of_vm(&vm.entry.id).await.unwrap();

    let made = |path| sample::storage(path, Some(vm.entry.id));
    assert_eq!(records, [made("/d/z"), made("/d/a, \"ü\""), made("/d/m")]);
}

/// A record of the same path replaces the earlier one and is the newest.
pub async fn test_storage_same_path_replaces_the_record(subject: &dyn Subject) {
    let store = subject.open();
    let vm = add(&*store, "web", 1).await;
    commit(&*store, recording("/d/a", &vm)).await;
    commit(&*store, recording("/d/b", &vm)).await;
    let mut again = sample::storage("/d/a", Some(vm.entry.id));
    again.kind = String::from("raw");
    again.size = Some(ByteSize::from_bytes(512));

    commit(&*store, one(Change::StorageAdded(again.clone()))).await;

    let records = store.storage_of_vm(&vm.entry.id).await.unwrap();
    assert_eq!(records, [sample::storage("/d/b", Some(vm.entry.id)), again]);
}

/// An image of a VM that was removed meanwhile is not recorded as its own.
pub async fn test_storage_of_unknown_vm_is_conflict(subject: &dyn Subject) {
    let store = subject.open();
    let vm = sample::vm("web", 1);

    check_conflict(&store.commit(recording("/d/a", &vm)).await, &vm);

    assert_eq!(store.storage_of_vm(&vm.entry.id).await.unwrap(), []);
}

/// A record of an image that is only used does not replace that of another VM.
pub async fn test_storage_used_keeps_record_of_other_vm(subject: &dyn Subject) {
    let store = subject.open();
    let (web, db) = (add(&*store, "web", 1).await, add(&*store, "db", 2).await);
    let used =
        |vm: &Vm| StorageRecord { kind: StorageRecord::USED.to_owned(), ..sample::storage("/d/a", Some(vm.entry.id)) };
    commit(&*store, recording("/d/a", &web)).await;

    commit(&*store, one(Change::StorageAdded(used(&db)))).await;

    let records = store.storage_of_vm(&web.entry.id).await.unwrap();
    assert_eq!(records, [sample::storage("/d/a", Some(web.entry.id))]);
    assert_eq!(store.storage_of_vm(&db.entry.id).await.unwrap(), []);
    let id = web.entry.id;
    commit(&*store, one(Change::VmRemoved { id, expected: web.entry.revision })).await;
    commit(&*store, one(Change::StorageAdded(used(&db)))).await;
    assert_eq!(store.storage_of_vm(&db.entry.id).await.unwrap(), [used(&db)]);
}

/// A record may have no owner.
pub async fn test_storage_without_owner_has_no_vm(subject: &dyn Subject) {
    let store = subject.open();
    let vm = add(&*store, "web", 1).await;
    let mut record = sample::storage("/d/a", None);
    record.size = None;

    commit(&*store, recording("/d/b", &vm)).await;
    commit(&*store, one(Change::StorageAdded(record.clone()))).await;

    assert_eq!(store.storage_of_vm(&vm.entry.id).await.unwrap(), [sample::storage("/d/b", Some(vm.entry.id))]);
    assert_eq!(store.storage_without_vm().await.unwrap(), [record]);
}

/// The newest entries come first, as many as requested, with growing numbers.
pub async fn test_history_newest_entries_come_first(subject: &dyn Subject) {
    let store = subject.open();
    for (operation, vm) in [("add", Some(sample::id(1))), ("start", None), ("stop", Some(sample::id(2)))] {
        let entry = sample::history(operation, vm);
        commit(&*store, ChangeSet { history: Some(entry), ..ChangeSet::default() }).await;
    }

    let newest = store.history(&HistoryQuery::newest(2)).await.unwrap();

    let entries: Vec<_> = newest.iter().map(|recorded| recorded.entry.clone()).collect();
    assert_eq!(entries, [sample::history("stop", Some(sample::id(2))), sample::history("start", None)]);
    assert!(newest[0].sequence > newest[1].sequence, "{newest:?}");
    assert_eq!(store.history(&HistoryQuery::newest(9)).await.unwrap().len(), 3);
    assert_eq!(store.history(&HistoryQuery::newest(0)).await.unwrap(), []);
}

/// The history of a removed VM stays.
pub async fn test_history_entries_outlive_their_vm(subject: &dyn Subject) {
    let store = subject.open();
    let vm = add(&*store, "web", 1).await;
    let entry = sample::history("rm", Some(vm.entry.id));
    let mut changes = one(Change::VmRemoved { id: vm.entry.id, expected: Revision::FIRST });
    changes.history = Some(entry.clone());

    commit(&*store, changes).await;

    let newest = store.history(&HistoryQuery::newest(1)).await.unwrap();
    assert_eq!(newest.into_iter().map(|recorded| recorded.entry).collect::<Vec<_>>(), [entry]);
}

/// Entries are found by their VM: by its ID, or by the name that it had; older ones before a number.
pub async fn test_history_of_a_vm_is_found_by_id_or_name(subject: &dyn Subject) {
    let store = subject.open();
    for (operation, number, name) in [("a", 1, "web"), ("b", 2, "db"), ("c", 3, "web"), ("d", 1, "old")] {
        let vm_name = Some(sample::name(name));
        let entry = HistoryEntry { vm_name, ..sample::history(operation, Some(sample::id(number))) };
        commit(&*store, ChangeSet { history: Some(entry), ..ChangeSet::default() }).await;
    }
    let of = async |vm: HistoryVm, before: Option<i64>| {
        let query = HistoryQuery { vm: Some(vm), before, own: true, limit: 9 };
        let found = store.history(&query).await.unwrap();
        let operations = found.iter().map(|recorded| recorded.entry.call.operation.clone()).collect::<String>();
        (operations, found.last().map(|recorded| recorded.sequence))
    };
    let (id, name) = (Some(sample::id(1)), Some(sample::name("web")));

    let (_, first) = of(HistoryVm { id, name: None }, None).await;

    assert_eq!(of(HistoryVm { id, name: None }, None).await.0, "da");
    assert_eq!(of(HistoryVm { id: None, name: name.clone() }, None).await.0, "ca");
    assert_eq!(of(HistoryVm { id, name }, None).await.0, "dca");
    assert_eq!(of(HistoryVm { id, name: None }, first).await.0, "");
    assert_eq!(of(HistoryVm { id: Some(sample::id(9)), name: None }, None).await.0, "");
}

/// An entry is reverted once; the other commit writes nothing.
pub async fn test_history_entry_reverted_twice_is_refused(subject: &dyn Subject) {
    let store = subject.open();
    let reverting = |kind, reverts| HistoryEntry { kind, reverts, ..sample::history("rm", Some(sample::id(1))) };
    let changes = |entry| ChangeSet { history: Some(entry), ..ChangeSet::default() };
    commit(&*store, changes(sample::history("add", Some(sample::id(1))))).await;
    let sequence = store.history(&HistoryQuery::newest(1)).await.unwrap()[0].sequence;
    let undo = reverting(EntryKind::Undo, Some(sequence));
    assert!(!store.is_reverted(sequence).await.unwrap());
    commit(&*store, changes(undo.clone())).await;
    assert!(store.is_reverted(sequence).await.unwrap());

    let again = ChangeSet { history: Some(undo.clone()), ..sample::adding(&sample::vm("web", 1)) };
    let refused = store.commit(again).await;

    assert!(matches!(refused, Err(StoreError::Reverted { sequence: twice }) if twice == sequence), "{refused:?}");
    assert_eq!(names(&*store).await, Vec::<String>::new());
    let newest = store.history(&HistoryQuery::newest(9)).await.unwrap();
    assert_eq!(
        newest.iter().map(|recorded| recorded.entry.kind).collect::<Vec<_>>(),
        [EntryKind::Undo, EntryKind::Work]
    );
    commit(&*store, changes(reverting(EntryKind::Redo, Some(newest[0].sequence)))).await;
}

/// With a limit, the oldest entries are removed, and numbers are not used again.
pub async fn test_history_above_the_limit_loses_the_oldest(subject: &dyn Subject) {
    let store = subject.open();
    let mut last = 0;
    for number in 1..=5 {
        let history = Some(sample::history(&format!("n{number}"), None));
        let history_limit = (number == 5).then_some(2);
        commit(&*store, ChangeSet { history, history_limit, ..ChangeSet::default() }).await;
        let newest = store.history(&HistoryQuery::newest(1)).await.unwrap();
        assert!(newest[0].sequence > last);
        last = newest[0].sequence;
    }

    let kept = store.history(&HistoryQuery::newest(9)).await.unwrap();

    assert_eq!(kept.iter().map(|recorded| &*recorded.entry.call.operation).collect::<Vec<_>>(), ["n5", "n4"]);
}

/// The record of a path is found whatever VM it is of, and however the path is written.
pub async fn test_storage_at_a_path_is_of_any_vm(subject: &dyn Subject) {
    let store = subject.open();
    let (web, db) = (add(&*store, "web", 1).await, add(&*store, "db", 2).await);
    let not_utf8 = Path::new(OsStr::from_bytes(b"/d/\xff"));
    let records = [
        sample::storage("/d/a", Some(web.entry.id)),
        sample::storage("/d/b", None),
        StorageRecord { path: not_utf8.to_owned(), ..sample::storage("/d/c", Some(db.entry.id)) },
    ];
    for record in &records {
        commit(&*store, one(Change::StorageAdded(record.clone()))).await;
    }

    for record in records {
        assert_eq!(store.storage_at(&record.path).await.unwrap(), Some(record));
    }
    for path in ["/d/c", "/d", "/d/A"] {
        assert_eq!(store.storage_at(Path::new(path)).await.unwrap(), None, "{path}");
    }
}

/// The record of an image is removed by its path; one that does not exist is no error.
pub async fn test_storage_removed_leaves_other_records(subject: &dyn Subject) {
    let store = subject.open();
    let vm = add(&*store, "web", 1).await;
    for path in ["/d/a", "/d/b"] {
        commit(&*store, recording(path, &vm)).await;
    }

    for path in ["/d/a", "/d/c"] {
        commit(&*store, one(Change::StorageRemoved { path: path.into() })).await;
    }

    assert_eq!(store.storage_of_vm(&vm.entry.id).await.unwrap(), [sample::storage("/d/b", Some(vm.entry.id))]);
    assert_eq!(store.storage_without_vm().await.unwrap(), []);
}

/// Events come in writing order; reading continues after the number of the last one.
pub async fn test_events_come_back_in_order_after_a_sequence(subject: &dyn Subject) {
    let store = subject.open();
    let vm = sample::vm("web", 1);
    let events = ["one", "two", "three", "four"].map(|note| sample::event(note, Some(&vm.entry)));
    for pair in events.chunks(2) {
        commit(&*store, ChangeSet { events: pair.to_vec(), ..ChangeSet::default() }).await;
    }

    let first = store.events_after(0, 3).await.unwrap();
    let last = first.last().expect("three events were asked for").sequence;
    let rest = store.events_after(last, 100).await.unwrap();

    assert!(first.is_sorted_by(|one, next| one.sequence < next.sequence), "{first:?}");
    let all: Vec<_> = first.into_iter().chain(rest).map(|recorded| recorded.event).collect();
    assert_eq!(all, events);
    assert_eq!(store.events_after(last + 1, 100).await.unwrap(), []);
}

/// The events of a removed VM stay, under its name.
pub async fn test_events_outlive_their_vm(subject: &dyn Subject) {
    let store = subject.open();
    let vm = add(&*store, "web", 1).await;
    let events = vec![sample::event("gone", Some(&vm.entry)), sample::event("of no VM", None)];
    let mut changes = one(Change::VmRemoved { id: vm.entry.id, expected: Revision::FIRST });
    changes.events.clone_from(&events);

    commit(&*store, changes).await;

    let read = store.events_after(0, 10).await.unwrap();
    assert_eq!(read.into_iter().map(|recorded| recorded.event).collect::<Vec<_>>(), events);
}
