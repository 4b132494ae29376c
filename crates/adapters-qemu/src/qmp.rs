//! QMP: bytes to messages, sessions, and the queue before a monitor.

mod codec;
mod events;
mod monitors;
mod queue;
mod session;
mod wire;

#[cfg(feature = "fuzzing")]
pub use self::codec::decode_any;
pub use self::monitors::QemuMonitors;
pub(crate) use self::queue::turn_file;
pub use self::session::QmpSession;
