//! Concurrent threads and processes, some of them killed.

use std::io::{BufRead, BufReader, Read};
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::task::{Context, Wake, Waker};
use std::time::Duration;
use std::{fs, thread};

use maqet_adapters_sqlite::{Options, SqliteStore, limits};
use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::history::HistoryQuery;
use maqet_domain::port::{EventLog, HistoryLog, Store, StoreError, VmRepository};
use maqet_domain::vm::{Phase, Revision};
use maqet_testkit::store::sample;
use rusqlite::Connection;
use tempfile::TempDir;

use crate::child::{self, add, names, wait};

/// The test in which a child process begins.
const ENTRY: &str = "concurrency::test_child_without_order_does_nothing";

#[test]
fn test_child_without_order_does_nothing() {
    let Some((order, database)) = child::order() else { return };
    match order.split_once(' ') {
        Some(("join", number)) => join(&database, number.parse().unwrap()),
        Some(("write", round)) => write(&database, round.parse().unwrap()),
        Some(("mix", number)) => mix(&database, number.parse().unwrap()),
        _ => panic!("unknown order `{order}`"),
    }
}

/// Waits for the start, then opens the database and adds a VM.
fn join(database: &Path, number: u32) {
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    let store = SqliteStore::open(database).unwrap();
    add(&store, &format!("vm-{number}"), number).unwrap();
}

/// Commits a VM, a history entry and two events at a time without end, and prints a line for each durable commit.
fn write(database: &Path, round: u32) {
    let store = SqliteStore::open(database).unwrap();
    for number in (round * 1_000_000).. {
        let vm = sample::vm(&format!("vm-{number}"), number);
        let mut changes = sample::adding(&vm);
        changes.history = Some(sample::history("add", Some(vm.entry.id)));
        changes.events = vec![sample::event("one", Some(&vm.entry)), sample::event("two", None)];
        wait(store.commit(changes)).unwrap();
        println!("committed");
    }
}

/// How many operations each of the processes does in the mix.
const MIXED: u32 = 8;

/// Adds, changes, removes and reads VMs of its own and the list of all; each time on a new connection, as a command does.
fn mix(database: &Path, number: u32) {
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    for turn in 0..MIXED {
        let store = SqliteStore::open(database).unwrap();
        let vm = sample::vm(&format!("vm-{number}-{turn}"), number * 1_000 + turn);
        let mut changes = sample::adding(&vm);
        changes.events = vec![sample::event("one", Some(&vm.entry))];
        wait(store.commit(changes)).unwrap();
        let id = vm.entry.id;
        let run = Some(sample::run(1, Phase::Running));
        let started = Change::RunChanged { id, expected: Revision::FIRST, run };
        wait(store.commit(ChangeSet::default().and(started.clone()))).unwrap();
        // Another process was faster, as far as this change knows.
        let conflict = wait(store.commit(ChangeSet::default().and(started)));
        assert!(matches!(conflict, Err(StoreError::Conflict { .. })), "{conflict:?}");
        if turn % 2 == 1 {
            let removal = Change::VmRemoved { id, expected: Revision(2) };
            wait(store.commit(ChangeSet::default().and(removal))).unwrap();
        }
        assert!(names(&store).unwrap().len() > turn as usize / 2);
    }
}

