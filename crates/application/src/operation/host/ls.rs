//! `host ls`: lists the hosts that share the database.

use derive_setters::Setters;
use jiff::Timestamp;
use maqet_domain::history::Actor;
use maqet_domain::vm::VmEntry;
use serde::{Deserialize, Serialize};

use crate::app::operations::{Done, Effect, Operation};
use crate::host::Hosts;
use crate::{App, Error};

/// List the hosts that share the database, with their users
///
/// Each command records that its host is there. A host is away if no command ran on it for 15 minutes; its VMs may be
/// running all the same.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct HostLs {}

impl HostLs {
    /// Lists the hosts.
    pub fn new() -> Self {
        Self::default()
    }
}

/// A user of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct HostInfo {
    /// The name of the host.
    pub host: String,
    /// The name of the user there.
    pub owner: String,
    /// Whether this command runs there, as that user.
    pub is_own: bool,
    /// The number of its VMs.
    pub vms: u64,
    /// The number of those whose last recorded run has not ended.
    pub running: u64,
    /// When a command of the user last used the database, to the minute, by the clock of the database; `None` if that was
    /// not recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen_at: Option<Timestamp>,
    /// When a command of any user of the host last did, if the host is away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub away_since: Option<Timestamp>,
}

impl Operation for HostLs {
    const NAME: &'static str = "host.ls";
    const EFFECT: Effect = Effect::Reads;
    type Output = Vec<HostInfo>;

    async fn run(&self, app: &App) -> Result<Done<Vec<HostInfo>>, Error> {
        let Actor { user, host, .. } = app.ports.host.actor();
        let hosts = Hosts::read(&*app.ports.store).await?;
        let is_own = |info: &HostInfo| info.is_own;
        let mut infos: Vec<HostInfo> = hosts
            .0
            .iter()
            .map(|record| HostInfo {
                is_own: record.host == host && record.owner == user,
                away_since: hosts.away_since(&record.host).filter(|_| record.host != host),
                host: record.host.clone(),
                owner: record.owner.clone(),
                vms: record.vms,
                running: record.open_runs,
                seen_at: record.seen_at,
            })
            .collect();
        if !infos.iter().any(is_own) {
            // A database that is not shared.
            let entries = app.ports.store.list().await?;
            infos.push(HostInfo {
                host,
                owner: user,
                is_own: true,
                vms: entries.len() as u64,
                running: entries.iter().filter_map(VmEntry::open_run).count() as u64,
                seen_at: Some(app.ports.clock.now()),
                away_since: None,
            });
        }
        Ok(Done::reading(infos))
    }
}
