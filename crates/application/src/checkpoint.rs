//! Checkpoints of running VMs: memory, devices and disks of one moment, taken while the guest runs on.
//!
//! ```text
//!          overlays are      disks are      QEMU writes      stream is          directory
//!  idle ──▶ prepared ──────▶ frozen ──────▶ writing ───────▶ sorting ─────────▶ complete
//!              │                │              │                │
//!              ▼                ▼              ▼                ▼
//!           undone          layers are merged again         done again from the stream
//! ```
//!
//! The work is committed before its first step, with all that its end needs. From `frozen` to `writing` the guest is paused,
//! for a few milliseconds: its disks get new layers, and QEMU takes the state of the devices. Then it runs on, and QEMU
//! writes the memory, whether maqet is there or not. Which steps were done is found in QEMU and in the files, not in what
//! was recorded.
//!
//! | module | holds |
//! | --- | --- |
//! | `branches` | the layers of a VM after it went back to a checkpoint |
//! | `cancel` | how another process has a checkpoint given up |
//! | `create` | taking a checkpoint |
//! | `error` | why a checkpoint is not taken, found or removed |
//! | `layers` | what layers keep from being changed |
//! | `merge` | removing checkpoints, and merging the layers that nothing needs any more |
//! | `place` | the checkpoints of a VM |
//! | `preflight` | what keeps a VM from being saved, and how it is saved |
//! | `recover` | what becomes of the work of a process that was killed |
//! | `restore` | the disks of a VM that goes back to a checkpoint, and what becomes of them if that fails |
//! | `resume` | a QEMU that goes on from a checkpoint |
//! | `saver` | the steps in QEMU |

pub(crate) mod branches;
pub(crate) mod cancel;
pub(crate) mod create;
pub(crate) mod error;
pub(crate) mod layers;
pub(crate) mod merge;
pub(crate) mod place;
pub(crate) mod preflight;
pub(crate) mod recover;
pub(crate) mod restore;
pub(crate) mod resume;
pub(crate) mod saver;
