//! Following events, with a QMP log that the test writes.

use std::sync::Arc;

use maqet_application::HumanDuration;
use maqet_application::operation::{Events, Start};
use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::event::{Event, kind};
use maqet_domain::port::{Chunk, VmRepository};
use maqet_domain::qmp::RunState;
use maqet_domain::vm::{BootNumber, Phase, RunEnd, StopReason};
use maqet_testkit::store::MemoryStore;
use serde_json::json;

use crate::world::{World, launched};

const SHUTDOWN: &str = concat!(
    r#"{"timestamp": {"seconds": 0, "microseconds": 0}, "event": "SHUTDOWN", "#,
    r#""data": {"guest": true, "reason": "guest-shutdown"}}"#,
    "\n"
);

/// A follower lists the VMs from time to time; the last events of a VM that ends in that moment are read too.
#[tokio::test]
async fn test_follow_ended_vm_reads_its_last_events() {
    let store = Arc::new(MemoryStore::default());
    let mut world = World::new();
    world.hypervisor.expect_launch().returning(|_| Ok(launched(7, RunState::Running)));
    world.alive(RunState::Running);
    world.records.expect_boots().returning(|_| vec![BootNumber(1)]);
    let seen = Arc::clone(&store);
    world.records.expect_read().returning(move |_, offset, _| {
        let text = if seen.is_commit_pending() { b"" } else { SHUTDOWN.as_bytes() };
        let bytes = text.get(usize::try_from(offset).unwrap()..).unwrap_or_default().to_vec();
        Ok(Chunk { offset, bytes, length: text.len() as u64 })
    });
    let app = world.app_with(Arc::clone(&store) as _);
    app.run(World::empty("web")).await.unwrap();
    app.run(Start::new("web")).await.unwrap();

    let entry = store.list().await.unwrap().remove(0);
    let ending = RunEnd { reason: StopReason::GuestShutdown, at: None };
    let run = entry.run.as_ref().map(|run| run.at_phase(Phase::Ended(ending)));
    let ended = Change::RunChanged { id: entry.id, expected: entry.revision, run };
    let event = Event {
        at: maqet_domain::Timestamp::UNIX_EPOCH,
        kind: kind::VM_STOPPED.to_owned(),
        vm: Some(entry.id),
        vm_name: Some(entry.name),
        data: json!({}),
    };
    let changes = ChangeSet { events: vec![event], ..ChangeSet::default().and(ended) };
    // The first read is that of the beginning, the second that of the new list.
    store.commit_before_read(2, changes);

    let follow = Events::of_vm("web").kind("qemu.*").wait("5s".parse::<HumanDuration>().ok());
    let page = app.run(follow).await.unwrap();

    let kinds: Vec<&str> = page.events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["qemu.SHUTDOWN"]);
}

/// A guest that resets in a loop: only requested events are held, and of those the newest.
#[tokio::test]
async fn test_events_over_limit_are_newest_with_omitted_count() {
    let line = |second: usize| {
        format!("{{\"timestamp\": {{\"seconds\": {second}, \"microseconds\": 0}}, \"event\": \"RESET\"}}\n")
    };
    let most = maqet_application::limits::MAX_EVENTS;
    let log: Vec<u8> = (1..=most * 2 + 3).flat_map(|second| line(second).into_bytes()).collect();
    let mut world = World::new();
    world.hypervisor.expect_launch().returning(|_| Ok(launched(7, RunState::Running)));
    world.alive(RunState::Running);
    world.records.expect_boots().returning(|_| vec![BootNumber(1)]);
    world.records.expect_read().returning(move |_, offset, limit| {
        let rest = log.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
        Ok(Chunk { offset, bytes: rest[..rest.len().min(limit)].to_vec(), length: log.len() as u64 })
    });
    let app = world.app();
    app.run(World::empty("web")).await.unwrap();
    app.run(Start::new("web")).await.unwrap();
    let of_kind = |kind: &str| Events::default().kind(kind.to_owned());

    let all = app.run(of_kind("qemu.*")).await.unwrap();
    let ours = app.run(of_kind("vm.*")).await.unwrap();

    assert_eq!((all.events.len(), all.omitted), (most, most as u64 + 3));
    assert_eq!(all.events.last().unwrap().at.as_second(), i64::try_from(most * 2 + 3).unwrap());
    assert_eq!((ours.events.len(), ours.omitted), (2, 0));
}
