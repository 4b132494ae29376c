//! `restart`: stops a VM and starts it again.

use maqet_domain::vm::Vm;
use serde::{Deserialize, Serialize};

use super::{start, stop};
use crate::app::operations::{Done, Effect, Operation};
use crate::start::size_mismatch::SizeMismatch;
use crate::vm::observe::VmStatus;
use crate::vm::shutdown::StopMethod;
use crate::{App, Error, HumanDuration};

/// Stops a VM, if it runs, and starts it with its definition as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    /// The VM: a name, an id, or the unique beginning of one.
    pub vm: String,
    /// How long the guest may take to power off before QEMU is told to quit.
    #[serde(default)]
    pub timeout: Option<HumanDuration>,
    /// Kills QEMU at once instead.
    #[serde(default)]
    pub force: bool,
}

/// A VM that was stopped and runs again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Restarted {
    /// Its state.
    #[serde(flatten)]
    pub vm: VmStatus,
    /// What it took to stop it.
    pub how: StopMethod,
    /// Drives whose images keep another size than the definition says.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub size_mismatches: Vec<SizeMismatch>,
}

impl Operation for Restart {
    const NAME: &'static str = "restart";
    const EFFECT: Effect = Effect::Acts;
    type Output = Restarted;

    /// Under one lock, so that nobody starts it in between.
    async fn run(&self, app: &App) -> Result<Done<Restarted>, Error> {
        let (guard, vm) = app.lock(&self.vm, Self::NAME).await?;
        // A VM that could not come up again is left running.
        start::check(app, &vm).await?;
        // Nor could one of which nothing can be written down.
        let entry = app.record_run(&vm.entry, vm.entry.run.clone()).await?;
        let vm = Vm { entry, ..vm };
        let how = stop::stop(app, &vm.entry, self.timeout, self.force).await?.how;
        let vm = app.reread(&vm).await?;
        let started = start::start(app, &vm, None).await?;
        let restarted =
            started.map(|started| Restarted { vm: started.vm, how, size_mismatches: started.size_mismatches });
        Ok(restarted.about(vm.entry.id).holding(guard))
    }
}
