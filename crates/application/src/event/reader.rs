//! What happened, in order: our own events and those of all flight recorders, from where a reader was.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use maqet_domain::event::{Event, RecordedEvent};
use maqet_domain::hook::QEMU_EVENTS;
use maqet_domain::port::Records;
use maqet_domain::qmp::QmpEvent;
use maqet_domain::vm::{BootNumber, Phase, RunPaths, VmEntry, VmId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::event::window::EventWindow;
use crate::{App, Error, limits};

/// Something that happened, as scripts see it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ShownEvent {
    /// When it happened (RFC 3339, UTC).
    pub at: Timestamp,
    /// What happened: `vm.started` and the like for our own, `qemu.SHUTDOWN` and the like for QEMU's.
    #[serde(rename = "type")]
    pub kind: String,
    /// The VM's name, at the time of our own events.
    pub vm: Option<String>,
    /// The VM's id.
    pub vm_id: Option<VmId>,
    /// The start of the VM it belongs to; for QEMU's events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot: Option<BootNumber>,
    /// What belongs to this kind of event.
    pub data: Value,
}

/// Where a reader of events was.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// The last of our own events.
    pub sequence: i64,
    /// How far the flight recorder of each VM was read.
    pub recorders: BTreeMap<VmId, RecorderPosition>,
}

/// How far a flight recorder was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecorderPosition {
    /// The start of the VM it belongs to.
    pub boot: BootNumber,
    /// How much of it was read, in bytes.
    pub offset: u64,
}

/// Reads what is new.
pub(crate) struct EventReader<'a> {
    app: &'a App,
    /// The VM that is followed; all of them otherwise.
    vm: Option<VmId>,
    entries: Vec<VmEntry>,
    pub(crate) cursor: Cursor,
    wanted: Box<Wanted>,
}

/// Tells whether an event is to be told; others are not held.
pub(crate) type Wanted = dyn Fn(&ShownEvent) -> bool + Send + Sync;

/// Events in order, and how many older ones were left out.
pub(crate) type Told = (Vec<ShownEvent>, u64);

impl<'a> EventReader<'a> {
    pub(crate) async fn open(
        app: &'a App,
        vm: Option<VmId>,
        cursor: Cursor,
        wanted: Box<Wanted>,
    ) -> Result<Self, Error> {
        let mut feed = Self { app, vm, entries: Vec::new(), cursor, wanted };
        feed.refresh().await?;
        Ok(feed)
    }

    /// Learns anew which VMs there are.
    pub(crate) async fn refresh(&mut self) -> Result<(), Error> {
        let store = &self.app.ports.store;
        self.entries = match &self.vm {
            Some(id) => store.by_id(id).await?.map(|vm| vm.entry).into_iter().collect(),
            None => store.list().await?,
        };
        Ok(())
    }

    /// Returns everything since the cursor, in order, and moves it on; all recorders are looked at.
    pub(crate) async fn all(&mut self) -> Result<Told, Error> {
        self.reconcile_if_needed().await;
        let mut heard = EventWindow::holding(limits::MAX_EVENTS);
        self.ours(&mut heard).await?;
        for entry in self.entries.clone() {
            self.of_recorders(&entry, &mut heard).await;
        }
        Ok(heard.in_order())
    }

    /// The same, looking only at what can grow: our own events, and the recorders of machines that live.
    pub(crate) async fn news(&mut self) -> Result<Told, Error> {
        self.reconcile_if_needed().await;
        let mut heard = EventWindow::holding(limits::MAX_EVENTS);
        let before = self.cursor.sequence;
        let told_of = self.ours(&mut heard).await?;
        let mut to_read = self.live();
        if self.cursor.sequence != before {
            let known: HashSet<VmId> = to_read.iter().map(|entry| entry.id).collect();
            self.refresh().await?;
            // What ended has its last words still to be read, even if it was seen ended before its event was.
            let is_told_of = |entry: &VmEntry| told_of.contains(&entry.id);
            let may_have_grown = |entry: &&VmEntry| lives(entry) || is_told_of(entry);
            let unread = self.entries.iter().filter(|entry| !known.contains(&entry.id)).filter(may_have_grown);
            to_read.extend(unread.cloned());
        }
        for entry in to_read {
            self.of_recorders(&entry, &mut heard).await;
        }
        Ok(heard.in_order())
    }

    /// Writes down the ends that nobody brought about, so that they are events, too.
    async fn reconcile_if_needed(&self) {
        for entry in self.live() {
            self.app.reconciler().reconcile_if_needed(&entry).await;
        }
    }

