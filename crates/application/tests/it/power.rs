//! Pausing, resuming and resetting VMs, with an in-memory store and a mocked world.

use std::sync::{Arc, Mutex};

use crate::world::{World, launched};
use maqet_application::operation::{Apply, Pause, Reset, Restart, Resume, Start, Status};
use maqet_application::{App, Error};
use maqet_domain::Explain;
use maqet_domain::qmp::RunState;
use serde_json::json;

type SentCommands = Arc<Mutex<Vec<String>>>;

/// A world with a VM `web` whose monitor reports `state`; with the commands sent to QEMU.
async fn running(state: RunState) -> (App, SentCommands) {
    let mut world = World::new();
    let sent = SentCommands::default();
    let log = Arc::clone(&sent);
    world.monitors.expect_execute().returning(move |_, command, _| {
        log.lock().unwrap().push(command.execute.clone());
        Ok(json!({}))
    });
    world.hypervisor.expect_launch().returning(move |_| Ok(launched(7, state)));
    world.processes.expect_wait_for_exit().returning(|_, _| true);
    world.guests_power_off();
    world.alive(state);
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

    app.run(Resume::new("web")).await.unwrap();

    assert_eq!(take(&sent), ["cont"]);
}

#[tokio::test]
async fn test_reset_panicked_guest_runs_and_paused_stays_paused() {
    let (panicked, sent) = running(RunState::GuestPanicked).await;
    let (paused, sent_to_paused) = running(RunState::Paused).await;

    panicked.run(Reset::new("web")).await.unwrap();
    paused.run(Reset::new("web")).await.unwrap();

    assert_eq!(take(&sent), ["system_reset", "cont"]);
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
