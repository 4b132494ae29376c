//! `hotplug_ports`: the spare ports of a `q35`.

use crate::config::{Diagnostics, KeyPath, Node, schema};
use crate::machine::{ConfigHandler, KeyDoc};
use crate::machine::{MAX_PORTS, Machine};

/// `hotplug_ports`: how many devices a `q35` takes while it runs.
#[derive(Debug)]
pub(super) struct HotplugPorts;

impl ConfigHandler for HotplugPorts {
    fn key(&self) -> &'static str {
        "hotplug_ports"
    }

    fn documentation(&self) -> KeyDoc {
        KeyDoc {
            summary: "how many devices a machine of type `q35` takes while it runs",
            form: "a whole number from 0 to 8",
        }
    }

    fn schema(&self) -> serde_json::Value {
        schema::whole(0, i64::from(MAX_PORTS))
    }

    fn apply(&self, path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Diagnostics) {
        if let Some(count) = report.whole(path, node, 0, i64::from(MAX_PORTS))
            && let Ok(count) = u8::try_from(count)
        {
            machine.hotplug_ports = Some(count);
        }
    }
}
