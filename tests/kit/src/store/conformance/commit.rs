//! Writing: names, revisions, all or nothing.

use futures_util::future::join_all;
use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::history::HistoryQuery;
use maqet_domain::port::StoreError;
use maqet_domain::vm::{Origins, Phase, Revision, Vm};

use super::{Subject, add, check_conflict, check_name_taken, commit, names, one, sample};

fn removal(vm: &Vm, expected: Revision) -> Change {
    Change::VmRemoved { id: vm.entry.id, expected }
}

fn run_change(vm: &Vm, expected: Revision) -> Change {
    Change::RunChanged { id: vm.entry.id, expected, run: Some(sample::run(1, Phase::Starting)) }
}

fn definition_change(vm: &Vm, expected: Revision) -> Change {
    let (definition, origins) = (sample::other_definition(), sample::origins("other.yaml"));
    Change::DefinitionChanged { id: vm.entry.id, expected, definition, origins }
}

/// A name is given once.
pub async fn test_vm_added_existing_name_is_refused(subject: &dyn Subject) {
    let store = subject.open();
    let first = add(&*store, "web", 1).await;
    let second = sample::vm("web", 2);

    let result = store.commit(sample::adding(&second)).await;

    check_name_taken(&result, &second);
    assert_eq!(store.by_name(&first.entry.name).await.unwrap(), Some(first));
}

/// So is an id; the error names the VM that was to be added.
pub async fn test_vm_added_existing_id_is_refused(subject: &dyn Subject) {
    let store = subject.open();
    add(&*store, "web", 1).await;
    let second = sample::vm("other", 1);

    let result = store.commit(sample::adding(&second)).await;

    check_name_taken(&result, &second);
    assert_eq!(names(&*store).await, ["web"]);
}

/// The name of a removed VM is free, and the next VM inherits nothing.
pub async fn test_vm_added_name_of_removed_vm_succeeds(subject: &dyn Subject) {
    let store = subject.open();
    let first = add(&*store, "web", 1).await;
    commit(&*store, one(removal(&first, Revision::FIRST))).await;

    let second = add(&*store, "web", 2).await;

    assert_eq!(store.by_name(&second.entry.name).await.unwrap(), Some(second));
    assert_eq!(store.by_id(&first.entry.id).await.unwrap(), None);
}

/// Removing a VM requires its current revision.
pub async fn test_vm_removed_at_other_revision_is_conflict(subject: &dyn Subject) {
    let store = subject.open();
    let vm = add(&*store, "web", 1).await;
    commit(&*store, one(run_change(&vm, Revision::FIRST))).await;

    let result = store.commit(one(removal(&vm, Revision::FIRST))).await;

    check_conflict(&result, &vm);
    assert_eq!(names(&*store).await, ["web"]);
}

/// A removed VM cannot be removed again.
pub async fn test_vm_removed_twice_is_conflict(subject: &dyn Subject) {
    let store = subject.open();
    let vm = add(&*store, "web", 1).await;
    commit(&*store, one(removal(&vm, Revision::FIRST))).await;

    let result = store.commit(one(removal(&vm, Revision::FIRST))).await;

    check_conflict(&result, &vm);
}

/// The records of a removed VM's images stay, and a later VM with its id does not own them.
pub async fn test_vm_removed_leaves_storage_without_owner(subject: &dyn Subject) {
    let store = subject.open();
    let vm = add(&*store, "web", 1).await;
    commit(&*store, one(Change::StorageAdded(sample::storage("/d/a.qcow2", Some(vm.entry.id))))).await;

    commit(&*store, one(removal(&vm, Revision::FIRST))).await;

    assert_eq!(store.storage_of_vm(&vm.entry.id).await.unwrap(), []);
    assert_eq!(store.storage_without_vm().await.unwrap(), [sample::storage("/d/a.qcow2", None)]);
    assert_eq!(store.all_storage().await.unwrap(), [sample::storage("/d/a.qcow2", None)]);
    commit(&*store, sample::adding(&vm)).await;
    assert_eq!(store.storage_of_vm(&vm.entry.id).await.unwrap(), []);
}

/// Each change of a run counts one revision and touches nothing else.
pub async fn test_run_changed_counts_the_revision(subject: &dyn Subject) {
    let store = subject.open();
    let mut vm = add(&*store, "web", 1).await;
    let other = add(&*store, "other", 2).await;

    commit(&*store, one(run_change(&vm, Revision::FIRST))).await;
    let second =
        Change::RunChanged { id: vm.entry.id, expected: Revision(2), run: Some(sample::run(1, Phase::Running)) };
    commit(&*store, one(second)).await;

    vm.entry.revision = Revision(3);
    vm.entry.run = Some(sample::run(1, Phase::Running));
    assert_eq!(store.by_id(&vm.entry.id).await.unwrap(), Some(vm));
    assert_eq!(store.by_id(&other.entry.id).await.unwrap(), Some(other));
}

