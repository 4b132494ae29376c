//! What is behind a device, removed once the device is gone.

use maqet_domain::hotplug::{Backend, cards, link_names, unused_netdevs};
use maqet_domain::network::{Forward, forwards_of};
use maqet_domain::qmp::{QmpCommand, QmpError};
use serde_json::Value;

use super::session::{HotplugSession, PERIPHERAL, items};
use crate::limits;
use crate::vm::monitor::info_usernet;

/// What came of removing what is behind a device.
#[derive(Debug, Default)]
pub(crate) struct Removal {
    /// What was removed.
    pub(crate) back_end: Option<String>,
    /// What is there still, as something else uses it.
    pub(crate) in_use: Option<String>,
    /// The ports of the host that are free again.
    pub(crate) forwards: Vec<Forward>,
}

/// What is behind a device, if any has it.
#[derive(Debug)]
pub(crate) struct Behind {
    /// The device.
    pub(crate) device: Option<String>,
}

/// What became of a block node or a network back end.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Missing,
    Removed,
    InUse,
}

impl Removal {
    fn note(&mut self, name: &str, fate: Fate) {
        match fate {
            Fate::Missing => {}
            Fate::Removed => self.back_end = Some(name.to_owned()),
            Fate::InUse => self.in_use = Some(name.to_owned()),
        }
    }
}

impl HotplugSession<'_> {
    /// Removes what is behind a device that went a moment ago: QEMU may hold it for another moment.
    pub(crate) async fn remove_soon(&self, backends: &[Backend]) -> Result<Removal, QmpError> {
        let mut removal = self.remove_now(backends).await?;
        for _ in 1..limits::BACKEND_REMOVAL_TRIES {
            if removal.in_use.is_none() {
                break;
            }
            tokio::time::sleep(limits::BACKEND_REMOVAL_INTERVAL).await;
            self.remove_into(&mut removal, backends).await?;
        }
        Ok(removal)
    }

    /// Removes what is behind a device that is gone, as far as nothing else uses it; and what others left.
    pub(crate) async fn remove_now(&self, backends: &[Backend]) -> Result<Removal, QmpError> {
        let swept = self.sweep().await?;
        let back_end = backends.iter().map(|one| &one.name).find(|name| swept.contains(name)).cloned();
        let mut removal = Removal { back_end, ..Removal::default() };
        self.remove_into(&mut removal, backends).await?;
        Ok(removal)
    }

    async fn remove_into(&self, removal: &mut Removal, backends: &[Backend]) -> Result<(), QmpError> {
        removal.in_use = None;
        let there = self.nodes().await?;
        for back_end in backends {
            // Each of the two nodes of a drive: somebody may have been killed between them.
            for node in back_end.nodes.iter().filter(|node| there.contains(node)) {
                let is_removed = self.remove_node(node).await?;
                removal.note(&back_end.name, if is_removed { Fate::Removed } else { Fate::InUse });
            }
            if let Some(netdev) = &back_end.netdev {
                let (fate, forwards) = self.remove_netdev(netdev).await?;
                removal.note(&back_end.name, fate);
                removal.forwards.extend(forwards);
            }
        }
        Ok(())
    }

    /// Returns what became of it, and the ports of the host that are free again.
    async fn remove_netdev(&self, name: &str) -> Result<(Fate, Vec<Forward>), QmpError> {
        let network = self.info_network().await?;
        let is = |other: &String| other == name;
        if !unused_netdevs(&network).iter().any(is) {
            let fate = if link_names(&network).iter().any(is) { Fate::InUse } else { Fate::Missing };
            return Ok((fate, Vec::new()));
        }
        let shown = info_usernet(self.app, &self.run).await;
        self.ask(&QmpCommand::new("netdev_del").with("id", name)).await?;
        Ok((Fate::Removed, shown.map(|shown| forwards_of(name, &shown)).unwrap_or_default()))
    }

    /// Returns the names of the block nodes.
    pub(super) async fn nodes(&self) -> Result<Vec<String>, QmpError> {
        let nodes = self.ask(&QmpCommand::new("query-named-block-nodes").with("flat", true)).await?;
        Ok(items(&nodes).filter_map(|node| node["node-name"].as_str()).map(str::to_owned).collect())
    }

    /// Returns who has the block node or the network back end of this name, if there is one.
    pub(crate) async fn behind(&self, name: &str) -> Result<Option<Behind>, QmpError> {
        if self.nodes().await?.iter().any(|node| node == name) {
            // QEMU names the node at the top only.
            let equipment = self.equipment();
            let tops: Vec<&str> = equipment.nodes_on(name).into_iter().chain([name]).collect();
            let blocks = self.ask(&QmpCommand::new("query-block")).await?;
            let is_it = |block: &&Value| block["inserted"]["node-name"].as_str().is_some_and(|top| tops.contains(&top));
            let user = items(&blocks).find(is_it).and_then(|block| block["qdev"].as_str());
            return Ok(Some(Behind { device: user.map(device_at).map(str::to_owned) }));
        }
        let network = self.info_network().await?;
        if unused_netdevs(&network).iter().any(|netdev| netdev == name) {
            return Ok(Some(Behind { device: None }));
        }
        let card = cards(&network).into_iter().find(|card| card.back_end.as_deref() == Some(name));
        Ok(card.map(|card| Behind { device: Some(card.device) }))
    }
}

/// Returns the id of the device that QEMU names by its id, or by its place or that of a part of it.
fn device_at(qdev: &str) -> &str {
    let id = qdev.strip_prefix(PERIPHERAL).and_then(|rest| rest.strip_prefix('/'));
    id.and_then(|rest| rest.split('/').next()).unwrap_or(qdev)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_device_at_is_an_id_where_there_is_one() {
        for (qdev, expected) in [
            ("d1", "d1"),
            ("/machine/peripheral/d1/virtio-backend", "d1"),
            ("/machine/peripheral-anon/device[3]", "/machine/peripheral-anon/device[3]"),
        ] {
            assert_eq!(device_at(qdev), expected);
        }
    }
}
