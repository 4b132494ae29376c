//! `cleanup`, while others adopt or start what it found.

use std::sync::Arc;

use maqet_application::App;
use maqet_application::operation::{Cleaned, Cleanup};
use maqet_domain::Timestamp;
use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::port::{QemuInstance, StaleFile, StaleFileKind, VmRepository};
use maqet_domain::qmp::QmpError;
use maqet_domain::qmp::RunState;
use maqet_domain::vm::{BootNumber, Phase, Run, RunPaths, VmId};
use maqet_testkit::store::MemoryStore;

use crate::world::{World, process};

const ID: &str = "00000001-0000-4000-8000-000000000000";

fn id() -> VmId {
    ID.parse().unwrap()
}

fn paths() -> RunPaths {
    RunPaths { sockets: "/r/b1".into(), records: "/s/boot-1".into() }
}

fn orphan() -> QemuInstance {
    QemuInstance {
        process: process(7),
        short: id().short(),
        id: Some(id()),
        name: Some("web".to_owned()),
        boot: BootNumber(1),
        started_at: Timestamp::UNIX_EPOCH,
        paths: paths(),
        is_foreign: false,
    }
}

/// Pings of monitors fail; any other command fails the test.
fn only_asked(world: &mut World) {
    world
        .monitors
        .expect_execute()
        .withf(|_, command, _| command.execute.starts_with("query-"))
        .returning(|_, _, _| Err(QmpError::MonitorUnavailable { socket: "/r/b1".into(), source: "a test".into() }));
}

/// Runs a cleanup of a world with a VM `web` that has a run from the `read`th read on.
async fn cleaned(world: &mut World, read: u32, phase: Phase, cleanup: Cleanup) -> Cleaned {
    let store = Arc::new(MemoryStore::default());
    let app: App = world.app_with(Arc::clone(&store) as _);
    app.run(World::empty("web")).await.unwrap();
    let entry = store.list().await.unwrap().remove(0);
    let run = Run {
        boot: BootNumber(1),
        phase,
        process: Some(process(7)),
        started_at: Timestamp::UNIX_EPOCH,
        paths: paths(),
        forwards: Vec::new(),
    };
    let change = Change::RunChanged { id: entry.id, expected: entry.revision, run: Some(run) };
    store.commit_before_read(read, ChangeSet::default().and(change));
    app.run(cleanup).await.unwrap()
}

#[tokio::test]
async fn test_cleanup_orphan_adopted_meanwhile_is_not_killed() {
    let mut world = World::new();
    world.alive(RunState::Running);
    world.processes.expect_signal().never();
    only_asked(&mut world);
    world.stale_files.expect_files().returning(|_| Vec::new());
    world.stale_files.expect_instances().returning(|| vec![orphan()]);

    let cleaned = cleaned(&mut world, 1, Phase::Running, Cleanup::new().end_orphans(true)).await;

    assert_eq!(cleaned.items, []);
}

#[tokio::test]
async fn test_cleanup_orphan_adopted_meanwhile_is_not_adopted_twice() {
    let mut world = World::new();
    world.alive(RunState::Running);
    only_asked(&mut world);
    world.stale_files.expect_files().returning(|_| Vec::new());
    world.stale_files.expect_instances().returning(|| vec![orphan()]);

    let cleaned = cleaned(&mut world, 1, Phase::Running, Cleanup::new().adopt_orphans(true)).await;

    assert_eq!(cleaned.items, []);
}

/// A failed start is retried under the same number, with the same socket paths.
#[tokio::test]
async fn test_cleanup_sockets_of_retried_start_are_kept() {
    let mut world = World::new();
    world.alive(RunState::Running);
    world.stale_files.expect_remove().never();
    world.stale_files.expect_instances().returning(Vec::new);
    world.stale_files.expect_files().returning(|_| {
        let kind = StaleFileKind::Sockets { short: id().short(), boot: BootNumber(1) };
        vec![StaleFile { kind, path: "/r/b1".into(), is_foreign: false }]
    });

    let cleaned = cleaned(&mut world, 1, Phase::Starting, Cleanup::new()).await;

    assert_eq!(cleaned.items, []);
}
