//! QMP: bytes to messages, sessions, and the locks of monitors.

mod codec;
mod events;
mod monitor_lock;
mod monitors;
mod session;
mod wire;

#[cfg(feature = "fuzzing")]
pub use self::codec::decode_any;
pub(crate) use self::monitor_lock::lock_path;
pub use self::monitors::QemuMonitors;
pub use self::session::QmpSession;
