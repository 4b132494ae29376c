//! NUMA nodes: which CPUs and how much RAM are close to each other.

use std::ops::RangeInclusive;

use super::Machine;
use super::ram::GRAIN;
use crate::config::{Diagnostics, KeyPath, Node};
use crate::qemu::{Switch, option_value};
use crate::size::ByteSize;

/// The number of nodes that QEMU supports (`MAX_NODES`, 7.2).
pub(super) const MAX_NODES: u32 = 128;

/// Switches that change what the nodes divide, or the division itself.
const EXCLUDED: [&str; 4] = ["smp", "m", "mem-path", "mem-prealloc"];

/// A NUMA node of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NumaNode {
    /// Its CPUs, by number from 0; if empty, as in every other node then, the CPUs are divided evenly.
    pub cpus: Vec<RangeInclusive<u32>>,
    /// Its RAM; if `None`, as in every other node then, RAM is divided evenly.
    pub memory: Option<ByteSize>,
}

impl Machine {
    /// Returns the NUMA nodes with their CPUs and their RAM; none unless the machine has the key `numa`.
    fn numa_nodes(&self) -> Vec<(Vec<RangeInclusive<u32>>, ByteSize)> {
        let nodes = self.numa.iter().zip(divide(u64::from(self.cpu.count()), self.numa.len(), 1));
        let mut first = 0;
        let cpus = nodes.map(|(node, share)| {
            let share = u32::try_from(share).unwrap_or(u32::MAX);
            let even = first..=(first + share).saturating_sub(1);
            first += share;
            if node.cpus.is_empty() { vec![even] } else { node.cpus.clone() }
        });
        let memory = divide(self.memory.bytes(), self.numa.len(), GRAIN).into_iter().map(ByteSize::from_bytes);
        let nodes = self.numa.iter().zip(cpus).zip(memory);
        nodes.map(|((node, cpus), even)| (cpus, node.memory.unwrap_or(even))).collect()
    }

    /// Returns the switches of the NUMA nodes; `is_shared` tells whether other processes access the memory.
    pub(crate) fn numa_switches(&self, is_shared: bool) -> Vec<Switch> {
        let nodes = self.numa_nodes().into_iter().enumerate();
        let switches = nodes.flat_map(|(index, (cpus, memory))| {
            let id = memory_id(index);
            let backend = if is_shared { "memory-backend-memfd" } else { "memory-backend-ram" };
            let object = Switch::new("object").head(backend).option("id", &id).option("size", memory.to_string());
            let object = if is_shared { object.flag("share", true) } else { object };
            let node = Switch::new("numa").head("node").option("nodeid", index.to_string()).option("memdev", id);
            let node = cpus.iter().fold(node, |node, range| node.option("cpus", text_of(range)));
            [object, node]
        });
        switches.collect()
    }

    /// Reports nodes that do not divide the CPUs and the RAM of the machine.
    pub(super) fn check_numa(&self, definition: &Node, report: &mut Diagnostics) {
        if self.numa.is_empty() {
            return;
        }
        let node = definition.get("numa").unwrap_or(definition);
        let mut error = |message: String, help: &str| {
            report.error_with_help(&KeyPath::top("numa"), node, message, Some(help.to_owned()));
        };
        // Others, such as `dist`, refer to the nodes.
        let second = self.user_options("numa").any(|node| node.head() == "node").then_some("numa node");
        if let Some(switch) = EXCLUDED.into_iter().find(|name| self.has_switch(name)).or(second) {
            error(format!("`numa` cannot be combined with `-{switch}`"), "use the keys `cpu`, `memory` and `numa`");
            return;
        }
        // That of each node is a backend of its own.
        if self.machine_arguments().any(|argument| option_value(argument, "memory-backend").is_some()) {
            error("`numa` cannot be combined with a `memory-backend` of `-machine`".to_owned(), "remove one of them");
            return;
        }
        if let Some(message) = self.wrong_cpus() {
            error(message, "each CPU belongs to one node; without `cpus`, they are divided evenly");
        }
        if let Some(message) = self.wrong_memory() {
            error(message, "without `memory` in the nodes, it is divided evenly");
        }
    }

