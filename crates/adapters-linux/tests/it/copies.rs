//! Copies of VMs that an earlier version wrote.

use std::path::Path;

use maqet_adapters_linux::FileCopies;
use maqet_domain::port::VmCopies;

const STATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/schema-1/state");

#[tokio::test]
async fn test_copies_of_commit_d09c362_are_read() {
    let database = "sqlite:/tmp/maqet-fixture/data/maqet/maqet.db".to_owned();
    let copies = FileCopies::new(STATE.into(), database);

    let all = copies.all().await;

    let names: Vec<&str> = all.iter().map(|copy| copy.vm.entry.name.as_str()).collect();
    assert_eq!(names, ["db", "web"]);
    assert_eq!(all[1].vm.origins["memory"], "web.yaml:1:9");
    assert_eq!(all[1].storage[0].path, Path::new("/tmp/maqet-fixture/data/maqet/storage/web/hdd.qcow2"));
}
