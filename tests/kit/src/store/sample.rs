//! Sample values for a store.

use std::path::PathBuf;

use maqet_domain::Timestamp;
use maqet_domain::change::{Change, ChangeSet, StorageRecord};
use maqet_domain::config::{Node, Value};
use maqet_domain::event::{Event, kind};
use maqet_domain::history::{Actor, Call, EntryKind, HistoryEntry, Irreversible};
use maqet_domain::size::ByteSize;
use maqet_domain::snapshot::{SnapshotKind, SnapshotRecord};
use maqet_domain::vm::{
    BootId, BootNumber, DriveLayers, ImageTag, Origins, Pending, PendingWork, Phase, PidNamespace, ProcessIdentity,
    Revision, Run, RunPaths, Vm, VmEntry, VmId, VmName,
};
use serde_json::json;

/// Returns a name.
#[must_use]
pub fn name(text: &str) -> VmName {
    VmName::parse(text).unwrap_or_else(|error| panic!("{error}"))
}

/// Returns the id that begins with `number` in hexadecimal, eight digits wide.
#[must_use]
pub fn id(number: u32) -> VmId {
    let text = format!("{number:08x}-58b1-4c3e-9a5e-2f1f6f0f7a11");
    text.parse().expect("the text has the form of an id")
}

/// Returns a moment to the microsecond, which is what every store keeps.
#[must_use]
pub fn moment(seconds: i64) -> Timestamp {
    Timestamp::new(1_800_000_000 + seconds, 123_456_000).expect("the moment is near our time")
}

/// Returns a VM that was just defined; `number` makes it differ from others.
#[must_use]
pub fn vm(text: &str, number: u32) -> Vm {
    let entry = VmEntry {
        id: id(number),
        name: name(text),
        revision: Revision::FIRST,
        created_at: moment(i64::from(number)),
        run: None,
        pending: None,
        layers: Vec::new(),
    };
    Vm { entry, definition: definition(), origins: origins("web.yaml") }
}

/// Returns where the values of a definition came from: all from one file.
#[must_use]
pub fn origins(file: &str) -> Origins {
    [("memory", "2:9"), ("storage[0].size", "7:11")]
        .into_iter()
        .map(|(path, place)| (path.to_owned(), format!("{file}:{place}")))
        .collect()
}

/// Returns a definition with every kind of value, its keys unsorted.
#[must_use]
pub fn definition() -> Node {
    let keys = [
        ("memory", Value::Text("2G".to_owned())),
        ("cpu", Value::Int(-2)),
        ("arguments", Value::List(vec![Node::text("-device"), map([("virtio", Value::Bool(true))])])),
        ("accel", Value::Null),
        ("ratio", Value::Float(1.5)),
        ("ümlaut, \"quoted\"", Value::Map(Vec::new())),
        ("binary", Value::Text(String::new())),
    ];
    map(keys)
}

/// Returns a definition that shares nothing with [`definition`].
#[must_use]
pub fn other_definition() -> Node {
    map([("network", Value::List(vec![Node::text("none")])), ("args", Value::List(Vec::new()))])
}

fn map<const N: usize>(keys: [(&str, Value); N]) -> Node {
    Node::new(Value::Map(keys.into_iter().map(|(key, value)| (key.to_owned(), Node::new(value))).collect()))
}

/// Returns a run with a recorded process.
#[must_use]
pub fn run(boot: u32, phase: Phase) -> Run {
    Run {
        boot: BootNumber(boot),
        phase,
        process: Some(ProcessIdentity {
            pid: 4_194_304,
            start_ticks: u64::MAX,
            boot_id: BootId("7a0fd1f4-1f8c-4b0a-a39c-0a4a7a5d2f6e".to_owned()),
            namespace: Some(PidNamespace(u64::MAX)),
        }),
        started_at: moment(60),
        paths: RunPaths {
            sockets: PathBuf::from("/run/user/1000/maqet/0d9f2ac358b1/b1"),
            records: PathBuf::from("/home/ü, \"x\"/.local/state/maqet/vm/boot-1"),
        },
        forwards: vec!["udp:0.0.0.0:5353:53".parse().expect("it is a forward")],
    }
}

