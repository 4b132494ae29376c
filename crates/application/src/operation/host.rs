//! Hosts that share a store.

mod ls;

pub use self::ls::{HostInfo, HostLs};
