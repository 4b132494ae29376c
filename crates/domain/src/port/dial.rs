//! Connecting to a server, to learn whether there is one.

use core::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;

/// A connection that is there; dropped, it is closed.
#[async_trait]
pub trait Connection: Send {
    /// Returns whether it stays open for `patience`, or the other side says something before.
    async fn stays(&mut self, patience: Duration) -> bool;
}

/// Connects to servers.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Dialer: Send + Sync {
    /// Connects within `patience`; nothing where nobody takes the connection.
    async fn dial(&self, address: IpAddr, port: u16, patience: Duration) -> Option<Box<dyn Connection>>;
}
