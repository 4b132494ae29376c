//! Reading events in order: those of the store and those in QEMU's logs, from a cursor on.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use maqet_domain::event::{Event, RecordedEvent};
use maqet_domain::hook::QEMU_EVENTS;
use maqet_domain::port::Records;
use maqet_domain::qmp::QmpEvent;
use maqet_domain::vm::{BootNumber, RunPaths, VmEntry, VmId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::window::{EventBatch, EventWindow};
use crate::log::keeper::LogKeeper;
use crate::{App, Error, limits};

/// An event, as scripts see it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ShownEvent {
    /// When it happened (RFC 3339, UTC).
    pub at: Timestamp,
    /// Its type: `vm.started` and the like for those of maqet, `qemu.SHUTDOWN` and the like for those of QEMU.
    #[serde(rename = "type")]
    pub kind: String,
    /// The VM's name; for events of maqet, the name at that time.
    pub vm: Option<String>,
    /// The VM's ID.
    pub vm_id: Option<VmId>,
    /// The boot of the VM; for events of QEMU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot: Option<BootNumber>,
    /// The host that recorded it, in a database that several share; for events of maqet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The data of this type of event.
    pub data: Value,
}

/// The position of a reader of events.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// The last event of the store.
    pub sequence: i64,
    /// The position in the QMP log of each VM.
    pub qmp_logs: BTreeMap<VmId, QmpLogPosition>,
}

/// A position in a QMP log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QmpLogPosition {
    /// The boot of the VM.
    pub boot: BootNumber,
    /// How much of the log was read, in bytes.
    pub offset: u64,
}

/// Reads events.
pub(crate) struct EventReader<'a> {
    app: &'a App,
    /// The VM that is followed; else all of them.
    vm: Option<VmId>,
    entries: Vec<VmEntry>,
    pub(crate) cursor: Cursor,
    filter: Box<EventFilter>,
    keeper: LogKeeper,
}

/// Returns whether an event is wanted.
pub(crate) type EventFilter = dyn Fn(&ShownEvent) -> bool + Send + Sync;

impl<'a> EventReader<'a> {
    pub(crate) async fn open(
        app: &'a App,
        vm: Option<VmId>,
        cursor: Cursor,
        filter: Box<EventFilter>,
    ) -> Result<Self, Error> {
        let mut reader = Self { app, vm, entries: Vec::new(), cursor, filter, keeper: LogKeeper::new(app) };
        reader.refresh().await?;
        Ok(reader)
    }

    /// Reads the list of VMs again.
    pub(crate) async fn refresh(&mut self) -> Result<(), Error> {
        let store = &self.app.ports.store;
        self.entries = match &self.vm {
            Some(id) => store.by_id(id).await?.map(|vm| vm.entry).into_iter().collect(),
            None => store.list().await?,
        };
        Ok(())
    }

    /// Returns all events since the cursor, and moves it; reads every QMP log.
    pub(crate) async fn read_all(&mut self) -> Result<EventBatch, Error> {
        self.reconcile().await;
        let mut window = EventWindow::new(limits::MAX_EVENTS);
        self.read_store(&mut window).await?;
        for entry in self.entries.clone() {
            self.read_qmp_logs(&entry, &mut window).await;
        }
        Ok(window.into_batch())
    }

    /// Returns the events since the cursor, and moves it; reads only what can have grown: the store and the QMP logs of
    /// open runs.
    pub(crate) async fn read_new(&mut self) -> Result<EventBatch, Error> {
        self.reconcile().await;
        let mut window = EventWindow::new(limits::MAX_EVENTS);
        let before = self.cursor.sequence;
        let mentioned = self.read_store(&mut window).await?;
        let mut to_read = self.with_open_run();
        if self.cursor.sequence != before {
            let known: HashSet<VmId> = to_read.iter().map(|entry| entry.id).collect();
            self.refresh().await?;
            // A run that ended has unread events, even if its end was recorded before this read the store.
            let may_have_grown = |entry: &&VmEntry| entry.open_run().is_some() || mentioned.contains(&entry.id);
            let unread = self.entries.iter().filter(|entry| !known.contains(&entry.id)).filter(may_have_grown);
            to_read.extend(unread.cloned());
        }
        for entry in to_read {
            self.read_qmp_logs(&entry, &mut window).await;
        }
        Ok(window.into_batch())
    }

