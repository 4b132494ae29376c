//! How a drive is attached: its controller and port, and how its file is accessed.

use std::collections::HashMap;

use crate::config::{Diagnostics, KeyPath, Node};
use crate::machine::Machine;
use crate::qemu::NodeName;
use crate::storage::{Aio, Cache, Interface, StorageSpec};

/// Reads `controller`; the name of the default one stands for it.
pub(super) fn controller(at: &KeyPath, entry: &Node, report: &mut Diagnostics) -> Option<NodeName> {
    let node = entry.non_null("controller")?;
    if NodeName::CONTROLLERS.contains(&node.as_text()?)
        && entry.get("interface").and_then(Node::as_text) == node.as_text()
    {
        return None;
    }
    report.parse(&at.key("controller"), node)
}

/// Reports keys that do not fit the interface or the cache mode of a drive.
pub(super) fn check(storage: &StorageSpec, at: &KeyPath, entry: &Node, report: &mut Diagnostics) {
    if storage.driver.image_format().is_none() {
        return;
    }
    let is_direct = matches!(storage.cache, Some(Cache::None | Cache::Directsync));
    if storage.aio == Some(Aio::Native)
        && !is_direct
        && let Some(node) = entry.non_null("aio")
    {
        let help = Some("set `cache: none` or `directsync`, or `aio: io_uring`".to_owned());
        report.error_with_help(
            &at.key("aio"),
            node,
            "`aio: native` requires a cache mode without the host's cache",
            help,
        );
    }
    for key in ["controller", "port"] {
        let Some(node) = entry.non_null(key) else { continue };
        let interface = storage.interface;
        let Some(ports) = interface.ports() else {
            let help = Some("set `interface: scsi` or `sata`, or remove it".to_owned());
            report.error_with_help(
                &at.key(key),
                node,
                format!("`interface: {interface}` does not support `{key}`"),
                help,
            );
            continue;
        };
        if key == "port" && storage.port.is_some_and(|port| usize::from(port) >= ports) {
            let message = format!("expected a port from 0 to {}, found {}", ports - 1, node.description());
            report.error(&at.key(key), node, message);
        }
    }
}

/// Reports drives with the same port, and controllers with the name of something else.
pub(super) fn check_ports(path: &KeyPath, entries: &[Node], machine: &Machine, report: &mut Diagnostics) {
    let mut ports: HashMap<(Interface, &str, u8), &Node> = HashMap::new();
    let mut controllers: HashMap<&str, Interface> = HashMap::new();
    let drives: HashMap<&str, &StorageSpec> =
        machine.storage.iter().map(|storage| (storage.name.as_str(), storage)).collect();
    for storage in machine.storage.iter().filter(|storage| storage.interface.ports().is_some()) {
        let Some(entry) = entries.get(storage.index) else { continue };
        let at = path.index(storage.index);
        let id = storage.controller_id().unwrap_or_default();
        if let (Some(port), Some(node)) = (storage.port, entry.get("port")) {
            if let Some(first) = ports.get(&(storage.interface, id, port)) {
                let message = format!("another drive has port {port} of controller `{id}`");
                report.duplicate(&at.key("port"), node, first.location(), message);
            }
            ports.entry((storage.interface, id, port)).or_insert(node);
        }
        let Some(node) = entry.get("controller").filter(|_| storage.controller.is_some()) else { continue };
        let interface = *controllers.entry(id).or_insert(storage.interface);
        if interface != storage.interface {
            let message = format!("controller `{id}` has drives with `interface: {interface}`");
            report.error(&at.key("controller"), node, message);
        } else if drives.contains_key(id) {
            report.error(&at.key("controller"), node, format!("`{id}` is the name of a drive"));
        }
    }
}
