//! `cpu`: the number of CPUs, or their topology.

use serde_json::json;

use super::map_at;
use crate::config::{Diagnostics, KeyPath, Node, Value, schema};
use crate::machine::{Cpus, Machine};

const KEYS: [&str; 3] = ["sockets", "cores", "threads"];

/// Returns the JSON Schema of `cpu`.
pub(super) fn schema() -> serde_json::Value {
    let number = || schema::integer(1, i64::from(Cpus::MAX));
    json!({ "anyOf": [number(), schema::map(KEYS.map(|key| (key, number())).to_vec())] })
}

/// Reads `cpu`: a number, or a map of the levels of the topology; a level that is not given is 1.
pub(super) fn apply(path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Diagnostics) {
    let max = i64::from(Cpus::MAX);
    let Value::Map(entries) = &node.value else {
        if node.as_text().is_some_and(|text| text.starts_with(|first: char| first.is_ascii_alphabetic())) {
            let message = format!("expected an integer from 1 to {max}, found {}", node.description());
            report.error_with_help(path, node, message, Some("for a CPU model, set `cpu_model`".to_owned()));
        } else if let Some(count) = report.integer(path, node, 1, max) {
            machine.cpu = Cpus::Count(count);
        }
        return;
    };
    let mut levels = [1, 1, 1];
    for (key, value) in entries.iter().filter(|(_, value)| !value.is_null()) {
        let at = path.key(key);
        match KEYS.iter().position(|known| known == key) {
            None => report.unknown_key(&at, value, &KEYS),
            Some(level) => match report.integer(&at, value, 1, max) {
                Some(number) => levels[level] = number,
                None => return,
            },
        }
    }
    let [sockets, cores, threads] = levels;
    let topology = Cpus::Topology { sockets, cores, threads };
    if topology.count() > Cpus::MAX {
        let count = u64::from(sockets) * u64::from(cores) * u64::from(threads);
        report.error(path, node, format!("too many CPUs: {count}, the limit is {max}"));
        return;
    }
    machine.cpu = topology;
}

/// Returns the topology of a number of CPUs, which is that of QEMU's `-smp`.
pub(super) fn as_map(node: &Node) -> Option<Node> {
    let count = i64::from(node.written()?.parse::<u32>().ok()?);
    Some(map_at(node, KEYS.map(|key| (key, Value::Int(if key == "cores" { count } else { 1 })))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::reading;

    fn read(cpu: &str) -> (Cpus, Vec<String>) {
        let (machine, problems) = reading::read(&format!(r#"{{"cpu": {cpu}}}"#));
        (machine.cpu, problems)
    }

    #[test]
    fn test_cpu_levels_that_are_not_given_are_one() {
        let topology = |sockets, cores, threads| Cpus::Topology { sockets, cores, threads };

        for (text, expected) in [
            (r#"{"sockets": 2, "cores": 4, "threads": 2}"#, topology(2, 4, 2)),
            (r#"{"cores": "4"}"#, topology(1, 4, 1)),
            (r#"{"threads": 2, "cores": null}"#, topology(1, 1, 2)),
            ("{}", topology(1, 1, 1)),
            ("4", Cpus::Count(4)),
            (r#""4""#, Cpus::Count(4)),
        ] {
            assert_eq!(read(text), (expected, Vec::new()), "{text}");
        }
    }

    #[test]
    fn test_cpu_wrong_level_is_one_error() {
        for (text, expected) in [
            (r#"{"cores": 0}"#, "cpu.cores: expected an integer from 1 to 1024, found the number `0`"),
            (r#"{"core": 2}"#, "cpu.core: unknown key `core`"),
            (r#"{"sockets": 64, "cores": 32}"#, "cpu: too many CPUs: 2048, the limit is 1024"),
            (
                r#"{"sockets": 1024, "cores": 1024, "threads": 1024}"#,
                "cpu: too many CPUs: 1073741824, the limit is 1024",
            ),
            ("[2]", "cpu: expected an integer from 1 to 1024, found a list"),
        ] {
            assert_eq!(read(text).1, [expected], "{text}");
        }
    }
}
