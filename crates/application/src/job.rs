//! Long work is a job: it belongs to an operation and a VM, reports its progress, and can be canceled.
//!
//! An operation starts a [`Job`] with [`Jobs::start`], reports how far it is with [`Job::report`], and awaits what may be
//! cut off with [`Job::run`]. Once the job is canceled, or the time of [`Job::within`] is over, `run` drops the work and
//! returns [`Error::Cancelled`] or [`Error::JobTimedOut`], and the operation cleans up. What must not be cut off, such as
//! a change of an image, is awaited outside of `run`; [`Job::cut_off`] tells meanwhile that it should end. A job ends when
//! it is dropped, and canceling it waits for that; other jobs, and those that start afterwards, are not affected.
//!
//! Front ends read the reports from [`ProgressStream`]; without a reader a report costs an atomic load. Where neither QEMU
//! nor a tool says how far it is, [`Job::ticking`] has something reported all the same.

mod progress;
pub(crate) mod qmp_job;
mod running;

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{Either, select};
use maqet_domain::vm::VmName;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use self::progress::ProgressBoard;
pub use self::progress::{Progress, ProgressStream, ProgressUnit};
use self::running::RunningJobs;
pub use self::running::{JobId, JobInfo};
use crate::{Error, HumanDuration, limits};

/// The jobs of an application.
#[derive(Default)]
pub struct Jobs {
    running: RunningJobs,
    board: ProgressBoard,
}

impl Jobs {
    /// Returns the jobs that are running, in the order of their starts.
    pub fn list(&self) -> Vec<JobInfo> {
        self.running.list()
    }

    /// Cancels a job, and returns once it has cleaned up; one that has ended is ignored.
    ///
    /// The operation returns [`Error::Cancelled`], unless it was past the point where it can be canceled. It has to be
    /// polled meanwhile.
    pub async fn cancel(&self, job: JobId) {
        self.running.cancel(job).await;
    }

    /// Cancels all jobs, those that start meanwhile included, and returns once they have cleaned up.
    ///
    /// As with [`cancel`](Self::cancel), their operations have to be polled meanwhile.
    pub async fn cancel_all(&self) {
        self.running.cancel_all().await;
    }

    /// Returns a stream of the progress of all jobs, from now on.
    pub fn watch(&self) -> ProgressStream {
        self.board.watch()
    }

    /// Starts a job of an operation on a VM.
    pub(crate) fn start(&self, operation: &'static str, vm: &VmName) -> Job<'_> {
        let info = self.running.add(operation, vm);
        Job { jobs: self, info, began: Instant::now(), stage: Mutex::default(), timeout: None }
    }
}

/// Work that is under way; it ends when this is dropped.
pub(crate) struct Job<'a> {
    jobs: &'a Jobs,
    info: JobInfo,
    began: Instant,
    /// What it does at the moment.
    stage: Mutex<Option<String>>,
    timeout: Option<Duration>,
}