/// Returns the record of an image.
#[must_use]
pub fn storage(path: &str, vm: Option<VmId>) -> StorageRecord {
    StorageRecord {
        path: PathBuf::from(path),
        vm,
        drive: "hdd".to_owned(),
        kind: "qcow2".to_owned(),
        size: Some(ByteSize::from_bytes(u64::MAX)),
        created_at: moment(30),
    }
}

/// Returns the record of a snapshot with every value.
#[must_use]
pub fn snapshot(vm: VmId, drive: &str, tag: &str) -> SnapshotRecord {
    SnapshotRecord {
        vm,
        drive: drive.to_owned(),
        tag: tag.to_owned(),
        name: "ü, \"quoted\"".to_owned(),
        image_id: "9".to_owned(),
        image_date: moment(20),
        set: Some("0d9f2ac3-58b1-4c3e-9a5e-2f1f6f0f7a11".parse().expect("it is an ID")),
        kind: SnapshotKind::Memory,
        description: Some("before the\nupgrade".to_owned()),
        fingerprint: Some(json!({ "qemu": "7.2", "arguments": ["-m", "1"] })),
        created_at: moment(21),
    }
}

/// Returns the layers of two drives.
#[must_use]
pub fn layers() -> Vec<DriveLayers> {
    let of = |drive: &str, tops: &[&str]| DriveLayers {
        drive: drive.to_owned(),
        base: PathBuf::from(format!("/d/{drive}.raw")),
        tops: tops.iter().map(PathBuf::from).collect(),
    };
    vec![of("hdd", &["/s/hdd.layer-1.qcow2", "/s/hdd.layer-2.qcow2"]), of("ssd", &["/s/ssd.layer-1.qcow2"])]
}

/// Returns pending work.
#[must_use]
pub fn pending(operation: &str) -> Pending {
    let tag = ImageTag { drive: "hdd".to_owned(), path: PathBuf::from("/d/ü, \"x\""), tag: "clean~2".to_owned() };
    Pending {
        operation: operation.to_owned(),
        since: moment(10),
        work: PendingWork::SnapshotCreate { created: vec![tag], live: true, quiesced: false },
    }
}

/// Returns an entry of the history; identified by `operation`.
#[must_use]
pub fn history(operation: &str, vm: Option<VmId>) -> HistoryEntry {
    let call = |operation: &str| Call {
        operation: operation.to_owned(),
        arguments: json!({ "vm": "web", "all": [1, null, { "b": 0, "a": "ü" }] }),
    };
    HistoryEntry {
        at: moment(40),
        actor: Actor { user: "me".to_owned(), host: "here".to_owned(), pid: u32::MAX },
        vm,
        vm_name: vm.map(|_| name("web")),
        kind: vm.map_or(EntryKind::Note, |_| EntryKind::Work),
        call: call(operation),
        inverse: vm.map(|_| call("undone")),
        irreversible: vm.is_none().then_some(Irreversible::ImageReplaced),
        reverts: None,
    }
}

/// Returns an event; identified by `note`.
#[must_use]
pub fn event(note: &str, vm: Option<&VmEntry>) -> Event {
    Event {
        at: moment(50),
        kind: kind::VM_DEFINED.to_owned(),
        vm: vm.map(|entry| entry.id),
        vm_name: vm.map(|entry| entry.name.clone()),
        data: json!({ "note": note, "deep": { "z": 1, "a": [true, 1.5] } }),
    }
}

/// Returns the changes that add a VM.
#[must_use]
pub fn adding(vm: &Vm) -> ChangeSet {
    ChangeSet::default().and(Change::VmAdded(Box::new(vm.clone())))
}
