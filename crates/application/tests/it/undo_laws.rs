//! The laws of undo, by random changes with the real operations on a store and disks in memory.
//!
//! - A change that is undone leaves all as it was before, and its redo leaves all as it was after.
//! - Undos take back the newest change first, redos the newest undo; a new change ends the redos.
//! - What a dry run says is what happens.

use std::collections::BTreeMap;
use std::path::PathBuf;

use maqet_application::operation::{
    Apply, Redo, Rm, SnapshotCreate, SnapshotLoad, SnapshotRm, StorageAttach, StorageCompact, StorageConvert,
    StorageResize, Undo, table,
};
use maqet_application::{App, Error, Operation};
use maqet_domain::Explain;
use maqet_domain::history::{EntryKind, HistoryQuery};
use maqet_domain::port::{HistoryLog, SnapshotLedger, StorageLedger, VmRepository};
use maqet_domain::vm::VmId;
use maqet_testkit::variable;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::disks::{Disks, ShownImage};
use crate::world::World;

/// A step; numbers choose VMs, snapshots and sizes.
#[derive(Debug, Clone)]
enum Step {
    Add(u8, u8),
    Label(u8, u8),
    Memory(u8, u8),
    Rm(u8, bool),
    CreateSnapshot(u8, u8, bool),
    LoadSnapshot(u8, u8),
    RemoveSnapshot(u8, u8),
    Attach(u8, usize),
    Resize(u8, usize, u8),
    Convert(u8, usize, bool),
    Compact(u8, usize),
    Undo,
    Redo,
}

/// The drive of each VM, and those of images that may be attached.
const DRIVES: [&str; 3] = ["hdd", "a", "b"];

fn image(drive: &str) -> String {
    format!("/images/{drive}.raw")
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let vm = 0_u8..2;
    let few = 0_u8..3;
    let drive = 0_usize..DRIVES.len();
    let step = prop_oneof![
        2 => (vm.clone(), few.clone()).prop_map(|(vm, kind)| Step::Add(vm, kind)),
        1 => (vm.clone(), few.clone()).prop_map(|(vm, label)| Step::Label(vm, label)),
        1 => (vm.clone(), few.clone()).prop_map(|(vm, memory)| Step::Memory(vm, memory)),
        2 => (vm.clone(), any::<bool>()).prop_map(|(vm, deletes)| Step::Rm(vm, deletes)),
        4 => (vm.clone(), few.clone(), any::<bool>()).prop_map(|(vm, name, all)| Step::CreateSnapshot(vm, name, all)),
        3 => (vm.clone(), few.clone()).prop_map(|(vm, name)| Step::LoadSnapshot(vm, name)),
        1 => (vm.clone(), few.clone()).prop_map(|(vm, name)| Step::RemoveSnapshot(vm, name)),
        2 => (vm.clone(), drive.clone()).prop_map(|(vm, drive)| Step::Attach(vm, drive)),
        3 => (vm.clone(), drive.clone(), few).prop_map(|(vm, drive, more)| Step::Resize(vm, drive, more)),
        3 => (vm.clone(), drive.clone(), any::<bool>()).prop_map(|(vm, drive, raw)| Step::Convert(vm, drive, raw)),
        1 => (vm, drive).prop_map(|(vm, drive)| Step::Compact(vm, drive)),
        6 => Just(Step::Undo),
        3 => Just(Step::Redo),
    ];
    prop::collection::vec(step, 1..40)
}

/// All that an undo must bring back.
#[derive(Debug, Clone, PartialEq)]
struct State {
    vms: BTreeMap<String, Value>,
    records: BTreeMap<PathBuf, Value>,
    images: BTreeMap<PathBuf, ShownImage>,
}

impl State {
    /// Leaves out what a start does, too: empty images that `other` does not have, and the takeover of an image that an
    /// earlier VM of the name left. The first snapshot of a drive does so, and nothing is lost by its staying.
    fn without_new_images(mut self, other: &Self) -> Self {
        for (path, record) in &mut self.records {
            if path.starts_with("/d/storage") && other.records.get(path).is_some_and(|other| other[0].is_null()) {
                record[0] = Value::Null;
            }
        }
        let is_new = |path: &PathBuf, image: &ShownImage| {
            !other.images.contains_key(path)
                && path.starts_with("/d/storage")
                && image.1.is_empty()
                && image.2.is_empty()
        };
        let new: Vec<PathBuf> =
            self.images.iter().filter(|(path, image)| is_new(path, image)).map(|(path, _)| path.clone()).collect();
        for path in new {
            self.images.remove(&path);
            self.records.remove(&path);
        }
        self
    }
}