impl Job<'_> {
    /// Limits how long the job may take, from its start on.
    #[must_use]
    pub(crate) fn within(mut self, timeout: Option<HumanDuration>) -> Self {
        self.timeout = timeout.map(HumanDuration::duration);
        self
    }

    /// Returns the VM that it is about.
    pub(crate) const fn vm(&self) -> &VmName {
        &self.info.vm
    }

    /// Sets what the job does from now on, as in `saving the guest's memory`.
    pub(crate) fn set_stage(&self, stage: impl Into<String>) {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = Some(stage.into());
        self.report_elapsed();
    }

    /// Reports how much is done, and of how much.
    pub(crate) fn report(&self, unit: ProgressUnit, done: u64, total: u64) {
        self.publish(unit, done, Some(total));
    }

    /// Reports how much is done of an amount that is not known.
    pub(crate) fn report_without_total(&self, unit: ProgressUnit, done: u64) {
        self.publish(unit, done, None);
    }

    /// Reports how long the job has been running, where nothing else is known.
    pub(crate) fn report_elapsed(&self) {
        self.publish(ProgressUnit::Seconds, self.began.elapsed().as_secs(), None);
    }

    fn publish(&self, unit: ProgressUnit, done: u64, total: Option<u64>) {
        self.jobs.board.publish(|| Progress {
            job: self.info.clone(),
            stage: self.stage.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            unit,
            done,
            total,
            elapsed: self.began.elapsed(),
        });
    }

    /// Returns a function that reports which share of `bytes` is done.
    pub(crate) fn share_reporter(&self, bytes: u64) -> impl Fn(u64, u64) + Send + Sync {
        move |done, total| {
            let share = u128::from(bytes) * u128::from(done) / u128::from(total.max(1));
            self.report(ProgressUnit::Bytes, u64::try_from(share).unwrap_or(bytes), bytes);
        }
    }

    /// Runs `work` to its end; if the job is canceled or its time is over, drops it and returns the error of that.
    pub(crate) async fn run<T>(&self, work: impl Future<Output = T>) -> Result<T, Error> {
        let work = std::pin::pin!(work);
        let cut_off = std::pin::pin!(self.cut_off());
        match select(cut_off, work).await {
            Either::Left((error, _)) => Err(error),
            Either::Right((value, _)) => Ok(value),
        }
    }

    /// Waits until the job is canceled or its time is over, and returns the error of that.
    pub(crate) async fn cut_off(&self) -> Error {
        let cancelled = std::pin::pin!(self.jobs.running.cancelled(self.info.id));
        let vm = || self.info.vm.clone();
        let Some(timeout) = self.timeout else {
            cancelled.await;
            return Error::Cancelled { vm: vm() };
        };
        let timed_out = std::pin::pin!(sleep_until(self.began + timeout));
        match select(cancelled, timed_out).await {
            Either::Left(_) => Error::Cancelled { vm: vm() },
            Either::Right(_) => {
                Error::JobTimedOut { operation: self.info.operation, vm: vm(), after: HumanDuration::new(timeout) }
            }
        }
    }

    /// Runs `work` to its end, whether the job is canceled or not, and calls `tick` often enough for a progress.
    pub(crate) async fn ticking<T, F>(&self, work: impl Future<Output = T>, mut tick: impl FnMut() -> F) -> T
    where
        F: Future<Output = ()>,
    {
        let mut work = std::pin::pin!(work);
        let period = limits::PROGRESS_INTERVAL;
        let mut ticks = interval_at(Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = std::pin::pin!(ticks.tick());
            if let Either::Left((value, _)) = select(work.as_mut(), due).await {
                return value;
            }
            // A tick that waits for a file must not hold up the work.
            let ticked = std::pin::pin!(tick());
            if let Either::Left((value, _)) = select(work.as_mut(), ticked).await {
                return value;
            }
        }
    }

    /// Does the same, and reports how long the job has been running, for a tool that does not say how far it is.
    pub(crate) async fn reporting_elapsed<T>(&self, work: impl Future<Output = T>) -> T {
        self.ticking(work, async || self.report_elapsed()).await
    }
}