    fn wrong_cpus(&self) -> Option<String> {
        let (count, nodes) = (self.cpu.count(), self.numa.len());
        let with_cpus = self.numa.iter().filter(|node| !node.cpus.is_empty()).count();
        if with_cpus == 0 {
            let is_short = u64::from(count) < u64::try_from(nodes).unwrap_or(u64::MAX);
            return is_short.then(|| format!("{nodes} nodes need at least {nodes} CPUs, and the VM has {count}"));
        }
        let mut owners = vec![None; usize::try_from(count).unwrap_or_default()];
        let listed = self.numa.iter().enumerate();
        for (owner, cpu) in
            listed.flat_map(|(owner, node)| node.cpus.iter().cloned().flatten().map(move |cpu| (owner, cpu)))
        {
            match usize::try_from(cpu).ok().and_then(|cpu| owners.get_mut(cpu)) {
                None => return Some(format!("node {owner} has CPU {cpu}, and the VM has CPUs 0 to {}", count - 1)),
                Some(Some(other)) if *other == owner => return Some(format!("CPU {cpu} is in node {owner} twice")),
                Some(Some(other)) => return Some(format!("CPU {cpu} is in node {other} and in node {owner}")),
                Some(free) => *free = Some(owner),
            }
        }
        let missing = owners.iter().position(Option::is_none);
        missing.map(|cpu| format!("CPU {cpu} is in no node"))
    }

    fn wrong_memory(&self) -> Option<String> {
        let sizes: Vec<ByteSize> = self.numa.iter().filter_map(|node| node.memory).collect();
        if sizes.is_empty() {
            return None;
        }
        if let Some(index) = self.numa.iter().position(|node| node.memory.is_none()) {
            return Some(format!("node {index} has no `memory`, and others have"));
        }
        let total = sizes.iter().fold(0, |total: u64, size| total.saturating_add(size.bytes()));
        let total = ByteSize::from_bytes(total);
        (total != self.memory).then(|| format!("the nodes have {total} of memory, and the VM has {}", self.memory))
    }
}

fn memory_id(index: usize) -> String {
    format!("numa{index}")
}

