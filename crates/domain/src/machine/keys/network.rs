//! `network`: the network cards.

use std::collections::HashMap;
use std::path::Path;

use serde_json::json;
use strum::VariantNames;

use super::deletes;
use super::storage::bootindex;
use crate::config::{Diagnostics, KeyPath, Node, Value, schema, unexpanded};
use crate::machine::{Machine, defaults};
use crate::network::{
    Forward, KEYS_OF_MODES, Link, LinkAddress, MacAddress, NetworkMode, NetworkSpec, default_card_name,
    invalid_interface_name,
};
use crate::qemu::NodeName;

/// The limit of network cards: a PCI bus has 32 slots, and some are in use.
const MAX_CARDS: usize = 32;

const KEYS: [&str; 14] = [
    "name", "mode", "model", "mac", "bootindex", "forward", "restrict", "subnet", "bridge", "interface", "listen",
    "connect", "local", "remote",
];

/// The keys that hold an address, which may be a path.
const ADDRESS_KEYS: [&str; 4] = ["listen", "connect", "local", "remote"];

/// Returns the JSON Schema of `network`.
pub(super) fn schema() -> serde_json::Value {
    let modes = || schema::one_of(NetworkMode::VARIANTS.iter().copied());
    let card = schema::map(vec![
        ("name", schema::text()),
        ("mode", modes()),
        ("model", schema::text()),
        ("mac", schema::text()),
        ("bootindex", schema::integer(0, i64::from(u16::MAX))),
        ("forward", schema::list(&json!({ "anyOf": [schema::text(), schema::deletion()] }))),
        ("restrict", schema::boolean()),
        ("subnet", schema::text()),
        ("bridge", schema::text()),
        ("interface", schema::text()),
        ("listen", schema::text()),
        ("connect", schema::text()),
        ("local", schema::text()),
        ("remote", schema::text()),
    ]);
    json!({ "anyOf": [modes(), card, schema::list(&json!({ "anyOf": [modes(), card, schema::deletion()] }))] })
}

/// Makes the paths of sockets absolute.
pub(super) fn rebase(node: Node, folder: &Path) -> Node {
    match &node.value {
        Value::List(_) => node.map_items(|items| items.into_iter().map(|item| rebase_card(item, folder)).collect()),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_) | Value::Map(_) => {
            rebase_card(node, folder)
        }
    }
}

fn rebase_card(card: Node, folder: &Path) -> Node {
    let is_path =
        |key: &str, node: &Node| ADDRESS_KEYS.contains(&key) && node.as_text().is_some_and(|text| text.contains('/'));
    card.map_entries(|entries| {
        let rebased = |(key, node): (String, Node)| {
            let node = if is_path(&key, &node) { node.rebased(folder) } else { node };
            (key, node)
        };
        entries.into_iter().map(rebased).collect()
    })
}

/// Reads `network`: a mode, a map, or a list of either.
pub(super) fn apply(path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Diagnostics) {
    match &node.value {
        Value::List(items) => {
            let cards = items.iter().enumerate().filter(|(_, item)| !deletes(item, &KEYS));
            let mut cards: Vec<_> = cards.map(|(index, item)| (path.index(index), item)).collect();
            if let Some((at, item)) = cards.get(MAX_CARDS) {
                let message = format!("too many network cards: {}, the limit is {MAX_CARDS}", cards.len());
                report.error(at, item, message);
            }
            cards.truncate(MAX_CARDS);
            let mut seen: HashMap<String, &Node> = HashMap::new();
            for (index, (at, item)) in cards.iter().enumerate() {
                check_name_is_unique(&mut seen, at, item, index, report);
                let entry = items.iter().position(|one| std::ptr::eq(one, *item)).unwrap_or(index);
                machine.network.extend(card(at, item, index, report).map(|card| NetworkSpec { index: entry, ..card }));
            }
            check_addresses_are_unique(&cards, report);
            check_ports_are_unique(cards, report);
        }
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_) | Value::Map(_) => {
            machine.network.extend(card(path, node, 0, report));
            check_ports_are_unique([(path.clone(), node)], report);
        }
    }
}

/// Reports a name that an earlier card has.
fn check_name_is_unique<'a>(
    seen: &mut HashMap<String, &'a Node>,
    at: &KeyPath,
    entry: &'a Node,
    index: usize,
    report: &mut Diagnostics,
) {
    let own_name = entry.non_null("name");
    let (name, node) = match own_name {
        Some(node) => (node.written(), node),
        None => (Some(default_card_name(index)), entry),
    };
    let Some(name) = name else { return };
    if let Some(first) = seen.get(&name) {
        let suffix = if own_name.is_none() { ", the default name of this one" } else { "" };
        let message = format!("another network card is named `{}`{suffix}", name.escape_debug());
        report.duplicate(&at.key("name"), node, first.location(), message);
    }
    seen.entry(name).or_insert(node);
}

