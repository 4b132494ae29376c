//! Telling the user's hooks of what happened.

use std::sync::{Mutex, PoisonError};

use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::config::{Diagnostics, KeyPath, Node};
use maqet_domain::event::{Event, kind};
use maqet_domain::hook::Hook;
use maqet_domain::port::HookCall;
use maqet_domain::qmp::QmpEvent;
use maqet_domain::vm::{Vm, VmId};
use serde_json::json;

use crate::App;
use crate::config::merge;
use crate::event::reader::{ShownEvent, lines};

/// Hooks that are to be run once the locks of the operation are let go: a hook may well call maqet itself.
#[derive(Debug, Default)]
pub(crate) struct PendingHooks(Mutex<Vec<(Hook, ShownEvent)>>);

impl PendingHooks {
    fn extend(&self, more: impl IntoIterator<Item = (Hook, ShownEvent)>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(more);
    }

    fn take(&self) -> Vec<(Hook, ShownEvent)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl App {
    /// Returns the hooks for the events of a change that is about to be written.
    ///
    /// Before it is written, because a VM that is removed takes its own hooks with it.
    pub(crate) async fn hooks_for(&self, changes: &ChangeSet) -> Vec<(Hook, ShownEvent)> {
        let mut found = Vec::new();
        for event in changes.events.iter().filter(|event| event.kind != kind::HOOK_FAILED) {
            let mut hooks = self.settings().hooks.clone();
            if let Some(id) = &event.vm {
                hooks.extend(self.hooks_of(id, changes).await);
            }
            let called = hooks.into_iter().filter(|hook| hook.is_for(&event.kind));
            found.extend(called.map(|hook| (hook, ShownEvent::from_store(event.clone()))));
        }
        found
    }

    pub(crate) fn hooks_later(&self, hooks: Vec<(Hook, ShownEvent)>) {
        self.pending_hooks().extend(hooks);
    }

    async fn hooks_of(&self, id: &VmId, changes: &ChangeSet) -> Vec<Hook> {
        let added = changes.changes.iter().find_map(|change| match change {
            Change::VmAdded(vm) if vm.entry.id == *id => Some(&vm.definition),
            _ => None,
        });
        match added {
            Some(definition) => self.hooks_in(definition),
            None => match self.ports.store.by_id(id).await {
                Ok(Some(vm)) => self.hooks_in(&vm.definition),
                Ok(None) | Err(_) => Vec::new(),
            },
        }
    }

    /// Returns the hooks of a definition, which was checked when it was stored.
    fn hooks_in(&self, definition: &Node) -> Vec<Hook> {
        let defaults = &self.settings().defaults;
        if defaults.get("hooks").is_none() && definition.get("hooks").is_none() {
            return Vec::new();
        }
        let whole = merge(defaults.clone(), definition.clone());
        let read = |node| Hook::read_all(&KeyPath::top("hooks"), node, &mut Diagnostics::default());
        whole.get("hooks").map(read).unwrap_or_default()
    }

    /// Tells the hooks of a VM of what its QEMU recorded since they were last told; the caller holds its lock.
    ///
    /// Only the last run counts: what came before was told before the next one was started.
    pub(crate) async fn catch_up_hooks(&self, vm: &Vm) {
        let hooks = self.settings().hooks.iter().cloned().chain(self.hooks_in(&vm.definition));
        let hooks: Vec<Hook> = hooks.filter(Hook::is_for_qemu).collect();
        let (false, Some(run)) = (hooks.is_empty(), &vm.entry.run) else { return };

        let told = self.ports.hooks.told(&run.paths.records).await;
        let (bytes, reached) = lines(&*self.ports.records, &run.paths, told).await;
        if reached == told {
            return;
        }
        for event in bytes.split(|byte| *byte == b'\n').filter_map(QmpEvent::parse) {
            let event = ShownEvent::from_qmp(event, &vm.entry, run.boot);
            let called = hooks.iter().filter(|hook| hook.is_for(&event.kind));
            self.pending_hooks().extend(called.map(|hook| (hook.clone(), event.clone())));
        }
        self.ports.hooks.set_told(&run.paths.records, reached).await;
    }

    /// Runs what is to be run; a hook that fails is told as an event, and fails nothing else.
    pub(crate) async fn run_hooks(&self) {
        for (hook, event) in self.pending_hooks().take() {
            let call = self.call_for(&hook, &event);
            let Err(error) = self.ports.hooks.run(&call).await else { continue };
            tracing::warn!(%error, command = ?hook.command, event = event.kind, "a hook failed");
            let failed = Event {
                at: self.ports.clock.now(),
                kind: kind::HOOK_FAILED.to_owned(),
                vm: event.vm_id,
                vm_name: event.vm.as_deref().and_then(|name| name.parse().ok()),
                data: json!({
                    "event": event.kind, "command": hook.command, "error": error.to_string(),
                    "log": call.log.to_string_lossy(),
                }),
            };
            let changes = ChangeSet { events: vec![failed], ..ChangeSet::default() };
            if let Err(error) = self.commit(changes).await {
                tracing::warn!(%error, "could not write down that a hook failed");
            }
        }
    }

    fn call_for(&self, hook: &Hook, event: &ShownEvent) -> HookCall {
        let mut variables = vec![("MAQET_EVENT", event.kind.clone())];
        variables.extend(event.vm.clone().map(|name| ("MAQET_VM", name)));
        variables.extend(event.vm_id.map(|id| ("MAQET_VM_ID", id.to_string())));
        HookCall {
            command: hook.command.clone(),
            variables,
            // Its own types: nothing in it can fail to be JSON.
            input: serde_json::to_string(event).unwrap_or_default() + "\n",
            deadline: self.timeouts().hook,
            log: self.folders.state.join("hooks.log"),
        }
    }
}
