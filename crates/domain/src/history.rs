//! The history of changes, with the calls that revert them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::vm::VmId;

/// A call of an operation as data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// The operation's name, as in `snapshot.create`.
    pub operation: String,
    /// Its arguments, as JSON.
    pub arguments: Value,
}

/// The origin of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The user name.
    pub user: String,
    /// The host name.
    pub host: String,
    /// The process id.
    pub pid: u32,
}

/// A change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// When it was made.
    pub at: Timestamp,
    /// Who made it.
    pub actor: Actor,
    /// The VM that was changed.
    pub vm: Option<VmId>,
    /// The call that made it.
    pub call: Call,
    /// The call that reverts it, if there is one.
    pub inverse: Option<Call>,
    /// The sequence number of the entry that this one reverts, as an undo does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverts: Option<i64>,
}

/// A change in the history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordedHistory {
    /// Its number; increases with every entry of a store.
    pub sequence: i64,
    /// The entry.
    #[serde(flatten)]
    pub entry: HistoryEntry,
}
