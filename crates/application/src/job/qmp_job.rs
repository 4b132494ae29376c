//! Jobs of QEMU: starting them, waiting for them, and what becomes of them.
//!
//! A job outlives the connection that started it: one whose maqet process was killed goes on, and waits, concluded, for
//! `job-dismiss`. [`QmpJobs::stale`] finds it again by its ID, which starts with [`JobInfo::ID_PREFIX`].
//!
//! QEMU saves and loads a guest's memory in its main loop (7.2, 10.0): the reply to the command that starts the job comes
//! when the job is done, and no command is answered before. Nothing here times out meanwhile; to report a progress, run the
//! whole within [`Job::ticking`](super::Job::ticking).

use std::time::Duration;

use maqet_domain::Timestamp;
use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::port::MonitorSession;
use maqet_domain::qmp::wording::{is_disk_full, is_job_canceled};
use maqet_domain::qmp::{JobInfo, QmpCommand, QmpError};

use crate::{Error, limits};

/// A job of QEMU that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("QEMU's job `{kind}` failed: {description}")]
#[expect(missing_docs, reason = "the message names the fields")]
pub struct QmpJobFailed {
    pub kind: String,
    pub description: String,
}

impl Explain for QmpJobFailed {
    fn explain(&self) -> Explanation {
        if is_disk_full(&self.description) {
            return Explanation::new("storage.full", Fault::Host).hint("free some space");
        }
        Explanation::new("qmp.job-failed", Fault::Failed)
    }
}

/// Jobs of one command, which may be a transaction, and the session that they are watched on.
pub(crate) struct QmpJobs<'s> {
    session: &'s mut dyn MonitorSession,
    ids: Vec<String>,
}

impl<'s> QmpJobs<'s> {
    /// Makes the ID of a job, unique among those of a run.
    pub(crate) fn id(name: &str, now: Timestamp) -> String {
        format!("{}{name}-{}", JobInfo::ID_PREFIX, now.as_microsecond())
    }

    /// Runs the command that starts the jobs `ids`; they must not be dismissed automatically.
    ///
    /// Errors: those of the session; QEMU refused the command.
    pub(crate) async fn start(
        session: &'s mut dyn MonitorSession,
        ids: Vec<String>,
        command: &QmpCommand,
    ) -> Result<Self, QmpError> {
        session.execute(command, limits::QMP_JOB_TIMEOUT).await?;
        Ok(Self { session, ids })
    }

    /// Returns jobs that were started before.
    pub(crate) fn of(session: &'s mut dyn MonitorSession, ids: Vec<String>) -> Self {
        Self { session, ids }
    }

    /// Returns the jobs that maqet processes started that are gone.
    pub(crate) async fn stale(session: &'s mut dyn MonitorSession) -> Result<Self, QmpError> {
        let mut jobs = Self { session, ids: Vec::new() };
        let reported = jobs.query().await?;
        jobs.ids = reported.into_iter().filter(JobInfo::is_ours).map(|job| job.id).collect();
        Ok(jobs)
    }

    /// Returns what QEMU reports of the jobs.
    pub(crate) async fn report(&mut self) -> Result<Vec<JobInfo>, QmpError> {
        let mut reported = self.query().await?;
        reported.retain(|job| self.ids.contains(&job.id));
        Ok(reported)
    }

    async fn query(&mut self) -> Result<Vec<JobInfo>, QmpError> {
        let reply = self.session.execute(&QmpCommand::new("query-jobs"), limits::QMP_JOB_TIMEOUT).await?;
        Ok(JobInfo::from_reply(&reply))
    }

