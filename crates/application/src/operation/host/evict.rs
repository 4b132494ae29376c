//! `host evict`: moves the VMs of another host to this one.

use std::collections::BTreeSet;

use derive_setters::Setters;
use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::event::kind;
use maqet_domain::history::Actor;
use maqet_domain::port::{ForeignVm, StoreError, VmCopy};
use maqet_domain::text::similar;
use maqet_domain::vm::{Phase, Run, RunEnd, StopReason, VmEntry, VmName};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::app::operations::{Done, Effect, Operation};
use crate::host::Hosts;
use crate::host::disks::{require_same_files, require_shared};
use crate::host::error::HostError;
use crate::trash::used_files::UsedFiles;
use crate::{App, Error, HumanDuration};

/// Move the VMs of a host that is gone to this host
///
/// The VMs belong to you on this host from then on, with their snapshots; the other host cannot start them any more. All of
/// them are moved, or none. Their disks must be on storage that both hosts have at the same paths, and must not be in use.
/// Logs, and images of removed VMs, stay with the other host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct HostEvict {
    /// The host, as `maqet host ls` names it
    pub host: String,
    /// The VMs: names or IDs [default: all VMs of the user there]
    #[cfg_attr(feature = "clap", arg(value_name = "VM"))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vms: Vec<String>,
    /// The user there [default: you]
    #[cfg_attr(feature = "clap", arg(long))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[setters(strip_option)]
    pub owner: Option<String>,
    /// Accept images that are not the files that the other host used, such as copies that were restored
    #[cfg_attr(feature = "clap", arg(long))]
    #[serde(default)]
    pub accept_replaced: bool,
    /// Move them although the host is not away, or they may be running there: if they are, both QEMUs destroy the disks
    #[cfg_attr(feature = "clap", arg(short, long))]
    #[serde(default)]
    pub force: bool,
}

impl HostEvict {
    /// Moves all VMs of this user on `host`.
    pub fn new(host: impl Into<String>) -> Self {
        Self { host: host.into(), vms: Vec::new(), owner: None, accept_replaced: false, force: false }
    }
}

/// VMs that were moved to this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Evicted {
    /// The host that had them.
    pub host: String,
    /// The user there.
    pub owner: String,
    /// The VMs, ordered by name.
    pub vms: Vec<EvictedVm>,
}

/// A VM that was moved to this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct EvictedVm {
    /// Its ID.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether its last recorded run had not ended; it is recorded as ended now.
    pub was_running: bool,
}

impl Operation for HostEvict {
    const NAME: &'static str = "host.evict";
    const EFFECT: Effect = Effect::Notes;
    type Output = Evicted;

    async fn run(&self, app: &App) -> Result<Done<Evicted>, Error> {
        let Actor { user, host: here, .. } = app.ports.host.actor();
        if self.host == here {
            return Err(HostError::OwnHost { host: here }.into());
        }
        let owner = self.owner.clone().unwrap_or(user);
        let entries = self.chosen(app.ports.store.foreign().await?, &owner)?;
        if !self.force {
            self.require_away(app, &entries).await?;
        }
        let used = UsedFiles::of_vms(app, None).await?;
        let own: BTreeSet<VmName> = app.ports.store.list().await?.into_iter().map(|entry| entry.name).collect();
        let mut changes = ChangeSet::default();
        let mut vms = Vec::with_capacity(entries.len());
        for VmEntry { id, .. } in entries {
            let found = app.ports.store.foreign_vm(&id).await?;
            let copy = found.ok_or(StoreError::Conflict { id })?;
            let name = &copy.vm.entry.name;
            if own.contains(name) {
                return Err(StoreError::Exists { name: name.clone() }.into());
            }
            require_shared(app, &copy, &used)
                .await
                .map_err(|source| HostError::DisksUnavailable { vm: name.clone(), source: Box::new(source) })?;
            if !self.accept_replaced {
                require_same_files(app, &copy, &self.host).await?;
            }
            vms.push(self.take(app, &copy, &owner, &mut changes));
        }
        let only = if let [event] = changes.events.as_slice() { event.vm } else { None };
        let done = Done::writing(Evicted { host: self.host.clone(), owner, vms }, changes);
        Ok(match only {
            Some(id) => done.about(id),
            None => done,
        })
    }
}

