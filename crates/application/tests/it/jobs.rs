//! Canceling operations that wait for a guest, with an in-memory store and a mocked QEMU.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join;
use maqet_application::operation::{QmpBalloon, QmpDeviceDel, QmpEject, QmpInsert, QmpType, Start, Wait};
use maqet_application::{App, Error, Operation, ProgressUnit};
use maqet_domain::Explain;
use maqet_domain::port::{MainLoop, MonitorSession, PassedFor, SessionEvent};
use maqet_domain::qmp::{QmpCommand, QmpError, RunState};
use serde_json::{Value, json};

use crate::world::{World, launched};

/// A session with the VM, whose guest reacts to nothing.
struct IdleGuest;

#[async_trait]
impl MonitorSession for IdleGuest {
    async fn execute(&mut self, _: &QmpCommand, _: Duration) -> Result<Value, QmpError> {
        Ok(json!({ "status": "running" }))
    }

    async fn execute_with_file(
        &mut self,
        _: &QmpCommand,
        _: &Path,
        _: PassedFor,
        _: Duration,
    ) -> Result<Value, QmpError> {
        unreachable!("not called")
    }

    async fn next_event(&mut self, _: Duration) -> Result<Option<SessionEvent>, QmpError> {
        std::future::pending().await
    }

    async fn main_loop(&mut self, _: Duration) -> MainLoop {
        unreachable!("not called")
    }
}

fn answer(command: &QmpCommand) -> Value {
    match command.execute.as_str() {
        "query-memory-size-summary" => json!({ "base-memory": 256 << 20 }),
        "query-balloon" => json!({ "actual": 256 << 20 }),
        "query-block" => {
            json!([{ "device": "cd", "qdev": "cd", "removable": true, "tray_open": false, "locked": true }])
        }
        "qom-list" => json!([{ "name": "disk", "type": "child<virtio-blk-pci>" }]),
        _ => json!({}),
    }
}

/// A running VM `web`, whose guest reacts to nothing.
async fn idle() -> App {
    let mut world = World::new();
    world.monitors.expect_session().returning(|_, _| Ok(Box::new(IdleGuest)));
    world.monitors.expect_execute().returning(|_, command, _| Ok(answer(command)));
    world.processes.expect_args().returning(|_| Vec::new());
    world.hypervisor.expect_launch().returning(|_| Ok(launched(7, RunState::Running)));
    world.alive(RunState::Running);
    world.there.push("/d/cd.iso".into());
    let app = world.app();
    app.run(World::empty("web")).await.unwrap();
    app.run(Start::new("web")).await.unwrap();
    app
}

/// Cancels all jobs once the operation has one.
async fn cancelled<O: Operation>(app: &App, operation: O) -> Result<O::Output, Error> {
    let cancel = async {
        while app.jobs().list().is_empty() {
            tokio::task::yield_now().await;
        }
        app.cancel_jobs().await;
    };
    join(app.run(operation), cancel).await.0
}

#[track_caller]
fn assert_cancelled<T: std::fmt::Debug>(outcome: Result<T, Error>) {
    let error = outcome.unwrap_err();
    assert_eq!((error.code(), error.to_string().as_str()), ("operation.interrupted", "operation on VM `web` canceled"));
}

fn wait_for(condition: &str) -> Wait {
    Wait::new("web", vec![condition.parse().unwrap()])
}

#[tokio::test]
async fn test_cancelled_operations_return_and_the_next_one_runs() {
    let app = idle().await;

    assert_cancelled(cancelled(&app, wait_for("status=stopped")).await);
    assert_cancelled(cancelled(&app, QmpType::new("web", "a").delay("1s".parse().ok())).await);
    assert_cancelled(cancelled(&app, QmpBalloon::new("web").size("128M".to_owned())).await);
    assert_cancelled(cancelled(&app, QmpEject::new("web", "cd")).await);
    assert_cancelled(cancelled(&app, QmpInsert::new("web", "cd", "/d/cd.iso").file_format("raw".to_owned())).await);
    assert_cancelled(cancelled(&app, QmpDeviceDel::new("web", "disk")).await);

    assert_eq!(app.jobs().list(), []);
    assert_eq!(app.run(wait_for("status=running")).await.unwrap().met.len(), 1);
}

#[tokio::test]
async fn test_balloon_and_wait_report_done_and_total() {
    let app = idle().await;
    let mut progress = app.watch_progress();
    let both = vec!["stopped".parse().unwrap(), "status=running".parse().unwrap()];

    assert_cancelled(cancelled(&app, QmpBalloon::new("web").size("128M".to_owned())).await);
    assert_cancelled(cancelled(&app, Wait::new("web", both)).await);

    let (balloon, wait) = (progress.next().await.unwrap(), progress.next().await.unwrap());
    assert_eq!((balloon.job.operation, balloon.unit), ("qmp.balloon", ProgressUnit::Bytes));
    assert_eq!((balloon.done, balloon.total), (0, Some(128 << 20)));
    assert_eq!((wait.job.operation, wait.unit), ("wait", ProgressUnit::Conditions));
    assert_eq!((wait.done, wait.total), (1, Some(2)));
}
