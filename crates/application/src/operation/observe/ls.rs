//! `ls`: lists VMs and their states.

use std::cmp::Ordering;
use std::collections::HashMap;

use derive_setters::Setters;
use futures_util::future::join_all;
use maqet_domain::history::Actor;
use maqet_domain::port::{Holder, LockName};
use maqet_domain::text::glob_matches;
use maqet_domain::vm::{Phase, VmEntry, VmId};
use serde::{Deserialize, Serialize};

use crate::app::operations::{Done, Effect, Operation};
use crate::host::Hosts;
use crate::vm::observe::{VmStatus, observe_ended, recorded};
use crate::{App, Error, limits};

/// The sort key of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum SortKey {
    /// By name
    #[default]
    Name,
    /// By state, then by name
    Status,
    /// By the time of definition, oldest first, then by name
    Created,
}

/// List VMs and their states
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct Ls {
    /// Show only VMs in this state
    #[cfg_attr(feature = "clap", arg(long, value_name = "STATUS", value_parser = clap::builder::PossibleValuesParser::new(maqet_domain::vm::Status::NAMES)))]
    #[setters(strip_option)]
    pub status: Option<String>,
    /// Show only VMs whose name matches; `*` stands for any text and `?` for one character
    #[cfg_attr(feature = "clap", arg(long, value_name = "GLOB"))]
    #[setters(strip_option)]
    pub name: Option<String>,
    /// Also show VMs of other hosts and users whose host matches, with their recorded states
    #[cfg_attr(feature = "clap", arg(long, value_name = "GLOB"))]
    #[setters(strip_option)]
    pub host: Option<String>,
    /// Also show VMs of other hosts and users whose owner matches, with their recorded states
    #[cfg_attr(feature = "clap", arg(long, value_name = "GLOB"))]
    #[setters(strip_option)]
    pub owner: Option<String>,
    /// The sort key
    #[cfg_attr(feature = "clap", arg(long, value_enum, default_value_t, value_name = "KEY"))]
    pub sort: SortKey,
}

impl Operation for Ls {
    const NAME: &'static str = "ls";
    const EFFECT: Effect = Effect::Reads;
    type Output = Vec<VmStatus>;

    async fn run(&self, app: &App) -> Result<Done<Vec<VmStatus>>, Error> {
        let mut entries = app.ports.store.list().await?;
        let known: Vec<VmId> = entries.iter().map(|entry| entry.id).collect();
        let mut orphans = app.orphans().list(&known).await;
        if let Some(pattern) = &self.name {
            entries.retain(|entry| glob_matches(pattern, entry.name.as_str()));
            orphans.retain(|orphan| glob_matches(pattern, &orphan.name));
        }
        let mut statuses = observe_all(app, &entries).await;
        statuses.extend(orphans);
        if self.host.is_some() || self.owner.is_some() {
            self.add_foreign(app, &mut statuses).await?;
        }
        if let Some(status) = &self.status {
            statuses.retain(|vm| vm.status == status);
        }
        statuses.sort_by(|a, b| self.sort.compare(a, b));
        Ok(Done::reading(statuses))
    }
}

impl Ls {
    /// Names to whom the VMs belong, adds those of others, and keeps those that match.
    async fn add_foreign(&self, app: &App, statuses: &mut Vec<VmStatus>) -> Result<(), Error> {
        let Actor { user, host, .. } = app.ports.host.actor();
        for own in statuses.iter_mut() {
            (own.host, own.owner) = (Some(host.clone()), Some(user.clone()));
        }
        let foreign = app.ports.store.foreign().await?;
        let hosts = if foreign.is_empty() { Hosts::default() } else { Hosts::read(&*app.ports.store).await? };
        statuses.extend(foreign.into_iter().map(|vm| {
            let away_since = hosts.away_since(&vm.host).filter(|_| vm.host != host);
            recorded(vm, away_since)
        }));
        let matches = |pattern: Option<&String>, text: Option<&String>| {
            pattern.is_none_or(|pattern| text.is_some_and(|text| glob_matches(pattern, text)))
        };
        statuses.retain(|vm| {
            matches(self.host.as_ref(), vm.host.as_ref())
                && matches(self.owner.as_ref(), vm.owner.as_ref())
                && matches(self.name.as_ref(), Some(&vm.name))
        });
        Ok(())
    }
}

impl SortKey {
    /// Compares by this key, then by name.
    fn compare(self, a: &VmStatus, b: &VmStatus) -> Ordering {
        let by_key = match self {
            Self::Name => Ordering::Equal,
            Self::Status => a.status.cmp(b.status),
            Self::Created => a.created_at.cmp(&b.created_at),
        };
        by_key.then_with(|| (&a.name, &a.host, &a.owner).cmp(&(&b.name, &b.host, &b.owner)))
    }
}

/// Observes many VMs concurrently, so that one that hangs delays the list only by its own timeout; in no order.
async fn observe_all(app: &App, entries: &[VmEntry]) -> Vec<VmStatus> {
    let held: HashMap<LockName, Holder> = app.ports.locks.held().await.into_iter().collect();
    let holder = |entry: &VmEntry| held.get(&LockName::Vm(entry.id)).cloned();
    let mut statuses = Vec::with_capacity(entries.len());
    let mut may_be_running = Vec::new();
    for entry in entries {
        match entry.open_run() {
            Some(_) => may_be_running.push(entry),
            None => statuses.push(VmStatus::new(entry, &observe_ended(entry, holder(entry)))),
        }
    }
    for some in may_be_running.chunks(limits::MAX_CONCURRENT_OBSERVATIONS) {
        let observations = some.iter().map(async |entry| {
            let holder = match holder(entry) {
                // A holder in another PID namespace is missing in the list.
                None if is_in_transition(entry) => app.ports.locks.holder(&LockName::Vm(entry.id)).await,
                listed => listed,
            };
            let observation = app.observer().observe_with_holder(entry, holder).await;
            let (entry, observation) = app.observer().confirm_end(VmEntry::clone(entry), observation).await;
            VmStatus::new(&entry, &observation)
        });
        statuses.extend(join_all(observations).await);
    }
    statuses
}

/// Returns whether an operation that starts or stops the VM did not finish yet, or was killed.
fn is_in_transition(entry: &VmEntry) -> bool {
    entry.open_run().is_some_and(|run| run.phase != Phase::Running)
}
