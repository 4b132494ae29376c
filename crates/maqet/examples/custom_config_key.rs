//! A custom configuration key: `rtc: localtime` sets the clock of the VM to local time.
//!
//! Run it with `cargo run -p maqet --example custom_config_key`; docs/guide/adding-a-key.md explains it.

use std::sync::Arc;

use maqet::domain::config::{Diagnostics, KeyPath, Node, schema};
use maqet::domain::machine::Machine;
use maqet::domain::machine::{ConfigHandler, KeyDoc};
use maqet::domain::qemu::Switch;
use maqet::operation::{Add, Info};
use maqet::{Document, Environment, Maqet, Overrides, Settings};

/// What the clock starts with, by QEMU's names.
const BASES: [&str; 2] = ["utc", "localtime"];

/// The key `rtc`.
#[derive(Debug)]
struct Clock;

impl ConfigHandler for Clock {
    fn key(&self) -> &'static str {
        "rtc"
    }

    fn documentation(&self) -> KeyDoc {
        KeyDoc { summary: "the time of the hardware clock", value: "`utc` or `localtime`" }
    }

    fn schema(&self) -> serde_json::Value {
        schema::one_of(BASES)
    }

    fn apply(&self, path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Diagnostics) {
        if let Some(base) = report.one_of(path, node, &BASES) {
            machine.switches.push(Switch::new("rtc").option("base", base));
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let overrides = Overrides { data_dir: Some(folder.path().into()), ..Overrides::default() };
    let settings = Settings::discover(&Environment::from_process(), &overrides)?;
    let maqet = Maqet::builder(settings).handler(Arc::new(Clock)).open().await?;

    let text = "rtc: localtime\n".to_owned();
    let document = Document::new("web.yaml", folder.path(), text);
    maqet.run(Add::new(vec![document]).name("web")).await?;
    let info = maqet.run(Info::new("web").command_line(true)).await?;

    let line = info.command_line.unwrap_or_default();
    assert!(line.contains("-rtc base=localtime"), "{line}");
    Ok(())
}
