//! Operations on detached commands, which `exec` has started.

mod attach;
mod ls;
mod stop;

pub use self::attach::ExecAttach;
pub use self::ls::ExecLs;
pub use self::stop::{DetachedEnded, ExecStop};