    /// Waits until all jobs are as `is_reached` expects, and calls `progress` with how much of them is done.
    ///
    /// Returns what QEMU reports of them then; a job that is gone by then is left out.
    pub(crate) async fn wait(
        &mut self,
        is_reached: impl Fn(&JobInfo) -> bool,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Vec<JobInfo>, QmpError> {
        loop {
            let reported = self.report().await?;
            let sum = |part: fn(&JobInfo) -> u64| reported.iter().map(part).fold(0, u64::saturating_add);
            progress(sum(|job| job.current_progress), sum(|job| job.total_progress));
            if reported.iter().all(&is_reached) {
                return Ok(reported);
            }
            self.next_event().await?;
        }
    }

    /// Waits for an event, but not for long: it could be missed. Those that came meanwhile say nothing more.
    async fn next_event(&mut self) -> Result<(), QmpError> {
        if self.session.next_event(limits::QMP_JOB_INTERVAL).await?.is_some() {
            while self.session.next_event(Duration::ZERO).await?.is_some() {}
        }
        Ok(())
    }

    /// Waits until all jobs have ended.
    ///
    /// Errors: those of the session; the first job that failed. All have ended then, too.
    pub(crate) async fn conclude(&mut self, progress: impl FnMut(u64, u64)) -> Result<(), Error> {
        let ended = self.wait(JobInfo::has_ended, progress).await?;
        Ok(succeeded(ended)?)
    }

    /// Cancels the jobs, and waits until they have ended; one that cannot be canceled is waited for.
    pub(crate) async fn cancel(&mut self) -> Result<Vec<JobInfo>, QmpError> {
        for job in self.report().await? {
            if !job.has_ended() {
                let command = QmpCommand::new("job-cancel").with("id", job.id);
                unless_refused(self.session.execute(&command, limits::QMP_JOB_TIMEOUT).await)?;
            }
        }
        self.wait(JobInfo::has_ended, |_, _| {}).await
    }

    /// Removes jobs that have ended from QEMU's list, which says what became of them.
    pub(crate) async fn dismiss(self) -> Result<(), QmpError> {
        for id in self.ids {
            let command = QmpCommand::new("job-dismiss").with("id", id);
            unless_refused(self.session.execute(&command, limits::QMP_JOB_TIMEOUT).await)?;
        }
        Ok(())
    }
}

/// Returns the error of the first job that failed; not of one that was only canceled because another one failed.
pub(crate) fn succeeded(ended: Vec<JobInfo>) -> Result<(), QmpJobFailed> {
    let failed = ended.into_iter().filter_map(|job| Some(QmpJobFailed { kind: job.kind, description: job.error? }));
    let (canceled, failed): (Vec<_>, Vec<_>) = failed.partition(|job| is_job_canceled(&job.description));
    failed.into_iter().chain(canceled).next().map_or(Ok(()), Err)
}

/// Ignores that QEMU refused a command: the job has moved on meanwhile.
fn unless_refused<T>(reply: Result<T, QmpError>) -> Result<(), QmpError> {
    match reply {
        Ok(_) | Err(QmpError::Refused { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use maqet_domain::port::MockMonitorSession;
    use maqet_domain::qmp::ErrorClass;
    use serde_json::{Value, json};

    use super::*;

    fn job(id: &str, status: &str, error: Option<&str>) -> Value {
        let mut job =
            json!({ "id": id, "type": "backup", "status": status, "current-progress": 3, "total-progress": 9 });
        if let Some(error) = error {
            job["error"] = json!(error);
        }
        job
    }

    /// A session whose answers to `query-jobs` are `reports`, one after the other; `others` are refused if `is_late`.
    fn session(reports: Vec<Vec<Value>>, is_late: bool) -> MockMonitorSession {
        let mut session = MockMonitorSession::new();
        let mut reports = reports.into_iter();
        session.expect_execute().returning(move |command, _| match command.execute.as_str() {
            "query-jobs" => Ok(json!(reports.next().expect("no more queries"))),
            command if is_late => Err(QmpError::Refused {
                command: command.to_owned(),
                class: ErrorClass::Generic,
                description: "Job in state 'concluded' cannot accept command verb".to_owned(),
            }),
            _ => Ok(json!({})),
        });
        session.expect_next_event().returning(|_| Ok(None));
        session
    }

    async fn started(session: &mut MockMonitorSession) -> QmpJobs<'_> {
        let ids = vec!["maqet-a".to_owned(), "maqet-b".to_owned()];
        QmpJobs::start(session, ids, &QmpCommand::new("query-jobs")).await.unwrap()
    }

    #[tokio::test]
    async fn test_conclude_waits_for_all_and_sums_the_progress() {
        let running =
            vec![job("maqet-a", "concluded", None), job("maqet-b", "running", None), job("other", "running", None)];
        let ended = vec![job("maqet-a", "concluded", None), job("maqet-b", "concluded", None)];
        let mut session = session(vec![Vec::new(), running, ended], false);
        let mut progress = Vec::new();

        let outcome = started(&mut session).await.conclude(|done, total| progress.push((done, total))).await;

        assert!(outcome.is_ok(), "{outcome:?}");
        assert_eq!(progress, [(6, 18), (6, 18)]);
    }

    #[tokio::test]
    async fn test_conclude_names_the_job_that_failed_first_of_all() {
        let canceled = job("maqet-a", "concluded", Some("Operation canceled"));
        let failed = job("maqet-b", "concluded", Some("No space left on device"));
        let mut session = session(vec![Vec::new(), vec![canceled, failed]], false);

        let outcome = started(&mut session).await.conclude(|_, _| {}).await;

        let Err(Error::QmpJob(error)) = outcome else { panic!("{outcome:?}") };
        assert_eq!(error.description, "No space left on device");
        assert_eq!(error.explain().code, "storage.full");
    }

    #[tokio::test]
    async fn test_cancel_waits_for_a_job_that_cannot_be_canceled() {
        let running = || vec![job("maqet-a", "running", None)];
        let ended = vec![job("maqet-a", "concluded", None)];
        let mut session = session(vec![Vec::new(), running(), running(), ended], true);
        let mut jobs = started(&mut session).await;

        let ended = jobs.cancel().await.unwrap();

        assert!(ended.iter().all(JobInfo::has_ended) && ended.len() == 1, "{ended:?}");
        jobs.dismiss().await.unwrap();
    }

    #[tokio::test]
    async fn test_stale_finds_only_jobs_of_maqet() {
        let reported = || vec![job("maqet-a", "concluded", None), job("libvirt-1", "running", None)];
        let mut session = session(vec![reported(), reported()], false);

        let mut jobs = QmpJobs::stale(&mut session).await.unwrap();

        assert_eq!(jobs.report().await.unwrap().len(), 1);
    }
}
