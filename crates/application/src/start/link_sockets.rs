//! Sockets of links between VMs: QEMU removes what is at their paths.

use std::path::Path;

use maqet_domain::config::{Node, Problem, Value};
use maqet_domain::machine::Machine;
use maqet_domain::network::NetworkSpec;
use maqet_domain::port::PathKind;

use super::preflight::Preflight;
use crate::Error;

/// Why a path is refused.
pub(super) const REPLACED: &str = "QEMU would replace what is there by its socket";

impl Preflight<'_> {
    /// Refuses a card whose socket would replace a file.
    pub(crate) async fn check_link_sockets(&self, machine: &Machine) -> Result<(), Error> {
        for card in &machine.network {
            if let Some((_, path)) = card.own_socket()
                && self.would_replace(path).await
            {
                return Err(Error::PathRefused { path: path.into(), reason: REPLACED.to_owned() });
            }
        }
        Ok(())
    }

    /// Returns such cards as problems of the definition.
    pub(crate) async fn link_socket_problems(&self, machine: &Machine, definition: &Node) -> Vec<Problem> {
        let mut problems = Vec::new();
        for card in &machine.network {
            if let Some((key, path)) = card.own_socket()
                && self.would_replace(path).await
            {
                let message = format!("cannot use `{path}`: {REPLACED}");
                problems.push(card_problem(card, key, message, "choose another path".to_owned(), definition));
            }
        }
        problems
    }

    async fn would_replace(&self, path: &str) -> bool {
        !matches!(self.paths.kind(Path::new(path)).await, PathKind::NotFound | PathKind::Other)
    }
}

/// Returns a problem with a key of a network card.
pub(super) fn card_problem(card: &NetworkSpec, key: &str, message: String, help: String, definition: &Node) -> Problem {
    let network = definition.get("network");
    let (at, entry) = match network.map(|node| &node.value) {
        Some(Value::List(items)) => (format!("network[{}]", card.index), items.get(card.index)),
        _ => ("network".to_owned(), network),
    };
    let location = entry.and_then(|entry| entry.get(key)).and_then(|node| node.location().cloned());
    Problem { help: Some(help), location, ..Problem::new(format!("{at}.{key}"), message) }
}
