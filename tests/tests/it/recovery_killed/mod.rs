//! Commands killed with SIGKILL, at every fault point and at random moments: nothing is lost.

mod aftermath;
mod moments;
mod points;
mod scenario;

/// How many commands are killed at the same time: most of the time they and their aftermath wait for the disk or a QEMU.
const THREADS: usize = 4;
