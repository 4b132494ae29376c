//! Hosts that share a store: which of them are away, and why their VMs are not moved here.

pub(crate) mod disks;
pub(crate) mod error;

use std::time::Duration;

use jiff::Timestamp;
use maqet_domain::port::{HostRecord, Store, StoreError};

use crate::limits;

/// The hosts that share the store, each with its users.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hosts(pub(crate) Vec<HostRecord>);

impl Hosts {
    /// Reads what the store says about them.
    pub(crate) async fn read(store: &dyn Store) -> Result<Self, StoreError> {
        Ok(Self(store.hosts().await?))
    }

    /// Returns what is recorded about the user of a host who used the store last.
    pub(crate) fn last_seen(&self, host: &str) -> Option<&HostRecord> {
        let of_host = self.0.iter().filter(|record| record.host == host);
        of_host.min_by_key(|record| record.unseen.unwrap_or(Duration::MAX))
    }

    /// Returns since when a host is away; `None` if a command of one of its users used the store not long ago, or if that is
    /// not known.
    pub(crate) fn away_since(&self, host: &str) -> Option<Timestamp> {
        let last = self.last_seen(host)?;
        last.seen_at.filter(|_| last.unseen.is_some_and(|unseen| unseen >= limits::HOST_AWAY_AFTER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(host: &str, owner: &str, unseen: Duration) -> HostRecord {
        let (seen_at, unseen) = (Some(Timestamp::UNIX_EPOCH - unseen), Some(unseen));
        HostRecord { host: host.to_owned(), owner: owner.to_owned(), seen_at, unseen, vms: 0, open_runs: 0 }
    }

    #[test]
    fn test_away_since_is_when_its_last_user_was_seen() {
        let limit = limits::HOST_AWAY_AFTER;
        let hosts = Hosts(vec![
            record("gone", "me", limit * 3),
            record("gone", "you", limit),
            record("there", "me", limit * 3),
            record("there", "you", limit / 2),
            HostRecord { seen_at: None, unseen: None, ..record("new", "me", limit) },
        ]);

        assert_eq!(hosts.away_since("gone"), record("gone", "you", limit).seen_at);
        assert_eq!(hosts.away_since("new"), None);
        assert_eq!(hosts.away_since("there"), None);
        assert_eq!(hosts.away_since("unknown"), None);
    }
}
