//! `network`: the machine's network cards.

use std::collections::HashMap;
use std::str::FromStr;

use serde_json::json;

use crate::config::{Diagnostics, KeyPath, Node, Value, schema};
use crate::machine::{ConfigHandler, KeyDoc};
use crate::machine::{Machine, defaults};
use crate::network::{Forward, MacAddress, NetworkMode, NetworkSpec};
use crate::qemu::NodeName;

/// The most cards a machine can have: a PCI bus has 32 slots, and some are taken already.
const MOST_CARDS: usize = 32;

const KEYS: [&str; 7] = ["name", "mode", "model", "mac", "forward", "bridge", "interface"];

/// `network`.
#[derive(Debug)]
pub(super) struct Network;

impl ConfigHandler for Network {
    fn key(&self) -> &'static str {
        "network"
    }

    fn documentation(&self) -> KeyDoc {
        KeyDoc {
            summary: "network cards",
            form: "`user`, `passt`, `none`, or maps with name, mode, model, mac, forward, bridge, interface",
        }
    }

    fn schema(&self) -> serde_json::Value {
        let words = || schema::one_of(NetworkMode::WORDS.map(|(word, _)| word));
        let card = schema::map(vec![
            ("name", schema::text()),
            ("mode", words()),
            ("model", schema::text()),
            ("mac", schema::text()),
            ("forward", schema::list(&schema::text())),
            ("bridge", schema::text()),
            ("interface", schema::text()),
        ]);
        json!({ "anyOf": [words(), card, schema::list(&json!({ "anyOf": [words(), card] }))] })
    }

    /// One word, one map, or a list of maps.
    fn apply(&self, path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Diagnostics) {
        match &node.value {
            Value::List(items) => {
                if let Some(item) = items.get(MOST_CARDS) {
                    let count = items.len();
                    let message = format!("a machine takes {MOST_CARDS} network cards at most, and this has {count}");
                    report.wrong(&path.index(MOST_CARDS), item, message);
                }
                let mut seen: HashMap<String, &Node> = HashMap::new();
                for (index, item) in items.iter().enumerate().take(MOST_CARDS) {
                    let at = path.index(index);
                    unlike_the_others(&mut seen, &at, item, index, report);
                    machine.network.extend(card(&at, item, index, report));
                }
                let cards = items.iter().enumerate().take(MOST_CARDS);
                let cards: Vec<_> = cards.map(|(index, item)| (path.index(index), item)).collect();
                addresses_taken(&cards, report);
                ports_taken(cards, report);
            }
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_) | Value::Map(_) => {
                machine.network.extend(card(path, node, 0, report));
                ports_taken([(path.clone(), node)], report);
            }
        }
    }
}

/// Notes a name that a card before this one has.
fn unlike_the_others<'a>(
    seen: &mut HashMap<String, &'a Node>,
    at: &KeyPath,
    entry: &'a Node,
    index: usize,
    report: &mut Diagnostics,
) {
    let given = entry.get("name").filter(|node| !node.is_null());
    let (name, node) = match given {
        Some(node) => (node.scalar(), node),
        None => (Some(name_by_place(index)), entry),
    };
    let Some(name) = name else { return };
    if let Some(first) = seen.get(&name) {
        let why = if given.is_none() { ", and one without a `name` is called so by its place" } else { "" };
        let message = format!("there is a network card `{}` already{why}", name.escape_debug());
        report.twice(&at.key("name"), node, first.whereabouts(), message);
    }
    seen.entry(name).or_insert(node);
}

/// Returns what a card is called that has no name of its own.
fn name_by_place(index: usize) -> String {
    format!("net{index}")
}

