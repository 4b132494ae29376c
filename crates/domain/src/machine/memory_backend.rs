//! Memory backends under `arguments`, which a drive that shares the memory of the VM uses instead of one of maqet's.

use super::Machine;
use super::switches::{Refusal, UserSwitch};
use crate::qemu::{OptionString, option_value};
use crate::size::ByteSize;

/// The ID of the backend that maqet adds.
pub(crate) const SHARED_MEMORY: &str = "shared-memory";

/// A memory backend of the user's.
#[derive(Debug, Clone, PartialEq, Eq)]
struct MemoryBackend {
    id: String,
    is_shared: bool,
    /// `None` if it has none, or one that only QEMU can read.
    size: Option<ByteSize>,
}

/// Where the memory comes from that a drive shares with another process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SharedMemory {
    /// From a backend that maqet adds.
    Added,
    /// From a backend of the user's, which `-machine` must name.
    Named(String),
    /// From backends of the user's that the memory of the VM is made of already.
    InUse,
}

impl Machine {
    /// Returns where the memory comes from that drives share.
    pub(crate) fn shared_memory(&self) -> SharedMemory {
        let backends = self.memory_backends();
        if !self.numa.is_empty() {
            // The nodes have backends of their own.
            return SharedMemory::Added;
        }
        if backends.iter().any(|backend| self.is_memory(&backend.id)) {
            return SharedMemory::InUse;
        }
        match backends.as_slice() {
            [only] => SharedMemory::Named(only.id.clone()),
            [] | [_, _, ..] => SharedMemory::Added,
        }
    }

    /// Returns why a memory backend is refused: a drive shares the memory of the VM, and it does not.
    pub(super) fn unshared_memory(&self, options: &OptionString) -> Option<Refusal> {
        let share = self.storage.iter().find(|storage| storage.driver.features().shared_memory)?;
        let backend = memory_backend(options).filter(|backend| !backend.is_shared)?;
        let is_memory = match self.shared_memory() {
            SharedMemory::Added => false,
            SharedMemory::Named(id) => id == backend.id,
            SharedMemory::InUse => self.is_memory(&backend.id),
        };
        is_memory.then(|| Refusal {
            message: format!(
                "drive `{}` shares the memory of the VM, and backend `{}` does not",
                share.name, backend.id
            ),
            help: "add `share: on` to it".to_owned(),
        })
    }

