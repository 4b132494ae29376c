//! The adapters against the real world: QEMU, `qemu-img`, and monitors that misbehave.

#![expect(clippy::unwrap_used, reason = "clippy knows tests by their attribute, and helpers have none")]

mod binary;
mod checkpoints;
mod consoles;
mod convert;
mod damaged_images;
mod fake_monitor;
mod firmware;
mod hostile_answer;
mod hostile_monitor;
mod images;
mod kit;
mod launch;
mod monitors;
mod sessions;
mod snapshots;
