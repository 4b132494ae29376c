//! `checkpoint create`.

use derive_setters::Setters;
use maqet_domain::change::ChangeSet;
use maqet_domain::checkpoint::CheckpointName;
use serde::{Deserialize, Serialize};

use super::CheckpointSummary;
use crate::app::commit::work_done;
use crate::app::operations::{Done, Effect, Operation};
use crate::checkpoint::create::{Created, Request, created_event, take};
use crate::checkpoint::error::CheckpointError;
use crate::{App, Error, HumanDuration};

/// Take a checkpoint of a running VM: its memory, devices and disks of one moment
///
/// The guest is paused for some milliseconds, and then runs on while QEMU writes its memory. Where QEMU cannot track what
/// the guest writes, the guest is paused until all is written. From then on, the guest writes to a new layer on top of each
/// disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct CheckpointCreate {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub vm: String,
    /// The name of the checkpoint
    pub name: String,
    /// A description, shown in lists
    #[cfg_attr(feature = "clap", arg(long, value_name = "TEXT"))]
    #[setters(strip_option)]
    pub description: Option<String>,
    /// Refuse a checkpoint for which the guest would be paused longer [default: any time]
    #[cfg_attr(feature = "clap", arg(long, value_name = "DURATION"))]
    #[setters(strip_option)]
    pub max_pause: Option<HumanDuration>,
    /// Wait until the files are on disk, so that a power failure does not lose them
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long))]
    pub durable: bool,
    /// Timeout, after which nothing is left of the checkpoint [default: none]
    #[cfg_attr(feature = "clap", arg(long, value_name = "DURATION"))]
    #[setters(strip_option)]
    pub timeout: Option<HumanDuration>,
}

impl CheckpointCreate {
    /// Takes the checkpoint `name` of the VM `vm`.
    pub fn new(vm: impl Into<String>, name: impl Into<String>) -> Self {
        let (vm, name) = (vm.into(), name.into());
        Self { vm, name, description: None, max_pause: None, durable: false, timeout: None }
    }
}

/// A checkpoint that was taken.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CheckpointCreated {
    /// The VM's ID.
    pub id: String,
    /// The VM's name.
    pub name: String,
    /// The checkpoint.
    pub checkpoint: CheckpointSummary,
    /// Why it was taken by this method.
    pub reason: String,
}

impl Operation for CheckpointCreate {
    const NAME: &'static str = "checkpoint.create";
    const EFFECT: Effect = Effect::Notes;
    type Output = CheckpointCreated;

    async fn run(&self, app: &App) -> Result<Done<CheckpointCreated>, Error> {
        // Boxed, as it holds a session, which makes it large.
        Box::pin(self.create(app)).await
    }
}

impl CheckpointCreate {
    async fn create(&self, app: &App) -> Result<Done<CheckpointCreated>, Error> {
        let name = CheckpointName::parse(&self.name).map_err(CheckpointError::from)?;
        let (guard, vm) = app.vms().lock(&self.vm, Self::NAME).await?;
        let job = app.jobs.start(Self::NAME, &vm.entry.name).within(self.timeout);
        let description = self.description.clone().filter(|text| !text.is_empty());
        let request = Request { name, description, is_durable: self.durable, is_temporary: false, template: None };
        let max_pause = self.max_pause.map(HumanDuration::duration);
        let taken = take(app, &job, (&*guard, &vm), request, max_pause, Self::NAME).await?;
        let Created { entry, directory, manifest } = taken;

        let checkpoint = CheckpointSummary::new(&directory, &manifest);
        let event = created_event(app, &entry, &manifest);
        let changes = ChangeSet::default().and(work_done(&entry));
        let (id, name) = (entry.id.to_string(), entry.name.to_string());
        let created = CheckpointCreated { id, name, checkpoint, reason: manifest.reason };
        Ok(Done::changing(created, entry.id, changes).event(event).holding(guard))
    }
}
