//! The steps of a checkpoint in QEMU.

use std::path::Path;
use std::time::Duration;

use maqet_domain::checkpoint::CheckpointMethod;
use maqet_domain::qmp::wording::is_migration_unfinished;
use maqet_domain::qmp::{MigrationInfo, QmpCommand, QmpError};
use maqet_domain::storage::LayerNodes;
use maqet_domain::vm::NewLayer;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::preflight::{PlannedDisk, background_snapshot, query_migrate};
use crate::app::shown;
use crate::snapshot::live::LiveVm;
use crate::{Error, limits};

/// The name of the descriptor that QEMU writes to (before 9.0), and of the set of it (since).
const DESCRIPTOR: &str = "maqet-checkpoint";

/// The number of the set of descriptors.
const DESCRIPTOR_SET: u32 = 773;

/// The parameter that limits how fast QEMU writes.
const MAX_BANDWIDTH: &str = "max-bandwidth";

/// Where QEMU writes a checkpoint to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sink {
    /// A descriptor with a name.
    Named,
    /// A set of descriptors that is opened as a file; a named one would be a pipe or a socket for QEMU (9.0 and later).
    Set,
}

impl Sink {
    fn uri(self) -> String {
        match self {
            Self::Named => format!("fd:{DESCRIPTOR}"),
            Self::Set => format!("file:/dev/fdset/{DESCRIPTOR_SET}"),
        }
    }
}

/// Returns the block nodes of a layer.
pub(super) fn nodes(layer: &NewLayer) -> LayerNodes {
    LayerNodes::new(layer.number, layer.position)
}

