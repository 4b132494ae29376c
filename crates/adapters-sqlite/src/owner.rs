//! Who works with the connection: a thread of its own, to which jobs come by a bounded queue; and whoever asks for no
//! more than some rows, while nobody else works.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use maqet_domain::port::StoreError;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::database::Database;
use crate::limits;

type Job = Box<dyn FnOnce(&mut Database) + Send>;

/// A database and the thread that works on it; dropped, it finishes what was asked and closes the database.
#[derive(Debug)]
pub(crate) struct Owner {
    database: Arc<Mutex<Database>>,
    /// How many jobs were asked of the thread and are not done.
    unfinished: Arc<AtomicUsize>,
    thread: Mutex<Option<Thread>>,
}

/// The thread, from the first job on.
#[derive(Debug)]
struct Thread {
    jobs: mpsc::Sender<Job>,
    handle: JoinHandle<()>,
}

/// The owner's thread is gone; it ends early by a panic only.
#[derive(Debug, thiserror::Error)]
#[error("the thread that owns the database has ended")]
struct Gone;

impl Owner {
    /// Takes a database; its thread is started by the first job.
    pub(crate) fn new(database: Database) -> Self {
        Self {
            database: Arc::new(Mutex::new(database)),
            unfinished: Arc::new(AtomicUsize::new(0)),
            thread: Mutex::new(None),
        }
    }

    /// Reads a few rows: here and now if nobody else is at work, which takes less time than to wake another thread;
    /// else after the others, as [`run`](Self::run) does.
    pub(crate) async fn read_few<T: Send + 'static>(
        &self,
        action: &'static str,
        work: impl Fn(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        // Who asked for a change and then asks for a row sees the change, whether or not it waited.
        if self.unfinished.load(Ordering::Acquire) == 0
            && let Ok(database) = self.database.try_lock()
            && !database.is_hindered()
        {
            match database.read_within(Duration::ZERO, action, &work) {
                Err(StoreError::Busy { .. }) => {}
                result => return result,
            }
        }
        self.run(action, move |database| database.read(action, work)).await
    }

    /// Does `work` on the owner's thread; once it is queued it is done, whether the answer is awaited or not.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        action: &'static str,
        work: impl FnOnce(&mut Database) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let gone = || StoreError::Failed { action, source: Gone.into() };
        let (reply, answer) = oneshot::channel();
        let unfinished = Arc::clone(&self.unfinished);
        let job: Job = Box::new(move |database| {
            let result = work(database);
            unfinished.fetch_sub(1, Ordering::Release);
            // Who asked may have gone in the meantime.
            let _unheard = reply.send(result);
        });

        let jobs = self.jobs().map_err(|error| StoreError::Failed { action, source: error.into() })?;
        let place = jobs.reserve().await.map_err(|_| gone())?;
        self.unfinished.fetch_add(1, Ordering::AcqRel);
        place.send(job);
        answer.await.map_err(|_| gone())?
    }

    /// Returns the way to the thread, which is started if there is none.
    fn jobs(&self) -> io::Result<mpsc::Sender<Job>> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = &*thread {
            return Ok(thread.jobs.clone());
        }
        let (jobs, mut queue) = mpsc::channel::<Job>(limits::QUEUE);
        let database = Arc::clone(&self.database);
        let handle = thread::Builder::new().name("maqet-sqlite".to_owned()).spawn(move || {
            while let Some(job) = queue.blocking_recv() {
                let Ok(mut database) = database.lock() else { return };
                job(&mut database);
            }
        })?;
        *thread = Some(Thread { jobs: jobs.clone(), handle });
        Ok(jobs)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Thread { jobs, handle }) = thread {
            drop(jobs);
            let _ended_by_panic = handle.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::atomic::AtomicBool;
    use std::task::{Context, Waker};

    use super::*;
    use crate::Options;

    fn owner(folder: &tempfile::TempDir) -> Owner {
        Owner::new(Database::open(&folder.path().join("maqet.db"), Options::default()).unwrap())
    }

    #[tokio::test]
    async fn test_read_few_of_an_idle_owner_needs_no_thread() {
        let folder = tempfile::tempdir().unwrap();
        let owner = owner(&folder);

        let one: i64 = owner.read_few("read", |sql| sql.query_row("SELECT 1", [], |row| row.get(0))).await.unwrap();

        assert_eq!(one, 1);
        assert!(owner.thread.lock().unwrap().is_none());
    }

    #[tokio::test]
    async fn test_read_few_of_a_hindered_database_is_left_to_who_has_time_to_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let owner = owner(&folder);
        owner.database.lock().unwrap().hinder();

        let one: i64 = owner.read_few("read", |sql| sql.query_row("SELECT 1", [], |row| row.get(0))).await.unwrap();

        assert_eq!(one, 1);
        assert!(owner.thread.lock().unwrap().is_some());
    }

    #[tokio::test]
    async fn test_read_few_after_a_job_that_nobody_awaits_comes_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let owner = owner(&folder);
        let (is_done, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (release, held) = std::sync::mpsc::channel::<()>();
        let done = Arc::clone(&is_done);
        let mut job = Box::pin(owner.run("write", move |_| {
            held.recv().unwrap();
            done.store(true, Ordering::Release);
            Ok(())
        }));
        let mut context = Context::from_waker(Waker::noop());
        let is_queued = job.as_mut().poll(&mut context).is_pending();
        drop(job);
        let witness = Arc::clone(&seen);

        let mut read = pin!(owner.read_few("read", move |_| {
            witness.store(is_done.load(Ordering::Acquire), Ordering::Release);
            Ok(())
        }));
        let waits = read.as_mut().poll(&mut context).is_pending();
        release.send(()).unwrap();
        read.await.unwrap();

        assert_eq!((is_queued, waits, seen.load(Ordering::Acquire)), (true, true, true));
    }
}
