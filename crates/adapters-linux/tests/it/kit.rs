//! A runtime and a directory for a test.

use std::future::Future;
use std::time::Duration;

use tempfile::TempDir;

/// Longer than anything here takes on a busy host.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);

/// Runs a test's future on the one thread of the command line's runtime.
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

pub(crate) fn folder() -> TempDir {
    tempfile::Builder::new().prefix("mq").tempdir_in("/tmp").unwrap()
}
