//! Ten machines from one: forks of a running VM, each gone once it has stopped.
//!
//! Run it with `cargo run -p maqet --example ten_from_one`; it needs QEMU and works in a temporary directory.

use maqet::operation::{Add, Fork, Rm, Stop};
use maqet::{Document, Environment, Maqet, Overrides, Settings};

const DEFINITION: &str = "{memory: 64M, accel: tcg, display: none, storage: [{name: hdd, size: 16M}]}";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::Builder::new().prefix("mq").tempdir_in("/tmp")?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let environment: Environment = [("HOME", folder.path().as_os_str()), ("PATH", &path)].into_iter().collect();
    let overrides = Overrides { runtime_dir: Some(folder.path().join("run")), ..Overrides::default() };
    let maqet = Maqet::open(Settings::discover(&environment, &overrides)?).await?;
    let document = Document::new("one.yaml", folder.path(), DEFINITION);
    maqet.run(Add::new(vec![document]).name("one")).await?;
    maqet.vm("one").start().await?;

    let forked = maqet.run(Fork::new("one").count(10_u32).ephemeral(true)).await?;

    for fork in &forked.forks {
        println!("{} runs as process {:?}", fork.name, fork.pid);
        // Killed, as there is no guest that would power off.
        assert!(maqet.run(Stop::new(fork.name.as_str()).force(true)).await?.removed);
    }
    assert_eq!(forked.forks.len(), 10);
    maqet.run(Stop::new("one").force(true)).await?;
    maqet.run(Rm::new("one")).await?;
    Ok(())
}