/// Returns the CPUs of a range as QEMU and the key `cpus` write them.
fn text_of(range: &RangeInclusive<u32>) -> String {
    let (first, last) = (range.start(), range.end());
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

/// Divides `total` into `parts` multiples of `unit` that differ by one unit at most; the last one gets what remains.
fn divide(total: u64, parts: usize, unit: u64) -> Vec<u64> {
    let Ok(parts) = u64::try_from(parts) else { return Vec::new() };
    let units = total / unit;
    let end = |part: u64| units / parts * part + units % parts * part / parts;
    let mut shares: Vec<u64> = (0..parts).map(|part| (end(part + 1) - end(part)) * unit).collect();
    if let Some(last) = shares.last_mut() {
        *last += total % unit;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::reading::read;

    #[track_caller]
    fn switches(definition: &str) -> Vec<String> {
        let (machine, problems) = read(definition);
        assert_eq!(problems, [""; 0], "{definition}");
        let is_shared = machine.storage.iter().any(|storage| storage.driver.features().shared_memory);
        machine.numa_switches(is_shared).iter().filter_map(|switch| Some(switch.argument()?.to_owned())).collect()
    }

    #[test]
    fn test_numa_number_divides_cpus_and_memory() {
        assert_eq!(
            switches(r#"{"numa": 2, "cpu": 5, "memory": "1G"}"#),
            [
                "memory-backend-ram,id=numa0,size=512M",
                "node,nodeid=0,memdev=numa0,cpus=0-1",
                "memory-backend-ram,id=numa1,size=512M",
                "node,nodeid=1,memdev=numa1,cpus=2-4",
            ]
        );
        let with_distances = r#"{"numa": 1, "arguments": [{"numa": {"dist": null, "src": 0, "dst": 0, "val": 10}}]}"#;
        assert_eq!(switches(with_distances)[1], "node,nodeid=0,memdev=numa0,cpus=0");
    }

    #[test]
    fn test_numa_list_gives_each_node_its_part() {
        let nodes = r#"{"cpu": {"sockets": 2, "cores": 2}, "memory": "1G", "numa": [
            {"cpus": "0-1,3", "memory": "768M"}, {"cpus": 2, "memory": "256M"}]"#;

        assert_eq!(
            switches(&format!("{nodes}}}")),
            [
                "memory-backend-ram,id=numa0,size=768M",
                "node,nodeid=0,memdev=numa0,cpus=0-1,cpus=3",
                "memory-backend-ram,id=numa1,size=256M",
                "node,nodeid=1,memdev=numa1,cpus=2",
            ]
        );
        let shared = format!(r#"{nodes}, "storage": [{{"name": "s", "type": "virtiofs", "socket": "/r/s"}}]}}"#);
        assert_eq!(switches(&shared)[0], "memory-backend-memfd,id=numa0,size=768M,share=on");
    }

    #[test]
    fn test_numa_that_does_not_divide_the_machine_is_refused() {
        for (rest, expected) in [
            (r#""numa": 3, "cpu": 2"#, "numa: 3 nodes need at least 3 CPUs, and the VM has 2"),
            (r#""numa": 129, "cpu": 200"#, "numa: expected an integer from 1 to 128, found the number `129`"),
            (r#""cpu": 2, "numa": [{"cpus": "0"}, {"cpus": "0-1"}]"#, "numa: CPU 0 is in node 0 and in node 1"),
            (r#""cpu": 2, "numa": [{"cpus": "0-1,1"}]"#, "numa: CPU 1 is in node 0 twice"),
            (r#""cpu": 2, "numa": [{"cpus": "0-2"}]"#, "numa: node 0 has CPU 2, and the VM has CPUs 0 to 1"),
            (r#""cpu": 2, "numa": [{"cpus": "0"}, {}]"#, "numa: CPU 1 is in no node"),
            (r#""cpu": 2, "numa": [{"memory": "2G"}, {}]"#, "numa: node 1 has no `memory`, and others have"),
            (
                r#""cpu": 2, "numa": [{"memory": "1G"}, {"memory": "512M"}]"#,
                "numa: the nodes have 1536M of memory, and the VM has 2G",
            ),
            (r#""cpu": 2, "numa": 2, "arguments": [{"m": "4G"}]"#, "numa: `numa` cannot be combined with `-m`"),
            (r#""numa": 1, "args": ["-numa", "node,cpus=0"]"#, "numa: `numa` cannot be combined with `-numa node`"),
            (
                r#""numa": [{"cpus": "1-0"}]"#,
                "numa[0].cpus: expected CPUs such as `0-3` or `0,2`, found the string `1-0`",
            ),
            (
                r#""numa": [{"cpus": "0;1"}]"#,
                "numa[0].cpus: expected CPUs such as `0-3` or `0,2`, found the string `0;1`",
            ),
            (r#""numa": [{"cpu": "0"}]"#, "numa[0].cpu: unknown key `cpu`"),
        ] {
            assert_eq!(read(&format!("{{{rest}}}")).1, [expected], "{rest}");
        }
    }

    #[test]
    fn test_numa_parts_add_up_to_the_whole() {
        for (total, parts, unit) in [(7, 3, 1), (2 << 30, 3, GRAIN), ((1 << 20) + 5, 4, GRAIN), (3, 3, 1)] {
            let shares = divide(total, parts, unit);

            assert_eq!((shares.len(), shares.iter().sum::<u64>()), (parts, total));
            assert!(shares.iter().all(|share| *share > 0), "{shares:?}");
        }
    }
}