/// A run can be cleared.
pub async fn test_run_changed_to_none_removes_the_run(subject: &dyn Subject) {
    let store = subject.open();
    let vm = add(&*store, "web", 1).await;
    commit(&*store, one(run_change(&vm, Revision::FIRST))).await;

    commit(&*store, one(Change::RunChanged { id: vm.entry.id, expected: Revision(2), run: None })).await;

    let entry = store.by_id(&vm.entry.id).await.unwrap().map(|vm| vm.entry);
    assert_eq!(entry.map(|entry| (entry.revision, entry.run)), Some((Revision(3), None)));
}

/// A lost race is a conflict, never a lost update.
pub async fn test_run_changed_at_other_revision_is_conflict(subject: &dyn Subject) {
    let store = subject.open();
    let vm = add(&*store, "web", 1).await;
    commit(&*store, one(run_change(&vm, Revision::FIRST))).await;

    for expected in [Revision(0), Revision::FIRST, Revision(3)] {
        let late = Change::RunChanged { id: vm.entry.id, expected, run: None };
        check_conflict(&store.commit(one(late)).await, &vm);
    }

    let run = store.by_id(&vm.entry.id).await.unwrap().and_then(|vm| vm.entry.run);
    assert_eq!(run, Some(sample::run(1, Phase::Starting)));
}

/// A removed VM has no run to change.
pub async fn test_run_changed_of_unknown_vm_is_conflict(subject: &dyn Subject) {
    let store = subject.open();
    let vm = sample::vm("web", 1);

    check_conflict(&store.commit(one(run_change(&vm, Revision::FIRST))).await, &vm);
}

/// A changed definition is read back with its origins, counts one revision, and touches neither the run nor others.
pub async fn test_definition_changed_is_read_back_with_origins(subject: &dyn Subject) {
    let store = subject.open();
    let mut vm = add(&*store, "web", 1).await;
    let other = add(&*store, "other", 2).await;
    commit(&*store, one(run_change(&vm, Revision::FIRST))).await;

    commit(&*store, one(definition_change(&vm, Revision(2)))).await;

    vm.entry.revision = Revision(3);
    vm.entry.run = Some(sample::run(1, Phase::Starting));
    vm.definition = sample::other_definition();
    vm.origins = sample::origins("other.yaml");
    assert_eq!(store.by_name(&vm.entry.name).await.unwrap(), Some(vm));
    assert_eq!(store.by_id(&other.entry.id).await.unwrap(), Some(other));
}

/// A definition may have no origins.
pub async fn test_definition_changed_without_origins_has_none(subject: &dyn Subject) {
    let store = subject.open();
    let vm = add(&*store, "web", 1).await;
    let definition = sample::other_definition();
    let origins = Origins::new();
    let change = Change::DefinitionChanged { id: vm.entry.id, expected: Revision::FIRST, definition, origins };

    commit(&*store, one(change)).await;

    let origins = store.by_id(&vm.entry.id).await.unwrap().map(|vm| vm.origins);
    assert_eq!(origins, Some(Origins::new()));
}

/// Changing a definition requires the current revision, which the run also counts.
pub async fn test_definition_changed_at_other_revision_is_conflict(subject: &dyn Subject) {
    let store = subject.open();
    let vm = add(&*store, "web", 1).await;
    commit(&*store, one(run_change(&vm, Revision::FIRST))).await;

    for expected in [Revision(0), Revision::FIRST, Revision(3)] {
        check_conflict(&store.commit(one(definition_change(&vm, expected))).await, &vm);
    }

    let found = store.by_id(&vm.entry.id).await.unwrap();
    let found = found.map(|vm| (vm.entry.revision, vm.definition, vm.origins));
    assert_eq!(found, Some((Revision(2), vm.definition, vm.origins)));
}

/// A removed VM has no definition to change.
pub async fn test_definition_changed_of_unknown_vm_is_conflict(subject: &dyn Subject) {
    let store = subject.open();
    let vm = sample::vm("web", 1);

    check_conflict(&store.commit(one(definition_change(&vm, Revision::FIRST))).await, &vm);
    assert_eq!(store.list().await.unwrap(), []);
}

