//! An outgoing migration, as `query-migrate` reports it: how QEMU saves the memory and the devices of a VM.

use serde::Deserialize;
use serde_json::Value;

/// What a migration is doing (QAPI `MigrationStatus`, QEMU 7.2 and 10.0).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MigrationStatus {
    /// There was none.
    #[default]
    None,
    /// It has begun, and nothing was written.
    Setup,
    /// It is being canceled.
    Cancelling,
    /// It was canceled.
    Cancelled,
    /// It writes.
    Active,
    /// Its end is near: the guest is paused.
    Device,
    /// It waits for the command to end it.
    PreSwitchover,
    /// All was written.
    Completed,
    /// It failed.
    Failed,
    /// Of a kind that maqet does not begin, or of a newer QEMU.
    #[serde(other)]
    Unrecognised,
}

/// What QEMU reports of its last migration (QAPI `MigrationInfo`, QEMU 7.2 and 10.0).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MigrationInfo {
    /// What it is doing.
    pub status: MigrationStatus,
    /// How many pages of memory were written.
    pub pages: u64,
    /// How many bytes were written.
    pub transferred: u64,
    /// How much memory there is to look at, in bytes.
    pub total: u64,
    /// How much of it is left, in bytes.
    pub remaining: u64,
    /// Why it failed.
    pub error: Option<String>,
    /// What keeps the VM from being saved.
    pub blocked: Vec<String>,
}

impl MigrationInfo {
    /// Parses a reply to `query-migrate`.
    pub fn from_reply(reply: &Value) -> Self {
        let ram = &reply["ram"];
        let number = |name: &str| ram[name].as_u64().unwrap_or_default();
        let reasons = reply["blocked-reasons"].as_array().into_iter().flatten();
        Self {
            status: reply.get("status").and_then(|status| Deserialize::deserialize(status).ok()).unwrap_or_default(),
            pages: number("normal").saturating_add(number("duplicate")),
            transferred: number("transferred"),
            total: number("total"),
            remaining: number("remaining"),
            error: reply["error-desc"].as_str().map(str::to_owned),
            blocked: reasons.filter_map(|reason| reason.as_str().map(str::to_owned)).collect(),
        }
    }

    /// Returns whether it has not ended.
    pub const fn is_under_way(&self) -> bool {
        match self.status {
            MigrationStatus::None
            | MigrationStatus::Cancelled
            | MigrationStatus::Completed
            | MigrationStatus::Failed => false,
            MigrationStatus::Setup
            | MigrationStatus::Cancelling
            | MigrationStatus::Active
            | MigrationStatus::Device
            | MigrationStatus::PreSwitchover
            | MigrationStatus::Unrecognised => true,
        }
    }

    /// Returns whether the state of the devices was taken, so that a guest that runs from then on is not part of it.
    ///
    /// A background snapshot takes that before the first page; QEMU reports that it is active even before (10.0).
    pub const fn has_begun_memory(&self) -> bool {
        self.pages > 0 || !self.is_under_way()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn test_migration_info_of_active_one_counts_pages() {
        let ram = json!({ "normal": 3, "duplicate": 4, "transferred": 9, "total": 100, "remaining": 60 });

        let info = MigrationInfo::from_reply(&json!({ "status": "active", "ram": ram }));

        assert_eq!((info.status, info.pages), (MigrationStatus::Active, 7));
        assert!(info.is_under_way() && info.has_begun_memory());
        let setup = MigrationInfo::from_reply(&json!({ "status": "active", "ram": { "normal": 0, "duplicate": 0 } }));
        assert!(!setup.has_begun_memory());
    }

    #[test]
    fn test_migration_info_without_migration_has_reasons_only() {
        let info = MigrationInfo::from_reply(&json!({ "blocked-reasons": ["no", "never"] }));

        assert_eq!((info.status, info.is_under_way()), (MigrationStatus::None, false));
        assert_eq!(info.blocked, ["no", "never"]);
    }

    #[test]
    fn test_migration_info_unknown_status_is_under_way() {
        assert!(MigrationInfo::from_reply(&json!({ "status": "of-the-future" })).is_under_way());
    }
}
