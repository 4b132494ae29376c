//! The store on a real server: its contract, restarts, access, TLS, and many processes at once.

#![expect(clippy::unwrap_used, reason = "helpers and children of tests fail as tests do")]

mod access;
mod concurrency;
mod conformance;
mod copies;
mod history;
mod hosts;
mod moves;
mod network;
mod proxy;
mod server;
mod support;
