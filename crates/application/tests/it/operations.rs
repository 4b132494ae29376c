//! The operations against an in-memory store and a mocked world.

use std::sync::Arc;

use futures_util::FutureExt;
use maqet_application::operation::{Add, Apply, ConfigSchema, Ls, Rm, SnapshotCreate, Start, Status, Stop, table};
use maqet_application::{Error, HumanDuration};
use maqet_domain::history::HistoryQuery;
use maqet_domain::port::{EventLog, HistoryLog, LaunchError, Signal, VmRepository};
use maqet_domain::qmp::QmpError;
use maqet_domain::qmp::RunState;
use maqet_domain::registry::DuplicateName;
use maqet_domain::vm::{MonitorAnswer, Phase, StateReason, StopReason, VmName};
use maqet_domain::{Explain, Fault};
use serde_json::json;

use crate::world::{World, launched};

pub(crate) fn start(vm: &str) -> Start {
    Start::new(vm)
}

fn stop(vm: &str) -> Stop {
    Stop::new(vm)
}

pub(crate) async fn phase(world: &World, name: &str) -> Option<Phase> {
    let name = VmName::parse(name).expect("it is a name");
    let vm = world.store.by_name(&name).await.expect("the store is in memory").expect("the VM is there");
    vm.entry.run.map(|run| run.phase)
}

pub(crate) async fn events(world: &World) -> Vec<String> {
    world
        .store
        .events_after(0, 100)
        .await
        .expect("the store is in memory")
        .into_iter()
        .map(|recorded| recorded.event.kind)
        .collect()
}

#[tokio::test]
async fn test_add_records_event_and_history_with_inverse() {
    let mut world = World::new();

    let added = world.app().run(World::yaml("name: web\nmemory: 1G\n")).await.unwrap();

    let history = world.store.history(&HistoryQuery::newest(10)).await.unwrap();
    assert_eq!(history[0].entry.call.operation, "add");
    assert_eq!(history[0].entry.call.arguments.get("documents"), None, "a definition may hold secrets");
    let inverse = history[0].entry.inverse.clone().unwrap();
    assert_eq!((inverse.operation.as_str(), &inverse.arguments["vm"]), ("rm", &json!(added.id)));
    assert_eq!(events(&world).await, ["vm.defined"]);
}

#[tokio::test]
async fn test_rm_inverse_defines_the_same_vm() {
    let mut world = World::new();
    let app = world.app();
    app.run(World::yaml("name: web\nmemory: 1G\n")).await.unwrap();
    let before = world.store.by_name(&VmName::parse("web").unwrap()).await.unwrap().unwrap();

    app.run(Rm::new("web")).await.unwrap();
    let inverse = world.store.history(&HistoryQuery::newest(1)).await.unwrap()[0].entry.inverse.clone().unwrap();
    table().unwrap().call(&app, &inverse.operation, inverse.arguments).await.unwrap();

    let after = world.store.by_name(&VmName::parse("web").unwrap()).await.unwrap().unwrap();
    assert_eq!(before.definition, after.definition);
}

#[tokio::test]
async fn test_rm_reports_kept_uefi_variables() {
    let mut world = World::new();
    world.images.expect_exists().returning(|path| path.ends_with("uefi-vars.qcow2"));
    let app = world.app();
    app.run(World::yaml("name: web\nfirmware: uefi\n")).await.unwrap();

    let removed = app.run(Rm::new("web")).await.unwrap();

    assert_eq!(removed.kept_storage, ["/d/storage/web/uefi-vars.qcow2"]);
}

#[tokio::test]
async fn test_start_commits_intent_before_spawning_qemu() {
    let mut world = World::new();
    let store = world.store.clone();
    world.hypervisor.expect_launch().times(1).returning(move |_| {
        let seen = store.list().now_or_never().unwrap().unwrap()[0].run.clone().map(|run| run.phase);
        assert_eq!(seen, Some(Phase::Starting));
        Ok(launched(7, RunState::Running))
    });
    world.alive(RunState::Running);
    let app = world.app();
    app.run(World::empty("web")).await.unwrap();

    let started = app.run(start("web")).await.unwrap();

    assert_eq!((started.vm.status, started.vm.pid, started.changed), ("running", Some(7), true));
    assert_eq!(phase(&world, "web").await, Some(Phase::Running));
    assert_eq!(events(&world).await, ["vm.defined", "vm.started"]);
}