    /// Returns the backends, and the NUMA nodes of the user's, that have another size than the memory of the VM.
    pub(super) fn memory_size_refusals<'s, 'd>(
        &self,
        switches: &'s [UserSwitch<'d>],
    ) -> Vec<(&'s UserSwitch<'d>, Refusal)> {
        let mut ram_sizes = self.user_options("m");
        if ram_sizes.next_back().is_some_and(|ram| ram.get("size").is_none()) {
            // QEMU takes the size of the backend.
            return Vec::new();
        }
        let refusal = |part: String, size: ByteSize, help: String| Refusal {
            message: format!("{part} {size}, and the VM has {} of memory", self.ram()),
            help,
        };
        let differs = |size: &ByteSize| *size != self.ram();
        let of_machine = |switch: &UserSwitch<'_>| {
            let backend = memory_backend(switch.options()).filter(|_| switch.name == "object")?;
            let is_whole = self.is_memory_of_machine(&backend.id) || self.is_shared_as_named(&backend.id);
            let size = backend.size.filter(|size| is_whole && differs(size))?;
            let help = format!("set `memory: {size}`, or `size={}` for the backend", self.ram());
            Some(refusal(format!("memory backend `{}` has", backend.id), size, help))
        };
        let backends = switches.iter().filter_map(|switch| Some((switch, of_machine(switch)?)));
        let last_node = switches.iter().rfind(|switch| switch.name == "numa" && switch.options().head() == "node");
        let nodes = last_node.zip(self.numa_backends_size().filter(differs)).map(|(switch, size)| {
            let help = format!("set `memory: {size}`, or change the sizes of the backends");
            (switch, refusal("the backends of the NUMA nodes have".to_owned(), size, help))
        });
        backends.chain(nodes).collect()
    }

    /// Returns the size of the backends of the user's NUMA nodes together; `None` if one of them is not known.
    fn numa_backends_size(&self) -> Option<ByteSize> {
        let backends: Vec<MemoryBackend> =
            self.user_options("object").filter_map(|object| memory_backend(&object)).collect();
        let nodes = self.user_options("numa").filter(|node| node.head() == "node");
        let sizes = nodes.filter(|node| node.get("memdev").is_some()).map(|node| {
            let backend = backends.iter().find(|backend| Some(backend.id.as_str()) == node.get("memdev"))?;
            backend.size
        });
        let sizes = sizes.collect::<Option<Vec<ByteSize>>>()?;
        let total = sizes.iter().fold(0, |total: u64, size| total.saturating_add(size.bytes()));
        (!sizes.is_empty()).then(|| ByteSize::from_bytes(total))
    }

    /// Returns whether maqet makes this backend the memory of the VM.
    fn is_shared_as_named(&self, id: &str) -> bool {
        let is_shared = self.storage.iter().any(|storage| storage.driver.features().shared_memory);
        is_shared && self.shared_memory() == SharedMemory::Named(id.to_owned())
    }

    /// Returns the backends that are not the memory of a device.
    fn memory_backends(&self) -> Vec<MemoryBackend> {
        let backends = self.user_options("object").filter_map(|object| memory_backend(&object));
        let of_device = |id: &str| self.user_options("device").any(|device| device.get("memdev") == Some(id));
        // The ID of maqet's own is refused elsewhere.
        backends.filter(|backend| backend.id != SHARED_MEMORY && !of_device(&backend.id)).collect()
    }

    /// Returns whether `-machine` or `-numa` makes this backend the memory of the VM.
    fn is_memory(&self, id: &str) -> bool {
        self.is_memory_of_machine(id) || self.user_options("numa").any(|node| node.get("memdev") == Some(id))
    }

    /// Returns whether `-machine` makes this backend the whole memory of the VM.
    fn is_memory_of_machine(&self, id: &str) -> bool {
        let of_machine =
            self.machine_type.iter().filter_map(|switch| switch.argument()).chain(self.user_arguments("machine"));
        let mut named = of_machine.filter_map(|text| option_value(text, "memory-backend"));
        named.any(|named| named == id)
    }
}