struct Laws {
    world: World,
    disks: Disks,
    app: App,
    /// The states before and after the changes that can be undone; none for those that cannot.
    done: Vec<Option<(State, State)>>,
    /// The same of those that can be made again.
    undone: Vec<(State, State)>,
}

impl Laws {
    /// Two VMs whose disks and snapshots have different data; nothing of that can be undone.
    async fn new() -> Self {
        let disks = Disks::default();
        for drive in &DRIVES[1..] {
            disks.create_raw(&image(drive), 1 << 20);
        }
        let mut world = World::with_disks(disks.clone());
        let app = world.app().with_operations(table().unwrap());
        for vm in ["vm0", "vm1"] {
            let text = format!("name: {vm}\nmemory: 64M\nstorage: [{{name: hdd, size: 4M}}]\n");
            app.run(World::yaml(&text)).await.unwrap();
            for (number, snapshot) in (1..).zip(["empty", "s0", "s1"]) {
                app.run(SnapshotCreate::new(vm, "hdd", snapshot)).await.unwrap();
                disks.write(&format!("/d/storage/{vm}/hdd.qcow2"), number << 20, number);
            }
        }
        app.run(StorageAttach::new("vm0", image("a"))).await.unwrap();
        app.run(SnapshotRm::new("vm0", "hdd", "empty")).await.unwrap();
        Self { world, disks, app, done: vec![None], undone: Vec::new() }
    }

    async fn state(&self) -> State {
        let store = &self.world.store;
        let mut vms = BTreeMap::new();
        let mut records = BTreeMap::new();
        let mut add = |record: maqet_domain::change::StorageRecord| {
            let owner = record.vm.map(|vm: VmId| vm.to_string());
            let shown = json!([owner, record.drive, record.kind, record.size]);
            records.insert(record.path, shown);
        };
        for entry in store.list().await.unwrap() {
            let vm = store.by_id(&entry.id).await.unwrap().unwrap();
            let snapshots = store.snapshots_of_vm(&entry.id).await.unwrap();
            let snapshots: Vec<Value> =
                snapshots.iter().map(|one| json!([one.drive, one.name, one.description, one.kind])).collect();
            let shown = json!([entry.id, entry.created_at, vm.definition, vm.origins, snapshots, entry.pending]);
            vms.insert(entry.name.to_string(), shown);
            store.storage_of_vm(&entry.id).await.unwrap().into_iter().for_each(&mut add);
        }
        // Those of images in the trash say nothing.
        let images = self.disks.shown();
        let without_vm = store.storage_without_vm().await.unwrap();
        without_vm.into_iter().filter(|record| images.contains_key(&record.path)).for_each(&mut add);
        State { vms, records, images }
    }

    async fn newest(&self) -> Option<(i64, EntryKind, bool)> {
        let newest = self.world.store.history(&HistoryQuery::newest(1)).await.unwrap().pop()?;
        Some((newest.sequence, newest.entry.kind, newest.entry.irreversible.is_none()))
    }

    /// Makes a change, which may be refused.
    async fn change<O: Operation>(&mut self, operation: O) {
        let (before, newest) = (self.state().await, self.newest().await);

        let result = self.app.run(operation).await;

        let now = self.newest().await;
        let Some((_, kind, is_reversible)) = now.filter(|_| now != newest) else {
            if let Err(error) = result {
                assert_eq!(
                    self.state().await.without_new_images(&before),
                    before,
                    "a refused change changes nothing: {error:?}"
                );
            }
            return;
        };
        match kind {
            EntryKind::Work => {
                self.undone.clear();
                let after = self.state().await;
                self.done.push(is_reversible.then_some((before, after)));
            }
            EntryKind::Note => {}
            EntryKind::Undo | EntryKind::Redo => panic!("no undo was asked for"),
        }
    }