#[tokio::test]
async fn test_start_refused_by_qemu_keeps_vm_unchanged() {
    let mut world = World::new();
    world.hypervisor.expect_launch().returning(|_| {
        Err(LaunchError::Exited { status: "exit code 1".to_owned(), stderr_tail: "no such option".to_owned() })
    });
    let app = world.app();
    app.run(World::empty("web")).await.unwrap();

    let error = app.run(start("web")).await.unwrap_err();

    assert_eq!((error.code(), error.fault()), ("vm.start-failed", Fault::Failed));
    assert_eq!(phase(&world, "web").await, None);
    assert_eq!(events(&world).await, ["vm.defined", "vm.start-failed"]);
}

#[tokio::test]
async fn test_start_running_vm_changes_nothing() {
    let mut world = World::new();
    world.hypervisor.expect_launch().times(1).returning(|_| Ok(launched(7, RunState::Running)));
    world.alive(RunState::Running);
    let app = world.app();
    app.run(World::empty("web")).await.unwrap();
    app.run(start("web")).await.unwrap();

    let again = app.run(start("web")).await.unwrap();

    assert!(!again.changed);
}

#[tokio::test]
async fn test_start_missing_disk_is_reported_before_spawning() {
    let mut world = World::new();
    let app = world.app();
    app.run(World::yaml("name: web\nstorage: [{name: hdd, file: /no/disk}]\n")).await.unwrap();

    let error = app.run(start("web")).await.unwrap_err();

    assert_eq!(error.explain().code, "storage.not-found", "{error}");
    assert_eq!(phase(&world, "web").await, None);
}

/// A world with a running VM `web`; its monitor reports `state`.
async fn running(world: &mut World, state: RunState) -> maqet_application::App {
    world.hypervisor.expect_launch().returning(move |_| Ok(launched(7, state)));
    world.alive(state);
    let app = world.app();
    app.run(World::empty("web")).await.expect("the mocks agree");
    app.run(start("web")).await.expect("the mocks agree");
    app
}

#[tokio::test]
async fn test_stop_guest_obeying_power_button_needs_nothing_else() {
    let mut world = World::new();
    world
        .monitors
        .expect_execute()
        .withf(|_, command, _| command.execute == "system_powerdown")
        .times(1)
        .returning(|_, _, _| Ok(json!({})));
    world.processes.expect_wait_for_exit().times(1).returning(|_, _| true);
    world.guests_power_off();
    let app = running(&mut world, RunState::Running).await;

    let stopped = app.run(stop("web")).await.unwrap();

    assert_eq!(json!(stopped.method), "power-down");
    assert!(matches!(phase(&world, "web").await, Some(Phase::Ended(_))));
}

#[tokio::test]
async fn test_stop_process_gone_without_event_is_crashed() {
    let mut world = World::new();
    world.monitors.expect_execute().returning(|_, _, _| Ok(json!({})));
    world.processes.expect_wait_for_exit().returning(|_, _| true);
    let app = running(&mut world, RunState::Running).await;

    let stopped = app.run(stop("web")).await.unwrap();

    assert_eq!(
        (json!(stopped.method), stopped.vm.reason),
        (json!("unobserved"), Some(StateReason::Ended(StopReason::Crashed)))
    );
}

#[tokio::test]
async fn test_stop_paused_guest_is_quit_at_once() {
    let mut world = World::new();
    world
        .monitors
        .expect_execute()
        .withf(|_, command, _| command.execute == "quit")
        .times(1)
        .returning(|_, _, _| Err(QmpError::ConnectionClosed { command: "quit".to_owned() }));
    world.processes.expect_wait_for_exit().times(1).returning(|_, _| true);
    let app = running(&mut world, RunState::Paused).await;

    let stopped = app.run(stop("web")).await.unwrap();

    assert_eq!(json!(stopped.method), "quit");
}

