//! A command for a guest, and how it is run.

use std::time::Duration;

use maqet_domain::guest::{GuestCommand, Nonce};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// By what a command is connected.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, strum::Display, strum::EnumString,
    strum::VariantNames
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum ExecVia {
    /// The first that is ready.
    #[default]
    Auto,
    /// Ports of the VM, which stream input and output of any size.
    Ports,
    /// The guest agent alone: the output comes at the end, at most 16 MiB of each stream.
    Agent,
}

/// A way that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ExecWayRefused {
    /// The way.
    pub via: ExecVia,
    /// Why.
    pub reason: String,
}

/// A command, and how it is run.
pub(crate) struct ExecRequest {
    pub(crate) command: GuestCommand,
    pub(crate) nonce: Nonce,
    pub(crate) is_merged: bool,
    pub(crate) deadline: Option<Instant>,
    pub(crate) kill_after: Duration,
}