fn card(at: &KeyPath, entry: &Node, index: usize, report: &mut Diagnostics) -> Option<NetworkSpec> {
    if entry.as_text().is_some() {
        let mode = report.one_of(at, entry, &NetworkMode::WORDS)?;
        let empty = Node::empty_map();
        return spec(at, &empty, entry, index, Some(mode), report);
    }
    for (key, node) in report.map(at, entry)? {
        if !KEYS.contains(&key.as_str()) {
            report.unknown_key(&at.key(key), node, &KEYS);
        }
    }
    let mode = match entry.given("mode") {
        Some(node) => report.one_of(&at.key("mode"), node, &NetworkMode::WORDS),
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
    let given = |key: &str| entry.given(key);
    let name = match given("name") {
        Some(node) => card_name(&at.key("name"), node, report),
        None => NodeName::parse(&name_by_place(index)).ok(),
    };
    let model = match given("model") {
        Some(node) => report.word(&at.key("model"), node),
        None => Some(defaults::NETWORK_MODEL.to_owned()),
    };
    let mac = given("mac").and_then(|node| parsed::<MacAddress>(&at.key("mac"), node, report));
    let forward = given("forward").map(|node| forwards(&at.key("forward"), node, report)).unwrap_or_default();
    let bridge = given("bridge").and_then(|node| report.word(&at.key("bridge"), node));
    let interface = given("interface").and_then(|node| report.word(&at.key("interface"), node));

    let spec = NetworkSpec { name: name?, mode: mode?, model: model?, mac, forward, bridge, interface };
    fits(at, &spec, shown, report);
    Some(spec)
}

/// The keys that not every mode has, and the modes that have them.
const OF_MODES: [(&str, &[NetworkMode]); 5] = {
    use NetworkMode::{Bridge, Passt, Tap, User};
    [
        ("forward", &[User, Passt]),
        ("bridge", &[Bridge]),
        ("interface", &[Tap]),
        ("model", &[User, Tap, Bridge, Passt]),
        ("mac", &[User, Tap, Bridge, Passt]),
    ]
};

/// Notes what does not go with the mode.
fn fits(at: &KeyPath, spec: &NetworkSpec, entry: &Node, report: &mut Diagnostics) {
    let mode = spec.mode;
    for (key, modes) in OF_MODES.iter().filter(|(_, modes)| !modes.contains(&mode)) {
        let says_nothing = |node: &&Node| matches!(&node.value, Value::List(items) if items.is_empty());
        if let Some(node) = entry.given(key).filter(|node| !says_nothing(node)) {
            foreign(&at.key(key), entry, node, modes, report);
        }
    }
    if mode == NetworkMode::Passt && spec.forward.iter().any(|forward| forward.host_port == 0) {
        let forward = entry.get("forward").unwrap_or(entry);
        report.wrong(&at.key("forward"), forward, "`mode: passt` takes no free port by itself; name one");
    }
    if mode == NetworkMode::Bridge && entry.given("bridge").is_none() {
        report.lacks(at, entry, "`mode: bridge` needs the name of a `bridge`");
    }
    if mode == NetworkMode::Tap && entry.given("interface").is_none() {
        report.lacks(at, entry, "`mode: tap` needs the `interface` to use");
    }
}

/// Notes a key of other modes, and which mode was probably meant.
fn foreign(at: &KeyPath, entry: &Node, node: &Node, modes: &[NetworkMode], report: &mut Diagnostics) {
    let key = at.last_key();
    let words: Vec<String> = modes.iter().map(|mode| format!("`mode: {}`", mode.as_str())).collect();
    let message = match entry.given("mode").and_then(Node::scalar) {
        Some(word) if word == "none" => format!("`{key}` is of a card, and `mode: none` makes none"),
        Some(word) => format!("`{key}` goes with {} only, and this is `mode: {word}`", words.join(" and ")),
        None => format!("`{key}` goes with {} only, and without a mode it is `user`", words.join(" and ")),
    };
    let help = format!("set {}, or leave `{key}` out", words.join(" or "));
    report.wrong_with_help(at, node, message, Some(help));
}

fn forwards(at: &KeyPath, node: &Node, report: &mut Diagnostics) -> Vec<Forward> {
    let items = report.list(at, node).unwrap_or_default().iter().enumerate();
    items.filter_map(|(index, item)| parsed(&at.index(index), item, report)).collect()
}

/// Notes the ports of the host that are forwarded already, by the same card or by another.
fn ports_taken<'a>(cards: impl IntoIterator<Item = (KeyPath, &'a Node)>, report: &mut Diagnostics) {
    let mut taken = HashMap::new();
    for (at, card) in cards {
        let items = card.given("forward").map(Node::items).unwrap_or_default();
        for (index, item) in items.iter().enumerate() {
            let forward = item.scalar().and_then(|text| text.parse::<Forward>().ok());
            let Some(forward) = forward.filter(|forward| forward.host_port != 0) else { continue };
            let first = *taken.entry((forward.protocol, forward.host_address, forward.host_port)).or_insert(item);
            if !std::ptr::eq(first, item) {
                let message = format!("port {} of the host is forwarded already", forward.host_port);
                report.twice(&at.key("forward").index(index), item, first.whereabouts(), message);
            }
        }
    }
}

/// Notes the address of a card that a card before it has, in whichever form either is written.
fn addresses_taken(cards: &[(KeyPath, &Node)], report: &mut Diagnostics) {
    let mut taken: HashMap<MacAddress, &Node> = HashMap::new();
    for (at, card) in cards {
        let Some(node) = card.given("mac") else { continue };
        let Some(mac) = node.scalar().and_then(|text| text.parse::<MacAddress>().ok()) else { continue };
        if let Some(first) = taken.get(&mac) {
            let message = format!("there is a network card with the address `{mac}` already");
            report.twice(&at.key("mac"), node, first.whereabouts(), message);
        }
        taken.entry(mac).or_insert(node);
    }
}

/// Reads the name of a card, for which the same holds as for that of a drive.
fn card_name(at: &KeyPath, node: &Node, report: &mut Diagnostics) -> Option<NodeName> {
    let text = report.text(at, node)?;
    let invalid = match NodeName::parse(&text) {
        Ok(name) => return Some(name),
        Err(invalid) => invalid,
    };
    report.wrong(at, node, format!("name `{}` is not usable: {}", invalid.given.escape_debug(), invalid.why));
    None
}

/// Reads a value through its type's own door.
fn parsed<T>(at: &KeyPath, node: &Node, report: &mut Diagnostics) -> Option<T>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    let text = report.text(at, node)?;
    match text.parse() {
        Ok(value) => Some(value),
        Err(invalid) => {
            report.wrong(at, node, invalid.to_string());
            None
        }
    }
}