#[tokio::test]
async fn test_stop_guest_ignoring_everything_is_killed() {
    let mut world = World::new();
    world.monitors.expect_execute().times(2).returning(|_, _, _| Ok(json!({})));
    let mut waits = [false, false, false, true].into_iter();
    world.processes.expect_wait_for_exit().times(4).returning(move |_, _| waits.next().unwrap());
    world.processes.expect_signal().withf(|_, signal| *signal == Signal::Term).times(1).returning(|_, _| Ok(()));
    world.processes.expect_signal().withf(|_, signal| *signal == Signal::Kill).times(1).returning(|_, _| Ok(()));
    let app = running(&mut world, RunState::Running).await;

    let stopped = app.run(stop("web")).await.unwrap();

    assert_eq!(
        (json!(stopped.method), stopped.vm.reason),
        (json!("sigkill"), Some(StateReason::Ended(StopReason::HostSignal)))
    );
}

#[tokio::test]
async fn test_stop_failing_to_kill_is_an_error() {
    let mut world = World::new();
    world.processes.expect_signal().returning(|_, _| Ok(()));
    world.processes.expect_wait_for_exit().returning(|_, _| false);
    let app = running(&mut world, RunState::Running).await;

    let error = app.run(stop("web").force(true)).await.unwrap_err();

    assert!(matches!(error, Error::KillFailed { pid: 7, .. }), "{error}");
    // The recorded stop was interrupted, so the VM is running.
    assert_eq!(phase(&world, "web").await, Some(Phase::Stopping));
    assert_eq!(app.run(Status::new("web")).await.unwrap().status, "running");
}

#[tokio::test]
async fn test_stop_force_signals_before_using_the_store() {
    let mut world = World::new();
    let store = Arc::clone(&world.store);
    let was_running = move || {
        let vms = store.list().now_or_never().expect("the store is in memory").expect("it can be read");
        vms[0].run.as_ref().is_some_and(|run| run.phase == Phase::Running)
    };
    world.processes.expect_signal().withf(move |_, _| was_running()).times(1).returning(|_, _| Ok(()));
    world.processes.expect_wait_for_exit().returning(|_, _| true);
    let app = running(&mut world, RunState::Running).await;

    let stopped = app.run(stop("web").force(true)).await.unwrap();

    assert_eq!(
        (json!(stopped.method), stopped.vm.reason),
        (json!("sigkill"), Some(StateReason::Ended(StopReason::HostSignal)))
    );
}

#[tokio::test]
async fn test_rm_running_vm_is_refused_without_force() {
    let mut world = World::new();
    let app = running(&mut world, RunState::Running).await;

    let error = app.run(Rm::new("web")).await.unwrap_err();

    assert_eq!((error.code(), error.fault()), ("vm.status-conflict", Fault::State));
    assert!(error.hints()[0].contains("maqet stop web"));
}

#[tokio::test]
async fn test_snapshot_running_vm_is_refused() {
    let mut world = World::new();
    world.hypervisor.expect_launch().returning(|_| Ok(launched(7, RunState::Running)));
    world.alive(RunState::Running);
    world.images.expect_create().returning(|_| Ok(()));
    let app = world.app();
    app.run(World::yaml("name: web\nstorage: [{name: hdd, size: 1M}]\n")).await.unwrap();
    app.run(start("web")).await.unwrap();

    let create = SnapshotCreate::new("web", "hdd", "clean");
    let error = app.run(create).await.unwrap_err();

    assert_eq!(error.code(), "snapshot.live-required");
}

#[tokio::test]
async fn test_status_unresponsive_monitor_is_unreachable() {
    let mut world = World::new();
    world.hypervisor.expect_launch().returning(|_| Ok(launched(7, RunState::Running)));
    world.answers(MonitorAnswer::TimedOut);
    let app = world.app();
    app.run(World::empty("web")).await.unwrap();
    app.run(start("web")).await.unwrap();

    let status = app.run(Status::new("web")).await.unwrap();

    assert_eq!((status.status, status.pid), ("unreachable", Some(7)));
}

