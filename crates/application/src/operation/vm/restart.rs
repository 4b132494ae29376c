//! `restart`: stops a VM and starts it again.

use derive_setters::Setters;
use maqet_domain::vm::Vm;
use serde::{Deserialize, Serialize};

use super::start::{self, StartOptions};
use super::stop::stop;
use crate::app::operations::{Done, Effect, Operation};
use crate::log::failure::LogFailure;
use crate::start::mismatches::ImageMismatches;
use crate::vm::observe::VmStatus;
use crate::vm::shutdown::StopMethod;
use crate::{App, Error, HumanDuration};

/// Stops a VM, if it is running, and starts it with its current definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Setters)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct Restart {
    /// The VM: a name, an ID, or a unique prefix of an ID.
    pub vm: String,
    /// How long the guest may take to power off before QEMU gets `quit`.
    pub timeout: Option<HumanDuration>,
    /// Kills QEMU immediately instead.
    #[serde(default)]
    pub force: bool,
    /// Images to create although they were created once and are gone: names of drives, `uefi-vars`, or `tpm-state`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recreate: Vec<String>,
}

impl Restart {
    /// Restarts the VM `vm`.
    pub fn new(vm: impl Into<String>) -> Self {
        Self { vm: vm.into(), timeout: None, force: false, recreate: Vec::new() }
    }
}

/// A VM that was restarted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Restarted {
    /// Its state.
    #[serde(flatten)]
    pub vm: VmStatus,
    /// How it was stopped.
    pub method: StopMethod,
    /// How often the power button was pressed.
    pub presses: u32,
    /// How long it took to stop it, in milliseconds.
    pub waited_ms: u64,
    /// How long the guest had to power off; see [`Stopped`](super::Stopped).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power_cut_after_ms: Option<u64>,
    /// Images that differ from the definition; they stay as they are.
    #[serde(flatten)]
    pub mismatches: ImageMismatches,
    /// Why the events and logs of this boot cannot be written; see [`Started`](super::Started).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_failure: Option<LogFailure>,
    /// What QEMU complained about; see [`Started`](super::Started).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl Operation for Restart {
    const NAME: &'static str = "restart";
    const EFFECT: Effect = Effect::Acts;
    type Output = Restarted;

    /// Under one lock, so that no other process starts it in between.
    async fn run(&self, app: &App) -> Result<Done<Restarted>, Error> {
        let vms = app.vms();
        let locked = vms.lock_frozen(&self.vm, Self::NAME).await;
        let (guard, mut vm) = locked.map_err(|error| error.offering_force(&self.vm))?;
        if !self.force {
            // A frozen guest cannot power off, but its power can be cut.
            match vms.recover(vm.clone(), &*guard).await {
                Err(error) if error.is_not_thawed() => tracing::warn!(vm = %vm.entry.name, %error, "it is restarted"),
                recovered => vm = recovered?,
            }
        }
        // A VM that could not start again is left running.
        let options = StartOptions { recreate: &self.recreate, ..StartOptions::default() };
        start::check(app, &vm, options).await?;
        // So is one whose run cannot be recorded.
        let entry = app.committer().record_run(&vm.entry, vm.entry.run.clone()).await?;
        let vm = Vm { entry, ..vm };
        let stopped = stop(app, &vm.entry, Self::NAME, self.timeout, self.force).await?;
        let vm = vms.recover(vms.reread(&vm).await?, &*guard).await?;
        let started = start::start(app, &vm, options).await?;
        let restarted = started.map(|started| Restarted {
            vm: started.vm,
            method: stopped.method,
            presses: stopped.presses,
            waited_ms: stopped.waited_ms,
            power_cut_after_ms: stopped.power_cut_after_ms,
            mismatches: started.mismatches,
            log_failure: started.log_failure,
            warnings: started.warnings,
        });
        Ok(restarted.about(vm.entry.id).holding(guard))
    }
}
