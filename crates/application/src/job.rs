//! Long-running work is a job, which belongs to an operation and a VM, reports its progress, can be canceled, and has
//! an outcome.
//!
//! An operation starts a [`Job`] with [`Jobs::start`], reports its progress with [`Job::report`], and runs work that
//! can be canceled with [`Job::run`]. Between two steps that must not be separated, it holds the job ([`Job::hold`]),
//! and [`Jobs::cancel`] waits until it is released. Front ends read the reports from [`ProgressStream`]; without a
//! reader, a report costs an atomic load.

mod cancel;
mod progress;

use std::future::Future;

use futures_util::future::{Either, select};
use maqet_domain::vm::VmName;
use tokio::time::Instant;

use self::cancel::{Cancellation, Hold};
use self::progress::ProgressBoard;
pub use self::progress::{Progress, ProgressStream};

/// The jobs of an application.
#[derive(Default)]
pub(crate) struct Jobs {
    cancellation: Cancellation,
    board: ProgressBoard,
}

impl Jobs {
    /// Starts a job of an operation on a VM; `total` is how much there is to do, where that is known.
    pub(crate) fn start(&self, operation: &'static str, vm: &VmName, total: Option<u64>) -> Job<'_> {
        Job { jobs: self, operation, vm: vm.clone(), total, began: Instant::now() }
    }

    /// Returns a stream of the progress of all jobs, from now on.
    pub(crate) fn watch(&self) -> ProgressStream {
        self.board.watch()
    }

    /// Cancels all jobs, those that start later included, and waits until none is held.
    pub(crate) async fn cancel(&self) {
        self.cancellation.cancel().await;
    }
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome<T> {
    /// It ran to its end.
    Finished(T),
    /// It was canceled; the work was dropped.
    Cancelled,
}

/// Work that is under way.
pub(crate) struct Job<'a> {
    jobs: &'a Jobs,
    operation: &'static str,
    vm: VmName,
    total: Option<u64>,
    began: Instant,
}

impl Job<'_> {
    /// Reports how much is done, in the unit of the job's total.
    pub(crate) fn report(&self, done: u64) {
        self.jobs.board.publish(|| Progress {
            operation: self.operation,
            vm: self.vm.clone(),
            done,
            total: self.total,
            elapsed: self.began.elapsed(),
        });
    }

    /// Runs `work` to its end, or drops it when the job is canceled.
    pub(crate) async fn run<T>(&self, work: impl Future<Output = T>) -> Outcome<T> {
        let work = std::pin::pin!(work);
        let cancelled = std::pin::pin!(self.jobs.cancellation.cancelled());
        match select(work, cancelled).await {
            Either::Left((value, _)) => Outcome::Finished(value),
            Either::Right(((), _)) => Outcome::Cancelled,
        }
    }

    /// Makes [`Jobs::cancel`] wait until the returned value is dropped.
    pub(crate) fn hold(&self) -> Hold<'_> {
        self.jobs.cancellation.hold()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn vm() -> VmName {
        "web".parse().unwrap()
    }

    #[tokio::test]
    async fn test_job_cancelled_drops_its_work() {
        let jobs = Jobs::default();
        let job = jobs.start("start", &vm(), None);
        jobs.cancel().await;

        assert_eq!(job.run(std::future::pending::<()>()).await, Outcome::Cancelled);
    }

    #[tokio::test]
    async fn test_job_not_cancelled_returns_the_value() {
        let jobs = Jobs::default();
        let job = jobs.start("start", &vm(), None);

        assert_eq!(job.run(async { 7 }).await, Outcome::Finished(7));
    }

    #[tokio::test(start_paused = true)]
    async fn test_cancel_waits_for_a_held_job() {
        let jobs = Jobs::default();
        let job = jobs.start("start", &vm(), None);
        let hold = job.hold();
        let release = async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            drop(hold);
        };
        let began = Instant::now();

        futures_util::future::join(jobs.cancel(), release).await;

        assert_eq!(began.elapsed(), Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn test_progress_half_done_has_rate_and_eta() {
        let jobs = Jobs::default();
        let mut reports = jobs.watch();
        let job = jobs.start("snapshot.create", &vm(), Some(100));
        tokio::time::sleep(Duration::from_secs(5)).await;

        job.report(50);

        let progress = reports.next().await.unwrap();
        assert_eq!((progress.done, progress.total), (50, Some(100)));
        assert_eq!(progress.rate(), Some(10.0));
        assert_eq!(progress.eta(), Some(Duration::from_secs(5)));
    }

    #[test]
    fn test_progress_beyond_the_total_has_nothing_left() {
        let elapsed = Duration::from_secs(6);
        let progress = |done, total| Progress { operation: "x", vm: vm(), done, total: Some(total), elapsed };

        assert_eq!(progress(2, 8).eta(), Some(Duration::from_secs(18)));
        assert_eq!(progress(9, 8).eta(), Some(Duration::ZERO));
        assert_eq!(progress(0, 2).eta(), None);
    }

    #[tokio::test]
    async fn test_progress_of_unknown_total_has_no_eta() {
        let jobs = Jobs::default();
        let mut reports = jobs.watch();

        jobs.start("start", &vm(), None).report(0);

        let progress = reports.next().await.unwrap();
        assert_eq!((progress.rate(), progress.eta()), (None, None));
    }
}
