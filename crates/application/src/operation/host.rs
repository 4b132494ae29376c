//! Hosts that share a store.

mod evict;
mod ls;

pub use self::evict::{Evicted, EvictedVm, HostEvict};
pub use self::ls::{HostInfo, HostLs};