#[test]
fn test_mix_of_32_processes_is_never_locked_out() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("maqet.db");
    let mut children: Vec<_> = (0..32)
        .map(|number| {
            let mut command = child::command(this_program(), ENTRY, &format!("mix {number}"), &path);
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let reader = SqliteStore::open(&path).unwrap();
    // One that fails where another would wait.
    names(&reader).unwrap();
    let impatient = Connection::open(&path).unwrap();
    impatient.busy_timeout(Duration::ZERO).unwrap();
    // A checkpoint of the whole log again and again, which takes turns with the writers; no reader may wait for it.
    let is_over = Arc::new(AtomicBool::new(false));
    let checkpoints = thread::spawn({
        let (path, is_over) = (path.clone(), Arc::clone(&is_over));
        move || {
            let connection = Connection::open(path).unwrap();
            let mut count = 0;
            while !is_over.load(Ordering::Acquire) {
                connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(())).unwrap();
                count += 1;
                thread::sleep(Duration::from_millis(1));
            }
            count
        }
    });

    drop(children.iter_mut().map(|child| child.stdin.take()).collect::<Vec<_>>());
    let mut reads = 0_u32;
    while children.iter_mut().any(|child| child.try_wait().unwrap().is_none()) {
        let read: rusqlite::Result<i64> = impatient.query_row("SELECT count(*) FROM vm", [], |row| row.get(0));
        read.unwrap_or_else(|error| panic!("read {reads} waits for a writer or a checkpoint: {error}"));
        reads += 1;
    }
    is_over.store(true, Ordering::Release);
    let checkpoints: u32 = checkpoints.join().unwrap();

    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(reads > 10 && checkpoints > 0, "{reads} reads, {checkpoints} checkpoints");
    assert_eq!(names(&reader).unwrap().len(), 32 * MIXED as usize / 2);
    assert_eq!(wait(reader.events_after(0, u32::MAX)).unwrap().len(), 32 * MIXED as usize);
}

#[test]
fn test_add_from_eight_threads_loses_nothing() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("maqet.db");
    let start = Barrier::new(8);

    thread::scope(|scope| {
        for writer in 0..8 {
            let (path, start) = (&path, &start);
            scope.spawn(move || {
                start.wait();
                let store = SqliteStore::open(path).unwrap();
                for number in 0..50 {
                    add(&store, &format!("vm-{writer}-{number}"), writer * 50 + number).unwrap();
                }
            });
        }
    });

    assert_eq!(names(&SqliteStore::open(&path).unwrap()).unwrap().len(), 400);
}

#[test]
fn test_open_by_sixteen_processes_in_new_folder_works() {
    for _ in 0..5 {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("new/folder/maqet.db");
        let mut children: Vec<_> = (0..16)
            .map(|number| {
                let mut command = child::command(this_program(), ENTRY, &format!("join {number}"), &path);
                command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
            })
            .collect();

        // All of them wait for the end of their standard input.
        let starts: Vec<_> = children.iter_mut().map(|child| child.stdin.take()).collect();
        drop(starts);

        for child in children {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        assert_eq!(names(&SqliteStore::open(&path).unwrap()).unwrap().len(), 16);
        assert_eq!(files(path.parent().unwrap()), ["maqet.db"]);
    }
}

#[test]
fn test_commit_killed_at_any_moment_is_atomic() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("maqet.db");
    let mut durable = 0;

    for round in 1..=10 {
        let mut command = child::command(this_program(), ENTRY, &format!("write {round}"), &path);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let is_commit = |line: &String| line.ends_with("committed");
        // The writer is killed while it writes the commit after this one.
        let before = output.by_ref().filter(is_commit).take(7 * round).count();
        child.kill().unwrap();
        durable += before + output.filter(is_commit).count();
        child.wait().unwrap();

        check_atomic(&path, durable, round);
    }
}

/// Checks that all commits that were reported as durable are there, and no part of another one.
#[track_caller]
fn check_atomic(path: &Path, durable: usize, killed: usize) {
    let store = SqliteStore::open(path).unwrap();
    let vms = wait(store.list()).unwrap().len();
    let history = wait(store.history(&HistoryQuery::newest(u32::MAX))).unwrap().len();
    let events = wait(store.events_after(0, u32::MAX)).unwrap().len();
    let verdict: String =
        Connection::open(path).unwrap().pragma_query_value(None, "integrity_check", |row| row.get(0)).unwrap();

    assert!((durable..=durable + killed).contains(&vms), "{vms} VMs of {durable} to {}", durable + killed);
    assert_eq!((history, events, verdict.as_str()), (vms, 2 * vms, "ok"));
}

