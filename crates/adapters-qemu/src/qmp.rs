//! QMP: bytes to messages, sessions, and the queue before a monitor.

mod codec;
mod monitors;
mod queue;
mod session;
mod wire;

pub use self::monitors::QemuMonitors;
pub(crate) use self::queue::turn_file;
pub use self::session::QmpSession;
