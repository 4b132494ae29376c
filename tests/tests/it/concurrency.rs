//! Many processes at once.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use maqet_testkit::{Finished, Running, TestHome, guest, parallel};
use serde_json::{Value, json};

/// QMP commands whose replies differ from each other and do not change while a VM is paused.
const QUERIES: [&str; 10] = [
    "query-status",
    "query-version",
    "query-name",
    "query-uuid",
    "query-kvm",
    "query-cpus-fast",
    "query-memory-size-summary",
    "query-chardev-backends",
    "query-machines",
    "query-iothreads",
];

#[test]
fn test_qmp_ten_processes_at_once_get_their_own_replies() {
    let _turn = parallel::heavy_turn();
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    home.json(&["start", "web"]);
    let expected = QUERIES.map(|query| home.json(&["qmp", "web", query]));
    let answered = AtomicUsize::new(0);

    thread::scope(|scope| {
        for first in 0..10 {
            let (home, expected, answered) = (&home, &expected, &answered);
            scope.spawn(move || {
                for number in 0..100 {
                    let which = (first + number) % QUERIES.len();
                    assert_eq!(home.json(&["qmp", "web", QUERIES[which]]), expected[which], "{}", QUERIES[which]);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });

    assert_eq!(answered.into_inner(), 1_000);
    let distinct: BTreeSet<String> = expected.iter().map(ToString::to_string).collect();
    assert_eq!(distinct.len(), QUERIES.len());
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_add_same_name_ten_times_at_once_succeeds_once() {
    let home = TestHome::new();

    let codes: Vec<Option<i32>> = (0..10)
        .map(|_| home.maqet(["add", "--empty", "--name", "web"]).spawn())
        .collect::<Vec<_>>()
        .into_iter()
        .map(|running| running.wait().code)
        .collect();

    assert_eq!(codes.iter().filter(|code| **code == Some(0)).count(), 1, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| **code == Some(4)).count(), 9, "{codes:?}");
}

#[test]
fn test_add_by_eight_processes_at_once_keeps_all() {
    let home = TestHome::new();

    thread::scope(|scope| {
        for worker in 0..8 {
            let home = &home;
            scope.spawn(move || {
                for number in 0..5 {
                    home.maqet(["add", "--empty", "--name", &format!("vm-{worker}-{number}")]).run().ok();
                }
            });
        }
    });

    assert_eq!(home.json(&["ls"]).as_array().unwrap().len(), 40);
}

#[test]
fn test_start_same_vm_twenty_times_at_once_spawns_one_qemu() {
    let _turn = parallel::heavy_turn();
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));

    let finished: Vec<Finished> = (0..20)
        .map(|_| home.maqet(["start", "web", "--format", "json"]).spawn())
        .collect::<Vec<_>>()
        .into_iter()
        .map(Running::wait)
        .collect();

    // A client that finds the VM locked, or its QEMU too busy to answer, gets a hint to try again.
    let (started, busy): (Vec<Finished>, Vec<Finished>) = finished.into_iter().partition(|one| one.code != Some(75));
    assert!(busy.iter().all(|one| one.json_error()["error"]["hints"] != json!([])));
    let started: Vec<Value> = started.into_iter().map(|one| one.ok().json_value()).collect();
    assert_eq!(started.iter().filter(|one| one["changed"] == json!(true)).count(), 1);
    assert_eq!(started.iter().map(|one| one["pid"].to_string()).collect::<BTreeSet<_>>().len(), 1);
    assert_eq!(home.qemu_pids().len(), 1);
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_snapshot_same_name_twice_at_once_is_created_once() {
    let home = TestHome::new();
    home.add("name: web\naccel: tcg\nstorage: [{name: hdd, size: 4M}]\n");

    let codes: Vec<Option<i32>> = (0..2)
        .map(|_| home.maqet(["snapshot", "create", "web", "hdd", "clean"]).spawn())
        .collect::<Vec<_>>()
        .into_iter()
        .map(|running| running.wait().code)
        .collect();

    assert_eq!(codes.iter().filter(|code| **code == Some(0)).count(), 1, "{codes:?}");
    assert_eq!(home.json(&["snapshot", "ls", "web"]).as_array().unwrap().len(), 1);
}
