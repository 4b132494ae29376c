//! Killed with SIGKILL, at every step that has a name and at moments that chance chooses: nothing is lost by it.

#![expect(clippy::unwrap_used, reason = "what helps a test fails it by panicking, too")]

mod aftermath;
mod moments;
mod points;
mod scenario;
