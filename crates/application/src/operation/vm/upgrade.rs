//! `upgrade`: puts the running guest of a VM into another QEMU.

use std::path::PathBuf;

use derive_setters::Setters;
use maqet_domain::event::kind;
use maqet_domain::qmp::RunState;
use maqet_domain::vm::{HaltReason, MonitorAnswer, ProcessObservation, QemuProcess, Status, VmEntry};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::app::operations::{Done, Effect, Operation};
use crate::app::shown;
use crate::snapshot::live::LiveVm;
use crate::upgrade::error::UpgradeError;
use crate::upgrade::handover::{HandedOver, Handover};
use crate::upgrade::plan::{Request, plan};
use crate::vm::observe::{Observation, VmStatus};
use crate::{App, Error, HumanDuration};

/// Put the running guest of a VM into another QEMU, without a boot
///
/// That is the installed one after an update, or another version. The guest is paused while its state is copied, and memory in a
/// shared file is not copied. Processes and files in the guest stay as they are; connections to forwarded ports and to the
/// outside are lost. If the other QEMU cannot take the guest, it goes on where it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct Upgrade {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub vm: String,
    /// The other QEMU, until the VM stops [default: that of the definition]
    #[cfg_attr(feature = "clap", arg(long, value_name = "PATH"))]
    #[setters(strip_option)]
    pub binary: Option<PathBuf>,
    /// Refuse if the guest would be paused longer [default: any time]
    #[cfg_attr(feature = "clap", arg(long, value_name = "DURATION"))]
    #[setters(strip_option)]
    pub max_pause: Option<HumanDuration>,
}

impl Upgrade {
    /// Puts the guest of the VM `vm` into the QEMU of its definition.
    pub fn new(vm: impl Into<String>) -> Self {
        Self { vm: vm.into(), binary: None, max_pause: None }
    }
}

/// A guest that was put into another QEMU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Upgraded {
    /// The state of the VM.
    #[serde(flatten)]
    pub vm: VmStatus,
    /// The version of the QEMU that the guest was in.
    pub from: String,
    /// The version of the QEMU that it is in.
    pub to: String,
    /// The path of that QEMU.
    pub binary: String,
    /// How its memory got there: `shared-memory` or `copy`.
    pub method: &'static str,
    /// How long it was paused, in milliseconds; not there if something failed after it was in the other QEMU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause_ms: Option<u64>,
    /// What QEMU complained about, and what failed after the guest was in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl Operation for Upgrade {
    const NAME: &'static str = "upgrade";
    const EFFECT: Effect = Effect::Acts;
    type Output = Upgraded;

    async fn run(&self, app: &App) -> Result<Done<Upgraded>, Error> {
        // Boxed, as it holds two sessions, which makes it large.
        Box::pin(self.upgrade(app)).await
    }
}

impl Upgrade {
    async fn upgrade(&self, app: &App) -> Result<Done<Upgraded>, Error> {
        let (guard, vm) = app.vms().lock(&self.vm, Self::NAME).await?;
        let entry = &vm.entry;
        let job = app.jobs.start(Self::NAME, &entry.name);
        let machine = app.machine(&vm)?;
        let Some(mut live) = LiveVm::open(app, entry).await? else {
            let status = app.observer().observe_locked(entry).await.status;
            return Err(UpgradeError::WrongState { vm: entry.name.clone(), status }.into());
        };
        let max_pause = self.max_pause.map(HumanDuration::duration);
        let request = Request { binary: self.binary.as_deref(), max_pause };
        let plan = job.run(plan(app, &mut live, entry, machine, request)).await??;
        let handover = Handover { app, job: &job, operation: Self::NAME, plan: &plan };
        let done = handover.run(live, entry).await?;

        let upgraded = Upgraded {
            vm: status(&done, plan.runs),
            from: plan.from.to_string(),
            to: plan.binary.version.to_string(),
            binary: shown(&plan.binary.path),
            method: plan.choice.method.into(),
            pause_ms: done.pause.map(|pause| u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)),
            warnings: done.warnings.clone(),
        };
        let data = json!({
            "boot": done.run.boot, "from": upgraded.from, "to": upgraded.to, "method": upgraded.method,
            "pause_ms": upgraded.pause_ms,
        });
        let event = app.committer().event(kind::VM_UPGRADED, &done.entry, data);
        Ok(Done::changing(upgraded, done.entry.id, done.changes()).event(event).holding(guard))
    }
}

/// Returns the state of a VM whose guest is in another QEMU.
fn status(done: &HandedOver, runs: bool) -> VmStatus {
    let state = if runs { RunState::Running } else { RunState::Paused };
    let answer = ProcessObservation::Answered(MonitorAnswer::State(state));
    let status = Status::from_run(Some(&done.run), answer, false);
    let observation = match &done.run.process {
        Some(process) => Observation {
            halted: HaltReason::from_run_state(state),
            ..Observation::with_process(status, QemuProcess::Visible(process.clone()))
        },
        None => Observation::without_process(status),
    };
    VmStatus::new(&VmEntry { run: Some(done.run.clone()), ..done.entry.clone() }, &observation)
}