#[test]
fn test_commit_while_locked_is_busy_after_the_timeout() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("maqet.db");
    let store =
        SqliteStore::open_with(&path, Options { busy_timeout: Duration::from_millis(20), ..Options::default() })
            .unwrap();
    let holder = Connection::open(&path).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();

    let refused = add(&store, "web", 1);
    let read = names(&store);
    holder.execute_batch("ROLLBACK").unwrap();
    let written = add(&store, "web", 1);

    assert!(matches!(refused, Err(StoreError::Busy { .. })), "{refused:?}");
    assert_eq!(read.unwrap(), Vec::<String>::new());
    assert!(written.is_ok(), "{written:?}");
}

#[test]
fn test_commit_not_awaited_is_written_before_close() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("maqet.db");
    let store = SqliteStore::open(&path).unwrap();

    wait(async {
        let vm = sample::vm("web", 1);
        let mut commit = store.commit(sample::adding(&vm));
        // The first poll queues it; then its future is dropped.
        let once = std::future::poll_fn(|context| std::task::Poll::Ready(commit.as_mut().poll(context).is_ready()));
        once.await;
    });
    drop(store);

    assert_eq!(names(&SqliteStore::open(&path).unwrap()).unwrap(), ["web"]);
}

fn names_of_vms(store: &SqliteStore) -> Vec<String> {
    wait(store.vms()).unwrap().into_iter().map(|vm| vm.entry.name.to_string()).collect()
}

#[test]
fn test_list_of_several_batches_has_every_vm_once() {
    const CHUNKS: u32 = 2 * limits::LIST_CHUNK;
    let folder = TempDir::new().unwrap();
    let store = SqliteStore::open(folder.path().join("maqet.db")).unwrap();
    let name = |number: u32| format!("vm-{:05}", number * 7_919 % 10_007);
    let add_all = |numbers: Range<u32>| {
        let vms = numbers.map(|number| Change::VmAdded(Box::new(sample::vm(&name(number), number))));
        wait(store.commit(vms.fold(ChangeSet::default(), ChangeSet::and))).unwrap();
    };
    let sorted = |count: u32| {
        let mut all: Vec<String> = (0..count).map(name).collect();
        all.sort();
        all
    };

    add_all(0..CHUNKS);
    assert_eq!(names(&store).unwrap(), sorted(CHUNKS));
    assert_eq!(names_of_vms(&store), sorted(CHUNKS));
    add_all(CHUNKS..CHUNKS + 1);
    assert_eq!(names(&store).unwrap(), sorted(CHUNKS + 1));
    assert_eq!(names_of_vms(&store), sorted(CHUNKS + 1));
}

/// Counts how often it was woken.
#[derive(Default)]
struct WakeCounter(AtomicUsize);

impl Wake for WakeCounter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn test_list_polled_manually_wakes_the_poller() {
    let folder = TempDir::new().unwrap();
    let store = SqliteStore::open(folder.path().join("maqet.db")).unwrap();
    let vms =
        (0..limits::LIST_CHUNK).map(|number| Change::VmAdded(Box::new(sample::vm(&format!("vm-{number}"), number))));
    wait(store.commit(vms.fold(ChangeSet::default(), ChangeSet::and))).unwrap();
    // A store whose thread has not been started.
    let store = SqliteStore::open(folder.path().join("maqet.db")).unwrap();

    let (turns, woken) = wait(async {
        let counter = Arc::new(WakeCounter::default());
        let waker = Waker::from(Arc::clone(&counter));
        let mut list = store.list();
        let mut turns = 0;
        while list.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            turns += 1;
        }
        (turns, counter.0.load(Ordering::Relaxed))
    });

    assert_eq!((turns, woken), (1, 1));
}

/// Returns a command that runs this binary.
fn this_program() -> Command {
    Command::new(std::env::current_exe().expect("a test knows its binary"))
}

fn files(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}
