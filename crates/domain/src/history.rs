//! Who changed what, and how to take it back.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::vm::VmId;

/// A call of an operation as data: its name and its arguments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// The operation's name, as in `snapshot.create`.
    pub operation: String,
    /// Its arguments, as JSON.
    pub arguments: Value,
}

/// Who asked for something, and from where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The name of the user.
    pub user: String,
    /// The name of the host.
    pub host: String,
    /// The process.
    pub pid: u32,
}

/// A change that was made and is to be recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// When it was made.
    pub at: Timestamp,
    /// Who made it.
    pub actor: Actor,
    /// The VM it was made to.
    pub vm: Option<VmId>,
    /// What was called.
    pub call: Call,
    /// The call that takes it back, where one does.
    pub inverse: Option<Call>,
    /// The sequence number of the entry that this one reverts, as an undo does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverts: Option<i64>,
}

/// A recorded change and its place in the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordedHistory {
    /// Grows with every entry of a store.
    pub sequence: i64,
    /// The entry.
    #[serde(flatten)]
    pub entry: HistoryEntry,
}