fn card(at: &KeyPath, entry: &Node, index: usize, report: &mut Diagnostics) -> Option<NetworkSpec> {
    if entry.as_text().is_some() {
        let mode = mode(at, entry, report)?;
        let empty = Node::empty_map();
        return spec(at, &empty, entry, index, Some(mode), report);
    }
    for (key, node) in report.map(at, entry)? {
        if !KEYS.contains(&key.as_str()) {
            report.unknown_key(&at.key(key), node, &KEYS);
        }
    }
    let mode = match entry.non_null("mode") {
        Some(node) => mode(&at.key("mode"), node, report),
        None => Some(NetworkMode::User),
    };
    spec(at, entry, entry, index, mode, report)
}

/// Reads a mode; that of QEMU for links, `socket`, has two successors.
fn mode(at: &KeyPath, node: &Node, report: &mut Diagnostics) -> Option<NetworkMode> {
    if node.as_text() == Some("socket") {
        let help = "set `mode: stream` with `listen` or `connect`, or `mode: dgram` with `remote`";
        report.error_with_help(at, node, "`socket` is not a mode", Some(help.to_owned()));
        return None;
    }
    report.variant(at, node)
}

fn spec(
    at: &KeyPath,
    entry: &Node,
    shown: &Node,
    index: usize,
    mode: Option<NetworkMode>,
    report: &mut Diagnostics,
) -> Option<NetworkSpec> {
    let value = |key: &str| entry.non_null(key);
    let name = match value("name") {
        Some(node) => report.parse(&at.key("name"), node),
        None => NodeName::parse(&default_card_name(index)).ok(),
    };
    let model = match value("model") {
        Some(node) => model(&at.key("model"), node, report),
        None => Some(defaults::NETWORK_MODEL.to_owned()),
    };
    let mac = value("mac").and_then(|node| report.parse(&at.key("mac"), node));
    let forward = value("forward").map(|node| forwards(&at.key("forward"), node, report)).unwrap_or_default();
    let [bridge, interface] = ["bridge", "interface"].map(|key| interface_name(&at.key(key), value(key)?, report));
    let bootindex = value("bootindex").and_then(|node| bootindex(&at.key("bootindex"), node, report));
    let restrict = value("restrict").and_then(|node| report.boolean(&at.key("restrict"), node)).unwrap_or_default();
    let subnet = value("subnet").and_then(|node| report.parse(&at.key("subnet"), node));
    let link = mode.and_then(|mode| link(at, entry, shown, mode, report));

    let (name, mode, model) = (name?, mode?, model?);
    let spec =
        NetworkSpec { index, name, mode, model, mac, forward, bootindex, restrict, subnet, link, bridge, interface };
    check_mode(at, &spec, shown, report);
    Some(spec)
}

/// Reads the device of a card, of which QEMU would print a list for `help`.
fn model(at: &KeyPath, node: &Node, report: &mut Diagnostics) -> Option<String> {
    let model = report.line(at, node)?;
    if matches!(model.as_str(), "help" | "?") {
        let help = Some("run `qemu-system-x86_64 -device help` for the list".to_owned());
        report.error_with_help(at, node, format!("`model: {model}` prints a list and exits"), help);
        return None;
    }
    Some(model)
}

/// Reads the name of a network device of the host.
fn interface_name(at: &KeyPath, node: &Node, report: &mut Diagnostics) -> Option<String> {
    let name = report.line(at, node)?;
    if let Some(reason) = invalid_interface_name(&name) {
        report.error_with_help(
            at,
            node,
            format!("`{}` {reason}", name.escape_debug()),
            Some("`ip link` lists them".to_owned()),
        );
        return None;
    }
    Some(name)
}

/// Reads the other end of a link.
fn link(at: &KeyPath, entry: &Node, shown: &Node, mode: NetworkMode, report: &mut Diagnostics) -> Option<Link> {
    let [listen, connect, local, remote] = ADDRESS_KEYS.map(|key| {
        // A key of another mode is reported as such.
        let node = entry.non_null(key).filter(|_| mode.has_key(key))?;
        let at = at.key(key);
        if let Some((message, help)) = node.as_text().and_then(unexpanded) {
            report.error_with_help(&at, node, message, Some(help));
            return Some((node, None));
        }
        Some((node, report.parse::<LinkAddress>(&at, node)))
    });
    match (mode, listen, connect, remote) {
        (NetworkMode::Stream, Some((_, address)), None, _) => Some(Link::Listen(address?)),
        (NetworkMode::Stream, None, Some((_, address)), _) => Some(Link::Connect(address?)),
        (NetworkMode::Stream, Some(_), Some((node, _)), _) => {
            report.error(&at.key("connect"), node, "a stream has either `listen` or `connect`");
            None
        }
        (NetworkMode::Stream, None, None, _) => {
            report.missing(at, shown, "`mode: stream` requires `listen` or `connect`");
            None
        }
        (NetworkMode::Dgram, _, _, Some((_, remote))) => datagram(at, shown, local, remote?, report),
        (NetworkMode::Dgram, _, _, None) => {
            report.missing(at, shown, "`mode: dgram` requires `remote`");
            None
        }
        _ => None,
    }
}

