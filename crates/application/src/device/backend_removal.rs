//! Removing the backends of a device that is gone.

use maqet_domain::hotplug::{Backend, cards, link_names, unused_netdevs};
use maqet_domain::network::{Forward, forwards_of};
use maqet_domain::qmp::{QmpCommand, QmpError};
use serde_json::Value;

use super::session::{HotplugSession, PERIPHERAL, items};
use crate::limits;

/// The result of removing the backends of a device.
#[derive(Debug, Default)]
pub(crate) struct Removal {
    /// The backend that was removed.
    pub(crate) backend: Option<String>,
    /// A backend that something else uses.
    pub(crate) in_use: Option<String>,
    /// The ports of the host that are free again.
    pub(crate) forwards: Vec<Forward>,
}

/// A backend that exists.
#[derive(Debug)]
pub(crate) struct BackendUser {
    /// The device that uses it.
    pub(crate) device: Option<String>,
}

/// The result of removing a block node or a network backend.
#[derive(Debug, Clone, Copy)]
enum RemovalOutcome {
    Missing,
    Removed,
    InUse,
}

impl Removal {
    fn add(&mut self, name: &str, outcome: RemovalOutcome) {
        match outcome {
            RemovalOutcome::Missing => {}
            RemovalOutcome::Removed => self.backend = Some(name.to_owned()),
            RemovalOutcome::InUse => self.in_use = Some(name.to_owned()),
        }
    }
}

impl HotplugSession<'_> {
    /// Removes the backends of a device that was just unplugged, which QEMU may use for another moment.
    pub(crate) async fn remove_backends_soon(&self, backends: &[Backend]) -> Result<Removal, QmpError> {
        let mut removal = self.remove_backends(backends).await?;
        for _ in 1..limits::BACKEND_REMOVAL_TRIES {
            if removal.in_use.is_none() {
                break;
            }
            tokio::time::sleep(limits::BACKEND_REMOVAL_INTERVAL).await;
            self.remove_into(&mut removal, backends).await?;
        }
        Ok(removal)
    }

    /// Removes the backends of a device that is gone, unless they are in use, and all unused ones.
    pub(crate) async fn remove_backends(&self, backends: &[Backend]) -> Result<Removal, QmpError> {
        let removed = self.remove_unused_backends().await?;
        let backend = backends.iter().map(|backend| &backend.name).find(|name| removed.contains(name)).cloned();
        let mut removal = Removal { backend, ..Removal::default() };
        self.remove_into(&mut removal, backends).await?;
        Ok(removal)
    }

    async fn remove_into(&self, removal: &mut Removal, backends: &[Backend]) -> Result<(), QmpError> {
        removal.in_use = None;
        let nodes = self.nodes().await?;
        for backend in backends {
            // A killed process may have removed only the first of the two nodes of a drive.
            for node in backend.nodes.iter().filter(|node| nodes.contains(node)) {
                let is_removed = self.remove_node(node).await?;
                removal.add(&backend.name, if is_removed { RemovalOutcome::Removed } else { RemovalOutcome::InUse });
            }
            if let Some(netdev) = &backend.netdev {
                let (outcome, forwards) = self.remove_netdev(netdev).await?;
                removal.add(&backend.name, outcome);
                removal.forwards.extend(forwards);
            }
        }
        Ok(())
    }

    /// Returns the ports of the host that are free again, too.
    async fn remove_netdev(&self, name: &str) -> Result<(RemovalOutcome, Vec<Forward>), QmpError> {
        let network = self.info_network().await?;
        if !unused_netdevs(&network).iter().any(|netdev| netdev == name) {
            let exists = link_names(&network).iter().any(|link| link == name);
            return Ok((if exists { RemovalOutcome::InUse } else { RemovalOutcome::Missing }, Vec::new()));
        }
        let usernet = self.vm.info_usernet().await;
        self.execute(&QmpCommand::new("netdev_del").with("id", name)).await?;
        Ok((RemovalOutcome::Removed, usernet.map(|usernet| forwards_of(name, &usernet)).unwrap_or_default()))
    }

    /// Returns the user of the block node or network backend with this name, if it exists.
    pub(crate) async fn user_of_backend(&self, name: &str) -> Result<Option<BackendUser>, QmpError> {
        if self.nodes().await?.iter().any(|node| node == name) {
            // `query-block` names only the top node.
            let boot = self.vm.boot_devices();
            let tops: Vec<&str> = boot.nodes_above(name).into_iter().chain([name]).collect();
            let blocks = self.execute(&QmpCommand::new("query-block")).await?;
            let uses_it =
                |block: &&Value| block["inserted"]["node-name"].as_str().is_some_and(|top| tops.contains(&top));
            let user = items(&blocks).find(uses_it).and_then(|block| block["qdev"].as_str());
            return Ok(Some(BackendUser { device: user.map(device_at).map(str::to_owned) }));
        }
        let network = self.info_network().await?;
        if unused_netdevs(&network).iter().any(|netdev| netdev == name) {
            return Ok(Some(BackendUser { device: None }));
        }
        let card = cards(&network).into_iter().find(|card| card.backend.as_deref() == Some(name));
        Ok(card.map(|card| BackendUser { device: Some(card.device) }))
    }
}

/// Returns the id of a device that QEMU names by its id, or by its path or that of a part of it.
fn device_at(qdev: &str) -> &str {
    let id = qdev.strip_prefix(PERIPHERAL).and_then(|rest| rest.strip_prefix('/'));
    id.and_then(|rest| rest.split('/').next()).unwrap_or(qdev)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_device_at_returns_id_if_there_is_one() {
        for (qdev, expected) in [
            ("d1", "d1"),
            ("/machine/peripheral/d1/virtio-backend", "d1"),
            ("/machine/peripheral-anon/device[3]", "/machine/peripheral-anon/device[3]"),
        ] {
            assert_eq!(device_at(qdev), expected);
        }
    }
}