impl Drop for Job<'_> {
    fn drop(&mut self) {
        self.jobs.running.remove(self.info.id);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::future::join;

    use super::*;

    fn vm() -> VmName {
        "web".parse().unwrap()
    }

    async fn run_forever(job: Job<'_>) -> Result<(), Error> {
        job.run(std::future::pending()).await
    }

    #[tokio::test]
    async fn test_run_not_cancelled_returns_the_value() {
        let jobs = Jobs::default();

        let value = jobs.start("start", &vm()).run(async { 7 }).await;

        assert_eq!(value.unwrap(), 7);
        assert_eq!(jobs.list(), []);
    }

    #[tokio::test]
    async fn test_cancel_ends_only_that_job() {
        let jobs = Jobs::default();
        let (job, other) = (jobs.start("wait", &vm()), jobs.start("start", &vm()));
        let id = job.info.id;

        let (ended, ()) = join(run_forever(job), jobs.cancel(id)).await;

        assert!(matches!(ended, Err(Error::Cancelled { .. })), "{ended:?}");
        assert_eq!(jobs.list(), std::slice::from_ref(&other.info));
        assert_eq!(other.run(async { 7 }).await.unwrap(), 7);
        jobs.cancel(id).await;
    }

    #[tokio::test]
    async fn test_cancel_all_ends_present_jobs_and_not_later_ones() {
        let jobs = Jobs::default();
        let both = join(run_forever(jobs.start("wait", &vm())), run_forever(jobs.start("start", &vm())));

        let (ended, ()) = join(both, jobs.cancel_all()).await;

        assert!(matches!(ended, (Err(Error::Cancelled { .. }), Err(Error::Cancelled { .. }))), "{ended:?}");
        assert_eq!(jobs.start("start", &vm()).run(async { 7 }).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn test_cancel_all_ends_jobs_that_start_meanwhile() {
        let jobs = Jobs::default();
        let first = jobs.start("start", &vm());
        let one_after_the_other = async {
            let _ = run_forever(first).await;
            run_forever(jobs.start("wait", &vm())).await
        };

        let (ended, ()) = join(one_after_the_other, jobs.cancel_all()).await;

        assert!(matches!(ended, Err(Error::Cancelled { .. })), "{ended:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn test_cancel_waits_for_work_outside_of_run() {
        let jobs = Jobs::default();
        let job = jobs.start("snapshot.create", &vm());
        let change_image = async move {
            tokio::time::sleep(Duration::from_secs(3)).await;
            drop(job);
        };
        let began = Instant::now();

        join(jobs.cancel_all(), change_image).await;

        assert_eq!(began.elapsed(), Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn test_progress_half_done_has_rate_and_eta() {
        let jobs = Jobs::default();
        let mut reports = jobs.watch();
        let job = jobs.start("qmp.balloon", &vm());
        tokio::time::sleep(Duration::from_secs(5)).await;

        job.report(ProgressUnit::Bytes, 50, 100);

        let progress = reports.next().await.unwrap();
        assert_eq!((&progress.job, progress.unit), (&job.info, ProgressUnit::Bytes));
        assert_eq!((progress.done, progress.total), (50, Some(100)));
        assert_eq!(progress.rate(), Some(10.0));
        assert_eq!(progress.eta(), Some(Duration::from_secs(5)));
    }

    #[test]
    fn test_progress_without_rate_or_total_has_no_eta() {
        let (jobs, elapsed) = (Jobs::default(), Duration::from_secs(6));
        let job = jobs.start("x", &vm()).info.clone();
        let progress =
            |done, total| Progress { job: job.clone(), stage: None, unit: ProgressUnit::Keys, done, total, elapsed };

        assert_eq!(progress(2, Some(8)).eta(), Some(Duration::from_secs(18)));
        assert_eq!(progress(9, Some(8)).eta(), Some(Duration::ZERO));
        assert_eq!(progress(0, Some(2)).eta(), None);
        assert_eq!(progress(3, None).eta(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn test_run_after_its_timeout_is_timed_out() {
        let jobs = Jobs::default();
        let second = HumanDuration::new(Duration::from_secs(1));
        let job = jobs.start("snapshot.create", &vm()).within(Some(second));

        let ended = job.run(std::future::pending::<()>()).await;

        let Err(Error::JobTimedOut { operation, after, .. }) = ended else { panic!("{ended:?}") };
        assert_eq!((operation, after, job.began.elapsed()), ("snapshot.create", second, Duration::from_secs(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn test_ticking_reports_stage_and_time_until_the_end() {
        let jobs = Jobs::default();
        let mut reports = jobs.watch();
        let job = jobs.start("snapshot.create", &vm());
        job.set_stage("saving");
        let work = tokio::time::sleep(limits::PROGRESS_INTERVAL * 5 / 2);

        job.ticking(work, async || job.report_without_total(ProgressUnit::Bytes, 7)).await;

        let mut shown = Vec::new();
        for _ in 0..3 {
            let report = reports.next().await.unwrap();
            shown.push((report.stage, report.unit, report.done, report.total));
        }
        let saving = || Some("saving".to_owned());
        let bytes = || (saving(), ProgressUnit::Bytes, 7, None);
        assert_eq!(shown, [(saving(), ProgressUnit::Seconds, 0, None), bytes(), bytes()]);
    }
}
