//! `ls` of running and other VMs.

use maqet_application::operation::{Ls, SortKey};
use maqet_domain::qmp::RunState;

use crate::operations::start;
use crate::world::{World, launched};

#[tokio::test]
async fn test_ls_running_and_stopped_vms_are_sorted_together() {
    let mut world = World::new();
    world.alive(RunState::Running);
    world.hypervisor.expect_launch().returning(|_| Ok(launched(7, RunState::Running)));
    let app = world.app();
    for name in ["d", "a", "c", "b"] {
        app.run(World::empty(name)).await.unwrap();
    }
    app.run(start("b")).await.unwrap();
    app.run(start("d")).await.unwrap();
    let sorted = async |sort| {
        let listed = app.run(Ls::default().sort(sort)).await.unwrap();
        listed.iter().map(|vm| format!("{} {}", vm.name, vm.status)).collect::<Vec<_>>()
    };

    assert_eq!(sorted(SortKey::Name).await, ["a defined", "b running", "c defined", "d running"]);
    assert_eq!(sorted(SortKey::Status).await, ["a defined", "c defined", "b running", "d running"]);
}
