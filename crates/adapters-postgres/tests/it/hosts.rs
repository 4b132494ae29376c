//! Several hosts and users on one database.

use std::time::{Duration, Instant};

use maqet_adapters_postgres::limits;
use maqet_domain::Timestamp;
use maqet_domain::change::{Change, ChangeSet, UsedImage};
use maqet_domain::event::{Event, kind};
use maqet_domain::history::HistoryQuery;
use maqet_domain::port::{
    EventLog, HistoryLog, HostLedger, MoveId, MoveMark, StorageLedger, Store, StoreError, StoreMaintenance,
    StoreTransfer, VmPresence, VmRepository,
};
use maqet_domain::storage::SharedFileId;
use maqet_domain::vm::{Phase, Revision};
use maqet_testkit::store::sample;

use crate::proxy::Proxy;
use crate::support::{Database, add, names, open};

#[tokio::test]
async fn test_hosts_and_users_have_their_own_names_and_vms() {
    let database = Database::new();
    let stores = [("a", "me"), ("b", "me"), ("a", "you")].map(|(host, owner)| database.open_as(host, owner));

    for (number, store) in (1..).zip(&stores) {
        let vm = add(store, "web", number).await.unwrap();
        let record = Change::StorageAdded(sample::storage("/d/web", Some(vm.entry.id)));
        store.commit(ChangeSet::default().and(record)).await.unwrap();
    }

    for (number, store) in (1..).zip(&stores) {
        assert_eq!(names(store).await.unwrap(), ["web"]);
        let found = store.by_name(&sample::name("web")).await.unwrap().unwrap();
        assert_eq!(found.entry.id, sample::id(number));
        assert_eq!(store.storage_of_vm(&sample::id(number)).await.unwrap().len(), 1);
        assert_eq!(store.by_id_prefix("").await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn test_vm_of_another_host_cannot_be_changed_or_removed() {
    let database = Database::new();
    let (here, there) = (database.open_as("a", "me"), database.open_as("b", "me"));
    let vm = add(&here, "web", 1).await.unwrap();
    let id = vm.entry.id;
    let expected = Revision::FIRST;
    let (definition, origins) = (sample::other_definition(), sample::origins("x"));

    for change in [
        Change::VmRemoved { id, expected },
        Change::RunChanged { id, expected, run: Some(sample::run(1, Phase::Starting)) },
        Change::PendingChanged { id, expected, pending: Some(Box::new(sample::pending("x"))) },
        Change::DefinitionChanged { id, expected, definition, origins },
    ] {
        let refused = there.commit(ChangeSet::default().and(change)).await;
        assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
    }

    assert_eq!(there.by_id(&id).await.unwrap(), None);
    assert_eq!(here.by_id(&id).await.unwrap(), Some(vm));
}

#[tokio::test]
async fn test_images_of_a_vm_are_recorded_for_others_by_its_host_only() {
    let database = Database::new();
    let (here, there) = (database.open_as("a", "me"), database.open_as("b", "me"));
    let id = add(&here, "web", 1).await.unwrap().entry.id;
    let used = |inode| {
        let file = SharedFileId::File { inode, born_at: Some(Timestamp::UNIX_EPOCH) };
        vec![UsedImage { drive: "hdd".to_owned(), path: "/d/web.qcow2".to_owned(), file }]
    };
    let record = |inode| ChangeSet::default().and(Change::ImagesUsed { vm: id, images: used(inode) });

    let before = there.foreign_images(&id).await.unwrap();
    here.commit(record(1)).await.unwrap();
    here.commit(record(2)).await.unwrap();
    let refused = there.commit(record(3)).await;

    assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
    assert_eq!((before, there.foreign_images(&id).await.unwrap()), (vec![], used(2)));
    assert_eq!(here.foreign_images(&id).await.unwrap(), []);
    here.commit(ChangeSet::default().and(Change::VmRemoved { id, expected: Revision::FIRST })).await.unwrap();
    assert_eq!(database.query("SELECT count(*) FROM used_images"), "0");
}

#[tokio::test]
async fn test_records_of_removed_vms_stay_with_their_host() {
    let database = Database::new();
    let (here, there) = (database.open_as("a", "me"), database.open_as("b", "me"));
    let record = ChangeSet::default().and(Change::StorageAdded(sample::storage("/d/x", None)));

    here.commit(record).await.unwrap();

    assert_eq!(here.storage_without_vm().await.unwrap().len(), 1);
    assert_eq!(there.storage_without_vm().await.unwrap(), []);
}

#[tokio::test]
async fn test_history_and_events_are_common_to_all_hosts() {
    let database = Database::new();
    let (here, there) = (database.open_as("a", "me"), database.open_as("b", "you"));
    let events = vec![sample::event("one", None)];

    here.commit(ChangeSet { events, history: Some(sample::history("add", None)), ..ChangeSet::default() })
        .await
        .unwrap();

    assert_eq!(there.events_after(0, 10).await.unwrap().len(), 1);
    assert_eq!(there.history(&HistoryQuery::newest(10)).await.unwrap().len(), 1);
}

#[tokio::test]
async fn test_foreign_vms_are_those_of_others_in_order() {
    let database = Database::new();
    for (number, (host, owner, name)) in
        (1..).zip([("b", "me", "web"), ("a", "you", "web"), ("a", "me", "web"), ("a", "me", "db")])
    {
        add(&database.open_as(host, owner), name, number).await.unwrap();
    }

    let foreign = database.open_as("a", "you").foreign().await.unwrap();

    let shown: Vec<_> = foreign.iter().map(|vm| format!("{} {} {}", vm.host, vm.owner, vm.entry.name)).collect();
    assert_eq!(shown, ["a me db", "a me web", "b me web"]);
}

#[tokio::test]
async fn test_events_of_another_host_are_announced() {
    let database = Database::new();
    let proxy = Proxy::to(&database.server.socket());
    let reader = open(&proxy.url(&database.schema.name), "a", "me");
    let writer = database.open_as("b", "me");
    add(&writer, "web", 1).await.unwrap();
    // The second read subscribes.
    for _ in 0..2 {
        assert_eq!(reader.events_after(0, 10).await.unwrap(), []);
    }
    proxy.turns();

    for _ in 0..100 {
        assert_eq!(reader.events_after(0, 10).await.unwrap(), []);
    }
    let asked = proxy.turns();
    let written = Instant::now();
    writer.commit(ChangeSet { events: vec![sample::event("one", None)], ..ChangeSet::default() }).await.unwrap();
    while reader.events_after(0, 10).await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(written.elapsed() < Duration::from_millis(500), "the event was not announced");
    }

    assert!(asked <= 1, "{asked} questions");
}

#[tokio::test]
async fn test_events_of_the_store_itself_are_read_at_once() {
    let database = Database::new();
    let store = database.open();

    for number in 0..20 {
        for _ in 0..3 {
            assert_eq!(store.events_after(number, 10).await.unwrap(), []);
        }
        store.commit(ChangeSet { events: vec![sample::event("one", None)], ..ChangeSet::default() }).await.unwrap();
        assert_eq!(store.events_after(number, 10).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn test_events_without_notifications_come_with_the_refresh() {
    let database = Database::new();
    let (reader, writer) = (database.open_as("a", "me"), database.open_as("b", "me"));
    add(&writer, "web", 1).await.unwrap();
    for _ in 0..3 {
        assert_eq!(reader.events_after(0, 10).await.unwrap(), []);
    }

    // Another program, or a pooler that drops notifications.
    database.query("INSERT INTO event (host, owner, at, kind, data) VALUES ('b', 'me', 0, 'x', '{}')");
    let written = Instant::now();
    while reader.events_after(0, 10).await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(written.elapsed() < 3 * limits::LISTEN_REFRESH_INTERVAL, "the event was not found");
    }
}

#[tokio::test]
async fn test_hosts_show_their_last_sign_of_life() {
    let database = Database::new();
    let here = database.open_as("a", "me");
    here.list().await.unwrap();
    add(&here, "web", 1).await.unwrap();
    let there = database.open_as("b", "me");
    let started = Change::RunChanged {
        id: add(&there, "db", 2).await.unwrap().entry.id,
        expected: Revision::FIRST,
        run: Some(sample::run(1, Phase::Running)),
    };
    there.commit(ChangeSet::default().and(started)).await.unwrap();
    there.list().await.unwrap();
    let silent = "UPDATE host SET seen_at = (extract(epoch FROM now()) - 7200)::bigint * 1000000000 WHERE host = 'a'";
    database.query(silent);

    let hosts = database.open_as("c", "me").hosts().await.unwrap();
    database.open_as("a", "me").list().await.unwrap();
    let later = database.open_as("c", "me").hosts().await.unwrap();

    let shown: Vec<_> = hosts.iter().map(|host| (&*host.host, host.vms, host.open_runs)).collect();
    // The command that asks is a sign of life itself.
    assert_eq!(shown, [("a", 1, 0), ("b", 1, 1), ("c", 0, 0)]);
    let hour = Duration::from_hours(1);
    assert!(hosts[0].unseen >= Some(hour) && hosts[1].unseen.unwrap() < hour, "{hosts:?}");
    assert!(later[0].unseen.unwrap() < hour && later[0].seen_at > hosts[0].seen_at, "{later:?}");
}

/// As a command does that takes long.
#[tokio::test]
async fn test_host_shows_life_without_reading_anything() {
    let database = Database::new();
    let store = database.open();
    store.list().await.unwrap();
    database.query("UPDATE host SET seen_at = 0");

    database.open().show_life().await;

    assert!(store.hosts().await.unwrap()[0].unseen.unwrap() < Duration::from_mins(30));
}

#[tokio::test]
async fn test_hosts_signs_of_life_are_rarely_written() {
    let database = Database::new();
    let seen = || database.query("SELECT xmin, seen_at FROM host");
    database.open().list().await.unwrap();
    let first = seen();

    for _ in 0..3 {
        database.open().list().await.unwrap();
    }

    assert_eq!(seen(), first);
}

#[tokio::test]
async fn test_hosts_before_signs_of_life_were_seen_with_their_events() {
    let database = Database::of_version(3);
    database.query("INSERT INTO event (host, owner, at, kind, data) VALUES ('a', 'me', 5000000000, 'one', '{}')");

    let hosts = database.open_as("b", "me").hosts().await.unwrap();

    assert_eq!((hosts[0].host.as_str(), hosts[0].seen_at.map(Timestamp::as_second)), ("a", Some(5)));
}

fn taking(vm: &maqet_domain::vm::Vm, expected: Revision) -> ChangeSet {
    let (name, host, owner) = (vm.entry.name.clone(), "a".to_owned(), "me".to_owned());
    let run = Some(sample::run(7, Phase::Starting));
    ChangeSet::default().and(Change::VmTakenOver { id: vm.entry.id, expected, name, host, owner, run })
}

#[tokio::test]
async fn test_vm_taken_over_is_that_of_the_new_host_only() {
    let database = Database::new();
    let (old, new) = (database.open_as("a", "me"), database.open_as("b", "you"));
    let vm = add(&old, "web", 1).await.unwrap();
    let id = vm.entry.id;
    let record = sample::storage("/d/web", Some(id));
    old.commit(ChangeSet::default().and(Change::StorageAdded(record.clone()))).await.unwrap();
    // An image of a removed VM had this path here.
    new.commit(ChangeSet::default().and(Change::StorageAdded(sample::storage("/d/web", None)))).await.unwrap();
    let found = new.foreign_vm(&id).await.unwrap().unwrap();

    new.commit(taking(&vm, Revision::FIRST)).await.unwrap();
    let refused = old.commit(ChangeSet::default().and(Change::VmRemoved { id, expected: Revision::FIRST })).await;
    // As of a start that began before.
    let late = old.commit(ChangeSet::default().and(Change::StorageAdded(sample::storage("/d/late", Some(id))))).await;

    assert_eq!((found.vm, found.storage), (vm, vec![record.clone()]));
    let taken = new.by_id(&id).await.unwrap().unwrap();
    assert_eq!((taken.entry.revision, taken.entry.run), (Revision(2), Some(sample::run(7, Phase::Starting))));
    assert_eq!(new.storage_of_vm(&id).await.unwrap(), [record]);
    assert_eq!(new.storage_without_vm().await.unwrap(), []);
    assert_eq!((old.by_id(&id).await.unwrap(), new.foreign_vm(&id).await.unwrap()), (None, None));
    assert_eq!(old.storage_of_vm(&id).await.unwrap(), []);
    assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
    assert!(matches!(late, Err(StoreError::Conflict { .. })), "{late:?}");
}

#[tokio::test]
async fn test_vm_taken_over_is_refused_without_a_trace() {
    let database = Database::new();
    let (old, new) = (database.open_as("a", "me"), database.open_as("b", "me"));
    let vm = add(&old, "web", 1).await.unwrap();
    let of_vm = |id, path| ChangeSet::default().and(Change::StorageAdded(sample::storage(path, Some(id))));
    old.commit(of_vm(vm.entry.id, "/d/web")).await.unwrap();

    let outdated = new.commit(taking(&vm, Revision(2))).await;
    let other = add(&new, "other", 2).await.unwrap();
    new.commit(of_vm(other.entry.id, "/d/web")).await.unwrap();
    let image_in_use = new.commit(taking(&vm, Revision::FIRST)).await;
    new.commit(ChangeSet::default().and(Change::StorageRemoved { path: "/d/web".into() })).await.unwrap();
    add(&new, "web", 3).await.unwrap();
    let name_in_use = new.commit(taking(&vm, Revision::FIRST)).await;

    assert!(matches!(outdated, Err(StoreError::Conflict { .. })), "{outdated:?}");
    assert!(matches!(image_in_use, Err(StoreError::Conflict { .. })), "{image_in_use:?}");
    assert!(matches!(name_in_use, Err(StoreError::Exists { .. })), "{name_in_use:?}");
    assert_eq!(old.by_id(&vm.entry.id).await.unwrap(), Some(vm));
    assert_eq!(names(&new).await.unwrap(), ["other", "web"]);
}

/// What a move copied here is not used until it is done: the other database may be the one in use.
#[tokio::test]
async fn test_vms_of_an_unfinished_move_are_not_taken_over() {
    let database = Database::new();
    let (old, new) = (database.open_as("a", "me"), database.open_as("b", "me"));
    let vm = add(&old, "web", 1).await.unwrap();
    new.list().await.unwrap();
    let transfer = old.transfer();
    let content = transfer.export(None).await.unwrap();
    let (id, url, at) = (MoveId::new([1; 16]), "sqlite:/d/here.db".to_owned(), Timestamp::UNIX_EPOCH);
    let (left, filled) = (MoveMark::To { id, url: url.clone(), at }, MoveMark::From { id, url, at });
    assert!(transfer.leave(content.clone(), left.clone()).await.unwrap());
    transfer.import(content, filled.clone(), Some(left)).await.unwrap();

    let hidden = (new.foreign().await.unwrap(), new.foreign_vm(&vm.entry.id).await.unwrap());
    let hosts = new.hosts().await.unwrap();
    // As of an eviction that has read the VM before.
    let refused = new.commit(taking(&vm, Revision::FIRST)).await;
    let in_use = add(&new, "other", 1).await;
    transfer.clear_mark(filled).await.unwrap();
    let shown = (new.foreign().await.unwrap().len(), new.hosts().await.unwrap().len());
    new.commit(taking(&vm, Revision::FIRST)).await.unwrap();

    assert_eq!(hidden, (vec![], None));
    assert_eq!(hosts.iter().map(|host| &*host.host).collect::<Vec<_>>(), ["b"]);
    assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
    assert!(matches!(in_use, Err(StoreError::IdExists { .. })), "{in_use:?}");
    assert_eq!(shown, (1, 2));
}

/// The new host needs no command there to be seen, and one that never was is not away.
#[tokio::test]
async fn test_hosts_moved_here_are_seen_and_others_are_unknown() {
    let database = Database::new();
    let old = database.open_as("a", "me");
    add(&old, "web", 1).await.unwrap();
    let transfer = old.transfer();
    let content = transfer.export(None).await.unwrap();
    let (id, url, at) = (MoveId::new([1; 16]), "sqlite:/d/here.db".to_owned(), Timestamp::UNIX_EPOCH);
    let (to, from) = (MoveMark::To { id, url: url.clone(), at }, MoveMark::From { id, url, at });
    assert!(transfer.leave(content.clone(), to.clone()).await.unwrap());
    transfer.import(content, from.clone(), Some(to)).await.unwrap();
    transfer.clear_mark(from).await.unwrap();
    let new = database.open_as("b", "me");

    let moved = new.hosts().await.unwrap().remove(0);
    database.query("DELETE FROM host");
    let unknown = new.hosts().await.unwrap().remove(0);

    assert!(moved.host == "a" && moved.unseen.is_some_and(|unseen| unseen < Duration::from_hours(1)), "{moved:?}");
    assert_eq!((&*unknown.host, unknown.seen_at, unknown.unseen), ("a", None, None));
}

/// The old host of an evicted VM has a copy of it, and must not take it for lost.
#[tokio::test]
async fn test_vms_moved_away_by_another_host_are_not_lost() {
    let database = Database::new();
    let (old, new) = (database.open_as("a", "me"), database.open_as("b", "me"));
    let (web, db) = (add(&old, "web", 1).await.unwrap(), add(&old, "db", 2).await.unwrap());
    for vm in [&web, &db] {
        new.commit(taking(vm, Revision::FIRST)).await.unwrap();
    }
    let (id, expected) = (db.entry.id, Revision(2));
    let kind = kind::VM_REMOVED.to_owned();
    let events = vec![Event { kind, ..sample::event("x", Some(&db.entry)) }];
    new.commit(ChangeSet { events, ..ChangeSet::default().and(Change::VmRemoved { id, expected }) }).await.unwrap();

    let content = new.transfer().export(None).await.unwrap();
    let mark =
        MoveMark::To { id: MoveId::new([1; 16]), url: "sqlite:/d/here.db".to_owned(), at: Timestamp::UNIX_EPOCH };
    assert!(new.transfer().leave(content, mark).await.unwrap());
    let presence = old.maintenance().presence(vec![web.entry.id, id, sample::id(3)]).await.unwrap();

    let copied_at = Some(Timestamp::now() - Duration::from_mins(1));
    let lost: Vec<bool> = presence.iter().map(|presence| presence.is_lost_since(copied_at)).collect();
    assert_eq!(lost, [false, false, true], "{presence:?}");
    assert!(matches!(presence[0], VmPresence::Moved { .. }) && matches!(presence[1], VmPresence::Removed { .. }));
}

#[tokio::test]
async fn test_id_in_use_names_who_has_it() {
    let database = Database::new();
    let (here, there) = (database.open_as("a", "me"), database.open_as("a", "you"));
    add(&there, "web", 1).await.unwrap();
    add(&here, "db", 2).await.unwrap();

    let of_others = add(&here, "web", 1).await;
    let own = add(&here, "other", 2).await;

    assert!(matches!(&of_others, Err(StoreError::IdExists { name, .. }) if name.as_str() == "web"), "{of_others:?}");
    assert!(matches!(&own, Err(StoreError::Exists { .. })), "{own:?}");
}
