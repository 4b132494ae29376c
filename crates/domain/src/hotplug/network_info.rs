//! Network cards and their backends, as `info network` of the human monitor lists them; QMP does not (7.2).
//!
//! The backend of a card follows it, indented and behind a backslash.

use crate::network::card_of;
use crate::qemu::HOTPLUG_PREFIX;
use crate::qmp::wording::{is_stream_pending, stream_failure};

/// A network card of a running VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// The id of the device.
    pub device: String,
    /// The name of its backend.
    pub backend: Option<String>,
}

impl Card {
    /// Returns the name under `network` of a card of the definition, else the id of the device.
    pub fn name(&self) -> &str {
        let backend = self.backend.as_deref();
        backend.filter(|name| self.device == card_of(name)).unwrap_or(&self.device)
    }
}

/// Returns the cards.
pub fn cards(info_network: &str) -> Vec<Card> {
    let mut cards: Vec<Card> = Vec::new();
    for (name, kind, is_peer) in info_network.lines().filter_map(parse) {
        if kind.starts_with("nic,") {
            cards.push(Card { device: name.to_owned(), backend: None });
        } else if let Some(card) = cards.last_mut().filter(|card| is_peer && card.backend.is_none()) {
            card.backend = Some(name.to_owned());
        }
    }
    cards
}

/// Returns the names of cards and backends.
pub fn link_names(info_network: &str) -> Vec<String> {
    info_network.lines().filter_map(parse).map(|(name, _, _)| name.to_owned()).collect()
}

/// Returns the streams that are not connected because of an error, each with the reason that QEMU gives.
pub fn failed_backends(info_network: &str) -> Vec<(&str, Option<&str>)> {
    let failed = |line| {
        let (name, kind, _) = parse(line)?;
        Some((name, stream_failure(kind.strip_prefix("stream,")?)?))
    };
    info_network.lines().filter_map(failed).collect()
}

/// Returns the streams that may still fail.
pub fn pending_backends(info_network: &str) -> Vec<&str> {
    let parsed = info_network.lines().filter_map(parse);
    let pending = parsed.filter(|(_, kind, _)| kind.strip_prefix("stream,").is_some_and(is_stream_pending));
    pending.map(|(name, _, _)| name).collect()
}

/// Returns the backends without a card.
pub fn unused_netdevs(info_network: &str) -> Vec<String> {
    let is_alone = |line: &&str| !line.starts_with(' ') && !line.contains("type=nic");
    let names = info_network.lines().filter(is_alone).filter_map(|line| line.split_once(": index="));
    names.map(|(name, _)| name.to_owned()).collect()
}

/// Returns the backends without a card that were created for hot-plugged ones.
pub fn unused_hotplug_netdevs(info_network: &str) -> Vec<String> {
    unused_netdevs(info_network).into_iter().filter(|name| name.starts_with(HOTPLUG_PREFIX)).collect()
}

/// Returns the name of a card or backend, its kind, and whether it belongs to the one before.
fn parse(line: &str) -> Option<(&str, &str, bool)> {
    let (name, rest) = line.split_once(": index=")?;
    let (_, kind) = rest.split_once("type=")?;
    // A card without a name is connected to a hub, and follows the port of that.
    Some((name.rsplit([' ', '\\']).next()?, kind, line.starts_with(" \\")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As QEMU 7.2 writes it.
    const INFO_NETWORK: &str = "n: index=0,type=nic,model=virtio-net-pci,macaddr=52:54:00:12:34:56\r\n \
        \\ hotplug-n: index=0,type=user,net=10.0.2.0,restrict=off\r\n\
        hotplug-left: index=0,type=user,net=10.0.2.0,restrict=off\r\n\
        own: index=0,type=user,net=10.0.2.0,restrict=off\r\n\
        hotplug-card: index=0,type=nic,model=e1000,macaddr=52:54:00:12:34:57\r\n\
        hub 0\r\n \\ hub0port0: e1000.0: index=0,type=nic,model=e1000,macaddr=52:54:00:12:34:58\r\n";

    #[test]
    fn test_unused_netdevs_are_those_without_card() {
        assert_eq!(unused_netdevs(INFO_NETWORK), ["hotplug-left", "own"]);
        assert_eq!(unused_hotplug_netdevs(INFO_NETWORK), ["hotplug-left"]);
    }

    /// The first three as QEMU 10.0 writes them, the others as 7.2 does.
    #[test]
    fn test_failed_backends_are_streams_with_an_error() {
        let info = "a-card: index=0,type=nic,model=e1000\r\n \\ a: index=0,type=stream,error: Failed to bind socket: Cannot \
            assign requested address\r\n \\ b: index=0,type=stream,listening\r\nc: index=0,type=stream,connection \
            error\r\nd: index=0,type=stream,\r\ne: index=0,type=user,connection error\r\n";

        let reason = "Failed to bind socket: Cannot assign requested address";
        assert_eq!(failed_backends(info), [("a", Some(reason)), ("c", None)]);
        assert!(failed_backends(INFO_NETWORK).is_empty());
        let info =
            "a: index=0,type=stream,initializing\r\nb: index=0,type=stream,listening\r\nc: index=0,type=stream,\r\n";
        assert_eq!((pending_backends(info), failed_backends(info).len()), (vec!["a"], 0));
    }

    #[test]
    fn test_link_names_are_cards_and_backends() {
        assert_eq!(link_names(INFO_NETWORK), ["n", "hotplug-n", "hotplug-left", "own", "hotplug-card", "e1000.0"]);
        assert!(link_names("Hub -1 (x):\r\n").is_empty());
    }

    #[test]
    fn test_cards_have_names_of_definition_or_ids() {
        let of_definition = "lan-card: index=0,type=nic,model=e1000\r\n \\ lan: index=0,type=user,net=10.0.2.0\r\n";
        let bare = "bare: index=0,type=nic,model=e1000\r\nown: index=0,type=tap,ifname=t\r\n";

        let found = cards(&(of_definition.to_owned() + bare + INFO_NETWORK));

        let names: Vec<&str> = found.iter().map(Card::name).collect();
        assert_eq!(names, ["lan", "bare", "n", "hotplug-card", "e1000.0"]);
        let devices: Vec<&str> = found.iter().map(|card| card.device.as_str()).collect();
        assert_eq!(devices, ["lan-card", "bare", "n", "hotplug-card", "e1000.0"]);
        assert_eq!((&found[1].backend, found[2].backend.as_deref()), (&None, Some("hotplug-n")));
    }
}
