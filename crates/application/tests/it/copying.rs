//! A copy of each VM is written outside of the store after a commit that changes its definition or storage.

use std::sync::{Arc, Mutex};

use maqet_application::operation::{Apply, Start};
use maqet_application::{App, Error};
use maqet_domain::port::{MockVmCopies, StoreError, VmRepository};
use maqet_domain::qmp::RunState;

use crate::world::{World, launched};

/// The copies written, in order: the name of the VM and the number of its images.
type Copies = Arc<Mutex<Vec<(String, usize)>>>;

fn recording(world: &mut World) -> Copies {
    let copies = Copies::default();
    let list = Arc::clone(&copies);
    world.copies = MockVmCopies::new();
    world.copies.expect_write().returning(move |copy| {
        list.lock().unwrap().push((copy.vm.entry.name.to_string(), copy.storage.len()));
        Ok(())
    });
    copies
}

fn take(copies: &Copies) -> Vec<(String, usize)> {
    std::mem::take(&mut *copies.lock().unwrap())
}

async fn add(app: &App, name: &str) -> Result<(), Error> {
    app.run(World::empty(name)).await.map(drop)
}

#[tokio::test]
async fn test_copy_is_written_for_definition_changes() {
    let mut world = World::new();
    let copies = recording(&mut world);
    let app = world.app();

    add(&app, "web").await.unwrap();
    add(&app, "db").await.unwrap();
    app.run(Apply::new("web").memory("1G".to_owned())).await.unwrap();

    let expected = [("web", 0), ("db", 0), ("web", 0)].map(|(name, images)| (name.to_owned(), images));
    assert_eq!(take(&copies), expected);
}

#[tokio::test]
async fn test_copy_is_written_for_created_disks() {
    let mut world = World::new();
    let copies = recording(&mut world);
    world.images.expect_create().returning(|_| Ok(()));
    world.hypervisor.expect_launch().returning(|_| Ok(launched(7, RunState::Running)));
    let app = world.app();
    app.run(World::yaml("{name: web, network: [{name: net, mode: none}], storage: [{name: hdd}]}")).await.unwrap();
    take(&copies);

    app.run(Start::new("web")).await.unwrap();

    assert_eq!(take(&copies), [("web".to_owned(), 1)]);
}

#[tokio::test]
async fn test_copy_is_unchanged_by_starts_and_refused_commits() {
    let mut world = World::new();
    let copies = recording(&mut world);
    world.hypervisor.expect_launch().returning(|_| Ok(launched(7, RunState::Running)));
    let app = world.app();
    add(&app, "web").await.unwrap();
    take(&copies);

    app.run(Start::new("web")).await.unwrap();
    let again = add(&app, "web").await;

    assert!(matches!(again, Err(Error::Store(StoreError::Exists { .. }))), "{again:?}");
    assert_eq!(take(&copies), []);
}

#[tokio::test]
async fn test_copy_failing_does_not_fail_the_commit() {
    let mut world = World::new();
    world.copies = MockVmCopies::new();
    world.copies.expect_write().returning(|_| Err("no space".into()));
    let app = world.app();

    add(&app, "web").await.unwrap();

    assert_eq!(world.store.list().await.unwrap().len(), 1);
}
