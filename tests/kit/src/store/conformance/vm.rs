//! Reading VMs.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use maqet_domain::change::Change;
use maqet_domain::config::{Node, Value};
use maqet_domain::vm::{Phase, Run, RunEnd, RunPaths, StopReason};

use super::{Subject, add, commit, names, one, sample};

/// A VM comes back by its id, with all that was stored.
pub async fn test_by_id_added_vm_comes_back_whole(subject: &dyn Subject) {
    let store = subject.open();
    let vm = add(&*store, "web", 1).await;
    add(&*store, "other", 2).await;

    let found = store.by_id(&vm.entry.id).await.unwrap();

    assert_eq!(found, Some(vm));
}

/// An unknown id is not an error.
pub async fn test_by_id_unknown_vm_is_none(subject: &dyn Subject) {
    let store = subject.open();
    add(&*store, "web", 1).await;

    assert_eq!(store.by_id(&sample::id(2)).await.unwrap(), None);
}

/// A VM comes back by its name, with all that was stored.
pub async fn test_by_name_added_vm_comes_back_whole(subject: &dyn Subject) {
    let store = subject.open();
    let vm = add(&*store, "Müller_2", 1).await;
    add(&*store, "other", 2).await;

    let found = store.by_name(&vm.entry.name).await.unwrap();

    assert_eq!(found, Some(vm));
}

/// Names are case-sensitive, and an unknown name is not an error.
pub async fn test_by_name_unknown_or_other_case_is_none(subject: &dyn Subject) {
    let store = subject.open();
    add(&*store, "web", 1).await;

    assert_eq!(store.by_name(&sample::name("Web")).await.unwrap(), None);
    assert_eq!(store.by_name(&sample::name("we")).await.unwrap(), None);
}

/// A definition keeps its values and the order of its keys, deep inside too.
pub async fn test_definition_of_any_shape_keeps_values_and_order(subject: &dyn Subject) {
    let store = subject.open();
    let keys = ["z", "a", "m", "Z", "1", "", "a\0b", "ü🦀"];
    let map = |inner: &Node| {
        let entries = keys.iter().map(|key| ((*key).to_owned(), inner.clone()));
        Node::new(Value::Map(entries.collect()))
    };
    let mut vm = sample::vm("web", 1);
    vm.definition = map(&map(&Node::new(Value::List(vec![Node::new(Value::Int(i64::MIN)), sample::definition()]))));

    commit(&*store, sample::adding(&vm)).await;

    // Equality of maps is equality in order.
    assert_eq!(store.by_name(&vm.entry.name).await.unwrap(), Some(vm));
}

/// A run comes back whole in every phase.
pub async fn test_run_in_every_phase_comes_back_whole(subject: &dyn Subject) {
    let store = subject.open();
    let ended = |reason| Phase::Ended(RunEnd { reason, at: Some(sample::moment(90)) });
    let phases = [
        Phase::Starting,
        Phase::Running,
        Phase::Stopping,
        ended(StopReason::GuestShutdown),
        ended(StopReason::HostQuit),
        ended(StopReason::HostSignal),
        ended(StopReason::Crashed),
        Phase::Ended(RunEnd { reason: StopReason::Unknown, at: None }),
    ];

    for (number, phase) in (1..).zip(phases) {
        let mut vm = sample::vm(&format!("vm-{number}"), number);
        let run = sample::run(number, phase);
        let process = run.process.clone().filter(|_| phase != Phase::Starting);
        vm.entry.run = Some(Run { process, ..run });

        commit(&*store, sample::adding(&vm)).await;

        assert_eq!(store.by_id(&vm.entry.id).await.unwrap(), Some(vm), "{phase:?}");
    }
}

/// Folder names need not be UTF-8.
pub async fn test_run_path_not_utf8_round_trips(subject: &dyn Subject) {
    let store = subject.open();
    let odd = PathBuf::from(OsString::from_vec(b"/run/\xff\xfe, x".to_vec()));
    let mut vm = sample::vm("web", 1);
    let paths = RunPaths { sockets: odd.clone(), records: odd };
    vm.entry.run = Some(Run { paths, ..sample::run(1, Phase::Running) });

    commit(&*store, sample::adding(&vm)).await;

    assert_eq!(store.by_id(&vm.entry.id).await.unwrap(), Some(vm));
}

/// The forwards of a run come back in order, in lists too, and a run may have none.
pub async fn test_run_forwards_come_back_in_order(subject: &dyn Subject) {
    let store = subject.open();
    let several = ["40123:22", "udp:0.0.0.0:53:53", "tcp:127.0.0.2:8080:80", "0:443"];

    for (number, count) in (1..).zip([several.len(), 1, 0]) {
        let forwards = several[..count].iter().map(|text| text.parse().unwrap()).collect();
        let mut vm = sample::vm(&format!("vm-{number}"), number);
        vm.entry.run = Some(Run { forwards, ..sample::run(1, Phase::Running) });

        commit(&*store, sample::adding(&vm)).await;

        assert!(store.list().await.unwrap().contains(&vm.entry), "{count}");
        assert_eq!(store.by_id(&vm.entry.id).await.unwrap(), Some(vm), "{count}");
    }
}