    async fn undo(&mut self) {
        let (now, planned) = (self.state().await, self.app.run(Undo::default().dry_run(true)).await);
        let result = self.app.run(Undo::default()).await;
        let Some((before, after)) = self.done.last().unwrap().clone() else {
            assert!(planned.unwrap().changes[0].problem.is_some());
            assert_eq!(self.state().await, now);
            return check_code(result, Ok(()), "history.undo-unsupported");
        };
        assert_eq!(planned.unwrap().changes[0].problem, None);
        let reverted = result.unwrap_or_else(|error| panic!("the undo is refused: {error:?}"));
        let found = self.state().await.without_new_images(&before);
        assert_eq!(found, before, "the undo of {:?}", reverted.changes);
        self.done.pop();
        self.undone.push((before, after));
    }

    async fn redo(&mut self) {
        let planned = self.app.run(Redo::default().dry_run(true)).await;
        let result = self.app.run(Redo::default()).await;
        let Some((before, after)) = self.undone.last().cloned() else {
            return check_code(result, planned.map(drop), "history.change-not-found");
        };
        assert_eq!(planned.unwrap().changes[0].problem, None);
        let reverted = result.unwrap_or_else(|error| panic!("the redo is refused: {error:?}"));
        let found = self.state().await.without_new_images(&after);
        assert_eq!(found, after, "the redo of {:?}", reverted.changes);
        self.undone.pop();
        self.done.push(Some((before, after)));
    }

    async fn step(&mut self, step: Step) {
        let vm = |number: u8| format!("vm{number}");
        match step {
            Step::Add(number, kind) => {
                let disk = ["", "\nstorage: [{name: hdd, size: 4M}]", "\nstorage: [{name: hdd, type: raw, size: 2M}]"];
                let text = format!("name: {}\nmemory: 64M{}\n", vm(number), disk[usize::from(kind)]);
                self.change(World::yaml(&text)).await;
            }
            Step::Label(number, label) => {
                self.change(Apply::new(vm(number)).set(vec![format!("labels.a={label}")])).await;
            }
            Step::Memory(number, memory) => {
                self.change(Apply::new(vm(number)).memory(format!("{}M", 64 + u32::from(memory)))).await;
            }
            Step::Rm(number, deletes) => self.change(Rm::new(vm(number)).delete_storage(deletes)).await,
            Step::CreateSnapshot(number, name, all) => {
                let drive = if all { "all" } else { "hdd" };
                self.change(SnapshotCreate::new(vm(number), drive, format!("s{name}"))).await;
            }
            Step::LoadSnapshot(number, name) => {
                self.change(SnapshotLoad::new(vm(number), "hdd", format!("s{name}"))).await;
            }
            Step::RemoveSnapshot(number, name) => {
                self.change(SnapshotRm::new(vm(number), "all", format!("s{name}"))).await;
            }
            Step::Attach(number, drive) => {
                let image = if drive == 0 { "/d/storage/vm1/hdd.qcow2".to_owned() } else { image(DRIVES[drive]) };
                self.change(StorageAttach::new(vm(number), image)).await;
            }
            Step::Resize(number, drive, more) => {
                let size = format!("+{}M", u32::from(more) + 1).parse().unwrap();
                self.change(StorageResize::new(vm(number), DRIVES[drive], size)).await;
            }
            Step::Convert(number, drive, is_raw) => {
                let format = if is_raw { "raw" } else { "qcow2" };
                self.change(StorageConvert::new(vm(number), DRIVES[drive], format)).await;
            }
            Step::Compact(number, drive) => self.change(StorageCompact::new(vm(number), DRIVES[drive])).await,
            Step::Undo => self.undo().await,
            Step::Redo => self.redo().await,
        }
    }

    /// Undoes all that can be undone, and makes it again.
    async fn finish(mut self) {
        while matches!(self.done.last(), Some(Some(_))) {
            self.undo().await;
        }
        let all = self.undone.len();
        for _ in 0..all {
            self.redo().await;
        }
    }
}

#[track_caller]
fn check_code<T: std::fmt::Debug>(result: Result<T, Error>, planned: Result<(), Error>, code: &str) {
    assert_eq!(result.unwrap_err().explain().code, code);
    if let Err(error) = planned {
        assert_eq!(error.explain().code, code);
    }
}

/// Returns how many random sequences are tried; more with `--long`.
fn cases() -> u32 {
    if variable::is_long() { 1_000 } else { 48 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn test_undo_of_random_changes_follows_the_laws(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut laws = Laws::new().await;
            for step in steps {
                laws.step(step).await;
            }
            laws.finish().await;
        });
    }
}
