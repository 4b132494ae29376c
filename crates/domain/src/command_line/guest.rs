//! The channels to the guest, as ports of one virtio-serial controller.

use serde_json::{Value, json};

use super::{LaunchContext, PathNotUtf8, socket};
use crate::guest::{AGENT_PORT, CONSOLE, CONTROLLER, FIRST_CONSOLE, GuestStream, PortSet};
use crate::machine::Machine;
use crate::qemu::Switch;

/// The name by which the guest agent finds its port (`qga/main.c`, 7.2).
const AGENT_PORT_NAME: &str = "org.qemu.guest_agent.0";

/// Returns the switches of the controller and its ports; none for a machine without channels.
///
/// They come after everything that the user has, and change the address of nothing. The ports have fixed numbers, so that
/// another one does not change those that a snapshot of the memory holds.
pub(super) fn switches(machine: &Machine, context: &LaunchContext) -> Result<Vec<Switch>, PathNotUtf8> {
    let Some(bus) = machine.channel_bus(&context.architecture, &context.binary) else { return Ok(Vec::new()) };
    let paths = &context.paths;
    // Where the kernel has the driver built in, getty(8) takes the first console.
    let unconnected = Switch::new("chardev").head("null").option("id", FIRST_CONSOLE);
    let mut switches = vec![
        device(&json!({ "driver": bus.virtio("serial"), "id": CONTROLLER })),
        unconnected,
        port("virtconsole", FIRST_CONSOLE, 0, None),
        socket(CONSOLE, &paths.guest_console())?,
        port("virtconsole", CONSOLE, 1, None),
        socket(AGENT_PORT, &paths.agent_socket())?,
        port("virtserialport", AGENT_PORT, 2, Some(AGENT_PORT_NAME)),
    ];
    let ports = PortSet::all().flat_map(|set| GuestStream::ALL.map(|stream| (set, stream)));
    for ((set, stream), number) in ports.zip(3..) {
        let id = set.id(stream);
        switches.push(socket(&id, &paths.guest_stream(set, stream))?);
        switches.push(port("virtserialport", &id, number, Some(&set.name(stream))));
    }
    Ok(switches)
}

/// Returns a port, whose character device has the same id.
fn port(driver: &str, id: &str, number: u8, name: Option<&str>) -> Switch {
    let mut port = json!({
        "driver": driver, "id": id, "chardev": id, "bus": format!("{CONTROLLER}.0"), "nr": number,
    });
    if let Some(name) = name {
        port["name"] = name.into();
    }
    device(&port)
}

/// Returns a device that QEMU creates after all others: in this form, after those of `-drive if=virtio`, too (7.2, 10.0).
fn device(properties: &Value) -> Switch {
    Switch::verbatim("device", properties.to_string())
}
