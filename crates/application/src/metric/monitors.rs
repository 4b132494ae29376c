//! The monitors of VMs, with the latency of their commands.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use maqet_domain::metric::step;
use maqet_domain::port::{MainLoop, MonitorSession, Monitors, PassedFor, SessionEvent};
use maqet_domain::qmp::{QmpCommand, QmpError};
use maqet_domain::vm::{MonitorAnswer, RunPaths};
use serde_json::Value;
use tracing::Span;

use super::meter::Meter;

/// Measures the commands of other monitors.
pub(crate) struct MeasuredMonitors {
    monitors: Arc<dyn Monitors>,
    meter: Arc<Meter>,
}

impl MeasuredMonitors {
    pub(crate) fn new(monitors: Arc<dyn Monitors>, meter: Arc<Meter>) -> Self {
        Self { monitors, meter }
    }
}

#[async_trait]
impl Monitors for MeasuredMonitors {
    async fn execute(&self, paths: &RunPaths, command: &QmpCommand, timeout: Duration) -> Result<Value, QmpError> {
        let work = self.monitors.execute(paths, command, timeout);
        self.meter.step(step::QMP, span(&command.execute), work).await
    }

    async fn answer(&self, paths: &RunPaths, timeout: Duration) -> MonitorAnswer {
        let work = async {
            match self.monitors.answer(paths, timeout).await {
                answer @ MonitorAnswer::State(_) => Ok(answer),
                other => Err(other),
            }
        };
        let (Ok(answer) | Err(answer)) = self.meter.step(step::QMP, span("query-status"), work).await;
        answer
    }

    async fn session(&self, paths: &RunPaths, timeout: Duration) -> Result<Box<dyn MonitorSession>, QmpError> {
        let session = self.monitors.session(paths, timeout).await?;
        Ok(Box::new(MeasuredSession { session, meter: Arc::clone(&self.meter) }))
    }
}

fn span(command: &str) -> Span {
    tracing::trace_span!("qmp", command)
}

struct MeasuredSession {
    session: Box<dyn MonitorSession>,
    meter: Arc<Meter>,
}

#[async_trait]
impl MonitorSession for MeasuredSession {
    async fn execute(&mut self, command: &QmpCommand, timeout: Duration) -> Result<Value, QmpError> {
        let work = self.session.execute(command, timeout);
        self.meter.step(step::QMP, span(&command.execute), work).await
    }

    async fn execute_with_file(
        &mut self,
        command: &QmpCommand,
        file: &Path,
        purpose: PassedFor,
        timeout: Duration,
    ) -> Result<Value, QmpError> {
        let work = self.session.execute_with_file(command, file, purpose, timeout);
        self.meter.step(step::QMP, span(&command.execute), work).await
    }

    async fn next_event(&mut self, timeout: Duration) -> Result<Option<SessionEvent>, QmpError> {
        self.session.next_event(timeout).await
    }

    async fn main_loop(&mut self, timeout: Duration) -> MainLoop {
        self.session.main_loop(timeout).await
    }
}
