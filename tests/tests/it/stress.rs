//! Many clients at once, on shared VMs and on their own: all work is counted, and none is lost.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hasher};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use maqet_testkit::postgres::server;
use maqet_testkit::{Finished, TestHome, guest, parallel, variable};
use serde_json::Value;

const WORKERS: u64 = 16;

/// How many operations each of them does; all with `--long`.
const OPERATIONS: u64 = 5;
const OPERATIONS_LONG: u64 = 50;

/// Longer than a queue of all workers on one VM takes on a busy host.
const TIMEOUT: Duration = Duration::from_mins(5);

/// What all of them have done.
#[derive(Debug, Default)]
struct Done {
    snapshots: BTreeSet<String>,
    own: BTreeSet<String>,
    changes: i64,
}

/// The errors to expect while others work on the same VMs.
const EXPECTED: [&str; 11] = [
    "lock.in-use",
    "vm.status-conflict",
    "snapshot.live-required",
    "vm.unresponsive",
    "vm.not-found",
    // A forced stop does not wait for other clients, nor for a start.
    "vm.start-failed",
    "vm.run-interrupted",
    "qmp.connection-failed",
    "qmp.monitor-unavailable",
    "qmp.queue-timed-out",
    "qmp.greeting-timed-out",
];

struct Worker<'a> {
    home: &'a TestHome,
    done: &'a Mutex<Done>,
    number: u64,
}

impl Worker<'_> {
    fn run(&self, arguments: &[&str]) -> Option<Value> {
        let finished: Finished = self.home.maqet(arguments).args(["--format", "json"]).deadline(TIMEOUT).run();
        if finished.code == Some(0) {
            return Some(finished.json_value());
        }
        let error = finished.json_error()["error"].clone();
        let code = error["code"].as_str().unwrap();
        assert!(EXPECTED.contains(&code), "{finished}");
        None
    }

    /// Does a random operation.
    fn operate(&self, turn: u64) {
        let chance = chance(self.number * 1_000 + turn);
        let shared = format!("shared{}", chance % 2);
        let vm = shared.as_str();
        let own = format!("own-{}", self.number);
        match chance / 2 % 10 {
            0 | 1 => drop(self.run(&["start", vm])),
            2 => drop(self.run(&["stop", vm, "--force"])),
            3 => drop(self.run(&["status", vm])),
            4 => drop(self.run(&["ls"])),
            5 => drop(self.run(&["qmp", vm, "query-status"])),
            6 => {
                let memory = format!("{}M", 32 + self.number * 50 + turn);
                let applied = self.run(&["apply", vm, "--memory", &memory]);
                let is_changed = applied.is_some_and(|applied| applied["changed"] == true);
                self.done.lock().unwrap().changes += i64::from(is_changed);
            }
            7 => {
                let snapshot = format!("s-{}-{turn}", self.number);
                if self.run(&["snapshot", "create", vm, "hdd", &snapshot]).is_some() {
                    let mut done = self.done.lock().unwrap();
                    done.snapshots.insert(format!("{vm}/{snapshot}"));
                    done.changes += 1;
                }
            }
            _ => self.own(&own),
        }
    }

    /// Adds the worker's own VM, or starts and removes it.
    fn own(&self, own: &str) {
        let is_there = self.done.lock().unwrap().own.contains(own);
        if is_there {
            self.home.json(&["start", own]);
            self.home.json(&["rm", own, "--force"]);
        } else {
            self.home.json(&["add", "own.yaml", "--name", own]);
        }
        let mut done = self.done.lock().unwrap();
        done.changes += 1;
        if is_there {
            done.own.remove(own)
        } else {
            done.own.insert(own.to_owned())
        };
    }
}

/// Returns a number that is the same for the same `seed`.
fn chance(seed: u64) -> u64 {
    let mut hasher = BuildHasherDefault::<DefaultHasher>::default().build_hasher();
    hasher.write_u64(seed);
    hasher.finish()
}

fn database(home: &TestHome) -> rusqlite::Connection {
    rusqlite::Connection::open(home.data().join("maqet.db")).unwrap()
}