/// An empty store can be listed.
pub async fn test_list_empty_store_is_empty(subject: &dyn Subject) {
    assert_eq!(subject.open().list().await.unwrap(), []);
}

/// A list is sorted by name, bytewise, whatever the order of adding.
pub async fn test_list_many_vms_are_sorted_by_name(subject: &dyn Subject) {
    let store = subject.open();
    for (number, name) in (1..).zip(["web-10", "ü", "web", "Web", "web-9", "a+", "7", "日本"]) {
        add(&*store, name, number).await;
    }

    assert_eq!(names(&*store).await, ["7", "Web", "a+", "web", "web-10", "web-9", "ü", "日本"]);
}

/// All VMs are read with their definitions, by name.
pub async fn test_vms_of_any_order_are_whole_and_sorted_by_name(subject: &dyn Subject) {
    let store = subject.open();
    assert_eq!(store.vms().await.unwrap(), []);
    let web = add(&*store, "web", 1).await;
    let mut capital = add(&*store, "Web", 2).await;
    let db = add(&*store, "db", 3).await;
    capital.definition = sample::other_definition();
    let change = Change::DefinitionChanged {
        id: capital.entry.id,
        expected: capital.entry.revision,
        definition: capital.definition.clone(),
        origins: capital.origins.clone(),
    };
    commit(&*store, one(change)).await;
    capital.entry.revision = capital.entry.revision.next();

    assert_eq!(store.vms().await.unwrap(), [capital, db, web]);
}

/// Ids are accepted with and without hyphens, in either case, whole and in part.
pub async fn test_id_prefix_of_any_form_and_case_finds_vm(subject: &dyn Subject) {
    let store = subject.open();
    let vm = add(&*store, "web", 0x0d9f_2ac3).await;
    add(&*store, "other", 0x0d9f_2ac4).await;

    for prefix in [
        "0d9f2ac3",
        "0D9F2AC3",
        "0d9f2ac3-",
        "0d9f2ac3-58b1-4",
        "0d9f2ac358b14",
        "0d9F2ac358B14c3e9a5e2f1f6f0f7a11",
        "0d9f2ac3-58b1-4c3e-9a5e-2f1f6f0f7a11",
    ] {
        let found = store.by_id_prefix(prefix).await.unwrap();
        assert_eq!(found.iter().collect::<Vec<_>>(), [&vm.entry], "{prefix}");
    }
}

/// Several matches are sorted by id.
pub async fn test_id_prefix_several_matches_are_sorted(subject: &dyn Subject) {
    let store = subject.open();
    let last = add(&*store, "a", 0xabcd_ff00).await.entry;
    let first = add(&*store, "b", 0xabcd_0000).await.entry;
    let middle = add(&*store, "c", 0xabcd_ef00).await.entry;
    add(&*store, "d", 0xabce_0000).await;

    assert_eq!(store.by_id_prefix("abcd").await.unwrap(), [first, middle, last]);
}

/// An invalid prefix finds nothing and is not an error.
pub async fn test_id_prefix_invalid_finds_nothing(subject: &dyn Subject) {
    let store = subject.open();
    add(&*store, "web", 0x0d9f_2ac3).await;

    for prefix in ["web", "0d9f2ac4", "0d9f-2ac3", "%", "_", "0d9f2ac3-58b1-4c3e-9a5e-2f1f6f0f7a110", "ü"] {
        assert_eq!(store.by_id_prefix(prefix).await.unwrap(), [], "{prefix}");
    }
}

/// The empty prefix matches every id.
pub async fn test_id_prefix_empty_finds_all(subject: &dyn Subject) {
    let store = subject.open();
    let last = add(&*store, "a", u32::MAX).await.entry;
    let first = add(&*store, "b", 0).await.entry;

    assert_eq!(store.by_id_prefix("").await.unwrap(), [first, last]);
}

/// A handle reads what another one wrote after it was opened.
pub async fn test_handles_of_one_store_see_each_others_writes(subject: &dyn Subject) {
    let (one_handle, other) = (subject.open(), subject.open());
    assert_eq!(names(&*other).await, Vec::<String>::new());

    let vm = add(&*one_handle, "web", 1).await;
    let seen = other.by_name(&vm.entry.name).await.unwrap();
    let removal = Change::VmRemoved { id: vm.entry.id, expected: vm.entry.revision };
    commit(&*other, one(removal)).await;

    assert_eq!(seen, Some(vm));
    assert_eq!(names(&*one_handle).await, Vec::<String>::new());
}
