//! Devices of running VMs, with an in-memory store and a mocked QEMU.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use maqet_application::operation::{QmpDeviceAdd, QmpDeviceDel, Start};
use maqet_application::{App, Error, limits};
use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::hotplug::DeviceId;
use maqet_domain::port::{
    BuildUnavailable, MainLoop, MockMonitorSession, MonitorSession, PassedFor, SessionEvent, Store, VmRepository,
};
use maqet_domain::qmp::QmpEvent;
use maqet_domain::qmp::RunState;
use maqet_domain::qmp::{ErrorClass, QmpCommand, QmpError, TypeQuery};
use maqet_domain::vm::{BootNumber, Phase, Run};
use maqet_domain::{Explain, Timestamp};
use maqet_testkit::store::MemoryStore;
use serde_json::{Value, json};

use crate::world::{World, launched};

type SentCommands = Arc<Mutex<Vec<String>>>;

/// QEMU's replies to `device_add` and `blockdev-add`.
#[derive(Debug, Clone, Copy, Default)]
struct Answers {
    device: Option<fn() -> QmpError>,
    node: Option<fn() -> QmpError>,
    is_q35: bool,
    /// The package of QEMU was upgraded.
    is_build_gone: bool,
    /// Block nodes that are there already and in use, by devices unless by what `there` left.
    used: &'static [&'static str],
}

/// Replies like QEMU 7.2.
fn answer(command: &QmpCommand, nodes: &mut Vec<String>, answers: Answers) -> Result<Value, QmpError> {
    let argument = |name: &str| command.arguments.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    match command.execute.as_str() {
        "qom-list" if argument("path") == "/machine/peripheral" => Ok(json!([
            { "name": "type", "type": "string" },
            { "name": "port1", "type": "child<pcie-root-port>" },
            { "name": "port0", "type": "child<pcie-root-port>" },
            { "name": "there", "type": "child<virtio-blk-pci>" },
        ])),
        "qom-list" if argument("path").ends_with("port0") => Ok(json!([{ "name": "child[0]" }])),
        "qom-list" => Ok(json!([{ "name": "realized" }])),
        "query-named-block-nodes" => Ok(nodes.iter().map(|node| json!({ "node-name": node })).collect()),
        "blockdev-add" if answers.node.is_some() => Err(answers.node.unwrap()()),
        "blockdev-add" => {
            nodes.push(argument("node-name"));
            Ok(json!({}))
        }
        "query-block" => {
            let of_devices = answers.used.iter().filter(|node| **node != "hotplug-there");
            Ok(of_devices.map(|node| json!({ "qdev": "disk", "inserted": { "node-name": node } })).collect())
        }
        "blockdev-del" if answers.used.contains(&argument("node-name").as_str()) => Err(refusal("it is in use")),
        "blockdev-del" => {
            nodes.retain(|node| *node != argument("node-name"));
            Ok(json!({}))
        }
        "device_add" => answers.device.map_or(Ok(json!({})), |error| Err(error())),
        "qom-get" => Ok(match argument("property").as_str() {
            "addr" => json!(0x21),
            "type" => json!(if answers.is_q35 { "pc-q35-7.2-machine" } else { "pc-i440fx-7.2-machine" }),
            _ => json!("/machine/i440fx/pci.0"),
        }),
        _ => Ok(json!("")),
    }
}

/// Replies like a fresh process of QEMU 7.2.
fn described(query: &TypeQuery) -> Value {
    match query {
        TypeQuery::Types(_) => json!([{ "name": "virtio-blk-pci" }]),
        TypeQuery::Properties(_) => json!([
            { "name": "drive", "type": "str" },
            { "name": "share-rw", "type": "bool" },
            { "name": "queue-size", "type": "uint16" },
        ]),
    }
}

