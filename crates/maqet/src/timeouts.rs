//! The section `timeouts` of the settings file.

use std::collections::BTreeMap;

use maqet_application::{EffectiveSetting, HumanDuration, InvalidDuration, Timeouts};
use maqet_domain::config::{Diagnostics, KeyPath, Node};

/// The timeouts, and the locations of those that are set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TimeoutSettings {
    pub(crate) values: Timeouts,
    locations: BTreeMap<String, String>,
}

impl TimeoutSettings {
    /// Reads a map of names and durations.
    pub(crate) fn read(path: &KeyPath, node: &Node, report: &mut Diagnostics) -> Self {
        let mut timeouts = Self::default();
        for (name, node) in report.map(path, node).unwrap_or_default() {
            let path = path.key(name);
            if !Timeouts::NAMES.contains(&name.as_str()) {
                report.unknown_key(&path, node, &Timeouts::NAMES);
                continue;
            }
            if node.is_null() {
                continue;
            }
            let Some(timeout) = duration(&path, node, report) else { continue };
            timeouts.values.set(name, timeout);
            let location = node.value_location.as_ref().map(ToString::to_string).unwrap_or_default();
            timeouts.locations.insert(name.clone(), location);
        }
        timeouts
    }

    /// Returns the timeouts for display, each with its origin.
    pub(crate) fn effective(&self) -> impl Iterator<Item = EffectiveSetting> {
        Timeouts::NAMES.into_iter().map(|name| EffectiveSetting {
            key: format!("timeouts.{name}"),
            value: self.values.get(name).map(|timeout| timeout.to_string()).unwrap_or_default(),
            origin: self.locations.get(name).cloned().unwrap_or_else(|| "default".to_owned()),
        })
    }
}

fn duration(path: &KeyPath, node: &Node, report: &mut Diagnostics) -> Option<HumanDuration> {
    let Some(text) = node.written() else {
        report.expected(path, node, "a duration such as `30s` or `1m30s`");
        return None;
    };
    text.parse().map_err(|invalid: InvalidDuration| report.error(path, node, invalid.to_string())).ok()
}
