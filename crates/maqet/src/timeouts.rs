//! `timeouts` of the settings file.

use std::collections::BTreeMap;

use maqet_application::{EffectiveSetting, HumanDuration, Timeouts};
use maqet_domain::config::{Diagnostics, KeyPath, Node};

/// The time-outs that hold, and where those that were set stand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PlacedTimeouts {
    pub(crate) values: Timeouts,
    paths: BTreeMap<String, String>,
}

impl PlacedTimeouts {
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
            let Some(patience) = patience(&path, node, report) else { continue };
            timeouts.values.set(name, patience);
            let place = node.place.as_ref().map(ToString::to_string).unwrap_or_default();
            timeouts.paths.insert(name.clone(), place);
        }
        timeouts
    }

    /// Returns them to be shown, each with where it came from.
    pub(crate) fn effective(&self) -> impl Iterator<Item = EffectiveSetting> {
        Timeouts::NAMES.into_iter().map(|name| EffectiveSetting {
            key: format!("timeouts.{name}"),
            value: self.values.get(name).map(|patience| patience.to_string()).unwrap_or_default(),
            origin: self.paths.get(name).cloned().unwrap_or_else(|| "default".to_owned()),
        })
    }
}

fn patience(path: &KeyPath, node: &Node, report: &mut Diagnostics) -> Option<HumanDuration> {
    let Some(text) = node.scalar() else {
        report.expected(path, node, "a duration such as `30s` or `1m30s`");
        return None;
    };
    match text.parse::<HumanDuration>() {
        Ok(patience) => Some(patience),
        Err(invalid) => {
            report.wrong(path, node, invalid.to_string());
            None
        }
    }
}