/// A running VM `web`, on a host with `/d/data.qcow2`; with the changing commands sent to QEMU.
async fn running(answers: Answers, session: Option<MockMonitorSession>) -> (App, SentCommands) {
    let (mut world, sent) = (World::new(), SentCommands::default());
    let (log, mut nodes) = (Arc::clone(&sent), answers.used.iter().map(|&node| node.to_owned()).collect());
    world.monitors.expect_execute().returning(move |_, command, _| {
        let changes = ["blockdev-add", "blockdev-del", "device_add"].contains(&command.execute.as_str());
        if changes {
            log.lock().unwrap().push(serde_json::to_string(command).unwrap());
        }
        answer(command, &mut nodes, answers)
    });
    let (log, mut session) = (Arc::clone(&sent), session);
    world.monitors.expect_session().returning(move |_, _| {
        log.lock().unwrap().push("session".to_owned());
        Ok(Box::new(session.take().unwrap()))
    });
    world.builds.expect_ask().returning(move |_, query| {
        let gone = BuildUnavailable::Replaced { binary: "/usr/bin/qemu".to_owned() };
        if answers.is_build_gone { Err(gone) } else { Ok(Some(described(query))) }
    });
    world.there.push("/d/data.qcow2".into());
    world.hypervisor.expect_launch().returning(|_| Ok(launched(7, RunState::Running)));
    world.alive(RunState::Running);
    world.processes.expect_args().returning(|_| Vec::new());
    let app = world.app();
    app.run(World::empty("web")).await.unwrap();
    app.run(Start::new("web")).await.unwrap();
    (app, sent)
}

fn disk() -> QmpDeviceAdd {
    let id: DeviceId = "data".parse().unwrap();
    QmpDeviceAdd::new("web", "virtio-blk")
        .properties(["share-rw=on", "queue-size=0x40"])
        .id(id)
        .file(PathBuf::from("/d/data.qcow2"))
}

const ADD_NODE: &str = r#"{"execute":"blockdev-add","arguments":{"driver":"qcow2","file":{"driver":"file","filename":"/d/data.qcow2"},"node-name":"hotplug-data","read-only":false}}"#;
const DEL_NODE: &str = r#"{"execute":"blockdev-del","arguments":{"node-name":"hotplug-data"}}"#;

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn commands(sent: &SentCommands) -> Vec<Value> {
    sent.lock().unwrap().iter().map(|text| parsed(text)).collect()
}

fn refusal(description: &str) -> QmpError {
    let command = "x".to_owned();
    let class = if description.ends_with("not found") { ErrorClass::DeviceNotFound } else { ErrorClass::Generic };
    QmpError::Refused { command, class, description: description.to_owned() }
}

#[tokio::test]
async fn test_device_add_creates_backend_first_with_typed_values() {
    let (app, sent) = running(Answers { is_q35: true, ..Answers::default() }, None).await;

    let added = app.run(disk()).await.unwrap();

    let device = r#"{"execute":"device_add","arguments":{"bus":"port1","drive":"hotplug-data","driver":"virtio-blk-pci","id":"data","queue-size":64,"share-rw":true}}"#;
    assert_eq!(commands(&sent), [ADD_NODE, device].map(parsed), "`port0` is taken");
    assert_eq!((added.bus.as_deref(), added.addr.as_deref()), (Some("pci.0"), Some("04.1")));
    assert_eq!(added.backend.as_deref(), Some("hotplug-data"));
}

#[tokio::test]
async fn test_device_add_build_gone_uses_strings_and_says_so() {
    let answers = Answers { is_q35: true, is_build_gone: true, ..Answers::default() };
    let (app, sent) = running(answers, None).await;

    let added = app.run(disk()).await.unwrap();

    let device = r#"{"execute":"device_add","arguments":{"bus":"port1","drive":"hotplug-data","driver":"virtio-blk","id":"data","queue-size":"0x40","share-rw":"on"}}"#;
    assert_eq!(commands(&sent), [ADD_NODE, device].map(parsed));
    let reason = "QEMU's binary `/usr/bin/qemu` was removed or replaced since it was started";
    assert_eq!(added.unchecked.as_deref(), Some(reason));
}

