//! Running the user's hooks on events.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::config::{Diagnostics, KeyPath, Node};
use maqet_domain::event::{Event, kind};
use maqet_domain::hook::Hook;
use maqet_domain::port::{Clock, HookCall, HookOutcome, Hooks, Records, Store, describe_left};
use maqet_domain::qmp::QmpEvent;
use maqet_domain::registry::Registry;
use maqet_domain::vm::{Vm, VmId};
use serde_json::json;

use super::reader::{ShownEvent, read_lines};
use crate::AppSettings;
use crate::config::merge;

/// Hooks to run once the operation has released its locks: a hook may call maqet itself.
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

/// Finds the hooks for events, queues them and runs them.
#[derive(Clone, Copy)]
pub(crate) struct HookRunner<'a> {
    pub(crate) settings: &'a AppSettings,
    pub(crate) store: &'a dyn Store,
    pub(crate) records: &'a dyn Records,
    pub(crate) hooks: &'a dyn Hooks,
    pub(crate) clock: &'a dyn Clock,
    /// The folder of the log that takes what hooks print.
    pub(crate) state: &'a Path,
    pub(crate) pending: &'a PendingHooks,
}

impl HookRunner<'_> {
    /// Returns the hooks for the events of a change that is about to be written.
    pub(crate) async fn for_changes(&self, changes: &ChangeSet) -> Vec<(Hook, ShownEvent)> {
        let mut found = Vec::new();
        for event in changes.events.iter().filter(|event| !event.kind.starts_with("hook.")) {
            let mut hooks = self.settings.hooks.clone();
            if let Some(id) = &event.vm {
                hooks.extend(self.hooks_of_vm(id, changes).await);
            }
            let matching = hooks.into_iter().filter(|hook| hook.matches(&event.kind));
            found.extend(matching.map(|hook| (hook, ShownEvent::from_store(event.clone()))));
        }
        found
    }

    /// Queues hooks for [`HookRunner::run_pending`].
    pub(crate) fn queue(&self, hooks: Vec<(Hook, ShownEvent)>) {
        self.pending.extend(hooks);
    }

    /// Queues the hooks of a VM for the events its QEMU recorded since they last ran; the caller holds its lock.
    ///
    /// Only the last run counts: the events of earlier runs were handled before the next one started.
    pub(crate) async fn catch_up(&self, vm: &Vm) {
        let hooks = self.settings.hooks.iter().cloned().chain(self.in_definition(&vm.definition));
        let hooks: Vec<Hook> = hooks.filter(Hook::matches_qemu).collect();
        let (false, Some(run)) = (hooks.is_empty(), &vm.entry.run) else { return };

        let position = self.hooks.delivered(&run.paths.records).await;
        let (bytes, reached) = read_lines(self.records, &run.paths, position).await;
        if reached == position {
            return;
        }
        for event in bytes.split(|byte| *byte == b'\n').filter_map(QmpEvent::parse) {
            let event = ShownEvent::from_qmp(event, &vm.entry, run.boot);
            let matching = hooks.iter().filter(|hook| hook.matches(&event.kind));
            self.pending.extend(matching.map(|hook| (hook.clone(), event.clone())));
        }
        self.hooks.set_delivered(&run.paths.records, reached).await;
    }

    /// Runs the queued hooks, and returns an event for each that failed or left processes running; a failed hook fails
    /// nothing else.
    pub(crate) async fn run_pending(&self) -> Vec<Event> {
        let mut events = Vec::new();
        for (hook, event) in self.pending.take() {
            let call = self.call(&hook, &event);
            let (kind, key, value) = match self.hooks.run(&call).await {
                Ok(outcome) if outcome.left.is_empty() => continue,
                Ok(HookOutcome { left }) => {
                    let processes = describe_left(&left);
                    tracing::warn!(command = ?hook.command, event = event.kind, "hook {processes}");
                    (kind::HOOK_LEFT_PROCESSES, "processes", json!(left))
                }
                Err(error) => {
                    tracing::warn!(%error, command = ?hook.command, event = event.kind, "hook failed");
                    (kind::HOOK_FAILED, "error", json!(error.to_string()))
                }
            };
            let mut data = json!({ "event": event.kind, "command": hook.command });
            data[key] = value;
            data["log"] = json!(call.log.to_string_lossy());
            events.push(Event {
                at: self.clock.now(),
                kind: kind.to_owned(),
                vm: event.vm_id,
                vm_name: event.vm.as_deref().and_then(|name| name.parse().ok()),
                data,
            });
        }
        events
    }

    async fn hooks_of_vm(&self, id: &VmId, changes: &ChangeSet) -> Vec<Hook> {
        let added = changes.changes.iter().find_map(|change| match change {
            Change::VmAdded(vm) if vm.entry.id == *id => Some(&vm.definition),
            _ => None,
        });
        match added {
            Some(definition) => self.in_definition(definition),
            None => match self.store.by_id(id).await {
                Ok(Some(vm)) => self.in_definition(&vm.definition),
                Ok(None) | Err(_) => Vec::new(),
            },
        }
    }

    /// Returns the hooks of a definition, which was checked when it was stored.
    fn in_definition(&self, definition: &Node) -> Vec<Hook> {
        let defaults = &self.settings.defaults;
        if defaults.get("hooks").is_none() && definition.get("hooks").is_none() {
            return Vec::new();
        }
        // The handlers are about other keys.
        let merged = merge(defaults.clone(), definition.clone(), &Registry::new("configuration key"));
        let read = |node| Hook::read_all(&KeyPath::top("hooks"), node, &mut Diagnostics::default());
        merged.get("hooks").map(read).unwrap_or_default()
    }

    fn call(&self, hook: &Hook, event: &ShownEvent) -> HookCall {
        let mut variables = vec![("MAQET_EVENT", event.kind.clone())];
        variables.extend(event.vm.clone().map(|name| ("MAQET_VM", name)));
        variables.extend(event.vm_id.map(|id| ("MAQET_VM_ID", id.to_string())));
        HookCall {
            command: hook.command.clone(),
            variables,
            // A serialization of our own types cannot fail.
            input: serde_json::to_string(event).unwrap_or_default() + "\n",
            timeout: self.settings.timeouts.hook,
            log: self.state.join("hooks.log"),
            max_log_bytes: self.settings.logs.hooks.bytes(),
        }
    }
}
