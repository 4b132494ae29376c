//! Tap devices that do not exist: as root, QEMU would create one that nothing is connected to.

use maqet_domain::config::{Node, Problem, ProblemKind};
use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::machine::Machine;
use maqet_domain::text::quote;

use super::link_sockets::card_problem;
use super::preflight::Preflight;
use crate::Error;

/// A network card whose tap device does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("tap device `{device}` does not exist")]
pub struct TapNotFound {
    device: String,
}

impl TapNotFound {
    fn help(&self) -> String {
        let device = quote(&self.device);
        format!("create it: `sudo ip tuntap add {device} mode tap user $USER && sudo ip link set {device} up`")
    }
}

impl Explain for TapNotFound {
    fn explain(&self) -> Explanation {
        Explanation::new("host.tap-unavailable", Fault::Host)
            .hint(self.help())
            .hint("set `mode: user` or `mode: passt` for a network that requires no privileges")
    }
}

impl Preflight<'_> {
    /// Refuses a card whose tap device does not exist; returns those of the user's switches as warnings.
    pub(super) fn check_tap_devices(&self, machine: &Machine) -> Result<Vec<String>, Error> {
        for card in &machine.network {
            if let Some(missing) = card.interface.as_deref().and_then(|device| self.missing_tap(device)) {
                return Err(missing.into());
            }
        }
        let missing = machine.tap_devices().filter_map(|device| self.missing_tap(&device));
        Ok(missing.map(|missing| format!("{missing}; {}", missing.help())).collect())
    }

    /// Returns them as warnings: a device may be created before the VM is started.
    pub(crate) fn tap_warnings(&self, machine: &Machine, definition: &Node) -> Vec<Problem> {
        let warning = |problem| Problem { kind: ProblemKind::Warning, ..problem };
        let cards = machine.network.iter().filter_map(|card| {
            let missing = self.missing_tap(card.interface.as_deref()?)?;
            Some(warning(card_problem(card, "interface", missing.to_string(), missing.help(), definition)))
        });
        let switches = machine.tap_devices_in(definition).into_iter().filter_map(|(at, node, device)| {
            let missing = self.missing_tap(&device)?;
            let location = node.location().cloned();
            Some(warning(Problem { help: Some(missing.help()), location, ..Problem::new(at, missing.to_string()) }))
        });
        cards.chain(switches).collect()
    }

    /// Returns the error if a tap device does not exist; what cannot be read does not count as missing.
    pub(crate) fn missing_tap(&self, device: &str) -> Option<TapNotFound> {
        (self.host.has_interface(device) == Some(false)).then(|| TapNotFound { device: device.to_owned() })
    }
}
