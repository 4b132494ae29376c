//! The network cards of forks.
//!
//! A guest keeps the cards that it knows, with their addresses. What they are connected to can be another network, but
//! for virtio cards at a tap device: the guest and QEMU have agreed on packets with a header that only those have.

use maqet_domain::config::{Node, Value};
use maqet_domain::machine::Machine;
use maqet_domain::network::{MacAddress, NetworkMode, NetworkSpec};
use maqet_domain::vm::VmId;

use super::ForkNetwork;
use crate::throw_away::definition::{map, with_free_ports};

/// The switches that add cards, or what they are connected to.
const SWITCHES: [&str; 3] = ["-netdev", "-nic", "-net"];

/// Returns the cards, each with its position.
pub(super) fn cards(machine: &Machine) -> impl Iterator<Item = (&NetworkSpec, u8)> {
    machine.network.iter().zip(0..).filter(|(card, _)| card.mode != NetworkMode::None)
}

/// Returns why the cards of a fork cannot be connected as asked for.
pub(crate) fn reasons(machine: &Machine, arguments: &[String], network: ForkNetwork) -> Vec<String> {
    let mut reasons: Vec<String> = cards(machine).filter_map(|(card, _)| reason(card, network)).collect();
    let added = arguments.iter().zip(arguments.iter().skip(1));
    let added = added.filter(|(switch, value)| SWITCHES.contains(&switch.as_str()) && *value != "none").count();
    if network == ForkNetwork::None && added > cards(machine).count() {
        reasons.push("it has network cards under `arguments`, which would stay connected".to_owned());
    }
    reasons
}

fn reason(card: &NetworkSpec, network: ForkNetwork) -> Option<String> {
    match (network, card.mode) {
        (_, NetworkMode::User | NetworkMode::Passt | NetworkMode::None)
        | (ForkNetwork::None, NetworkMode::Bridge | NetworkMode::Stream | NetworkMode::Dgram) => None,
        (ForkNetwork::None, NetworkMode::Tap) => card
            .model
            .starts_with("virtio")
            .then(|| format!("network card `{}` needs its tap device, which another VM may have open", card.name)),
        // Two guests with one address in a network would disturb each other.
        (ForkNetwork::Same, NetworkMode::Tap | NetworkMode::Bridge | NetworkMode::Stream | NetworkMode::Dgram) => {
            Some(format!("network card `{}` would have the address of the other guest", card.name))
        }
    }
}

/// Returns what differs from the definition of the card: it has the address that the guest knows, and ports that QEMU
/// chooses, or nothing that it is connected to.
pub(super) fn definition(card: &NetworkSpec, index: u8, vm: &VmId, network: ForkNetwork) -> Node {
    let known = match network {
        ForkNetwork::Same => with_free_ports(card),
        ForkNetwork::None => Some(disconnected(card)),
    };
    let mut entries = match known.map(|node| node.value) {
        Some(Value::Map(entries)) => entries,
        _ => vec![("name".to_owned(), Node::text(card.name.as_str()))],
    };
    // By default, it follows from the ID of the VM.
    let mac = card.mac.unwrap_or_else(|| MacAddress::for_card(&vm.bytes(), index));
    entries.push(("mac".to_owned(), Node::text(mac.to_string())));
    Node::new(Value::Map(entries))
}

/// Returns the change of a card that leads nowhere, also before its link is down.
fn disconnected(card: &NetworkSpec) -> Node {
    let name = ("name", Node::text(card.name.as_str()));
    let null = |key| (key, Node::new(Value::Null));
    if card.mode == NetworkMode::Bridge {
        return map([name]);
    }
    let of_other_modes = ["forward", "interface", "listen", "connect", "local", "remote"].map(null);
    let own = [name, ("mode", Node::text("user")), ("restrict", Node::new(Value::Bool(true)))];
    map(own.into_iter().chain(of_other_modes))
}

/// Returns the definition of a VM without network cards.
pub(super) fn without_cards(definition: Node) -> Node {
    definition.map_entries(|entries| {
        let others = entries.into_iter().filter(|(key, _)| key != "network");
        others.chain([("network".to_owned(), Node::text("none"))]).collect()
    })
}
