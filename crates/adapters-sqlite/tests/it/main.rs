//! The store on real files: permissions, damage, repair, and many processes at once.

#![expect(clippy::unwrap_used, reason = "helpers and children of tests fail as tests do")]

mod access;
mod backup;
mod child;
mod concurrency;
mod damage;
mod migration;
mod opening;
mod repair;
