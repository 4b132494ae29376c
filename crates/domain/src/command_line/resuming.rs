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

/// Returns the arguments of a QEMU without those that [`CommandLine::resuming`] or [`CommandLine::taking_over`] adds, and
/// without that of a paused start: the same machine, as it boots.
pub fn without_resuming(args: &[String]) -> Vec<String> {
    let args: Vec<String> = args.iter().filter(|argument| *argument != "-S").cloned().collect();
    let is_machine = |argument: &str, is_mapped: bool| {
        argument.strip_prefix("type=").is_some_and(|rest| rest.contains(",memory-backend=") == is_mapped)
    };
    let is_incoming = |switch: &str, value: &str| switch == "-incoming" && value == "defer";
    let added = match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [.., "-object", backend, "-machine", machine, incoming, defer]
            if backend.starts_with("memory-backend-file,id=")
                && is_machine(machine, true)
                && is_incoming(incoming, defer) =>
        {
            6
        }
        [.., "-machine", machine, incoming, defer] if is_machine(machine, false) && is_incoming(incoming, defer) => 4,
        _ => 0,
    };
    args.into_iter().rev().skip(added).rev().collect()
}

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

            assert_eq!(resuming.args().len(), plain().args.len() + 7);
            assert_eq!(without_resuming(resuming.args()), plain().args);
        }
        let successor = plain().taking_over("pc-q35-7.2");
        assert_eq!(without_resuming(successor.args()), plain().args);
    }

    #[test]
    fn test_without_resuming_leaves_other_memory_alone() {
        let args = ["-object", "memory-backend-file,id=m,size=16M,mem-path=/d/ram", "-machine", "memory-backend=m"];
        let args = args.map(str::to_owned);

        assert_eq!(without_resuming(&args), args);
    }
}
