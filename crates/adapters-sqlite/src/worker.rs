//! The worker of a connection: a thread that takes tasks from a bounded queue. Short reads bypass it while it is idle.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use maqet_domain::port::StoreError;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::database::{Database, LazyDatabase};
use crate::limits;

type Task = Box<dyn FnOnce(&mut LazyDatabase) + Send>;

/// A database and the thread that works on it; dropped, it finishes the queued tasks and closes the database.
#[derive(Debug)]
pub(crate) struct ConnectionWorker {
    database: Arc<Mutex<LazyDatabase>>,
    /// The number of queued and running tasks.
    unfinished: Arc<AtomicUsize>,
    thread: Mutex<Option<Thread>>,
}

/// The thread, started by the first task.
#[derive(Debug)]
struct Thread {
    tasks: mpsc::Sender<Task>,
    handle: JoinHandle<()>,
}

/// The worker thread is gone; only a panic ends it early.
#[derive(Debug, thiserror::Error)]
#[error("the thread of the database has panicked")]
struct WorkerGone;

impl ConnectionWorker {
    /// Takes a database; the first task starts the thread.
    pub(crate) fn new(database: LazyDatabase) -> Self {
        Self {
            database: Arc::new(Mutex::new(database)),
            unfinished: Arc::new(AtomicUsize::new(0)),
            thread: Mutex::new(None),
        }
    }

    /// Returns the database, for maintenance of its file.
    pub(crate) fn database(&self) -> Arc<Mutex<LazyDatabase>> {
        Arc::clone(&self.database)
    }

    /// Returns whether the database is open, or in use.
    pub(crate) fn is_open(&self) -> bool {
        self.database.try_lock().map_or(true, |database| database.is_open())
    }

    /// Reads a few rows: on this thread if the worker is idle and the database is not locked, which is faster than to
    /// wake another thread; else as a task. A database that has to be created or migrated is opened by the task as well.
    pub(crate) async fn read_few<T: Send + 'static>(
        &self,
        action: &'static str,
        query: impl Fn(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        // A caller sees its own earlier changes, whether or not it awaited them.
        if self.unfinished.load(Ordering::Acquire) == 0
            && let Ok(mut database) = self.database.try_lock()
        {
            let database = database.get_at_once().filter(|database| !database.is_read_only());
            match database.map(|database| database.read_within(Duration::ZERO, action, &query)) {
                None | Some(Err(StoreError::Busy { .. })) => {}
                Some(result) => return result,
            }
        }
        self.read(action, query).await
    }

    /// Reads on the thread.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        action: &'static str,
        query: impl Fn(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.run(action, move |database| database.read(action, query)).await
    }

    /// Runs `work` on the thread; once it is queued it is done, whether or not the result is awaited.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        action: &'static str,
        work: impl FnOnce(&mut Database) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let gone = || StoreError::Failed { action, source: WorkerGone.into() };
        let (reply, result) = oneshot::channel();
        let unfinished = Arc::clone(&self.unfinished);
        let task: Task = Box::new(move |database| {
            let result = database.get().and_then(work);
            unfinished.fetch_sub(1, Ordering::Release);
            // The caller may have stopped waiting.
            let _ = reply.send(result);
        });

        let tasks = self.tasks().map_err(|error| StoreError::Failed { action, source: error.into() })?;
        let slot = tasks.reserve().await.map_err(|_| gone())?;
        self.unfinished.fetch_add(1, Ordering::AcqRel);
        slot.send(task);
        result.await.map_err(|_| gone())?
    }

    /// Returns the queue of the thread, which is started if it is not running.
    fn tasks(&self) -> io::Result<mpsc::Sender<Task>> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = &*thread {
            return Ok(thread.tasks.clone());
        }
        let (tasks, mut queue) = mpsc::channel::<Task>(limits::MAX_QUEUED_TASKS);
        let database = Arc::clone(&self.database);
        let handle = thread::Builder::new().name("maqet-sqlite".to_owned()).spawn(move || {
            while let Some(task) = queue.blocking_recv() {
                let Ok(mut database) = database.lock() else { return };
                task(&mut database);
            }
        })?;
        *thread = Some(Thread { tasks: tasks.clone(), handle });
        Ok(tasks)
    }
}

