//! The layers of drives.

use maqet_domain::change::Change;
use maqet_domain::vm::{DriveLayers, Revision, Vm};

use super::{Subject, add, check_conflict, commit, one, sample};

fn change(vm: &Vm, expected: Revision, layers: Vec<DriveLayers>) -> Change {
    Change::LayersChanged { id: vm.entry.id, expected, layers }
}

/// Layers count one revision, touch nothing else, and are in lists.
pub async fn test_layers_changed_are_read_back_and_count(subject: &dyn Subject) {
    let store = subject.open();
    let mut vm = add(&*store, "web", 1).await;
    let other = add(&*store, "other", 2).await;

    commit(&*store, one(change(&vm, Revision::FIRST, sample::layers()))).await;

    vm.entry.revision = Revision(2);
    vm.entry.layers = sample::layers();
    assert_eq!(store.by_id(&vm.entry.id).await.unwrap(), Some(vm.clone()));
    assert_eq!(store.list().await.unwrap(), [other.entry, vm.entry]);
}

/// Without layers, nothing is left of them.
pub async fn test_layers_changed_to_none_are_gone(subject: &dyn Subject) {
    let store = subject.open();
    let mut vm = add(&*store, "web", 1).await;
    commit(&*store, one(change(&vm, Revision::FIRST, sample::layers()))).await;

    commit(&*store, one(change(&vm, Revision(2), Vec::new()))).await;

    vm.entry.revision = Revision(3);
    assert_eq!(store.by_name(&vm.entry.name).await.unwrap(), Some(vm));
}

/// Layers require the current revision.
pub async fn test_layers_changed_at_other_revision_is_conflict(subject: &dyn Subject) {
    let store = subject.open();
    let vm = add(&*store, "web", 1).await;

    check_conflict(&store.commit(one(change(&vm, Revision(2), sample::layers()))).await, &vm);

    assert_eq!(store.by_id(&vm.entry.id).await.unwrap(), Some(vm));
}

/// A VM is added with its layers.
pub async fn test_vm_added_with_layers_comes_back_whole(subject: &dyn Subject) {
    let store = subject.open();
    let mut vm = sample::vm("web", 1);
    vm.entry.layers = sample::layers();

    commit(&*store, sample::adding(&vm)).await;

    assert_eq!(store.by_id(&vm.entry.id).await.unwrap(), Some(vm));
}