    /// Has the hooks told of what QEMU recorded, for the VMs that some of it is about.
    pub(crate) async fn tell_hooks(&self, events: &[ShownEvent]) {
        let told: HashSet<VmId> =
            events.iter().filter(|event| event.kind.starts_with(QEMU_EVENTS)).filter_map(|event| event.vm_id).collect();
        for entry in self.entries.iter().filter(|entry| told.contains(&entry.id)) {
            self.app.reconciler().reconcile(entry).await;
        }
    }

    fn live(&self) -> Vec<VmEntry> {
        self.entries.iter().filter(|entry| lives(entry)).cloned().collect()
    }

    /// Reads on in our own events, and returns which VMs they are about, wanted or not.
    async fn ours(&mut self, heard: &mut EventWindow) -> Result<HashSet<VmId>, Error> {
        let mut told_of = HashSet::new();
        loop {
            let page = self.app.ports.store.after(self.cursor.sequence, limits::EVENT_PAGE).await?;
            let Some(last) = page.last() else { break };
            self.cursor.sequence = last.sequence;
            let is_of_vm = |event: &RecordedEvent| self.vm.is_none_or(|id| event.event.vm == Some(id));
            for recorded in page.into_iter().filter(is_of_vm) {
                told_of.extend(recorded.event.vm);
                self.hear(ShownEvent::from_store(recorded.event), heard);
            }
        }
        Ok(told_of)
    }

    /// Reads on in the recorders of a VM; one that cannot be read has nothing to tell.
    async fn of_recorders(&mut self, entry: &VmEntry, heard: &mut EventWindow) {
        let (sockets, records) = (self.app.folders.vm_sockets(&entry.id), self.app.folders.vm_records(&entry.id));
        let position = self.cursor.recorders.get(&entry.id).copied();
        let first = position.map_or(BootNumber(0), |position| position.boot);
        for boot in self.app.ports.records.boots(&records).await.into_iter().filter(|boot| *boot >= first) {
            let mut offset = position.filter(|position| position.boot == boot).map_or(0, |position| position.offset);
            let paths = RunPaths::new(&sockets, &records, boot);
            while let Some((lines, reached)) = some_lines(&*self.app.ports.records, &paths, offset).await {
                offset = reached;
                for event in lines.split(|byte| *byte == b'\n').filter_map(QmpEvent::parse) {
                    self.hear(ShownEvent::from_qmp(event, entry, boot), heard);
                }
            }
            self.cursor.recorders.insert(entry.id, RecorderPosition { boot, offset });
        }
    }

    fn hear(&self, event: ShownEvent, heard: &mut EventWindow) {
        if (self.wanted)(&event) {
            heard.push(event);
        }
    }
}

/// Returns whether nobody wrote down that the last run ended.
fn lives(entry: &VmEntry) -> bool {
    entry.run.as_ref().is_some_and(|run| !matches!(run.phase, Phase::Ended(_)))
}

/// Reads whole lines of a flight recorder from `offset` on, and returns where the next ones begin.
pub(crate) async fn read_lines(records: &dyn Records, paths: &RunPaths, mut offset: u64) -> (Vec<u8>, u64) {
    let mut lines = Vec::new();
    while let Some((more, reached)) = some_lines(records, paths, offset).await {
        lines.extend_from_slice(&more);
        offset = reached;
    }
    (lines, offset)
}

/// The same for as many lines as are read at once, perhaps none; `None` at the end.
async fn some_lines(records: &dyn Records, paths: &RunPaths, offset: u64) -> Option<(Vec<u8>, u64)> {
    let chunk = records.read(&paths.recorder_log(), offset, limits::QMP_LOG_CHUNK_BYTES).await.ok()?;
    // A start that failed is tried again under the same number, with a log of its own.
    if chunk.length < offset {
        return Some((Vec::new(), 0));
    }
    let mut bytes = chunk.bytes;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    // A line that fills a whole chunk is none of QEMU's events, and is passed over.
    let passed = if whole == 0 && bytes.len() == limits::QMP_LOG_CHUNK_BYTES { bytes.len() } else { whole };
    if passed == 0 {
        return None;
    }
    bytes.truncate(whole);
    Some((bytes, offset + passed as u64))
}

impl ShownEvent {
    pub(crate) fn from_store(event: Event) -> Self {
        Self {
            at: event.at,
            kind: event.kind,
            vm: event.vm_name.map(|name| name.to_string()),
            vm_id: event.vm,
            boot: None,
            data: event.data,
        }
    }

    pub(crate) fn from_qmp(event: QmpEvent, entry: &VmEntry, boot: BootNumber) -> Self {
        Self {
            at: event.at,
            kind: format!("{QEMU_EVENTS}{}", event.name),
            vm: Some(entry.name.to_string()),
            vm_id: Some(entry.id),
            boot: Some(boot),
            data: event.data,
        }
    }
}