/// Reads the argument of a `-object` that is a memory backend. That of `memfd` is shared by default (7.2, 10.0).
fn memory_backend(object: &OptionString) -> Option<MemoryBackend> {
    let kind = object.head().strip_prefix("memory-backend-")?;
    let is_shared = if object.get("share").is_some() { object.is_on("share") == Some(true) } else { kind == "memfd" };
    let size = object.get("size").and_then(|size| ByteSize::parse_with_bare_unit(size, 0).ok());
    Some(MemoryBackend { id: object.get("id")?.to_owned(), is_shared, size })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::reading;

    fn read(arguments: &str) -> (Machine, Vec<String>) {
        reading::read(&format!(
            r#"{{"storage": [{{"name": "s", "type": "virtiofs", "socket": "/r/s"}}], "arguments": [{arguments}]}}"#
        ))
    }

    #[test]
    fn test_shared_memory_is_that_of_the_user() {
        const OBJECT: &str = r#"{"object": "memory-backend-file,id=mem,size=2G,mem-path=/dev/shm,share=on"}"#;
        for (rest, expected) in [
            ("", SharedMemory::Named("mem".to_owned())),
            (r#", {"machine": "q35,memory-backend=mem"}"#, SharedMemory::InUse),
            (r#", {"numa": "node,memdev=mem"}"#, SharedMemory::InUse),
            (r#", {"device": "pc-dimm,memdev=mem"}"#, SharedMemory::Added),
            (r#", {"object": "memory-backend-ram,id=other,size=1G"}"#, SharedMemory::Added),
        ] {
            let (machine, problems) = read(&format!("{OBJECT}{rest}"));

            assert_eq!((machine.shared_memory(), problems), (expected, Vec::new()), "{rest}");
        }
        assert_eq!(read(r#"{"object": "rng-random,id=mem"}"#).0.shared_memory(), SharedMemory::Added);
    }

    #[test]
    fn test_memory_backend_that_is_not_shared_is_an_error() {
        let message = "arguments[0]: drive `s` shares the memory of the VM, and backend `m` does not";
        for (object, is_valid) in [
            ("memory-backend-ram,id=m,size=2G", false),
            ("memory-backend-file,id=m,size=2G,mem-path=/x,share=off", false),
            ("memory-backend-memfd,id=m,size=2G,share=off", false),
            ("memory-backend-memfd,id=m,size=2G", true),
            ("memory-backend-ram,id=m,size=2G,share=on", true),
        ] {
            let problems = read(&format!(r#"{{"object": "{object}"}}"#)).1;

            assert_eq!(problems, if is_valid { vec![] } else { vec![message.to_owned()] }, "{object}");
        }
    }
    #[test]
    fn test_memory_backend_of_another_size_is_an_error() {
        const BACKEND: &str = r#"{"object": "memory-backend-ram,id=m,size=32M,share=on"}"#;
        let message = |at: usize, part: &str| format!("arguments[{at}]: {part}, and the VM has 64M of memory");
        let backend = message(0, "memory backend `m` has 32M");
        let problems = |key: &str, arguments: &str| {
            reading::read(&format!(r#"{{{key} "machine": "q35", "arguments": [{arguments}]}}"#)).1
        };
        let (ram, named) = (r#""memory": "64M","#, format!(r#"{BACKEND}, {{"machine": "memory-backend=m"}}"#));
        let shared = format!(r#"{ram} "storage": [{{"name": "s", "type": "virtiofs", "socket": "/r/s"}}],"#);

        assert_eq!(problems(ram, &named), [backend.as_str()]);
        assert_eq!(problems(ram, &named.replace("32M", "33554432")), [backend.as_str()]);
        assert_eq!(problems(&shared, BACKEND), [backend.as_str()]);
        assert_eq!(problems("", &format!(r#"{named}, {{"m": "64M"}}"#)), [backend.as_str()]);
        for (key, valid) in [
            (ram, BACKEND.to_owned()),
            (ram, named.replace("32M", "65536k")),
            (ram, named.replace("32M", "0x4000000")),
            (r#""memory": "32M","#, named.clone()),
            // The size of RAM is that of the backend.
            ("", format!(r#"{named}, {{"m": "slots=2,maxmem=1G"}}"#)),
            (shared.as_str(), format!(r#"{BACKEND}, {{"device": "pc-dimm,memdev=m"}}"#)),
        ] {
            assert_eq!(problems(key, &valid), [""; 0], "{key} {valid}");
        }
    }

    #[test]
    fn test_memory_backends_of_nodes_make_up_the_memory() {
        let problems = |second: &str| {
            let objects = ["m", "n"].map(|id| format!(r#"{{"object": "memory-backend-ram,id={id},size=32M"}}"#));
            let arguments = [&objects[0], &objects[1], r#"{"numa": "node,memdev=m"}"#, second].join(",");
            reading::read(&format!(r#"{{"memory": "64M", "cpu": 2, "arguments": [{arguments}]}}"#)).1
        };

        assert_eq!(
            problems(r#"{"numa": "node,cpus=0-1"}"#),
            ["arguments[3]: the backends of the NUMA nodes have 32M, and the VM has 64M of memory"]
        );
        assert_eq!(problems(r#"{"numa": "node,memdev=n"}"#), [""; 0]);
        assert_eq!(problems(r#"{"numa": "node,memdev=unknown"}"#), [""; 0]);
    }
}