/// Ignores that QEMU refused a command.
pub(crate) fn unless_refused(reply: Result<Value, QmpError>) -> Result<(), QmpError> {
    match reply {
        Ok(_) | Err(QmpError::Refused { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

impl LiveVm<'_> {
    /// Opens the layers, which nothing uses yet.
    pub(super) async fn open_layers(&mut self, disks: &[PlannedDisk], layers: &[NewLayer]) -> Result<(), QmpError> {
        for (disk, layer) in disks.iter().zip(layers) {
            for command in nodes(layer).open(&disk.spec, &shown(&layer.path)) {
                self.query(&command).await?;
            }
        }
        Ok(())
    }

    /// Closes the layers, as far as nothing uses them.
    pub(super) async fn close_layers(&mut self, layers: &[NewLayer]) -> Result<(), QmpError> {
        for command in layers.iter().flat_map(|layer| nodes(layer).close()) {
            unless_refused(self.query(&command).await)?;
        }
        Ok(())
    }

    /// Passes QEMU the file that it writes to.
    pub(super) async fn pass_stream(&mut self, stream: &Path, is_set: bool) -> Result<Sink, QmpError> {
        if is_set {
            let command = QmpCommand::new("add-fd").with("fdset-id", DESCRIPTOR_SET).with("opaque", DESCRIPTOR);
            self.query_with_file(&command, stream).await?;
            return Ok(Sink::Set);
        }
        self.query_with_file(&QmpCommand::new("getfd").with("fdname", DESCRIPTOR), stream).await?;
        Ok(Sink::Named)
    }

    /// Lets the guest write to the layers from then on, all or none.
    pub(super) async fn freeze_disks(&mut self, disks: &[PlannedDisk], layers: &[NewLayer]) -> Result<(), QmpError> {
        if layers.is_empty() {
            return Ok(());
        }
        let snapshot = |(disk, layer): (&PlannedDisk, &NewLayer)| nodes(layer).snapshot(&disk.node);
        self.query(&QmpCommand::transaction(disks.iter().zip(layers).map(snapshot))).await.map(drop)
    }

    /// Prepares QEMU for the method, and has it write as fast as it can.
    pub(super) async fn prepare_saving(&mut self, method: CheckpointMethod) -> Result<(), QmpError> {
        if method == CheckpointMethod::BackgroundSnapshot {
            self.query(&background_snapshot(true)).await?;
        }
        self.limit_bandwidth(0).await
    }

    /// Limits how fast QEMU writes; not at all if it is 0.
    pub(crate) async fn limit_bandwidth(&mut self, bytes: u64) -> Result<(), QmpError> {
        self.query(&QmpCommand::new("migrate-set-parameters").with(MAX_BANDWIDTH, bytes)).await.map(drop)
    }

    /// Leaves nothing of the preparation; a step that QEMU refuses is left out.
    pub(super) async fn end_saving(&mut self, bandwidth: Option<u64>) -> Result<(), QmpError> {
        unless_refused(self.query(&background_snapshot(false)).await)?;
        if let Some(bandwidth) = bandwidth {
            let limited = self.limit_bandwidth(bandwidth).await.map(|()| Value::Null);
            unless_refused(limited)?;
        }
        unless_refused(self.query(&QmpCommand::new("remove-fd").with("fdset-id", DESCRIPTOR_SET)).await)
    }

    /// Begins to write.
    pub(super) async fn begin_saving(&mut self, sink: Sink) -> Result<(), QmpError> {
        self.query(&QmpCommand::new("migrate").with("uri", sink.uri())).await.map(drop)
    }

    /// Returns what QEMU reports of its last migration.
    pub(crate) async fn migration(&mut self) -> Result<MigrationInfo, QmpError> {
        Ok(MigrationInfo::from_reply(&self.query(&query_migrate()).await?))
    }

    /// Waits until the state of the devices was taken.
    pub(super) async fn wait_for_memory(&mut self) -> Result<MigrationInfo, QmpError> {
        let deadline = Instant::now() + limits::CHECKPOINT_MOMENT_TIMEOUT;
        loop {
            let info = self.migration().await?;
            if info.has_begun_memory() {
                return Ok(info);
            }
            require_time(deadline, "migrate")?;
            sleep(limits::CHECKPOINT_MOMENT_INTERVAL).await;
        }
    }

    /// Waits until all was written, or it failed, and calls `progress` meanwhile.
    pub(crate) async fn wait_for_end(
        &mut self,
        mut progress: impl FnMut(&MigrationInfo),
    ) -> Result<MigrationInfo, QmpError> {
        let mut pause = Duration::from_millis(5);
        loop {
            let info = self.migration().await?;
            progress(&info);
            if !info.is_under_way() {
                return Ok(info);
            }
            sleep(pause).await;
            pause = (pause * 2).min(limits::QMP_JOB_INTERVAL);
        }
    }

    /// Has QEMU give up writing; the guest does not run on by that.
    pub(crate) async fn cancel_saving(&mut self) -> Result<MigrationInfo, QmpError> {
        unless_refused(self.query(&QmpCommand::new("migrate_cancel")).await)?;
        self.wait_for_end(|_| {}).await
    }

    /// Lets the guest run on, which may have been paused for a checkpoint; one that runs already is left alone.
    pub(crate) async fn run_on(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + limits::CHECKPOINT_MOMENT_TIMEOUT;
        loop {
            match self.query(&QmpCommand::new("cont")).await {
                Ok(_) => return Ok(()),
                Err(QmpError::Refused { description, .. }) if is_migration_unfinished(&description) => {
                    require_time(deadline, "cont")?;
                    sleep(limits::CHECKPOINT_MOMENT_INTERVAL).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Returns the state of the guest's drives: whether they write to the layers.
    pub(super) async fn is_layered(&mut self, layers: &[NewLayer]) -> Result<bool, QmpError> {
        let media = self.media().await?;
        Ok(layers.iter().any(|layer| media.iter().any(|medium| medium.file == layer.path)))
    }

    /// Returns the named block nodes.
    pub(super) async fn block_nodes(&mut self) -> Result<Vec<Value>, QmpError> {
        let reply = self.query(&QmpCommand::new("query-named-block-nodes").with("flat", true)).await?;
        Ok(reply.as_array().cloned().unwrap_or_default())
    }
}

/// Returns an error once QEMU has taken too long for what the guest is paused for.
fn require_time(deadline: Instant, command: &str) -> Result<(), QmpError> {
    if Instant::now() < deadline {
        return Ok(());
    }
    Err(QmpError::Unresponsive { command: command.to_owned(), after: limits::CHECKPOINT_MOMENT_TIMEOUT })
}

/// Returns what stands for the last migration of QEMU, to tell a later one from it.
pub(super) fn mark_of(migration: &Value) -> Value {
    json!({
        "status": migration["status"], "total-time": migration["total-time"],
        "transferred": migration["ram"]["transferred"], "error-desc": migration["error-desc"],
    })
}
