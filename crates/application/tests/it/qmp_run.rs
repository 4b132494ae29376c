//! `qmp run`, with an in-memory store and a mocked world: which commands are sent to QEMU and which are not.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use maqet_application::operation::{QmpRun, Start};
use maqet_application::{App, Error, QmpArguments};
use maqet_domain::port::BuildUnavailable;
use maqet_domain::qmp::RunState;
use maqet_domain::qmp::Schema;
use maqet_domain::qmp::{QmpCommand, QmpError, TypeQuery};
use maqet_domain::{Explain, Fault};
use serde_json::{Value, json};

use crate::world::{World, launched};

type SentQueries = Arc<Mutex<Vec<String>>>;

/// The schema of a QEMU with few commands.
fn schema_reply() -> Value {
    json!([
        { "name": "query-status", "meta-type": "command", "arg-type": "0", "ret-type": "0" },
        { "name": "human-monitor-command", "meta-type": "command", "arg-type": "1", "ret-type": "str" },
        { "name": "device_add", "meta-type": "command", "arg-type": "2", "ret-type": "0" },
        { "name": "pmemsave", "meta-type": "command", "arg-type": "3", "ret-type": "0" },
        { "name": "0", "meta-type": "object", "members": [] },
        { "name": "1", "meta-type": "object", "members": [{ "name": "command-line", "type": "str" }] },
        { "name": "2", "meta-type": "object", "members": [{ "name": "driver", "type": "str" }] },
        { "name": "3", "meta-type": "object", "members": [{ "name": "size", "type": "int" }] },
        { "name": "str", "meta-type": "builtin", "json-type": "string" },
        { "name": "int", "meta-type": "builtin", "json-type": "int" },
    ])
}

fn answer(command: &QmpCommand, schema: &Value) -> Result<Value, QmpError> {
    match command.execute.as_str() {
        "query-qmp-schema" => Ok(schema.clone()),
        "query-status" if schema.is_null() => {
            Err(QmpError::Unresponsive { command: command.execute.clone(), after: Duration::from_secs(2) })
        }
        "human-monitor-command" => Ok(json!("Error: no such thing\r\n")),
        _ => Ok(json!({})),
    }
}

/// Returns an application with a running VM `web`, and the commands sent to its QEMU; `is_kept`: its schema is cached.
/// Without a `schema`, its main loop is blocked.
async fn running(is_kept: bool, schema: Value) -> (App, SentQueries, Arc<Mutex<Vec<Schema>>>) {
    let (mut world, queries, kept) = (World::new(), SentQueries::default(), Arc::<Mutex<Vec<Schema>>>::default());
    let log = Arc::clone(&queries);
    world.schemas.expect_get().returning(move |_| is_kept.then(|| Schema::from_reply(&schema_reply()).unwrap()));
    let keeping = Arc::clone(&kept);
    world.schemas.expect_put().returning(move |_, schema| keeping.lock().unwrap().push(schema.clone()));
    world.builds.expect_ask().returning(|_, query| match query {
        TypeQuery::Properties(driver) if driver == "virtio-blk" => Ok(None),
        TypeQuery::Properties(driver) if driver == "nvme" => Err(BuildUnavailable::Hidden),
        TypeQuery::Properties(_) | TypeQuery::Types(_) => Ok(Some(json!([{ "name": "share-rw", "type": "bool" }]))),
    });
    world.monitors.expect_execute().returning(move |_, command, _| {
        log.lock().unwrap().push(serde_json::to_string(command).unwrap());
        answer(command, &schema)
    });
    world.hypervisor.expect_launch().returning(move |_| Ok(launched(7, RunState::Running)));
    world.alive(RunState::Running);
    let app = world.app();
    app.run(World::empty("web")).await.unwrap();
    app.run(Start::new("web")).await.unwrap();
    (app, queries, kept)
}

fn command(line: &str) -> QmpRun {
    let mut words = line.split(", ").map(str::to_owned);
    QmpRun::new("web", words.next().unwrap()).arguments(QmpArguments::KeyValue(words.collect()))
}

fn take_queries(queries: &SentQueries) -> Vec<String> {
    std::mem::take(&mut queries.lock().unwrap())
}

