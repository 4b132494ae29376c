//! Operations on a full disk.

use std::sync::Arc;

use maqet_application::operation::{Pause, Reset, Restart, Rm, Start, Status};
use maqet_application::{App, Error};
use maqet_domain::port::StoreError;
use maqet_domain::qmp::RunState;
use maqet_testkit::store::MemoryStore;

use crate::world::{World, launched};

/// A running VM `web` on a disk that is full by now.
async fn running(world: &mut World) -> App {
    let disk = Arc::new(MemoryStore::default());
    world.hypervisor.expect_launch().times(1).returning(|_| Ok(launched(7, RunState::Running)));
    let app = world.app_with(Arc::clone(&disk) as _);
    app.run(World::empty("web")).await.unwrap();
    app.run(Start::new("web")).await.unwrap();
    disk.set_full(true);
    app
}

#[tokio::test]
async fn test_power_on_full_disk_succeeds() {
    let mut world = World::new();
    world.follows(RunState::Running, None);
    let app = running(&mut world).await;

    let paused = app.run(Pause::new("web")).await.unwrap();
    let reset = app.run(Reset::new("web")).await.unwrap();

    assert!(paused.changed && reset.changed);
}

#[tokio::test]
async fn test_restart_on_full_disk_keeps_vm_running() {
    let mut world = World::new();
    world.alive(RunState::Running);
    world.monitors.expect_execute().never();
    world.processes.expect_signal().never();
    let app = running(&mut world).await;

    for force in [false, true] {
        let refused = app.run(Restart::new("web").force(force)).await.unwrap_err();

        assert!(matches!(refused, Error::Store(StoreError::Full { .. })), "{refused}");
    }
    assert_eq!(app.run(Status::new("web")).await.unwrap().status, "running");
}

#[tokio::test]
async fn test_rm_force_on_full_disk_keeps_vm_running() {
    let mut world = World::new();
    world.alive(RunState::Running);
    world.monitors.expect_execute().never();
    world.processes.expect_signal().never();
    let app = running(&mut world).await;

    let refused = app.run(Rm::new("web").force(true)).await.unwrap_err();

    assert!(matches!(refused, Error::Store(StoreError::Full { .. })), "{refused}");
    assert_eq!(app.run(Status::new("web")).await.unwrap().status, "running");
}
