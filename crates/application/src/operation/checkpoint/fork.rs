//! `fork`: new VMs that go on from a checkpoint.

pub(crate) mod making;
pub(crate) mod network;
pub(crate) mod now;

use derive_setters::Setters;
use maqet_domain::checkpoint::CheckpointName;
use maqet_domain::vm::Vm;
use serde::{Deserialize, Serialize};

use self::making::{ForkOptions, fork_all, keep_all, names, require_forkable};
use crate::app::operations::{Done, Effect, Operation};
use crate::checkpoint::error::CheckpointError;
use crate::checkpoint::place::Place;
use crate::throw_away::{Lifetime, remove_left_over};
use crate::vm::observe::VmStatus;
use crate::{App, Error};

/// Start new VMs from a checkpoint: each goes on where the guest was, with disks of its own
///
/// The memory and the disks of the checkpoint are shared, and each fork has only what it changes. It is a VM as any other from
/// then on. Ports that are forwarded are chosen by QEMU, and shown; connections of the guest are lost. Without a
/// checkpoint, one of the running VM is taken, which is removed once no fork builds on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct Fork {
    /// The checkpoint, as in `web@booted`, or a running VM, to go on from now
    #[cfg_attr(feature = "clap", arg(value_name = "VM[@CHECKPOINT]"))]
    pub checkpoint: String,
    /// How many VMs [default: 1]
    #[cfg_attr(feature = "clap", arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000)))]
    #[setters(strip_option)]
    pub count: Option<u32>,
    /// Their name, to which a number is added if there are several [default: that of the VM, with a number]
    #[cfg_attr(feature = "clap", arg(long, value_name = "PREFIX"))]
    #[setters(strip_option)]
    pub name: Option<String>,
    /// Leave their guests paused
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long))]
    pub paused: bool,
    /// Remove each of them, with its disks, once it has stopped
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long))]
    pub ephemeral: bool,
    /// What their network cards are connected to
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long, value_enum, default_value_t, value_name = "WHICH"))]
    pub network: ForkNetwork,
}

/// What the network cards of forks are connected to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum ForkNetwork {
    /// Each to a network as that of the VM; one that other machines are in is refused
    #[default]
    Same,
    /// To nothing: the guests see that the link is down, and have no cards from their next start on
    None,
}

impl Fork {
    /// Starts a VM from a checkpoint, as in `web@booted`, or from the running VM `web`.
    pub fn new(checkpoint: impl Into<String>) -> Self {
        let (checkpoint, network) = (checkpoint.into(), ForkNetwork::default());
        Self { checkpoint, count: None, name: None, paused: false, ephemeral: false, network }
    }
}

/// VMs that were started from a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Forked {
    /// The ID of the VM that the checkpoint is of.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The checkpoint.
    pub checkpoint: CheckpointName,
    /// The new VMs.
    pub forks: Vec<VmStatus>,
    /// What QEMU complained about, and what they have in common that they should not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl Operation for Fork {
    const NAME: &'static str = "fork";
    const EFFECT: Effect = Effect::Acts;
    type Output = Forked;

    async fn run(&self, app: &App) -> Result<Done<Forked>, Error> {
        Box::pin(self.fork(app)).await
    }
}

impl Fork {
    async fn fork(&self, app: &App) -> Result<Done<Forked>, Error> {
        remove_left_over(app, Self::NAME).await;
        now::remove_unused(app).await;
        let (vm, checkpoint) = match self.checkpoint.split_once('@') {
            Some((vm, name)) => (vm, Some(CheckpointName::parse(name).map_err(CheckpointError::from)?)),
            None => (&*self.checkpoint, None),
        };
        // So that the checkpoint stays.
        let (guard, vm) = app.vms().lock(vm, Self::NAME).await?;
        let is_named = checkpoint.is_some();
        let checkpoint = match checkpoint {
            Some(checkpoint) => checkpoint,
            None => now::take_temporary(app, &*guard, &vm, Self::NAME).await?,
        };
        match self.fork_checkpoint(app, &vm, checkpoint).await {
            Ok(forked) => Ok(Done::reading(forked).about(vm.entry.id).holding(guard)),
            Err(error) => {
                drop(guard);
                if !is_named {
                    now::remove_unused(app).await;
                }
                Err(error)
            }
        }
    }

    async fn fork_checkpoint(&self, app: &App, vm: &Vm, checkpoint: CheckpointName) -> Result<Forked, Error> {
        let place = Place::read(app, &vm.entry.id).await?;
        let found = place.find(&vm.entry, checkpoint.as_str())?;
        require_forkable(app, found, self.network).await?;
        let count = usize::try_from(self.count.unwrap_or(1)).unwrap_or(usize::MAX);
        let prefix = self.name.as_deref().unwrap_or(vm.entry.name.as_str());
        let names = names(app, prefix, count, self.name.is_some()).await?;
        let options = ForkOptions { paused: self.paused, foreground: false, network: self.network };
        let forks = fork_all(app, found, names, options, Self::NAME).await?;
        let all = forks.iter().map(|fork| fork.started.vm.clone()).collect();
        let mut warnings: Vec<String> = forks.iter().flat_map(|fork| fork.started.warnings.clone()).collect();
        warnings.sort_unstable();
        warnings.dedup();
        let lifetime = if self.ephemeral { Lifetime::OfRun } else { Lifetime::Unlimited };
        keep_all(app, forks, options, lifetime, Self::NAME).await?;
        if !found.manifest.has_generation_id {
            warnings.push("the guests draw the same random numbers: the VM had no generation ID".to_owned());
        }
        let (id, name) = (vm.entry.id.to_string(), vm.entry.name.to_string());
        Ok(Forked { id, name, checkpoint, forks: all, warnings })
    }
}