impl HostEvict {
    /// Returns the VMs that are meant, each once, in the order of their names.
    fn chosen(&self, foreign: Vec<ForeignVm>, owner: &str) -> Result<Vec<VmEntry>, Error> {
        let (of_host, _): (Vec<_>, Vec<_>) = foreign.into_iter().partition(|vm| vm.host == self.host);
        let owners: BTreeSet<String> = of_host.iter().map(|vm| vm.owner.clone()).collect();
        let mut entries: Vec<VmEntry> = of_host.into_iter().filter(|vm| vm.owner == owner).map(|vm| vm.entry).collect();
        if entries.is_empty() {
            let (host, owner) = (self.host.clone(), owner.to_owned());
            return Err(HostError::NoVms { host, owner, owners: owners.into_iter().collect() }.into());
        }
        let is_meant = |entry: &VmEntry, name: &String| entry.name.as_str() == name || entry.id.to_string() == *name;
        if let Some(name) = self.vms.iter().find(|name| !entries.iter().any(|entry| is_meant(entry, name))) {
            let similar = similar(name, entries.iter().map(|entry| entry.name.as_str()));
            return Err(Error::NoSuchVm { name: name.clone(), similar });
        }
        if !self.vms.is_empty() {
            entries.retain(|entry| self.vms.iter().any(|name| is_meant(entry, name)));
        }
        Ok(entries)
    }

    /// Refuses a host that shows signs of life, and VMs that may be running on one that does not.
    async fn require_away(&self, app: &App, entries: &[VmEntry]) -> Result<(), Error> {
        let hosts = Hosts::read(&*app.ports.store).await?;
        if hosts.away_since(&self.host).is_none()
            && let Some(last) = hosts.last_seen(&self.host)
        {
            let (host, owner) = (self.host.clone(), last.owner.clone());
            let Some(unseen) = last.unseen else { return Err(HostError::NeverSeen { host }.into()) };
            let ago = HumanDuration::new(std::time::Duration::from_secs(unseen.as_secs()));
            return Err(HostError::InUse { host, owner, ago }.into());
        }
        let may_run = |entry: &&VmEntry| entry.open_run().is_some() || entry.pending.is_some();
        let vms: Vec<_> = entries.iter().filter(may_run).map(|entry| entry.name.clone()).collect();
        if vms.is_empty() {
            return Ok(());
        }
        Err(HostError::MayRun { host: self.host.clone(), vms }.into())
    }

    /// Adds what moves one VM; its run has ended, and its next one has the paths of this host.
    fn take(&self, app: &App, copy: &VmCopy, owner: &str, changes: &mut ChangeSet) -> EvictedVm {
        let entry = &copy.vm.entry;
        let was_running = entry.open_run().is_some();
        let unknown = Phase::Ended(RunEnd { reason: StopReason::Unknown, at: None });
        let run = entry.run.as_ref().map(|run| Run {
            phase: if was_running { unknown } else { run.phase },
            process: None,
            paths: app.folders.run(&entry.id, run.boot),
            forwards: Vec::new(),
            ..run.clone()
        });
        changes.changes.push(Change::VmTakenOver {
            id: entry.id,
            expected: entry.revision,
            name: entry.name.clone(),
            host: self.host.clone(),
            owner: owner.to_owned(),
            run,
        });
        let data = json!({ "from_host": self.host, "from_owner": owner, "was_running": was_running });
        changes.events.push(app.committer().event(kind::VM_EVICTED, entry, data));
        EvictedVm { id: entry.id.to_string(), name: entry.name.to_string(), was_running }
    }
}