/// Checks the ends of datagrams: QEMU requires both, of one kind, unless the other one is a group.
fn datagram(
    at: &KeyPath,
    shown: &Node,
    local: Option<(&Node, Option<LinkAddress>)>,
    remote: LinkAddress,
    report: &mut Diagnostics,
) -> Option<Link> {
    let local = match local {
        Some((node, address)) => Some((node, address?)),
        None if remote.is_multicast() => None,
        None => {
            report.missing(at, shown, "`mode: dgram` requires `local`, unless `remote` is a multicast address");
            return None;
        }
    };
    let ends = [local.as_ref().map(|(_, address)| address), Some(&remote)];
    if ends.into_iter().flatten().any(LinkAddress::is_ipv6) {
        let help = Some("write an IPv4 address, or set `mode: stream`".to_owned());
        report.error_with_help(at, shown, "`mode: dgram` does not support IPv6", help);
    }
    if let Some((node, address)) = &local {
        if address.is_path() != remote.is_path() {
            report.error(&at.key("local"), node, "`local` and `remote` are either both paths or both `HOST:PORT`");
        }
        if *address == remote {
            report.error(&at.key("local"), node, "`local` and `remote` are the same");
        }
    }
    Some(Link::Datagram { local: local.map(|(_, address)| address), remote })
}

/// Reports keys that do not fit the mode.
fn check_mode(at: &KeyPath, spec: &NetworkSpec, entry: &Node, report: &mut Diagnostics) {
    let mode = spec.mode;
    for (key, modes) in KEYS_OF_MODES.iter().filter(|(_, modes)| !modes.contains(&mode)) {
        let is_empty = |node: &&Node| matches!(&node.value, Value::List(items) if items.is_empty());
        if let Some(node) = entry.non_null(key).filter(|node| !is_empty(node)) {
            unsupported_key(&at.key(key), entry, node, modes, report);
        }
    }
    if mode == NetworkMode::Passt && spec.forward.iter().any(|forward| forward.host_port == 0) {
        let forward = entry.get("forward").unwrap_or(entry);
        report.error(&at.key("forward"), forward, "`mode: passt` cannot choose a free port; set the host port");
    }
    if mode == NetworkMode::Bridge && entry.non_null("bridge").is_none() {
        report.missing(at, entry, "`mode: bridge` requires `bridge`");
    }
    if mode == NetworkMode::Tap && entry.non_null("interface").is_none() {
        report.missing(at, entry, "`mode: tap` requires `interface`");
    }
}

/// Reports a key of other modes, with the modes that have it.
fn unsupported_key(at: &KeyPath, entry: &Node, node: &Node, modes: &[NetworkMode], report: &mut Diagnostics) {
    let key = at.last_key();
    let modes: Vec<String> = modes.iter().map(|mode| format!("`mode: {mode}`")).collect();
    let message = match entry.non_null("mode").and_then(Node::written) {
        Some(mode) => format!("`mode: {mode}` does not support `{key}`"),
        None => format!("`mode: user`, the default, does not support `{key}`"),
    };
    let help = format!("set {}, or remove `{key}`", modes.join(" or "));
    report.error_with_help(at, node, message, Some(help));
}

fn forwards(at: &KeyPath, node: &Node, report: &mut Diagnostics) -> Vec<Forward> {
    let items = report.list(at, node).unwrap_or_default().iter().enumerate();
    let items = items.filter(|(_, item)| item.deletion().is_none());
    items.filter_map(|(index, item)| report.parse(&at.index(index), item)).collect()
}

/// Reports host ports that are forwarded twice, by the same card or by another.
fn check_ports_are_unique<'a>(cards: impl IntoIterator<Item = (KeyPath, &'a Node)>, report: &mut Diagnostics) {
    let mut used = HashMap::new();
    for (at, card) in cards {
        let items = card.non_null("forward").map(Node::items).unwrap_or_default();
        for (index, item) in items.iter().enumerate() {
            let forward = item.written().and_then(|text| text.parse::<Forward>().ok());
            let Some(forward) = forward.filter(|forward| forward.host_port != 0) else { continue };
            let first = *used.entry((forward.protocol, forward.host_address, forward.host_port)).or_insert(item);
            if !std::ptr::eq(first, item) {
                let message = format!("host port {} is already forwarded", forward.host_port);
                report.duplicate(&at.key("forward").index(index), item, first.location(), message);
            }
        }
    }
}

/// Reports a MAC address that an earlier card has.
fn check_addresses_are_unique(cards: &[(KeyPath, &Node)], report: &mut Diagnostics) {
    let mut used: HashMap<MacAddress, &Node> = HashMap::new();
    for (at, card) in cards {
        let Some(node) = card.non_null("mac") else { continue };
        let Some(mac) = node.written().and_then(|text| text.parse::<MacAddress>().ok()) else { continue };
        if let Some(first) = used.get(&mac) {
            let message = format!("another network card has the MAC address `{mac}`");
            report.duplicate(&at.key("mac"), node, first.location(), message);
        }
        used.entry(mac).or_insert(node);
    }
}
