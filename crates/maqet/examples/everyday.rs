//! The life of a VM: define, start, query over QMP, pause, stop, snapshot, remove.
//!
//! Run it with `cargo run -p maqet --example everyday`; it needs QEMU and works in a temporary directory.

use maqet::operation::Add;
use maqet::{Condition, Document, Environment, Maqet, Overrides, Settings};
use serde_json::Map;

const DEFINITION: &str = "
memory: 64M
accel: tcg
display: none
storage: [{name: hdd, type: qcow2, size: 16M}]
";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::Builder::new().prefix("mq").tempdir_in("/tmp")?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let environment: Environment = [("HOME", folder.path().as_os_str()), ("PATH", &path)].into_iter().collect();
    let overrides = Overrides { runtime_dir: Some(folder.path().join("run")), ..Overrides::default() };
    let maqet = Maqet::open(Settings::discover(&environment, &overrides)?).await?;

    let document = Document::new("web.yaml", folder.path(), DEFINITION);
    maqet.run(Add::new(vec![document]).name("web")).await?;

    let web = maqet.vm("web");
    let started = web.start().await?;
    println!("{} runs as process {:?}", started.vm.name, started.vm.pid);
    web.wait_for([Condition::Qmp]).await?;
    println!("{}", web.qmp("query-version", Map::new()).await?);
    web.pause().await?;
    // Killed, as there is no guest that would power off.
    maqet.run(maqet::operation::Stop::new("web").force(true)).await?;

    web.snapshot_create("hdd", "clean").await?;
    assert_eq!(web.snapshot_ls().await?.len(), 1);
    web.rm().await?;
    assert!(web.status().await.is_err());
    Ok(())
}
