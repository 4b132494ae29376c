//! Defining, changing, starting, stopping and removing VMs.

mod add;
mod apply;
mod power;
mod restart;
mod rm;
pub(crate) mod start;
pub(super) mod stop;
mod upgrade;

pub(crate) use self::add::new_vm;
pub use self::add::{Add, Added};
pub(crate) use self::apply::reverting;
pub use self::apply::{Applied, Apply, Changed, TakesEffect};
pub use self::power::{Pause, PowerChanged, Reset, Resume};
pub use self::restart::{Restart, Restarted};
pub use self::rm::{RemainingBackups, Removed, Rm};
pub use self::start::{Start, Started};
pub(crate) use self::start::{StartOptions, check as check_start, start};
pub(crate) use self::stop::stop;
pub use self::stop::{Stop, Stopped};
pub use self::upgrade::{Upgrade, Upgraded};
