//! A custom configuration key: `watchdog: reset` gives the VM a watchdog.
//!
//! Run it with `cargo run -p maqet --example custom_config_key`; docs/guide/adding-a-key.md explains it.

use std::sync::Arc;

use maqet::domain::config::{Diagnostics, KeyPath, Node, schema};
use maqet::domain::machine::Machine;
use maqet::domain::machine::{ConfigHandler, KeyDoc};
use maqet::domain::qemu::Switch;
use maqet::operation::{Add, Info};
use maqet::{Document, Environment, Maqet, Overrides, Settings};

/// The actions of the watchdog, by QEMU's names.
const ACTIONS: [&str; 3] = ["reset", "poweroff", "pause"];

/// The key `watchdog`.
#[derive(Debug)]
struct Watchdog;

impl ConfigHandler for Watchdog {
    fn key(&self) -> &'static str {
        "watchdog"
    }

    fn documentation(&self) -> KeyDoc {
        KeyDoc { summary: "action when the guest hangs", value: "`reset`, `poweroff` or `pause`" }
    }

    fn schema(&self) -> serde_json::Value {
        schema::one_of(ACTIONS)
    }

    fn apply(&self, path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Diagnostics) {
        if let Some(action) = report.one_of(path, node, &ACTIONS) {
            machine.switches.push(Switch::new("device").head("i6300esb"));
            machine.switches.push(Switch::new("action").option("watchdog", action));
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let overrides = Overrides { data_dir: Some(folder.path().into()), ..Overrides::default() };
    let settings = Settings::discover(&Environment::from_process(), &overrides)?;
    let maqet = Maqet::builder(settings).handler(Arc::new(Watchdog)).open().await?;

    let text = "watchdog: reset\n".to_owned();
    let document = Document::new("web.yaml", folder.path(), text);
    maqet.run(Add::new(vec![document]).name("web")).await?;
    let info = maqet.run(Info::new("web").command_line(true)).await?;

    let line = info.command_line.unwrap_or_default();
    assert!(line.contains("-device i6300esb -action watchdog=reset"), "{line}");
    Ok(())
}
