//! Commands killed with SIGKILL, at every fault point and at random moments: nothing is lost.

mod aftermath;
mod moments;
mod points;
mod scenario;
