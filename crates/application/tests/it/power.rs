//! Pausing, resuming and resetting VMs, with an in-memory store and a mocked world.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::world::{SentCommands, World, launched};
use maqet_application::operation::{Apply, Pause, Reset, Restart, Resume, Start, Status};
use maqet_application::{App, Error};
use maqet_domain::Explain;
use maqet_domain::qmp::{QmpError, RunState};
use maqet_domain::vm::MonitorAnswer;
use serde_json::json;

/// A world with a VM `web` whose monitor reports `state`; with the commands sent to QEMU.
async fn running(state: RunState) -> (App, SentCommands) {
    relapsing(state, None).await
}

/// The same, with a guest that is in the state `relapse` as soon as it is resumed.
async fn relapsing(state: RunState, relapse: Option<RunState>) -> (App, SentCommands) {
    let mut world = World::new();
    world.hypervisor.expect_launch().returning(move |_| Ok(launched(7, state)));
    world.processes.expect_wait_for_exit().returning(|_, _| true);
    world.guests_power_off();
    let sent = world.follows(state, relapse);
    let app = world.app();
    app.run(World::empty("web")).await.unwrap();
    app.run(Start::new("web")).await.unwrap();
    (app, sent)
}

fn take(sent: &SentCommands) -> Vec<String> {
    std::mem::take(&mut sent.lock().unwrap())
}

#[tokio::test]
async fn test_pause_running_vm_stops_cpus_and_paused_is_no_op() {
    let (runs, sent) = running(RunState::Running).await;
    let (stands, untold) = running(RunState::Paused).await;

    let paused = runs.run(Pause::new("web")).await.unwrap();
    let again = stands.run(Pause::new("web")).await.unwrap();

    assert_eq!((paused.changed, take(&sent)), (true, vec!["stop".to_owned()]));
    assert_eq!((again.changed, take(&untold)), (false, Vec::new()));
}

#[tokio::test]
async fn test_resume_partially_loaded_guest_is_refused() {
    let (app, sent) = running(RunState::RestoreVm).await;

    let refused = app.run(Resume::new("web")).await.unwrap_err();

    assert!(matches!(refused, Error::WrongState { .. }), "{refused}");
    assert_eq!(take(&sent), Vec::<String>::new());
}

#[tokio::test]
async fn test_resume_after_disk_error_retries() {
    let (app, sent) = running(RunState::IoError).await;

    let resumed = app.run(Resume::new("web")).await.unwrap();

    assert_eq!((resumed.changed, resumed.vm.status), (true, "running"));
    // The log says nothing about the disk, so that QEMU is asked.
    assert_eq!(take(&sent), ["query-block", "cont"]);
}

#[tokio::test(start_paused = true)]
async fn test_resume_that_fails_again_is_an_error() {
    let (app, _) = relapsing(RunState::IoError, Some(RunState::IoError)).await;

    let failed = app.run(Resume::new("web")).await.unwrap_err();

    assert_eq!(failed.code(), "vm.resume-failed");
    assert_eq!(failed.to_string(), "VM `web` is io-error (a disk failed) after `resume`");
    assert!(failed.hints()[0].contains("maqet resume web"), "{:?}", failed.hints());
}

#[tokio::test(start_paused = true)]
async fn test_resume_suspended_guest_is_woken_once() {
    let (suspended, sent) = running(RunState::Suspended).await;
    // As QEMU 10.0 does with a guest that was suspended and then paused.
    let (paused, sent_to_paused) = relapsing(RunState::Paused, Some(RunState::Suspended)).await;

    let woken = suspended.run(Resume::new("web")).await.unwrap();
    let resumed = paused.run(Resume::new("web")).await.unwrap();

    assert_eq!((woken.vm.status, take(&sent)), ("running", vec!["system_wakeup".to_owned()]));
    assert_eq!(resumed.vm.status, "running");
    assert_eq!(take(&sent_to_paused), ["cont", "system_wakeup"]);
}

