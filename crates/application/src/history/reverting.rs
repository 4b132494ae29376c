//! Finds the changes that are reverted next, and calls their inverses.

use maqet_domain::history::{
    Call, Direction, EntryKind, HistoryQuery, HistoryVm, Irreversible, NextChange, RecordedHistory,
};
use maqet_domain::revert::RevertedEntry;
use maqet_domain::vm::{VmId, VmName};
use serde_json::{Value, json};

use super::error::HistoryError;
use crate::{App, Error};

/// How many entries are read at a time.
const CHUNK: u32 = 50;

/// The changes that an undo or a redo is about.
pub(crate) struct Reverting<'a> {
    pub(crate) app: &'a App,
    pub(crate) direction: Direction,
    /// Only changes of this VM.
    pub(crate) vm: Option<HistoryVm>,
    /// The name under which the VM was asked for.
    pub(crate) vm_name: Option<String>,
}

/// Returns the VM of a name or an ID, whether it exists or was removed.
pub(crate) async fn history_vm(app: &App, name: &str) -> Result<HistoryVm, Error> {
    let parsed = VmName::parse(name).ok();
    if let Some(name) = &parsed
        && let Some(vm) = app.ports.store.by_name(name).await?
    {
        return Ok(HistoryVm { id: Some(vm.entry.id), name: Some(vm.entry.name) });
    }
    if let Ok(id) = name.parse::<VmId>() {
        return Ok(HistoryVm { id: Some(id), name: None });
    }
    match parsed {
        Some(name) => Ok(HistoryVm { id: None, name: Some(name) }),
        None => Ok(HistoryVm { id: Some(app.vms().find(name).await?.entry.id), name: None }),
    }
}

impl Reverting<'_> {
    /// Returns up to `count` changes that are reverted next, in their order.
    pub(crate) async fn next(&self, count: usize) -> Result<Vec<RecordedHistory>, Error> {
        let mut next = NextChange::new(self.direction);
        let (mut found, mut before) = (Vec::new(), None);
        loop {
            let query = HistoryQuery { before, vm: self.vm.clone(), own: true, limit: CHUNK };
            let entries = self.app.ports.store.history(&query).await?;
            before = entries.last().map(|entry| entry.sequence);
            let is_last = entries.len() < CHUNK as usize;
            for entry in entries {
                if next.accepts(&entry) {
                    found.push(entry);
                }
                if found.len() == count || next.has_ended() {
                    return Ok(found);
                }
            }
            if is_last {
                return Ok(found);
            }
        }
    }

    /// Returns the change with this number.
    pub(crate) async fn entry(&self, sequence: i64) -> Result<RecordedHistory, Error> {
        let not_found = || Error::from(HistoryError::EntryNotFound { sequence });
        let before = Some(sequence.checked_add(1).ok_or_else(not_found)?);
        let query = HistoryQuery { before, vm: None, own: true, limit: 1 };
        let found = self.app.ports.store.history(&query).await?.pop();
        let is_meant = |entry: &RecordedHistory| {
            entry.sequence == sequence && matches!(entry.entry.kind, EntryKind::Work | EntryKind::Redo)
        };
        found.filter(is_meant).ok_or_else(not_found)
    }

    /// Returns the call that reverts a change.
    ///
    /// Errors: [`HistoryError::Irreversible`].
    pub(crate) fn inverse(&self, recorded: &RecordedHistory) -> Result<Call, Error> {
        let entry = &recorded.entry;
        let inverse = entry.inverse.clone().filter(|call| call.arguments.get("revert").is_some());
        let reason = entry.irreversible.unwrap_or(Irreversible::Unspecified);
        let mut inverse =
            inverse.filter(|_| entry.irreversible.is_none()).ok_or_else(|| HistoryError::Irreversible {
                direction: self.direction,
                sequence: recorded.sequence,
                operation: entry.call.operation.clone(),
                vm: entry.vm_name.as_ref().map(ToString::to_string),
                reason,
            })?;
        let reverted = RevertedEntry { sequence: recorded.sequence, direction: self.direction };
        inverse.arguments["revert"]["entry"] = json!(reverted);
        Ok(inverse)
    }

    /// Reverts a change; returns the result of the operation that did.
    pub(crate) async fn revert(&self, recorded: &RecordedHistory) -> Result<Value, Error> {
        let inverse = self.inverse(recorded)?;
        let reverted = self.app.call(&inverse.operation, inverse.arguments).await;
        reverted.map_err(|source| {
            HistoryError::Failed {
                direction: self.direction,
                sequence: recorded.sequence,
                operation: recorded.entry.call.operation.clone(),
                vm: recorded.entry.vm_name.as_ref().map(ToString::to_string),
                source: Box::new(source),
            }
            .into()
        })
    }
}