    /// Records runs that ended unobserved, so that their ends are events, too.
    async fn reconcile(&self) {
        let is_due = self.keeper.is_due();
        for entry in self.with_open_run() {
            self.app.reconciler().reconcile_if_needed(&entry).await;
            if let Some(run) = entry.run.filter(|_| is_due) {
                self.keeper.keep_delivered(&self.app.reconciler(), &entry.id, &run.paths).await;
            }
        }
    }

    /// Queues the hooks for QEMU's events among `events`.
    pub(crate) async fn queue_hooks(&self, events: &[ShownEvent]) {
        let of_qemu = events.iter().filter(|event| event.kind.starts_with(QEMU_EVENTS));
        let vms: HashSet<VmId> = of_qemu.filter_map(|event| event.vm_id).collect();
        for entry in self.entries.iter().filter(|entry| vms.contains(&entry.id)) {
            self.app.reconciler().reconcile(entry).await;
        }
    }

    fn with_open_run(&self) -> Vec<VmEntry> {
        self.entries.iter().filter(|entry| entry.open_run().is_some()).cloned().collect()
    }

    /// Reads the events of the store, and returns the VMs they mention, wanted or not.
    async fn read_store(&mut self, window: &mut EventWindow) -> Result<HashSet<VmId>, Error> {
        let mut mentioned = HashSet::new();
        loop {
            let page = self.app.ports.store.events_after(self.cursor.sequence, limits::EVENT_PAGE).await?;
            let Some(last) = page.last() else { break };
            self.cursor.sequence = last.sequence;
            let is_of_vm = |event: &RecordedEvent| self.vm.is_none_or(|id| event.event.vm == Some(id));
            for recorded in page.into_iter().filter(is_of_vm) {
                mentioned.extend(recorded.event.vm);
                let event = ShownEvent::from_store(recorded.event);
                self.push(ShownEvent { host: recorded.host, ..event }, window);
            }
        }
        Ok(mentioned)
    }

    /// Reads the QMP logs of a VM; one that cannot be read counts as empty.
    async fn read_qmp_logs(&mut self, entry: &VmEntry, window: &mut EventWindow) {
        let folders = &self.app.folders;
        let position = self.cursor.qmp_logs.get(&entry.id).copied();
        let first = position.map_or(BootNumber(0), |position| position.boot);
        let boots = self.app.ports.records.boots(&folders.vm_records(&entry.id)).await;
        for boot in boots.into_iter().filter(|boot| *boot >= first) {
            let mut offset = position.filter(|position| position.boot == boot).map_or(0, |position| position.offset);
            let paths = folders.run(&entry.id, boot);
            while let Some((lines, reached)) = read_chunk(&*self.app.ports.records, &paths, offset).await {
                offset = reached;
                for event in lines.split(|byte| *byte == b'\n').filter_map(QmpEvent::parse) {
                    self.push(ShownEvent::from_qmp(event, entry, boot), window);
                }
            }
            self.cursor.qmp_logs.insert(entry.id, QmpLogPosition { boot, offset });
        }
    }

    fn push(&self, event: ShownEvent, window: &mut EventWindow) {
        if (self.filter)(&event) {
            window.push(event);
        }
    }
}

/// Reads whole lines of a QMP log from `offset` on, and returns the offset after them.
pub(crate) async fn read_lines(records: &dyn Records, paths: &RunPaths, mut offset: u64) -> (Vec<u8>, u64) {
    let mut lines = Vec::new();
    while let Some((more, reached)) = read_chunk(records, paths, offset).await {
        lines.extend_from_slice(&more);
        offset = reached;
    }
    (lines, offset)
}

/// Reads one chunk of whole lines, which may be empty; `None` at the end of the log.
async fn read_chunk(records: &dyn Records, paths: &RunPaths, offset: u64) -> Option<(Vec<u8>, u64)> {
    let chunk = records.read(&paths.qmp_log(), offset, limits::QMP_LOG_CHUNK_BYTES).await.ok()?;
    // A failed start is repeated under the same number, with a new log.
    if chunk.length < offset {
        return Some((Vec::new(), 0));
    }
    // Past a hole, whose events were dropped.
    let offset = chunk.offset.min(chunk.length);
    let mut bytes = chunk.bytes;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    // A line that fills a whole chunk is not an event of QEMU, and is skipped.
    let consumed = if whole == 0 && bytes.len() == limits::QMP_LOG_CHUNK_BYTES { bytes.len() } else { whole };
    if consumed == 0 {
        return None;
    }
    bytes.truncate(whole);
    Some((bytes, offset + consumed as u64))
}

impl ShownEvent {
    pub(crate) fn from_store(event: Event) -> Self {
        Self {
            host: None,
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
            host: None,
            data: event.data,
        }
    }
}
