//! Putting a running guest into another QEMU, without a boot.
//!
//! ```text
//!          the other QEMU   guest is    state was   recorded as     the other
//!  idle ──▶ waits ────────▶ paused ───▶ loaded ───▶ the run ──────▶ runs ──────▶ the first is ended
//!             │                │            │            │             │
//!             └── the other is ended, the guest goes on ─┘             └── finished
//! ```
//!
//! Two QEMUs have the images of the VM open, and only one of them uses them: the first gives them up when its state is
//! complete, and the other takes them when its guest is to run. What the VM has as its run decides in which of them the
//! guest is; that is changed in one commit, between the two.
//!
//! | module | holds |
//! | --- | --- |
//! | `error` | why a guest is not put into another QEMU |
//! | `forwards` | the forwarded ports, of which one QEMU at a time can have each |
//! | `handover` | the steps |
//! | `plan` | what keeps a guest from being put into another QEMU, and how it gets there |
//! | `recover` | what becomes of the work of a process that was killed |
//! | `successor` | the QEMU that is to take over |

pub(crate) mod error;
mod forwards;
pub(crate) mod handover;
pub(crate) mod plan;
pub(crate) mod recover;
mod successor;
