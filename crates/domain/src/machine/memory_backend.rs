//! Memory backends under `arguments`, which a drive that shares the memory of the VM uses instead of one of maqet's.

use super::Machine;
use super::switches::Refusal;
use crate::qemu::{OptionString, option_value};

/// The ID of the backend that maqet adds.
pub(crate) const SHARED_MEMORY: &str = "shared-memory";

/// A memory backend of the user's.
#[derive(Debug, Clone, PartialEq, Eq)]
struct MemoryBackend {
    id: String,
    is_shared: bool,
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

    /// Returns the backends that are not the memory of a device.
    fn memory_backends(&self) -> Vec<MemoryBackend> {
        let backends = self.user_options("object").filter_map(|object| memory_backend(&object));
        let of_device = |id: &str| self.user_options("device").any(|device| device.get("memdev") == Some(id));
        // The ID of maqet's own is refused elsewhere.
        backends.filter(|backend| backend.id != SHARED_MEMORY && !of_device(&backend.id)).collect()
    }

    /// Returns whether `-machine` or `-numa` makes this backend the memory of the VM.
    fn is_memory(&self, id: &str) -> bool {
        let of_machine =
            self.machine_type.iter().filter_map(|switch| switch.argument()).chain(self.user_arguments("machine"));
        let mut named = of_machine.filter_map(|text| option_value(text, "memory-backend"));
        named.any(|named| named == id) || self.user_options("numa").any(|node| node.get("memdev") == Some(id))
    }
}

/// Reads the argument of a `-object` that is a memory backend. That of `memfd` is shared by default (7.2, 10.0).
fn memory_backend(object: &OptionString) -> Option<MemoryBackend> {
    let kind = object.head().strip_prefix("memory-backend-")?;
    let is_shared = if object.get("share").is_some() { object.is_on("share") == Some(true) } else { kind == "memfd" };
    Some(MemoryBackend { id: object.get("id")?.to_owned(), is_shared })
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
        const OBJECT: &str = r#"{"object": "memory-backend-file,id=mem,size=1G,mem-path=/dev/shm,share=on"}"#;
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
            ("memory-backend-ram,id=m,size=1G", false),
            ("memory-backend-file,id=m,size=1G,mem-path=/x,share=off", false),
            ("memory-backend-memfd,id=m,size=1G,share=off", false),
            ("memory-backend-memfd,id=m,size=1G", true),
            ("memory-backend-ram,id=m,size=1G,share=on", true),
        ] {
            let problems = read(&format!(r#"{{"object": "{object}"}}"#)).1;

            assert_eq!(problems, if is_valid { vec![] } else { vec![message.to_owned()] }, "{object}");
        }
    }
}
