//! `status`: the state a VM is in.

use serde::{Deserialize, Serialize};

use crate::app::operations::{Done, Effect, Operation};
use crate::vm::observe::VmStatus;
use crate::{App, Error};

/// Tells the state of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// The VM: a name, an id, or the unique beginning of one.
    pub vm: String,
}

impl Operation for Status {
    const NAME: &'static str = "status";
    const EFFECT: Effect = Effect::Reads;
    type Output = VmStatus;

    async fn run(&self, app: &App) -> Result<Done<VmStatus>, Error> {
        let entry = match app.vm(&self.vm).await {
            Ok(vm) => vm.entry,
            Err(Error::Orphaned(stray)) => return Ok(Done::reading(*stray)),
            Err(error) => return Err(error),
        };
        let seen = app.observe(&entry).await;
        Ok(Done::reading(VmStatus::new(&entry, &seen)))
    }
}
