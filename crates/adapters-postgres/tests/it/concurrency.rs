//! Many tasks and processes at once, some of them killed.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::history::HistoryQuery;
use maqet_domain::port::{EventLog, HistoryLog, Store, StoreError, VmRepository};
use maqet_domain::vm::Phase;
use maqet_testkit::store::sample;

use crate::support::{Database, add, names, open};

/// The test in which a child process begins.
const ENTRY: &str = "concurrency::test_child_without_order_does_nothing";
const ORDER: &str = "MAQET_STORE_TEST_ORDER";
const DATABASE: &str = "MAQET_STORE_TEST_DATABASE";

#[tokio::test]
async fn test_child_without_order_does_nothing() {
    let (Ok(order), Ok(url)) = (std::env::var(ORDER), std::env::var(DATABASE)) else { return };
    let (order, number) = order.split_once(' ').unwrap();
    let number = number.parse().unwrap();
    match order {
        "join" => join(&url, number).await,
        "mix" => mix(&url, number).await,
        "write" => write(&url, number).await,
        _ => panic!("unknown order `{order}`"),
    }
}

fn child(order: &str, url: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", ENTRY, "--nocapture", "--test-threads=1"]).env(ORDER, order).env(DATABASE, url);
    command
}

/// Runs children that begin at the same time.
fn run_children(orders: impl IntoIterator<Item = String>, url: &str) {
    let mut children: Vec<_> = orders
        .into_iter()
        .map(|order| {
            let mut command = child(&order, url);
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
}

fn wait_for_start() {
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

async fn join(url: &str, number: u32) {
    wait_for_start();
    add(&open(url, "here", "me"), &format!("vm-{number}"), number).await.unwrap();
}

/// Adds a VM of its own, changes it and a common one, and removes its own, with an event and a history entry each.
async fn mix(url: &str, number: u32) {
    wait_for_start();
    let store = open(url, "here", "me");
    for round in 0..12 {
        let vm = sample::vm(&format!("vm-{number}-{round}"), 1000 * (number + 1) + round);
        let id = vm.entry.id;
        logged(&store, sample::adding(&vm)).await.unwrap();
        let run = Some(sample::run(round, Phase::Starting));
        let change = Change::RunChanged { id, expected: vm.entry.revision, run: run.clone() };
        logged(&store, ChangeSet::default().and(change)).await.unwrap();
        if round % 2 == 0 {
            let removal = Change::VmRemoved { id, expected: vm.entry.revision.next() };
            logged(&store, ChangeSet::default().and(removal)).await.unwrap();
        }
        // A common VM: a conflict is answered as one, and tried again.
        loop {
            let common = store.by_name(&sample::name("common")).await.unwrap().unwrap().entry;
            let change = Change::RunChanged { id: common.id, expected: common.revision, run: run.clone() };
            match logged(&store, ChangeSet::default().and(change)).await {
                Ok(()) => break,
                Err(StoreError::Conflict { .. }) => {}
                Err(other) => panic!("{other}: {other:?}"),
            }
        }
    }
}

async fn logged(store: &dyn Store, changes: ChangeSet) -> Result<(), StoreError> {
    let history = Some(sample::history("mix", None));
    store.commit(ChangeSet { history, events: vec![sample::event("mix", None)], ..changes }).await
}

/// Commits a VM, a history entry and two events at a time without end, and prints a line for each.
async fn write(url: &str, round: u32) {
    let store = open(url, "here", "me");
    for number in (round * 1_000_000).. {
        let vm = sample::vm(&format!("vm-{number}"), number);
        let mut changes = sample::adding(&vm);
        changes.history = Some(sample::history("add", Some(vm.entry.id)));
        changes.events = vec![sample::event("one", Some(&vm.entry)), sample::event("two", None)];
        store.commit(changes).await.unwrap();
        println!("committed");
    }
}

#[tokio::test]
async fn test_open_by_sixteen_processes_in_new_schema_works() {
    for _ in 0..3 {
        let database = Database::new();

        run_children((0..16).map(|number| format!("join {number}")), &database.schema.url);

        assert_eq!(names(&database.open()).await.unwrap().len(), 16);
    }
}

#[tokio::test]
async fn test_sixteen_processes_of_mixed_commits_lose_nothing() {
    let database = Database::new();
    let store = database.open();
    let common = add(&store, "common", 1).await.unwrap();

    run_children((0..16).map(|number| format!("mix {number}")), &database.schema.url);

    // 12 rounds of 16 processes: an addition, a change, half a removal, and a change of the common VM.
    assert_eq!(names(&store).await.unwrap().len(), 16 * 6 + 1);
    let revision = store.by_id(&common.entry.id).await.unwrap().unwrap().entry.revision;
    assert_eq!(revision.0, 1 + 16 * 12);
    let commits = 16 * (12 + 12 + 6 + 12);
    assert_eq!(store.history(&HistoryQuery::newest(u32::MAX)).await.unwrap().len(), commits);
    assert_eq!(store.events_after(0, u32::MAX).await.unwrap().len(), commits);
}

#[test]
fn test_events_read_while_others_write_are_complete() {
    const WRITERS: u32 = 8;
    const EVENTS: u32 = 40;
    let database = Database::new();
    let is_done = AtomicBool::new(false);

    let read = thread::scope(|scope| {
        let reader = scope.spawn(|| wait(read_until(&database, &is_done)));
        let writers = (0..WRITERS).map(|writer| {
            let database = &database;
            scope.spawn(move || wait(write_events(database, writer, EVENTS)))
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.join().unwrap();
        }
        is_done.store(true, Ordering::SeqCst);
        reader.join().unwrap()
    });

    assert_eq!(read, 2 * (WRITERS * EVENTS) as usize);
}

/// Reads events, each time those after the last one, and returns their number.
async fn read_until(database: &Database, is_done: &AtomicBool) -> usize {
    let store = database.open_as("reader", "me");
    let (mut last, mut read) = (0, 0);
    loop {
        let was_done = is_done.load(Ordering::SeqCst);
        let events = store.events_after(last, 1000).await.unwrap();
        read += events.len();
        last = events.last().map_or(last, |event| event.sequence);
        if was_done && events.is_empty() {
            // Those that are not announced yet; a new store always asks the server.
            return read + database.open().events_after(last, 1000).await.unwrap().len();
        }
    }
}

async fn write_events(database: &Database, writer: u32, commits: u32) {
    let store = database.open_as(&format!("host-{writer}"), "me");
    for _ in 0..commits {
        let events = vec![sample::event("one", None), sample::event("two", None)];
        store.commit(ChangeSet { events, ..ChangeSet::default() }).await.unwrap();
    }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[tokio::test]
async fn test_commit_killed_at_any_moment_is_atomic() {
    let database = Database::new();
    let mut durable = 0;

    for round in 1..=6 {
        let mut writer = child(&format!("write {round}"), &database.schema.url).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(writer.stdout.take().unwrap()).lines().map(Result::unwrap);
        let is_commit = |line: &String| line.ends_with("committed");
        // The writer is killed while it writes the commit after this one.
        let before = output.by_ref().filter(is_commit).take(5 * round).count();
        writer.kill().unwrap();
        durable += before + output.filter(is_commit).count();
        writer.wait().unwrap();

        let store = database.open();
        let vms = store.list().await.unwrap().len();
        let history = store.history(&HistoryQuery::newest(u32::MAX)).await.unwrap().len();
        let events = store.events_after(0, u32::MAX).await.unwrap().len();
        // The last commit of a killed process may end after its death.
        assert!((durable..=durable + round).contains(&vms), "{vms} VMs of {durable} to {}", durable + round);
        assert!(vms <= history && history <= vms + 1, "{history} entries for {vms} VMs");
        assert!(2 * vms <= events && events <= 2 * vms + 2, "{events} events for {vms} VMs");
    }
}

#[tokio::test]
async fn test_commits_in_opposite_order_one_wins() {
    let database = Database::new();
    let store = database.open();
    let (one, two) = (add(&store, "one", 1).await.unwrap(), add(&store, "two", 2).await.unwrap());
    let other = database.open();
    let touch = |vm: &maqet_domain::vm::Vm, revision: i64| Change::RunChanged {
        id: vm.entry.id,
        expected: maqet_domain::vm::Revision(revision),
        run: None,
    };

    for revision in 1..=10 {
        let ahead = store.commit(ChangeSet::default().and(touch(&one, revision)).and(touch(&two, revision)));
        let back = other.commit(ChangeSet::default().and(touch(&two, revision)).and(touch(&one, revision)));
        let (ahead, back) = tokio::join!(ahead, back);

        let won = [&ahead, &back].iter().filter(|result| result.is_ok()).count();
        assert_eq!(won, 1, "{ahead:?} {back:?}");
        for lost in [ahead, back].into_iter().filter_map(Result::err) {
            assert!(matches!(lost, StoreError::Conflict { .. }), "{lost:?}");
        }
    }
}

#[tokio::test]
async fn test_commit_dropped_leaves_the_store_usable() {
    let database = Database::new();
    let store = database.open();
    add(&store, "before", 1).await.unwrap();

    for number in 2..40_u32 {
        let vm = sample::vm(&format!("vm-{number}"), number);
        let events = vec![sample::event("added", Some(&vm.entry))];
        let commit = store.commit(ChangeSet { events, ..sample::adding(&vm) });
        // Dropped at another moment each time.
        let limit = std::time::Duration::from_micros(u64::from(number) * 40);
        let _dropped = tokio::time::timeout(limit, commit).await;
    }
    let after = add(&store, "after", 1000).await;

    assert!(after.is_ok(), "{after:?}");
    // All but the first and the last VM were added with an event.
    assert_eq!(store.events_after(0, 100).await.unwrap().len(), store.list().await.unwrap().len() - 2);
}
