//! `numa`: the number of NUMA nodes, or the CPUs and the RAM of each.

use std::ops::RangeInclusive;

use serde_json::json;

use crate::config::{Diagnostics, KeyPath, Node, Value, schema};
use crate::machine::numa::{MAX_NODES, NumaNode};
use crate::machine::ram::{MEBIBYTES, round_as_qemu};
use crate::machine::{Cpus, Machine};

const KEYS: [&str; 2] = ["cpus", "memory"];

/// Returns the JSON Schema of `numa`.
pub(super) fn schema() -> serde_json::Value {
    let node = schema::map(vec![("cpus", schema::text()), ("memory", schema::size())]);
    json!({ "anyOf": [schema::integer(1, i64::from(MAX_NODES)), schema::list(&node)] })
}

/// Reads `numa`: a number of nodes that divide the machine evenly, or a list of nodes.
pub(super) fn apply(path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Diagnostics) {
    let Value::List(items) = &node.value else {
        let count: Option<usize> = report.integer(path, node, 1, i64::from(MAX_NODES));
        machine.numa = vec![NumaNode::default(); count.unwrap_or_default()];
        return;
    };
    if items.len() > usize::try_from(MAX_NODES).unwrap_or(usize::MAX) {
        report.error(path, node, format!("too many NUMA nodes: {}, the limit is {MAX_NODES}", items.len()));
        return;
    }
    let nodes: Option<Vec<NumaNode>> =
        items.iter().enumerate().map(|(index, item)| numa_node(&path.index(index), item, report)).collect();
    machine.numa = nodes.unwrap_or_default();
}

fn numa_node(path: &KeyPath, item: &Node, report: &mut Diagnostics) -> Option<NumaNode> {
    let mut numa = NumaNode::default();
    let mut is_valid = true;
    for (key, value) in report.map(path, item)?.iter().filter(|(_, value)| !value.is_null()) {
        let at = path.key(key);
        match key.as_str() {
            "cpus" => match report.text(&at, value).map(|text| ranges(&text)) {
                Some(Some(cpus)) => numa.cpus = cpus,
                Some(None) => {
                    report.expected(&at, value, "CPUs such as `0-3` or `0,2`");
                    is_valid = false;
                }
                None => is_valid = false,
            },
            "memory" => {
                numa.memory = report.size(&at, value, MEBIBYTES).map(round_as_qemu);
                is_valid &= numa.memory.is_some();
            }
            _ => {
                report.unknown_key(&at, value, &KEYS);
                is_valid = false;
            }
        }
    }
    is_valid.then_some(numa)
}

/// Parses numbers and ranges of CPUs between commas.
fn ranges(text: &str) -> Option<Vec<RangeInclusive<u32>>> {
    let number = |text: &str| text.trim().parse().ok().filter(|number| *number < Cpus::MAX);
    let range = |part: &str| match part.split_once('-') {
        None => number(part).map(|cpu| cpu..=cpu),
        Some((first, last)) => Some(number(first)?..=number(last)?).filter(|range| !range.is_empty()),
    };
    text.split(',').map(range).collect()
}
