//! Checkpoints of running machines: what is recorded of each, and how the state that QEMU saves is taken apart.
//!
//! A checkpoint is a directory that describes itself, `checkpoints/VM-ID/NAME/`: the [manifest](CheckpointManifest), the
//! memory in a sparse file, the state of the devices as a migration stream without the memory ([`StreamReader`]), and a
//! copy of the UEFI variables. The content of its disks stays where it is, in images that nothing writes to any more.
//!
//! A directory named `NAME.partial`, or one without a manifest, is an unfinished checkpoint.

mod host_cpu;
pub mod ladder;
mod manifest;
mod name;
pub mod stream;
mod template;

pub use self::host_cpu::{cpu_difference, has_host_cpu};
pub use self::manifest::{
    CheckpointManifest, CheckpointMethod, CheckpointProblem, CheckpointQemu, CheckpointVm, CopiedFile, FrozenDisk,
    MANIFEST_FILE, MANIFEST_FORMAT, MemoryFile, RAM_FILE, STATE_FILE, STREAM_FILE, StateFile, UNFINISHED_SUFFIX,
};
pub use self::name::{CheckpointName, InvalidCheckpointName};
pub use self::stream::{PAGE_BYTES, Piece, RamBlock, StreamError, StreamFacts, StreamReader};
pub use self::template::{TemplateFile, TemplateInputs, TemplateRecord, TemplateSource};
