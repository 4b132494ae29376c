//! `history`: the changes, and who made them.

use derive_setters::Setters;
use maqet_domain::Timestamp;
use maqet_domain::history::{EntryKind, HistoryQuery, Irreversible, RecordedHistory};
use serde::{Deserialize, Serialize};

use crate::app::operations::{Done, Effect, Operation};
use crate::history::reverting::history_vm;
use crate::{App, Error};

/// Show changes of VMs, their snapshots and storage: who made them, when, and on which host
///
/// The newest change is shown first. Changes of VMs that were removed are shown, too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct HistoryLs {
    /// Only changes of this VM: its name or ID
    #[cfg_attr(feature = "clap", arg(long, value_name = "VM"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[setters(strip_option)]
    pub vm: Option<String>,
    /// At most this many, the newest
    #[cfg_attr(feature = "clap", arg(long, value_name = "NUMBER", default_value_t = DEFAULT_LIMIT, value_parser = clap::value_parser!(u32).range(1..)))]
    pub limit: u32,
}

/// How many changes are shown by default: about as many as fit on a screen.
const DEFAULT_LIMIT: u32 = 20;

impl Default for HistoryLs {
    fn default() -> Self {
        Self { vm: None, limit: DEFAULT_LIMIT }
    }
}

/// A change.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct HistoryLine {
    /// Its number.
    pub sequence: i64,
    /// When it was made.
    pub at: Timestamp,
    /// Who made it.
    pub user: String,
    /// On which host.
    pub host: String,
    /// By which process.
    pub pid: u32,
    /// `work`, `note`, `undo` or `redo`.
    pub kind: EntryKind,
    /// The operation, as in `snapshot.create`.
    pub operation: String,
    /// The ID of the VM.
    pub id: Option<String>,
    /// The name that the VM had.
    pub name: Option<String>,
    /// What it was about, as far as it is not a secret: the drive, the name of a snapshot, a new size.
    pub subject: Option<String>,
    /// The number of the change that it reverts.
    pub reverts: Option<i64>,
    /// The number of the entry that reverts it.
    pub reverted_by: Option<i64>,
    /// Why it cannot be undone, if it cannot.
    pub irreversible: Option<Irreversible>,
}

/// The arguments that are shown; others may hold secrets.
const SHOWN_ARGUMENTS: [&str; 5] = ["drive", "name", "image", "size", "to"];

/// Returns what a call was about.
pub(super) fn subject(recorded: &RecordedHistory) -> Option<String> {
    let arguments = &recorded.entry.call.arguments;
    let shown = SHOWN_ARGUMENTS.iter().filter_map(|key| arguments.get(key)?.as_str());
    let vm = recorded.entry.vm_name.as_ref().map(ToString::to_string);
    let texts: Vec<&str> = shown.filter(|text| Some(*text) != vm.as_deref()).collect();
    (!texts.is_empty()).then(|| texts.join(" "))
}

impl HistoryLine {
    fn new(recorded: RecordedHistory, reverted_by: Option<i64>) -> Self {
        let subject = subject(&recorded);
        let RecordedHistory { sequence, entry } = recorded;
        Self {
            sequence,
            at: entry.at,
            user: entry.actor.user,
            host: entry.actor.host,
            pid: entry.actor.pid,
            kind: entry.kind,
            operation: entry.call.operation,
            id: entry.vm.map(|id| id.to_string()),
            name: entry.vm_name.map(|name| name.to_string()),
            subject,
            reverts: entry.reverts,
            reverted_by,
            irreversible: entry.irreversible,
        }
    }
}

impl Operation for HistoryLs {
    const NAME: &'static str = "history";
    const EFFECT: Effect = Effect::Reads;
    type Output = Vec<HistoryLine>;

    async fn run(&self, app: &App) -> Result<Done<Vec<HistoryLine>>, Error> {
        let vm = match &self.vm {
            Some(vm) => Some(history_vm(app, vm).await?),
            None => None,
        };
        let query = HistoryQuery { before: None, vm, own: false, limit: self.limit };
        let entries = app.ports.store.history(&query).await?;
        // Whatever reverts an entry is newer, and about the same VM.
        let reverted: Vec<(i64, i64)> =
            entries.iter().filter_map(|entry| Some((entry.entry.reverts?, entry.sequence))).collect();
        let line = |recorded: RecordedHistory| {
            let by = reverted.iter().find(|(reverted, _)| *reverted == recorded.sequence).map(|(_, by)| *by);
            HistoryLine::new(recorded, by)
        };
        Ok(Done::reading(entries.into_iter().map(line).collect()))
    }
}
