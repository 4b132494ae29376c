//! The running jobs, and which of them are canceled.

use std::collections::BTreeMap;

use maqet_domain::vm::VmName;
use tokio::sync::watch;

/// Identifies a job of an instance; not reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobId(u64);

/// A job, as front ends see it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobInfo {
    /// Its id.
    pub id: JobId,
    /// Its operation, as in `qmp.type`.
    pub operation: &'static str,
    /// Its VM.
    pub vm: VmName,
}

#[derive(Debug)]
struct JobState {
    info: JobInfo,
    is_cancelled: bool,
}

#[derive(Debug, Default)]
struct State {
    last_id: u64,
    jobs: BTreeMap<JobId, JobState>,
    /// The number of callers that cancel all jobs, during which new ones are canceled as well.
    cancelling: usize,
}

/// The running jobs.
#[derive(Debug, Default)]
pub(super) struct RunningJobs(watch::Sender<State>);

impl RunningJobs {
    pub(super) fn add(&self, operation: &'static str, vm: &VmName) -> JobInfo {
        let mut info = JobInfo { id: JobId(0), operation, vm: vm.clone() };
        self.0.send_modify(|state| {
            state.last_id += 1;
            info.id = JobId(state.last_id);
            let is_cancelled = state.cancelling > 0;
            state.jobs.insert(info.id, JobState { info: info.clone(), is_cancelled });
        });
        info
    }

    pub(super) fn remove(&self, id: JobId) {
        self.0.send_modify(|state| drop(state.jobs.remove(&id)));
    }

    pub(super) fn list(&self) -> Vec<JobInfo> {
        self.0.borrow().jobs.values().map(|job| job.info.clone()).collect()
    }

    /// Cancels a job, and waits until it is removed.
    pub(super) async fn cancel(&self, id: JobId) {
        self.0.send_modify(|state| state.jobs.get_mut(&id).into_iter().for_each(|job| job.is_cancelled = true));
        self.wait_until(|state| !state.jobs.contains_key(&id)).await;
    }

    /// Cancels all jobs, those that are added meanwhile included, and waits until they are removed.
    pub(super) async fn cancel_all(&self) {
        let _until_removed = CancelAll::new(self);
        self.wait_until(|state| state.jobs.is_empty()).await;
    }

    /// Waits until a job is canceled.
    pub(super) async fn cancelled(&self, id: JobId) {
        self.wait_until(|state| state.jobs.get(&id).is_some_and(|job| job.is_cancelled)).await;
    }

    async fn wait_until(&self, condition: impl FnMut(&State) -> bool) {
        // The sender belongs to `self`, so the channel is open.
        let _ = self.0.subscribe().wait_for(condition).await;
    }
}

/// Cancels all jobs and, until it is dropped, new ones.
struct CancelAll<'a>(&'a RunningJobs);

impl<'a> CancelAll<'a> {
    fn new(running: &'a RunningJobs) -> Self {
        running.0.send_modify(|state| {
            state.cancelling += 1;
            state.jobs.values_mut().for_each(|job| job.is_cancelled = true);
        });
        Self(running)
    }
}

impl Drop for CancelAll<'_> {
    fn drop(&mut self) {
        self.0.0.send_modify(|state| state.cancelling -= 1);
    }
}
