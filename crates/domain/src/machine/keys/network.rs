//! `network`: the network cards.

use std::collections::HashMap;

use serde_json::json;
use strum::VariantNames;

use super::deletes;
use crate::config::{Diagnostics, KeyPath, Node, Value, schema};
use crate::machine::{Machine, defaults};
use crate::network::{Forward, MacAddress, NetworkMode, NetworkSpec, default_card_name};
use crate::qemu::NodeName;

/// The limit of network cards: a PCI bus has 32 slots, and some are in use.
const MAX_CARDS: usize = 32;

const KEYS: [&str; 7] = ["name", "mode", "model", "mac", "forward", "bridge", "interface"];

/// Returns the JSON Schema of `network`.
pub(super) fn schema() -> serde_json::Value {
    let modes = || schema::one_of(NetworkMode::VARIANTS.iter().copied());
    let card = schema::map(vec![
        ("name", schema::text()),
        ("mode", modes()),
        ("model", schema::text()),
        ("mac", schema::text()),
        ("forward", schema::list(&json!({ "anyOf": [schema::text(), schema::deletion()] }))),
        ("bridge", schema::text()),
        ("interface", schema::text()),
    ]);
    json!({ "anyOf": [modes(), card, schema::list(&json!({ "anyOf": [modes(), card, schema::deletion()] }))] })
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
                machine.network.extend(card(at, item, index, report));
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
        let mode = report.variant(at, entry)?;
        let empty = Node::empty_map();
        return spec(at, &empty, entry, index, Some(mode), report);
    }
    for (key, node) in report.map(at, entry)? {
        if !KEYS.contains(&key.as_str()) {
            report.unknown_key(&at.key(key), node, &KEYS);
        }
    }
    let mode = match entry.non_null("mode") {
        Some(node) => report.variant(&at.key("mode"), node),
        None => Some(NetworkMode::User),
    };
    spec(at, entry, entry, index, mode, report)
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
        Some(node) => report.line(&at.key("model"), node),
        None => Some(defaults::NETWORK_MODEL.to_owned()),
    };
    let mac = value("mac").and_then(|node| report.parse(&at.key("mac"), node));
    let forward = value("forward").map(|node| forwards(&at.key("forward"), node, report)).unwrap_or_default();
    let bridge = value("bridge").and_then(|node| report.line(&at.key("bridge"), node));
    let interface = value("interface").and_then(|node| report.line(&at.key("interface"), node));

    let spec = NetworkSpec { name: name?, mode: mode?, model: model?, mac, forward, bridge, interface };
    check_mode(at, &spec, shown, report);
    Some(spec)
}

/// Keys that only some modes have, with these modes.
const KEYS_OF_MODES: [(&str, &[NetworkMode]); 5] = {
    use NetworkMode::{Bridge, Passt, Tap, User};
    [
        ("forward", &[User, Passt]),
        ("bridge", &[Bridge]),
        ("interface", &[Tap]),
        ("model", &[User, Tap, Bridge, Passt]),
        ("mac", &[User, Tap, Bridge, Passt]),
    ]
};

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
    let message = match entry.non_null("mode").and_then(Node::scalar) {
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
