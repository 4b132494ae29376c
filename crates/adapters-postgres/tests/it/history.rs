//! The history, which several hosts share.

use maqet_domain::change::ChangeSet;
use maqet_domain::history::{HistoryQuery, HistoryVm};
use maqet_domain::port::{HistoryLog, Store, VmRepository};
use maqet_testkit::store::sample;
use maqet_testkit::wait::LONG;
use tokio::time::timeout;

use crate::support::{Database, open};

/// However many changes others have made.
#[tokio::test]
async fn test_history_of_a_vm_is_read_by_its_indexes() {
    let database = Database::new();
    database.open().list().await.unwrap();
    database.query(
        "INSERT INTO history (at, \"user\", host, pid, vm, vm_name, operation, arguments) \
            SELECT n, 'u', 'h', 1, gen_random_uuid(), 'vm-' || n, 'add', '{}' FROM generate_series(1, 20000) AS n; \
        ANALYZE history",
    );
    // Has the server log how it executes the queries.
    let explained = "options=-csession_preload_libraries%3Dauto_explain%20-cauto_explain.log_min_duration%3D0%20";
    let store = open(&database.schema.url.replace("options=", explained), "here", "me");
    let vm = Some(HistoryVm { id: Some(sample::id(7)), name: Some(sample::name("vm-9")) });

    let found = store.history(&HistoryQuery { vm, ..HistoryQuery::newest(20) }).await.unwrap();
    // The log is complete once the server answers again.
    store.list().await.unwrap();

    assert_eq!(found.len(), 1);
    let log = database.server.messages();
    assert!(["history_of_vm", "history_of_name"].iter().all(|index| log.contains(index)), "{log}");
}

#[tokio::test]
async fn test_history_is_limited_for_each_host() {
    let database = Database::new();
    let (here, there) = (database.open_as("a", "me"), database.open_as("b", "me"));
    for number in 0..4 {
        for (store, name) in [(&here, "here"), (&there, "there")] {
            let history = Some(sample::history(&format!("{name}-{number}"), None));
            let history_limit = (name == "here").then_some(1);
            store.commit(ChangeSet { history, history_limit, ..ChangeSet::default() }).await.unwrap();
        }
    }

    let kept = here.history(&HistoryQuery::newest(9)).await.unwrap();

    let kept: Vec<_> = kept.iter().map(|recorded| &*recorded.entry.call.operation).collect();
    assert_eq!(kept, ["there-3", "here-3", "there-2", "there-1", "there-0"]);
}

#[tokio::test]
async fn test_history_of_many_entries_is_limited_now_and_then() {
    let database = Database::new();
    let store = database.open();

    for number in 0..200 {
        let history = Some(sample::history(&number.to_string(), None));
        store.commit(ChangeSet { history, history_limit: Some(120), ..ChangeSet::default() }).await.unwrap();
    }

    let kept = store.history(&HistoryQuery::newest(999)).await.unwrap().len();
    // Which commits remove entries follows no pattern, and is the same each time.
    assert!((120..=120 + 3 * 16).contains(&kept), "{kept} entries are kept");
}

#[tokio::test]
async fn test_history_is_limited_of_hosts_that_alternate() {
    let database = Database::new();
    let stores = ["a", "b"].map(|host| database.open_as(host, "me"));

    for number in 0..200 {
        for store in &stores {
            let history = Some(sample::history(&number.to_string(), None));
            store.commit(ChangeSet { history, history_limit: Some(120), ..ChangeSet::default() }).await.unwrap();
        }
    }

    for store in &stores {
        let query = HistoryQuery { own: true, ..HistoryQuery::newest(999) };
        let kept = store.history(&query).await.unwrap().len();
        assert!((120..=120 + 3 * 16).contains(&kept), "{kept} entries are kept");
    }
}

#[tokio::test]
async fn test_history_limited_by_two_processes_at_once_waits_for_neither() {
    let database = Database::new();
    let limited = || async {
        let store = database.open();
        let history = Some(sample::history("x", None));
        store.commit(ChangeSet { history, history_limit: Some(1), ..ChangeSet::default() }).await
    };
    limited().await.unwrap();
    // A transaction that has removed the same entry and does not go on.
    let removal = format!("SET search_path = {}; DELETE FROM history", database.schema.name);
    let holder = database.server.hold(&removal);

    timeout(LONG, limited()).await.expect("the commit does not wait for the other one").unwrap();
    drop(holder);
}
