//! The handle of a VM, as far as it needs no QEMU; the example `everyday` runs the rest.

use maqet::operation::Add;
use maqet::{Condition, Environment, ExpectedEnd, Explain, Maqet, Overrides, Settings};
use tempfile::TempDir;

/// Opens maqet in a directory of its own, with the VM `web`.
async fn maqet(folder: &TempDir) -> Maqet {
    let path = |name: &str| Some(folder.path().join(name));
    let environment: Environment = [("HOME", folder.path().as_os_str())].into_iter().collect();
    let overrides = Overrides { data_dir: path("data"), runtime_dir: path("run"), ..Overrides::default() };
    let settings = Settings::discover(&environment, &overrides).expect("the directories are given");
    let maqet = Maqet::open(settings).await.expect("nothing is opened yet");
    maqet.run(Add::empty().name("web")).await.expect("the VM is new");
    maqet
}

#[tokio::test]
async fn test_vm_handle_stopped_vm_is_described() {
    let folder = TempDir::new().expect("there is space");
    let maqet = maqet(&folder).await;
    let web = maqet.vm("web");

    let status = web.status().await.expect("it is defined");
    let info = web.info().await.expect("it is defined");
    let waited = web.wait_for([Condition::Stopped(ExpectedEnd::Orderly)]).await.expect("it is stopped");

    assert_eq!(status.name, "web");
    assert_eq!(info.name, "web");
    assert_eq!(waited.met, [Condition::Stopped(ExpectedEnd::Orderly)]);
}

#[tokio::test]
async fn test_vm_handle_removed_vm_is_not_found() {
    let folder = TempDir::new().expect("there is space");
    let maqet = maqet(&folder).await;
    let web = maqet.vm("web");

    web.rm().await.expect("it is stopped");
    let error = web.start().await.expect_err("it is removed");

    assert_eq!(error.code(), "vm.not-found");
}

#[tokio::test]
async fn test_vm_handle_stop_of_stopped_vm_changes_nothing() {
    let folder = TempDir::new().expect("there is space");
    let maqet = maqet(&folder).await;

    let stopped = maqet.vm("web").stop().await.expect("a no-op");

    assert_eq!(stopped.vm.name, "web");
}
