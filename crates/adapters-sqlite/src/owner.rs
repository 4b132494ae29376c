//! The thread that owns the connection: jobs come in by a bounded queue, answers go back one by one.

use std::io;
use std::thread::{self, JoinHandle};

use maqet_domain::port::StoreError;
use tokio::sync::{mpsc, oneshot};

use crate::database::Database;
use crate::limits;

type Job = Box<dyn FnOnce(&mut Database) + Send>;

/// A database and the thread it lives on; dropped, it finishes what was asked and closes the database.
#[derive(Debug)]
pub(crate) struct Owner {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// The owner's thread is gone; it ends early by a panic only.
#[derive(Debug, thiserror::Error)]
#[error("the thread that owns the database has ended")]
struct Gone;

impl Owner {
    /// Gives `database` a thread.
    pub(crate) fn start(mut database: Database) -> io::Result<Self> {
        let (jobs, mut queue) = mpsc::channel::<Job>(limits::QUEUE);
        let thread = thread::Builder::new().name("maqet-sqlite".to_owned()).spawn(move || {
            while let Some(job) = queue.blocking_recv() {
                job(&mut database);
            }
        })?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Does `work` on the owner's thread; once it is queued it is done, whether the answer is awaited or not.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        action: &'static str,
        work: impl FnOnce(&mut Database) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let gone = || StoreError::Failed { action, source: Gone.into() };
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |database| {
            // Who asked may have gone in the meantime.
            let _unheard = reply.send(work(database));
        });

        let jobs = self.jobs.as_ref().ok_or_else(gone)?;
        jobs.send(job).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ended_by_panic = thread.join();
        }
    }
}