#[tokio::test]
async fn test_qmp_run_missing_schema_is_fetched_and_cached() {
    let (app, queries, kept) = running(false, schema_reply()).await;

    app.run(command("query-status")).await.unwrap();

    assert_eq!(take_queries(&queries), [r#"{"execute":"query-qmp-schema"}"#, r#"{"execute":"query-status"}"#]);
    assert_eq!(*kept.lock().unwrap(), [Schema::from_reply(&schema_reply()).unwrap()]);
}

#[tokio::test]
async fn test_qmp_run_blocked_main_loop_is_reported_with_the_vm() {
    let (app, _, _) = running(true, Value::Null).await;

    let error = app.run(command("query-status")).await.unwrap_err();

    assert_eq!((error.code(), error.fault()), ("vm.unresponsive", Fault::Busy));
    assert_eq!(error.to_string(), "VM `web` is not responding: QEMU's main loop is blocked");
}

#[tokio::test]
async fn test_qmp_run_unknown_command_hint_names_the_vm() {
    let (app, _, _) = running(true, schema_reply()).await;

    let error = app.run(command("frobnicate")).await.unwrap_err();

    assert_eq!(error.code(), "qmp.command-not-found");
    assert_eq!(error.hints(), ["list the commands with `maqet qmp web query-commands`"]);
}

#[tokio::test]
async fn test_qmp_run_invalid_schema_is_not_cached() {
    let (app, _, kept) = running(false, json!({"no": "schema"})).await;

    let error = app.run(command("query-status")).await.unwrap_err();

    assert_eq!(error.code(), "qmp.response-invalid");
    assert!(kept.lock().unwrap().is_empty());
}

#[tokio::test]
async fn test_qmp_run_refused_command_is_not_sent() {
    let (app, queries, _) = running(true, schema_reply()).await;
    let refused = async |line: &str| app.run(command(line)).await.unwrap_err().code();

    assert_eq!(refused("query-statsu").await, "qmp.command-not-found");
    assert_eq!(refused("query-status, x=1").await, "qmp.argument-not-found");
    assert_eq!(refused("pmemsave").await, "qmp.argument-required");
    assert_eq!(refused("pmemsave, size=x").await, "qmp.argument-invalid");
    assert_eq!(refused("pmemsave, size").await, "qmp.argument-syntax-invalid");
    assert_eq!(refused("pmemsave, size=1").await, "qmp.host-access-refused");
    assert_eq!(refused("device_add, driver=vfio-pci, host=x").await, "qmp.host-access-refused");
    assert_eq!(take_queries(&queries), Vec::<String>::new());

    app.run(command("pmemsave, size=1").allow_dangerous(true)).await.unwrap();
    assert_eq!(take_queries(&queries), [r#"{"execute":"pmemsave","arguments":{"size":1}}"#]);
}

#[tokio::test]
async fn test_qmp_run_device_add_asks_the_build_for_properties() {
    let (app, queries, _) = running(true, schema_reply()).await;

    app.run(command("device_add, driver=virtio-blk-pci, share-rw=on")).await.unwrap();
    let unknown = app.run(command("device_add, driver=virtio-blk-pci, shade-rw=on")).await.unwrap_err();

    let adding = r#"{"execute":"device_add","arguments":{"driver":"virtio-blk-pci","share-rw":true}}"#;
    assert_eq!(take_queries(&queries), [adding], "the running QEMU is not asked");
    assert_eq!(unknown.hints()[0], "did you mean `share-rw`?");
}

#[tokio::test]
async fn test_qmp_run_device_add_unknown_properties_are_sent() {
    let (app, queries, _) = running(true, schema_reply()).await;

    for driver in ["virtio-blk", "nvme"] {
        app.run(command(&format!("device_add, driver={driver}, any=on"))).await.unwrap();

        let adding = format!(r#"{{"execute":"device_add","arguments":{{"driver":"{driver}","any":"on"}}}}"#);
        assert_eq!(take_queries(&queries), [adding]);
    }
}

#[tokio::test]
async fn test_qmp_run_hmp_error_output_is_an_error() {
    let (app, _, _) = running(true, schema_reply()).await;

    let error = app.run(command("human-monitor-command, command-line=info thing")).await.unwrap_err();

    assert!(matches!(&error, Error::Command { .. }));
    assert_eq!(error.code(), "qmp.hmp-failed");
    assert_eq!(error.to_string(), "HMP command failed: Error: no such thing");
}

#[test]
fn test_qmp_run_arguments_are_json_or_key_value() {
    let read = |arguments: Value| {
        let operation = json!({ "vm": "web", "command": "x", "arguments": arguments });
        serde_json::from_value::<QmpRun>(operation).unwrap().arguments
    };

    assert_eq!(read(json!({"a": 1})), QmpArguments::Json(json!({"a": 1}).as_object().unwrap().clone()));
    assert_eq!(read(json!(["a=1"])), QmpArguments::KeyValue(vec!["a=1".to_owned()]));
}
