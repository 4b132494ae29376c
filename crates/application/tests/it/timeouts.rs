//! Operations use the timeouts of the settings.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use maqet_application::operation::{QmpRun, Start, Stop};
use maqet_application::{AppSettings, Timeouts};
use maqet_domain::qmp::RunState;
use maqet_domain::qmp::Schema;
use serde_json::json;

use crate::world::{World, launched};

const TIMEOUTS: Timeouts = Timeouts {
    start: Duration::from_secs(101),
    power_down: Duration::from_secs(102),
    quit: Duration::from_secs(103),
    term: Duration::from_secs(104),
    kill: Duration::from_secs(105),
    lock: Duration::from_secs(106),
    qmp: Duration::from_secs(107),
    freeze: Duration::from_secs(110),
    hook: Duration::from_secs(108),
    wait: Duration::from_secs(109),
};

/// The schema of a QEMU that only has `query-status`.
fn queries() -> Schema {
    let sent = json!([
        { "name": "query-status", "meta-type": "command", "arg-type": "0", "ret-type": "0" },
        { "name": "0", "meta-type": "object", "members": [] },
    ]);
    Schema::from_reply(&sent).unwrap()
}

#[tokio::test]
async fn test_timeouts_of_settings_apply_to_start_qmp_and_stop() {
    let mut world = World::new();
    let seen: Arc<Mutex<Vec<(String, u64)>>> = Arc::default();
    let noting = || {
        let seen = Arc::clone(&seen);
        // The remaining time is a little less than the timeout.
        let seconds = |time: Duration| (time + Duration::from_millis(500)).as_secs();
        move |what: &str, time: Duration| seen.lock().unwrap().push((what.to_owned(), seconds(time)))
    };
    let note = noting();
    world.hypervisor.expect_launch().returning(move |launch| {
        note("launch", launch.timeout);
        Ok(launched(7, RunState::Running))
    });
    let note = noting();
    world.monitors.expect_execute().returning(move |_, command, deadline| {
        note(&command.execute, deadline);
        Ok(json!({}))
    });
    let note = noting();
    let mut methods = [("power-down", false), ("quit", false), ("term", false), ("kill", true)].into_iter();
    world.processes.expect_wait_for_exit().returning(move |_, timeout| {
        let (method, is_gone) = methods.next().unwrap();
        note(method, timeout);
        is_gone
    });
    world.processes.expect_signal().returning(|_, _| Ok(()));
    world.schemas.expect_get().returning(|_| Some(queries()));
    world.alive(RunState::Running);
    let app = world.app().with_settings(AppSettings { timeouts: TIMEOUTS, ..AppSettings::default() });
    app.run(World::empty("web")).await.unwrap();

    app.run(Start::new("web")).await.unwrap();
    let query = json!({ "vm": "web", "command": "query-status" });
    app.run(serde_json::from_value::<QmpRun>(query).unwrap()).await.unwrap();
    app.run(Stop::new("web")).await.unwrap();

    let mut seen = std::mem::take(&mut *seen.lock().unwrap());
    // The request and the wait for its effect begin together.
    seen.sort_by_key(|(_, time)| *time);
    let sent: Vec<(&str, u64)> = seen.iter().map(|(what, time)| (what.as_str(), *time)).collect();
    let methods = [("power-down", 102), ("quit", 103), ("term", 104), ("kill", 105)];
    assert!(methods.iter().all(|method| sent.contains(method)), "{sent:?}");
    // The button is pressed again, so a press has the short time of a query.
    let expected = [("launch", 101), ("system_powerdown", 2), ("query-status", 107)];
    assert!(expected.iter().all(|expected| sent.contains(expected)), "{sent:?}");
}
