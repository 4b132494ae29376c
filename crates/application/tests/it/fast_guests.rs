//! Guests that end QEMU before its monitor responds.

use maqet_domain::port::LaunchError;
use maqet_domain::vm::{ExitReport, Phase, RunEnd, StateDetails, StateReason, StopReason};

use crate::operations::{events, phase, start};
use crate::world::World;

#[tokio::test]
async fn test_start_guest_that_ends_qemu_first_is_a_run_that_ended() {
    let mut world = World::new();
    world.hypervisor.expect_launch().returning(|_| {
        let end = Some(RunEnd { reason: StopReason::TripleFault, at: None });
        let report = ExitReport { end, details: StateDetails::default() };
        Err(LaunchError::GuestEnded { report: report.into(), warnings: vec!["netdev n has no peer".to_owned()] })
    });
    let app = world.app();
    app.run(World::empty("web")).await.unwrap();

    let started = app.run(start("web")).await.unwrap();

    assert_eq!((started.vm.status, started.vm.pid, started.changed), ("stopped", None, true));
    assert_eq!(started.vm.reason, Some(StateReason::Ended(StopReason::TripleFault)));
    assert!(started.vm.stopped_at.is_some());
    assert_eq!(started.warnings, ["netdev n has no peer"]);
    assert!(matches!(phase(&world, "web").await, Some(Phase::Ended(end)) if end.reason == StopReason::TripleFault));
    assert_eq!(events(&world).await, ["vm.defined", "vm.started", "vm.stopped"]);
}