#[test]
fn test_mixed_operations_of_sixteen_processes_lose_nothing() {
    let _turn = parallel::heavy_turn();
    let home = TestHome::new();

    mix(&home, || {
        let verdict: String = database(&home).pragma_query_value(None, "integrity_check", |row| row.get(0)).unwrap();
        assert_eq!(verdict, "ok");
        database(&home).query_row("SELECT count(*) FROM history", [], |row| row.get(0)).unwrap()
    });
}

#[test]
fn test_mixed_operations_of_sixteen_processes_on_postgres() {
    let _turn = parallel::heavy_turn();
    let server = server();
    let schema = server.schema();
    let home = TestHome::new();
    home.write("config/maqet/maqet.conf", format!("database: '{}'\n", schema.url));

    mix(&home, || server.query(&format!("SELECT count(*) FROM {}.history", schema.name)).parse().unwrap());

    assert!(!home.data().join("maqet.db").exists());
}

/// Has 16 processes at a time work on two common VMs and on their own, and checks that nothing is lost; `recorded` returns
/// the number of changes in the history.
fn mix(home: &TestHome, recorded: impl FnOnce() -> i64) {
    for vm in ["shared0", "shared1"] {
        home.add(&(guest::paused_yaml(vm) + "storage: [{name: hdd, size: 4M}]\n"));
    }
    home.write("own.yaml", guest::paused_yaml("own"));
    let done = Mutex::new(Done { changes: 2, ..Done::default() });
    let operations = if variable::is_long() { OPERATIONS_LONG } else { OPERATIONS };

    thread::scope(|scope| {
        for number in 0..WORKERS {
            let worker = Worker { home, done: &done, number };
            scope.spawn(move || (0..operations).for_each(|turn| worker.operate(turn)));
        }
    });

    let done = done.into_inner().unwrap();
    let listed = home.json(&["ls"]);
    let vms = listed.as_array().unwrap();
    let names = vms.iter().map(|vm| vm["name"].as_str().unwrap().to_owned());
    let own: BTreeSet<String> = names.filter(|name| name.starts_with("own-")).collect();
    assert_eq!((vms.len(), &own), (2 + own.len(), &done.own));
    let shown: BTreeSet<i64> = vms.iter().filter_map(|vm| vm["pid"].as_i64()).collect();
    assert_eq!(home.qemu_pids().into_iter().map(i64::from).collect::<BTreeSet<i64>>(), shown);

    let snapshots = ["shared0", "shared1"].into_iter().flat_map(|vm| snapshots(home, vm));
    assert_eq!(snapshots.collect::<BTreeSet<String>>(), done.snapshots);
    assert_eq!(recorded(), done.changes);

    for vm in vms {
        home.json(&["rm", vm["name"].as_str().unwrap(), "--force"]);
    }
    check_images(home);
    assert_eq!(home.stale_files(), Vec::<PathBuf>::new());
    assert_eq!(home.qemu_pids(), Vec::<i32>::new());
}

fn snapshots(home: &TestHome, vm: &str) -> Vec<String> {
    let listed = home.json(&["snapshot", "ls", vm]);
    listed.as_array().unwrap().iter().map(|one| format!("{vm}/{}", one["name"].as_str().unwrap())).collect()
}

fn check_images(home: &TestHome) {
    for image in home.files().into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "qcow2")) {
        let checked = Command::new("qemu-img").args(["check", "-q"]).arg(&image).output().unwrap();
        assert!(checked.status.success(), "{}: {checked:?}", image.display());
    }
}

#[test]
fn test_snapshots_by_eight_processes_are_serialized() {
    let home = TestHome::new();
    home.add("name: web\naccel: tcg\nstorage: [{name: hdd, size: 4M}]\n");
    let names: Vec<String> = (0..8).map(|number| format!("s{number}")).collect();

    let running: Vec<_> =
        names.iter().map(|name| home.maqet(["snapshot", "create", "web", "hdd", name]).spawn()).collect();
    let codes: Vec<Option<i32>> = running.into_iter().map(|running| running.wait().code).collect();

    assert!(codes.iter().all(|code| [Some(0), Some(75)].contains(code)), "{codes:?}");
    let made = names.iter().zip(&codes).filter(|(_, code)| **code == Some(0)).map(|(name, _)| format!("web/{name}"));
    let there: BTreeSet<String> = snapshots(&home, "web").into_iter().collect();
    assert_eq!(there, made.collect(), "{codes:?}");
    check_images(&home);
}
