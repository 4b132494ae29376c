//! The keys of optional devices: `rng`, `generation_id`, `balloon`, `watchdog`, `panic`, `usb` and `sound`.

use std::collections::HashMap;
use std::str::FromStr;

use serde_json::json;
use strum::VariantNames;

use super::table::doc;
use super::{KeySpec, map_at};
use crate::config::{Diagnostics, KeyPath, Node, Value, schema};
use crate::machine::{
    AudioBackend, MAX_USB_DEVICES, Machine, PanicAction, PanicDevice, Sound, SoundModel, UsbDevice, Watchdog,
    WatchdogAction, WatchdogModel,
};

/// Keys of optional devices, in the order of `maqet config keys`.
pub(super) const DEVICE_KEYS: &[KeySpec] = &[
    KeySpec::new(
        "rng",
        doc(
            "whether the guest has a source of random numbers",
            "`true` (the default where the machine has a bus for it) or `false`",
        ),
        schema::boolean,
        |path, node, machine, report| machine.devices.rng = report.boolean(path, node),
    ),
    KeySpec::new(
        "generation_id",
        doc(
            "whether the guest notices that it is a copy of another one, and draws other random numbers",
            "`true` (the default on `pc` and `q35`) or `false`",
        ),
        schema::boolean,
        |path, node, machine, report| machine.devices.generation_id = report.boolean(path, node),
    ),
    KeySpec::new(
        "balloon",
        doc("whether the guest can give memory back (`maqet qmp balloon`)", "`true` or `false` (the default)"),
        schema::boolean,
        |path, node, machine, report| machine.devices.balloon = report.boolean(path, node).unwrap_or_default(),
    ),
    KeySpec::new(
        "watchdog",
        doc("a watchdog, which acts when the guest hangs", "`true`, `false` or a map with model and action"),
        || {
            with_boolean(&schema::map(vec![
                ("model", variants::<WatchdogModel>()),
                ("action", variants::<WatchdogAction>()),
            ]))
        },
        watchdog,
    )
    .merged_as(|node| node.boolean()?.then(|| map_at(node, []))),
    KeySpec::new(
        "panic",
        doc(
            "a device that reports panics of the guest",
            "`true`, `false`, or what then happens: `shutdown`, `pause`, `exit-failure` or `none`",
        ),
        || with_boolean(&variants::<PanicAction>()),
        panic,
    ),
    KeySpec::new(
        "usb",
        doc(
            "USB devices of the host and of QEMU",
            "a list of `tablet`, `mouse`, `keyboard`, `VENDOR:PRODUCT` as in `046d:c52b`, or `BUS-PORT` as in `1-2.3`",
        ),
        || schema::list(&json!({ "anyOf": [schema::text(), schema::deletion()] })),
        usb,
    ),
    KeySpec::new(
        "sound",
        doc(
            "a sound card",
            "`true`, `false`, a model (`hda`, `ac97`, `es1370`, `sb16`, `usb`, `virtio`), or a map with model and backend",
        ),
        || {
            let map = schema::map(vec![("model", variants::<SoundModel>()), ("backend", variants::<AudioBackend>())]);
            with_boolean(&json!({ "anyOf": [variants::<SoundModel>(), map] }))
        },
        sound,
    )
    .merged_as(|node| match node.boolean() {
        Some(has_card) => has_card.then(|| map_at(node, [])),
        None => Some(map_at(node, [("model", Value::Text(node.written()?))])),
    }),
];

fn variants<T: VariantNames>() -> serde_json::Value {
    schema::one_of(T::VARIANTS.iter().copied())
}

fn with_boolean(other: &serde_json::Value) -> serde_json::Value {
    json!({ "anyOf": [schema::boolean(), other] })
}

fn watchdog(path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Diagnostics) {
    machine.devices.watchdog = match &node.value {
        Value::Map(_) => {
            check_keys(path, node, &["model", "action"], report);
            Some(Watchdog { model: option(path, node, "model", report), action: option(path, node, "action", report) })
        }
        _ if node.as_text().is_some_and(|text| WatchdogModel::from_str(text).is_ok()) => {
            let model = node.as_text().unwrap_or_default();
            let message = format!("expected `true`, `false` or a map, found {}", node.description());
            report.error_with_help(path, node, message, Some(format!("write `watchdog: {{model: {model}}}`")));
            None
        }
        _ => report.boolean(path, node).unwrap_or_default().then(Watchdog::default),
    };
}

fn panic(path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Diagnostics) {
    machine.devices.panic = match node.boolean() {
        Some(has_device) => has_device.then(PanicDevice::default),
        None => variant_or_boolean(path, node, report).map(|action| PanicDevice { action: Some(action) }),
    };
}

fn sound(path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Diagnostics) {
    let silent = |model| Sound { model, backend: AudioBackend::default() };
    machine.devices.sound = match (&node.value, node.boolean()) {
        (Value::Map(_), _) => {
            check_keys(path, node, &["model", "backend"], report);
            let model = option(path, node, "model", report).unwrap_or_default();
            Some(Sound { model, backend: option(path, node, "backend", report).unwrap_or_default() })
        }
        (_, Some(has_card)) => has_card.then(|| silent(SoundModel::default())),
        (_, None) => variant_or_boolean(path, node, report).map(silent),
    };
}

fn usb(path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Diagnostics) {
    let items = report.list(path, node).unwrap_or_default().iter().enumerate();
    let items: Vec<_> = items.filter(|(_, item)| item.deletion().is_none()).collect();
    if let Some((index, item)) = items.get(MAX_USB_DEVICES) {
        let message = format!("too many USB devices: {}, the limit is {MAX_USB_DEVICES}", items.len());
        report.error(&path.index(*index), item, message);
    }
    let mut seen: HashMap<UsbDevice, &Node> = HashMap::new();
    for (index, item) in items {
        let at = path.index(index);
        let Some(device) = report.parse::<UsbDevice>(&at, item) else { continue };
        if let Some(first) = seen.get(&device) {
            report.duplicate(&at, item, first.location(), format!("`{device}` is listed already"));
        }
        machine.devices.usb.push(device.clone());
        seen.entry(device).or_insert(item);
    }
}

/// Reads one of a few strings where a boolean would be valid, too.
fn variant_or_boolean<T: FromStr + VariantNames>(path: &KeyPath, node: &Node, report: &mut Diagnostics) -> Option<T> {
    let values: Vec<&'static str> = ["true", "false"].iter().chain(T::VARIANTS).copied().collect();
    report.one_of(path, node, &values)?.parse().ok()
}

fn option<T: FromStr + VariantNames>(path: &KeyPath, node: &Node, key: &str, report: &mut Diagnostics) -> Option<T> {
    node.non_null(key).and_then(|value| report.variant(&path.key(key), value))
}

fn check_keys(path: &KeyPath, node: &Node, known: &[&str], report: &mut Diagnostics) {
    for (key, value) in node.entries().iter().filter(|(key, _)| !known.contains(&key.as_str())) {
        report.unknown_key(&path.key(key), value, known);
    }
}