#[tokio::test]
async fn test_pause_suspended_guest_is_refused_with_the_way() {
    let (app, sent) = running(RunState::Suspended).await;

    let refused = app.run(Pause::new("web")).await.unwrap_err();

    assert_eq!(refused.code(), "vm.status-conflict");
    assert_eq!(refused.hints(), ["wake it first with `maqet resume web`"]);
    assert_eq!(take(&sent), Vec::<String>::new());
}

#[tokio::test]
async fn test_reset_halted_guest_runs_and_paused_stays_paused() {
    let (watchdog, sent_to_watchdog) = running(RunState::Watchdog).await;
    let (panicked, sent) = running(RunState::GuestPanicked).await;
    let (paused, sent_to_paused) = running(RunState::Paused).await;

    panicked.run(Reset::new("web")).await.unwrap();
    watchdog.run(Reset::new("web")).await.unwrap();
    paused.run(Reset::new("web")).await.unwrap();

    assert_eq!(take(&sent), ["system_reset", "cont"]);
    assert_eq!(take(&sent_to_watchdog), ["system_reset", "cont"]);
    assert_eq!(take(&sent_to_paused), ["system_reset"]);
}

#[tokio::test]
async fn test_restart_running_vm_reports_stop_method() {
    let (app, sent) = running(RunState::Running).await;

    let restarted = app.run(Restart::new("web")).await.unwrap();

    assert_eq!((json!(restarted.method), restarted.vm.boot), (json!("power-down"), Some(2)));
    assert_eq!(take(&sent), ["system_powerdown"]);
}

#[tokio::test]
async fn test_restart_vm_unable_to_start_keeps_running() {
    let (app, sent) = running(RunState::Running).await;
    let cd = "storage=[{name: cd, type: iso, file: /no.iso}]";
    app.run(Apply::new("web").set(vec![cd.to_owned()])).await.unwrap();

    let refused = app.run(Restart::new("web").force(true)).await.unwrap_err();

    assert_eq!(refused.code(), "storage.not-found");
    assert_eq!(take(&sent), Vec::<String>::new());
    assert_eq!(app.run(Status::new("web")).await.unwrap().status, "running");
}

/// A VM `web` whose main loop is blocked as soon as it is sent a command.
async fn blocking(state: RunState) -> App {
    let mut world = World::new();
    world.hypervisor.expect_launch().returning(move |_| Ok(launched(7, state)));
    let is_blocked = Arc::new(AtomicBool::new(false));
    let blocked = Arc::clone(&is_blocked);
    world.processes.expect_is_alive().returning(|_| true);
    world.processes.expect_frozen().returning(|_| None);
    world.processes.expect_is_exiting().returning(|_| false);
    world.monitors.expect_answer().returning(move |_, _| {
        if blocked.load(Ordering::Relaxed) { MonitorAnswer::Blocked } else { MonitorAnswer::State(state) }
    });
    world.monitors.expect_execute().returning(move |_, command, after| {
        is_blocked.store(true, Ordering::Relaxed);
        Err(QmpError::TimedOut { command: command.execute.clone(), after })
    });
    let app = world.app();
    app.run(World::empty("web")).await.unwrap();
    app.run(Start::new("web")).await.unwrap();
    app
}

#[tokio::test]
async fn test_power_change_blocked_midway_names_the_main_loop() {
    let refusals = [
        blocking(RunState::Running).await.run(Pause::new("web")).await.unwrap_err(),
        blocking(RunState::Paused).await.run(Resume::new("web")).await.unwrap_err(),
        blocking(RunState::Running).await.run(Reset::new("web")).await.unwrap_err(),
    ];

    for refused in refusals {
        assert_eq!(refused.to_string(), "VM `web` is not responding: QEMU's main loop is blocked");
        assert!(refused.hints().iter().any(|hint| hint.contains("maqet stop --force web")), "{:?}", refused.hints());
    }
}