impl Drop for ConnectionWorker {
    fn drop(&mut self) {
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Thread { tasks, handle }) = thread {
            drop(tasks);
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

    fn worker(folder: &tempfile::TempDir) -> ConnectionWorker {
        ConnectionWorker::new(LazyDatabase::new(folder.path().join("maqet.db"), Options::default()))
    }

    /// Returns a worker whose database exists and is not open.
    fn worker_of_existing(folder: &tempfile::TempDir) -> ConnectionWorker {
        let worker = worker(folder);
        let database = worker.database();
        let mut database = database.lock().unwrap();
        database.get().unwrap();
        database.close();
        worker
    }

    async fn read_one(worker: &ConnectionWorker) -> i64 {
        worker.read_few("read", |sql| sql.query_row("SELECT 1", [], |row| row.get(0))).await.unwrap()
    }

    #[tokio::test]
    async fn test_read_few_idle_worker_needs_no_thread() {
        let folder = tempfile::tempdir().unwrap();
        let worker = worker_of_existing(&folder);

        assert_eq!(read_one(&worker).await, 1);
        assert!(worker.thread.lock().unwrap().is_none());
    }

    #[tokio::test]
    async fn test_read_few_missing_database_is_created_on_the_thread() {
        let folder = tempfile::tempdir().unwrap();
        let worker = worker(&folder);

        assert_eq!(read_one(&worker).await, 1);
        assert!(worker.thread.lock().unwrap().is_some());
    }

    #[tokio::test]
    async fn test_read_few_old_database_is_migrated_on_the_thread() {
        let folder = tempfile::tempdir().unwrap();
        let old = Connection::open(folder.path().join("maqet.db")).unwrap();
        old.execute_batch(include_str!("schema/v1.sql")).unwrap();
        old.pragma_update(None, "application_id", crate::schema::APPLICATION_ID).unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        let worker = worker(&folder);

        assert!(worker.database.lock().unwrap().get_at_once().is_none());
        assert_eq!(read_one(&worker).await, 1);
        assert!(worker.thread.lock().unwrap().is_some());
    }

    #[tokio::test]
    async fn test_read_few_locked_database_is_waited_for_on_the_thread() {
        let folder = tempfile::tempdir().unwrap();
        let worker = worker_of_existing(&folder);
        let other = Connection::open(folder.path().join("maqet.db")).unwrap();
        other.pragma_update_and_check(None, "locking_mode", "EXCLUSIVE", |_| Ok(())).unwrap();
        other.execute_batch("BEGIN EXCLUSIVE; COMMIT").unwrap();

        let mut read = pin!(read_one(&worker));
        let waits = read.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending();
        drop(other);

        assert!(waits && worker.thread.lock().unwrap().is_some());
        assert_eq!(read.await, 1);
    }

    #[tokio::test]
    async fn test_read_few_read_only_database_runs_on_the_thread() {
        let folder = tempfile::tempdir().unwrap();
        let worker = worker(&folder);
        worker.database.lock().unwrap().get().unwrap().force_read_only();

        let one: i64 = worker.read_few("read", |sql| sql.query_row("SELECT 1", [], |row| row.get(0))).await.unwrap();

        assert_eq!(one, 1);
        assert!(worker.thread.lock().unwrap().is_some());
    }

    #[tokio::test]
    async fn test_read_few_after_unawaited_task_runs_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let worker = worker(&folder);
        let (is_done, was_done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (release, held) = std::sync::mpsc::channel::<()>();
        let done = Arc::clone(&is_done);
        let mut task = Box::pin(worker.run("write", move |_| {
            held.recv().unwrap();
            done.store(true, Ordering::Release);
            Ok(())
        }));
        let mut context = Context::from_waker(Waker::noop());
        let is_queued = task.as_mut().poll(&mut context).is_pending();
        drop(task);
        let witness = Arc::clone(&was_done);

        let mut read = pin!(worker.read_few("read", move |_| {
            witness.store(is_done.load(Ordering::Acquire), Ordering::Release);
            Ok(())
        }));
        let waits = read.as_mut().poll(&mut context).is_pending();
        release.send(()).unwrap();
        read.await.unwrap();

        assert_eq!((is_queued, waits, was_done.load(Ordering::Acquire)), (true, true, true));
    }
}
