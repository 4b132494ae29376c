//! `inspect`: the runtime details of a VM, from the kernel, from QEMU and from its disk images.

mod disk;
mod guest;
mod machine;
mod process;
mod socket;

use maqet_domain::machine::Machine;
use maqet_domain::vm::{Status, Vm};
use serde::{Deserialize, Serialize};

pub use self::disk::InspectedDisk;
pub use self::guest::InspectedGuest;
pub use self::machine::InspectedMachine;
pub use self::process::{CpuUse, InspectedProcess};
pub use self::socket::{InspectedSocket, SocketRole};

use self::disk::DiskInspector;
use self::machine::MachineQuery;
use self::process::CpuSample;
use self::socket::inspect_sockets;
use crate::app::operations::{Done, Effect, Operation};
use crate::vm::observe::{BusyReason, Observation, VmStatus};
use crate::{App, Error};

/// Returns the runtime details of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Inspect {
    /// The VM: a name, an ID, or a unique prefix of an ID.
    pub vm: String,
}

impl Inspect {
    /// Returns the runtime details of the VM `vm`.
    pub fn new(vm: impl Into<String>) -> Self {
        Self { vm: vm.into() }
    }
}

/// The runtime details of a VM.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct VmInspection {
    /// Its state and its last run.
    #[serde(flatten)]
    pub vm: VmStatus,
    /// Its QEMU process, if it is alive.
    pub process: Option<InspectedProcess>,
    /// Details from QEMU, if its monitor answers.
    pub machine: Option<InspectedMachine>,
    /// Details from the guest, if its agent answers.
    pub guest: Option<InspectedGuest>,
    /// Its disks and shares: those of the definition, then the other disks of the running VM.
    pub disks: Vec<InspectedDisk>,
    /// Its sockets, if it runs.
    pub sockets: Vec<InspectedSocket>,
}

impl Operation for Inspect {
    const NAME: &'static str = "inspect";
    const EFFECT: Effect = Effect::Reads;
    type Output = VmInspection;

    async fn run(&self, app: &App) -> Result<Done<VmInspection>, Error> {
        let vm = app.vms().find(&self.vm).await?;
        let (entry, observation) = app.observer().observe_closely(vm.entry).await;
        let vm = Vm { entry, ..vm };
        let live = vm.entry.run.as_ref().zip(observation.process.as_ref());

        // The sample overlaps with the queries, so that it adds little time of its own.
        let sample = observation.visible_process().and_then(|process| CpuSample::begin(&*app.ports.stats, process));
        let details = match live {
            // A monitor that has just timed out would do so again.
            Some((run, _)) if is_responsive(&observation) => {
                MachineQuery::new(&*app.ports.monitors, &run.paths).details().await
            }
            Some(_) | None => None,
        };
        let block_devices = details.as_ref().map(|details| details.block_devices.as_slice());
        let disks = DiskInspector { preflight: app.preflight(), entry: &vm.entry }
            .inspect(&definition(app, &vm), block_devices)
            .await?;
        let chardevs = details.as_ref().map(|details| details.chardevs.as_slice());
        let sockets = match live {
            Some((run, _)) => inspect_sockets(&*app.ports.paths, &run.paths, chardevs).await,
            None => Vec::new(),
        };
        let guest = match live.zip(chardevs) {
            Some(((run, _), chardevs)) => InspectedGuest::read(app, &run.paths, chardevs).await,
            None => None,
        };
        let process = match sample {
            Some(sample) => sample.end().await,
            None => None,
        };
        Ok(Done::reading(VmInspection {
            vm: VmStatus::new(&vm.entry, &observation),
            process,
            machine: details.map(|details| details.machine),
            guest,
            disks,
            sockets,
        }))
    }
}

fn is_responsive(observation: &Observation) -> bool {
    observation.status != Status::Unreachable && !observation.busy.as_ref().is_some_and(BusyReason::is_unresponsive)
}

/// Returns the definition of a VM; an empty one if it is invalid, as one written by another version of maqet may be.
/// Such a VM may still run.
fn definition(app: &App, vm: &Vm) -> Machine {
    app.machine(vm).unwrap_or_else(|error| {
        tracing::warn!(%error, "invalid definition; showing only the disks of the running VM");
        Machine::default()
    })
}
