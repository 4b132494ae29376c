//! The settings of operations, and all effective settings for display.

use maqet_domain::config::Node;
use maqet_domain::hook::Hook;
use serde::Serialize;

use crate::config::Sources;
use crate::{LogLimits, Timeouts};

/// An effective setting, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EffectiveSetting {
    /// Its name, as in `directories.data`.
    pub key: String,
    /// Its value.
    pub value: String,
    /// Where it came from: an option, a variable, a file, or the default.
    pub origin: String,
}

/// The settings of operations.
#[derive(Debug, Clone)]
pub struct AppSettings {
    /// Configuration that is merged under every definition.
    pub defaults: Node,
    /// The text of the settings file, to show errors in the defaults in their context.
    pub sources: Sources,
    /// Hooks that run on events of any VM.
    pub hooks: Vec<Hook>,
    /// How long operations wait.
    pub timeouts: Timeouts,
    /// How large logs may become.
    pub logs: LogLimits,
    /// All effective settings, for display.
    pub effective: Vec<EffectiveSetting>,
}

impl Default for AppSettings {
    fn default() -> Self {
        Self {
            defaults: Node::empty_map(),
            sources: Sources::default(),
            hooks: Vec::new(),
            timeouts: Timeouts::default(),
            logs: LogLimits::default(),
            effective: Vec::new(),
        }
    }
}
