//! Connecting to a server, to find out whether there is one.

use core::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;

/// A connection, closed on drop.
#[async_trait]
pub trait Connection: Send {
    /// Returns whether the connection stays open for `timeout`, or the server sends data first.
    async fn stays(&mut self, timeout: Duration) -> bool;

    /// Returns whether the first thing that the server sends within `timeout` is `greeting`.
    async fn begins_with(&mut self, greeting: &[u8], timeout: Duration) -> bool;
}

/// Connects to servers.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Dialer: Send + Sync {
    /// Connects within `timeout`; `None` if the connection is not accepted.
    async fn dial(&self, address: IpAddr, port: u16, timeout: Duration) -> Option<Box<dyn Connection>>;
}
