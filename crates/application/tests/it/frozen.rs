//! Guests that a process left frozen which was killed.

use std::sync::Arc;

use crate::world::{SentCommands, World, launched};
use maqet_application::operation::{Pause, Reset, Restart, Resume, Start};
use maqet_application::{App, Error};
use maqet_domain::Explain;
use maqet_domain::Timestamp;
use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::port::{AgentError, MockAgentSession, MockMonitorSession, Store, VmRepository};
use maqet_domain::qmp::RunState;
use maqet_domain::vm::{Pending, PendingWork};
use maqet_testkit::store::MemoryStore;
use serde_json::json;

/// A running VM `web` with an unfinished snapshot for which its guest was frozen; `failures` is how often its agent does not
/// answer at first.
async fn frozen(failures: u32) -> (App, Arc<MemoryStore>, SentCommands) {
    let mut world = World::new();
    world.hypervisor.expect_launch().returning(|_| Ok(launched(7, RunState::Running)));
    world.processes.expect_wait_for_exit().returning(|_, _| true);
    world.guests_power_off();
    let sent = world.follows(RunState::Running, None);
    world.monitors.expect_session().returning(|_, _| {
        let mut session = MockMonitorSession::new();
        session.expect_execute().returning(|_, _| Ok(json!([])));
        Ok(Box::new(session))
    });
    let (mut left, log) = (failures, Arc::clone(&sent));
    world.agents.expect_session().returning(move |_, _| {
        if left > 0 {
            left -= 1;
            return Err(AgentError::Busy);
        }
        let mut session = MockAgentSession::new();
        let log = Arc::clone(&log);
        session.expect_execute().returning(move |command, _, _| {
            log.lock().unwrap().push(command.execute.to_owned());
            Ok(if command.execute == "guest-exec" { json!({ "pid": 7 }) } else { json!("frozen") })
        });
        Ok(Box::new(session))
    });
    let (app, store) = (world.app(), Arc::clone(&world.store));
    app.run(World::empty("web")).await.unwrap();
    app.run(Start::new("web")).await.unwrap();
    let entry = store.list().await.unwrap().remove(0);
    let work = PendingWork::SnapshotCreate { created: Vec::new(), live: true, quiesced: true };
    let pending = Pending { operation: "snapshot.create".to_owned(), since: Timestamp::UNIX_EPOCH, work };
    let pending = Some(Box::new(pending));
    let change = Change::PendingChanged { id: entry.id, expected: entry.revision, pending };
    store.commit(ChangeSet::default().and(change)).await.unwrap();
    sent.lock().unwrap().clear();
    (app, store, sent)
}

/// Returns whether work is pending.
async fn is_pending(store: &MemoryStore) -> bool {
    store.list().await.unwrap()[0].pending.is_some()
}

fn take(sent: &SentCommands) -> Vec<String> {
    std::mem::take(&mut sent.lock().unwrap())
}

#[tokio::test(start_paused = true)]
async fn test_guest_with_a_busy_agent_is_thawed_later() {
    let (app, store, sent) = frozen(3).await;

    app.run(Pause::new("web")).await.unwrap();

    assert_eq!(take(&sent), ["guest-fsfreeze-status", "guest-fsfreeze-thaw", "guest-exec", "stop"]);
    assert!(!is_pending(&store).await);
}

#[tokio::test(start_paused = true)]
async fn test_work_of_a_guest_that_is_not_thawed_stays_pending() {
    let (app, store, sent) = frozen(u32::MAX).await;

    let refused: Error = app.run(Pause::new("web")).await.unwrap_err();

    assert_eq!(refused.code(), "vm.recovery-failed");
    assert!(refused.hints().iter().any(|hint| hint.contains("maqet reset web")), "{:?}", refused.hints());
    assert_eq!((take(&sent), is_pending(&store).await), (Vec::new(), true));
    // One that is paused cannot be thawed before it runs.
    app.run(Resume::new("web")).await.unwrap();
    assert!(is_pending(&store).await);
}

#[tokio::test(start_paused = true)]
async fn test_frozen_guest_is_reset_and_restarted() {
    let (app, store, sent) = frozen(u32::MAX).await;
    let (other, other_store, other_sent) = frozen(u32::MAX).await;

    app.run(Reset::new("web")).await.unwrap();
    other.run(Restart::new("web")).await.unwrap();

    assert_eq!((take(&sent), is_pending(&store).await), (vec!["system_reset".to_owned()], false));
    assert_eq!((take(&other_sent), is_pending(&other_store).await), (vec!["system_powerdown".to_owned()], false));
}
