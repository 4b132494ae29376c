//! `status`: the state a VM is in.

use serde::{Deserialize, Serialize};

use crate::app::operations::{Done, Effect, Operation};
use crate::vm::observe::VmStatus;
use crate::{App, Error};

/// Returns the state of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Status {
    /// The VM: a name, an ID, or a unique prefix of an ID.
    pub vm: String,
}

impl Status {
    /// Returns the state of the VM `vm`.
    pub fn new(vm: impl Into<String>) -> Self {
        Self { vm: vm.into() }
    }
}

impl Operation for Status {
    const NAME: &'static str = "status";
    const EFFECT: Effect = Effect::Reads;
    type Output = VmStatus;

    async fn run(&self, app: &App) -> Result<Done<VmStatus>, Error> {
        let entry = match app.vms().find(&self.vm).await {
            Ok(vm) => vm.entry,
            Err(Error::Orphaned(orphan)) => return Ok(Done::reading(*orphan)),
            Err(error) => return Err(error),
        };
        let (entry, observation) = app.observer().observe_closely(entry).await;
        Ok(Done::reading(VmStatus::new(&entry, &observation)))
    }
}