#[tokio::test]
async fn test_device_add_refused_device_removes_its_backend() {
    let (app, sent) = running(Answers { device: Some(|| refusal("no")), ..Answers::default() }, None).await;

    let error = app.run(disk()).await.unwrap_err();

    assert_eq!(error.code(), "qmp.refused");
    let commands = commands(&sent);
    assert_eq!((commands.len(), &commands[0], &commands[2]), (3, &parsed(ADD_NODE), &parsed(DEL_NODE)));
}

#[tokio::test]
async fn test_device_add_uncertain_device_keeps_its_backend() {
    let late = || QmpError::TimedOut { command: "device_add".to_owned(), after: Duration::from_secs(1) };
    let (app, sent) = running(Answers { device: Some(late), ..Answers::default() }, None).await;

    let error = app.run(disk()).await.unwrap_err();

    assert_eq!(error.code(), "qmp.timed-out");
    assert_eq!(sent.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn test_device_add_file_in_use_has_its_own_error() {
    for (words, code) in [
        (r#"Failed to get "write" lock"#, "storage.in-use"),
        (r#"Failed to get shared "write" lock"#, "storage.in-use"),
        ("A regular file was expected, and it is a block device", "qmp.refused"),
    ] {
        let node: fn() -> QmpError = match code {
            "storage.in-use" => || refusal(r#"Failed to get "write" lock"#),
            _ => || refusal("A regular file was expected, and it is a block device"),
        };
        let (app, sent) = running(Answers { node: Some(node), ..Answers::default() }, None).await;

        assert_eq!(app.run(disk()).await.unwrap_err().code(), code, "{words}");
        assert_eq!(sent.lock().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn test_device_add_existing_id_changes_nothing() {
    let (app, sent) = running(Answers::default(), None).await;

    let error = app.run(disk().id("there".parse::<DeviceId>().unwrap())).await.unwrap_err();

    assert_eq!((error.code(), sent.lock().unwrap().len()), ("device.id-exists", 0));
}

/// A session in which `device_del` causes these events.
fn session(
    sent: &SentCommands,
    answer: Result<(), &'static str>,
    events: Vec<(&'static str, Value)>,
) -> MockMonitorSession {
    let log = Arc::clone(sent);
    let mut session = MockMonitorSession::new();
    session.expect_execute().returning(move |command, _| {
        log.lock().unwrap().push(command.execute.clone());
        match (command.execute.as_str(), answer) {
            ("device_del", Err(words)) => Err(refusal(words)),
            ("device_del", Ok(())) => Ok(json!({})),
            _ => Err(refusal("Device '/machine/peripheral/there' not found")),
        }
    });
    let mut events = events.into_iter();
    session.expect_next_event().returning(move |_| {
        Ok(Some(match events.next() {
            Some(("missed", _)) | None => SessionEvent::Missed(1),
            Some((name, data)) => {
                SessionEvent::Event(QmpEvent { name: name.to_owned(), at: Timestamp::UNIX_EPOCH, data })
            }
        }))
    });
    session
}

async fn deleted(
    answer: Result<(), &'static str>,
    events: Vec<(&'static str, Value)>,
) -> (Result<bool, Error>, SentCommands) {
    let sent = SentCommands::default();
    let (app, opened) = running(Answers::default(), Some(session(&sent, answer, events))).await;
    let done = app.run(QmpDeviceDel::new("web", "there")).await.map(|deleted| deleted.changed);
    assert_eq!(*opened.lock().unwrap(), ["session"], "one session, and no node of ours");
    (done, sent)
}

#[tokio::test]
async fn test_device_del_waits_for_event_of_its_device() {
    let own = ("DEVICE_DELETED", json!({ "device": "there", "path": "/machine/peripheral/there" }));

    let (done, sent) = deleted(Ok(()), vec![own]).await;

    assert!(done.unwrap());
    assert_eq!(*sent.lock().unwrap(), ["device_del"], "nothing had to be asked");
}

#[tokio::test]
async fn test_device_del_ignores_events_of_other_devices() {
    let other = ("DEVICE_DELETED", json!({ "device": "other", "path": "/machine/peripheral/other" }));
    let part = ("DEVICE_DELETED", json!({ "path": "/machine/peripheral/there/virtio-backend" }));
    let no = ("DEVICE_UNPLUG_GUEST_ERROR", json!({ "device": "there" }));

    let (done, _) = deleted(Ok(()), vec![other, part, no]).await;

    assert_eq!(done.unwrap_err().code(), "device.unplug-refused");
}

#[tokio::test]
async fn test_device_del_already_pending_waits_too() {
    let own = ("DEVICE_DELETED", json!({ "device": "there" }));

    let (done, _) = deleted(Err("Device there is already in the process of unplug"), vec![own]).await;

    assert!(done.unwrap());
}

#[tokio::test]
async fn test_device_del_released_before_the_command_is_no_error() {
    let (done, sent) = deleted(Err("Device 'there' not found"), vec![("missed", Value::Null)]).await;

    assert!(done.unwrap());
    assert_eq!(*sent.lock().unwrap(), ["device_del", "qom-list"]);
}

#[tokio::test]
async fn test_device_del_missed_event_is_detected_by_query() {
    let (done, sent) = deleted(Ok(()), vec![("missed", Value::Null)]).await;

    assert!(done.unwrap());
    assert_eq!(*sent.lock().unwrap(), ["device_del", "qom-list"]);
}

#[tokio::test]
async fn test_device_del_refused_by_guest_is_reported() {
    for name in ["DEVICE_UNPLUG_GUEST_ERROR", "MEM_UNPLUG_ERROR"] {
        let no = (name, json!({ "device": "there", "msg": "it is in use" }));

        let (done, _) = deleted(Ok(()), vec![no]).await;

        let error = done.unwrap_err();
        assert_eq!(error.code(), "device.unplug-refused");
        assert!(error.to_string().ends_with("refused to release `there`: it is in use"), "{error}");
    }
}

#[tokio::test]
async fn test_device_del_backend_in_use_is_retried() {
    let own = ("DEVICE_DELETED", json!({ "device": "there" }));
    let answers = Answers { used: &["hotplug-a", "hotplug-b", "hotplug-there"], ..Answers::default() };
    let (app, sent) = running(answers, Some(session(&SentCommands::default(), Ok(()), vec![own]))).await;

    let deleted = app.run(QmpDeviceDel::new("web", "there")).await.unwrap();

    assert_eq!((deleted.backend, deleted.in_use.as_deref()), (None, Some("hotplug-there")));
    let sent = sent.lock().unwrap();
    assert!(sent[1..].iter().all(|command| command.contains("hotplug-there")), "{sent:?}");
    // And once with all other unused backends.
    assert_eq!(sent.len() - 1, limits::BACKEND_REMOVAL_TRIES as usize + 1);
}

/// A session that reports the removal of the device, after another process changed the run and added a VM.
struct Meanwhile {
    store: Arc<MemoryStore>,
    change: fn(&mut Run),
}

#[async_trait]
impl MonitorSession for Meanwhile {
    async fn execute(&mut self, _: &QmpCommand, _: Duration) -> Result<Value, QmpError> {
        Ok(json!({}))
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
        change_run(&self.store, self.change).await;
        let mut other = self.store.by_name(&"web".parse().unwrap()).await.unwrap().unwrap();
        other.entry.id = "00000001-0000-4000-8000-00000000000f".parse().unwrap();
        other.entry.name = "other".parse().unwrap();
        self.store.commit(ChangeSet::default().and(Change::VmAdded(Box::new(other)))).await.unwrap();
        let (name, data) = ("DEVICE_DELETED".to_owned(), json!({ "device": "lan-card" }));
        Ok(Some(SessionEvent::Event(QmpEvent { name, at: Timestamp::UNIX_EPOCH, data })))
    }

    async fn main_loop(&mut self, _: Duration) -> MainLoop {
        unreachable!("not called")
    }
}

async fn change_run(store: &MemoryStore, change: fn(&mut Run)) {
    let entry = store.by_name(&"web".parse().unwrap()).await.unwrap().unwrap().entry;
    let mut run = entry.run.clone().unwrap();
    change(&mut run);
    let changed = Change::RunChanged { id: entry.id, expected: entry.revision, run: Some(run) };
    store.commit(ChangeSet::default().and(changed)).await.unwrap();
}

/// A running VM `web` with a card `lan`, whose run changes while its guest is waited for.
async fn running_with_a_card(change: fn(&mut Run)) -> (App, Arc<MemoryStore>, SentCommands) {
    let (mut world, sent) = (World::new(), SentCommands::default());
    let store = Arc::clone(&world.store);
    world
        .monitors
        .expect_session()
        .returning(move |_, _| Ok(Box::new(Meanwhile { store: Arc::clone(&store), change })));
    let log = Arc::clone(&sent);
    world.monitors.expect_execute().returning(move |_, command, _| {
        let line = command.arguments.get("command-line").and_then(Value::as_str).unwrap_or_default();
        log.lock().unwrap().push(command.execute.clone());
        Ok(match (command.execute.as_str(), line) {
            ("qom-list", _) => json!([{ "name": "lan-card", "type": "child<e1000>" }]),
            (_, "info network") => json!("lan: index=0,type=user\r\n"),
            (_, "info usernet") => {
                json!("Hub -1 (lan):\r\n TCP[HOST_FORWARD] 15 127.0.0.1 2222 10.0.2.15 22 0 0\r\n")
            }
            _ => json!({}),
        })
    });
    let words = || "qemu -netdev user,id=lan -device e1000,netdev=lan,id=lan-card".split(' ').map(str::to_owned);
    world.processes.expect_args().returning(move |_| words().collect());
    world.hypervisor.expect_launch().returning(|_| Ok(launched(7, RunState::Running)));
    world.alive(RunState::Running);
    let (app, store) = (world.app(), Arc::clone(&world.store));
    app.run(World::empty("web")).await.unwrap();
    app.run(Start::new("web")).await.unwrap();
    change_run(&store, |run| run.forwards = ["2222:22", "8080:80"].map(|text| text.parse().unwrap()).to_vec()).await;
    sent.lock().unwrap().clear();
    (app, store, sent)
}

#[tokio::test]
async fn test_device_del_vm_restarted_meanwhile_keeps_new_run() {
    let (app, _, sent) = running_with_a_card(|run| run.boot = BootNumber::after(Some(run.boot))).await;

    // The common prefix of both ids when the device is gone.
    let deleted = app.run(QmpDeviceDel::new("00000001", "lan-card")).await.unwrap();

    assert_eq!((deleted.name.as_str(), deleted.changed, deleted.backend), ("web", true, None));
    assert_eq!(*sent.lock().unwrap(), ["qom-list"], "the backend is not touched");
}

#[tokio::test]
async fn test_device_del_removes_its_forwards_from_changed_run() {
    let (app, store, _) = running_with_a_card(|run| {
        run.forwards.retain(|forward| forward.guest_port != 80);
        run.phase = Phase::Stopping;
    })
    .await;

    let deleted = app.run(QmpDeviceDel::new("web", "lan")).await.unwrap();

    let run = store.by_name(&"web".parse().unwrap()).await.unwrap().unwrap().entry.run.unwrap();
    assert_eq!((deleted.backend.as_deref(), run.forwards, run.phase), (Some("lan"), Vec::new(), Phase::Stopping));
}
