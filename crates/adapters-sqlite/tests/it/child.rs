//! Runs this test binary again as another process, with an order in its environment.
//!
//! Each module that uses it has a test that carries out the order, and passes without one.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use maqet_adapters_sqlite::SqliteStore;
use maqet_domain::port::{Store, StoreError, VmRepository};
use maqet_domain::vm::Vm;
use maqet_testkit::store::sample;

const ORDER: &str = "MAQET_STORE_TEST_ORDER";
const DATABASE: &str = "MAQET_STORE_TEST_DATABASE";

/// Returns the order of this process and its database; none in the process of the tests.
pub(crate) fn order() -> Option<(String, PathBuf)> {
    Some((env::var(ORDER).ok()?, env::var_os(DATABASE)?.into()))
}

/// Makes `program` carry out `order` in the test named `entry`.
pub(crate) fn command(mut program: Command, entry: &str, order: &str, database: &Path) -> Command {
    program.args(["--exact", entry, "--nocapture", "--test-threads=1"]).env(ORDER, order).env(DATABASE, database);
    program
}

/// Runs a future to its end.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be made").block_on(future)
}

/// Adds a VM.
pub(crate) fn add(store: &SqliteStore, name: &str, number: u32) -> Result<Vm, StoreError> {
    let vm = sample::vm(name, number);
    wait(store.commit(sample::adding(&vm))).map(|()| vm)
}

/// Returns the names of all VMs.
pub(crate) fn names(store: &SqliteStore) -> Result<Vec<String>, StoreError> {
    Ok(wait(store.list())?.into_iter().map(|entry| entry.name.to_string()).collect())
}
