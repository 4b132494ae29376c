//! Pending work, and the records of snapshots.

use maqet_domain::change::Change;
use maqet_domain::snapshot::{SnapshotKind, SnapshotRecord};
use maqet_domain::vm::{Revision, Vm};

use super::{Subject, add, check_conflict, commit, one, sample};

fn begin(vm: &Vm, expected: Revision) -> Change {
    let pending = Some(Box::new(sample::pending("snapshot.create")));
    Change::PendingChanged { id: vm.entry.id, expected, pending }
}

fn record(vm: &Vm, drive: &str, tag: &str) -> Change {
    Change::SnapshotAdded(Box::new(sample::snapshot(vm.entry.id, drive, tag)))
}

/// Pending work counts one revision, touches nothing else, and is in lists.
pub async fn test_pending_changed_is_read_back_and_counts(subject: &dyn Subject) {
    let store = subject.open();
    let mut vm = add(&*store, "web", 1).await;
    let other = add(&*store, "other", 2).await;

    commit(&*store, one(begin(&vm, Revision::FIRST))).await;

    vm.entry.revision = Revision(2);
    vm.entry.pending = Some(Box::new(sample::pending("snapshot.create")));
    assert_eq!(store.by_id(&vm.entry.id).await.unwrap(), Some(vm.clone()));
    assert_eq!(store.list().await.unwrap(), [other.entry, vm.entry]);
}

/// Work that is finished is gone.
pub async fn test_pending_changed_to_none_is_cleared(subject: &dyn Subject) {
    let store = subject.open();
    let mut vm = add(&*store, "web", 1).await;
    commit(&*store, one(begin(&vm, Revision::FIRST))).await;

    let done = Change::PendingChanged { id: vm.entry.id, expected: Revision(2), pending: None };
    commit(&*store, one(done)).await;

    vm.entry.revision = Revision(3);
    assert_eq!(store.by_name(&vm.entry.name).await.unwrap(), Some(vm));
}

/// Work requires the current revision.
pub async fn test_pending_changed_at_other_revision_is_conflict(subject: &dyn Subject) {
    let store = subject.open();
    let vm = add(&*store, "web", 1).await;

    check_conflict(&store.commit(one(begin(&vm, Revision(2)))).await, &vm);

    assert_eq!(store.by_id(&vm.entry.id).await.unwrap(), Some(vm));
}

/// A VM is added with its pending work.
pub async fn test_vm_added_with_pending_comes_back_whole(subject: &dyn Subject) {
    let store = subject.open();
    let mut vm = sample::vm("web", 1);
    vm.entry.pending = Some(Box::new(sample::pending("storage.convert")));

    commit(&*store, sample::adding(&vm)).await;

    assert_eq!(store.by_id(&vm.entry.id).await.unwrap(), Some(vm));
}

/// The records of a VM are ordered by drive and tag, whole, and without those of others.
pub async fn test_snapshot_records_are_ordered_and_whole(subject: &dyn Subject) {
    let store = subject.open();
    let vm = add(&*store, "web", 1).await;
    let other = add(&*store, "other", 2).await;
    for (drive, tag) in [("ssd", "a"), ("hdd", "b"), ("hdd", "a~2")] {
        commit(&*store, one(record(&vm, drive, tag)).and(record(&other, drive, tag))).await;
    }

    let records = store.snapshots_of_vm(&vm.entry.id).await.unwrap();

    let made = |drive, tag| sample::snapshot(vm.entry.id, drive, tag);
    assert_eq!(records, [made("hdd", "a~2"), made("hdd", "b"), made("ssd", "a")]);
}

/// A record of the same drive and tag replaces the earlier one; optional values may be missing.
pub async fn test_snapshot_same_tag_replaces_the_record(subject: &dyn Subject) {
    let store = subject.open();
    let vm = add(&*store, "web", 1).await;
    commit(&*store, one(record(&vm, "hdd", "a"))).await;
    let bare = SnapshotRecord {
        set: None,
        kind: SnapshotKind::Disk,
        description: None,
        fingerprint: None,
        ..sample::snapshot(vm.entry.id, "hdd", "a")
    };

    commit(&*store, one(Change::SnapshotAdded(Box::new(bare.clone())))).await;

    assert_eq!(store.snapshots_of_vm(&vm.entry.id).await.unwrap(), [bare]);
}

/// Removing a record leaves the others, and one that is gone is no error.
pub async fn test_snapshot_removed_leaves_the_others(subject: &dyn Subject) {
    let store = subject.open();
    let vm = add(&*store, "web", 1).await;
    commit(&*store, one(record(&vm, "hdd", "a")).and(record(&vm, "hdd", "b"))).await;
    let removed = || Change::SnapshotRemoved { vm: vm.entry.id, drive: "hdd".to_owned(), tag: "a".to_owned() };

    commit(&*store, one(removed())).await;
    commit(&*store, one(removed())).await;

    assert_eq!(store.snapshots_of_vm(&vm.entry.id).await.unwrap(), [sample::snapshot(vm.entry.id, "hdd", "b")]);
}

/// A snapshot of a VM that was removed meanwhile is not recorded.
pub async fn test_snapshot_of_unknown_vm_is_conflict(subject: &dyn Subject) {
    let store = subject.open();
    let vm = sample::vm("web", 1);

    check_conflict(&store.commit(one(record(&vm, "hdd", "a"))).await, &vm);

    assert_eq!(store.snapshots_of_vm(&vm.entry.id).await.unwrap(), []);
}

/// The records go with their VM.
pub async fn test_vm_removed_removes_its_snapshot_records(subject: &dyn Subject) {
    let store = subject.open();
    let vm = add(&*store, "web", 1).await;
    commit(&*store, one(record(&vm, "hdd", "a"))).await;

    commit(&*store, one(Change::VmRemoved { id: vm.entry.id, expected: Revision::FIRST })).await;

    assert_eq!(store.snapshots_of_vm(&vm.entry.id).await.unwrap(), []);
    commit(&*store, sample::adding(&vm)).await;
    assert_eq!(store.snapshots_of_vm(&vm.entry.id).await.unwrap(), []);
}