/// A definition is rolled back with the rest when a later change is refused.
pub async fn test_definition_changed_is_reverted_by_later_refusal(subject: &dyn Subject) {
    let store = subject.open();
    let vm = add(&*store, "web", 1).await;
    let changes = one(definition_change(&vm, Revision::FIRST)).and(run_change(&vm, Revision::FIRST));

    check_conflict(&store.commit(changes).await, &vm);

    assert_eq!(store.by_id(&vm.entry.id).await.unwrap(), Some(vm));
}

/// Of concurrent changes to the same revision one succeeds and all others get a conflict.
pub async fn test_run_changed_concurrently_succeeds_once(subject: &dyn Subject) {
    let store = subject.open();
    let vm = add(&*store, "web", 1).await;

    let results = at_once(subject, |_| one(run_change(&vm, Revision::FIRST))).await;

    let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    for result in lost {
        check_conflict(&result, &vm);
    }
    assert_eq!(store.by_id(&vm.entry.id).await.unwrap().map(|vm| vm.entry.revision), Some(Revision(2)));
}

/// Of concurrent additions of the same name one succeeds and all others get an error.
pub async fn test_vm_added_concurrently_succeeds_once(subject: &dyn Subject) {
    let results = at_once(subject, |number| sample::adding(&sample::vm("web", number))).await;

    let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    for result in lost {
        check_name_taken(&result, &sample::vm("web", 1));
    }
    assert_eq!(names(&*subject.open()).await, ["web"]);
}

/// Commits through eight handles at once.
async fn at_once(subject: &dyn Subject, changes: impl Fn(u32) -> ChangeSet) -> Vec<Result<(), StoreError>> {
    let handles: Vec<_> = (1..=8).map(|number| (subject.open(), changes(number))).collect();
    join_all(handles.iter().map(|(store, changes)| store.commit(changes.clone()))).await
}

/// A refused change rolls back those before it.
pub async fn test_commit_later_change_refused_reverts_earlier_ones(subject: &dyn Subject) {
    let store = subject.open();
    let stays = add(&*store, "stays", 1).await;
    commit(&*store, one(Change::StorageAdded(sample::storage("/d/old", Some(stays.entry.id))))).await;
    let earlier = [
        Change::VmAdded(Box::new(sample::vm("new", 2))),
        run_change(&stays, Revision::FIRST),
        Change::StorageAdded(sample::storage("/d/new", Some(stays.entry.id))),
        removal(&stays, Revision(2)),
    ];
    let refused = Change::VmAdded(Box::new(sample::vm("new", 3)));

    let changes = earlier.into_iter().chain([refused]).collect();
    let result = store.commit(ChangeSet { changes, ..ChangeSet::default() }).await;

    check_name_taken(&result, &sample::vm("new", 3));
    assert_eq!(names(&*store).await, ["stays"]);
    let records = store.storage_of_vm(&stays.entry.id).await.unwrap();
    assert_eq!(records, [sample::storage("/d/old", Some(stays.entry.id))]);
    assert_eq!(store.by_id(&stays.entry.id).await.unwrap(), Some(stays));
}

/// Changes are applied in order.
pub async fn test_commit_change_sees_those_before_it(subject: &dyn Subject) {
    let store = subject.open();
    let vm = sample::vm("web", 1);
    let changes = ChangeSet::default()
        .and(Change::VmAdded(Box::new(vm.clone())))
        .and(run_change(&vm, Revision::FIRST))
        .and(removal(&vm, Revision(2)))
        .and(Change::VmAdded(Box::new(sample::vm("web", 2))));

    commit(&*store, changes).await;

    let found = store.by_name(&vm.entry.name).await.unwrap();
    assert_eq!(found, Some(sample::vm("web", 2)));
}

/// History and events are written only together with their change.
pub async fn test_commit_refused_leaves_no_history_and_no_events(subject: &dyn Subject) {
    let store = subject.open();
    let vm = add(&*store, "web", 1).await;
    let mut changes = sample::adding(&vm);
    changes.history = Some(sample::history("add", Some(vm.entry.id)));
    changes.events = vec![sample::event("added", Some(&vm.entry))];

    check_name_taken(&store.commit(changes).await, &vm);

    assert_eq!(store.history(&HistoryQuery::newest(10)).await.unwrap(), []);
    assert_eq!(store.events_after(0, 10).await.unwrap(), []);
}

/// An empty set writes nothing.
pub async fn test_commit_nothing_changes_nothing(subject: &dyn Subject) {
    let store = subject.open();
    let vm = add(&*store, "web", 1).await;

    commit(&*store, ChangeSet::default()).await;

    assert_eq!(store.list().await.unwrap(), [vm.entry]);
}