#[tokio::test]
async fn test_vm_unknown_suggests_similar_names() {
    let mut world = World::new();
    let app = world.app();
    app.run(World::empty("web")).await.unwrap();

    let error = app.run(Status::new("wbe")).await.unwrap_err();

    assert_eq!((error.fault(), error.hints()), (Fault::NotFound, vec!["did you mean `web`?".to_owned()]));
}

#[tokio::test]
async fn test_call_unknown_operation_or_argument_is_refused() {
    let mut world = World::new();
    let app = world.app();

    let operation = table().unwrap().call(&app, "strat", json!({})).await.unwrap_err();
    let argument = table().unwrap().call(&app, "start", json!({"vm": "web", "tiemout": "1s"})).await.unwrap_err();

    assert!(operation.hints()[0].starts_with("did you mean `start`"), "{operation:?}");
    assert_eq!(argument.code(), "operation.arguments-invalid");
}

#[tokio::test]
async fn test_call_by_name_equals_typed_call() {
    let mut world = World::new();
    let app = world.app();

    table().unwrap().call(&app, "add", json!({"empty": true, "name": "web"})).await.unwrap();

    let listed = app.run(Ls::default()).await.unwrap();
    assert_eq!(listed[0].name, "web");
}

#[test]
fn test_register_operation_of_same_name_is_an_error() {
    let refused = table().unwrap().register::<Ls>();

    assert_eq!(refused, Err(DuplicateName { kind: "operation", name: "ls".to_owned() }));
}

#[test]
fn test_operation_arguments_round_trip_json() {
    let start = Start::new("web").timeout("90s".parse::<HumanDuration>().unwrap());
    let add = Add::empty().name("web");

    let start_again: Start = serde_json::from_value(serde_json::to_value(&start).unwrap()).unwrap();
    let add_again: Add = serde_json::from_value(serde_json::to_value(&add).unwrap()).unwrap();

    assert_eq!((start_again, add_again), (start, add));
}

#[tokio::test]
async fn test_apply_file_replaces_the_definition() {
    let mut world = World::new();
    let app = world.app();
    app.run(World::yaml("name: web\nmemory: 1G\nvga: std\n")).await.unwrap();
    let documents = World::yaml("memory: 2G\ncpu: 2\n").documents;

    let applied = app.run(Apply::new("web").documents(documents)).await.unwrap();

    let paths: Vec<&str> = applied.differences.iter().map(|one| one.difference.path.as_str()).collect();
    assert_eq!((applied.changed, paths), (true, vec!["memory", "vga", "cpu"]));
    let vm = world.store.by_name(&VmName::parse("web").unwrap()).await.unwrap().unwrap();
    assert_eq!(serde_json::to_value(&vm.definition).unwrap(), json!({"memory": "2G", "cpu": 2}));
    assert_eq!(vm.origins["memory"], "vm.yaml:1:9");
}

#[tokio::test]
async fn test_apply_flag_changes_only_its_value() {
    let mut world = World::new();
    let app = world.app();
    app.run(World::yaml("name: web\nmemory: 1G\nstorage: [{name: hdd, size: 1G}]\n")).await.unwrap();

    let set = vec!["storage.hdd.size=2G".to_owned()];
    app.run(Apply::new("web").set(set)).await.unwrap();

    let vm = world.store.by_name(&VmName::parse("web").unwrap()).await.unwrap().unwrap();
    let expected = json!({"memory": "1G", "storage": [{"name": "hdd", "size": "2G"}]});
    assert_eq!(serde_json::to_value(&vm.definition).unwrap(), expected);
    assert_eq!(vm.origins["memory"], "vm.yaml:2:9");
    assert_eq!(vm.origins["storage[0].size"], "option `--set storage.hdd.size`");
}

#[tokio::test]
async fn test_apply_dry_run_changes_and_records_nothing() {
    let mut world = World::new();
    let app = world.app();
    app.run(World::yaml("name: web\nmemory: 1G\n")).await.unwrap();

    let applied = app.run(Apply::new("web").memory("2G").dry_run(true)).await.unwrap();

    assert_eq!((applied.changed, applied.differences.len()), (false, 1));
    assert_eq!(world.store.history(&HistoryQuery::newest(10)).await.unwrap().len(), 1);
}

