//! Runs that another process ends while this one observes them.

use std::sync::Arc;

use futures_util::FutureExt;
use maqet_application::operation::{Ls, Start, Status, Wait};
use maqet_application::{App, Condition};
use maqet_domain::Timestamp;
use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::port::{Store, VmRepository};
use maqet_domain::qmp::RunState;
use maqet_domain::vm::{Phase, RunEnd, StateReason, StopReason};
use maqet_testkit::store::MemoryStore;

use crate::world::{World, launched};

/// Records that all runs were stopped by a signal of the host, as `stop --force` does.
fn record_stop(store: &MemoryStore) {
    let entries = store.list().now_or_never().expect("it is in memory").expect("it is not damaged");
    let mut changes = ChangeSet::default();
    for entry in entries {
        let Some(run) = entry.open_run() else { continue };
        let end = RunEnd { reason: StopReason::HostSignal, at: Some(Timestamp::UNIX_EPOCH) };
        let run = Some(run.at_phase(Phase::Ended(end)));
        changes.changes.push(Change::RunChanged { id: entry.id, expected: entry.revision, run });
    }
    store.commit(changes).now_or_never().expect("it is in memory").expect("no one else changes it");
}

/// Returns an application with a VM that is stopped after its entry was read, before its process is looked at.
async fn stopped_meanwhile() -> App {
    let mut world = World::new();
    world.hypervisor.expect_launch().returning(|_| Ok(launched(7, RunState::Running)));
    world.processes.expect_is_from_this_boot().returning(|_| true);
    let store = Arc::clone(&world.store);
    world.processes.expect_is_alive().returning(move |_| {
        record_stop(&store);
        false
    });
    let app = world.app();
    app.run(World::empty("web")).await.expect("the mocks agree");
    app.run(Start::new("web")).await.expect("the mocks agree");
    app
}

const STOPPED: Option<StateReason> = Some(StateReason::Ended(StopReason::HostSignal));

#[tokio::test]
async fn test_status_of_run_stopped_meanwhile_has_the_recorded_reason() {
    let app = stopped_meanwhile().await;

    let status = app.run(Status::new("web")).await.unwrap();

    assert_eq!((status.status, status.reason), ("stopped", STOPPED));
}

#[tokio::test]
async fn test_ls_of_run_stopped_meanwhile_has_the_recorded_reason() {
    let app = stopped_meanwhile().await;

    let listed = app.run(Ls::default()).await.unwrap();

    assert_eq!(listed.iter().map(|vm| vm.reason).collect::<Vec<_>>(), [STOPPED]);
}

#[tokio::test]
async fn test_wait_for_run_stopped_meanwhile_reports_no_crash() {
    let app = stopped_meanwhile().await;
    let stopped: Condition = "stopped".parse().unwrap();

    let waited = app.run(Wait::new("web", vec![stopped])).await.unwrap();

    assert_eq!(waited.vm.reason, STOPPED);
}
