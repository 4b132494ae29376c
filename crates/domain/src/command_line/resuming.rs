//! A machine that goes on from a checkpoint: its memory is a mapped file, and its devices are loaded.

use std::path::Path;

use super::{CommandLine, PathNotUtf8, utf8};
use crate::qemu::Switch;

/// The memory of a machine that goes on from a checkpoint.
#[derive(Debug, Clone, Copy)]
pub struct MappedMemory<'a> {
    /// The machine type with its version.
    pub machine_type: &'a str,
    /// The name of the RAM block.
    pub block: &'a str,
    /// Its size in bytes.
    pub bytes: u64,
    /// The file with its content, which stays as it is.
    pub file: &'a Path,
    /// Whether QEMU can open it only for reading.
    pub is_read_only: bool,
}

impl CommandLine {
    /// Returns this command line for a machine that goes on from a checkpoint, once its state was loaded: its memory is a
    /// private mapping of a file.
    pub fn resuming(mut self, memory: &MappedMemory<'_>) -> Result<Self, PathNotUtf8> {
        let MappedMemory { machine_type, block, bytes, file, is_read_only } = *memory;
        let backend = Switch::new("object").head("memory-backend-file").option("id", block);
        let backend = backend.option("size", bytes.to_string()).option("mem-path", utf8(file)?).flag("share", false);
        // Without this, QEMU opens it for writing, and writes nothing.
        let backend = if is_read_only { backend.flag("readonly", true).flag("rom", false) } else { backend };
        // QEMU merges it with the others.
        let machine = Switch::new("machine").option("type", machine_type).option("memory-backend", block);
        let incoming = Switch::new("incoming").head("defer");
        self.args.extend([backend, machine, incoming].iter().flat_map(Switch::args));
        Ok(self.paused())
    }
}

/// Returns the arguments of a QEMU without those that [`CommandLine::resuming`] adds: the same machine, as it boots.
pub fn without_resuming(args: &[String]) -> Vec<String> {
    let is_added = |window: &[String]| match window {
        [object, backend, machine, memory, incoming, defer] => {
            object == "-object"
                && backend.starts_with("memory-backend-file,id=")
                && machine == "-machine"
                && memory.starts_with("type=")
                && memory.contains(",memory-backend=")
                && incoming == "-incoming"
                && defer == "defer"
        }
        _ => false,
    };
    match args.windows(ADDED).position(is_added) {
        Some(position) => args.iter().take(position).chain(args.iter().skip(position + ADDED)).cloned().collect(),
        None => args.to_vec(),
    }
}

/// How many arguments are added, besides that of a paused start.
const ADDED: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> CommandLine {
        let args = ["-machine", "q35", "-m", "16M", "-object", "rng-random,id=r"].map(str::to_owned).to_vec();
        CommandLine { binary: "/usr/bin/qemu".into(), args, helpers: Vec::new() }
    }

    #[test]
    fn test_without_resuming_returns_the_arguments_of_a_boot() {
        for is_read_only in [false, true] {
            let memory = MappedMemory {
                machine_type: "pc-q35-7.2",
                block: "pc.ram",
                bytes: 16 << 20,
                file: Path::new("/d/a,b/ram"),
                is_read_only,
            };

            let resuming = plain().resuming(&memory).unwrap();

            let saved: Vec<String> = resuming.args().iter().filter(|argument| *argument != "-S").cloned().collect();
            assert_eq!(saved.len(), plain().args.len() + ADDED);
            assert_eq!(without_resuming(&saved), plain().args);
        }
    }

    #[test]
    fn test_without_resuming_leaves_other_memory_alone() {
        let args = ["-object", "memory-backend-file,id=m,size=16M,mem-path=/d/ram", "-machine", "memory-backend=m"];
        let args = args.map(str::to_owned);

        assert_eq!(without_resuming(&args), args);
    }
}
