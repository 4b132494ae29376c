//! Recovery from killed operations, and fault points in every operation.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use maqet_application::Effect;
use maqet_application::operation::{Start, Status, Stop, table};
use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::port::{Store, VmRepository};
use maqet_domain::qmp::RunState;
use maqet_domain::vm::{BootNumber, MonitorAnswer, Phase, Run, RunPaths};
use maqet_domain::{Explain, Timestamp};
use maqet_fault_points::FaultPoint;
use maqet_testkit::{FAULT_POINTS, FAULT_POINTS_OF_HOSTS};
use serde_json::json;

use crate::world::{World, process};

#[test]
fn test_fault_points_cover_every_changing_operation() {
    let table = table().unwrap();
    let has = |wanted: FaultPoint| FAULT_POINTS.contains(&wanted) || FAULT_POINTS_OF_HOSTS.contains(&wanted);

    let without: Vec<&str> = table
        .names()
        .into_iter()
        .filter(|name| matches!(table.effect(name), Some(Effect::Changes | Effect::Notes)))
        .filter(|name| !has(FaultPoint::BeforeCommit(name)) || !has(FaultPoint::Committed(name)))
        .collect();

    assert_eq!(without, [""; 0], "name their steps in `FAULT_POINTS`, and add what runs them to the killing tests");
}

/// A world with a VM `web` whose start was killed `age` seconds ago, and whose QEMU is running; its monitor replies
/// after `silence` pings.
async fn half_way(world: &mut World, silence: u32, age: i64) -> maqet_application::App {
    world.hypervisor.expect_find_process().returning(|_| Some(process(7)));
    world.hypervisor.expect_finish_launch().returning(|_| ());
    world.processes.expect_is_alive().returning(|_| true);
    world.processes.expect_frozen().returning(|_| None);
    world.processes.expect_is_exiting().returning(|_| false);
    let looks = AtomicU32::new(0);
    world.monitors.expect_answer().returning(move |_, _| {
        let is_up = looks.fetch_add(1, Ordering::Relaxed) >= silence;
        if is_up { MonitorAnswer::State(RunState::Running) } else { MonitorAnswer::TimedOut }
    });
    let app = world.app();
    app.run(World::empty("web")).await.unwrap();

    let entry = world.store.list().await.unwrap().remove(0);
    let paths = RunPaths { sockets: "/r/b1".into(), records: "/s/boot-1".into() };
    let started_at = Timestamp::from_second(-age).unwrap();
    let run =
        Run { boot: BootNumber(1), phase: Phase::Starting, process: None, started_at, paths, forwards: Vec::new() };
    let change = Change::RunChanged { id: entry.id, expected: entry.revision, run: Some(run) };
    world.store.commit(ChangeSet::default().and(change)).await.unwrap();
    app
}

#[tokio::test]
async fn test_start_after_killed_start_waits_for_its_qemu() {
    let mut world = World::new();
    let app = half_way(&mut world, 1, 0).await;

    let started = app.run(Start::new("web")).await.unwrap();

    assert_eq!((started.vm.status, started.vm.pid, started.changed), ("running", Some(7), false));
    let run = world.store.list().await.unwrap().remove(0).run.unwrap();
    assert_eq!((run.phase, run.process), (Phase::Running, Some(process(7))));
}

#[tokio::test]
async fn test_start_after_killed_start_times_out_if_never_ready() {
    let mut world = World::new();
    let app = half_way(&mut world, u32::MAX, 120).await;

    let refused = app.run(Start::new("web").timeout("1ms".parse().ok())).await.unwrap_err();

    assert!(refused.to_string().contains("unreachable"), "{refused}");
}

#[tokio::test]
async fn test_start_cancelled_while_waiting_for_killed_start_returns() {
    let mut world = World::new();
    let app = half_way(&mut world, u32::MAX, 1).await;
    let cancel = async {
        while app.jobs().list().is_empty() {
            tokio::task::yield_now().await;
        }
        app.cancel_jobs().await;
    };

    let (outcome, ()) = futures_util::future::join(app.run(Start::new("web")), cancel).await;

    assert_eq!(outcome.unwrap_err().code(), "operation.interrupted");
}

/// A VM that was just started is not reported as unreachable.
#[tokio::test]
async fn test_status_after_killed_start_is_starting_then_unreachable() {
    for (age, expected) in [(1, "starting"), (59, "starting"), (61, "unreachable")] {
        let mut world = World::new();
        let app = half_way(&mut world, u32::MAX, age).await;

        let seen = app.run(Status::new("web")).await.unwrap();

        assert_eq!((seen.status, seen.pid), (expected, Some(7)), "after {age} s");
    }
}

/// The identity of a process in another PID namespace is unknown; a made-up one would be taken for that of another boot
/// of the host.
#[tokio::test(start_paused = true)]
async fn test_stop_hidden_process_never_recorded_stores_no_identity() {
    let mut world = World::new();
    let has_quit = Arc::new(AtomicBool::new(false));
    let quits = Arc::clone(&has_quit);
    world.hypervisor.expect_is_hidden().returning(move |_| !has_quit.load(Ordering::Relaxed));
    world.hypervisor.expect_find_process().returning(|_| None);
    world.monitors.expect_execute().returning(move |_, command, _| {
        quits.fetch_or(command.execute == "quit", Ordering::Relaxed);
        Ok(json!({}))
    });
    let app = half_way(&mut world, 0, 0).await;

    let stopped = app.run(Stop::new("web")).await.unwrap();

    assert_eq!(json!(stopped.method), "quit");
    let run = world.store.list().await.unwrap().remove(0).run.unwrap();
    assert!(matches!(run.phase, Phase::Ended(_)), "{:?}", run.phase);
    assert_eq!(run.process, None);
}
