//! Settings that operations need, and those that are only shown.

use maqet_domain::config::Node;
use maqet_domain::hook::Hook;
use serde::Serialize;

use crate::Timeouts;
use crate::config::Sources;

/// One setting as it holds, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EffectiveSetting {
    /// Its name, as in `directories.data`.
    pub key: String,
    /// Its value.
    pub value: String,
    /// Where it came from: a flag, a variable, a file, or the default.
    pub origin: String,
}

/// Settings that operations need.
#[derive(Debug, Clone)]
pub struct AppSettings {
    /// What holds for every VM that does not say otherwise; laid under each definition.
    pub defaults: Node,
    /// The settings file, to show what is wrong with the defaults where it stands.
    pub sources: Sources,
    /// Programs that run when something happened to any VM.
    pub hooks: Vec<Hook>,
    /// How long operations wait.
    pub timeouts: Timeouts,
    /// Everything that is set, to be shown.
    pub effective: Vec<EffectiveSetting>,
}

impl Default for AppSettings {
    fn default() -> Self {
        Self {
            defaults: Node::empty_map(),
            sources: Sources::default(),
            hooks: Vec::new(),
            timeouts: Timeouts::default(),
            effective: Vec::new(),
        }
    }
}