#[tokio::test]
async fn test_apply_running_vm_takes_effect_at_next_start() {
    let mut world = World::new();
    let app = running(&mut world, RunState::Running).await;

    let set = vec!["labels.team=a".to_owned(), "memory=1G".to_owned()];
    let applied = app.run(Apply::new("web").set(set)).await.unwrap();

    let waits: Vec<serde_json::Value> = applied.differences.iter().map(|one| json!(one.takes_effect)).collect();
    assert_eq!(waits, [json!("now"), json!("next-start")]);
}

#[tokio::test]
async fn test_apply_inverse_restores_the_definition() {
    let mut world = World::new();
    let app = world.app();
    app.run(World::yaml("name: web\nmemory: 1G\n")).await.unwrap();
    let before = world.store.by_name(&VmName::parse("web").unwrap()).await.unwrap().unwrap();
    app.run(Apply::new("web").memory("2G")).await.unwrap();

    let inverse = world.store.history(&HistoryQuery::newest(1)).await.unwrap()[0].entry.inverse.clone().unwrap();
    table().unwrap().call(&app, &inverse.operation, inverse.arguments).await.unwrap();

    let after = world.store.by_name(&VmName::parse("web").unwrap()).await.unwrap().unwrap();
    assert_eq!(before.definition, after.definition);
}

#[tokio::test]
async fn test_add_lenient_drops_unknown_keys_with_warning() {
    let mut world = World::new();
    let app = world.app();

    let add = World::yaml("name: web\nmemry: 1G\nstorage: [{name: a, sise: 1G}]\n");
    let added = app.run(add.lenient(true)).await.unwrap();

    let left_out: Vec<&str> = added.warnings.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(left_out, ["memry", "storage[0].sise"]);
    let vm = world.store.by_name(&VmName::parse("web").unwrap()).await.unwrap().unwrap();
    assert_eq!(serde_json::to_value(&vm.definition).unwrap(), json!({"storage": [{"name": "a"}]}));
}

#[tokio::test]
async fn test_add_path_in_system_folder_fails_with_location() {
    let mut world = World::new();
    let app = world.app();

    let add = World::yaml(
        "name: web\nstorage:\n  - {name: a, type: virtfs, path: /etc}\n  - {name: b, file: /usr/x.qcow2, size: 1G}\n",
    );
    let error = app.run(add).await.unwrap_err();

    let Error::Config(config) = error else { panic!("{error}") };
    let locations: Vec<(&str, u32)> = config
        .problems
        .iter()
        .map(|problem| (problem.path.as_str(), problem.location.as_ref().unwrap().line))
        .collect();
    assert_eq!(locations, [("storage[0].path", 3), ("storage[1].file", 4)]);
}

#[tokio::test]
async fn test_add_path_errors_beside_others_keep_locations() {
    let mut world = World::new();
    let app = world.app();

    let add = World::yaml(
        "name: web\nstorage:\n  - {name: A A}\n  - [x]\n  - {type: virtfs, path: /etc}\n  - {name: b, backing_file: /nowhere/b}\n",
    );
    let error = app.run(add).await.unwrap_err();

    let Error::Config(config) = error else { panic!("{error}") };
    let locations: Vec<(&str, u32)> = config
        .problems
        .iter()
        .map(|problem| (problem.path.as_str(), problem.location.as_ref().unwrap().line))
        .collect();
    let expected = [
        ("storage[0].name", 3),
        ("storage[1]", 4),
        ("storage[2]", 5),
        ("storage[2].path", 5),
        ("storage[3].backing_file", 6),
    ];
    assert_eq!(locations, expected);
}

#[tokio::test]
async fn test_config_schema_lists_every_key() {
    let mut world = World::new();
    let app = world.app();

    let schema = app.run(ConfigSchema::default()).await.unwrap();

    let properties = schema["properties"].as_object().unwrap();
    assert!(app.handlers().names().iter().all(|name| properties.contains_key(*name)));
    assert_eq!(schema["additionalProperties"], false);
}
