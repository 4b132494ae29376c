//! What is behind a device, removed once the device is gone.

use maqet_domain::hotplug::{BackEnd, cards, link_names, unused_netdevs};
use maqet_domain::network::{Forward, forwards_of};
use maqet_domain::port::{QmpCommand, QmpError};
use serde_json::Value;

use super::{PERIPHERAL, Plugged, items};
use crate::limits;

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

impl Plugged<'_> {
    /// Removes what is behind a device that went a moment ago: QEMU may hold it for another moment.
    pub(crate) async fn remove_soon(&self, back_ends: &[BackEnd]) -> Result<Removal, QmpError> {
        let mut removal = Removal::default();
        for _ in 0..limits::BACK_END_TRIES {
            self.remove_into(&mut removal, back_ends).await?;
            if removal.in_use.is_none() {
                break;
            }
            tokio::time::sleep(limits::BACK_END_PAUSE).await;
        }
        Ok(removal)
    }

    /// Removes what is behind a device that is gone, as far as nothing else uses it.
    pub(crate) async fn remove_now(&self, back_ends: &[BackEnd]) -> Result<Removal, QmpError> {
        let mut removal = Removal::default();
        self.remove_into(&mut removal, back_ends).await?;
        Ok(removal)
    }

    async fn remove_into(&self, removal: &mut Removal, back_ends: &[BackEnd]) -> Result<(), QmpError> {
        let swept = self.sweep().await?;
        removal.in_use = None;
        for back_end in back_ends {
            // Each of the two nodes of a drive: somebody may have been killed between them.
            let (is_node_removed, is_node_left) = self.remove_nodes(&back_end.nodes).await?;
            let (is_netdev_removed, is_netdev_left) = match &back_end.netdev {
                Some(netdev) => self.remove_netdev(netdev, &mut removal.forwards).await?,
                None => (false, false),
            };
            if swept.contains(&back_end.name) || is_node_removed || is_netdev_removed {
                removal.back_end = Some(back_end.name.clone());
            }
            if is_node_left || is_netdev_left {
                removal.in_use = Some(back_end.name.clone());
            }
        }
        Ok(())
    }

    /// Returns whether some of these nodes were removed, and whether some are left.
    async fn remove_nodes(&self, nodes: &[String]) -> Result<(bool, bool), QmpError> {
        let there = self.nodes().await?;
        let (mut is_removed, mut is_left) = (false, false);
        for node in nodes.iter().filter(|node| there.contains(node)) {
            let done = self.remove_node(node).await?;
            is_removed |= done;
            is_left |= !done;
        }
        Ok((is_removed, is_left))
    }

    /// Returns whether this back end was removed, and whether it is left.
    async fn remove_netdev(&self, name: &str, forwards: &mut Vec<Forward>) -> Result<(bool, bool), QmpError> {
        let network = self.info_network().await?;
        let is = |other: &String| other == name;
        if !unused_netdevs(&network).iter().any(is) {
            return Ok((false, link_names(&network).iter().any(is)));
        }
        let shown = self.app.usernet(&self.run).await;
        self.ask(&QmpCommand::new("netdev_del").with("id", name)).await?;
        forwards.extend(shown.map(|shown| forwards_of(name, &shown)).unwrap_or_default());
        Ok((true, false))
    }

    /// Returns the names of the block nodes.
    pub(super) async fn nodes(&self) -> Result<Vec<String>, QmpError> {
        let nodes = self.ask(&QmpCommand::new("query-named-block-nodes").with("flat", true)).await?;
        Ok(items(&nodes).filter_map(|node| node["node-name"].as_str()).map(str::to_owned).collect())
    }

    /// Returns whether there is a block node or a network back end of this name, and which device has it.
    pub(crate) async fn behind(&self, name: &str) -> Result<Option<Option<String>>, QmpError> {
        if self.nodes().await?.iter().any(|node| node == name) {
            let blocks = self.ask(&QmpCommand::new("query-block")).await?;
            let is_it = |block: &&Value| block["inserted"]["node-name"] == name;
            let user = items(&blocks).find(is_it).and_then(|block| block["qdev"].as_str());
            return Ok(Some(user.map(device_at).map(str::to_owned)));
        }
        let network = self.info_network().await?;
        if unused_netdevs(&network).iter().any(|netdev| netdev == name) {
            return Ok(Some(None));
        }
        let card = cards(&network).into_iter().find(|card| card.back_end.as_deref() == Some(name));
        Ok(card.map(|card| Some(card.device)))
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
