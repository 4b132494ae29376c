//! The cost of the store: the work of a command (open, read, close) by the number of VMs, one commit, one read.

use std::hint::black_box;
use std::path::{Path, PathBuf};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use maqet_adapters_sqlite::SqliteStore;
use maqet_domain::change::ChangeSet;
use maqet_domain::port::{Store, VmRepository};
use maqet_domain::vm::Phase;
use maqet_testkit::store::sample;
use tempfile::TempDir;

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be made").block_on(future)
}

/// Makes a database of `count` VMs, each with a run.
fn database(folder: &Path, count: u32) -> PathBuf {
    let path = folder.join(format!("{count}.db"));
    let mut changes = ChangeSet::default();
    for number in 0..count {
        let mut vm = sample::vm(&format!("vm-{number}"), number);
        vm.entry.run = Some(sample::run(1, Phase::Running));
        changes.changes.append(&mut sample::adding(&vm).changes);
    }
    let store = SqliteStore::open(&path).expect("the database can be made");
    wait(store.commit(changes)).expect("the VMs can be added");
    path
}

fn life_of_a_command(criterion: &mut Criterion) {
    let folder = TempDir::new().expect("a folder can be made");
    let mut group = criterion.benchmark_group("open, list, close");
    for count in [1, 1_000, 10_000] {
        let path = database(folder.path(), count);
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter(|| wait(SqliteStore::open(&path).expect("it opens").list()).map(black_box).is_ok());
        });
    }
    group.finish();

    let path = database(folder.path(), 999);
    let name = sample::name("vm-500");
    criterion.bench_function("open, read one of 999, close", |bencher| {
        bencher.iter(|| wait(SqliteStore::open(&path).expect("it opens").by_name(&name)).map(black_box).is_ok());
    });
    let mut number = 0;
    criterion.bench_function("open, add, close", |bencher| {
        bencher.iter(|| {
            number += 1;
            let changes = sample::adding(&sample::vm(&format!("new-{number}"), 100_000 + number));
            wait(SqliteStore::open(&path).expect("it opens").commit(changes)).expect("it is written");
        });
    });
    criterion.bench_function("make a database", |bencher| {
        let mut number = 0;
        bencher.iter(|| {
            number += 1;
            SqliteStore::open(folder.path().join(format!("new-{number}.db"))).map(black_box).is_ok()
        });
    });
}

fn open_store(criterion: &mut Criterion) {
    let folder = TempDir::new().expect("a folder can be made");
    let store = SqliteStore::open(database(folder.path(), 1_000)).expect("it opens");
    let name = sample::name("vm-500");
    let mut number = 0;

    criterion.bench_function("read one of 1000", |bencher| {
        bencher.iter(|| wait(store.by_name(&name)).map(black_box).is_ok());
    });
    criterion.bench_function("list 1000", |bencher| bencher.iter(|| wait(store.list()).map(black_box).is_ok()));
    criterion.bench_function("add", |bencher| {
        bencher.iter(|| {
            number += 1;
            let changes = sample::adding(&sample::vm(&format!("new-{number}"), 100_000 + number));
            wait(store.commit(changes)).expect("it is written");
        });
    });
}

criterion_group!(benches, life_of_a_command, open_store);
criterion_main!(benches);
