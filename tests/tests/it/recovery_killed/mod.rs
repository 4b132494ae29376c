//! Killed with SIGKILL, at every step that has a name and at moments that chance chooses: nothing is lost by it.

mod aftermath;
mod moments;
mod points;
mod scenario;
