//! Whether the guest of a command goes on, as QEMU says.
//!
//! A guest that has panicked, powered off or was reset says nothing more, and a connection to it may stay open.

use maqet_domain::port::Hypervisor;
use maqet_domain::qmp::{QmpCommand, RunState};
use maqet_domain::vm::HaltReason;
use serde::Deserialize;
use tokio::time::Instant;

use super::control::{Work, working};
use super::pump::PumpEnd;
use crate::vm::monitor::Monitored;
use crate::{App, limits};

/// Asks QEMU now and then.
pub(super) struct Watch<'a> {
    vm: &'a Monitored<'a>,
    resets: Option<Resets<'a>>,
    work: Work<'a, Option<PumpEnd>>,
    due: Instant,
}

/// How often the guest had reset itself before.
#[derive(Clone, Copy)]
struct Resets<'a> {
    hypervisor: &'a dyn Hypervisor,
    before: u64,
}

impl<'a> Watch<'a> {
    pub(super) fn new(vm: &'a Monitored<'a>) -> Self {
        Self { vm, resets: None, work: None, due: Instant::now() + limits::EXEC_WATCH_INTERVAL }
    }

    /// Notices resets, too, from now on, which nothing else shows soon where the command is not connected by ports.
    pub(super) async fn of_resets(self, app: &'a App) -> Self {
        let hypervisor = &*app.ports.hypervisor;
        let before = hypervisor.guest_resets(&self.vm.run.paths).await;
        Self { resets: Some(Resets { hypervisor, before }), ..self }
    }

    /// Asks if it is time.
    pub(super) fn start_if_due(&mut self) {
        if self.work.is_none() && Instant::now() >= self.due {
            self.work = Some(Box::pin(look(self.vm, self.resets)));
        }
    }

    /// Returns when it is time.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.work.is_none().then_some(self.due)
    }

    /// Waits for the answer to what was asked, forever if nothing was; returns how the command has ended if the guest does
    /// not go on. Cancel-safe.
    pub(super) async fn answer(&mut self) -> Option<PumpEnd> {
        let end = working(&mut self.work).await;
        (self.work, self.due) = (None, Instant::now() + limits::EXEC_WATCH_INTERVAL);
        end
    }
}

async fn look(vm: &Monitored<'_>, resets: Option<Resets<'_>>) -> Option<PumpEnd> {
    match vm.execute_watched(&QmpCommand::new("query-status"), limits::QUERY_TIMEOUT).await {
        Ok(reply) => {
            let state = reply.get("status").and_then(|state| RunState::deserialize(state).ok())?;
            if let Some(halted) = HaltReason::from_run_state(state).filter(|halted| is_final(*halted)) {
                return Some(PumpEnd::Halted(halted));
            }
        }
        Err(error) if error.is_connection_loss() => return Some(PumpEnd::Closed),
        Err(error) => tracing::debug!(%error, "cannot query the run state"),
    }
    let Resets { hypervisor, before } = resets?;
    (hypervisor.guest_resets(&vm.run.paths).await > before).then_some(PumpEnd::Lost(None))
}

/// Returns whether the command of a guest that does not run for this reason never goes on.
const fn is_final(halted: HaltReason) -> bool {
    match halted {
        HaltReason::GuestShutdown | HaltReason::GuestPanic | HaltReason::InternalError => true,
        HaltReason::Request
        | HaltReason::StartedPaused
        | HaltReason::Migrated
        | HaltReason::Watchdog
        | HaltReason::GuestSuspend
        | HaltReason::NoSpace
        | HaltReason::DiskError
        | HaltReason::PartialLoad => false,
    }
}
