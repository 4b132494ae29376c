//! Stopping a VM whose guest is off although its QEMU runs, with a mocked QEMU.

use std::sync::{Arc, Mutex};

use maqet_application::operation::{Start, Stop, Stopped};
use maqet_domain::qmp::RunState;
use maqet_domain::vm::{StateReason, StopReason};
use serde_json::json;

use crate::world::{World, launched};

/// Stops a VM whose guest has powered off in `state`, and returns the QMP commands.
///
/// `exits` is whether its process ends during each of the waits for that.
async fn stop(state: RunState, exits: &[bool]) -> (Stopped, Vec<String>) {
    let mut world = World::new();
    world.hypervisor.expect_launch().returning(|_| Ok(launched(7, RunState::Running)));
    world.guests_power_off();
    world.alive(state);
    let sent = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&sent);
    world.monitors.expect_execute().returning(move |_, command, _| {
        seen.lock().expect("no test panics with it").push(command.execute.clone());
        Ok(json!({}))
    });
    let mut exits = Vec::from(exits).into_iter();
    world.processes.expect_wait_for_exit().returning(move |_, _| exits.next().expect("no other waits"));
    world.processes.expect_signal().returning(|_, _| Ok(()));
    let app = world.app();
    app.run(World::empty("web")).await.expect("the mocks agree");
    app.run(Start::new("web")).await.expect("the mocks agree");

    let stopped = app.run(Stop::new("web")).await.expect("the mocks agree");

    let sent = sent.lock().expect("no test panics with it").clone();
    (stopped, sent)
}

#[tokio::test(start_paused = true)]
async fn test_stop_guest_off_when_time_is_up_is_a_power_down() {
    let (stopped, sent) = stop(RunState::Running, &[false, true]).await;

    assert_eq!(sent, ["system_powerdown", "quit"]);
    assert_eq!((json!(stopped.method), stopped.presses), (json!("power-down"), 1));
    assert_eq!(stopped.vm.reason, Some(StateReason::Ended(StopReason::GuestShutdown)));
}

/// The guest is not to blame for a QEMU that does not exit.
#[tokio::test(start_paused = true)]
async fn test_stop_qemu_hanging_after_power_off_is_no_power_cut() {
    let (stopped, _) = stop(RunState::Running, &[false, false, true]).await;

    assert_eq!((json!(stopped.method), stopped.presses), (json!("sigterm"), 1));
    assert_eq!(stopped.power_cut_after_ms, None);
    assert_eq!(stopped.vm.reason, Some(StateReason::Ended(StopReason::GuestShutdown)));
}

#[tokio::test(start_paused = true)]
async fn test_stop_guest_off_before_is_quit_at_once() {
    let (stopped, sent) = stop(RunState::Shutdown, &[true, true]).await;

    assert_eq!(sent, ["quit"]);
    assert_eq!((json!(stopped.method), stopped.presses), (json!("quit"), 0));
    assert_eq!(stopped.vm.reason, Some(StateReason::Ended(StopReason::GuestShutdown)));
}
