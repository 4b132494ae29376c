//! The QEMU that copies drives to a backup: that of the running VM, or one without a guest.

use std::path::Path;
use std::time::Duration;

use maqet_domain::backup::DirtyBitmap;
use maqet_domain::port::{ImageServer, MonitorSession};
use maqet_domain::qemu::BACKUP_PREFIX;
use maqet_domain::qmp::{QmpCommand, QmpError};
use maqet_domain::vm::RunPaths;
use serde_json::{Value, json};

use super::changes::remove_bitmaps;
use crate::app::shown;
use crate::guest::error::ExecError;
use crate::guest::quiesce::Frozen;
use crate::job::Job;
use crate::job::qmp_job::QmpJobs;
use crate::{App, Error, limits};

/// The granularity of bitmaps: the cluster size of the images of backups, so that what changed is what is copied.
const GRANULARITY: u64 = 64 << 10;

/// A session with the QEMU that copies drives.
pub(crate) struct Copier {
    session: Box<dyn MonitorSession>,
    /// The QEMU, if it is there for the backup only.
    server: Option<Box<dyn ImageServer>>,
    timeout: Duration,
}

/// A drive to copy.
#[derive(Debug, Clone)]
pub(crate) struct Copy {
    /// The block node of the drive.
    pub(crate) node: String,
    /// The block node of the image, which is written.
    pub(crate) target: String,
    /// The bitmap with what to copy; `None` for all.
    pub(crate) bitmap: Option<String>,
}

/// Returns the name of the block node of an image, by the index of its drive.
pub(crate) fn target_node(index: usize) -> String {
    format!("{BACKUP_PREFIX}{index}")
}

impl Copier {
    /// Opens a session with the QEMU at `paths`; `server` is that QEMU, if it is there for the backup only.
    pub(crate) async fn open(app: &App, paths: &RunPaths, server: Option<Box<dyn ImageServer>>) -> Result<Self, Error> {
        let timeout = app.timeouts().qmp;
        let session = app.ports.monitors.session(paths, timeout).await?;
        Ok(Self { session, server, timeout })
    }

    async fn execute(&mut self, command: &QmpCommand) -> Result<Value, QmpError> {
        self.session.execute(command, self.timeout).await
    }

    /// Returns the version of QEMU.
    pub(crate) async fn version(&mut self) -> Result<String, QmpError> {
        let reply = self.execute(&QmpCommand::new("query-version")).await?;
        let part = |name: &str| reply["qemu"][name].as_u64().unwrap_or_default();
        Ok(format!("{}.{}.{}", part("major"), part("minor"), part("micro")))
    }

    /// Returns the run state.
    pub(crate) async fn run_state(&mut self) -> Result<String, QmpError> {
        let reply = self.execute(&QmpCommand::new("query-status")).await?;
        Ok(reply["status"].as_str().unwrap_or_default().to_owned())
    }

    /// Resumes the guest.
    pub(crate) async fn resume(&mut self) -> Result<(), QmpError> {
        self.execute(&QmpCommand::new("cont")).await.map(drop)
    }

    /// Returns the block nodes with a name.
    pub(crate) async fn nodes(&mut self) -> Result<Vec<Value>, QmpError> {
        let reply = self.execute(&QmpCommand::new("query-named-block-nodes").with("flat", true)).await?;
        Ok(reply.as_array().cloned().unwrap_or_default())
    }

    /// Adds a bitmap to each of the nodes, all or none; they are stored when QEMU ends cleanly.
    pub(crate) async fn add_bitmaps(&mut self, nodes: &[String], name: &str) -> Result<(), QmpError> {
        if nodes.is_empty() {
            return Ok(());
        }
        let add = |node: &String| {
            let command = QmpCommand::new("block-dirty-bitmap-add").with("node", node.as_str()).with("name", name);
            command.with("persistent", true).with("granularity", GRANULARITY)
        };
        self.execute(&QmpCommand::transaction(nodes.iter().map(add))).await.map(drop)
    }

    /// Removes bitmaps of block nodes, each given with its node, all or none.
    pub(crate) async fn remove_bitmaps(&mut self, bitmaps: &[(String, String)]) -> Result<(), QmpError> {
        remove_bitmaps(&mut *self.session, bitmaps, self.timeout).await
    }

    /// Opens an image to write a backup to.
    pub(crate) async fn add_target(&mut self, node: &str, file: &Path, has_base: bool) -> Result<(), QmpError> {
        let command = QmpCommand::new("blockdev-add").with("driver", "qcow2").with("node-name", node);
        let command = command.with("file", json!({ "driver": "file", "filename": shown(file) }));
        // The image that it builds on is not needed to write whole clusters.
        let command = if has_base { command.with("backing", Value::Null) } else { command };
        self.execute(&command).await.map(drop)
    }

