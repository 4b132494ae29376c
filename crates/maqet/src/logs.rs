//! The section `logs` of the settings file.

use std::collections::BTreeMap;

use maqet_application::{EffectiveSetting, LogLimits, limits};
use maqet_domain::config::{Diagnostics, KeyPath, Node};
use maqet_domain::size::{ByteSize, InvalidSize};

/// The limits of logs, and the locations of those that are set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LogSettings {
    pub(crate) values: LogLimits,
    locations: BTreeMap<String, String>,
}

/// The key for the number of boots.
const BOOTS: &str = "boots";

impl LogSettings {
    /// Reads a map of names and sizes.
    pub(crate) fn read(path: &KeyPath, node: &Node, report: &mut Diagnostics) -> Self {
        let mut logs = Self::default();
        for (name, node) in report.map(path, node).unwrap_or_default() {
            let path = path.key(name);
            let is_known = name == BOOTS || LogLimits::SIZES.contains(&name.as_str());
            if !is_known {
                report.unknown_key(&path, node, &[&LogLimits::SIZES[..], &[BOOTS]].concat());
                continue;
            }
            if node.is_null() {
                continue;
            }
            match logs.values.size_mut(name) {
                Some(limit) => *limit = size(&path, node, report).unwrap_or(*limit),
                None => logs.values.boots = boots(&path, node, report).unwrap_or(logs.values.boots),
            }
            let location = node.value_location.as_ref().map(ToString::to_string).unwrap_or_default();
            logs.locations.insert(name.clone(), location);
        }
        logs
    }

    /// Returns the limits for display, each with its origin.
    pub(crate) fn effective(&self) -> impl Iterator<Item = EffectiveSetting> {
        let LogLimits { serial, qemu, qmp, maqet, hooks, boots } = self.values;
        let sizes = LogLimits::SIZES.into_iter().zip([serial, qemu, qmp, maqet, hooks].map(|size| size.to_string()));
        sizes.chain([(BOOTS, boots.to_string())]).map(|(name, value)| EffectiveSetting {
            key: format!("logs.{name}"),
            value,
            origin: self.locations.get(name).cloned().unwrap_or_else(|| "default".to_owned()),
        })
    }
}

fn size(path: &KeyPath, node: &Node, report: &mut Diagnostics) -> Option<ByteSize> {
    let Some(text) = node.written() else {
        report.expected(path, node, "a size such as `16M`");
        return None;
    };
    match text.parse::<ByteSize>().map_err(|invalid: InvalidSize| invalid.to_string()) {
        Ok(size) if size >= limits::MIN_LOG => Some(size),
        Ok(_) => {
            report.error(path, node, format!("the smallest size of a log is {}", limits::MIN_LOG));
            None
        }
        Err(problem) => {
            report.error(path, node, problem);
            None
        }
    }
}

fn boots(path: &KeyPath, node: &Node, report: &mut Diagnostics) -> Option<usize> {
    let number = node.written().and_then(|text| text.parse().ok()).filter(|number| *number > 0);
    if number.is_none() {
        report.expected(path, node, "a number of boots, at least 1");
    }
    number
}