    /// Copies drives, all of them as they are at one moment; `started` is called once that has passed, and then a guest that is
    /// frozen for it is thawed.
    ///
    /// If the job is canceled, or a drive fails, none of the copies goes on.
    pub(crate) async fn copy(
        &mut self,
        app: &App,
        job: &Job<'_>,
        copies: &[Copy],
        started: impl FnOnce(),
        frozen: Option<Frozen<'_>>,
    ) -> Result<(), Error> {
        let now = app.ports.clock.now();
        let ids: Vec<String> = (0..copies.len()).map(|index| QmpJobs::id(&format!("backup-{index}"), now)).collect();
        let backup = |(copy, id): (&Copy, &String)| {
            let command = QmpCommand::new("blockdev-backup").with("job-id", id.as_str());
            let command = command.with("device", copy.node.as_str()).with("target", copy.target.as_str());
            let command = command.with("auto-dismiss", false);
            match &copy.bitmap {
                // The bitmap itself does not change: it is removed once the backup is complete.
                Some(bitmap) => {
                    command.with("sync", "bitmap").with("bitmap", bitmap.as_str()).with("bitmap-mode", "never")
                }
                None => command.with("sync", "full"),
            }
        };
        let command = QmpCommand::transaction(copies.iter().zip(&ids).map(backup));
        let command = command.with("properties", json!({ "completion-mode": "grouped" }));
        let jobs = QmpJobs::start(&mut *self.session, ids, &command).await;
        started();
        let thawed = match frozen {
            Some(frozen) => frozen.thaw().await.map_err(ExecError::from),
            None => Ok(()),
        };
        let mut jobs = unless_frozen(jobs, thawed).await?;
        let report = |done, total| job.report(crate::ProgressUnit::Bytes, done, total);
        let outcome = job.run(jobs.conclude(report)).await;
        if !matches!(outcome, Ok(Ok(()))) {
            jobs.cancel().await?;
        }
        jobs.dismiss().await?;
        outcome?
    }

    /// Removes the jobs of backups that were interrupted.
    pub(crate) async fn end_left_over_jobs(&mut self) -> Result<(), QmpError> {
        let mut jobs = QmpJobs::stale(&mut *self.session).await?;
        jobs.cancel().await?;
        jobs.dismiss().await
    }

    /// Closes the images of backups, and removes the bitmap `bitmap` of all nodes that have it.
    pub(crate) async fn clean_up(&mut self, bitmap: Option<&str>) -> Result<(), QmpError> {
        let nodes = self.nodes().await?;
        let names = |node: &Value| node["node-name"].as_str().unwrap_or_default().to_owned();
        for node in nodes.iter().map(names).filter(|name| name.starts_with(BACKUP_PREFIX)) {
            self.close_target(&node).await?;
        }
        let has = |node: &&Value| DirtyBitmap::of_node(node).iter().any(|found| Some(found.name.as_str()) == bitmap);
        let bitmaps: Vec<(String, String)> =
            nodes.iter().filter(has).map(|node| (names(node), bitmap.unwrap_or_default().to_owned())).collect();
        self.remove_bitmaps(&bitmaps).await
    }

    /// Closes an image.
    pub(crate) async fn close_target(&mut self, node: &str) -> Result<(), QmpError> {
        self.execute(&QmpCommand::new("blockdev-del").with("node-name", node)).await.map(drop)
    }

    /// Ends the QEMU that is there for the backup only, which stores the bitmaps.
    pub(crate) async fn end(mut self) -> Result<(), QmpError> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        match self.execute(&QmpCommand::new("quit")).await {
            Err(error) if !error.is_connection_loss() => return Err(error),
            _ => {}
        }
        if !server.wait(limits::QUIT_TIMEOUT).await {
            tracing::warn!("the QEMU of a backup did not end in time and is killed");
        }
        Ok(())
    }
}

/// Returns jobs that were started while a guest was frozen; that it could not be thawed matters more than their own errors.
async fn unless_frozen(
    jobs: Result<QmpJobs<'_>, QmpError>,
    thawed: Result<(), ExecError>,
) -> Result<QmpJobs<'_>, Error> {
    let Err(frozen) = thawed else { return Ok(jobs?) };
    let ended = async {
        let mut jobs = jobs?;
        jobs.cancel().await?;
        jobs.dismiss().await
    };
    if let Err(error) = ended.await {
        tracing::warn!(%error, "could not end the jobs of a backup");
    }
    Err(frozen.into())
}

#[cfg(test)]
mod tests {
    use maqet_domain::port::{AgentError, MockMonitorSession};

    use super::*;
    use crate::guest::quiesce::QuiesceError;

    #[tokio::test]
    async fn test_guest_that_is_not_thawed_is_the_error_of_a_backup() {
        let lost = || QmpError::InvalidResponse { detail: "gone".to_owned() };
        let frozen = || {
            let vm = "v".parse().unwrap();
            Err(ExecError::from(QuiesceError::NotThawed { vm, source: AgentError::Busy }))
        };

        let not_started = unless_frozen(Err(lost()), frozen()).await.err().unwrap();
        let mut session = MockMonitorSession::new();
        session.expect_execute().times(1).returning(|_, _| Ok(Value::Null));
        session.expect_execute().returning(move |_, _| Err(lost()));
        let started = QmpJobs::start(&mut session, vec!["j".to_owned()], &QmpCommand::new("x")).await;
        let not_canceled = unless_frozen(started, frozen()).await.err().unwrap();

        assert!(not_started.is_not_thawed(), "{not_started}");
        assert!(not_canceled.is_not_thawed(), "{not_canceled}");
    }
}
